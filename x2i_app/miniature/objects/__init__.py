"""Painters of the twelve kinds of things, in any colour."""

from collections.abc import Callable
from dataclasses import dataclass

from x2i_app.miniature.brush import Canvas, Colour
from x2i_app.miniature.objects.household import paint_ball, paint_house, paint_umbrella
from x2i_app.miniature.objects.nature import paint_cat, paint_fish, paint_flower, paint_star, paint_tree
from x2i_app.miniature.objects.vehicles import paint_balloon, paint_boat, paint_car, paint_rocket


@dataclass(frozen=True)
class Shape:
    """How to paint a kind of thing.

    paint: function of (canvas, colour, phase, lit) that paints on a canvas of height 1, whose lower edge is the ground.
    The largest area of the thing has the colour. phase, 0 to phases - 1, is for moving parts: a tail, a flame, wheels.
    lit: it is dark and lamps are on.
    aspect: width / height. height: of a large thing, in image heights. flies: is in the sky, not on the ground.
    """

    paint: Callable[[Canvas, Colour, int, bool], None]
    aspect: float
    height: float
    flies: bool = False
    phases: int = 1


SHAPES = {
    "house": Shape(paint_house, 1.06, 0.33),
    "tree": Shape(paint_tree, 0.9, 0.39),
    "car": Shape(paint_car, 1.7, 0.205, phases=4),
    "boat": Shape(paint_boat, 1.01, 0.345),
    "balloon": Shape(paint_balloon, 0.78, 0.44, flies=True),
    "flower": Shape(paint_flower, 0.71, 0.38),
    "cat": Shape(paint_cat, 0.94, 0.355, phases=4),
    "fish": Shape(paint_fish, 1.5, 0.23, phases=4),
    "star": Shape(paint_star, 1.0, 0.32, flies=True),
    "ball": Shape(paint_ball, 1.0, 0.28),
    "rocket": Shape(paint_rocket, 0.64, 0.46, flies=True, phases=4),
    "umbrella": Shape(paint_umbrella, 1.04, 0.335),
}

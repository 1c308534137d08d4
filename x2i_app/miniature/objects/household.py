"""Household objects: house, ball, umbrella. A painter's arguments are explained in `Shape`."""

import numpy as np

from x2i_app.miniature.brush import (
    CREAM,
    GLASS,
    LAMP,
    WOOD,
    Canvas,
    Colour,
    box,
    curve,
    darker,
    ellipse,
    mix,
    polygon,
    tone,
)


def paint_house(canvas: Canvas, colour: Colour, phase: int, lit: bool):
    glass = LAMP if lit else GLASS
    canvas.fill(box(0.7, 0.1, 0.83, 0.42, 0.01), darker(tone(colour), 0.3))
    canvas.fill(box(0.67, 0.08, 0.86, 0.15, 0.02), darker(tone(colour), 0.15))
    canvas.fill(box(0.14, 0.4, 0.92, 0.985, 0.02), colour, puff=0.03)
    canvas.fill(polygon((0.01, 0.5), (0.53, 0.03), (1.05, 0.5), radius=0.06), darker(colour, 0.3), puff=0.02)
    canvas.stroke(np.array([(0.09, 0.5), (0.97, 0.5)]), CREAM, 0.03)
    canvas.fill(ellipse(0.53, 0.32, 0.075), glass, outline=0.8)
    canvas.fill(np.concatenate([box(0.43, 0.7, 0.63, 0.985, 0.0)[8:22], ellipse(0.53, 0.72, 0.1)[28:]]), WOOD)
    canvas.fill(ellipse(0.6, 0.84, 0.016), LAMP, outline=0)
    for x in (0.285, 0.775):
        canvas.fill(box(x - 0.085, 0.58, x + 0.085, 0.78, 0.02), CREAM, outline=0.7)
        canvas.fill(box(x - 0.06, 0.605, x + 0.06, 0.755, 0.01), glass, outline=0)
        canvas.stroke(np.array([(x, 0.605), (x, 0.755)]), CREAM, 0.018)


def paint_ball(canvas: Canvas, colour: Colour, phase: int, lit: bool):
    canvas.fill(ellipse(0.5, 0.5, 0.475), colour, outline=1.2, puff=0.08)
    stripe = (226, 230, 240) if sum(colour) > 690 else mix(colour, (255, 252, 240), 0.55 if sum(colour) > 200 else 0.4)
    t = np.linspace(-0.9, 0.9, 15) * np.pi / 2
    y, x = np.sin(t) * 0.475, np.cos(t)
    for a, b in ((-0.3, 0.06), (0.42, 0.74)):
        edge = np.concatenate([np.stack([x * a * 0.475, y], 1), np.stack([x * b * 0.475, y], 1)[::-1]])
        turn = np.radians(24)
        edge = edge @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        canvas.fill(edge + 0.5, stripe, outline=0.5)
    canvas.shine(ellipse(0.31, 0.28, 0.1, 0.06, -40), 0.6)


def paint_umbrella(canvas: Canvas, colour: Colour, phase: int, lit: bool):
    x = 0.52
    hook = curve((x, 0.1), (x, 0.5), (x, 0.86), (x + 0.03, 0.95), (x + 0.1, 0.96), (x + 0.14, 0.88), closed=False)
    canvas.stroke(hook, darker(WOOD, 0.45), 0.06)
    canvas.stroke(hook, WOOD, 0.04)
    canvas.fill(box(x - 0.02, 0.01, x + 0.02, 0.1, 0.02), WOOD, outline=0.8)
    edges = (0.02, 0.27, 0.77, 1.02)
    panels = ((0, 1, colour), (2, 3, colour), (1, 2, tone(colour)))
    for a, b, paint in panels:
        left, right = edges[a], edges[b]
        top = (x, 0.06)
        rim = curve((left, 0.53), ((left + right) / 2, 0.47), (right, 0.53), closed=False)
        out = [
            np.stack([e + (top[0] - e) * (1 - np.cos(t)), 0.53 - 0.47 * np.sin(t)], 1)
            for e, t in ((right, np.linspace(0, np.pi / 2, 14)), (left, np.linspace(np.pi / 2, 0, 14)))
        ]
        canvas.fill(np.concatenate([rim, *out]), paint, puff=0.04 if paint == colour else 0.0)
    canvas.shine(ellipse(0.28, 0.26, 0.05, 0.1, 35), 0.4)

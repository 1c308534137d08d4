"""Vehicles: car, boat, hot-air balloon, rocket. A painter's arguments are explained in `Shape`."""

import numpy as np

from x2i_app.miniature.brush import CREAM, GLASS, LAMP, WOOD, Canvas, Colour, box, curve, darker, ellipse, polygon, tone


def paint_car(canvas: Canvas, colour: Colour, phase: int, lit: bool):
    canvas.fill(
        curve((0.36, 0.5), (0.46, 0.16), (0.68, 0.05), (0.98, 0.06), (1.16, 0.18), (1.32, 0.5), (0.84, 0.6)),
        colour,
        puff=0.05,
    )
    canvas.fill(
        curve(
            (0.05, 0.7),
            (0.08, 0.5),
            (0.28, 0.42),
            (0.8, 0.4),
            (1.3, 0.42),
            (1.6, 0.5),
            (1.66, 0.68),
            (1.6, 0.82),
            (0.84, 0.83),
            (0.12, 0.82),
        ),
        colour,
        puff=0.06,
    )
    canvas.fill(ellipse(0.84, 0.47, 0.45, 0.05), colour, outline=0)
    glass = LAMP if lit else GLASS
    canvas.fill(polygon((0.47, 0.43), (0.55, 0.2), (0.78, 0.15), (0.78, 0.43)), glass, outline=0.9)
    canvas.fill(polygon((0.87, 0.43), (0.87, 0.15), (1.07, 0.2), (1.2, 0.43)), glass, outline=0.9)
    canvas.stroke(np.array([(0.83, 0.5), (0.83, 0.76)]), darker(colour, 0.4), 0.02)
    canvas.stroke(np.array([(0.9, 0.56), (0.99, 0.56)]), CREAM, 0.035)
    canvas.fill(ellipse(1.57, 0.57, 0.05, 0.075), LAMP, outline=0.8)
    canvas.fill(ellipse(0.09, 0.6, 0.03, 0.06), (230, 90, 80), outline=0.8)
    for x in (0.42, 1.26):
        canvas.fill(ellipse(x, 0.8, 0.185), (54, 52, 62), puff=0.02)
        canvas.fill(ellipse(x, 0.8, 0.1), (226, 226, 232), outline=0.8)
        for spoke in range(2):
            a = np.pi / 2 * spoke + np.pi / 8 * phase
            dx, dy = 0.07 * np.cos(a), 0.07 * np.sin(a)
            canvas.stroke(np.array([(x - dx, 0.8 - dy), (x + dx, 0.8 + dy)]), (150, 150, 164), 0.025)


def paint_boat(canvas: Canvas, colour: Colour, phase: int, lit: bool):
    canvas.fill(box(0.5, 0.02, 0.54, 0.78, 0.015), WOOD)
    canvas.fill(polygon((0.54, 0.02), (0.76, 0.075), (0.54, 0.14), radius=0.01), colour)
    canvas.fill(
        curve((0.58, 0.15), (0.76, 0.34), (0.9, 0.62), (0.74, 0.65), (0.58, 0.66), (0.57, 0.4)),
        (255, 250, 238),
        puff=0.03,
    )
    canvas.fill(
        curve((0.46, 0.19), (0.32, 0.38), (0.12, 0.62), (0.3, 0.65), (0.46, 0.66), (0.47, 0.4)), colour, puff=0.03
    )
    hull = curve(
        (0.03, 0.69),
        (0.25, 0.72),
        (0.5, 0.73),
        (0.75, 0.72),
        (0.98, 0.68),
        (0.94, 0.82),
        (0.82, 0.965),
        (0.5, 0.985),
        (0.2, 0.965),
        (0.07, 0.82),
    )
    canvas.fill(hull, colour, puff=0.05)
    canvas.stroke(curve((0.08, 0.77), (0.5, 0.8), (0.94, 0.765), closed=False), CREAM, 0.022)
    for x in (0.32, 0.52, 0.72):
        canvas.fill(ellipse(x, 0.88, 0.038), LAMP if lit else GLASS, outline=0.9)


def paint_balloon(canvas: Canvas, colour: Colour, phase: int, lit: bool):
    for x, top in ((0.26, 0.34), (0.34, 0.42), (0.44, 0.42), (0.52, 0.34)):
        canvas.stroke(np.array([(x * 0.9 + 0.04, 0.62), (top, 0.86)]), (120, 96, 80), 0.012)
    envelope = curve(
        (0.39, 0.02),
        (0.62, 0.08),
        (0.75, 0.28),
        (0.7, 0.48),
        (0.55, 0.64),
        (0.47, 0.74),
        (0.31, 0.74),
        (0.23, 0.64),
        (0.08, 0.48),
        (0.03, 0.28),
        (0.16, 0.08),
    )
    canvas.fill(envelope, colour, puff=0.06)
    light = tone(colour)
    canvas.fill(
        curve((0.39, 0.03), (0.51, 0.26), (0.45, 0.73), (0.33, 0.73), (0.27, 0.26)), light, outline=0, puff=0.02
    )
    for side in (-1, 1):
        x = 0.39
        canvas.stroke(
            curve((x, 0.03), (x + side * 0.27, 0.26), (x + side * 0.08, 0.73), closed=False), darker(colour, 0.3), 0.012
        )
    canvas.shine(ellipse(0.2, 0.24, 0.05, 0.11, 18), 0.45)
    canvas.fill(box(0.3, 0.85, 0.48, 0.985, 0.04), (176, 122, 70), puff=0.02)
    canvas.stroke(np.array([(0.305, 0.9), (0.475, 0.9)]), (120, 80, 48), 0.012)
    canvas.fill(box(0.285, 0.83, 0.495, 0.88, 0.02), (200, 150, 96), outline=0.8)


def paint_rocket(canvas: Canvas, colour: Colour, phase: int, lit: bool):
    flick = (0.0, 0.035, -0.02, 0.02)[phase]
    canvas.fill(
        curve((0.22, 0.78), (0.42, 0.78), (0.4, 0.9), (0.32, 0.96 + flick), (0.24, 0.9)), (255, 150, 40), outline=0.6
    )
    canvas.fill(
        curve((0.26, 0.78), (0.38, 0.78), (0.37, 0.86), (0.32, 0.91 + flick), (0.27, 0.86)), (255, 232, 110), outline=0
    )
    fins = darker(colour, 0.32) if sum(colour) > 200 else tone(colour)
    for side in (-1, 1):
        x = 0.32
        canvas.fill(
            curve((x + side * 0.1, 0.5), (x + side * 0.24, 0.62), (x + side * 0.29, 0.84), (x + side * 0.1, 0.74)),
            fins,
            puff=0.02,
        )
    body = curve(
        (0.32, 0.02),
        (0.44, 0.15),
        (0.505, 0.36),
        (0.5, 0.58),
        (0.43, 0.79),
        (0.32, 0.8),
        (0.21, 0.79),
        (0.14, 0.58),
        (0.135, 0.36),
        (0.2, 0.15),
    )
    canvas.fill(body, colour, puff=0.06)
    canvas.fill(
        curve((0.32, 0.025), (0.405, 0.1), (0.45, 0.19), (0.32, 0.215), (0.19, 0.19), (0.235, 0.1)), fins, puff=0.02
    )
    canvas.fill(ellipse(0.32, 0.38, 0.105), CREAM, outline=0.9)
    canvas.fill(ellipse(0.32, 0.38, 0.075), LAMP if lit else GLASS, outline=0.7)
    canvas.shine(ellipse(0.295, 0.355, 0.03, 0.018, -30), 0.8)
    canvas.stroke(curve((0.18, 0.66), (0.32, 0.69), (0.46, 0.66), closed=False), tone(colour), 0.035)
    canvas.fill(ellipse(0.32, 0.74, 0.03, 0.1), fins, outline=0.7)

"""Nature: tree, flower, cat, fish, star. A painter's arguments are explained in `Shape`."""

import numpy as np

from x2i_app.miniature.brush import (
    INK,
    LEAF,
    PAINTS,
    Canvas,
    Colour,
    curve,
    darker,
    ellipse,
    face,
    lighter,
    mix,
    polygon,
    tone,
)


def paint_tree(canvas: Canvas, colour: Colour, phase: int, lit: bool):
    canvas.fill(
        curve((0.36, 0.98), (0.4, 0.85), (0.4, 0.5), (0.52, 0.5), (0.52, 0.85), (0.57, 0.98), (0.46, 0.965)),
        (112, 74, 48),
        puff=0.02,
    )
    crown = curve(
        (0.05, 0.52),
        (0.03, 0.36),
        (0.15, 0.24),
        (0.24, 0.08),
        (0.45, 0.03),
        (0.65, 0.09),
        (0.76, 0.24),
        (0.88, 0.37),
        (0.85, 0.53),
        (0.7, 0.65),
        (0.55, 0.62),
        (0.46, 0.69),
        (0.34, 0.63),
        (0.18, 0.65),
    )
    canvas.fill(crown, colour, puff=0.06)
    light, dark = tone(colour), darker(colour, 0.25)
    for x, y, r in ((0.3, 0.24, 0.09), (0.22, 0.42, 0.065), (0.52, 0.17, 0.07)):
        canvas.fill(ellipse(x, y, r, r * 0.8, -20), light, outline=0)
    for x, y in ((0.62, 0.36), (0.42, 0.5), (0.7, 0.51)):
        t = np.radians(np.linspace(20, 160, 9))
        canvas.stroke(np.stack([x + 0.07 * np.cos(t), y + 0.05 * np.sin(t)], 1), dark, 0.018)


def paint_flower(canvas: Canvas, colour: Colour, phase: int, lit: bool):
    canvas.stroke(curve((0.36, 0.4), (0.33, 0.7), (0.36, 0.98), closed=False), darker(LEAF, 0.25), 0.05)
    canvas.stroke(curve((0.36, 0.4), (0.33, 0.7), (0.36, 0.98), closed=False), LEAF, 0.03)
    for side in (-1, 1):
        x = 0.35
        canvas.fill(
            curve((x, 0.92), (x + side * 0.08, 0.74), (x + side * 0.28, 0.68), (x + side * 0.2, 0.84)), LEAF, puff=0.02
        )
    for index in range(8):
        a = np.radians(45 * index + 22.5)
        x, y = 0.36 + 0.205 * np.cos(a), 0.33 + 0.205 * np.sin(a)
        petal = colour if index % 2 else mix(colour, tone(colour), 0.5)
        canvas.fill(ellipse(x, y, 0.125, 0.09, 45 * index + 22.5), petal, puff=0.02)
    warm = colour in (PAINTS["yellow"], PAINTS["orange"])
    heart = (255, 240, 200) if warm else (255, 206, 66)
    canvas.fill(ellipse(0.36, 0.33, 0.135), heart, puff=0.02)
    face(canvas, 0.36, 0.33, 0.1)


def paint_cat(canvas: Canvas, colour: Colour, phase: int, lit: bool):
    tip = (0.0, 0.03, 0.0, -0.03)[phase]
    tail = curve((0.6, 0.92), (0.8, 0.9), (0.85, 0.72), (0.76 + tip, 0.56), (0.84 + tip * 2, 0.44), closed=False)
    canvas.stroke(tail, mix(colour, INK, 0.5), 0.1)
    canvas.stroke(tail, colour, 0.075)
    canvas.fill(
        curve((0.22, 0.96), (0.18, 0.78), (0.28, 0.54), (0.42, 0.48), (0.57, 0.54), (0.66, 0.78), (0.62, 0.96)),
        colour,
        puff=0.05,
    )
    pale = lighter(tone(colour), 0.45)
    canvas.fill(curve((0.42, 0.62), (0.52, 0.74), (0.42, 0.88), (0.32, 0.74)), pale, outline=0)
    for x in (0.31, 0.53):
        canvas.fill(ellipse(x, 0.94, 0.09, 0.045), tone(colour), outline=0.8)
    for side in (-1, 1):
        x = 0.42 + side * 0.2
        canvas.fill(polygon((x - side * 0.12, 0.22), (x + side * 0.06, 0.01), (x + side * 0.1, 0.32)), colour)
        canvas.fill(
            polygon((x - side * 0.05, 0.19), (x + side * 0.045, 0.07), (x + side * 0.07, 0.22)),
            (255, 176, 180),
            outline=0,
        )
    canvas.fill(
        curve(
            (0.42, 0.12), (0.64, 0.17), (0.75, 0.36), (0.64, 0.52), (0.42, 0.56), (0.2, 0.52), (0.09, 0.36), (0.2, 0.17)
        ),
        colour,
        puff=0.04,
    )
    for x in (0.36, 0.42, 0.48):
        canvas.stroke(np.array([(x, 0.14), (x, 0.2)]), darker(colour, 0.35), 0.018)
    for side in (-1, 1):
        x = 0.42 + side * 0.14
        canvas.fill(ellipse(x, 0.34, 0.062, 0.072), (255, 252, 240), outline=0.6)
        canvas.fill(ellipse(x - side * 0.012, 0.345, 0.036, 0.052), (40, 34, 44), outline=0)
        canvas.fill(ellipse(x - side * 0.012 - 0.014, 0.325, 0.014), (255, 255, 255), outline=0)
        for y in (0.42, 0.46):
            whisker = np.array([(0.42 + side * 0.17, y), (0.42 + side * 0.36, y + (y - 0.43) * 1.2)])
            canvas.stroke(whisker, (250, 246, 240) if sum(colour) < 420 else INK, 0.011)
    canvas.fill(ellipse(0.42, 0.455, 0.09, 0.055), pale, outline=0)
    canvas.fill(polygon((0.39, 0.415), (0.45, 0.415), (0.42, 0.45), radius=0.015), (240, 120, 136), outline=0)
    for side in (-1, 1):
        canvas.stroke(
            curve((0.42, 0.45), (0.42 + side * 0.025, 0.48), (0.42 + side * 0.055, 0.47), closed=False), INK, 0.013
        )


def paint_fish(canvas: Canvas, colour: Colour, phase: int, lit: bool):
    bend = (0.0, 0.05, 0.0, -0.05)[phase]
    fin = tone(colour)
    canvas.fill(
        curve(
            (0.4, 0.5),
            (0.2, 0.26 + bend),
            (0.05, 0.2 + bend),
            (0.13, 0.5 + bend),
            (0.05, 0.82 + bend),
            (0.2, 0.74 + bend),
        ),
        fin,
        puff=0.02,
    )
    canvas.fill(curve((0.6, 0.26), (0.76, 0.05), (1.06, 0.1), (1.1, 0.28)), fin)
    canvas.fill(curve((0.72, 0.78), (0.72, 0.96), (0.94, 0.93), (1.0, 0.76)), fin)
    canvas.fill(
        curve(
            (0.3, 0.5), (0.52, 0.25), (0.9, 0.16), (1.28, 0.28), (1.46, 0.52), (1.28, 0.74), (0.9, 0.85), (0.52, 0.74)
        ),
        colour,
        puff=0.06,
    )
    dark = darker(colour, 0.25) if sum(colour) > 200 else tone(colour)
    for x, y in ((0.62, 0.42), (0.62, 0.6), (0.78, 0.33), (0.78, 0.51), (0.78, 0.69)):
        t = np.radians(np.linspace(100, 260, 9))
        canvas.stroke(np.stack([x + 0.06 * np.cos(t), y + 0.075 * np.sin(t)], 1), dark, 0.022)
    canvas.fill(curve((0.9, 0.56), (0.8, 0.7), (0.93, 0.73), (1.03, 0.6)), fin)
    canvas.fill(ellipse(1.2, 0.42, 0.095), (255, 254, 248), outline=0.9)
    canvas.fill(ellipse(1.22, 0.43, 0.055), (40, 34, 44), outline=0)
    canvas.fill(ellipse(1.2, 0.405, 0.02), (255, 255, 255), outline=0)
    canvas.stroke(curve((1.42, 0.6), (1.33, 0.64), (1.26, 0.6), closed=False), INK, 0.024)


def paint_star(canvas: Canvas, colour: Colour, phase: int, lit: bool):
    points = []
    for index in range(10):
        a = np.radians(36 * index - 90)
        r = 0.49 if index % 2 == 0 else 0.27
        points.append((0.5 + r * np.cos(a), 0.53 + r * np.sin(a)))
    canvas.fill(polygon(*points, radius=0.1), colour, outline=1.2, puff=0.06)
    canvas.shine(ellipse(0.4, 0.28, 0.035, 0.09, 20), 0.5)
    face(canvas, 0.5, 0.54, 0.2, INK if sum(colour) > 330 else (255, 250, 240))

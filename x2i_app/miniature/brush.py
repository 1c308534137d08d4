"""Drawing primitives: colours, smooth outlines as point arrays, and a canvas that shades what it fills.

Shapes are float arrays (N, 2) of x to the right and y down, in units of the canvas' height.
"""

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Colour = tuple[int, int, int]

PAINTS: dict[str, Colour] = {
    "red": (226, 48, 48),
    "orange": (250, 138, 30),
    "yellow": (255, 216, 52),
    "green": (64, 168, 72),
    "blue": (46, 112, 222),
    "purple": (136, 70, 190),
    "pink": (255, 146, 190),
    "brown": (132, 82, 46),
    "white": (252, 250, 246),
    "black": (44, 42, 50),
}
INK = (58, 40, 62)  # a warm plum instead of black, for softer outlines
CREAM = (255, 246, 226)
GLASS = (190, 228, 246)
LAMP = (255, 226, 120)
WOOD = (150, 104, 66)
LEAF = (86, 160, 74)


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Colour `a` with `share` (0 to 1) of colour `b` in it."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))


def lighter(colour: Colour, share: float = 0.35) -> Colour:
    """The sunny side of a colour; white stays nearly white."""
    return mix(colour, (255, 252, 240), share if sum(colour) > 200 else share * 0.6)


def darker(colour: Colour, share: float = 0.22) -> Colour:
    """The shady side of a colour, a little towards plum rather than grey."""
    return mix(colour, INK, share)


def tone(colour: Colour) -> Colour:
    """A second tone that is still the same colour, for stripes and panels."""
    if sum(colour) > 690:
        return (222, 226, 236)
    if sum(colour) < 200:
        return (84, 82, 98)
    return mix(colour, (255, 250, 235), 0.3)


def outline_colour(colour: Colour) -> Colour:
    """The colour of the outline around an area of that colour."""
    if sum(colour) > 690:
        return mix(colour, (84, 86, 122), 0.78)
    return mix(colour, (34, 20, 40), 0.5 if sum(colour) > 200 else 0.7)


def ellipse(cx: float, cy: float, rx: float, ry: float | None = None, tilt: float = 0.0) -> np.ndarray:
    """An ellipse around (cx, cy), turned clockwise by `tilt` degrees."""
    t = np.linspace(0, 2 * np.pi, 56, endpoint=False)
    x, y = rx * np.cos(t), (rx if ry is None else ry) * np.sin(t)
    a = np.radians(tilt)
    return np.stack([cx + x * np.cos(a) - y * np.sin(a), cy + x * np.sin(a) + y * np.cos(a)], axis=1)


def box(x0: float, y0: float, x1: float, y1: float, radius: float = 0.0) -> np.ndarray:
    """A rectangle with round corners."""
    corners = [(x1, y0, -90), (x1, y1, 0), (x0, y1, 90), (x0, y0, 180)]
    points = []
    for x, y, start in corners:
        cx, cy = x - np.copysign(radius, x - (x0 + x1) / 2), y - np.copysign(radius, y - (y0 + y1) / 2)
        t = np.radians(np.linspace(start, start + 90, 10))
        points.append(np.stack([cx + radius * np.cos(t), cy + radius * np.sin(t)], axis=1))
    return np.concatenate(points)


def curve(*points: tuple[float, float], closed: bool = True) -> np.ndarray:
    """A smooth curve (Catmull-Rom) through the points; if closed, a blob."""
    p = np.asarray(points, float)
    head, tail = (p[-1:], p[:2]) if closed else (2 * p[:1] - p[1:2], 2 * p[-1:] - p[-2:-1])
    p = np.concatenate([head, p, tail])
    t = np.linspace(0, 1, 12, endpoint=False)[:, None]
    pieces = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False)
    ]
    return np.concatenate(pieces if closed else [*pieces, p[-2:-1]])


def polygon(*points: tuple[float, float], radius: float = 0.04) -> np.ndarray:
    """A polygon whose corners are rounded, each over `radius` along its edges."""
    p = np.asarray(points, float)
    t = np.linspace(0, 1, 7)[:, None]
    pieces = []
    for previous, corner, following in zip(np.roll(p, 1, 0), p, np.roll(p, -1, 0), strict=True):
        a = corner + (previous - corner) * min(0.5, radius / np.linalg.norm(previous - corner))
        b = corner + (following - corner) * min(0.5, radius / np.linalg.norm(following - corner))
        pieces.append(a * (1 - t) ** 2 + corner * 2 * t * (1 - t) + b * t**2)
    return np.concatenate(pieces)


class Canvas:
    """A transparent sprite, `height` pixels high and `aspect` times as wide, painted part by part."""

    def __init__(self, height: int, aspect: float):
        self.height = height
        self.width = max(1, round(height * aspect))
        self.image = Image.new("RGBA", (self.width, self.height))

    def fill(self, shape: np.ndarray, colour: Colour, *, outline: float = 1.0, puff: float = 0.0):
        """Fill a shape: lighter at its top, darker at its bottom.

        outline: strength of the outline, 0 for none. puff: width of a soft shadow inside its edge, in canvas
        heights; it makes a flat area look round.
        """
        pixels = shape * self.height
        low = np.maximum(np.floor(pixels.min(0)).astype(int) - 2, 0)
        high = np.minimum(np.ceil(pixels.max(0)).astype(int) + 3, (self.width, self.height))
        if (high <= low).any():
            return
        size = tuple((high - low).tolist())
        mask = Image.new("L", size)
        local = [tuple(point) for point in (pixels - low).tolist()]
        ImageDraw.Draw(mask).polygon(local, fill=255)
        light, dark = (colour, colour) if outline == 0 and puff == 0 else (lighter(colour, 0.18), darker(colour, 0.1))
        area = Image.composite(Image.new("RGB", size, dark), Image.new("RGB", size, light), _ramp(size))
        if puff:
            blur = mask.filter(ImageFilter.GaussianBlur(puff * self.height))
            # Move the blurred mask up and to the left, so that the lower right edge is in the shade.
            shift = max(1, round(puff * self.height * 0.5))
            lit = ImageChops.offset(blur, -shift, -shift).point([min(255, int(v * 1.15)) for v in range(256)])
            area = Image.composite(area, Image.new("RGB", size, darker(colour, 0.38)), lit)
        self.image.paste(area, tuple(low.tolist()), mask)
        if outline:
            self.stroke(shape, outline_colour(colour), 0.016 * outline, closed=True)

    def stroke(self, points: np.ndarray, colour: Colour, width: float = 0.016, *, closed: bool = False):
        """Draw a line along the points, `width` in canvas heights, with round ends."""
        pixels = points * self.height
        if closed:
            pixels = np.concatenate([pixels, pixels[:2]])
        thick = max(1, round(width * self.height))
        draw = ImageDraw.Draw(self.image)
        draw.line([tuple(point) for point in pixels.tolist()], fill=colour, width=thick, joint="curve")
        if not closed and thick > 2:
            for x, y in (pixels[0], pixels[-1]):
                r = thick / 2 - 0.5
                draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def shine(self, shape: np.ndarray, strength: float = 0.5):
        """Paint a soft white highlight inside what is already painted."""
        mask = Image.new("L", self.image.size)
        ImageDraw.Draw(mask).polygon([tuple(p) for p in (shape * self.height).tolist()], fill=round(255 * strength))
        mask = mask.filter(ImageFilter.GaussianBlur(0.012 * self.height))
        alpha = self.image.getchannel("A")
        self.image.paste((255, 255, 255), (0, 0), ImageChops.multiply(mask, alpha))
        self.image.putalpha(alpha)


def face(canvas: Canvas, x: float, y: float, size: float, colour: Colour = INK):
    """Two eyes, a smile and rosy cheeks around (x, y)."""
    for side in (-1, 1):
        canvas.fill(ellipse(x + side * 0.42 * size, y - 0.12 * size, 0.12 * size, 0.16 * size), colour, outline=0)
        canvas.fill(
            ellipse(x + side * 0.68 * size, y + 0.22 * size, 0.15 * size, 0.1 * size), (255, 140, 140), outline=0
        )
    t = np.radians(np.linspace(25, 155, 9))
    canvas.stroke(np.stack([x + 0.3 * size * np.cos(t), y + 0.26 * size * np.sin(t)], 1), colour, 0.11 * size)


def _ramp(size):
    return Image.linear_gradient("L").resize(size, Image.Resampling.BILINEAR)

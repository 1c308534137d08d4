"""Edges of an image as white lines on black, by Canny's method: what ControlNets for edges are trained with."""

import numpy as np
from PIL import Image

_LOW, _HIGH = 100, 200  # sums of both gradients, from which an edge may go on, and from which it begins
_EXTREME = 32  # levels from black or white that count as such
_READY = 0.98  # share of such pixels in an image that shows edges already


def canny_edges(image: Image.Image) -> Image.Image:
    """The edges of an RGB image, of the same size. An image of edges, nearly all black or white, stays as it is."""
    pixels = np.asarray(image.convert("RGB"))
    if _shows_edges(pixels):
        return image
    across, down = _gradients(pixels.astype(np.int32))
    strength = _thin(abs(across) + abs(down), across, down)
    edges = _connected(strength > _HIGH, strength > _LOW)
    return Image.fromarray(np.where(edges, 255, 0).astype(np.uint8)).convert("RGB")


def _shows_edges(pixels: np.ndarray) -> bool:
    """Whether all is nearly black, but for some white: then it is no photo."""
    is_black, is_white = (pixels <= _EXTREME).all(axis=2), (pixels >= 255 - _EXTREME).all(axis=2)
    return bool(is_white.any() and is_black.mean() > 0.5 and (is_black | is_white).mean() > _READY)


def _gradients(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sobel's gradients (H, W) of the color that changes most at each pixel."""
    padded = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    columns = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    across, down = rows[:, 2:] - rows[:, :-2], columns[2:] - columns[:-2]
    most = (abs(across) + abs(down)).argmax(axis=2)[..., None]
    return tuple(np.take_along_axis(each, most, axis=2)[..., 0] for each in (across, down))


def _thin(strength: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """The strength where it is largest along its gradient, in one of four directions; 0 elsewhere."""
    padded = np.pad(strength, 1)
    height, width = strength.shape

    def beside(right: int, below: int) -> np.ndarray:
        return padded[1 + below : 1 + below + height, 1 + right : 1 + right + width]

    steep = np.tan(np.pi / 8)
    is_across, is_down = abs(down) <= steep * abs(across), abs(across) < steep * abs(down)
    is_same = (across >= 0) == (down >= 0)  # the gradient points right and down, or left and up
    largest = np.zeros(strength.shape, dtype=bool)
    rest = ~is_across & ~is_down
    for where, (right, below) in (
        (is_across, (1, 0)),
        (is_down, (0, 1)),
        (rest & is_same, (1, 1)),
        (rest & ~is_same, (1, -1)),
    ):
        largest |= where & (strength > beside(-right, -below)) & (strength >= beside(right, below))
    return np.where(largest, strength, 0)


def _connected(starts: np.ndarray, possible: np.ndarray) -> np.ndarray:
    """All of `possible` that is connected with `starts`, also diagonally."""
    height, width = starts.shape
    found = np.pad(starts, 1).ravel()
    waiting = np.pad(possible & ~starts, 1).ravel()
    offsets = np.array([below * (width + 2) + right for below in (-1, 0, 1) for right in (-1, 0, 1)])
    front = np.flatnonzero(found)
    while len(front):
        front = np.unique((front[:, None] + offsets).ravel())
        front = front[waiting[front]]
        waiting[front] = False
        found[front] = True
    return found.reshape(height + 2, width + 2)[1:-1, 1:-1]

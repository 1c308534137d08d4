"""A scene as a short video: its image at successive times. Every frame shows all attributes."""

import numpy as np

from x2i_app.errors import InvalidRequestError
from x2i_app.miniature.draw import draw_scene
from x2i_app.miniature.scene import Scene


def video(
    scene: Scene, seconds: float = 4.0, fps: float = 8.0, size: int = 128, seed: int = 0
) -> tuple[np.ndarray, float]:
    """Frames (T, size, size, 3) uint8 with T = round(seconds x fps), and their rate in frames/s.

    All movements repeat after 4 seconds, so that a video of 4 seconds can be played in a loop. The first frame is
    `draw_scene(scene, size, seed=seed)`. Raises InvalidRequestError for less than 1 frame or more than 512.
    """
    count = round(seconds * fps) if fps > 0 else 0
    if not 1 <= count <= 512:
        raise InvalidRequestError(f"{seconds:g} s at {fps:g} frames/s are {count} frames; it must be 1 to 512 frames.")
    return np.stack([np.asarray(draw_scene(scene, size, index / fps, seed)) for index in range(count)]), fps

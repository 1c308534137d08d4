"""A faint redraw of an enlarged image: the model draws it again from a slightly noisy copy, which adds detail.

An image that is larger than what the model draws is redrawn in parts that overlap. Each part is a job of its own, so
other jobs of the queue come between them.
"""

from collections.abc import Callable, Iterable
from math import ceil
from typing import Any

import numpy as np
from PIL import Image

from x2i_app.limits import MAX_SEED
from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import NO_LIMITS, JobLimits

REDRAW_STRENGTH = 0.25  # enough for new detail, and too little for new things
_OVERLAP = 1 / 4  # of a part's side: where one part fades into the next

Box = tuple[int, int, int, int]


def redraw(
    engine: Engine,
    image: Image.Image,
    strength: float = REDRAW_STRENGTH,
    *,
    shown: Any = None,
    prompt: str = "",
    steps: int | None = None,
    seed: int = 0,
    on_part: Callable[[int, int], None] = lambda number, count: None,
    session: str = "",
    address: str = "",
    limits: JobLimits = NO_LIMITS,
) -> Image.Image:
    """The image, of the same size, as the engine's model draws it. Blocks.

    image: RGB. strength, steps: as in GenerationRequest. shown: the image that the MLLM reads if there is no `prompt`,
    for all parts at once if it is a file; None is the image itself. seed: of the first part; each further one adds 1.
    on_part: called with the number of each part, from 1, and of all, before it is drawn; what it raises stops the
    redraw. session, address, limits: as in `Engine.submit`. Raises X2IError.
    """
    read = () if prompt else (image if shown is None else shown,)
    boxes = parts_of_image(*image.size, engine.flux.resolution)

    def draw(number: int, box: Box) -> Image.Image:
        on_part(number + 1, len(boxes))
        request = GenerationRequest(
            prompt,
            images=read,
            source_image=image.crop(box),
            strength=strength,
            num_inference_steps=steps,
            seed=(seed + number) % (MAX_SEED + 1),
        )
        job = engine.submit(request, session, address=address, limits=limits)
        try:
            return job.wait().images[0]
        finally:
            engine.cancel(job)

    return join_parts(image.size, ((box, draw(number, box)) for number, box in enumerate(boxes)))


def parts_of_image(width: int, height: int, side: int) -> list[Box]:
    """The parts in which an image is redrawn, row by row: up to side x side pixels each; one if it is small enough."""
    if width * height <= side**2:
        return [(0, 0, width, height)]
    across, down = min(side, width), min(side, height)
    return [(left, top, left + across, top + down) for top in _starts(height, down) for left in _starts(width, across)]


def join_parts(size: tuple[int, int], parts: Iterable[tuple[Box, Image.Image]]) -> Image.Image:
    """An RGB image of this size, (width, height), from parts that fade into each other where they overlap."""
    total = np.zeros((size[1], size[0], 3), np.float32)
    weights = np.zeros((size[1], size[0], 1), np.float32)
    for box, part in parts:
        left, top, right, bottom = box
        weight = _fade(box, size)
        total[top:bottom, left:right] += weight * np.asarray(part, np.float32)
        weights[top:bottom, left:right] += weight
    total /= weights
    return Image.fromarray(total.round().clip(0, 255).astype(np.uint8))


def _starts(length: int, part: int) -> list[int]:
    """Where parts begin that overlap by at least _OVERLAP and together cover the length."""
    if part >= length:
        return [0]
    overlap = round(_OVERLAP * part)
    last = ceil((length - part) / (part - overlap))
    return [round(number * (length - part) / last) for number in range(last + 1)]


def _fade(box: Box, size: tuple[int, int]) -> np.ndarray:
    """How much of a part counts, (height, width, 1): 1 inside, falling where it overlaps with other parts."""
    left, top, right, bottom = box
    across, down = (
        _ramp(end - start, start > 0, end < length)
        for start, end, length in ((left, right, size[0]), (top, bottom, size[1]))
    )
    return (down[:, None] * across[None, :])[..., None]


def _ramp(length: int, rises: bool, falls: bool) -> np.ndarray:
    overlap = max(1, round(_OVERLAP * length))
    levels = np.ones(length, np.float32)
    slope = (np.arange(overlap, dtype=np.float32) + 1) / (overlap + 1)
    if rises:
        levels[:overlap] *= slope
    if falls:
        levels[-overlap:] *= slope[::-1]
    return levels

"""ComfyUI's IMAGE, VIDEO and AUDIO as the sources of a Turn."""

from typing import Any

import numpy as np
import torch

from x2i_app.errors import InvalidRequestError


def as_pixels(images: torch.Tensor) -> np.ndarray:
    """IMAGE (B, H, W, C) in [0, 1] -> uint8. ComfyUI has divided the levels of files by 255, so this is exact.

    Gray images, which some nodes give one channel, get three. Raises InvalidRequestError for an empty batch.
    """
    if not len(images):
        raise InvalidRequestError("An empty batch of images came; check the node that makes it.")
    if images.shape[-1] == 1:
        images = images.expand(*images.shape[:-1], 3)
    return (images.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def as_images(*batches: torch.Tensor | None) -> list[np.ndarray]:
    """Each image of each batch; None is an input that nothing is connected to."""
    return [image for batch in batches if batch is not None for image in as_pixels(batch)]


def as_recordings(audio: dict[str, Any] | None) -> list[tuple[np.ndarray, int]]:
    """Each of a batch as samples (T, C) and Hz. Raises InvalidRequestError for an empty batch."""
    if audio is None:
        return []
    if not len(audio["waveform"]):
        raise InvalidRequestError("An empty batch of audio came; check the node that makes it.")
    return [(each.T.float().cpu().numpy(), int(audio["sample_rate"])) for each in audio["waveform"]]


def as_video(video: Any) -> tuple[str | tuple[list[np.ndarray], float], bool]:
    """VIDEO as a source of a Turn, and whether it has audio that the source does not tell.

    A whole file is read by our own reader, which keeps only the frames that are needed: ComfyUI's would keep all of
    them as 32-bit floats, 25 MB for each at 1920 x 1080.
    """
    if path := _whole_file(video):
        return path, False
    parts = video.get_components()
    return (list(as_pixels(parts.images)), float(parts.frame_rate)), getattr(parts, "audio", None) is not None


def _whole_file(video: Any) -> str | None:
    """The path of a video as *Load Video* gives it; None for one that was made, trimmed or cropped by other nodes."""
    if type(video).__name__ != "VideoFromFile":
        return None
    path = video.get_stream_source()
    if not isinstance(path, str):  # an upload in memory
        return None
    whole = type(video)(path)
    is_whole = (whole.get_duration(), whole.get_dimensions()) == (video.get_duration(), video.get_dimensions())
    return path if is_whole else None

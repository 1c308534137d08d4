"""Cuts off what devices and programs add around a medium: bars beside an image or a video, silence before audio.

For an MLLM that has not learned to look past them.
"""

import numpy as np

_PLAIN = 24  # levels of 255 by which the pixels of a row of a bar may differ: JPEG and video add noise
_ALIKE = 12  # levels by which the rows of both bars may differ, and the colors of their gray
_LEAST, _MOST = 0.02, 0.7  # share of a side that one bar has at least, and both have at most
_UNEQUAL = 0.03  # share of a side by which two bars may differ
_SILENT = 0.01  # of the loudest sample
_LEAD = 0.01  # seconds that stay before the first sound
_LEVEL = 0.1  # root mean square that audio gets, if no sample is then louder than 1
_NOTHING = 1e-3  # root mean square of what is no sound


def without_bars(frames: np.ndarray) -> np.ndarray:
    """Frames (T, H, W, 3), uint8, without two bars of one gray at opposite edges, such as a letterbox; a view.

    Bars of two widths, of a color, or of less than 2 % of the side are a part of the image, as the ground of a drawing.
    """
    rows = _between_bars(frames.min(axis=(0, 2)), frames.max(axis=(0, 2)), frames.mean(axis=(0, 2)))
    columns = _between_bars(frames.min(axis=(0, 1)), frames.max(axis=(0, 1)), frames.mean(axis=(0, 1)))
    return frames[:, rows, columns]


def _between_bars(lowest: np.ndarray, highest: np.ndarray, mean: np.ndarray) -> slice:
    """The lines between two bars. lowest, highest, mean: (N, 3), of each line."""
    is_plain = (highest.astype(int) - lowest).max(axis=1) <= _PLAIN

    def bar(order: slice) -> int:
        same = is_plain[order] & (abs(mean[order] - mean[order][0]).max(axis=1) <= _ALIKE)
        return int(np.argmin(same)) if not same.all() else 0

    first, last, count = bar(slice(None)), bar(slice(None, None, -1)), len(mean)
    edges = mean[[0, -1]]
    is_gray = np.ptp(edges, axis=1).max() <= _ALIKE and abs(edges[0] - edges[1]).max() <= _ALIKE
    is_even = abs(first - last) <= max(2, _UNEQUAL * count)
    if not (is_gray and is_even and min(first, last) >= _LEAST * count and first + last <= _MOST * count):
        return slice(None)
    return slice(first, count - last)


def without_silence(samples: np.ndarray, rate: int) -> np.ndarray:
    """Mono samples (N,) without the silence before the first sound; all of them if there is no sound."""
    loud = np.flatnonzero(abs(samples) > _SILENT * abs(samples).max(initial=0))
    return samples[max(0, loud[0] - round(_LEAD * rate)) :] if len(loud) else samples


def at_one_level(samples: np.ndarray) -> np.ndarray:
    """Mono samples (N,), float, louder or quieter, so that every recording has the same mean level; silence stays."""
    level = np.sqrt(np.mean(np.square(samples))) if len(samples) else 0.0
    if level <= _NOTHING:
        return samples
    return (samples * min(_LEVEL / level, 1 / abs(samples).max())).astype(samples.dtype)

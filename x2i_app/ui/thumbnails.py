"""Thumbnails of input images and results, as data: URLs: each file is read once."""

from functools import lru_cache

from x2i_app.media.images import load_thumbnail
from x2i_app.ui.progress import as_data_url

_SIDE = 56  # pixels
_CACHED = 256  # of about 2 KB


@lru_cache(_CACHED)
def thumbnail(path: str) -> str:
    """A small copy of an image file. Raises MediaError."""
    return as_data_url(load_thumbnail(path, _SIDE))

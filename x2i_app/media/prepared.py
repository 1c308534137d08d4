"""A request whose files have been read: built once for a job, then used by everything that needs them."""

import base64
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from PIL import Image

from x2i_app.media.guard import is_path
from x2i_app.media.hashing import conversation_hash, hash_inputs
from x2i_app.media.images import load_image, load_mask
from x2i_app.media.inpaint_source import InpaintSource, drawing_size, extend_source
from x2i_app.request import GenerationRequest, InputRecord, Turn
from x2i_app.specs import FluxSpec

MAX_MASK = 64 * 1024  # characters of base64; a mask drawn by hand has a few thousand


@dataclass(frozen=True, eq=False)
class Prepared:
    """A request with every setting filled in, and what was read from its files.

    hashes: SHA-256 in hexadecimal of each file, by its path.
    source: RGB, the image that LightControl follows or that is edited; None if the request does neither.
    mask: L, 255 where it is painted, as large as its file; None without one.
    inpaint_source: the source and the mask with the area added by outpainting; None if no image is edited.

    Only the source has more than one reader. The encoder decodes the other media itself, in the sizes of its MLLM, and
    only if the conversation has not been encoded before.
    """

    request: GenerationRequest
    hashes: Mapping[str, str]
    source: Image.Image | None = None
    mask: Image.Image | None = None
    inpaint_source: InpaintSource | None = None

    @classmethod
    def of(cls, request: GenerationRequest, flux: FluxSpec, seed: int) -> Self:
        """Read a request's files. flux, seed: fill in what the request leaves open; an edited image keeps its size.

        Raises MediaError for a file that cannot be used, InvalidRequestError for a mask with nothing to paint.
        """
        hashes = hash_inputs(request)
        source = load_image(request.source) if request.paints or request.control_strength else None
        mask = None if request.mask is None else load_mask(request.mask)
        inpaint = extend_source(source, mask, request.outpaint) if request.paints else None
        if inpaint and None in (request.width, request.height):
            width, height = drawing_size(*inpaint.image.size, flux.resolution)
            request = request.with_values(width=request.width or width, height=request.height or height)
        return cls(request.with_defaults(flux, seed), hashes, source, mask, inpaint)

    @property
    def control_image(self) -> Image.Image | None:
        """What LightControl follows: the source, with room around it where it is extended; None if it is off."""
        if not self.request.control_strength:
            return None
        return self.inpaint_source.image if self.inpaint_source else self.source

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The conversation, the current turn last; the source is decoded already, other media are as they came."""
        turns = (*self.request.history, self.request.turn)
        if self.source is None:
            return turns
        return tuple(turn.with_images(map(self._read, turn.images)) for turn in turns)

    @property
    def conversation_hash(self) -> str | None:
        """A hash of everything that the MLLM reads; None if some of it has no hash."""
        return conversation_hash(self.request, self.hashes)

    @cached_property
    def record(self) -> InputRecord:
        """What the metadata say about the files."""
        return InputRecord(self.hashes, None if self.mask is None else mask_as_text(self.mask))

    def _read(self, image: Any) -> Any:
        source = self.request.source
        is_same_file = is_path(image) and is_path(source) and os.fsdecode(image) == os.fsdecode(source)
        return self.source if image is source or is_same_file else image


def mask_as_text(mask: Image.Image) -> str | None:
    """A mask (L, 0 or 255) as base64 of a PNG; None if that is longer than MAX_MASK."""
    buffer = io.BytesIO()
    mask.convert("1", dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    text = base64.b64encode(buffer.getvalue()).decode()
    return text if len(text) <= MAX_MASK else None

"""A request whose files have been read: built once for a job, then used by everything that needs them."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from PIL import Image

from x2i_app.controlnet import ControlNetInput
from x2i_app.media.hashing import conversation_hash, hash_inputs
from x2i_app.media.images import load_image, load_mask, scaled_note
from x2i_app.media.inpaint_source import InpaintSource, drawing_size, extend_source, note_shape
from x2i_app.media.video import VideoPart
from x2i_app.notes import CONTROLNET_CROPPED, FEW_STEPS, Note
from x2i_app.request import FAST_STEPS, GenerationRequest, InputRecord, Turn, is_same_file
from x2i_app.specs import FluxSpec

MAX_MASK = 64 * 1024  # characters of base64; a mask drawn by hand has a few thousand


@dataclass(frozen=True, eq=False)
class Prepared:
    """A request with every setting filled in, and what was read from its files.

    request: width and height are None if the result has the size of an edited image. drawn: the same request with the
        width and height at which FLUX draws it.
    hashes: SHA-256 in hexadecimal of each file, by its path.
    source: RGB, the image that LightControl follows or that is edited; None if the request does neither.
    reference: RGB, the image that FLUX.1 Kontext keeps to, the same object as `source` if it is the same file.
    mask: L, 255 where it is painted, as large as its file; None without one.
    inpaint_source: the source and the mask with the area added by outpainting; None if no image is edited.
    notes: sentences about the request and its files that the user should read.
    controlnet: what a ControlNet follows; None if the request has no image for one.

    Only these images have more than one reader. The encoder decodes the other media itself, in the sizes of its MLLM,
    and only if the conversation has not been encoded before.
    """

    request: GenerationRequest
    drawn: GenerationRequest
    hashes: Mapping[str, str]
    source: Image.Image | None = None
    reference: Image.Image | None = None
    mask: Image.Image | None = None
    inpaint_source: InpaintSource | None = None
    notes: tuple[str, ...] = ()
    controlnet: ControlNetInput | None = None

    @classmethod
    def of(cls, request: GenerationRequest, flux: FluxSpec, seed: int) -> Self:
        """Read a request's files. flux, seed: fill in what the request leaves open; an edited image keeps its size.

        Raises MediaError for a file that cannot be used, InvalidRequestError for a mask with nothing to paint.
        """
        hashes, keeps_size = hash_inputs(request), request.keeps_size
        source = load_image(request.source) if request.paints or request.control_strength else None
        reference = source if is_same_file(request.reference, request.source) else None
        if reference is None and request.reference is not None:
            reference = load_image(request.reference)
        mask = None if request.mask is None else load_mask(request.mask)
        controlnet = _controlnet_input(request)
        inpaint, size = None, None
        if request.paints:
            inpaint = extend_source(
                source,
                mask,
                request.outpaint,
                invert=request.mask_invert,
                grow=request.mask_grow,
                feather=request.mask_feather,
            )
            if keeps_size:
                inpaint = inpaint.with_area(flux.resolution, request.only_masked)
                size = inpaint.area.size
            else:
                size = drawing_size(*inpaint.image.size, flux.resolution)
        elif reference:
            size = drawing_size(*reference.size, flux.resolution)
        elif controlnet and request.width is None and request.height is None:
            size = drawing_size(*controlnet.image.size, flux.resolution)
        if size:
            request = request.with_values(width=request.width or size[0], height=request.height or size[1])
        drawn = request.with_defaults(flux, seed)
        own = drawn.with_values(width=None, height=None) if keeps_size else drawn
        # Of the other images that the MLLM reads, the encoder says whether they were scaled down.
        scaled = [request.source] if source else []
        scaled += [request.reference] if reference and reference is not source else []
        scaled += [request.controlnet_image] if controlnet else []
        notes = [note_shape(mask, source) if mask else "", *map(scaled_note, scaled)]
        if controlnet:
            notes.append(_note_controlnet(controlnet, inpaint.image.size if inpaint else (drawn.width, drawn.height)))
        if request.fast and drawn.steps_run < FAST_STEPS:
            notes.append(Note(FEW_STEPS, least=FAST_STEPS, steps=drawn.steps_run))
        notes = (*request.notes, *filter(None, notes))
        return cls(own, drawn, hashes, source, reference, mask, inpaint, notes, controlnet)

    @property
    def control_image(self) -> Image.Image | None:
        """What LightControl follows: the source, with room around it where it is extended; None if it is off."""
        if not self.request.control_strength:
            return None
        return self.inpaint_source.image if self.inpaint_source else self.source

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The conversation, the current turn last; source and reference are decoded, other media are as they came.

        Of the videos of the current turn only the part that was asked for.
        """
        request = self.request
        turn = request.turn
        if request.video_part != (None, None):
            turn = turn.with_media(videos=[VideoPart(video, *request.video_part) for video in turn.videos])
        turns = (*request.history, turn)
        if self.source is None and self.reference is None:
            return turns
        return tuple(turn.with_media(images=map(self._read, turn.images)) for turn in turns)

    @property
    def conversation_hash(self) -> str | None:
        """A hash of everything that the MLLM reads; None if some of it has no hash."""
        return conversation_hash(self.request, self.hashes)

    @cached_property
    def record(self) -> InputRecord:
        """What the metadata say about the files."""
        return InputRecord(self.hashes, None if self.mask is None else mask_as_text(self.mask))

    def _read(self, image: Any) -> Any:
        read = ((self.request.source, self.source), (self.request.reference, self.reference))
        return next((known for given, known in read if known and is_same_file(image, given)), image)


def _controlnet_input(request: GenerationRequest) -> ControlNetInput | None:
    if request.controlnet_image is None:
        return None
    settings = (request.controlnet_strength, request.controlnet_start, request.controlnet_end)
    return ControlNetInput(load_image(request.controlnet_image), request.controlnet_kind, *settings)


def _note_controlnet(given: ControlNetInput, size: tuple[int, int]) -> Note | str:
    """A sentence if a part of the image is cut off, as the result has another shape; sides may be rounded to 16."""
    shape, (width, height) = given.image.width / given.image.height, size
    if (width - 16) / (height + 16) <= shape <= (width + 16) / (height - 16):
        return ""
    image = f"{given.image.width} x {given.image.height}"
    return Note(CONTROLNET_CROPPED, image=image, result=f"{width} x {height}")


def mask_as_text(mask: Image.Image) -> str | None:
    """A mask (L, 0 or 255) as base64 of a PNG; None if that is longer than MAX_MASK."""
    buffer = io.BytesIO()
    mask.convert("1", dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    text = base64.b64encode(buffer.getvalue()).decode()
    return text if len(text) <= MAX_MASK else None

"""The request that describes an image and the result that comes back, as plain values.

The page, the HTTP endpoints, the command line and Python callers all fill the same GenerationRequest, which is
validated here and nowhere else. This module knows no torch, no files and no user interface.
"""

import numbers
import re
import unicodedata
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field, fields
from os import PathLike, fspath
from pathlib import PurePath
from typing import Any

from x2i_app.controlnet import clean_controlnet
from x2i_app.errors import InvalidRequestError
from x2i_app.limits import LIMITS, MAX_SEED, Range, show_value, snap_size, validate_integer, validate_number
from x2i_app.notebook import as_html, as_png
from x2i_app.notes import SIZE_SNAPPED, Note, readable_answer
from x2i_app.specs import FluxSpec, Modality

NO_LIGHT_CONTROL = (
    "This model has no LightControl, so it cannot follow the original image; set control_strength to 0, or load a "
    "LightControl with light_control."
)
FAST_AND_CONTROL = (
    "fast skips the parts of FLUX that LightControl acts on; set control_strength to 0, or fast to false."
)
RANDOM_SEED = -1  # as in other programs; None means the same


def no_negative_prompt(flux: str) -> str:
    """The sentence about a FLUX model that cannot follow a negative prompt."""
    return (
        f"{flux} cannot follow a negative prompt, as it is trained for few steps without one or for filling; leave "
        "negative_prompt out, or load flux.1-dev, flux.1-krea-dev or flux.1-kontext-dev."
    )


def needs_negative_prompt(scale: float) -> str:
    """The sentence about a true_cfg_scale that has nothing to avoid."""
    return (
        f"true_cfg_scale is {scale:g}, but there is no negative_prompt; say what the image should not show, or leave "
        "true_cfg_scale out."
    )


def several_references(count: int) -> str:
    """The sentence about more or fewer reference images than FLUX.1 Kontext has a place for."""
    return (
        f"{count} reference images were given, and FLUX.1 Kontext keeps to one; choose one as reference, and give the "
        "others as images, which are read but not kept."
    )


FAST_STEPS = 12  # with fewer steps, each one changes too much to be skipped in part
TRUE_CFG_SCALE = 2.0  # with a negative prompt: enough to be seen, and mild enough for guidance-distilled models
NO_REFERENCE = (
    "This FLUX model cannot keep to a reference image; load FLUX.1 Kontext (flux: flux.1-kontext-dev), give the image "
    "as image instead, or, if this is a Kontext model, set kontext to yes."
)
NOTHING_ADDED = "outpaint is 0 on all four sides, so nothing would be added; set at least one side, or leave it out."
NOTHING = "The request is empty; write a prompt, or add an image, a video or an audio file."


# The settings of a request: the name in flags, endpoints and JSONL rows -> the field.
SETTINGS = {
    "width": "width",
    "height": "height",
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "seed": "seed",
    "count": "num_images_per_prompt",
    "reason": "reason",
}
# Those that came later: endpoints take them after all others, so that calls by position keep their meaning.
LATER_SETTINGS = {
    "negative_prompt": "negative_prompt",
    "true_cfg_scale": "true_cfg_scale",
    "fast": "fast",
}

# The part of the videos that is used.
VIDEO_SETTINGS = {name: name for name in ("video_start", "video_end")}

# The same for editing an image: with LightControl, from a noisy copy, or by inpainting and outpainting.
IMAGE_SETTINGS = {
    "control": "control_strength",
    "source": "source_image",
    "strength": "strength",
    "mask": "mask",
    "outpaint": "outpaint",
    "mask_invert": "mask_invert",
    "mask_grow": "mask_grow",
    "mask_feather": "mask_feather",
    "only_masked": "only_masked",
    "reference": "reference",
}

_HUB_LORA = re.compile(r"\w[\w.-]*/\w[\w.-]*(@\w[\w.-]*)?(:[^:]+)?")
_MEDIA: tuple[tuple[str, Modality], ...] = (
    ("images", "image"),
    ("videos", "video"),
    ("audios", "audio"),
)


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation: what the user sent, and what the MLLM answered.

    images, videos, audios: as in GenerationRequest. answer: empty if the MLLM was not asked for one.
    """

    prompt: str = ""
    images: tuple[Any, ...] = ()
    videos: tuple[Any, ...] = ()
    audios: tuple[Any, ...] = ()
    answer: str = ""

    def __post_init__(self):
        _clean_contents(self)
        object.__setattr__(self, "answer", validate_text("answer", self.answer))

    def with_media(self, **media: Iterable[Any]) -> "Turn":
        """A copy with other images or videos, which must be valid."""
        other = copy(self)
        _set(other, {kind: tuple(sources) for kind, sources in media.items()})
        return other

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities that this turn contains."""
        text: tuple[Modality, ...] = ("text",) if self.prompt.strip() else ()
        return text + tuple(modality for name, modality in _MEDIA if getattr(self, name))


@dataclass(frozen=True)
class GenerationRequest:
    """Everything that decides an image.

    prompt: any language, up to 8 KB of UTF-8.
    images: paths, PIL images or arrays (H, W, 3). videos: paths, or pairs (frames (T, H, W, 3) uint8, frames/s).
    audios: paths, or pairs (samples (N,) or (N, channels), Hz).
    history: earlier turns of the conversation, oldest first.
    reason: the MLLM answers first, and its answer conditions the image.
    width, height: pixels; changed to the nearest multiple of 16. num_inference_steps, guidance_scale: None takes the
    FLUX model's own.
    num_images_per_prompt: how many images; image i uses seed + i.
    seed: None or -1 lets the engine choose one; the result contains it.
    control_strength: how closely LightControl follows the source; 0 is off, 1 is as trained.
    strength: image-to-image: the part of the denoising that is run, up to 1; 1 starts from noise alone.
    mask: an image like those in `images`, of the source's shape; white is inpainted, black keeps the source's pixels.
    mask_invert: inpaint what is black instead. mask_grow: pixels of the source by which the inpainted area grows.
    mask_feather: width in pixels of its soft edge, which lies inside it; None suits the image.
    only_masked: draw only the surroundings of the mask, in more detail; None: if the mask is small and the image large.
    outpaint: pixels to add to the source (left, top, right, bottom) and to fill.
    source_image: the image that these four edit; None takes the one in `images`, which must then be the only one.
        The result has exactly its size, plus what is added, if width and height are None.
    reference: an image like those in `images`, which the result keeps to; only for FLUX.1 Kontext. The MLLM reads it
        too: it is added to `images` if it is not there. The result has its size if width and height are None.
    negative_prompt: what the image should not show; not for models that are distilled to few steps. true_cfg_scale: how
        strongly it is avoided, 1 to 10; 1 is not at all; None takes TRUE_CFG_SCALE.
    fast: skip most of FLUX in steps that change little; for 12 steps or more.
    loras: pairs (safetensors file, weight); weight 1 is as trained; up to four.
    controlnet_image, controlnet_kind, controlnet_strength, controlnet_start, controlnet_end: as in ControlNetInput, for
        the ControlNet that is loaded. The MLLM does not read the image. If no other image decides it, and width and
        height are None, the result has its shape.
    video_start, video_end: in seconds, the part of each of `videos` that is used; None is where it starts or ends.
        Without a video they mean nothing.

    notes: sentences about what was changed in the values, for the user.

    Raises InvalidRequestError with one sentence about the first value that is not allowed.
    """

    prompt: str = ""
    images: tuple[Any, ...] = ()
    videos: tuple[Any, ...] = ()
    audios: tuple[Any, ...] = ()
    history: tuple[Turn, ...] = ()
    reason: bool = False
    width: int | None = None
    height: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    num_images_per_prompt: int = 1
    seed: int | None = None
    control_strength: float = 0.0
    strength: float | None = None
    mask: Any = None
    outpaint: tuple[int, int, int, int] = (0, 0, 0, 0)
    source_image: Any = None
    loras: tuple[tuple[Any, float], ...] = ()
    mask_invert: bool = False
    mask_grow: int = 0
    mask_feather: int | None = None
    only_masked: bool | None = None
    reference: Any = None
    negative_prompt: str = ""
    true_cfg_scale: float | None = None
    fast: bool = False
    controlnet_image: Any = None
    controlnet_kind: str | None = None
    controlnet_strength: float = 1.0
    controlnet_start: float = 0.0
    controlnet_end: float = 1.0
    video_start: float | None = None
    video_end: float | None = None
    notes: tuple[str, ...] = field(default=(), init=False, repr=False, compare=False)

    def __post_init__(self):
        _clean_contents(self)
        history = _as_tuple("history", self.history, LIMITS.turns)
        clean = {"history": tuple(as_turn(turn) for turn in history)}
        if not isinstance(self.reason, bool):
            raise InvalidRequestError(f"reason is {show_value(self.reason)}; it must be true or false.")
        clean |= _clean_size(self)
        for name in ("num_inference_steps", "num_images_per_prompt", "seed"):
            value = getattr(self, name)
            if name == "seed" and isinstance(value, numbers.Real) and value == RANDOM_SEED:
                clean[name] = None
            elif value is not None or name == "num_images_per_prompt":
                clean[name] = validate_integer(name, value, getattr(LIMITS, name))
        if self.guidance_scale is not None:
            clean["guidance_scale"] = validate_number("guidance_scale", self.guidance_scale, LIMITS.guidance_scale)
        _set(self, _clean_reference(self))  # it may be the source of an edit
        clean |= _clean_edit(self)
        clean["loras"] = tuple(map(_as_lora, _as_tuple("loras", self.loras, LIMITS.loras)))
        clean["negative_prompt"] = validate_text("negative_prompt", self.negative_prompt).strip()
        clean |= _clean_true_cfg(self.true_cfg_scale, clean["negative_prompt"])
        if not isinstance(self.fast, bool):
            raise InvalidRequestError(f"fast is {show_value(self.fast)}; it must be true or false.")
        if self.fast and clean["control_strength"]:
            raise InvalidRequestError(FAST_AND_CONTROL)
        _set(self, clean)
        _set(self, clean_controlnet(self))
        _set(self, dict(zip(VIDEO_SETTINGS, clean_video_part(*self.video_part), strict=True)))
        if not self.modalities:
            raise InvalidRequestError(NOTHING)

    @property
    def source(self) -> Any:
        """The image that is edited or followed; None if `images` does not contain exactly one and none is named."""
        return self.images[0] if self.source_image is None and len(self.images) == 1 else self.source_image

    @property
    def paints(self) -> bool:
        """Whether it edits the source (image-to-image, inpainting or outpainting) instead of starting from nothing."""
        return self.strength is not None or self.mask is not None or any(self.outpaint)

    @property
    def keeps_size(self) -> bool:
        """Whether the result has the size of the image that is edited."""
        return (self.paints or self.reference is not None) and self.width is None and self.height is None

    @property
    def video_part(self) -> tuple[float | None, float | None]:
        """(start, end) of the part of each video."""
        return self.video_start, self.video_end

    @property
    def lora_weights(self) -> dict[str, float]:
        """The weight of each LoRA by the name of its file, without the folder."""
        return {PurePath(str(file)).name: weight for file, weight in self.loras}

    @property
    def steps_run(self) -> int:
        """How many of `num_inference_steps`, which must be set, are run: strength below 1 skips the first ones."""
        steps = self.num_inference_steps
        return steps - int(steps - steps * (1 if self.strength is None else self.strength))

    @property
    def turn(self) -> Turn:
        """The current turn of the conversation, without an answer yet."""
        return Turn(self.prompt, self.images, self.videos, self.audios)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Every modality in the current turn and the history, each once."""
        found = [m for turn in (*self.history, self.turn) for m in turn.modalities]
        return tuple(dict.fromkeys(found))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each image, from `seed`, which must be set; after the largest seed comes 0."""
        return tuple((self.seed + i) % (MAX_SEED + 1) for i in range(self.num_images_per_prompt))

    def with_values(self, **values: Any) -> "GenerationRequest":
        """A copy with other values for some fields. They must be valid: nothing is validated again."""
        other = copy(self)
        _set(other, values)
        return other

    def with_defaults(self, flux: FluxSpec, seed: int) -> "GenerationRequest":
        """A copy with every setting filled in: the FLUX model's own and `seed` in place of None."""
        defaults = {
            "width": flux.resolution,
            "height": flux.resolution,
            "num_inference_steps": flux.num_inference_steps,
            "guidance_scale": flux.guidance_scale,
            "seed": seed,
        }
        return self.with_values(**{name: value for name, value in defaults.items() if getattr(self, name) is None})


@dataclass(frozen=True)
class InputRecord:
    """What the metadata of an image say about the files that it was made from.

    hashes: SHA-256 in hexadecimal by the path in the request. mask_png: the mask as base64 of a PNG; None if there is
    no mask, or if it is too large to be stored.
    """

    hashes: Mapping[str, str] = field(default_factory=dict)
    mask_png: str | None = None


@dataclass(frozen=True)
class GenerationResult:
    """Images and how they were made.

    images: PIL images, RGB. seeds: one for each image. request: with every setting filled in. answer: what the MLLM
    answered, if it was asked. notes: sentences that the user should read. seconds: wall time of each phase.
    inputs: hashes of the request's files. commits: what the hub calls each part of the model that came from there.
    """

    images: tuple[Any, ...]
    seeds: tuple[int, ...]
    request: GenerationRequest
    answer: str | None = None
    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    inputs: InputRecord = InputRecord()
    commits: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the images in pixels: as requested, or that of the image that was edited."""
        request = self.request
        return (request.width, request.height) if request.width and request.height else self.images[0].size

    def _repr_html_(self) -> str | None:
        return as_html(self.images, self.answer, self.notes)

    def _repr_png_(self) -> bytes | None:
        return as_png(self.images)

    def facts(self, number: int, preset: str) -> dict[str, Any]:
        """What a template of names may say about image `number`, from 0."""
        return {
            "prompt": self.request.prompt or readable_answer(self.answer or ""),
            "seed": self.seeds[number],
            "width": self.size[0],
            "height": self.size[1],
            "steps": self.request.num_inference_steps,
            "number": number + 1,
            "preset": preset.replace(":", "-"),
        }

    def report(self) -> dict[str, Any]:
        """How the images were made, as values that JSON can hold."""
        request = self.request
        return {
            "prompt": request.prompt,
            "seeds": list(self.seeds),
            "width": self.size[0],
            "height": self.size[1],
            "steps": request.num_inference_steps,
            "guidance": request.guidance_scale,
            "control": request.control_strength,
            "loras": request.lora_weights,
            "answer": self.answer,
            "notes": list(self.notes),
            "seconds": {phase: round(seconds, 3) for phase, seconds in self.seconds.items()},
        } | ({"commits": dict(self.commits)} if self.commits else {})


def validate_text(name: str, value: Any) -> str:
    """`value` as text that can be stored and shown anywhere; raises InvalidRequestError for anything else."""
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} is {show_value(value)}; it must be text.")
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidRequestError(
            f"{name} contains an incomplete character (a lone surrogate); paste the text again."
        ) from None
    if size > LIMITS.prompt_bytes:
        raise InvalidRequestError(
            f"{name} is {size:,} bytes long; at most {LIMITS.prompt_bytes:,} are allowed. Shorten it."
        )
    if any(unicodedata.category(c) == "Cc" and c not in "\t\n\r" for c in value):
        raise InvalidRequestError(f"{name} contains a control character; remove it. Tabs and line breaks are allowed.")
    return value


def _clean_contents(turn):
    clean = {"prompt": validate_text("prompt", turn.prompt)}
    for name, _ in _MEDIA:
        clean[name] = _as_tuple(name, getattr(turn, name), getattr(LIMITS, name))
    _set(turn, clean)


def _clean_size(request):
    ranges = {"width": LIMITS.width, "height": LIMITS.height}
    return dict(zip((*ranges, "notes"), snap_sizes(request.width, request.height, ranges), strict=True))


def snap_sizes(width: Any, height: Any, ranges: Mapping[str, Range]) -> tuple[int | None, int | None, tuple[Note, ...]]:
    """Width and height, changed to the nearest multiples that `ranges` allows, and notes about it; None stays None.

    Raises InvalidRequestError for a value outside its range.
    """
    clean, notes = {"width": None, "height": None}, []
    for name, value in (("width", width), ("height", height)):
        if value is not None:
            clean[name] = snap_size(name, value, ranges[name])
            if clean[name] != value:
                notes.append(Note(SIZE_SNAPPED, name=name, asked=int(value), used=clean[name], step=ranges[name].step))
    return clean["width"], clean["height"], tuple(notes)


def _clean_edit(request):
    clean = {"control_strength": validate_number("control_strength", request.control_strength, LIMITS.control_strength)}
    if request.strength is not None:
        clean["strength"] = validate_number("strength", request.strength, LIMITS.strength)
    margins = request.outpaint
    if not isinstance(margins, (list, tuple)) or len(margins) != 4:
        raise InvalidRequestError(
            f"outpaint is {show_value(margins)}; it must be four numbers of pixels: left, top, right, bottom."
        )
    sides = zip(("left", "top", "right", "bottom"), margins, strict=True)
    clean["outpaint"] = tuple(validate_integer(f"outpaint ({side})", size, LIMITS.margin) for side, size in sides)
    clean["mask_grow"] = validate_integer("mask_grow", request.mask_grow, LIMITS.mask_grow)
    if request.mask_feather is not None:
        clean["mask_feather"] = validate_integer("mask_feather", request.mask_feather, LIMITS.mask_feather)
    for name, allowed in (("mask_invert", (True, False)), ("only_masked", (True, False, None))):
        if not any(getattr(request, name) is value for value in allowed):
            raise InvalidRequestError(f"{name} is {show_value(getattr(request, name))}; it must be true or false.")
    if request.mask is None and not any(clean["outpaint"]):
        settings = ("mask_invert", "mask_grow", "mask_feather", "only_masked")
        if name := next((name for name in settings if getattr(request, name) not in (None, False, 0)), None):
            raise InvalidRequestError(f"{name} is set, but there is no mask; add a mask, or remove {name}.")
    if request.source is None and (clean["control_strength"] or request.paints):
        raise InvalidRequestError(
            f"Editing needs one image, and {len(request.images)} were given; give one, or set source_image."
        )
    return clean


def _clean_reference(request):
    reference = request.reference
    if reference is None:
        return {}
    if isinstance(reference, (list, tuple)):
        if len(reference) != 1:
            raise InvalidRequestError(several_references(len(reference)))
        reference = reference[0]
    if request.strength is not None and request.mask is None and not any(request.outpaint):
        raise InvalidRequestError(
            "strength redraws an image from a noisy copy of it, and reference keeps an image as it is; leave one of "
            "them out, or add a mask."
        )
    is_read = any(is_same_file(reference, image) for image in request.images)
    images = request.images if is_read else (reference, *request.images)
    return {"reference": reference, "images": _as_tuple("images", images, LIMITS.images)}


def _clean_true_cfg(scale, negative_prompt):
    if scale is None:
        return {}
    scale = validate_number("true_cfg_scale", scale, LIMITS.true_cfg_scale)
    if scale > 1 and not negative_prompt:
        raise InvalidRequestError(needs_negative_prompt(scale))
    return {"true_cfg_scale": scale}


def clean_video_part(start: Any, end: Any) -> tuple[float | None, float | None]:
    """Start and end of a part of a video as floats; None stays. Raises InvalidRequestError."""
    start = start if start is None else validate_number("video_start", start, LIMITS.video_start)
    end = end if end is None else validate_number("video_end", end, LIMITS.video_end)
    if None not in (start, end) and start >= end:
        raise InvalidRequestError(
            f"video_start is {start:g} and video_end is {end:g}; the start must be before the end."
        )
    return start, end


def is_same_file(one: Any, other: Any) -> bool:
    """Whether two media are the same value, or paths that are written in the same way."""
    paths = (str, PathLike)
    return one is other or (isinstance(one, paths) and isinstance(other, paths) and fspath(one) == fspath(other))


def _as_lora(value):
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise InvalidRequestError(f"loras contains {show_value(value)}; each entry must be a file and a weight.")
    return value[0], validate_number("The weight of a LoRA", value[1], LIMITS.lora_weight)


def is_hub_lora(source: Any) -> bool:
    """Whether a LoRA is named as on the hub, as OWNER/NAME, OWNER/NAME:FILE or with @REVISION, and not as a path."""
    name = str(source)
    return bool(_HUB_LORA.fullmatch(name)) and (":" in name or not name.lower().endswith((".safetensors", ".sft")))


def _as_tuple(name, value, limit):
    if not isinstance(value, (list, tuple)):
        raise InvalidRequestError(f"{name} is {show_value(value)}; it must be a list.")
    if len(value) > limit:
        raise InvalidRequestError(f"{len(value)} {name} were given; at most {limit} are allowed. Remove some.")
    if any(item is None for item in value):
        raise InvalidRequestError(f"{name} contains an empty entry; remove it.")
    return tuple(value)


def as_turn(turn: Any) -> Turn:
    """A Turn as it is, or built from a mapping of its fields. Raises InvalidRequestError for anything else."""
    if isinstance(turn, Turn):
        return turn
    names = {f.name for f in fields(Turn)}
    if isinstance(turn, Mapping) and set(turn) <= names:
        return Turn(**turn)
    raise InvalidRequestError(
        f"history contains {show_value(turn)}; each turn must be a Turn, or an object with only these fields: "
        f"{', '.join(sorted(names))}."
    )


def _set(frozen, values):
    for name, value in values.items():
        object.__setattr__(frozen, name, value)

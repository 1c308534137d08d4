"""The settings of an image inside its file: as texts to be written, and read back from untrusted files.

There are two texts: `x2i`, JSON with every setting that is needed to generate the image again, and `parameters`, in the
format of the A1111 web UI, which many programs show. Media are stored as SHA-256 hashes of their files, never as names
or contents. Only a mask is stored itself, in black and white, because a mask drawn on the page has no file.
An image of another program gives its prompt, seed, steps and size, as far as they mean something here.
"""

import base64
import json
import math
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any

from PIL import Image

from x2i_app import __version__
from x2i_app.controlnet import CONTROLNET_DEFAULTS
from x2i_app.errors import InvalidRequestError, MediaError, X2IError
from x2i_app.limits import LIMITS, MAX_SEED, Range, snap_size
from x2i_app.media.foreign import Foreign, read_foreign
from x2i_app.media.guard import show_name, sniff
from x2i_app.media.hashing import known_hash, path_hash
from x2i_app.media.image_texts import PARAMETERS, read_texts
from x2i_app.media.image_texts import SETTINGS as KEY
from x2i_app.media.images import load_image
from x2i_app.media.isolation import in_child
from x2i_app.media.prepared import MAX_MASK
from x2i_app.notes import (
    CONTROLNET_LEFT_OUT,
    FROM_PROGRAM,
    FROM_PROGRAM_PARTLY,
    NEGATIVE_LEFT_OUT,
    NUMBER_FITTED,
    PROMPT_CUT,
    SIZE_FITTED,
    Note,
)
from x2i_app.presets import FLUX_MODELS, PRESETS
from x2i_app.request import GenerationRequest, GenerationResult, Turn, validate_text
from x2i_app.settings import Settings
from x2i_app.specs import FluxSpec

_FORMAT = 1
_MAX_JSON = 512 * 1024  # characters; more than the longest conversation of a request
_HUB_ID = re.compile(r"\w[\w.:-]*(/\w[\w.-]*(@\w[\w./-]*)?)?")  # or a registered name, such as custom:qwen2.5-vl
_KINDS = ("images", "videos", "audios")
_PREFIX = "sha256:"
_EDITED = ("source_image", "mask", "reference", "controlnet_image")  # images besides those that the MLLM reads
# Fields that files of earlier versions do not have.
_LATER_FIELDS = (
    "mask_invert",
    "mask_grow",
    "mask_feather",
    "only_masked",
    "negative_prompt",
    "true_cfg_scale",
    "fast",
    "controlnet_kind",
    "controlnet_strength",
    "controlnet_start",
    "controlnet_end",
    "video_start",
    "video_end",
)
_FIELDS = ("prompt", "reason", "width", "height", "num_inference_steps", "guidance_scale", "seed", "control_strength")


@dataclass(frozen=True)
class Recipe:
    """The settings stored in an image file.

    request: the request that generates the image again, with hashes in place of media and LoRA files: "sha256:...", or
    "" if the hash is unknown. The mask is a PIL image, or a hash if it was too large to be stored. preset, flux:
    registered names, or None for other models. notes: for the user, about settings of another program.
    """

    request: GenerationRequest
    preset: str | None = None
    flux: str | None = None
    notes: tuple[str, ...] = ()

    def missing(self, files: Sequence[Any]) -> dict[str, int]:
        """Number of files that are needed besides `files`, for the whole conversation, by kind; zeros are left out.

        Kinds: images, videos, audios, loras, masks, controlnet_images, source_images (the image that is changed, if not
        one of `images`).
        """
        known = {path_hash(file) for file in files}
        request = self.request
        needed = {kind: [f for turn in (*request.history, request) for f in getattr(turn, kind)] for kind in _KINDS}
        needed |= {"loras": [file for file, _ in request.loras], "masks": [request.mask]}
        needed["controlnet_images"] = [request.controlnet_image]
        needed["source_images"] = [] if request.source_image in request.images else [request.source_image]
        counts = {kind: sum(is_hash(hash) and hash not in known for hash in hashes) for kind, hashes in needed.items()}
        return {kind: count for kind, count in counts.items() if count}

    def for_flux(self, flux: FluxSpec, has_controlnet: bool = False) -> "Recipe":
        """Without the settings that this FLUX model cannot follow, or without a ControlNet, which the notes say."""
        request, notes = self.request, self.notes
        if request.negative_prompt and not flux.true_cfg:
            notes = (*notes, Note(NEGATIVE_LEFT_OUT, flux=flux.name, negative=_brief(request.negative_prompt)))
            request = replace(request, negative_prompt="", true_cfg_scale=None)
        if request.controlnet_image is not None and not has_controlnet:
            notes = (*notes, Note(CONTROLNET_LEFT_OUT))
            request = request.with_values(controlnet_image=None, **CONTROLNET_DEFAULTS)
        return replace(self, request=request, notes=notes)

    def _reference_in(self, images: Sequence[Any]) -> dict[str, Any]:
        """The reference, which is one of the request's images, among the files that take their places."""
        request = self.request
        return {"reference": images[request.images.index(request.reference)]} if request.reference is not None else {}

    def with_known(self, files: Sequence[Any]) -> GenerationRequest:
        """The request with each hash replaced by the one of `files`, media or LoRAs, that has it; others stay."""
        known = {path_hash(file): file for file in files}
        media = {kind: tuple(known.get(hash, hash) for hash in getattr(self.request, kind)) for kind in _KINDS}
        media |= {name: known.get(hash, hash) for name, hash in _inpaint_files(self.request).items() if is_hash(hash)}
        media |= self._reference_in(media["images"])
        loras = tuple((known.get(hash, hash), weight) for hash, weight in self.request.loras)
        return replace(self.request, **media, loras=loras)

    def with_files(self, loras: Sequence[tuple[Any, float]] = (), **given: Sequence[Any]) -> GenerationRequest:
        """The request with files in place of all hashes: files with the right hash first, then the others in order.

        given: paths by kind (images, videos, audios); surplus files are added at the end. loras: pairs as in
        GenerationRequest; a LoRA with a stored hash keeps its stored weight.
        Raises InvalidRequestError if there are too few files.
        """
        files = {path_hash(file): file for file in (*(f for kind in given.values() for f in kind), *dict(loras))}
        past = {hash for turn in self.request.history for kind in _KINDS for hash in getattr(turn, kind)}
        media = {}
        for kind in _KINDS:
            new = [file for file in given.get(kind, ()) if path_hash(file) not in past]
            media[kind] = _assign(getattr(self.request, kind), new, files)
        names = _assign([hash for hash, _ in self.request.loras], list(dict(loras)), files)
        weights = [weight for _, weight in self.request.loras]
        weights += [dict(loras)[file] for file in names[len(weights) :]]
        turns = [
            replace(turn, **{kind: tuple(files.get(hash, hash) for hash in getattr(turn, kind)) for kind in _KINDS})
            for turn in self.request.history
        ]
        media |= {name: files.get(hash, hash) for name, hash in _inpaint_files(self.request).items() if is_hash(hash)}
        media |= self._reference_in(media["images"])
        request = replace(self.request, **media, history=tuple(turns), loras=tuple(zip(names, weights, strict=True)))
        if missing := Recipe(request).missing(()):
            what = ", ".join(f"{count} {kind if count > 1 else kind[:-1]}" for kind, count in missing.items())
            raise InvalidRequestError(f"Files are missing that the image was made with: {what}; add them.")
        return request


def describe(result: GenerationResult, settings: Settings) -> list[dict[str, str]]:
    """The texts for each image of a result, which the model in `settings` generated; empty if metadata are off."""
    if not settings.metadata:
        return [{} for _ in result.seeds]
    common, size = _as_json(result, settings), result.size
    texts = []
    for seed in result.seeds:
        recipe = common | {"seed": seed}
        texts.append({KEY: json.dumps(recipe), PARAMETERS: _as_parameters(recipe, size)})
    return texts


def with_upscale(path: str | os.PathLike, scale: int, upscaler: str) -> dict[str, str]:
    """The settings in an image file, if it has any, with what has enlarged it since. Raises MediaError."""
    texts = {key: text for key, text in read_texts(path).items() if key in (KEY, PARAMETERS)}
    return _with_note(texts, {"upscale": {"scale": scale, "upscaler": upscaler}})


def with_redraw(texts: Mapping[str, str], strength: float, **decided_by: Any) -> dict[str, str]:
    """The texts of an enlarged image that was redrawn after that. decided_by: seed, steps and prompt, if not None."""
    given = {name: value for name, value in decided_by.items() if value is not None}
    return _with_note(texts, {"redraw": {"strength": strength} | given})


def _with_note(texts: Mapping[str, str], note: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The texts of an image file with one entry more, whose first values other programs show too."""
    try:
        recipe = json.loads(texts.get(KEY, ""))
    except (ValueError, RecursionError):
        recipe = None
    texts = {name: text for name, text in texts.items() if name != KEY}
    if isinstance(recipe, dict):
        texts[KEY] = json.dumps(recipe | note)
    shown = {"upscale": ("Upscale: {scale}", "Upscaler: {upscaler}"), "redraw": ("Redraw: {strength:g}",)}
    rows = [row.format_map(values) for name, values in note.items() for row in shown[name]]
    texts[PARAMETERS] = ", ".join(filter(None, (texts.get(PARAMETERS), *rows)))
    return texts


def read_recipe(path: str | os.PathLike) -> Recipe:
    """Read the settings stored in an image file. The file is untrusted: values are validated as those of a request.

    Raises MediaError if it is no image within the limits, or has no valid settings of X2I or of a known program.
    """
    name = show_name(path)
    texts = read_texts(path)
    text = texts.get(KEY)
    if text is None:
        found = _read_foreign(path)
        if found is None and "workflow" in texts:
            raise MediaError(
                f"{name} has ComfyUI's graph for its editor, but not the prompt of an image; choose one that ComfyUI "
                "saved when it generated it."
            )
        if found is None:
            raise MediaError(
                f"{name} contains no settings; choose an image that was saved by X2I, A1111, Forge, ComfyUI, InvokeAI "
                "or Fooocus, and not edited since."
            )
        return _foreign_recipe(name, found)
    if len(text) > _MAX_JSON:
        raise MediaError(
            f"The settings in {name} have {len(text):,} characters; up to {_MAX_JSON:,} are allowed, "
            "so choose another file."
        )
    try:
        return _recipe(json.loads(text))
    except X2IError as error:
        raise MediaError(f"The settings in {name} are not valid: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise MediaError(f"The settings in {name} are damaged or not from X2I; choose another file.") from None


@in_child
def _foreign_fields(path: str | os.PathLike) -> dict[str, Any] | None:
    """The fields of what another program's image says. Its texts are interpreted where they can be stopped."""
    found = read_foreign(read_texts(path))
    return asdict(found) if found else None


def _read_foreign(path: str | os.PathLike) -> Foreign | None:
    fields = _foreign_fields(path)
    return Foreign(**fields) if fields else None


def _as_json(result: GenerationResult, settings: Settings) -> dict[str, Any]:
    request, hashes = result.request, result.inputs.hashes
    turns = [_turn(turn, hashes) | {"answer": turn.answer} for turn in request.history]
    model = {"preset": settings.preset, "flux": settings.flux or _flux_of(settings.preset)}
    return {
        "format": _FORMAT,
        "version": __version__,
        **{name: _public_name(value) for name, value in model.items()},
        **{field: getattr(request, field) for field in _FIELDS},
        **_turn(request, hashes),
        **{
            field: None if source is None else known_hash(source, hashes) or ""
            for field, source in _inpaint_files(request).items()
        },
        "mask_png": result.inputs.mask_png,
        "strength": request.strength,
        "outpaint": list(request.outpaint),
        **{field: getattr(request, field) for field in _LATER_FIELDS},
        "history": turns,
        "loras": [{"sha256": known_hash(file, hashes), "weight": weight} for file, weight in request.loras],
        "answer": result.answer,
        "notes": list(result.notes),
    } | ({"commits": dict(result.commits)} if result.commits else {})


def _inpaint_files(request: GenerationRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in _EDITED}


def _flux_of(preset: str) -> str | None:
    return PRESETS[preset].flux if preset in PRESETS else None


def _public_name(value: str | None) -> str | None:
    """A hub id or registered name as it is; of a path, only the last component."""
    if value is None or (_HUB_ID.fullmatch(value) and not Path(value).exists()):
        return value
    return PureWindowsPath(value).name  # knows both kinds of slashes


def _turn(turn: Turn | GenerationRequest, hashes: Mapping[str, str]) -> dict[str, Any]:
    files = {kind: [known_hash(source, hashes) for source in getattr(turn, kind)] for kind in _KINDS}
    return {"prompt": turn.prompt} | files


def _as_parameters(recipe: Mapping[str, Any], size: tuple[int, int]) -> str:
    names = {
        "Steps": recipe["num_inference_steps"],
        "Sampler": "Euler",
        "Distilled CFG Scale": f"{recipe['guidance_scale']:g}",
        "Seed": recipe["seed"],
        "Size": "{}x{}".format(*size),
        "Model": f"{recipe['preset']} + {recipe['flux']}" if recipe["flux"] != recipe["preset"] else recipe["preset"],
        "Version": f"X2I {recipe['version']}",
    }
    texts = [recipe["prompt"], *(f"Negative prompt: {text}" for text in [recipe["negative_prompt"]] if text)]
    return "\n".join([*texts, ", ".join(f"{name}: {value}" for name, value in names.items())])


def _recipe(stored: Any) -> Recipe:
    if not isinstance(stored, dict) or stored["format"] != _FORMAT:
        raise InvalidRequestError("they are from another version of X2I; generate the image again with this version.")
    settings = {field: stored[field] for field in _FIELDS}
    history = [_sources(turn) | {"prompt": turn["prompt"], "answer": turn["answer"]} for turn in stored["history"]]
    loras = [(_source(lora["sha256"]), lora["weight"]) for lora in stored["loras"]]
    # Early files of this format do not have the fields of an edit, from here to `outpaint`.
    inpainting = {field: _source(stored[field] or None) for field in _EDITED if stored.get(field) is not None}
    if stored.get("mask_png") is not None:
        inpainting["mask"] = _mask_from_text(stored["mask_png"])
    inpainting |= {"strength": stored.get("strength"), "outpaint": stored.get("outpaint", (0, 0, 0, 0))}
    inpainting |= {field: stored[field] for field in _LATER_FIELDS if field in stored}
    request = GenerationRequest(**settings, **_sources(stored), **inpainting, history=history, loras=loras)
    preset, flux = (validate_text(name, stored.get(name) or "") for name in ("preset", "flux"))
    return Recipe(request, preset if preset in PRESETS else None, flux if flux in FLUX_MODELS else None)


def _foreign_recipe(name: str, found: Foreign) -> Recipe:
    prompt, negative = (_printable(text) for text in (found.prompt, found.negative_prompt))
    if not prompt.strip():
        raise MediaError(f"{name} has settings of {found.program}, but no prompt; type one, or choose another image.")
    loras = [(lora, weight) for lora, weight in found.loras if weight and lora.lower() not in ("", "none")]
    tags = (f"<lora:{lora}:{weight:g}>" for lora, weight in loras if f"<lora:{lora}:" not in prompt)
    prompt, notes = " ".join([prompt.strip(), *tags]), []
    prompt, negative = (_cut(text.strip(), notes) for text in (prompt, negative))
    values, left_out = _foreign_values(found, notes)
    names = Foreign(found.program, left_out=[*found.left_out, *left_out]).names_left_out
    template = FROM_PROGRAM_PARTLY if names else FROM_PROGRAM
    notes.insert(0, Note(template, program=found.program, **({"names": names} if names else {})))
    request = GenerationRequest(prompt=prompt, negative_prompt=negative, **values)
    return Recipe(request, notes=(*notes, *request.notes))


def _printable(text: str) -> str:
    """The text without control characters and halves of surrogate pairs."""
    return "".join(c for c in text if c in "\t\n\r" or unicodedata.category(c) not in ("Cc", "Cs"))


def _cut(text: str, notes: list[str]) -> str:
    """The text up to the limit of a prompt, with a note if it is longer."""
    kept = text.encode()[: LIMITS.prompt_bytes].decode(errors="ignore")
    if kept != text:
        notes.append(Note(PROMPT_CUT, limit=LIMITS.prompt_bytes, left=_brief(text[len(kept) :])))
    return kept


def _foreign_values(found: Foreign, notes: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Fields of a request, and the names of numbers that are none. What is out of range is fitted, with a note."""
    numbers, left_out = {}, []
    for name, value in found.values.items():
        try:
            numbers[name] = _number(value, is_whole=name != "guidance")
        except (TypeError, ValueError, OverflowError):
            left_out.append(name)
    values: dict[str, Any] = {}
    for name, field in (("steps", "num_inference_steps"), ("guidance", "guidance_scale")):
        if name in numbers:
            values[field] = _fit(name, numbers[name], getattr(LIMITS, field), notes)
    if numbers.get("seed", -1) >= 0:
        values["seed"] = numbers["seed"] % (MAX_SEED + 1)
        if values["seed"] != numbers["seed"]:
            notes.append(Note(NUMBER_FITTED, name="seed", asked=numbers["seed"], used=values["seed"]))
    if {"width", "height"} <= numbers.keys() and min(numbers["width"], numbers["height"]) > 0:
        asked = numbers["width"], numbers["height"]
        scale = min(1.0, LIMITS.width.high / asked[0], LIMITS.height.high / asked[1])
        used = [max(side * scale, LIMITS.width.low) for side in asked]
        values["width"], values["height"] = (snap_size("size", round(side), LIMITS.width) for side in used)
        if (values["width"], values["height"]) != asked:
            shown = [f"{width} x {height}" for width, height in (asked, (values["width"], values["height"]))]
            notes.append(Note(SIZE_FITTED, asked=shown[0], used=shown[1]))
    return values, left_out


def _number(value: Any, is_whole: bool) -> float:
    """A number of an untrusted file; a whole one keeps all its digits. Raises TypeError, ValueError, OverflowError."""
    if not math.isfinite(float(value)):
        raise ValueError(value)
    return int(float(value) if isinstance(value, str) and "." in value else value) if is_whole else float(value)


def _fit(name: str, value: float, allowed: Range, notes: list[str]) -> float:
    used = min(max(value, allowed.low), allowed.high)
    if used != value:
        notes.append(Note(NUMBER_FITTED, name=name, asked=value, used=used))
    return used


def _brief(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= 80 else f"{text[:60]}...{text[-16:]}")


def _mask_from_text(text: Any) -> Image.Image:
    if not isinstance(text, str) or len(text) > MAX_MASK:
        raise InvalidRequestError(f"their mask is not a text of up to {MAX_MASK:,} characters; choose another file.")
    content = base64.b64decode(text, validate=True)
    try:
        kind = sniff(content, "image").name
    except MediaError:
        kind = ""
    if kind != "PNG":
        raise InvalidRequestError("their mask is not a valid PNG; choose another file.")
    return load_image(content).convert("L")


def _sources(turn: Mapping[str, Any]) -> dict[str, list[str]]:
    return {kind: [_source(digest) for digest in turn[kind]] for kind in _KINDS}


def _assign(hashes: Sequence[str], given: Sequence[Any], files: Mapping[str, Any]) -> list[Any]:
    """Files for hashes: `files` by hash first, then the others of `given` in order; surplus files at the end."""
    assigned = [files.get(hash, hash) for hash in hashes]
    others = [file for file in given if file not in assigned]
    return [others.pop(0) if is_hash(source) and others else source for source in assigned] + others


def is_hash(source: Any) -> bool:
    """Whether this is a hash, which takes the place of a file in a Recipe."""
    return source == "" or (isinstance(source, str) and source.startswith(_PREFIX))


def _source(digest: Any) -> str:
    if digest is None:
        return ""
    if not isinstance(digest, str) or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise InvalidRequestError("one of their hashes is not a SHA-256; choose another file.")
    return f"{_PREFIX}{digest}"

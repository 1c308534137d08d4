"""The settings of an image inside its PNG file: written as text chunks, and read back from untrusted files.

There are two texts: `x2i`, JSON with every setting that is needed to generate the image again, and `parameters`, in the
format of the A1111 web UI, which many programs show. Media are stored as SHA-256 hashes of their files, never as names
or contents. Only a mask is stored itself, in black and white, because a mask drawn on the page has no file.
"""

import base64
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from x2i_app import __version__
from x2i_app.errors import InvalidRequestError, MediaError, X2IError
from x2i_app.media.guard import show_name, sniff
from x2i_app.media.hashing import known_hash, path_hash
from x2i_app.media.images import load_image, open_image
from x2i_app.media.prepared import MAX_MASK
from x2i_app.presets import FLUX_MODELS, PRESETS
from x2i_app.request import SETTINGS, GenerationRequest, GenerationResult, Turn, validate_text
from x2i_app.settings import Settings

KEY, PARAMETERS = "x2i", "parameters"
_FORMAT = 1
_MAX_JSON = 512 * 1024  # characters; more than the longest conversation of a request
_HUB_ID = re.compile(r"\w[\w.:-]*(/\w[\w.-]*)?")  # or a registered name, such as custom:qwen2.5-vl
_KINDS = ("images", "videos", "audios")
_PREFIX = "sha256:"
_FIELDS = ("prompt", "reason", "width", "height", "num_inference_steps", "guidance_scale", "seed", "control_strength")


@dataclass(frozen=True)
class Recipe:
    """The settings stored in an image file.

    request: the request that generates the image again, with hashes in place of media and LoRA files: "sha256:...", or
    "" if the hash is unknown. The mask is a PIL image, or a hash if it was too large to be stored. preset, flux:
    registered names, or None for other models.
    """

    request: GenerationRequest
    preset: str | None = None
    flux: str | None = None

    @property
    def values(self) -> dict[str, Any]:
        """Prompt, numbers and switches, by the names of flags, endpoints and JSONL rows."""
        request = self.request
        named = {name: getattr(request, field) for name, field in SETTINGS.items()}
        return {"prompt": request.prompt, "control": request.control_strength} | named

    def missing(self, files: Sequence[Any]) -> dict[str, int]:
        """Number of files that are needed besides `files`, for the whole conversation, by kind; zeros are left out.

        Kinds: images, videos, audios, loras, masks, source_images (the image that is changed, if not one of `images`).
        """
        known = {path_hash(file) for file in files}
        request = self.request
        needed = {kind: [f for turn in (*request.history, request) for f in getattr(turn, kind)] for kind in _KINDS}
        needed |= {"loras": [file for file, _ in request.loras], "masks": [request.mask]}
        needed["source_images"] = [] if request.source_image in request.images else [request.source_image]
        counts = {kind: sum(is_hash(hash) and hash not in known for hash in hashes) for kind, hashes in needed.items()}
        return {kind: count for kind, count in counts.items() if count}

    def with_known(self, files: Sequence[Any]) -> GenerationRequest:
        """The request with each hash replaced by the one of `files`, media or LoRAs, that has it; others stay."""
        known = {path_hash(file): file for file in files}
        media = {kind: tuple(known.get(hash, hash) for hash in getattr(self.request, kind)) for kind in _KINDS}
        media |= {name: known.get(hash, hash) for name, hash in _inpaint_files(self.request).items() if is_hash(hash)}
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
        request = replace(self.request, **media, history=tuple(turns), loras=tuple(zip(names, weights, strict=True)))
        if missing := Recipe(request).missing(()):
            what = ", ".join(f"{count} {kind if count > 1 else kind[:-1]}" for kind, count in missing.items())
            raise InvalidRequestError(f"Files are missing that the image was made with: {what}; add them.")
        return request


def describe(result: GenerationResult, settings: Settings) -> list[dict[str, str]]:
    """The texts for each image of a result, which the model in `settings` generated; empty if metadata are off."""
    if not settings.metadata:
        return [{} for _ in result.seeds]
    common = _as_json(result, settings)
    texts = []
    for seed in result.seeds:
        recipe = common | {"seed": seed}
        texts.append({KEY: json.dumps(recipe), PARAMETERS: _as_parameters(recipe)})
    return texts


def save_png(image: Image.Image, file: Any, texts: Mapping[str, str] | None = None) -> None:
    """Write an image as PNG to a path or an open file, with `texts` as its only metadata."""
    chunks = PngInfo()
    for key, value in (texts or {}).items():
        chunks.add_text(key, value)
    image.save(file, format="PNG", pnginfo=chunks)


def read_recipe(path: str | os.PathLike) -> Recipe:
    """Read the settings stored in a PNG file. The file is untrusted: values are validated as those of a request.

    Raises MediaError if it is not a PNG within the limits, or has no valid settings of X2I.
    """
    name = show_name(path)
    if sniff(path, "image").name != "PNG":
        raise MediaError(f"{name} is not a PNG file; only PNG files saved by X2I contain settings.")
    with open_image(path) as image:
        text = image.info.get(KEY)
    if not isinstance(text, str):
        raise MediaError(f"{name} contains no settings; choose a PNG file saved by X2I that was not edited since.")
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
        "history": turns,
        "loras": [{"sha256": known_hash(file, hashes), "weight": weight} for file, weight in request.loras],
        "answer": result.answer,
        "notes": list(result.notes),
    }


def _inpaint_files(request: GenerationRequest) -> dict[str, Any]:
    return {"source_image": request.source_image, "mask": request.mask}


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


def _as_parameters(recipe: Mapping[str, Any]) -> str:
    names = {
        "Steps": recipe["num_inference_steps"],
        "Sampler": "Euler",
        "Distilled CFG Scale": f"{recipe['guidance_scale']:g}",
        "Seed": recipe["seed"],
        "Size": f"{recipe['width']}x{recipe['height']}",
        "Model": f"{recipe['preset']} + {recipe['flux']}" if recipe["flux"] != recipe["preset"] else recipe["preset"],
        "Version": f"X2I {recipe['version']}",
    }
    return f"{recipe['prompt']}\n" + ", ".join(f"{name}: {value}" for name, value in names.items())


def _recipe(stored: Any) -> Recipe:
    if not isinstance(stored, dict) or stored["format"] != _FORMAT:
        raise InvalidRequestError("they are from another version of X2I; generate the image again with this version.")
    settings = {field: stored[field] for field in _FIELDS}
    history = [_sources(turn) | {"prompt": turn["prompt"], "answer": turn["answer"]} for turn in stored["history"]]
    loras = [(_source(lora["sha256"]), lora["weight"]) for lora in stored["loras"]]
    # Early files of this format do not have these five fields.
    inpainting = {
        field: _source(stored[field] or None) for field in ("source_image", "mask") if stored.get(field) is not None
    }
    if stored.get("mask_png") is not None:
        inpainting["mask"] = _mask_from_text(stored["mask_png"])
    inpainting |= {"strength": stored.get("strength"), "outpaint": stored.get("outpaint", (0, 0, 0, 0))}
    request = GenerationRequest(**settings, **_sources(stored), **inpainting, history=history, loras=loras)
    preset, flux = (validate_text(name, stored.get(name) or "") for name in ("preset", "flux"))
    return Recipe(request, preset if preset in PRESETS else None, flux if flux in FLUX_MODELS else None)


def _mask_from_text(text: Any) -> Image.Image:
    if not isinstance(text, str) or len(text) > MAX_MASK:
        raise InvalidRequestError(f"their mask is not a text of up to {MAX_MASK:,} characters; choose another file.")
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as mask:
            return load_image(mask).convert("L")
    except (OSError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InvalidRequestError("their mask is not a valid PNG; choose another file.") from None


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

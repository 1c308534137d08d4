"""How a picture was made, inside its PNG file: written as text chunks, and read back from anybody's file.

Two texts: `x2i`, JSON with every setting, from which the picture can be made again; and `parameters`, the lines of the
A1111 web UI, which many programs show. Media are there as SHA-256 hashes of their files, never as names or contents;
but a mask is there itself, black and white, because what was painted by hand is in no file that could be given again.
"""

import base64
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from x2i_app import __version__
from x2i_app.errors import InvalidRequestError, MediaError, X2IError
from x2i_app.media.guard import is_path, show_name, sniff
from x2i_app.media.hashing import path_hash
from x2i_app.media.images import load_image, load_mask, open_image
from x2i_app.presets import FLUX_MODELS, PRESETS
from x2i_app.request import SETTINGS, GenerationRequest, GenerationResult, Turn, validate_text
from x2i_app.settings import Settings

KEY, PARAMETERS = "x2i", "parameters"
_FORMAT = 1
_MOST_BYTES = 512 * 1024  # of JSON; the longest conversation that a request may have fits well
_MOST_MASK = 64 * 1024  # letters; what is painted by hand has a few thousand
_KINDS = ("images", "videos", "audios")
_PREFIX = "sha256:"
_FIELDS = ("prompt", "reason", "width", "height", "num_inference_steps", "guidance_scale", "seed", "control_strength")


@dataclass(frozen=True)
class Recipe:
    """How a picture was made, as its file says.

    request: what to ask for to get it again; in the place of each media and LoRA file stands its hash, "sha256:..." or
    "" where none was known; the mask is a PIL image, unless it was too intricate to be kept. preset, flux: names of the
    registry, or None for a model that is not in it.
    """

    request: GenerationRequest
    preset: str | None = None
    flux: str | None = None

    @property
    def values(self) -> dict[str, Any]:
        """The words and numbers, by the names of flags, endpoints and JSONL rows."""
        request = self.request
        named = {name: getattr(request, field) for name, field in SETTINGS.items()}
        return {"prompt": request.prompt, "control": request.control_strength} | named

    def missing(self, files: Sequence[Any]) -> dict[str, int]:
        """How many files, of the conversation's earlier turns too, are still hashes, and not of one of `files`.

        By kind: images, videos, audios, loras, masks, source_images (what was drawn before and is now changed, if it
        is none of the images); none of which is 0.
        """
        known = {path_hash(file) for file in files}
        request = self.request
        wanted = {kind: [f for turn in (*request.history, request) for f in getattr(turn, kind)] for kind in _KINDS}
        wanted |= {"loras": [file for file, _ in request.loras], "masks": [request.mask]}
        wanted["source_images"] = [] if request.source_image in request.images else [request.source_image]
        counts = {kind: sum(is_hash(hash) and hash not in known for hash in hashes) for kind, hashes in wanted.items()}
        return {kind: count for kind, count in counts.items() if count}

    def with_known(self, files: Sequence[Any]) -> GenerationRequest:
        """The request with those of `files`, media and LoRAs, in the places whose hashes they have; others stay."""
        known = {path_hash(file): file for file in files}
        media = {kind: tuple(known.get(hash, hash) for hash in getattr(self.request, kind)) for kind in _KINDS}
        media |= {name: known.get(hash, hash) for name, hash in _painted(self.request).items() if is_hash(hash)}
        loras = tuple((known.get(hash, hash), weight) for hash, weight in self.request.loras)
        return replace(self.request, **media, loras=loras)

    def with_files(self, loras: Sequence[tuple[Any, float]] = (), **given: Sequence[Any]) -> GenerationRequest:
        """The request with real files, paths by kind: first those that are known by their hash, then others in order.

        More than were there are added at the end. loras: pairs as in GenerationRequest; a known one keeps the weight
        that it had. Raises InvalidRequestError if there are fewer files than are needed.
        """
        files = {path_hash(file): file for file in (*(f for kind in given.values() for f in kind), *dict(loras))}
        past = {hash for turn in self.request.history for kind in _KINDS for hash in getattr(turn, kind)}
        media = {}
        for kind in _KINDS:
            new = [file for file in given.get(kind, ()) if path_hash(file) not in past]
            media[kind] = _place(getattr(self.request, kind), new, files)
        names = _place([hash for hash, _ in self.request.loras], list(dict(loras)), files)
        weights = [weight for _, weight in self.request.loras]
        weights += [dict(loras)[file] for file in names[len(weights) :]]
        turns = [
            replace(turn, **{kind: tuple(files.get(hash, hash) for hash in getattr(turn, kind)) for kind in _KINDS})
            for turn in self.request.history
        ]
        media |= {name: files.get(hash, hash) for name, hash in _painted(self.request).items() if is_hash(hash)}
        request = replace(self.request, **media, history=tuple(turns), loras=tuple(zip(names, weights, strict=True)))
        left = Recipe(request).missing(())
        if left:
            what = ", ".join(f"{count} {kind if count > 1 else kind[:-1]}" for kind, count in left.items())
            raise InvalidRequestError(f"The picture was made with {what} more than were given; give those files too.")
        return request


def describe(result: GenerationResult, settings: Settings) -> list[dict[str, str]]:
    """The texts for each picture of a result, drawn by the model that `settings` name; none if they say so."""
    if not settings.metadata:
        return [{} for _ in result.seeds]
    common = _as_json(result, settings)
    texts = []
    for seed in result.seeds:
        recipe = common | {"seed": seed}
        texts.append({KEY: json.dumps(recipe), PARAMETERS: _as_parameters(recipe)})
    return texts


def with_metadata(result: GenerationResult, settings: Settings) -> list[Image.Image]:
    """Copies of the result's pictures with the texts in `info`, where Gradio's PNG writer takes them from."""
    images = [image.copy() for image in result.images]
    for image, texts in zip(images, describe(result, settings), strict=True):
        image.info.update(texts)
    return images


def save_png(image: Image.Image, file: Any, texts: Mapping[str, str] | None = None) -> None:
    """Write a picture as PNG to a path or an open file, with `texts` inside; without, it says nothing about itself."""
    chunks = PngInfo()
    for key, value in (texts or {}).items():
        chunks.add_text(key, value)
    image.save(file, format="PNG", pnginfo=chunks)


def read_recipe(path: str | os.PathLike) -> Recipe:
    """What a PNG file says about how it was made. It may be anybody's file: every value is validated as a request's.

    Raises MediaError for what is no PNG within the caps, or has nothing of ours in it, or not what we would write.
    """
    name = show_name(path)
    if sniff(path, "image").name != "PNG":
        raise MediaError(f"{name} is no PNG file, and only those carry their settings; drop the file as it was saved.")
    with open_image(path) as image:
        text = image.info.get(KEY)
    if not isinstance(text, str):
        raise MediaError(f"{name} carries no settings; choose a PNG that X2I saved, as it was saved, not a copy of it.")
    if len(text) > _MOST_BYTES:
        raise MediaError(f"The settings in {name} are {len(text):,} letters long and {_MOST_BYTES:,} are allowed.")
    try:
        return _recipe(json.loads(text))
    except X2IError as error:
        raise MediaError(f"The settings in {name} are not valid: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise MediaError(f"The settings in {name} cannot be read; they are damaged or not ours.") from None


def _as_json(result: GenerationResult, settings: Settings) -> dict[str, Any]:
    request = result.request
    turns = [_turn(turn) | {"answer": turn.answer} for turn in request.history]
    model = {"preset": settings.preset, "flux": settings.flux or _flux_of(settings.preset)}
    return {
        "format": _FORMAT,
        "version": __version__,
        **{name: _public_name(value) for name, value in model.items()},
        **{field: getattr(request, field) for field in _FIELDS},
        **_turn(request.turn),
        **{field: None if source is None else _digest(source) or "" for field, source in _painted(request).items()},
        "mask_png": None if request.mask is None else _mask_as_text(request.mask),
        "strength": request.strength,
        "outpaint": list(request.outpaint),
        "history": turns,
        "loras": [{"sha256": _digest(file), "weight": weight} for file, weight in request.loras],
        "answer": result.answer,
        "notes": list(result.notes),
    }


def _painted(request: GenerationRequest) -> dict[str, Any]:
    return {"source_image": request.source_image, "mask": request.mask}


def _flux_of(preset: str) -> str | None:
    return PRESETS[preset].flux if preset in PRESETS else None


def _public_name(value: str | None) -> str | None:
    """A hub id or a registered name; of a path on this machine only the last part."""
    return Path(value).name if value and Path(value).exists() else value


def _turn(turn: Turn) -> dict[str, Any]:
    return {"prompt": turn.prompt} | {kind: [_digest(source) for source in getattr(turn, kind)] for kind in _KINDS}


def _digest(source: Any) -> str | None:
    """The hash of a file; None for media that came as values, and for a file that has gone."""
    if not is_path(source):
        return None
    try:
        return path_hash(source).removeprefix(_PREFIX)
    except MediaError:
        return None


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


def _recipe(found: Any) -> Recipe:
    if not isinstance(found, dict) or found["format"] != _FORMAT:
        raise InvalidRequestError("they are of another version of X2I; make the picture again with this one.")
    known = {field: found[field] for field in _FIELDS}
    history = [_sources(turn) | {"prompt": turn["prompt"], "answer": turn["answer"]} for turn in found["history"]]
    loras = [(_source(lora["sha256"]), lora["weight"]) for lora in found["loras"]]
    # These five came later than the format.
    painting = {
        field: _source(found[field] or None) for field in ("source_image", "mask") if found.get(field) is not None
    }
    if found.get("mask_png") is not None:
        painting["mask"] = _mask_from_text(found["mask_png"])
    painting |= {"strength": found.get("strength"), "outpaint": found.get("outpaint", (0, 0, 0, 0))}
    request = GenerationRequest(**known, **_sources(found), **painting, history=history, loras=loras)
    preset, flux = (validate_text(name, found.get(name) or "") for name in ("preset", "flux"))
    return Recipe(request, preset if preset in PRESETS else None, flux if flux in FLUX_MODELS else None)


def _mask_as_text(source: Any) -> str | None:
    """A mask as base64 of a PNG; None if that is long, or the file has gone."""
    try:
        mask = load_mask(source)
    except MediaError:
        return None
    buffer = io.BytesIO()
    mask.convert("1", dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    text = base64.b64encode(buffer.getvalue()).decode()
    return text if len(text) <= _MOST_MASK else None


def _mask_from_text(text: Any) -> Image.Image:
    if not isinstance(text, str) or len(text) > _MOST_MASK:
        raise InvalidRequestError(f"the mask in them is no text of up to {_MOST_MASK:,} letters.")
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as mask:
            return load_image(mask).convert("L")
    except (OSError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InvalidRequestError("the mask in them is no PNG within the caps.") from None


def _sources(turn: Mapping[str, Any]) -> dict[str, list[str]]:
    return {kind: [_source(digest) for digest in turn[kind]] for kind in _KINDS}


def _place(wanted: Sequence[str], given: Sequence[Any], files: Mapping[str, Any]) -> list[Any]:
    placed = [files.get(hash, hash) for hash in wanted]
    others = [file for file in given if file not in placed]
    filled = [others.pop(0) if is_hash(source) and others else source for source in placed]
    return filled + others


def is_hash(source: Any) -> bool:
    """Whether it stands in a Recipe for a file that is not here."""
    return source == "" or (isinstance(source, str) and source.startswith(_PREFIX))


def _source(digest: Any) -> str:
    if digest is None:
        return ""
    if not isinstance(digest, str) or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise InvalidRequestError("a hash in them is no SHA-256.")
    return f"{_PREFIX}{digest}"

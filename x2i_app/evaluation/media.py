"""Media that rows describe instead of naming a file: the cartoon world draws them when a run begins.

{"scene": "a large red house in the middle, on grass by day", "seed": 3} is an image, a video or an audio of that scene,
{"text": "..."} a screenshot of text. For `changed`, {"scene": ..., "to": ...} is the mask of what an edit of the one
scene to the other changes.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from x2i_app.errors import EngineError, InvalidRequestError
from x2i_app.limits import MAX_SEED, Range, show_value, validate_integer
from x2i_app.media.hashing import path_hash
from x2i_app.miniature.examples import write_mp4, write_wav
from x2i_app.miniature.screenshot import typeset
from x2i_app.miniature.world import audio, draw_scene, parse_canonical, screenshot, video
from x2i_app.request import validate_text

SIZE = 256  # pixels: side of every image and video
_SAME = 3  # of 255: pixels of two renders that differ by at most this are equal
_MARGIN = 15  # pixels, odd: what surrounds an edit belongs to it, because of antialiasing and ripples
_SUFFIXES = {"image": ".png", "changed": ".png", "video": ".mp4", "audio": ".wav"}


@dataclass(frozen=True)
class Recipe:
    """What to draw. kind: image, video, audio or changed. scene, to: canonical sentences of the world."""

    kind: str
    scene: str = ""
    text: str = ""
    to: str = ""
    seed: int = 0

    @classmethod
    def parse(cls, values: Mapping[str, Any], kind: str) -> "Recipe":
        """From a row's JSON. Raises InvalidRequestError."""
        kind = "changed" if kind == "image" and "to" in values else kind
        allowed = {"image": ({"scene"}, {"text"}), "changed": ({"scene", "to"},)}.get(kind, ({"scene"},))
        if values.keys() - {"seed"} not in allowed:
            raise InvalidRequestError(
                f"{show_value(dict(values))} is no {kind} that can be drawn; write scene and seed, or text and seed."
            )
        seed = validate_integer("seed", values.get("seed", 0), Range(0, MAX_SEED))
        texts = {name: validate_text(name, values[name]) for name in values.keys() - {"seed"}}
        for name in texts.keys() & {"scene", "to"}:
            parse_canonical(texts[name])
        if "text" in texts:
            typeset(texts["text"], seed)
        return cls(kind, seed=seed, **texts)

    @property
    def name(self) -> str:
        """A file name that only this recipe has."""
        content = json.dumps(asdict(self), sort_keys=True).encode()
        return f"{self.kind}-{hashlib.sha256(content).hexdigest()[:16]}{_SUFFIXES[self.kind]}"

    def draw(self, folder: Path) -> Path:
        """The file in `folder`, drawn if it is not there; a file is complete or absent. Raises EngineError."""
        path = folder / self.name
        if path.is_file():
            return path
        fresh = path.with_stem(f"new-{os.getpid()}-{path.stem}")  # several shards may draw it at once
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._write(fresh)
            fresh.replace(path)
        except OSError as error:
            raise EngineError(
                f"{str(path)!r} cannot be written ({error.strerror}); choose another --output."
            ) from error
        finally:
            fresh.unlink(missing_ok=True)
        return path

    def _write(self, path: Path) -> None:
        if self.text:
            screenshot(self.text, SIZE, self.seed).save(path)
            return
        scene = parse_canonical(self.scene)
        if self.kind == "image":
            draw_scene(scene, SIZE, seed=self.seed).save(path)
        elif self.kind == "changed":
            self._difference().save(path)
        elif self.kind == "audio":
            write_wav(path, audio(scene, seed=self.seed))
        else:
            frames, fps = video(scene, 4, 8, SIZE, self.seed)
            write_mp4(path, frames, fps, audio(scene, seed=self.seed))

    def _difference(self) -> Image.Image:
        before, wanted = (
            np.asarray(draw_scene(parse_canonical(each), SIZE, seed=self.seed), int) for each in (self.scene, self.to)
        )
        changed = Image.fromarray(np.abs(before - wanted).max(axis=2) > _SAME).convert("L")
        return changed.filter(ImageFilter.MaxFilter(_MARGIN))


def content_hash(value: Any) -> str:
    """What a medium is, wherever its file lies: the hash of a file, or the name of a recipe. Raises MediaError."""
    return value.name if isinstance(value, Recipe) else path_hash(value)


def drawn(value: Any, folder: Path) -> Any:
    """`value` with the path of a file in place of every recipe in it, inside lists and dictionaries too."""
    if isinstance(value, Recipe):
        return str(value.draw(folder).absolute())
    if isinstance(value, Mapping):
        return {key: drawn(each, folder) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [drawn(each, folder) for each in value]
    return value

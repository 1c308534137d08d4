"""Fingerprints of weights, so that a report says which ones it measured."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from x2i_app.loading.sources import Sources

_WHOLE = 256 * 2**20  # bytes of the largest file that is hashed as a whole
_BLOCKS, _BLOCK = 64, 2**20  # of a larger one: this many, evenly spaced, of this many bytes
_SUFFIXES = (".safetensors", ".sft", ".bin", ".pt", ".ckpt", ".gguf")


def fingerprint(paths: Iterable[Path]) -> str:
    """SHA-256 of the weights in files, and in folders with all below them. Of a file above 256 MiB its size and 64

    blocks of 1 MiB are hashed: enough to tell two checkpoints apart, in a second instead of minutes.
    """
    found: set[Path] = set()
    for path in paths:
        below = path.rglob("*") if path.is_dir() else [path]
        found |= {each for each in below if each.suffix.lower() in _SUFFIXES and each.is_file()}
    digest = hashlib.sha256()
    for path in sorted(found, key=lambda each: (each.name, str(each))):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            if size <= _WHOLE:
                digest.update(hashlib.file_digest(file, "sha256").digest())
            else:
                for block in range(_BLOCKS):
                    file.seek(block * (size - _BLOCK) // (_BLOCKS - 1))
                    digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def pipeline_fingerprints(sources: Sources) -> dict[str, str]:
    """The fingerprint of each part of a pipeline, by its name."""
    base = sources.flux.base
    flux = [sources.flux.file] if sources.flux.file else [base / "transformer"]
    parts = {"mllm": [sources.mllm], "alignnet": [sources.alignnet], "flux": flux, "vae": [base / "vae"]}
    if sources.light_control:
        parts["light_control"] = [sources.light_control]
    if sources.controlnet:
        parts["controlnet"] = [sources.controlnet]
    return {name: fingerprint(paths) for name, paths in parts.items()}

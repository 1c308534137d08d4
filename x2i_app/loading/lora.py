"""LoRAs applied to a pipeline's transformer: mixed by weight, changed at any time, removed without a trace.

`lora_file.py` reads the files and knows the layers' names in them; `lora_changes.py` computes what a layer adds.
"""

import hashlib
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel
from torch import nn
from torch.utils.hooks import RemovableHandle

from x2i_app.load_lock import one_at_a_time
from x2i_app.loading.files import SAFETENSORS
from x2i_app.loading.hub import (
    Report,
    cached_snapshot,
    find_file,
    list_files,
    path_exists,
    repository_folders,
    split_revision,
)
from x2i_app.loading.lora_file import LoRA, check_lora, choose_lora, lora_file, read_lora
from x2i_app.notes import Note
from x2i_app.pipeline import X2IPipeline
from x2i_app.request import is_hub_lora

__all__ = ["check_lora", "find_lora", "read_lora", "use_loras"]


def find_lora(source: str | Path, models: str | Path | None = None, report: Report | None = None) -> Path:
    """The file of a LoRA, downloaded if need be.

    source: a file or folder; else OWNER/NAME of a hub repository, or OWNER/NAME:FILE if it has several LoRAs; also
    OWNER/NAME@REVISION. models, report: as in `hub.find_directory`. Raises CheckpointError.
    """
    if path_exists(source, Path.exists) or not is_hub_lora(source):
        return lora_file(source)
    given, _, name = str(source).partition(":")
    repo_id, revision = split_revision(given)
    if not name:
        for folder in _folders(repo_id, revision, models):
            if folder and any(each.suffix.lower() in SAFETENSORS for each in folder.glob("*")):
                return lora_file(folder)
        files = [each for each in list_files(repo_id, revision, f"The LoRA {repo_id}") if each.endswith(SAFETENSORS)]
        name = choose_lora(repo_id, dict(zip(files, files, strict=True)))
    return lora_file(find_file(f"{given}/{name}", models, report).path)


def _folders(repo_id: str, revision: str | None, models: str | Path | None) -> Iterator[Path | None]:
    yield from repository_folders(repo_id, models)
    yield cached_snapshot(repo_id, revision, ["*.safetensors"])


class _Applied:
    """The LoRAs of one transformer. Each layer that one of them changes has a hook, which adds the changes.

    files: what was read, by the hash of the file. weights: of those that act. handles: of the hooks, by layer.
    """

    def __init__(self, transformer: FluxTransformer2DModel):
        self.transformer = weakref.proxy(transformer)
        self.files: dict[str, LoRA] = {}
        self.weights: dict[str, float] = {}
        self.handles: dict[str, RemovableHandle] = {}

    def set(self, files: dict[str, LoRA], weights: dict[str, float]) -> None:
        """Use exactly these files. A weight of 0 adds nothing, so that the output is the same to the bit."""
        self.files = files
        self.weights = {name: weight for name, weight in weights.items() if weight}
        wanted = {layer for name in self.weights for layer in files[name].changes}
        for layer in self.handles.keys() - wanted:
            self.handles.pop(layer).remove()
        for layer in wanted - self.handles.keys():
            module = self.transformer.get_submodule(layer)
            self.handles[layer] = module.register_forward_hook(lambda *given, name=layer: self._add(name, *given))

    def _add(self, layer: str, module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        total = output
        for name, weight in self.weights.items():
            for change in self.files[name].changes.get(layer, ()):
                # With offload a layer comes to the card only to run.
                added = change.to(output.device).added(module, args[0].to(change.example.dtype), output)
                total = total + weight * added.to(output.dtype)
        return total


_APPLIED: "weakref.WeakKeyDictionary[FluxTransformer2DModel, _Applied]" = weakref.WeakKeyDictionary()


@one_at_a_time
def use_loras(
    pipeline: X2IPipeline, loras: Sequence[tuple[str | Path, float]], models: str | Path | None = None
) -> tuple[Note, ...]:
    """Apply exactly these LoRAs to the pipeline's transformer, each with its weight: 0 is off, 1 is as trained.

    loras: pairs of a source, as in `find_lora`, and a weight; models: as there. Several are added up, as are the
    weights of a file that comes twice; an empty list removes all. A file with the same content is not loaded again.
    Returns what is used of each file that acts, and what is not; `pipeline.lora_notes` keeps it.
    Raises CheckpointError, and then nothing has changed.
    """
    transformer = pipeline.transformer
    applied = _APPLIED.get(transformer)
    if applied is None:
        if not loras:
            return ()
        applied = _APPLIED[transformer] = _Applied(transformer)
    weights: dict[str, float] = {}
    files: dict[str, LoRA] = {}
    for source, weight in loras:
        path = find_lora(source, models)
        with path.open("rb") as file:
            name = hashlib.file_digest(file, "sha256").hexdigest()
        if name not in files:
            files[name] = applied.files.get(name) or _placed(read_lora(path, transformer), pipeline)
        weights[name] = weights.get(name, 0.0) + weight
    applied.set(files, weights)
    pipeline.lora_notes = tuple(note for name in applied.weights for note in files[name].notes)
    return pipeline.lora_notes


def _placed(lora: LoRA, pipeline: X2IPipeline) -> LoRA:
    """On the card if the transformer stays there; with offload each change follows its layer."""
    placement = getattr(pipeline, "placement", None)
    if placement is None or placement.offload != "none":
        return lora
    moved = {layer: tuple(each.to(placement.device) for each in found) for layer, found in lora.changes.items()}
    return LoRA(moved, lora.notes)

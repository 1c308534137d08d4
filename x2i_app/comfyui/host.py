"""What ComfyUI does for its nodes: memory, interruption, progress and folders.

Without ComfyUI, which tests and scripts do not need, models stay where they are and nobody watches.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from x2i_app.loading.hub import Download

try:
    import comfy.model_management as management
    import comfy.utils
    import folder_paths
    from comfy.model_patcher import ModelPatcher
except ImportError:
    management = None

FOLDER = "x2i"  # in ComfyUI's folder of models: AlignNets, LightControls and MLLMs
# Kinds of models in whose folders other nodes keep theirs. Each may have several folders, by extra_model_paths.yaml.
_KINDS = (FOLDER, "LLM", "llm", "mllm", "text_encoders", "diffusers", "checkpoints")


class Holder(torch.nn.Module):
    """A model with a `device` that can be set, as ComfyUI does; that of transformers' models cannot."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model


class Managed:
    """A model that ComfyUI counts, loads when it is needed, and offloads when others need the memory.

    device: where it runs; None: where ComfyUI runs text encoders. is_fixed: it cannot be offloaded.
    """

    def __init__(self, model: torch.nn.Module, device: str | None = None, is_fixed: bool = False):
        self.holder = Holder(model.eval().requires_grad_(False))
        self.device = compute_device(device)
        self.patcher = None
        if management:
            waiting = self.device if is_fixed else management.text_encoder_offload_device()
            self.patcher = ModelPatcher(self.holder, load_device=self.device, offload_device=waiting)


def compute_device(name: str | None = None) -> torch.device:
    """The device of this name; None: where ComfyUI runs text encoders."""
    if name:
        return torch.device(name)
    return management.text_encoder_device() if management else torch.device("cpu")


def load(*models: Managed) -> None:
    """Load models onto their devices. ComfyUI makes room for them and offloads others."""
    if management:
        management.load_models_gpu([each.patcher for each in models])


def to_output(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor where ComfyUI keeps what nodes return."""
    return tensor.to(management.intermediate_device()) if management else tensor


class Progress:
    """The progress bar of the node that runs. Each change is a place where Cancel stops the node."""

    _PARTS = 1000

    def __init__(self):
        self._bar = comfy.utils.ProgressBar(self._PARTS) if management else None
        self._share = 0.0

    def set(self, share: float) -> None:
        """share: of the work that is done, 0 to 1."""
        self._share = share
        if management:
            management.throw_exception_if_processing_interrupted()
            self._bar.update_absolute(round(share * self._PARTS), self._PARTS)

    def add(self, share: float) -> None:
        """As `set`, for work that was done since."""
        self.set(self._share + share)

    def report(self, download: Download) -> None:
        """As `set`, for a download."""
        self.set(download.done / max(1, download.total))


@contextmanager
def watched(model: torch.nn.Module, layer_count: int) -> Iterator[None]:
    """Inside the block, each layer of the MLLM moves the progress bar, and Cancel stops it within one layer.

    layer_count: of the language model, by which its list of layers is found.
    """
    layers = [layer for layer_list in _lists(model, layer_count) for layer in layer_list]
    progress, done = Progress(), 0

    def step(layer: torch.nn.Module, args: Any) -> None:
        nonlocal done
        done = done % layer_count + 1  # each token of an answer passes all layers again
        progress.set(done / layer_count)

    hooks = [layer.register_forward_pre_hook(step) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _lists(model: torch.nn.Module, count: int) -> list[torch.nn.ModuleList]:
    found = [each for each in model.modules() if isinstance(each, torch.nn.ModuleList) and len(each) == count]
    return found[:1]


def model_folders() -> list[Path]:
    """Folders in which ComfyUI looks for models, those of extra_model_paths.yaml too."""
    if not management:
        return []
    folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))
    folder_paths.add_model_folder_path("LLM", str(Path(folder_paths.models_dir) / "LLM"))
    known = folder_paths.folder_names_and_paths
    folders = [Path(folder) for kind in _KINDS if kind in known for folder in folder_paths.get_folder_paths(kind)]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def input_folder() -> Path | None:
    """ComfyUI's folder of inputs, where its page uploads to."""
    return Path(folder_paths.get_input_directory()) if management else None

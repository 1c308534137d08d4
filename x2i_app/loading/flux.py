"""FLUX.1 models: a folder in diffusers layout, or one file with the transformer and a base model for the rest."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxControlNetModel,
    FluxTransformer2DModel,
    ModelMixin,
)
from safetensors import SafetensorError

from x2i_app.errors import CheckpointError
from x2i_app.load_lock import one_at_a_time
from x2i_app.loading.files import check_config, check_folder, is_safetensors, is_weight_file
from x2i_app.loading.flux_file import check_transformer_weights, load_transformer_weights
from x2i_app.loading.hub import Found, Report, find_directory, find_file, path_exists
from x2i_app.loading.kept_weights import KeptWeights
from x2i_app.presets import FLUX_MODELS
from x2i_app.settings import ASSETS
from x2i_app.specs import Precision

# The parts that X2I uses; not T5 (9 GiB), CLIP and the single-file copies of the weights.
_PARTS = ("scheduler", "transformer", "vae")
_FILES = ["scheduler/*", "transformer/*", "vae/*"]
_BASE_FILES = ["scheduler/*", "transformer/config.json", "vae/*"]
_CONTROLNET_FILES = ["config.json", "*.safetensors", "*.safetensors.index.json"]

BASE = "shuttle-3-diffusion"  # all FLUX.1 models share one VAE; this repository is open to everybody
# The schedule of the guidance-distilled FLUX.1-dev, whose fine-tunes come as single files without it.
_DEV_SCHEDULE = {"shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}

FluxModel = tuple[FluxTransformer2DModel, AutoencoderKL, FlowMatchEulerDiscreteScheduler]


@dataclass(frozen=True)
class FluxSource:
    """The files of a FLUX model. found: a folder in diffusers layout, or a file with the transformer's weights.

    base: the folder of the VAE, the scheduler and those sizes that a file does not tell; `found` itself if a folder.
    """

    found: Found
    base: Path

    @property
    def file(self) -> Path | None:
        """The single file; None if the model is a folder."""
        return None if self.found.path == self.base else self.found.path


def find_flux(
    source: str | Path, base: str = BASE, models: str | Path | None = None, report: Report | None = None
) -> FluxSource:
    """Find a FLUX model, and download it if needed.

    source: a name of the registry, a folder in diffusers layout or a hub id of one; a .safetensors, .sft or .gguf file,
    or a file on the hub such as owner/name/file.gguf. base: the registry's name of the model that a file is a fine-tune
    of. models, report: as in `hub.find_directory`.
    Raises CheckpointError.
    """
    if not is_weight_file(source) and path_exists(source, Path.is_file):
        raise CheckpointError(
            f"{Path(source).name} is no FLUX model that can be read; "
            "use a .safetensors, .sft or .gguf file, or a folder in diffusers layout."
        )
    if str(source) in FLUX_MODELS or not is_weight_file(source):
        found = _find_folder(str(source), _FILES, models, report)
        check_folder(found.path, _PARTS)
        return FluxSource(found, found.path)
    found = find_file(source, models, report)
    return FluxSource(found, _find_folder(base, _BASE_FILES, models, report).path)


def _find_folder(source: str, files: list[str], models: str | Path | None, report: Report | None) -> Found:
    spec = FLUX_MODELS.get(source)
    if spec is None:
        return find_directory(source, None, files, models, report)
    if spec.directory:
        return Found(ASSETS / spec.directory, "bundled")
    return find_directory(spec.repo_id, spec.revision, files, models, report)


@one_at_a_time
def load_flux(
    source: str | Path | FluxSource,
    dtype: torch.dtype,
    base: str = BASE,
    precision: Precision = "full",
    device: torch.device | None = None,
    stays: bool = False,
    watch: Callable[[int], None] | None = None,
    kept: KeptWeights | None = None,
) -> FluxModel:
    """Load transformer, VAE and scheduler of a FLUX.1 model on the CPU.

    source, base: as in `find_flux`, or what it returned. precision, device, stays: of the transformer, whose layers are
    quantized one by one while they are read, as in `quantization.quantize`. watch: called with the bytes of each of its
    weights; what it raises stops loading. kept: as in `load_transformer_weights`. Raises CheckpointError.
    """
    source = source if isinstance(source, FluxSource) else find_flux(source, base)
    scheduler = _load_scheduler(source.base)
    transformer = _load_transformer(source, dtype, precision, device, stays, watch, kept)
    base_config = _load_config(FluxTransformer2DModel, source.base, "transformer")
    if transformer.config.guidance_embeds and not base_config.get("guidance_embeds"):  # a fine-tune of dev in a file
        scheduler = FlowMatchEulerDiscreteScheduler(**_DEV_SCHEDULE)
    return transformer, _load_part(AutoencoderKL, source.base, "vae", dtype), scheduler


@one_at_a_time
def check_flux(source: FluxSource) -> tuple[FluxTransformer2DModel, AutoencoderKL]:
    """The transformer on the meta device, after names and shapes in its files were compared with its sizes; the VAE.

    Only headers are read, and the VAE, which is small. Raises CheckpointError.
    """
    _load_scheduler(source.base)
    vae = _load_part(AutoencoderKL, source.base, "vae", torch.float32)
    return check_transformer_weights(*_transformer_files(source)), vae


@one_at_a_time
def load_transformer(source: str | Path, dtype: torch.dtype, base: str = BASE) -> FluxTransformer2DModel:
    """Load the transformer of a FLUX.1 model alone, e.g. of Fill or Depth, for `X2IPipeline.drawing_pipeline`.

    source, base: as in `find_flux`. Raises CheckpointError.
    """
    return _load_transformer(find_flux(source, base), dtype)


def find_controlnet(source: str | Path, models: str | Path | None = None, report: Report | None = None) -> Found:
    """Find a ControlNet's folder, and download it if needed; arguments and errors as in `hub.find_directory`."""
    if path_exists(source, Path.is_file):
        raise CheckpointError(
            f"{Path(source).name} is a file, and a ControlNet is a folder with config.json and .safetensors files; "
            "give the folder, or a hub id such as owner/name."
        )
    found = find_directory(source, None, _CONTROLNET_FILES, models, report)
    check_folder(found.path)
    return found


@one_at_a_time
def load_controlnet(source: str | Path, dtype: torch.dtype) -> FluxControlNetModel:
    """Load a FLUX.1 ControlNet for `X2IPipeline`, or for its `drawing_pipeline`. Raises CheckpointError.

    source: a folder or a hub id.
    """
    directory = find_controlnet(source).path
    return _load_part(FluxControlNetModel, directory, None, dtype)


def _load_transformer(
    source: FluxSource,
    dtype: torch.dtype,
    precision: Precision = "full",
    device: torch.device | None = None,
    stays: bool = False,
    watch: Callable[[int], None] | None = None,
    kept: KeptWeights | None = None,
) -> FluxTransformer2DModel:
    path, config, files = _transformer_files(source)
    return load_transformer_weights(path, config, dtype, precision, device, stays, files, watch, kept)


def _transformer_files(source: FluxSource) -> tuple[Path, dict[str, Any], list[Path]]:
    """A file or a folder, its base's configuration, and the files of the folder that are the transformer."""
    config = _load_config(FluxTransformer2DModel, source.base, "transformer")
    files = []
    if source.file is None:
        folder = source.base / "transformer"
        files = sorted(path for path in folder.glob("*") if is_safetensors(path))
        check_config(folder / "config.json")
        if not files:
            raise CheckpointError(
                f"The transformer of {source.base.name} has no .safetensors file; download the complete model."
            )
        if len(files) > 1:  # a folder may have the weights in 16 bit beside those in 32 bit
            files = _files_of_index(folder, files)
    return source.file or source.base, config, files


def _files_of_index(folder: Path, files: list[Path]) -> list[Path]:
    """The files that together are one model: those that an index names, else the one of the usual name."""
    for index in sorted(folder.glob("*.safetensors.index.json"), key=lambda path: len(path.name)):
        return sorted({folder / name for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    usual = [path for path in files if path.name == "diffusion_pytorch_model.safetensors"]
    return usual or files


def _load_part(cls: type[ModelMixin], directory: Path, subfolder: str | None, dtype: torch.dtype) -> ModelMixin:
    where = f"The {subfolder} of {directory.name}" if subfolder else directory.name
    _load_config(cls, directory, subfolder)
    with _named_errors(directory):
        model, report = cls.from_pretrained(
            directory,
            subfolder=subfolder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,  # a pickle may hold code
            output_loading_info=True,
        )
    for complaint, key in (("lacks", "missing_keys"), ("has no place for", "unexpected_keys")):
        if names := report[key]:
            raise CheckpointError(
                f"{where} {complaint} {len(names)} weights, among them {min(names)}; use the complete, original model."
            )
    return model


def _load_scheduler(directory: Path) -> FlowMatchEulerDiscreteScheduler:
    cls = FlowMatchEulerDiscreteScheduler
    config = _load_config(cls, directory, "scheduler")
    with _named_errors(directory):
        return cls.from_config(config)


def _load_config(cls: type, directory: Path, subfolder: str | None) -> dict[str, Any]:
    """A part's configuration, which must be of this class."""
    with _named_errors(directory):
        config = cls.load_config(directory, subfolder=subfolder, local_files_only=True)
        if (stated := config.get("_class_name", cls.__name__)) != cls.__name__:
            where = f"The {subfolder} of {directory.name}" if subfolder else directory.name
            raise CheckpointError(f"{where} is of the class {stated!r}; FLUX.1 has {cls.__name__}.")
    return config


@contextmanager
def _named_errors(directory: Path) -> Iterator[None]:
    """Turns what diffusers raises into a CheckpointError that names the folder."""
    try:
        yield
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, SafetensorError) as error:
        # The first sentence is enough; diffusers adds advice to programmers.
        reason = re.split(r"\. |\n", str(error))[0][:300] or type(error).__name__
        raise CheckpointError(
            f"{directory.name} cannot be loaded as a FLUX.1 model in diffusers layout: {reason}"
        ) from error

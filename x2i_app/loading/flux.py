"""FLUX.1 models: transformer, VAE and scheduler of a diffusers folder, or of one file and the model it came from."""

import re
from collections.abc import Iterator
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
from x2i_app.loading.download import Report
from x2i_app.loading.files import check_folder
from x2i_app.loading.flux_file import load_transformer_file
from x2i_app.loading.hub import Found, find_directory, find_file
from x2i_app.presets import FLUX_MODELS
from x2i_app.settings import ASSETS

# Of a FLUX.1 repository, what X2I needs: neither T5 (9 GiB), nor CLIP, nor the single-file copies of the weights.
_FILES = ["scheduler/*", "transformer/*", "vae/*"]
_BASE_FILES = ["scheduler/*", "transformer/config.json", "vae/*"]
_CONTROLNET_FILES = ["config.json", "*.safetensors", "*.safetensors.index.json"]

BASE = "shuttle-3-diffusion"  # all FLUX.1 models share one VAE; this one's licence lets everybody have it
# The schedule of the guidance-distilled FLUX.1-dev, whose fine-tunes come as single files without it.
_DEV_SCHEDULE = {"shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}

FluxModel = tuple[FluxTransformer2DModel, AutoencoderKL, FlowMatchEulerDiscreteScheduler]


@dataclass(frozen=True)
class FluxSource:
    """Where a FLUX model lies. found: a folder in diffusers layout, or a file with the transformer's weights alone.

    base: the folder that the VAE, the scheduler and the sizes a file does not tell come from.
    """

    found: Found
    base: Path


def find_flux(
    source: str | Path, base: str = BASE, models: str | Path | None = None, report: Report | None = None
) -> FluxSource:
    """Where a FLUX model is, downloaded if need be.

    source: a name of the registry, a folder in diffusers layout or a hub id of one; a .safetensors file, or a file on
    the hub such as owner/name/file.safetensors. base: the model, of the registry, that a file is a fine-tune of.
    Raises CheckpointError.
    """
    if str(source).lower().endswith(".gguf"):
        raise CheckpointError(
            f"{Path(source).name} is a GGUF file, and those are not read; take the same model as a .safetensors file "
            "in 16 or 8 bit: the memory profiles 16gb, 12gb and 8gb make 4 bit of it while it loads."
        )
    spec = FLUX_MODELS.get(str(source))
    if spec or not str(source).endswith(".safetensors"):
        found = _find_folder(str(source), _FILES, models, report)
        check_folder(found.path)
        return FluxSource(found, found.path)
    found = find_file(source, models, report)
    return FluxSource(found, _find_folder(base, _BASE_FILES, models, report).path)


@one_at_a_time
def load_flux(source: str | Path | FluxSource, dtype: torch.dtype, base: str = BASE) -> FluxModel:
    """Transformer, VAE and scheduler of a FLUX.1 model. source, base: as in `find_flux`. Raises CheckpointError."""
    if not isinstance(source, FluxSource):
        source = find_flux(source, base)
    scheduler = _load_scheduler(source.base)
    if source.found.path == source.base:
        transformer = _load_part(FluxTransformer2DModel, source.base, "transformer", dtype=dtype)
    else:
        config = _load_config(FluxTransformer2DModel, source.base, "transformer")
        transformer = load_transformer_file(source.found.path, config, dtype)
        if transformer.config.guidance_embeds and not config.get("guidance_embeds"):
            scheduler = FlowMatchEulerDiscreteScheduler(**_DEV_SCHEDULE)
    return transformer, _load_part(AutoencoderKL, source.base, "vae", dtype=dtype), scheduler


@one_at_a_time
def load_transformer(source: str | Path, dtype: torch.dtype, base: str = BASE) -> FluxTransformer2DModel:
    """The transformer of a FLUX.1 model alone, e.g. of Fill or Depth, for `X2IPipeline.drawing_pipeline`.

    source, base: as in `find_flux`. Raises CheckpointError.
    """
    found = find_flux(source, base)
    if found.found.path == found.base:
        return _load_part(FluxTransformer2DModel, found.base, "transformer", dtype=dtype)
    return load_transformer_file(
        found.found.path, _load_config(FluxTransformer2DModel, found.base, "transformer"), dtype
    )


@one_at_a_time
def load_controlnet(source: str | Path, dtype: torch.dtype) -> FluxControlNetModel:
    """A FLUX.1 ControlNet, for `X2IPipeline.drawing_pipeline`. source: a folder or a hub id. Raises CheckpointError."""
    directory = find_directory(source, None, _CONTROLNET_FILES).path
    check_folder(directory)
    return _load_part(FluxControlNetModel, directory, None, dtype=dtype)


def _find_folder(source: str, files: list[str], models: str | Path | None, report: Report | None) -> Found:
    spec = FLUX_MODELS.get(source)
    if spec is None:
        return find_directory(source, None, files, models, report)
    if spec.directory:
        return Found(ASSETS / spec.directory, "bundled")
    return find_directory(spec.repo_id, spec.revision, files, models, report)


def _load_part(cls: type[ModelMixin], directory: Path, subfolder: str | None, **options: Any) -> ModelMixin:
    where = f"The {subfolder} of {directory.name}" if subfolder else directory.name
    _load_config(cls, directory, subfolder)
    with _named_errors(directory):
        model, report = cls.from_pretrained(
            directory,
            subfolder=subfolder,
            local_files_only=True,
            use_safetensors=True,  # a pickle may hold code
            output_loading_info=True,
            **options,
        )
    for complaint, key in (("lacks", "missing_keys"), ("has no place for", "unexpected_keys")):
        if names := report[key]:
            raise CheckpointError(
                f"{where} {complaint} {len(names)} weights, among them {min(names)}; use the complete, original model."
            )
    return model


def _load_config(cls: type[ModelMixin], directory: Path, subfolder: str | None) -> dict[str, Any]:
    with _named_errors(directory):
        config = cls.load_config(directory, subfolder=subfolder, local_files_only=True)
        _check_class(cls, config, f"The {subfolder} of {directory.name}" if subfolder else directory.name)
    return config


def _load_scheduler(directory: Path) -> FlowMatchEulerDiscreteScheduler:
    cls = FlowMatchEulerDiscreteScheduler
    with _named_errors(directory):
        config = cls.load_config(directory, subfolder="scheduler", local_files_only=True)
        _check_class(cls, config, f"The scheduler of {directory.name}")
        return cls.from_config(config)


def _check_class(cls: type, config: dict[str, Any], where: str) -> None:
    if (stated := config.get("_class_name", cls.__name__)) != cls.__name__:
        raise CheckpointError(f"{where} is of the class {stated!r}; FLUX.1 has {cls.__name__}.")


@contextmanager
def _named_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, SafetensorError) as error:
        # The first sentence has it all; diffusers adds advice to programmers.
        reason = re.split(r"\. |\n", str(error))[0][:300] or type(error).__name__
        raise CheckpointError(
            f"{directory.name} cannot be loaded as a FLUX.1 model in diffusers layout: {reason}"
        ) from error

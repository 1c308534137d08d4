"""The frozen models of a training run, found by the names that the rest of the app knows them by."""

from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel

from x2i_app.encoders import MLLMEncoder, load_encoder
from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.loading.flux import BASE
from x2i_app.loading.hub import find_directory
from x2i_app.loading.sources import MLLM_FILES
from x2i_app.presets import FLUX_MODELS, get_family, get_preset
from x2i_app.settings import ASSETS, CUSTOM
from x2i_app.training.teacher import TeacherText

_TEXT_FILES = ["text_encoder/*", "text_encoder_2/*", "tokenizer/*", "tokenizer_2/*"]


def load_mllm(preset: str, mllm: str | Path | None, dtype: torch.dtype) -> MLLMEncoder:
    """The MLLM of a preset, or of `custom:FAMILY`, which needs `mllm`: a folder or a hub id. On the CPU.

    Raises X2IError's kinds.
    """
    if not preset.startswith(CUSTOM):
        spec = get_preset(preset)
        if mllm is None and spec.directory:
            mllm = ASSETS / spec.directory / "mllm"
        revision = None if mllm else spec.mllm.revision
        directory = find_directory(mllm or spec.mllm.repo_id, revision, MLLM_FILES).path
        return load_encoder(spec.mllm.family, directory, spec=spec.encoding, expected=spec.mllm, dtype=dtype)
    family = preset.removeprefix(CUSTOM)
    get_family(family)
    if mllm is None:
        raise InvalidRequestError(f"{preset} came without mllm; give the MLLM's folder or hub id.")
    return load_encoder(family, find_directory(mllm, None, MLLM_FILES).path, dtype=dtype)


def default_flux(preset: str) -> str:
    """The FLUX model of a preset. Raises InvalidRequestError for `custom:FAMILY`, which has none."""
    if preset.startswith(CUSTOM):
        raise InvalidRequestError(f"{preset} came without flux; give a FLUX.1 model: a name, a folder or a hub id.")
    return get_preset(preset).flux


def read_flux_config(flux: str | Path) -> dict[str, Any]:
    """A FLUX transformer's configuration, before its weights are read. Raises CheckpointError."""
    directory = _flux_directory(flux, ["transformer/config.json"])
    try:
        return FluxTransformer2DModel.load_config(directory, subfolder="transformer", local_files_only=True)
    except OSError as error:
        raise CheckpointError(
            f"{directory} holds no readable transformer/config.json; give a FLUX.1 model in diffusers layout."
        ) from error


def load_teacher(flux: str | Path, dtype: torch.dtype) -> TeacherText:
    """T5 and CLIP of a FLUX model: a folder, a name of the registry or a hub id. Raises CheckpointError."""
    return TeacherText.load(_flux_directory(flux, _TEXT_FILES), dtype)


def _flux_directory(flux: str | Path, patterns: list[str]) -> Path:
    if str(flux).endswith(".safetensors"):
        flux = BASE  # the file of a fine-tune: all FLUX.1 models read the same T5 and CLIP
    spec = FLUX_MODELS.get(str(flux))
    if spec is None:
        return find_directory(flux, None, patterns).path
    if spec.directory:
        return ASSETS / spec.directory
    return find_directory(spec.repo_id, spec.revision, patterns).path

"""What is wrong with the models of a run, said before the first large weight is read.

Names, shapes and sizes come from configurations and from the headers of files. Only AlignNet, LightControl and the VAE,
which are small, are read.
"""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel

from x2i_app.encoders import encoder_class
from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.loading.checkpoints import load_alignnet
from x2i_app.loading.flux import FluxSource, check_flux, find_flux
from x2i_app.loading.hub import find_directory
from x2i_app.loading.sources import MLLM_FILES, Sources
from x2i_app.models import AlignNet
from x2i_app.presets import get_preset
from x2i_app.settings import ASSETS, CUSTOM
from x2i_app.training.frozen import read_mllm_sizes


def check_drawing_model(flux: str | Path | FluxSource) -> tuple[FluxTransformer2DModel, AutoencoderKL]:
    """A FLUX model's transformer on the meta device, and its VAE.

    Raises CheckpointError for files that do not fit their configuration, and InvalidRequestError for a model that
    reads more than noisy latents: it is trained in another way.
    """
    source = flux if isinstance(flux, FluxSource) else find_flux(flux)
    transformer, vae = check_flux(source)
    channels, reads = vae.config.latent_channels, transformer.config.in_channels
    if reads != 4 * channels:
        raise InvalidRequestError(
            f"{source.found.path.name} reads {reads} channels, and its latents have {4 * channels}: it takes a mask or "
            "a control image beside them. Train over a model without, such as flux.1-dev, and use the result with it."
        )
    return transformer, vae


def check_readers(sources: Sources, transformer: FluxTransformer2DModel) -> None:
    """Check that MLLM, AlignNet and FLUX fit each other and their own files. Raises CheckpointError."""
    states, width = read_mllm_sizes(sources.preset, sources.mllm)
    align_net = load_alignnet(sources.alignnet, num_states=states, hidden_size=width)
    reads = transformer.config.joint_attention_dim, transformer.config.pooled_projection_dim
    check_widths(sources.alignnet, align_net, reads)
    check_mllm(sources.preset, sources.mllm)


def check_widths(path: Path, align_net: AlignNet, reads: tuple[int, int]) -> None:
    """Raise CheckpointError if an AlignNet of a file writes other widths than a FLUX transformer reads."""
    writes = align_net.config.joint_dim, align_net.config.pooled_dim
    if writes != reads:
        raise CheckpointError(
            f"{path.name} writes embeddings of width {writes[0]} and {writes[1]}, but FLUX reads {reads[0]} and "
            f"{reads[1]}; use the AlignNet of this FLUX model."
        )


def check_mllm(preset: str, mllm: str | Path | None) -> None:
    """Check the files of `frozen.load_mllm`'s MLLM. Raises CheckpointError."""
    spec = None if preset.startswith(CUSTOM) else get_preset(preset)
    family = spec.mllm.family if spec else preset.removeprefix(CUSTOM)
    revision = None
    if mllm is None and spec:
        bundled, revision = spec.directory, None if spec.directory else spec.mllm.revision
        mllm = ASSETS / bundled / "mllm" if bundled else spec.mllm.repo_id
    encoder_class(family).check_weights(find_directory(mllm, revision, MLLM_FILES).path)


def trained_bytes(module: torch.nn.Module) -> int:
    """Of the float32 weights that a module trains."""
    return 4 * sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)

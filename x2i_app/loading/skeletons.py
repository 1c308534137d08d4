"""The parts of a pipeline on the meta device: every size, no weight, nothing downloaded."""

from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from torch import nn

from x2i_app.encoders import encoder_class
from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.loading.released import FLUX_VAE, released_config
from x2i_app.models import AlignNet
from x2i_app.presets import FLUX_MODELS, get_family, get_preset
from x2i_app.settings import ASSETS, CUSTOM
from x2i_app.specs import Preset


class Parts(NamedTuple):
    """The modules of a pipeline that hold weights."""

    mllm: nn.Module
    align_net: AlignNet
    transformer: FluxTransformer2DModel
    vae: AutoencoderKL


def build_skeleton(
    preset: str,
    mllm: str | Path | None = None,
    flux: str | Path | None = None,
    dtype: torch.dtype = torch.bfloat16,
) -> Parts:
    """What `load_pipeline` would load, on the meta device; the arguments are as there.

    The sizes of released models are known; of parts of one's own they are read from config.json, so those must be
    folders here. Raises InvalidRequestError for a part that is neither, CheckpointError for an unreadable folder.
    """
    spec = None if preset.startswith(CUSTOM) else get_preset(preset)
    flux = flux or (spec and spec.flux)
    if not flux or not (spec or mllm):
        raise InvalidRequestError(f"{preset} came without {'mllm' if flux else 'flux'}; give the folders of both.")
    with torch.device("meta"):
        model = _build_mllm(preset, spec, mllm)
        transformer, vae = _build_flux(flux)
        text = model.config.get_text_config()
        align_net = AlignNet(
            num_states=text.num_hidden_layers + 1,
            hidden_size=text.hidden_size,
            fusion=spec.align_net.fusion if spec else "conv",
            joint_dim=transformer.config.joint_attention_dim,
            pooled_dim=transformer.config.pooled_projection_dim,
        )
    return Parts(*(_cast(part, dtype) for part in (model, align_net, transformer, vae)))


def _build_mllm(preset: str, spec: Preset | None, mllm: str | Path | None) -> nn.Module:
    family = spec.mllm.family if spec else preset.removeprefix(CUSTOM)
    get_family(family)
    cls = encoder_class(family)
    if spec and spec.directory:
        mllm = mllm or ASSETS / spec.directory / "mllm"
    config = cls._read_config(_folder(mllm, "mllm")) if mllm else released_config(spec.mllm)
    answers = spec is not None and spec.encoding.states != "prompt"  # then the head is always there
    return (cls.answering_class if answers else cls.base_class)(config)


def _build_flux(flux: str | Path) -> tuple[FluxTransformer2DModel, AutoencoderKL]:
    known = {key: spec for spec in FLUX_MODELS.values() for key in (spec.name, spec.repo_id) if key}
    spec = known.get(str(flux))
    if spec and not spec.directory:
        return FluxTransformer2DModel(guidance_embeds=spec.guidance_embeds), AutoencoderKL(**FLUX_VAE)
    directory = ASSETS / spec.directory if spec else _folder(flux, "flux")
    built = []
    for cls, subfolder in ((FluxTransformer2DModel, "transformer"), (AutoencoderKL, "vae")):
        try:
            config = cls.load_config(directory, subfolder=subfolder, local_files_only=True)
            built.append(cls.from_config(config))
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{directory.name} has no readable {subfolder}/config.json; give a FLUX.1 model in diffusers layout."
            ) from error
    return tuple(built)


def _folder(source: str | Path, name: str) -> Path:
    if not Path(source).is_dir():
        raise InvalidRequestError(
            f"{name} is {str(source)!r}, whose sizes are not known before it is downloaded; "
            "give a folder, or a name of the registry."
        )
    return Path(source)


def skeleton_of(parts: Parts) -> Parts:
    """The same parts, not quantised, on the meta device."""
    with torch.device("meta"):
        twins = (
            type(parts.mllm)(parts.mllm.config),
            *(type(part).from_config(part.config) for part in parts[1:]),
        )
    return Parts(*(_cast(twin, part.dtype) for twin, part in zip(twins, parts, strict=True)))


def _cast(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    # As nn.Module does it: diffusers' own `to` warns of layers that must stay in float32, of which FLUX has none.
    return nn.Module.to(module, dtype).eval().requires_grad_(False)

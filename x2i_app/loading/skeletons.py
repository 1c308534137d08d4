"""The parts of a pipeline on the meta device: every size, no weight, nothing downloaded."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel, ModelMixin
from torch import nn

from x2i_app.encoders import encoder_class
from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.load_lock import one_at_a_time
from x2i_app.loading.control import load_light_control
from x2i_app.loading.files import check_config
from x2i_app.loading.flux import BASE, FluxSource
from x2i_app.loading.flux_file import read_sizes
from x2i_app.loading.hub import is_there
from x2i_app.loading.released import FLUX_VAE, released_config
from x2i_app.models import AlignNet, LightControl
from x2i_app.presets import get_family, get_preset, known_flux
from x2i_app.settings import ASSETS, CUSTOM
from x2i_app.specs import Preset


class Parts(NamedTuple):
    """The modules of a pipeline that hold weights. light_control: None where there is none."""

    mllm: nn.Module
    align_net: AlignNet
    transformer: FluxTransformer2DModel
    vae: AutoencoderKL
    light_control: LightControl | None = None

    @property
    def there(self) -> dict[str, nn.Module]:
        """Those that there are, by name."""
        return {name: part for name, part in self._asdict().items() if part is not None}


@one_at_a_time
def build_skeleton(
    preset: str,
    mllm: str | Path | None = None,
    flux: str | Path | FluxSource | None = None,
    dtype: torch.dtype = torch.bfloat16,
    light_control: str | Path | None = None,
) -> Parts:
    """What `load_pipeline` would load, on the meta device; the arguments are as there.

    The sizes of released models are known; of parts of one's own they are read from config.json, or from the header of
    a file, so those must be here. flux: also what `find_flux` found. A LightControl that is not here is taken for one
    of the published sizes.
    Raises InvalidRequestError for a part that is neither, CheckpointError for an unreadable folder.
    """
    spec = None if preset.startswith(CUSTOM) else get_preset(preset)
    own_flux, flux = flux, flux or (spec and spec.flux)
    if not flux or not (spec or mllm):
        raise InvalidRequestError(f"{preset} came without {'mllm' if flux else 'flux'}; give the folders of both.")
    with torch.device("meta"):
        model = _build_mllm(preset, spec, mllm)
        transformer, vae = _build_flux(flux, spec)
        text = model.config.get_text_config()
        align_net = AlignNet(
            num_states=text.num_hidden_layers + 1,
            hidden_size=text.hidden_size,
            fusion=spec.align_net.fusion if spec else "conv",
            joint_dim=transformer.config.joint_attention_dim,
            pooled_dim=transformer.config.pooled_projection_dim,
        )
        control = _build_light_control(None if own_flux else spec, light_control)
    return Parts(*(part and _cast(part, dtype) for part in (model, align_net, transformer, vae, control)))


def _build_mllm(preset: str, spec: Preset | None, mllm: str | Path | None) -> nn.Module:
    family = spec.mllm.family if spec else preset.removeprefix(CUSTOM)
    get_family(family)
    cls = encoder_class(family)
    if spec and spec.directory:
        mllm = mllm or ASSETS / spec.directory / "mllm"
    if mllm:
        check_config(_folder(mllm, "mllm") / "config.json")
    config = cls._read_config(_folder(mllm, "mllm")) if mllm else released_config(spec.mllm)
    answers = spec is not None and spec.encoding.states != "prompt"  # then the head is always there
    return (cls.answering_class if answers else cls.base_class)(config)


def _build_flux(flux: str | Path | FluxSource, preset: Preset | None) -> tuple[FluxTransformer2DModel, AutoencoderKL]:
    """preset: whose FLUX model a file is taken for a fine-tune of."""
    known, file, folder = known_flux(flux), None, None
    if isinstance(flux, FluxSource):
        file, folder = (None if flux.found.path == flux.base else flux.found.path), flux.base
    elif str(flux).endswith(".safetensors") and is_there(flux, Path.is_file):
        file, known = Path(flux), known_flux(preset.flux if preset else BASE)
    if folder is None and known:
        folder = ASSETS / known.directory if known.directory else None
    elif folder is None:
        folder = _folder(flux, "flux")
    if folder is None:
        config, vae_config = {"guidance_embeds": known.guidance_embeds}, FLUX_VAE
    else:
        config = _read_config(FluxTransformer2DModel, folder, "transformer")
        vae_config = _read_config(AutoencoderKL, folder, "vae")
    if file:
        config = dict(config) | read_sizes(file)
    try:
        return FluxTransformer2DModel.from_config(config), AutoencoderKL.from_config(vae_config)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"The sizes of {Path(file or folder).name} make no FLUX.1 model ({error}).") from error


def _read_config(cls: type[ModelMixin], directory: Path, subfolder: str) -> dict[str, Any]:
    check_config(directory / subfolder / "config.json")
    try:
        return cls.load_config(directory, subfolder=subfolder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{directory.name} has no readable {subfolder}/config.json; give a FLUX.1 model in diffusers layout."
        ) from error


def _build_light_control(spec: Preset | None, light_control: str | Path | None) -> LightControl | None:
    """spec: of the preset, if FLUX is its own, which its LightControl is trained for."""
    if light_control is None and spec and spec.light_control:
        light_control = ASSETS / spec.directory / spec.light_control
    if light_control is None:
        return None
    if not is_there(light_control, Path.exists):
        return LightControl()
    with torch.device("cpu"):
        config = load_light_control(light_control).config
    return LightControl.from_config(config)


def _folder(source: str | Path, name: str) -> Path:
    if not Path(source).is_dir():
        raise InvalidRequestError(
            f"{name} is {str(source)!r}, whose sizes are not known before it is downloaded; "
            "give a folder, or a name of the registry."
        )
    return Path(source)


@one_at_a_time
def skeleton_of(parts: Parts) -> Parts:
    """The same parts, not quantised, on the meta device."""
    with torch.device("meta"):
        twins = {name: type(part).from_config(part.config) for name, part in parts.there.items() if name != "mllm"}
        twins["mllm"] = type(parts.mllm)(parts.mllm.config)
    return Parts(**{name: _cast(twin, getattr(parts, name).dtype) for name, twin in twins.items()})


def _cast(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    # As nn.Module does it: diffusers' own `to` warns of layers that must stay in float32, of which FLUX has none.
    return nn.Module.to(module, dtype).eval().requires_grad_(False)

"""The parts of a pipeline on the meta device, and the memory that they need while they run: no weights are read."""

import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKL, FluxControlNetModel, FluxTransformer2DModel, ModelMixin
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from x2i_app.encoders import encoder_class
from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.load_lock import one_at_a_time
from x2i_app.loading.checkpoints import load_light_control
from x2i_app.loading.files import check_config, is_weight_file
from x2i_app.loading.flux import BASE, FluxSource
from x2i_app.loading.flux_file import build_skeleton_of_file, build_transformer
from x2i_app.loading.hub import path_exists
from x2i_app.loading.mllm_configs import FLUX_VAE, released_config
from x2i_app.loading.quantization import copy_gguf_layers
from x2i_app.models import AlignNet, LightControl
from x2i_app.presets import get_family, get_preset, known_flux
from x2i_app.settings import ASSETS, CUSTOM
from x2i_app.specs import Preset

_PUBLISHED_BLOCKS = (5, 10)  # double and single blocks of InstantX's ControlNets, the largest ones


class Parts(NamedTuple):
    """The modules of a pipeline that hold weights. light_control, controlnet: None without one."""

    mllm: nn.Module
    align_net: AlignNet
    transformer: FluxTransformer2DModel
    vae: AutoencoderKL
    light_control: LightControl | None = None
    controlnet: FluxControlNetModel | None = None

    @property
    def present(self) -> dict[str, nn.Module]:
        """Parts that are not None, by name."""
        return {name: part for name, part in self._asdict().items() if part is not None}


# ----- Skeletons: modules on the meta device -------------------------------------------------------------------------


@one_at_a_time
def build_skeleton(
    preset: str,
    mllm: str | Path | None = None,
    flux: str | Path | FluxSource | None = None,
    dtype: torch.dtype = torch.bfloat16,
    light_control: str | Path | None = None,
    controlnet: str | Path | None = None,
) -> Parts:
    """What `load_pipeline` would load, on the meta device; the arguments are as there.

    The sizes of released models are known. Those of other parts are read from config.json or from a file's header, so
    these must be on this machine. flux: also what `find_flux` returned. A LightControl or a ControlNet that is not on
    this machine is assumed to have the published sizes.
    Raises InvalidRequestError for a part of unknown sizes, CheckpointError for a folder or file that cannot be read.
    """
    spec = None if preset.startswith(CUSTOM) else get_preset(preset)
    given_flux, flux = flux, flux or (spec and spec.flux)
    if not flux or not (spec or mllm):
        raise InvalidRequestError(f"{preset} came without {'mllm' if flux else 'flux'}; give the folders of both.")
    with torch.device("meta"):
        model = _build_mllm(preset, spec, mllm)
        transformer, vae = _build_flux(flux, spec, dtype)
        text = model.config.get_text_config()
        align_net = AlignNet(
            num_states=text.num_hidden_layers + 1,
            hidden_size=text.hidden_size,
            fusion=spec.align_net.fusion if spec else "conv",
            joint_dim=transformer.config.joint_attention_dim,
            pooled_dim=transformer.config.pooled_projection_dim,
        )
        control = _build_light_control(None if given_flux else spec, light_control)
        steered = _build_controlnet(controlnet, transformer) if controlnet else None
    return Parts(*(part and _cast(part, dtype) for part in (model, align_net, transformer, vae, control, steered)))


@one_at_a_time
def skeleton_of(parts: Parts) -> Parts:
    """The same parts on the meta device, not quantized."""
    with torch.device("meta"):
        twins = {name: type(part).from_config(part.config) for name, part in parts.present.items() if name != "mllm"}
        twins["mllm"] = type(parts.mllm)(parts.mllm.config)
        copy_gguf_layers(parts.transformer, twins["transformer"])
    return Parts(**{name: _cast(twin, getattr(parts, name).dtype) for name, twin in twins.items()})


def _build_mllm(preset: str, spec: Preset | None, mllm: str | Path | None) -> nn.Module:
    family = spec.mllm.family if spec else preset.removeprefix(CUSTOM)
    get_family(family)
    cls = encoder_class(family)
    if spec and spec.directory:
        mllm = mllm or ASSETS / spec.directory / "mllm"
    if mllm:
        check_config(_folder(mllm, "mllm") / "config.json")
    config = cls._read_config(_folder(mllm, "mllm")) if mllm else released_config(spec.mllm)
    needs_head = spec is not None and spec.encoding.states != "prompt"
    return (cls.answering_class if needs_head else cls.base_class)(config)


def _build_flux(
    flux: str | Path | FluxSource, preset: Preset | None, dtype: torch.dtype
) -> tuple[FluxTransformer2DModel, AutoencoderKL]:
    """preset: whose FLUX model a single file is assumed to be a fine-tune of."""
    known, file, folder = known_flux(flux), None, None
    if isinstance(flux, FluxSource):
        file, folder = flux.file, flux.base
    elif is_weight_file(flux) and path_exists(flux, Path.is_file):
        file, known = Path(flux), known_flux(preset.flux if preset else BASE)
    if folder is None and known:
        folder = ASSETS / known.directory if known.directory else None
    elif folder is None:
        folder = _folder(flux, "flux")
    if folder is None:
        config, vae_config = {"guidance_embeds": known.guidance_embeds}, FLUX_VAE
        if known.needs_mask:
            config |= {"in_channels": 384, "out_channels": 64}
    else:
        config = _read_config(FluxTransformer2DModel, folder, "transformer")
        vae_config = _read_config(AutoencoderKL, folder, "vae")
    if file:
        transformer = build_skeleton_of_file(file, config, dtype)
    else:
        transformer = build_transformer(folder or Path(known.name), config, {})
    try:
        return transformer, AutoencoderKL.from_config(vae_config)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"The sizes of the vae of {folder.name} make no VAE of FLUX.1 ({error}).") from error


def _read_config(cls: type[ModelMixin], directory: Path, subfolder: str) -> dict[str, Any]:
    check_config(directory / subfolder / "config.json")
    try:
        return cls.load_config(directory, subfolder=subfolder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{directory.name} has no readable {subfolder}/config.json; give a FLUX.1 model in diffusers layout."
        ) from error


def _build_light_control(spec: Preset | None, light_control: str | Path | None) -> LightControl | None:
    """spec: the preset, if FLUX is its own; its LightControl is trained for that."""
    if light_control is None and spec and spec.light_control:
        light_control = ASSETS / spec.directory / spec.light_control
    if light_control is None:
        return None
    if not path_exists(light_control, Path.exists):
        return LightControl()
    with torch.device("cpu"):
        config = load_light_control(light_control).config
    return LightControl.from_config(config)


def _build_controlnet(source: str | Path, transformer: FluxTransformer2DModel) -> FluxControlNetModel:
    if path_exists(source, Path.is_dir):
        check_config(Path(source) / "config.json")
        try:
            return FluxControlNetModel.from_config(FluxControlNetModel.load_config(source, local_files_only=True))
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"{Path(source).name} has no readable config.json of a FLUX.1 ControlNet.") from error
    names = ("in_channels", "attention_head_dim", "num_attention_heads", "joint_attention_dim", "pooled_projection_dim")
    sizes = {name: transformer.config[name] for name in (*names, "guidance_embeds", "axes_dims_rope")}
    return FluxControlNetModel(**sizes, num_layers=_PUBLISHED_BLOCKS[0], num_single_layers=_PUBLISHED_BLOCKS[1])


def _folder(source: str | Path, name: str) -> Path:
    if not Path(source).is_dir():
        raise InvalidRequestError(
            f"{name} is {str(source)!r}, whose sizes are not known before it is downloaded; "
            "give a folder, or a name of the registry."
        )
    return Path(source)


def _cast(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    # nn.Module's own `to`: diffusers' warns about modules that must stay in float32, which these do not have.
    return nn.Module.to(module, dtype).eval().requires_grad_(False)


# ----- Memory of a computation ---------------------------------------------------------------------------------------


def peak_bytes(compute: Callable[[], Any], modules: Iterable[torch.nn.Module]) -> int:
    """The most bytes of tensors that are alive at once while `compute` runs on the meta device, with its inputs.

    modules: their weights are not counted. Attention is counted as a fused kernel runs it, which never holds the matrix
    of tokens by tokens. Memory that a library takes outside of tensors is not counted.
    """
    with LiveBytes(modules) as live, FusedAttention():
        compute()
    return live.peak


class LiveBytes(TorchDispatchMode):
    """While active, `now` and `peak` are the bytes of the storages that operations created and that are not freed."""

    def __init__(self, modules: Iterable[torch.nn.Module]):
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, int] = {}
        for module in modules:
            for tensor in (*module.parameters(), *module.buffers()):
                self._known[tensor.untyped_storage()._cdata] = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return output

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._known:
            return
        self._known[storage._cdata] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, storage._cdata)

    def _forget(self, key: int) -> None:
        self.now -= self._known.pop(key)


class FusedAttention(TorchFunctionMode):
    """Attention on the meta device with FlashAttention's memory: the output, and its inputs for the backward pass."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is scaled_dot_product_attention:
            names = ("query", "key", "value")[len(args) :]
            return _Fused.apply(*args[:3], *((kwargs or {})[name] for name in names))
        return func(*args, **(kwargs or {}))


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value):
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, output)
        return output

    @staticmethod
    def backward(ctx, gradient):
        return tuple(map(torch.empty_like, ctx.saved_tensors[:3]))

"""A FLUX model in diffusers' form as ComfyUI's own, whatever its sizes.

ComfyUI's loaders expect FLUX.1's widths; those of x2i-tiny are smaller. Released models need none of this: load them
with ComfyUI's nodes, or with ComfyUI-GGUF.
"""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel

from x2i_app.loading.flux import find_flux, load_flux
from x2i_app.loading.flux_names import BLOCKS, SWAPPED, TOP
from x2i_app.presets import PRESETS


def load_flux_for_comfyui(preset: str, path: str | None = None) -> tuple[Any, Any]:
    """ComfyUI's MODEL and VAE of a preset's FLUX model, or of a folder. Raises X2IError."""
    own = PRESETS[preset].flux
    source = find_flux(path or own, own, None, lambda progress: None)
    transformer, vae, _ = load_flux(source, torch.float32)
    return as_model(transformer, vae), as_vae(vae)


def as_model(transformer: FluxTransformer2DModel, vae: AutoencoderKL) -> Any:
    """The transformer as ComfyUI's MODEL. vae: says how its latents are scaled."""
    from comfy import model_detection, model_management, supported_models
    from comfy.model_patcher import ModelPatcher

    config = transformer.config
    weights = original_names(transformer.state_dict())
    kind = supported_models.Flux if config.guidance_embeds else supported_models.FluxSchnell
    # ComfyUI finds in the weights what its version needs to know. These sizes it takes for FLUX.1's.
    sizes = {
        "out_channels": (config.out_channels or config.in_channels) // 4,
        "context_in_dim": config.joint_attention_dim,
        "hidden_size": config.num_attention_heads * config.attention_head_dim,
        "num_heads": config.num_attention_heads,
        "axes_dim": list(config.axes_dims_rope),
    }
    model_config = kind(model_detection.detect_unet_config(weights, "") | sizes)
    model_config.latent_format.scale_factor = vae.config.scaling_factor
    model_config.latent_format.shift_factor = vae.config.shift_factor
    device, waiting = model_management.get_torch_device(), model_management.unet_offload_device()
    model_config.set_inference_dtype(torch.float32 if device.type == "cpu" else torch.bfloat16, None)
    model = model_config.get_model({}, device=waiting)
    model.load_model_weights(weights)
    return ModelPatcher(model.to(waiting), load_device=device, offload_device=waiting)


class _DiffusersVae(torch.nn.Module):
    """diffusers' VAE with the methods of ComfyUI's, whose layers expect FLUX.1's widths."""

    def __init__(self, vae: AutoencoderKL):
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> latents, not scaled."""
        return self.vae.encode(pixels).latent_dist.mode()

    def decode(self, latents: torch.Tensor, **_: Any) -> torch.Tensor:
        """The inverse of `encode`."""
        return self.vae.decode(latents).sample


def as_vae(vae: AutoencoderKL) -> Any:
    """diffusers' VAE as ComfyUI's."""
    from comfy.ldm.models.autoencoder import AutoencoderKL as ComfyVae
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE

    # ComfyUI recognizes a VAE by its weights. So it gets a small one of its own kind, which is then replaced.
    sizes = {"double_z": True, "z_channels": 16, "resolution": 256, "in_channels": 3, "out_ch": 3, "dropout": 0.0}
    sizes |= {"ch": 32, "ch_mult": [1], "num_res_blocks": 1, "attn_resolutions": []}
    params = {"ddconfig": sizes, "embed_dim": vae.config.latent_channels}
    converted = VAE(sd=ComfyVae(**params).state_dict(), config={"params": params})
    converted.latent_channels = vae.config.latent_channels
    converted.first_stage_model = _DiffusersVae(vae).to(converted.vae_dtype)
    devices = {"load_device": converted.patcher.load_device, "offload_device": converted.patcher.offload_device}
    converted.patcher = ModelPatcher(converted.first_stage_model, **devices)
    return converted


def original_names(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A transformer's weights under Black Forest Labs' names, which ComfyUI uses too."""
    layers = dict(TOP)
    for theirs_list, (ours_list, names) in BLOCKS.items():
        count = 1 + max(int(key.split(".")[1]) for key in weights if key.startswith(f"{ours_list}."))
        for block in range(count):
            for theirs, ours in names.items():
                layers[f"{theirs_list}.{block}.{theirs}"] = tuple(f"{ours_list}.{block}.{name}" for name in ours)
    found: dict[str, torch.Tensor] = {}
    for theirs, ours in layers.items():
        for kind in ("weight", "bias"):
            parts = [weights[f"{name}.{kind}"] for name in ours if f"{name}.{kind}" in weights]
            if not parts:
                continue
            value = torch.cat(parts) if len(parts) > 1 else parts[0]
            if theirs == SWAPPED:
                value = torch.cat(value.chunk(2)[::-1])
            found[f"{theirs}.{'scale' if theirs.endswith('_norm') else kind}"] = value
    return found

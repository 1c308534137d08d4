"""A LoRA learns a style or a thing from few pictures; the transformer's own weights stay as they are.

Flow matching over AlignNet's words: text, or text with a source picture, exactly as X2I will be asked. Source: arXiv
2503.06134, section 4, and diffusers' recipe for FLUX.1.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from diffusers import FluxTransformer2DModel
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from diffusers.training_utils import cast_training_params
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import Dataset

from x2i_app.training.flow import FlowMatching
from x2i_app.training.loop import Evaluate, LoopOptions, train

_NAME = "trained"
TARGETS = (
    *(f"attn.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")),
    *(f"attn.{name}" for name in ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")),
    *("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2", "proj_mlp"),
)


class _Weights(nn.Module):
    """The LoRA's matrices alone, so that checkpoints hold nothing else; its forward pass is the whole loss."""

    def __init__(self, transformer: FluxTransformer2DModel, flow: FlowMatching):
        super().__init__()
        trained = {name.replace(".", "/"): p for name, p in transformer.named_parameters() if p.requires_grad}
        self.matrices = nn.ParameterDict(trained)
        self.flow = flow

    def forward(self, latents: torch.Tensor, prompt_embeds: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        return self.flow(latents, prompt_embeds, pooled)


def train_lora(
    transformer: FluxTransformer2DModel,
    scheduler_config: dict[str, Any],
    data: Dataset,
    directory: Path,
    options: LoopOptions,
    *,
    rank: int = 16,
    alpha: float | None = None,
    targets: Sequence[str] = TARGETS,
    about: dict[str, str] | None = None,
    evaluate: Evaluate | None = None,
) -> Path:
    """Train a LoRA, resumably, and write it as `lora.safetensors` into `directory`; the transformer comes out bare.

    data[step]: prompt_embeds (B, S, joint), pooled (B, pooled) and latents (B, C, H/8, W/8). rank, alpha: of the low
    rank matrices; alpha None is the rank. targets: ends of the names of the layers that get some. about: more metadata
    for the file. `evaluate` and errors as of `train`.
    """
    transformer.requires_grad_(False).eval()
    config = LoraConfig(r=rank, lora_alpha=alpha or rank, target_modules=list(targets), init_lora_weights="gaussian")
    torch.manual_seed(options.seed)
    transformer.add_adapter(config, _NAME)
    try:
        cast_training_params(transformer)  # small steps vanish in bfloat16
        weights = _Weights(transformer, FlowMatching(transformer, scheduler_config))

        def compute_loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            names = ("latents", "prompt_embeds", "pooled")
            return {"flow": model(*(batch[name].to(transformer.device) for name in names))}

        train(weights, data, compute_loss, directory, options, title="LoRA", evaluate=evaluate)
        path = directory / "lora.safetensors"
        if PartialState().is_main_process:  # several would take the file out of each other's hands
            _save(transformer, config, path, about or {})
        PartialState().wait_for_everyone()
    finally:
        transformer.unload_lora()
    return path


def _save(transformer: FluxTransformer2DModel, config: LoraConfig, path: Path, about: dict[str, str]) -> None:
    """In diffusers' form, with the names that https://github.com/Stability-AI/ModelSpec gives its metadata."""
    matrices = get_peft_model_state_dict(transformer, adapter_name=_NAME)
    weights = {f"transformer.{name}": value.to("cpu", torch.bfloat16).contiguous() for name, value in matrices.items()}
    settings = {f"transformer.{k}": sorted(v) if isinstance(v, set) else v for k, v in config.to_dict().items()}
    metadata = {
        "format": "pt",
        LORA_ADAPTER_METADATA_KEY: json.dumps(settings, sort_keys=True, default=str),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "flux-1/lora",
        "modelspec.title": path.parent.name,
        **about,
    }
    temporary = path.with_suffix(".tmp")
    save_file(weights, temporary, metadata=metadata)
    temporary.replace(path)

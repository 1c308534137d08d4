"""`train lora`: a LoRA learns a style or a subject from a few images; FLUX's own weights stay as they are.

Flow matching with AlignNet's embeddings of a caption, or of a caption and a source image, as X2I will read them.
Source: arXiv 2503.06134, section 4, and diffusers' recipe for FLUX.1.
"""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import PartialState
from diffusers import FluxTransformer2DModel
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from diffusers.training_utils import cast_training_params
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import Dataset

from x2i_app.limits import Range, validate_integer
from x2i_app.training.frozen import FluxParts
from x2i_app.training.job import ImageJob
from x2i_app.training.loop import Evaluate, LoopOptions, train
from x2i_app.training.losses import FlowMatching

_ADAPTER = "trained"
TARGETS = (
    *(f"attn.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")),
    *(f"attn.{name}" for name in ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")),
    *("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2", "proj_mlp"),
)


@dataclass(frozen=True, kw_only=True)
class LoRAJob(ImageJob):
    """Train a LoRA for FLUX.1 under X2I: a style or a subject from a few images with captions, or edits of images."""

    rank: int = 16
    """rank of its matrices"""
    alpha: float | None = None
    """it is scaled by alpha / rank; none: the rank"""
    targets: tuple[str, ...] = TARGETS
    """ends of the names of the layers that get matrices"""
    loop: LoopOptions = field(
        default_factory=lambda: LoopOptions(steps=1000, learning_rate=1e-4, warmup_steps=20, ema_decay=None)
    )
    """how to train"""

    def __post_init__(self):
        super().__post_init__()
        validate_integer("rank", self.rank, Range(1, 4096))

    def run(self) -> Path:
        """Train, or continue a run; the LoRA's file, which `--lora` takes."""
        # 1. Images, and what FLUX reads for each of them. One large model is in memory at a time.
        images = self.read_images(with_source=False)
        conditioning = self.encode_conditioning(images)

        # 2. FLUX, and the batches
        flux = self.load_flux()
        batches = self.make_batches(images, conditioning, flux)

        # 3. Train the LoRA and save it
        def conditioner(trained: nn.Module | None, _: Image.Image | None) -> AbstractContextManager[None]:
            return nullcontext() if trained else _without_adapters(flux.transformer)

        samples = self.make_samples(flux, batches, "LoRA", conditioner)
        about = {
            "x2i.preset": self.preset,
            "x2i.samples": str(len(images)),
            "x2i.steps": str(self.loop.steps),
            "modelspec.resolution": f"{self.resolution}x{self.resolution}",
        }
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha or self.rank,
            target_modules=list(self.targets),
            init_lora_weights="gaussian",
        )
        return train_lora(config, flux, batches, self.output, self.loop, about=about, evaluate=samples)


def train_lora(
    config: LoraConfig,
    flux: FluxParts,
    batches: Dataset,
    directory: Path,
    options: LoopOptions,
    *,
    about: dict[str, str] | None = None,
    evaluate: Evaluate | None = None,
) -> Path:
    """Train a LoRA, resumably, and write it as `lora.safetensors` to `directory`; FLUX is left without it.

    batches[step]: prompt_embeds (B, S, joint), pooled (B, pooled) and latents (B, C, H/8, W/8). about: more metadata
    for the file. `evaluate` and errors as of `train`.
    """
    transformer = flux.transformer.requires_grad_(False).eval()
    torch.manual_seed(options.seed)
    transformer.add_adapter(config, _ADAPTER)
    try:
        cast_training_params(transformer)  # small steps vanish in bfloat16
        weights = _LoRAWeights(transformer, FlowMatching(transformer, dict(flux.scheduler.config)))

        def compute_loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            names = ("latents", "prompt_embeds", "pooled")
            return {"flow": model(*(batch[name].to(transformer.device) for name in names))}

        train(weights, batches, compute_loss, directory, options, title="LoRA", evaluate=evaluate)
        path = directory / "lora.safetensors"
        if PartialState().is_main_process:  # several processes would move each other's temporary file
            _save(transformer, config, path, about or {})
        PartialState().wait_for_everyone()
    finally:
        transformer.unload_lora()
    return path


class _LoRAWeights(nn.Module):
    """Only the LoRA's matrices, so that checkpoints hold nothing else; its forward pass is the whole loss."""

    def __init__(self, transformer: FluxTransformer2DModel, flow_matching: FlowMatching):
        super().__init__()
        trained = {name.replace(".", "/"): p for name, p in transformer.named_parameters() if p.requires_grad}
        self.matrices = nn.ParameterDict(trained)
        self.flow_matching = flow_matching

    def forward(self, latents: torch.Tensor, prompt_embeds: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        return self.flow_matching(latents, prompt_embeds, pooled)


def _save(transformer: FluxTransformer2DModel, config: LoraConfig, path: Path, about: dict[str, str]) -> None:
    """In diffusers' form, with metadata as https://github.com/Stability-AI/ModelSpec names it."""
    matrices = get_peft_model_state_dict(transformer, adapter_name=_ADAPTER)
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


@contextmanager
def _without_adapters(transformer: FluxTransformer2DModel) -> Iterator[None]:
    transformer.disable_adapters()
    try:
        yield
    finally:
        transformer.enable_adapters()

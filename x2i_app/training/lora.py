"""`train lora`: a LoRA learns a style or a subject from a few images; FLUX's own weights stay as they are.

Flow matching with AlignNet's embeddings of a caption, or of a caption and a source image, as X2I will read them.
Source: arXiv 2503.06134, section 4, and diffusers' recipe for FLUX.1.
"""

import json
import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

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

from x2i_app.errors import InvalidRequestError
from x2i_app.limits import Range, clean_numbers
from x2i_app.loading.sizes import build_skeleton
from x2i_app.presets import is_kontext
from x2i_app.request import validate_text
from x2i_app.training.batches import ImageBatches
from x2i_app.training.frozen import FluxParts
from x2i_app.training.image_data import TrainingImage
from x2i_app.training.job import ImageJob
from x2i_app.training.loop import Evaluate, LoopOptions, train
from x2i_app.training.losses import FlowMatching, mean_over_groups
from x2i_app.training.preflight import trained_bytes

_ADAPTER = "trained"
# Samples of a run without --steps: so many passes over the images, within limits, as public recipes for FLUX.1 have it.
_PASSES, _FEWEST_SAMPLES, _MOST_SAMPLES = 100, 1000, 6000
HELD_OUT, _DRAWS = "held_out", 8  # draws of noise for each held-out image
TARGETS = (
    *(f"attn.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")),
    *(f"attn.{name}" for name in ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")),
    *("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2", "proj_mlp", "proj_out"),
)

_INTEGERS = {"rank": Range(1, 4096), "holdout": Range(0, 1000)}
_NUMBERS = {"alpha": Range(0.01, 65536), "caption_dropout": Range(0, 1)}


@dataclass(frozen=True, kw_only=True)
class LoRAJob(ImageJob):
    """Train a LoRA for FLUX.1 under X2I: a style or a subject from a few images with captions, or edits of images."""

    kontext: bool | None = None
    """whether FLUX is a FLUX.1 Kontext, which learns edits from pairs; none: its name says so"""
    trigger: str = ""
    """word that stands for the style or the subject; it is put in front of captions that lack it"""
    caption_dropout: float = 0.1
    """share of the samples whose caption is the trigger word alone, so that it learns the style; needs a trigger"""
    buckets: bool = True
    """keep the images' shapes, up to 2 : 1, in sizes of about the resolution's area; else their middle squares"""
    holdout: int | None = None
    """images that are not learnt and show when to stop; none: one in ten, if there are ten"""
    sample_prompts: tuple[str, ...] = ()
    """prompts of the sample images; none: the first captions"""
    rank: int = 16
    """rank of its matrices"""
    alpha: float | None = None
    """it is scaled by alpha / rank; none: the rank"""
    targets: tuple[str, ...] = TARGETS
    """ends of the names of the layers that get matrices"""
    loop: LoopOptions = field(
        default_factory=lambda: LoopOptions(
            steps=None,
            learning_rate=None,
            warmup_steps=20,
            decay="cosine",
            decay_share=1.0,
            ema_decay=None,
            evaluate_every=None,
        )
    )
    """how to train"""

    def __post_init__(self):
        super().__post_init__()
        clean_numbers(self, _INTEGERS, _NUMBERS)
        validate_text("trigger", self.trigger)
        if self.sample_prompts and self._learns_edits:
            raise InvalidRequestError(
                "sample_prompts came with a FLUX.1 Kontext, which also needs an image for each; leave it out, and the "
                "first pairs are drawn."
            )

    def show_plan(self) -> str:
        """What a step needs at this batch size, for three precisions of the frozen weights."""
        from x2i_app.training.plan import plan_images, show_images

        parts = build_skeleton(self.preset, self.mllm, self.flux)

        def add_lora(transformer: FluxTransformer2DModel) -> tuple[nn.Module, Any]:
            transformer.add_adapter(self._config, _ADAPTER)
            cast_training_params(transformer)
            weights = _LoRAWeights(transformer, FlowMatching(transformer, {}))
            return weights.matrices, weights

        own = parts.vae.config.sample_size
        sides = [self.resolution] if self.resolution else sorted({own // 2, own * 3 // 4 // 16 * 16, own})
        optimizer = "prodigy" if self.loop.learning_rate is None else self.loop.optimizer
        checkpointing = self.gradient_checkpointing
        return show_images(plan_images(parts, add_lora, self.batch_size, sides, optimizer, checkpointing))

    def run(self) -> Path:
        """Train, or continue a run; the LoRA's file, which `--lora` takes."""
        # 1. Images, and what FLUX reads for each of them. What is wrong with the models or the disk is said before a
        # large one is read, and one of these is in memory at a time.
        images = [self._with_trigger(image) for image in self.read_images(with_source=self._learns_edits)]
        asked = [TrainingImage.of_prompt(self._triggered(prompt)) for prompt in self.sample_prompts]
        bare = [TrainingImage.of_prompt(self.trigger)] if self.trigger and self.caption_dropout else []
        held_out = self._held_out(images)
        loop = self._resolved_loop(len(images) - len(held_out))
        self._check(images)
        conditioning = self.encode_conditioning([*images, *asked, *bare])

        # 2. FLUX, and the batches
        flux = self.load_flux()
        batches = replace(
            self.make_batches(images, conditioning, flux, self.buckets, references=self._learns_edits),
            chosen=tuple(index for index in range(len(images)) if index not in held_out),
            bare=conditioning[len(images) + len(asked)] if bare else None,
            dropout=self.caption_dropout if bare else 0.0,
        )

        # 3. Train the LoRA and save it
        def conditioner(trained: nn.Module | None, _: Image.Image | None) -> AbstractContextManager[None]:
            return nullcontext() if trained else _without_adapters(flux.transformer)

        drawn = range(len(images), len(images) + len(asked)) or range(len(images))[: self.samples]
        prompts = [image.caption for image in asked]
        samples = self.make_samples(flux, batches, "LoRA", conditioner, loop.evaluate_every, drawn, prompts)
        held_out_loss = HeldOutLoss(batches, sorted(held_out)) if held_out and samples else None
        evaluations = [each for each in (held_out_loss, samples) if each]
        path = train_lora(
            self._config,
            flux,
            batches,
            self.output,
            loop,
            about=self._about(images, loop),
            evaluate=_all_of(evaluations),
        )
        if held_out_loss and PartialState().is_main_process:
            print(when_to_stop(self.output / "history.jsonl"), file=sys.stderr)
        return path

    def _check(self, images: Sequence[TrainingImage]) -> None:
        """Raise X2IError's kinds for models or a disk that do not suit the run."""
        transformer, vae = self.check_models()
        add_matrices(transformer, self._config)
        self.check_disk(images, trained_bytes(transformer), transformer, vae)

    @property
    def _learns_edits(self) -> bool:
        return is_kontext(self.flux_source, self.kontext)

    @property
    def _config(self) -> LoraConfig:
        return LoraConfig(
            r=self.rank,
            lora_alpha=self.rank if self.alpha is None else self.alpha,
            target_modules=list(self.targets),
            exclude_modules="proj_out",  # a whole name: FLUX's last layer, and not that of each single block
            init_lora_weights="gaussian",
        )

    def _triggered(self, caption: str) -> str:
        has_trigger = re.search(rf"(?<!\w){re.escape(self.trigger)}(?!\w)", caption)
        return caption if has_trigger else f"{self.trigger}, {caption}" if self.trigger else caption

    def _with_trigger(self, image: TrainingImage) -> TrainingImage:
        caption = self._triggered(image.caption)
        return (
            image if caption == image.caption else replace(image, caption=caption, name=f"{image.name} {self.trigger}")
        )

    def _held_out(self, images: Sequence[TrainingImage]) -> set[int]:
        """Indices of the images that are not learnt, all copies of them included."""
        names = sorted({image.name for image in images})
        count = len(names) // 10 if self.holdout is None else self.holdout
        if count >= len(names):
            raise InvalidRequestError(f"holdout is {count} of {len(names)} images; leave at least one to learn from.")
        chosen = set(random.Random(self.loop.seed).sample(names, count))
        return {index for index, image in enumerate(images) if image.name in chosen}

    def _resolved_loop(self, count: int) -> LoopOptions:
        """The loop's options with steps and evaluations that suit the number of images."""
        steps = self.loop.steps
        if steps is None:
            step_samples = self.batch_size * self.loop.accumulate * PartialState().num_processes
            steps = max(1, min(max(count * _PASSES, _FEWEST_SAMPLES), _MOST_SAMPLES) // step_samples)
        every = max(1, steps // 10) if self.loop.evaluate_every is None else self.loop.evaluate_every
        found = {"optimizer": "prodigy", "learning_rate": 1.0} if self.loop.learning_rate is None else {}
        return replace(self.loop, steps=steps, evaluate_every=every, **found)

    def _about(self, images: Sequence[TrainingImage], loop: LoopOptions) -> dict[str, str]:
        about = {
            "x2i.preset": self.preset,
            "x2i.samples": str(len(images)),
            "x2i.steps": str(loop.steps),
            "modelspec.resolution": f"{self.resolution}x{self.resolution}" if self.resolution else "",
            "modelspec.trigger_phrase": self.trigger,
        }
        return {name: value for name, value in about.items() if value}


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

    batches[step]: prompt_embeds (B, S, joint), pooled (B, pooled) and latents (B, C, H/8, W/8), or a list of such
    groups. about: more metadata for the file. Every evaluation leaves a file too, lora-step-00000100.safetensors.
    `evaluate` and errors as of `train`.
    """
    transformer = flux.transformer.requires_grad_(False).eval()
    torch.manual_seed(options.seed)
    add_matrices(transformer, config)
    try:
        cast_training_params(transformer)  # small steps vanish in bfloat16
        weights = _LoRAWeights(transformer, FlowMatching(transformer, dict(flux.scheduler.config)))

        def compute_loss(model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
            return {"flow": model(batch)}

        def save_and_evaluate(model: nn.Module, step: int) -> dict[str, Any]:
            if PartialState().is_main_process:
                _save(transformer, config, directory / f"lora-step-{step:08d}.safetensors", about or {})
            return evaluate(model, step) or {}

        watch = save_and_evaluate if evaluate else None
        train(weights, batches, compute_loss, directory, options, title="LoRA", evaluate=watch)
        path = directory / "lora.safetensors"
        if PartialState().is_main_process:  # several processes would move each other's temporary file
            _save(transformer, config, path, about or {})
        PartialState().wait_for_everyone()
    finally:
        transformer.unload_lora()
    return path


def add_matrices(transformer: FluxTransformer2DModel, config: LoraConfig) -> None:
    """Give the transformer the matrices of a LoRA. Raises InvalidRequestError if no layer has one of the names."""
    try:
        transformer.add_adapter(config, _ADAPTER)
    except ValueError as error:
        raise InvalidRequestError(
            f"targets are {', '.join(sorted(config.target_modules))[:200]}, and FLUX has no such layers; leave "
            f"--targets out, or name some that it has, such as {TARGETS[0]}."
        ) from error


class _LoRAWeights(nn.Module):
    """Only the LoRA's matrices, so that checkpoints hold nothing else; its forward pass is the whole loss."""

    def __init__(self, transformer: FluxTransformer2DModel, flow_matching: FlowMatching):
        super().__init__()
        trained = {name.replace(".", "/"): p for name, p in transformer.named_parameters() if p.requires_grad}
        self.matrices = nn.ParameterDict(trained)
        self.flow_matching = flow_matching

    def forward(self, batch: Any) -> torch.Tensor:
        device, names = self.flow_matching.transformer.device, ("latents", "prompt_embeds", "pooled")

        def loss(group: Mapping[str, torch.Tensor]) -> torch.Tensor:
            reference = group["reference"].to(device) if "reference" in group else None
            return self.flow_matching(*(group[name].to(device) for name in names), reference=reference)

        return mean_over_groups(batch, loss)


class HeldOutLoss:
    """`evaluate` of the loop: the loss of images that are not learnt, always with the same noise.

    It falls while the LoRA learns what all images share, and rises when it learns single images by heart.
    """

    def __init__(self, batches: ImageBatches, indices: Sequence[int]):
        self.groups = batches.read(indices)

    def __call__(self, model: nn.Module, step: int) -> dict[str, float]:
        with torch.random.fork_rng():
            losses = []
            for seed in range(_DRAWS):
                torch.manual_seed(seed)
                losses.append(float(model(self.groups)))
        return {HELD_OUT: sum(losses) / len(losses)}


def when_to_stop(history: Path) -> str:
    """A sentence on where the loss of the held-out images was lowest."""
    records = [json.loads(record) for record in history.read_text(encoding="utf-8").splitlines()]
    losses = {record["step"] + 1: record[HELD_OUT] for record in records if HELD_OUT in record}
    best, last = min(losses, key=losses.__getitem__), max(losses)
    found = f"The loss of held-out images was lowest at step {best} ({losses[best]:.4f})"
    if losses[best] > 0.99 * losses[last]:
        return f"{found}, and {losses[last]:.4f} at the end: more steps may teach it more."
    return (
        f"{found}, and {losses[last]:.4f} at the end: after step {best} it learns the images by heart. Compare "
        f"lora-step-{best:08d}.safetensors with lora.safetensors in contact-sheet.png."
    )


def _all_of(evaluations: Sequence[Evaluate]) -> Evaluate | None:
    if not evaluations:
        return None
    return lambda model, step: {name: v for each in evaluations for name, v in (each(model, step) or {}).items()}


def _save(transformer: FluxTransformer2DModel, config: LoraConfig, path: Path, about: dict[str, str]) -> None:
    """In diffusers' form, with metadata as https://github.com/Stability-AI/ModelSpec names it."""
    matrices = get_peft_model_state_dict(transformer, adapter_name=_ADAPTER)
    weights = {f"transformer.{name}": value.to("cpu", torch.bfloat16).contiguous() for name, value in matrices.items()}
    layers = sorted({name.partition(".lora_")[0] for name in matrices})
    own = config.to_dict() | {"target_modules": layers, "exclude_modules": None}
    settings = {f"transformer.{name}": value for name, value in own.items()}
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

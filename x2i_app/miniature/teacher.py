"""Third stage of x2i-tiny: a text-to-image FLUX.1 with T5 and CLIP, all from scratch, by flow matching."""

import random
from dataclasses import dataclass, replace
from math import exp
from pathlib import Path

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from torch import nn
from torch.utils.data import Dataset
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

from x2i_app.miniature.scene import Scene
from x2i_app.miniature.words import describe, sound_sentence
from x2i_app.training.loop import LoopOptions, train

_CANONICAL = 0.45  # share of canonical captions; the others are worded freely
_SETTING = 0.04  # share of captions that name sky and ground alone, as a sound without a voice does


class Teacher(nn.Module):
    """The parts that learn together. scheduler_config: of the pipeline, whose shift the noise levels follow."""

    def __init__(
        self, transformer: FluxTransformer2DModel, clip: CLIPTextModel, t5: T5EncoderModel, scheduler_config: dict
    ):
        super().__init__()
        self.transformer, self.clip, self.t5 = transformer, clip, t5
        self.scheduler_config = scheduler_config


@dataclass(frozen=True)
class CaptionedLatents(Dataset):
    """Batches of latents with captions as a function of the step.

    scenes: N. latents: float (N, C, H, W). Each item: latents (B, C, H, W), and token ids (B, S) for CLIP and for T5.
    """

    scenes: list[Scene]
    latents: torch.Tensor
    clip_tokenizer: CLIPTokenizer
    t5_tokenizer: T5TokenizerFast
    batch_size: int
    seed: int = 0

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        rng = random.Random(f"captions {self.seed} {step}")
        indices = [rng.randrange(len(self.scenes)) for _ in range(self.batch_size)]
        captions = [_caption(self.scenes[index], rng) for index in indices]
        return {
            "latents": self.latents[indices].float(),
            "clip_ids": self.clip_tokenizer(captions, padding=True, return_tensors="pt")["input_ids"],
            # FluxPipeline pads T5's tokens to one length, and the transformer reads the padding too.
            "t5_ids": self.t5_tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")[
                "input_ids"
            ],
        }


def train_teacher(teacher: Teacher, data: CaptionedLatents, directory: Path, options: LoopOptions) -> None:
    """Train in place to predict the velocity from latents to noise."""
    # On a CPU the backward pass of the fused attention takes several times that of plain matrix products.
    teacher.transformer.set_attention_backend("_native_math")
    train(teacher, data, _loss, directory, options, title="teacher")
    teacher.transformer.reset_attention_backend()


def _loss(teacher, batch):
    latents = batch["latents"]
    count, channels, height, width = latents.shape
    tokens = FluxPipeline._pack_latents(latents, count, channels, height, width)
    noise = torch.randn_like(tokens)
    sigmas = torch.sigmoid(torch.randn(count, 1, 1))
    # The same shift towards noise as the scheduler applies when it draws.
    shift = exp(_mu(tokens.shape[1], teacher.scheduler_config))
    sigmas = shift * sigmas / (1 + (shift - 1) * sigmas)
    # As FluxPipeline asks them: without a mask, so that padding is read too.
    prompt_embeds = teacher.t5(batch["t5_ids"])[0]
    velocity = teacher.transformer(
        hidden_states=(1 - sigmas) * tokens + sigmas * noise,
        encoder_hidden_states=prompt_embeds,
        pooled_projections=teacher.clip(batch["clip_ids"]).pooler_output,
        timestep=sigmas.flatten(),
        img_ids=FluxPipeline._prepare_latent_image_ids(count, height // 2, width // 2, "cpu", torch.float32),
        txt_ids=torch.zeros(prompt_embeds.shape[1], 3),
        return_dict=False,
    )[0]
    return {"flow": nn.functional.mse_loss(velocity.float(), noise - tokens)}


def _mu(tokens, config):
    return calculate_shift(
        tokens, config["base_image_seq_len"], config["max_image_seq_len"], config["base_shift"], config["max_shift"]
    )


def _caption(scene, rng):
    if rng.random() < _SETTING:
        # Things without a voice leave only the setting in what a sound tells.
        silent = tuple(replace(thing, kind="flower", colour="pink") for thing in scene.things)
        return sound_sentence(replace(scene, things=silent))
    return describe(scene, "en", None if rng.random() < _CANONICAL else rng)

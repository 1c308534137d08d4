"""Third stage of x2i-tiny: a text-to-image FLUX.1 with T5 and CLIP, all from scratch, by flow matching."""

import random
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel
from torch import nn
from torch.utils.data import Dataset
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

from x2i_app.miniature.audio import sounding
from x2i_app.miniature.draw import thing_boxes
from x2i_app.miniature.scene import COLOURS, GROUNDS, KINDS, PLACES, SIZES, SKIES, Scene
from x2i_app.miniature.sentences import audio_sentence, describe
from x2i_app.training.loop import LoopOptions, train
from x2i_app.training.losses import FlowMatching

_CANONICAL = 0.45  # share of canonical captions; the others vary in wording
_CHOICES = (SKIES, GROUNDS, *((*KINDS, "nothing"), COLOURS, SIZES) * len(PLACES))  # what the readers predict
_UNTOLD = -100
_READING_WEIGHT = 0.2
_NOISE_BIAS = 0.7
_THING_WEIGHT = 4.0  # of errors where a thing is: things are a tenth of an image, and what one looks at
# Among scenes in which nothing has a voice, a ninth of all: the share of captions that name only sky and ground, like
# the answer to audio without a voice.
_SETTING = 0.36


class Teacher(nn.Module):
    """The parts that are trained together. scheduler_config: of the pipeline; the noise levels use its shift.

    readers: predict a scene's attributes from CLIP's and T5's outputs; they are used only in training. FLUX.1's real
    text encoders were pretrained; these learn from the readers' loss, which tells them more than the loss of images.
    """

    def __init__(
        self, transformer: FluxTransformer2DModel, clip: CLIPTextModel, t5: T5EncoderModel, scheduler_config: dict
    ):
        super().__init__()
        self.transformer, self.clip, self.t5 = transformer, clip, t5
        self.scheduler_config = scheduler_config
        widths = (clip.config.hidden_size, t5.config.d_model)
        self.readers = nn.ModuleList(nn.Linear(width, sum(map(len, _CHOICES)), bias=False) for width in widths)


@dataclass(frozen=True)
class LatentPool:
    """Images of one size. scenes: N. latents: float (N, C, H, W). things: bool (N, H, W), where things are."""

    scenes: list[Scene]
    latents: torch.Tensor
    things: torch.Tensor


@dataclass(frozen=True)
class CaptionedLatents(Dataset):
    """Batches of latents with captions, as a function of the step.

    pools: take turns. batch_size: B for the first pool; batches of the others have as many latent values. Each item:
    latents (B, C, H, W), weights (B, 1, H, W) of their errors, token ids (B, S) for CLIP and for T5, and attributes
    (B, A): the index of each attribute's value, or -100 if the caption does not say it.
    """

    pools: tuple[LatentPool, ...]
    clip_tokenizer: CLIPTokenizer
    t5_tokenizer: T5TokenizerFast
    batch_size: int
    seed: int = 0

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        rng = random.Random(f"captions {self.seed} {step}")
        pool = self.pools[step % len(self.pools)]
        ratio = pool.latents[0].numel() / self.pools[0].latents[0].numel()
        indices = [rng.randrange(len(pool.scenes)) for _ in range(max(1, round(self.batch_size / ratio)))]
        captions, attributes = zip(*(_caption(pool.scenes[index], rng) for index in indices), strict=True)
        return {
            "latents": pool.latents[indices].float(),
            "weights": torch.where(pool.things[indices, None], _THING_WEIGHT, 1.0),
            "attributes": torch.tensor(attributes),
            "clip_ids": self.clip_tokenizer(list(captions), padding=True, return_tensors="pt")["input_ids"],
            # FluxPipeline pads T5's tokens to one length, and the transformer reads the padding too.
            "t5_ids": self.t5_tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt")[
                "input_ids"
            ],
        }


def train_teacher(teacher: Teacher, data: CaptionedLatents, directory: Path, options: LoopOptions) -> None:
    """Train in place to predict the velocity from latents to noise."""
    train(teacher, data, _loss, directory, options, title="teacher")


def where_things_are(scene: Scene, time: float, seed: int, size: int) -> torch.Tensor:
    """Bool (size, size): the parts of the scene's image, as `draw_scene` draws it, that a thing touches."""
    touched = torch.zeros(size, size, dtype=torch.bool)
    for left, top, right, bottom in thing_boxes(scene, time, seed):
        rows, columns = ((max(0, floor(low * size)), ceil(high * size)) for low, high in ((top, bottom), (left, right)))
        touched[slice(*rows), slice(*columns)] = True
    return touched


def _loss(teacher, batch):
    # Without a mask, as in FluxPipeline, so that padding is read too.
    prompt_embeds = teacher.t5(batch["t5_ids"])[0]
    pooled = teacher.clip(batch["clip_ids"]).pooler_output
    # A caption decides which thing stands where, and so at high noise levels: train more on these.
    flow = FlowMatching(teacher.transformer, teacher.scheduler_config, noise_bias=_NOISE_BIAS)
    states = (pooled, prompt_embeds.mean(dim=1))
    predicted = [reader(state) for reader, state in zip(teacher.readers, states, strict=True)]
    return {
        "flow": flow(batch["latents"], prompt_embeds, pooled, weights=batch["weights"]),
        "reading": _READING_WEIGHT * sum(_reading_loss(logits.float(), batch["attributes"]) for logits in predicted),
    }


def _reading_loss(logits, attributes):
    parts = logits.split([len(choices) for choices in _CHOICES], dim=1)
    losses = [
        nn.functional.cross_entropy(part, wanted, reduction="sum", ignore_index=_UNTOLD)
        for part, wanted in zip(parts, attributes.unbind(1), strict=True)
    ]
    return sum(losses) / (attributes != _UNTOLD).sum()


def _caption(scene, rng):
    """A caption, and the index of every attribute's value in _CHOICES."""
    things = {thing.place: thing for thing in scene.things}
    attributes = [SKIES.index(scene.sky), GROUNDS.index(scene.ground)]
    if not sounding(scene).kinds and rng.random() < _SETTING:
        return audio_sentence(scene), attributes + [_UNTOLD] * (3 * len(PLACES))
    for place in PLACES:
        if thing := things.get(place):
            attributes += [KINDS.index(thing.kind), COLOURS.index(thing.colour), SIZES.index(thing.size)]
        else:
            attributes += [len(KINDS), _UNTOLD, _UNTOLD]
    return describe(scene, "en", None if rng.random() < _CANONICAL else rng), attributes

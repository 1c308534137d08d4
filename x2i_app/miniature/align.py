"""Last stage of x2i-tiny: AlignNet, by attention distillation from English sentences alone, as at full size."""

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from x2i_app.miniature.conversations import Source, words
from x2i_app.models import AlignNet
from x2i_app.pipeline import X2IPipeline
from x2i_app.training.captions import encode_states, encode_teacher
from x2i_app.training.distill import DistillOptions, FluxParts, cache_dtype, check_teacher, distill_cached
from x2i_app.training.loop import LoopOptions
from x2i_app.training.teacher import TeacherText


@dataclass(frozen=True)
class AlignOptions:
    """captions: how many English prompts. distill, loop: what is compared, and how it is trained."""

    captions: int
    distill: DistillOptions
    loop: LoopOptions

    def shortened(self, **few: Any) -> "AlignOptions":
        """A few steps on a few captions."""
        return replace(self, captions=8, distill=replace(self.distill, batch_size=4), loop=replace(self.loop, **few))


def english_prompts(count: int, seed: int) -> tuple[list[str], list[str]]:
    """`count` English prompts, and for each the canonical sentence of the scene that it wants, as the MLLM answers.

    Every second prompt is that sentence itself, the others are worded freely. No scene has a pair of HELD_OUT.
    """
    rng, source = random.Random(f"distillation {seed}"), Source("train")
    asked = []
    for index in range(count):
        (exchange,) = words(source, rng, "en")
        asked.append((exchange.words if index % 2 else exchange.answer, exchange.answer))
    prompts, meant = zip(*asked, strict=True)
    return list(prompts), list(meant)


def distill_align_net(bundle: Path, directory: Path, options: AlignOptions, seed: int) -> AlignNet:
    """The trained AlignNet for the pipeline in the folder `bundle`, whose T5 and CLIP teach it."""
    pipeline = X2IPipeline.from_pretrained(bundle, torch_dtype=torch.float32)
    teacher = TeacherText.load(bundle, dtype=torch.float32)
    flux = FluxParts(pipeline.transformer, pipeline.vae, pipeline.scheduler)
    check_teacher(teacher, flux.transformer.config)
    prompts, meant = english_prompts(options.captions, seed)
    dtype = cache_dtype(options.loop)
    states = encode_states(pipeline.encoder, prompts, directory, dtype)
    embeddings = encode_teacher(teacher, meant, directory, options.distill.max_sequence_length, dtype)
    loop = replace(options.loop, seed=seed)
    distill_cached(pipeline.align_net, flux, states, embeddings, directory, options.distill, loop)
    return pipeline.align_net

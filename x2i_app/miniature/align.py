"""Last stage of x2i-tiny: AlignNet, by attention distillation from English sentences alone, as at full size."""

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from x2i_app.miniature.scene import random_scene
from x2i_app.miniature.words import describe
from x2i_app.models import AlignNet
from x2i_app.pipeline import X2IPipeline
from x2i_app.training.distill import DistillOptions, distill
from x2i_app.training.loop import LoopOptions
from x2i_app.training.teacher import TeacherText


@dataclass(frozen=True)
class AlignOptions:
    """captions: how many English sentences. distill, loop: what is compared, and how it is trained."""

    captions: int
    distill: DistillOptions
    loop: LoopOptions

    def shortened(self, **few: Any) -> "AlignOptions":
        """A few steps on a few captions."""
        return replace(self, captions=8, distill=replace(self.distill, batch_size=4), loop=replace(self.loop, **few))


def english_captions(count: int, seed: int) -> list[str]:
    """`count` English sentences of scenes without pairs of HELD_OUT, one in two in the canonical wording."""
    rng = random.Random(f"distillation {seed}")
    scenes = (random_scene(rng, split="train") for _ in range(count))
    return [describe(scene, "en", rng if index % 2 else None) for index, scene in enumerate(scenes)]


def distill_align_net(bundle: Path, directory: Path, options: AlignOptions, seed: int) -> AlignNet:
    """The trained AlignNet for the pipeline in the folder `bundle`, whose T5 and CLIP teach it."""
    pipeline = X2IPipeline.from_pretrained(bundle, torch_dtype=torch.float32)
    teacher = TeacherText.load(bundle, dtype=torch.float32)
    captions = english_captions(options.captions, seed)
    distill(pipeline, teacher, captions, directory, options.distill, replace(options.loop, seed=seed))
    return pipeline.align_net

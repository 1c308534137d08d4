"""Last stage of x2i-tiny: LightControl, from pairs of drawings that one edit tells apart.

Its transformer reads T5's and CLIP's words for the edited scene, which the AlignNet imitates, so that it fits any
AlignNet distilled from that teacher. Either drawing of a pair may be the one that is shown.
"""

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from torch.utils.data import Dataset

from x2i_app.miniature.autoencoder import to_tensor
from x2i_app.miniature.models import build_light_control
from x2i_app.miniature.pool import PicturePool
from x2i_app.miniature.tokenizers import T5_LENGTH
from x2i_app.miniature.words import describe
from x2i_app.models import LightControl
from x2i_app.training.light_control import train_light_control
from x2i_app.training.loop import LoopOptions
from x2i_app.training.teacher import TeacherText

_CANONICAL = 0.8  # share of captions in the wording of the MLLM's answers


@dataclass(frozen=True)
class ControlOptions:
    """pairs: of drawings. batch_size: pairs a step. loop: how it is trained."""

    pairs: int
    batch_size: int
    loop: LoopOptions

    def shortened(self, **few: Any) -> "ControlOptions":
        """A few steps on a few pairs."""
        return replace(self, pairs=8, batch_size=2, loop=replace(self.loop, **few))


@dataclass(frozen=True)
class EditBatches(Dataset):
    """Batches of pairs as a function of the step: source (B, 3, H, W), latents (B, C, H/8, W/8) and captions (B).

    pools: before and after the edit. latents: of the pictures of each, (N, C, H/8, W/8).
    """

    pools: tuple[PicturePool, PicturePool]
    latents: tuple[torch.Tensor, torch.Tensor]
    batch_size: int
    seed: int = 0

    def __getitem__(self, step: int) -> dict[str, Any]:
        rng = random.Random(f"edits {self.seed} {step}")
        chosen = [(rng.randrange(len(self.pools[0].scenes)), rng.randrange(2)) for _ in range(self.batch_size)]
        wanted = [self.pools[side].scenes[index] for index, side in chosen]
        return {
            "source": torch.cat([to_tensor(self.pools[1 - side].pictures[index, None]) for index, side in chosen]),
            "latents": torch.stack([self.latents[side][index] for index, side in chosen]).float(),
            "captions": [describe(scene, "en", None if rng.random() < _CANONICAL else rng) for scene in wanted],
        }


def make_light_control(bundle: Path, data: EditBatches, directory: Path, options: LoopOptions) -> LightControl:
    """A trained LightControl for the FLUX.1 in the folder `bundle`, whose T5 and CLIP say what is to be drawn."""
    teacher = TeacherText.load(bundle, dtype=torch.float32)
    transformer = FluxTransformer2DModel.from_pretrained(bundle, subfolder="transformer", torch_dtype=torch.float32)
    # On a CPU the backward pass of the fused attention takes several times that of plain matrix products.
    transformer.set_attention_backend("_native_math")
    scheduler_config = dict(FlowMatchEulerDiscreteScheduler.load_config(bundle, subfolder="scheduler"))
    torch.manual_seed(options.seed)
    light_control = build_light_control()
    train_light_control(
        light_control,
        transformer,
        scheduler_config,
        data,
        lambda batch: teacher.encode(batch["captions"], T5_LENGTH),
        directory,
        options,
    )
    return light_control


def add_to_bundle(light_control: LightControl, bundle: Path) -> None:
    """Save it, in bfloat16, as a part of the pipeline in a folder that had none."""
    light_control.to(torch.bfloat16).save_pretrained(bundle / "light_control")
    index = bundle / "model_index.json"
    parts = json.loads(index.read_text(encoding="utf-8"))
    parts["light_control"] = [LightControl.__module__, LightControl.__name__]
    index.write_text(json.dumps(parts, indent=2, sort_keys=True) + "\n", encoding="utf-8")

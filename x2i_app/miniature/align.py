"""Fifth stage of x2i-tiny: AlignNet, by attention distillation from English text only, as at full size."""

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from x2i_app.loading import load_alignnet
from x2i_app.miniature.conversations import Source, description
from x2i_app.miniature.everyday import everyday_prompt
from x2i_app.models import AlignNet
from x2i_app.training import DistillJob, DistillOptions, LoopOptions
from x2i_app.training.job import write_settings


@dataclass(frozen=True)
class AlignOptions:
    """captions: number of English prompts. distill, loop: options of the distillation and of the training loop."""

    captions: int
    distill: DistillOptions
    loop: LoopOptions

    def shortened(self, **few: Any) -> "AlignOptions":
        """The same options for a few steps on a few captions."""
        return replace(self, captions=8, distill=replace(self.distill, batch_size=4), loop=replace(self.loop, **few))


def english_prompts(count: int, seed: int) -> tuple[list[str], list[str]]:
    """`count` English prompts, and for each the sentence that T5 and CLIP read of the scene that is known of it.

    Every second prompt is that sentence itself; of the others every second varies in wording, the rest is in everyday
    wording, where some ask for nothing but a setting or for what is unknown. No scene has a pair of HELD_OUT.
    """
    rng, source = random.Random(f"distillation {seed}"), Source("train")
    asked = []
    for index in range(count):
        if index % 4 == 3 or index % 8 == 0:
            prompt = everyday_prompt(rng, "en", is_mixed=False)
            asked.append((prompt.text if index % 2 else prompt.meaning.answer, prompt.meaning.caption))
        else:
            (exchange,) = description(source, rng, "en")
            asked.append((exchange.text if index % 2 else exchange.answer, exchange.answer))
    prompts, meant = zip(*asked, strict=True)
    return list(prompts), list(meant)


def write_prompts(path: Path, count: int, seed: int) -> None:
    """Write prompts and sentences as a JSONL file with the fields `caption` and `meant`, for `train distill`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    prompts, meant = english_prompts(count, seed)
    rows = [json.dumps({"caption": asked, "meant": wanted}) for asked, wanted in zip(prompts, meant, strict=True)]
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def distill_align_net(bundle: Path, directory: Path, options: AlignOptions, seed: int) -> AlignNet:
    """Train an AlignNet for the pipeline in the folder `bundle`, with that folder's T5 and CLIP as the teacher.

    `python -m x2i_app train distill` gives the same AlignNet with the captions and settings that stay in `directory`.
    """
    job = align_job(bundle, directory, options, seed)
    write_prompts(Path(job.captions[0]), options.captions, seed)
    write_settings(job)
    return load_alignnet(job.run(), dtype=torch.float32)


def align_job(bundle: Path, directory: Path, options: AlignOptions, seed: int) -> DistillJob:
    """The training of AlignNet as a job of `train distill`."""
    return DistillJob(
        output=directory,
        captions=(str(directory / "captions.jsonl"),),
        taught_field="meant",
        max_broken=0,
        preset="x2i-tiny",
        mllm=str(bundle / "mllm"),
        flux=str(bundle),
        gradient_checkpointing=False,
        distill=options.distill,
        loop=replace(options.loop, seed=seed),
    )

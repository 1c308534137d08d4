"""Run cases through a pipeline in batches: the MLLM's answers, FLUX.1's conditioning, and the images."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from PIL import Image

from x2i_app.miniature.evaluation.cases import Case
from x2i_app.miniature.evaluation.judge import fit
from x2i_app.miniature.pixels import to_image
from x2i_app.notes import is_unsure
from x2i_app.pipeline import X2IPipeline
from x2i_app.training import TeacherText

FIRST_SEED = 40_000  # the seed of case 0; case i has FIRST_SEED + i, for every model
WHOLE = 100  # images of a row that are kept as made, for their likeness: six drawings of each take a second
_ENCODED_TOGETHER = 64  # conversations: enough to find some of equal length, few enough for their media to fit memory


class Embeds(NamedTuple):
    """FLUX.1's conditioning for one image: prompt_embeds (1, S, joint), pooled_prompt_embeds (1, pooled)."""

    prompt_embeds: torch.Tensor
    pooled_prompt_embeds: torch.Tensor


class Encoded(NamedTuple):
    """FLUX.1's conditioning for a case, the MLLM's answer if it gives one, and whether a note says what is unknown."""

    embeds: Embeds
    answer: str | None
    is_told: bool


class Drawn(NamedTuple):
    """images: as the judge reads them, (B, 3, 128, 128) in [-1, 1], on the CPU. whole: the first of them, as made."""

    images: torch.Tensor
    whole: list[Image.Image]


@dataclass(frozen=True)
class Sampling:
    """How images are generated. size: width and height in pixels."""

    steps: int = 8
    size: int = 128
    guidance_scale: float = 3.5

    @property
    def batch_size(self) -> int:
        """Images at a time: 50 of 128 x 128 pixels, in inverse proportion to the area for larger ones."""
        return max(1, 50 * 128**2 // self.size**2)


@torch.no_grad()
def encode(pipeline: X2IPipeline, cases: Sequence[Case], advance: Callable[[int], None]) -> list[Encoded]:
    """Encode each case.

    Dialogues are encoded turn by turn; the MLLM's answers become their history.
    advance: called with the number of cases that were done.
    """
    encoded = {}
    # The encoder batches conversations of equal length, so neighbours should be about equally long.
    order = sorted(range(len(cases)), key=lambda index: sum(len(turn.text) for turn in cases[index].dialogue))
    for start in range(0, len(cases), _ENCODED_TOGETHER):
        chosen = order[start : start + _ENCODED_TOGETHER]
        encoded |= zip(chosen, _encode_together(pipeline, [cases[index] for index in chosen]), strict=True)
        advance(len(chosen))
    return [encoded[index] for index in range(len(cases))]


def _encode_together(pipeline, cases):
    asked = [case.turns() for case in cases]
    said = [[] for _ in cases]
    results = [None] * len(cases)
    for turn in range(max(map(len, asked))):
        present = [index for index, turns in enumerate(asked) if turn < len(turns)]
        for index in present:
            said[index].append(asked[index][turn])
        for index, states in zip(present, pipeline.encoder.encode_batch([said[i] for i in present]), strict=True):
            said[index][-1] = replace(said[index][-1], answer=states.answer or "")
            results[index] = states
    aligned = map(pipeline.align, results)
    return [
        Encoded(
            Embeds(each.prompt_embeds, each.pooled_prompt_embeds),
            each.answer,
            any(map(is_unsure, each.notes)),
        )
        for each in aligned
    ]


def teach(teacher: TeacherText, captions: Sequence[str], length: int) -> list[Embeds]:
    """The teacher's conditioning for each caption. length: of prompt_embeds, in tokens."""
    prompt_embeds, pooled = teacher.encode(captions, length)
    return list(map(Embeds, prompt_embeds.split(1), pooled.split(1)))


@torch.no_grad()
def draw(
    pipeline: X2IPipeline,
    embeds: Sequence[Embeds],
    seeds: Sequence[int],
    sampling: Sampling,
    advance: Callable[[int], None],
) -> Drawn:
    """Generate an image for each conditioning; image i starts from the noise of `seeds[i]`.

    Images whose conditioning has the same length are generated together, as nothing is padded.
    """
    flux = pipeline.drawing_pipeline()
    flux.set_progress_bar_config(disable=True)
    images: dict[int, torch.Tensor] = {}
    whole: dict[int, Image.Image] = {}
    for chosen in _batches(embeds, sampling.batch_size):
        drawn = flux(
            prompt_embeds=torch.cat([embeds[i].prompt_embeds for i in chosen]),
            pooled_prompt_embeds=torch.cat([embeds[i].pooled_prompt_embeds for i in chosen]),
            width=sampling.size,
            height=sampling.size,
            num_inference_steps=sampling.steps,
            guidance_scale=sampling.guidance_scale,
            generator=[torch.Generator().manual_seed(seeds[i]) for i in chosen],
            output_type="pt",
        ).images
        drawn = drawn.float().cpu() * 2 - 1
        images |= zip(chosen, fit(drawn), strict=True)
        whole |= {index: to_image(image) for index, image in zip(chosen, drawn, strict=True) if index < WHOLE}
        advance(len(chosen))
    indices = range(len(embeds))
    return Drawn(torch.stack([images[index] for index in indices]), [whole[index] for index in indices[:WHOLE]])


def _batches(embeds, batch_size):
    by_length = defaultdict(list)
    for index, (prompt_embeds, _) in enumerate(embeds):
        by_length[prompt_embeds.shape[1]].append(index)
    for indices in by_length.values():
        for start in range(0, len(indices), batch_size):
            yield indices[start : start + batch_size]

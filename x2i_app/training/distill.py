"""Attention distillation: AlignNet learns to speak to a FLUX transformer as T5 and CLIP do, from English text alone.

Teacher and student are one transformer, run twice on the same noisy latents: first over T5's and CLIP's embeddings of a
caption, then over AlignNet's of the MLLM's hidden states. What leaves the attention of every block is pulled together,
block by block as it appears. Neither pictures nor the MLLM are needed while training: states and embeddings of all
captions are computed first and kept on the disk. Source: arXiv 2503.06134, section 3, and its public training code.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from x2i_app.errors import CheckpointError, TrainingError
from x2i_app.models import AlignNet
from x2i_app.pipeline import X2IPipeline
from x2i_app.training.cache import CaptionCache
from x2i_app.training.captions import CaptionBatches, LiveStates, LiveTeacher, encode_captions
from x2i_app.training.comparison import Comparison, FluxParts
from x2i_app.training.distill_options import DistillOptions
from x2i_app.training.loop import LoopOptions, train
from x2i_app.training.precision import training_device
from x2i_app.training.samples import SampleSheets
from x2i_app.training.teacher import TeacherText


def distill(
    pipeline: X2IPipeline,
    teacher: TeacherText,
    captions: Sequence[str],
    directory: Path,
    options: DistillOptions,
    loop_options: LoopOptions,
) -> None:
    """Train the pipeline's AlignNet in place; nothing else changes.

    teacher: the text encoders that the pipeline's FLUX transformer was made for. captions: English texts.
    directory: for checkpoints, history, and what is computed once: `states` (of the MLLM: L x H values a token, 2 bytes
    each in mixed precision, so 12 MB for 60 tokens of a 7B model and 0.1 MB of x2i-tiny) and `teacher`.
    A run that was killed goes on where it was, in either phase.

    The MLLM and the teacher compute where they are; the transformer is moved to accelerate's device, in its own dtype,
    and stays there, frozen. `pipeline.transformer.enable_gradient_checkpointing()` before the call saves memory.

    Raises CheckpointError if the teacher does not fit the transformer, InvalidRequestError for a caption that the MLLM
    cannot take, TrainingError as `train` does, for text lengths that differ under `match_text`, and without captions.
    """
    check_teacher(teacher, pipeline.transformer.config)
    if not captions:
        raise TrainingError("There are no captions to distil from; give some English sentences.")
    length, dtype = options.max_sequence_length, cache_dtype(loop_options)
    cached = encode_captions(pipeline.encoder, teacher, captions, Path(directory), length, dtype)
    flux = FluxParts(pipeline.transformer, pipeline.vae, pipeline.scheduler)
    distill_cached(pipeline.align_net, flux, *cached, directory, options, loop_options)


def check_teacher(teacher: TeacherText, flux: Mapping[str, Any]) -> None:
    """flux: a FLUX transformer's configuration. Raises CheckpointError if it reads other widths than they write."""
    reads = (flux["joint_attention_dim"], flux["pooled_projection_dim"])
    if (teacher.joint_dim, teacher.pooled_dim) != reads:
        raise CheckpointError(
            f"The teacher writes embeddings of width {teacher.joint_dim} and {teacher.pooled_dim}, but FLUX reads "
            f"{reads[0]} and {reads[1]}; use the text encoders of that FLUX model."
        )


def cache_dtype(loop_options: LoopOptions) -> torch.dtype:
    """Of what is computed once and kept on the disk."""
    return torch.bfloat16 if loop_options.precision(training_device()) == "bf16" else torch.float32


def distill_cached(
    align_net: AlignNet,
    flux: FluxParts,
    states: CaptionCache | LiveStates,
    embeddings: CaptionCache | LiveTeacher,
    directory: Path,
    options: DistillOptions,
    loop_options: LoopOptions,
    latents: CaptionCache | None = None,
) -> None:
    """`distill` from what its frozen models made of the captions, when neither of them need be in memory any more.

    states, embeddings: of `encode_states` and `encode_teacher`, over the same captions. latents: of `encode_pictures`,
    which `sigmas: logit_normal` needs. Every `evaluate_every` steps, and then at the end too, `directory`'s folder
    samples gets a picture of what teacher and student draw.
    """
    if (latents is None) == (options.sigmas == "logit_normal"):
        raise TrainingError("sigmas: logit_normal needs pictures beside the captions, and nothing else takes them.")
    device = training_device()
    batches = CaptionBatches(states, embeddings, options.batch_size, loop_options.seed, latents)
    flux.transformer.requires_grad_(False).eval()
    if flux.transformer.device != device:
        flux.transformer.to(device)
    comparison = Comparison(flux, options, device)

    def compute_loss(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return comparison.compute_loss(model, batches.complete(batch))

    evaluate = SampleSheets(flux, batches, options, Path(directory), device) if loop_options.evaluate_every else None
    own_dtype = align_net.dtype
    align_net.float().requires_grad_(True)  # small steps vanish in bfloat16
    try:
        train(align_net, batches, compute_loss, Path(directory), loop_options, title="AlignNet", evaluate=evaluate)
    finally:
        align_net.requires_grad_(False).eval()
        if own_dtype != align_net.dtype:
            align_net.to(own_dtype)

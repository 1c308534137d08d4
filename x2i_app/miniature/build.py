"""Make the bundle x2i-tiny: python -m x2i_app.miniature.build --output assets/x2i-tiny [--seed 0]

Until its training exists, the weights are seeded random ones: every part is real and of its final size, and the
picture is noise. The tokenizers are trained, on sentences of the cartoon world. The folder is in diffusers layout; the
teacher's T5 and CLIP lie beside the rest and are never loaded to draw.
"""

import argparse
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import CLIPTokenizer, T5TokenizerFast

from x2i_app.miniature import models
from x2i_app.miniature.world import corpus
from x2i_app.pipeline import X2IPipeline
from x2i_app.presets import PRESETS

SENTENCES = 60_000
TEACHER_VOCAB_SIZE = 1024


def build(output: Path, seed: int = 0) -> None:
    """Write the whole bundle into `output`, weights in bfloat16 as safetensors. The same seed gives the same files."""
    torch.manual_seed(seed)
    tokenizer = models.train_tokenizer(corpus(SENTENCES, seed), **models.MEDIA_TOKENS)
    t5_tokenizer = _train_teacher_tokenizer(T5TokenizerFast(extra_ids=0), corpus(SENTENCES, seed))
    clip_tokenizer = _train_teacher_tokenizer(CLIPTokenizer(), corpus(SENTENCES, seed))
    clip_tokenizer.model_max_length = 77
    clip, t5 = models.build_teacher_encoders(clip_tokenizer, t5_tokenizer)
    preset = PRESETS["x2i-tiny"]
    pipeline = X2IPipeline(
        transformer=models.build_transformer(),
        vae=models.build_vae(),
        scheduler=models.build_scheduler(),
        align_net=models.build_align_net(),
        mllm=models.build_mllm(tokenizer),
        processor=models.build_processor(tokenizer),
        family=preset.mllm.family,
        encoding=asdict(preset.encoding),
    )
    pipeline.to(dtype=torch.bfloat16).save_pretrained(output)
    # What only the teacher of a distillation reads.
    clip.to(torch.bfloat16).save_pretrained(output / "text_encoder")
    t5.to(torch.bfloat16).save_pretrained(output / "text_encoder_2")
    clip_tokenizer.save_pretrained(output / "tokenizer")
    t5_tokenizer.save_pretrained(output / "tokenizer_2")
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    total = sum(models.count_parameters(part) for part in (*parts, clip, t5))
    print(f"{output}: {total / 1e6:.1f} million parameters, {_megabytes(output):.1f} MB")


def _train_teacher_tokenizer(tokenizer, texts: Iterable[str]):
    return tokenizer.train_new_from_iterator(texts, TEACHER_VOCAB_SIZE)


def _megabytes(directory: Path) -> float:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()) / 1e6


def main() -> None:
    """Entry point of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0, help=f"of the weights of {PRESETS['x2i-tiny'].name}")
    arguments = parser.parse_args()
    build(arguments.output, arguments.seed)


if __name__ == "__main__":
    main()

"""Train x2i-tiny from scratch: python -m x2i_app.miniature.build --output DIR [--work runs/miniature]

Stages: pools of renders and audio; the VAE; the MLLM; the teacher, a FLUX.1 with T5 and CLIP; AlignNet, distilled from
English text only; and LightControl, trained on pairs of renders. Each stage keeps its progress in the work folder.
After an interruption the same command resumes; finished stages are not repeated. A work folder belongs to one recipe
and seed. `--stage vae` and so on run only that stage and the stages that it needs, so that the MLLM and the teacher can
be trained at the same time in two processes.
"""

import argparse
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from filelock import FileLock
from transformers import (
    CLIPTextModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    Qwen2_5OmniProcessor,
    Qwen2_5OmniThinkerForConditionalGeneration,
    T5EncoderModel,
    T5TokenizerFast,
)

from x2i_app.devices import has_fast_bfloat16
from x2i_app.errors import X2IError
from x2i_app.limits import LIMITS, Range, validate_integer
from x2i_app.miniature import models, tokenizers
from x2i_app.miniature.align import distill_align_net
from x2i_app.miniature.audio_pool import audio_pool
from x2i_app.miniature.autoencoder import encode_images, train_vae
from x2i_app.miniature.batches import ConversationBatches, EverydayBatches
from x2i_app.miniature.control import add_to_bundle, make_light_control
from x2i_app.miniature.destination import claim, deliver, find_destination
from x2i_app.miniature.mllm import teach_everyday, train_mllm
from x2i_app.miniature.pool import ImagePool, edit_pools, image_pool, pool_image
from x2i_app.miniature.recipe import RECIPE, Recipe
from x2i_app.miniature.teacher import CaptionedLatents, LatentPool, Teacher, train_teacher, where_things_are
from x2i_app.pipeline import X2IPipeline
from x2i_app.presets import PRESETS
from x2i_app.training import LoopOptions

PRESET = PRESETS["x2i-tiny"]


class Builder:
    """The stages of a build. work: folder for everything in progress. seed: of weights and data.

    Raises InvalidRequestError for a folder with a build of another recipe or seed.
    """

    def __init__(self, work: Path, recipe: Recipe, seed: int = 0):
        self.work, self.recipe, self.seed = work, recipe, validate_integer("seed", seed, LIMITS.seed)
        claim(work, {"seed": seed, "recipe": asdict(recipe)})

    def vae(self) -> AutoencoderKL:
        """The trained VAE."""

        def make(directory: Path) -> None:
            vae = self._fresh(models.build_vae)
            options = self._options(self.recipe.vae)
            pools = tuple(map(self._images, models.IMAGE_SIZES))
            train_vae(vae, pools, self.work / "vae", options, self.recipe.images)
            vae.save_pretrained(directory)

        return AutoencoderKL.from_pretrained(self._stage("vae", make)).eval()

    def mllm(self) -> tuple[Qwen2_5OmniThinkerForConditionalGeneration, Qwen2_5OmniProcessor]:
        """The trained MLLM and its processor."""

        def make(directory: Path) -> None:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(self._stage("mllm/tokenizer", self._mllm_tokenizer))
            processor = models.build_processor(tokenizer)
            audios = audio_pool(self.work / "audio", self.recipe.audios, processor.feature_extractor, seed=self.seed)
            mllm = self._fresh(models.build_mllm, tokenizer)
            recipe = self.recipe
            sizes = (recipe.sentences, recipe.shown, recipe.reading_steps, recipe.basic_steps)
            data = ConversationBatches(processor, PRESET.encoding, audios, *sizes, seed=self.seed)
            train_mllm(mllm, data, self.work / "mllm", self._options(self.recipe.mllm))
            mllm.save_pretrained(directory)
            processor.save_pretrained(directory)

        directory = self._stage("mllm", make)
        mllm = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(directory).eval()
        return mllm, Qwen2_5OmniProcessor.from_pretrained(directory)

    def everyday(self) -> tuple[Qwen2_5OmniThinkerForConditionalGeneration, Qwen2_5OmniProcessor]:
        """The MLLM that has learned everyday wording too, and its processor."""

        def make(directory: Path) -> None:
            mllm, processor = self.mllm()
            audios = audio_pool(self.work / "audio", self.recipe.audios, processor.feature_extractor, seed=self.seed)
            options = self.recipe.everyday
            sizes = (options.told, options.shown, 0, options.every)
            data = EverydayBatches(processor, PRESET.encoding, audios, *sizes, seed=self.seed, devices=options.devices)
            teach_everyday(mllm, data, self.work / "everyday", self._options(options.loop))
            mllm.save_pretrained(directory)
            processor.save_pretrained(directory)

        directory = self._stage("everyday", make)
        mllm = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(directory).eval()
        return mllm, Qwen2_5OmniProcessor.from_pretrained(directory)

    def teacher(self) -> Path:
        """The folder of the trained teacher, in diffusers layout: transformer, text encoders and tokenizers."""

        def make(directory: Path) -> None:
            vae = self.vae()
            spoken = self._stage("teacher/tokenizers", self._teacher_tokenizers)
            clip_tokenizer = CLIPTokenizer.from_pretrained(spoken / "tokenizer")
            t5_tokenizer = T5TokenizerFast.from_pretrained(spoken / "tokenizer_2")
            clip, t5 = self._fresh(models.build_teacher_encoders, clip_tokenizer, t5_tokenizer)
            transformer = self._fresh(models.build_transformer)
            teacher = Teacher(transformer, clip, t5, dict(models.build_scheduler().config))
            pools = tuple(self._latents(vae, size) for size in models.IMAGE_SIZES)
            data = CaptionedLatents(pools, clip_tokenizer, t5_tokenizer, self.recipe.captions, self.seed)
            train_teacher(teacher, data, self.work / "teacher", self._options(self.recipe.teacher))
            for name, part in (("transformer", transformer), ("text_encoder", clip), ("text_encoder_2", t5)):
                part.save_pretrained(directory / name)
            shutil.copytree(spoken, directory, dirs_exist_ok=True)

        return self._stage("teacher", make)

    def pipeline(self) -> Path:
        """The folder of the whole pipeline with an untrained AlignNet, weights in bfloat16, and the teacher's parts.

        Distillation then uses the rounded weights that are bundled.
        """

        def make(directory: Path) -> None:
            teacher, (mllm, processor) = self.teacher(), self.everyday()
            learned = FluxTransformer2DModel.from_pretrained(teacher / "transformer")
            transformer, vae = models.with_flux_channels(learned, self.vae())
            pipeline = X2IPipeline(
                transformer=transformer,
                vae=vae,
                scheduler=models.build_scheduler(),
                align_net=self._fresh(models.build_align_net),
                mllm=mllm,
                processor=processor,
                family=PRESET.mllm.family,
                encoding=asdict(PRESET.encoding),
            )
            pipeline.to(dtype=torch.bfloat16).save_pretrained(directory)
            for name, part in (("text_encoder", CLIPTextModel), ("text_encoder_2", T5EncoderModel)):
                part.from_pretrained(teacher / name).to(torch.bfloat16).save_pretrained(directory / name)
            for name in ("tokenizer", "tokenizer_2"):
                shutil.copytree(teacher / name, directory / name)

        return self._stage("pipeline", make)

    def align(self) -> Path:
        """The folder of the pipeline with its distilled AlignNet."""

        def make(directory: Path) -> None:
            source = self.pipeline()
            align_net = distill_align_net(source, self.work / "align", self.recipe.align, self.seed)
            shutil.copytree(source, directory, dirs_exist_ok=True)
            align_net.to(torch.bfloat16).save_pretrained(directory / "align_net")

        return self._stage("align", make)

    def control(self) -> Path:
        """The folder of the finished bundle, with its LightControl."""

        def make(directory: Path) -> None:
            source, options = self.align(), self.recipe.control
            pools = edit_pools(self.work / "images", options.pairs, self.seed)
            light_control = make_light_control(source, pools, self.work / "control", options, self.seed)
            shutil.copytree(source, directory, dirs_exist_ok=True)
            add_to_bundle(light_control, directory)

        return self._stage("control", make)

    def _stage(self, name: str, make: Callable[[Path], None]) -> Path:
        """The folder with a stage's result; runs the stage if there is none. Only complete results get this name."""
        final = self.work / name / "final"
        final.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(final.with_name("lock")):  # another process may run the same stage
            if not final.is_dir():
                temporary = final.with_name("tmp-final")
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir()
                make(temporary)
                temporary.replace(final)
        return final

    # Two trainings of a tokenizer may number its tokens differently. Each tokenizer is a stage of its own, so that a
    # model that resumes after an interruption still has the tokenizer that it started with.
    def _mllm_tokenizer(self, directory: Path) -> None:
        tokenizers.mllm_tokenizer(self.seed).save_pretrained(directory)

    def _teacher_tokenizers(self, directory: Path) -> None:
        tokenizers.clip_tokenizer(self.seed).save_pretrained(directory / "tokenizer")
        tokenizers.t5_tokenizer(self.seed).save_pretrained(directory / "tokenizer_2")

    def _fresh(self, build: Callable[..., Any], *arguments: Any) -> Any:
        torch.manual_seed(self.seed)
        return build(*arguments)

    def _options(self, options: LoopOptions) -> LoopOptions:
        return replace(options, seed=self.seed)

    def _images(self, size: int) -> ImagePool:
        count = self.recipe.scenes // (size // models.IMAGE_SIZES[0]) ** 2
        return image_pool(self.work / "images", count, split="train", seed=self.seed, size=size)

    def _latents(self, vae: AutoencoderKL, size: int) -> LatentPool:
        """The latents of the pool of images of this size, and where things are in them; latents are kept on disk."""
        pool, path = self._images(size), self.work / "teacher" / f"latents-{size}.pt"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bfloat16("cpu")):
                latents = encode_images(vae, pool.images)
            torch.save(latents.half(), path.with_suffix(".tmp"))
            path.with_suffix(".tmp").replace(path)
        latents = torch.load(path, weights_only=True)
        recipes = (pool_image(index, "train", self.seed) for index in range(len(latents)))
        things = torch.stack([where_things_are(*recipe, latents.shape[-1]) for recipe in recipes])
        return LatentPool(pool.scenes, latents, things)


_SHORT = Range(1, 1000)
STAGES = ("vae", "mllm", "everyday", "teacher", "pipeline", "align", "control")


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command."""
    parser = argparse.ArgumentParser(prog="python -m x2i_app.miniature.build", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="folder for the finished bundle")
    default = "runs/miniature, or runs/miniature-short with --short"
    parser.add_argument("--work", type=Path, help=f"folder for everything in progress ({default})")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and data (0)")
    parser.add_argument("--stage", choices=STAGES, default=STAGES[-1], help="stop after this stage")
    parser.add_argument("--short", type=int, metavar="STEPS", help="train each stage for so few steps, as a trial")
    options = parser.parse_args(arguments)
    if options.output is None and options.stage == STAGES[-1]:
        parser.error("--output is missing; name the folder for the bundle.")
    if options.output and options.stage != STAGES[-1]:
        parser.error("--output needs the last stage; omit --output or --stage.")
    is_short = options.short is not None
    work = options.work or Path("runs/miniature-short" if is_short else "runs/miniature")
    try:
        destination = find_destination(options.output, work) if options.output else None
        recipe = RECIPE.shortened(validate_integer("--short", options.short, _SHORT)) if is_short else RECIPE
        made = getattr(Builder(work, recipe, options.seed), options.stage)()
    except X2IError as error:
        parser.exit(2, f"x2i: {error}\n")
    if options.stage == STAGES[-1]:
        deliver(made, destination)
        size = sum(file.stat().st_size for file in destination.rglob("*") if file.is_file())
        print(f"{options.output}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

"""The sizes of x2i-tiny's training data, and the options of each training stage."""

from dataclasses import dataclass, replace

from x2i_app.miniature import tokenizers
from x2i_app.miniature.align import AlignOptions
from x2i_app.miniature.control import ControlOptions
from x2i_app.training import DistillOptions, LoopOptions


@dataclass(frozen=True)
class EverydayOptions:
    """told: conversations of a step that have no medium. shown: conversations with media of every `every`-th step.

    devices: share of these media that are as devices deliver them.
    """

    told: int
    shown: int
    every: int
    devices: float
    loop: LoopOptions


@dataclass(frozen=True)
class Recipe:
    """Sizes and options of a build.

    scenes, audios: in the pools of training data; of images of twice the size there are a quarter. images: windows in a
    batch of the VAE. captions: in a batch of the teacher. sentences, shown: conversations of text, and with media, in a
    step of the MLLM; a step also has a quarter of `shown` screenshots. reading_steps, basic_steps: as in
    `ConversationBatches`. The rest: options of each stage's training.
    """

    scenes: int
    audios: int
    images: int
    captions: int
    sentences: int
    shown: int
    reading_steps: int
    basic_steps: int
    vae: LoopOptions
    mllm: LoopOptions
    everyday: EverydayOptions
    teacher: LoopOptions
    align: AlignOptions
    control: ControlOptions

    def shortened(self, steps: int) -> "Recipe":
        """The same recipe with a few steps for each stage and small pools, as a trial."""
        few = {"steps": steps, "warmup_steps": 1, "checkpoint_every": steps, "workers": 0}
        return Recipe(
            scenes=200,
            audios=100,
            images=2,
            captions=8,
            sentences=4,
            shown=2,
            reading_steps=0,
            basic_steps=1,
            vae=replace(self.vae, **few),
            mllm=replace(self.mllm, **few),
            everyday=replace(self.everyday, told=4, shown=2, loop=replace(self.everyday.loop, **few)),
            teacher=replace(self.teacher, **few),
            align=self.align.shortened(**few),
            control=self.control.shortened(**few),
        )


# Muon needs fewer steps: the VAE's squared error was 0.018 after 250 steps, and with AdamW still 0.024 after 458 steps
# (same warm-up and learning rate, 16 channels, batches of 6 and 8 whole images).
RECIPE = Recipe(
    scenes=24_000,
    audios=3_000,
    images=16,
    captions=48,
    sentences=20,
    shown=12,
    reading_steps=800,
    basic_steps=2400,
    vae=LoopOptions(
        steps=2300,
        learning_rate=2e-3,
        decay_share=0.5,
        optimizer="muon",
        weight_decay=0.0,
        ema_decay=0.998,
        checkpoint_every=200,
    ),
    mllm=LoopOptions(
        steps=4800,
        learning_rate=1.5e-3,
        warmup_steps=150,
        decay_share=0.6,
        optimizer="muon",
        weight_decay=0.05,
        ema_decay=0.998,
        checkpoint_every=150,
    ),
    everyday=EverydayOptions(
        told=48,
        shown=8,
        every=2,
        devices=0.5,
        loop=LoopOptions(
            steps=3000,
            learning_rate=1.2e-3,
            warmup_steps=60,
            decay_share=0.5,
            optimizer="muon",
            weight_decay=0.02,
            ema_decay=0.995,
            checkpoint_every=100,
        ),
    ),
    teacher=LoopOptions(steps=4000, learning_rate=1.5e-3, optimizer="muon", weight_decay=0.01, checkpoint_every=100),
    align=AlignOptions(
        captions=6000,
        distill=DistillOptions(
            batch_size=24,
            resolution=128,
            max_sequence_length=tokenizers.T5_LENGTH,
            sigmas="path",
            path_share=0.6,
            num_inference_steps=8,
            output_weight=50.0,
            state_noise=0.5,
        ),
        loop=LoopOptions(
            steps=3000, learning_rate=2e-3, decay_share=0.6, optimizer="muon", weight_decay=0.0, checkpoint_every=100
        ),
    ),
    control=ControlOptions(
        pairs=6000,
        batch_size=8,
        loop=LoopOptions(
            steps=1400,
            learning_rate=2e-3,
            decay_share=0.6,
            optimizer="muon",
            weight_decay=0.0,
            ema_decay=0.998,
            checkpoint_every=100,
        ),
    ),
)

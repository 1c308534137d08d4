"""How much of everything goes into x2i-tiny, and how each of its stages is trained."""

from dataclasses import dataclass, replace

from x2i_app.miniature import tokenizers
from x2i_app.miniature.align import AlignOptions
from x2i_app.miniature.control import ControlOptions
from x2i_app.training.distill_options import DistillOptions
from x2i_app.training.loop_options import LoopOptions


@dataclass(frozen=True)
class Recipe:
    """How much of everything.

    scenes, sounds: in the pools that training reads. pictures: in a batch of the VAE. captions: in one of the teacher.
    sentences, shown: conversations in words alone, and of another kind, in a step of the MLLM; a quarter of `shown`
    are screenshots beside them. reading_steps: the first of the MLLM's, in which its eyes learn to read. basic_steps:
    those after them, in which media go from the basic conversations to all. The rest: each stage's training.
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
    teacher: LoopOptions
    align: AlignOptions
    control: ControlOptions

    def shortened(self, steps: int) -> "Recipe":
        """The same with a few steps a stage and small pools, to see that everything works."""
        few = {"steps": steps, "warmup_steps": 1, "checkpoint_every": steps, "workers": 0}
        return Recipe(
            scenes=250,
            audios=100,
            images=2,
            captions=8,
            sentences=4,
            shown=2,
            reading_steps=0,
            basic_steps=1,
            vae=replace(self.vae, **few),
            mllm=replace(self.mllm, **few),
            teacher=replace(self.teacher, **few),
            align=self.align.shortened(**few),
            control=self.control.shortened(**few),
        )


# Muon, because it needs fewer steps: the VAE's squared error was 0.018 after 250, with AdamW still 0.024 after 458 (the
# same warm-up and learning rate, batches of 6 and 8).
RECIPE = Recipe(
    scenes=24_000,
    audios=3_000,
    images=6,
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

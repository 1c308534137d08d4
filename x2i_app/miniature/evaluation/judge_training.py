"""Train the judge on renders of the cartoon world that are blurred and noisy, as images from a VAE may be."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import Dataset

from x2i_app.errors import X2IError
from x2i_app.limits import Range, validate_integer
from x2i_app.miniature.evaluation.attributes import NOTHING, Tally, compare
from x2i_app.miniature.evaluation.judge import CONFIG_NAME, KINDS_OR_NOTHING, Judge
from x2i_app.miniature.pixels import to_tensor
from x2i_app.miniature.pool import ImagePool, image_pool
from x2i_app.miniature.world import COLOURS, GROUNDS, PLACES, SIZES, SKIES, Scene
from x2i_app.training.loop import LoopOptions, train

POOL_SEED = 7_001  # used nowhere else, so that no render of the evaluation is trained on
FRESH_SEED = 7_002
STEPS = 2000
BATCH_SIZE = 64
_STEPS, _IMAGES = Range(1, 1_000_000), Range(1, 1_000_000)

_IGNORED = -100  # cross_entropy's label for "does not count": a free place has no colour and no size
_RADIUS = 5  # pixels: half the width of the blurring kernel
_BLUR, _NOISE = 1.6, 0.07  # largest sigma in training: in pixels, and for values in [-1, 1]

# The judge must read images with a blur of this sigma (pixels) and noise of this sigma (for values in [-1, 1]).
CONDITIONS = {"clean": (0.0, 0.0), "blurred": (1.2, 0.0), "noisy": (0.0, 0.05), "blurred and noisy": (1.2, 0.05)}


@dataclass(frozen=True)
class JudgeBatches(Dataset):
    """Degraded images (B, 3, H, W) of a pool and their labels (B, 11); a function of the step."""

    pool: ImagePool
    batch_size: int = BATCH_SIZE
    seed: int = 0

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng((self.seed, step))
        chosen = rng.integers(len(self.pool.scenes), size=self.batch_size)
        images = to_tensor(self.pool.images[chosen])
        wanted = labels([self.pool.scenes[index] for index in chosen])
        if rng.random() < 0.5:  # a mirrored scene is a valid scene
            images, wanted = images.flip(-1), _mirrored(wanted)
        return _degraded(images, rng), wanted


def labels(scenes: Sequence[Scene]) -> torch.Tensor:
    """(B, 11) int64: sky, ground, then kind, colour and size of the three places from left to right."""
    return torch.tensor([_labels(scene) for scene in scenes])


def compute_loss(judge: Judge, batch: tuple[torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Cross-entropy of every attribute; colour and size count only at places with a thing."""
    images, wanted = batch
    logits = judge(images)
    sky, ground, things = wanted[:, 0], wanted[:, 1], wanted[:, 2:].unflatten(1, (3, len(PLACES)))
    terms = {
        "sky": functional.cross_entropy(logits.sky.float(), sky),
        "ground": functional.cross_entropy(logits.ground.float(), ground),
    }
    for index, name in enumerate(("kind", "colour", "size")):
        scores = getattr(logits, name).float().flatten(0, 1)
        terms[name] = functional.cross_entropy(scores, things[:, index].flatten(), ignore_index=_IGNORED)
    return terms


def blur(images: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Blur images (B, 3, H, W), each with its own Gaussian sigma (B,) in pixels; 0 changes nothing."""
    offsets = torch.arange(-_RADIUS, _RADIUS + 1, dtype=torch.float32)
    kernels = torch.exp(-0.5 * (offsets / sigma.clamp(min=0.05)[:, None]) ** 2)
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).repeat_interleave(3, dim=0)[:, None]
    rows = functional.pad(images, (_RADIUS,) * 4, mode="replicate").flatten(0, 1)[None]
    rows = functional.conv2d(rows, kernels[..., None], groups=rows.shape[1])
    return functional.conv2d(rows, kernels[..., None, :], groups=rows.shape[1])[0].view_as(images)


def accuracies(judge: Judge, pool: ImagePool) -> dict[str, Tally]:
    """How much of a pool's images the judge reads correctly under each of CONDITIONS."""
    rng = torch.Generator().manual_seed(0)
    found = {}
    for name, (sigma, noise) in CONDITIONS.items():
        images = to_tensor(pool.images)
        if sigma:
            images = blur(images, torch.full((len(images),), sigma))
        images = images + noise * torch.randn(images.shape, generator=rng)
        tallies = map(compare, judge.read(images), pool.scenes)
        found[name] = sum(tallies, Tally())
    return found


def train_judge(work: Path, steps: int = STEPS, images: int = 20_000) -> Judge:
    """Train a judge on `images` renders, held-out pairs included; a run that was stopped resumes from folder `work`."""
    torch.manual_seed(0)
    judge = Judge()
    pool = image_pool(work / "pool", images, split=None, seed=POOL_SEED)
    options = LoopOptions(
        steps, learning_rate=2e-3, weight_decay=0.02, ema_decay=0.998, warmup_steps=min(100, steps // 10)
    )
    train(judge, JudgeBatches(pool), compute_loss, work / "checkpoints", options, title="judge")
    return judge.eval()


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    parser = argparse.ArgumentParser(prog="python -m x2i_app.miniature.evaluation.judge", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"training steps of {BATCH_SIZE} images ({STEPS})")
    parser.add_argument("--images", type=int, default=20_000, help="renders to train on (20000)")
    parser.add_argument("--pictures", type=int, dest="images", help=argparse.SUPPRESS)  # the flag's former name
    parser.add_argument("--work", type=Path, default=Path("runs/judge"), help="folder for renders and checkpoints")
    namespace = parser.parse_args(arguments)
    try:
        validate_integer("--steps", namespace.steps, _STEPS)
        validate_integer("--images", namespace.images, _IMAGES)
        if (namespace.output / CONFIG_NAME).exists():
            Judge.load(namespace.output)  # a judge may be overwritten, another model's folder may not
    except X2IError as error:
        parser.exit(2, f"x2i: {error}\n")
    train_judge(namespace.work, namespace.steps, namespace.images).save(namespace.output)
    judge = Judge.load(namespace.output)  # as users will load it, in half precision
    for split in (None, "test"):
        pool = image_pool(namespace.work / "pool", 1000, split=split, seed=FRESH_SEED)
        print("1000 fresh renders" if split is None else "1000 fresh renders, each with a held-out pair")
        for condition, tally in accuracies(judge, pool).items():
            details = ", ".join(f"{name} {share:.2%}" for name, share in tally.by_attribute.items())
            print(f"  {condition}: {tally.accuracy:.2%} ({details})")


def _labels(scene):
    things = {thing.place: thing for thing in scene.things}
    at_places = [things.get(place) for place in PLACES]
    return [
        SKIES.index(scene.sky),
        GROUNDS.index(scene.ground),
        *(KINDS_OR_NOTHING.index(thing.kind if thing else NOTHING) for thing in at_places),
        *(COLOURS.index(thing.colour) if thing else _IGNORED for thing in at_places),
        *(SIZES.index(thing.size) if thing else _IGNORED for thing in at_places),
    ]


def _mirrored(wanted):
    """Labels of the same images, mirrored."""
    return torch.cat((wanted[:, :2], wanted[:, 2:].unflatten(1, (3, len(PLACES))).flip(-1).flatten(1)), dim=1)


def _degraded(images, rng):
    """Images as a VAE may return them: blurred, with coarse colours, brighter or darker, and noisy."""
    count = len(images)

    def each(low, high):
        return torch.from_numpy(rng.uniform(low, high, count).astype(np.float32))

    images = blur(images, each(0, _BLUR) * (each(0, 1) < 0.7))
    # Colours at half the resolution, brightness at the full one.
    grey = images.mean(dim=1, keepdim=True)
    coarse = functional.interpolate(functional.avg_pool2d(images - grey, 2), scale_factor=2, mode="bilinear")
    some = (each(0, 1) < 0.4)[:, None, None, None]
    images = torch.where(some, grey + coarse, images)
    contrast, brightness = each(0.9, 1.1)[:, None, None, None], each(-0.08, 0.08)[:, None, None, None]
    images = images * contrast + brightness
    noise = torch.from_numpy(rng.standard_normal(images.shape, dtype=np.float32))
    return images + noise * (each(0, _NOISE) * (each(0, 1) < 0.6))[:, None, None, None]

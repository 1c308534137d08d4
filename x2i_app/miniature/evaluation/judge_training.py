"""How the judge learns: renders of the cartoon world, made as soft and as noisy as pictures from a VAE may be."""

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

POOL_SEED = 7_001  # nobody else's, so that the judge has never seen a picture of the evaluation
FRESH_SEED = 7_002
STEPS = 2000
BATCH_SIZE = 64
_STEPS, _IMAGES = Range(1, 1_000_000), Range(1, 1_000_000)

_IGNORED = -100  # cross_entropy's word for "no answer here": the colour of nothing
_RADIUS = 5  # pixels of the blurring kernel to each side
_BLUR, _NOISE = 1.6, 0.07  # strongest sigma in training: pixels, and of values in [-1, 1]

# What the judge must withstand: sigma of a blur in pixels, sigma of noise on values in [-1, 1].
CONDITIONS = {"clean": (0.0, 0.0), "blurred": (1.2, 0.0), "noisy": (0.0, 0.05), "blurred and noisy": (1.2, 0.05)}


@dataclass(frozen=True)
class JudgeBatches(Dataset):
    """Softened pictures (B, 3, H, W) of a pool and their labels (B, 11), as a function of the step."""

    pool: ImagePool
    batch_size: int = BATCH_SIZE
    seed: int = 0

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng((self.seed, step))
        chosen = rng.integers(len(self.pool.scenes), size=self.batch_size)
        images = to_tensor(self.pool.images[chosen])
        wanted = labels([self.pool.scenes[index] for index in chosen])
        if rng.random() < 0.5:  # a mirrored world is as good a world
            images, wanted = images.flip(-1), _mirrored(wanted)
        return _worn(images, rng), wanted


def labels(scenes: Sequence[Scene]) -> torch.Tensor:
    """(B, 11) int64: sky, ground, then kind, colour and size of the three places from left to right."""
    return torch.tensor([_labels(scene) for scene in scenes])


def compute_loss(judge: Judge, batch: tuple[torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Cross-entropy of every attribute; colour and size count only where there is a thing."""
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
    """Gaussian blur of pictures (B, 3, H, W), each with its own sigma (B,) in pixels; 0 leaves it as it is."""
    offsets = torch.arange(-_RADIUS, _RADIUS + 1, dtype=torch.float32)
    kernels = torch.exp(-0.5 * (offsets / sigma.clamp(min=0.05)[:, None]) ** 2)
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).repeat_interleave(3, dim=0)[:, None]
    rows = functional.pad(images, (_RADIUS,) * 4, mode="replicate").flatten(0, 1)[None]
    rows = functional.conv2d(rows, kernels[..., None], groups=rows.shape[1])
    return functional.conv2d(rows, kernels[..., None, :], groups=rows.shape[1])[0].view_as(images)


def accuracies(judge: Judge, pool: ImagePool) -> dict[str, Tally]:
    """What the judge reads right of a pool's pictures, under each of CONDITIONS."""
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
    """A judge trained on `pictures` renders of any pair; a killed run goes on where it was in the folder `work`."""
    torch.manual_seed(0)
    judge = Judge()
    pool = image_pool(work / "pool", images, split=None, seed=POOL_SEED)
    options = LoopOptions(
        steps, learning_rate=2e-3, weight_decay=0.02, ema_decay=0.998, warmup_steps=min(100, steps // 10)
    )
    train(judge, JudgeBatches(pool), compute_loss, work / "checkpoints", options, title="judge")
    return judge.eval()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m x2i_app.miniature.evaluation.judge", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of {BATCH_SIZE} pictures")
    parser.add_argument("--pictures", type=int, default=20_000, help="how many to draw and learn from")
    parser.add_argument("--work", type=Path, default=Path("runs/judge"), help="folder for renders and checkpoints")
    namespace = parser.parse_args(arguments)
    try:
        validate_integer("--steps", namespace.steps, _STEPS)
        validate_integer("--pictures", namespace.images, _IMAGES)
        if (namespace.output / CONFIG_NAME).exists():
            Judge.load(namespace.output)  # of which a new one may take the place, but of nothing else
    except X2IError as error:
        parser.exit(2, f"x2i: {error}\n")
    train_judge(namespace.work, namespace.steps, namespace.images).save(namespace.output)
    judge = Judge.load(namespace.output)  # what others will get, in half precision
    for split in (None, "test"):
        pool = image_pool(namespace.work / "pool", 1000, split=split, seed=FRESH_SEED)
        print("1000 fresh renders" if split is None else "1000 fresh renders, each with a held-out pair")
        for condition, tally in accuracies(judge, pool).items():
            details = ", ".join(f"{name} {share:.2%}" for name, share in tally.by_attribute.items())
            print(f"  {condition}: {tally.accuracy:.2%} ({details})")


def _labels(scene):
    things = {thing.place: thing for thing in scene.things}
    there = [things.get(place) for place in PLACES]
    return [
        SKIES.index(scene.sky),
        GROUNDS.index(scene.ground),
        *(KINDS_OR_NOTHING.index(thing.kind if thing else NOTHING) for thing in there),
        *(COLOURS.index(thing.colour) if thing else _IGNORED for thing in there),
        *(SIZES.index(thing.size) if thing else _IGNORED for thing in there),
    ]


def _mirrored(wanted):
    """The labels of pictures whose left is the right."""
    return torch.cat((wanted[:, :2], wanted[:, 2:].unflatten(1, (3, len(PLACES))).flip(-1).flatten(1)), dim=1)


def _worn(images, rng):
    """Pictures as a VAE may return them: blurred, with the coarse colours of a JPEG, brighter or darker, noisy."""
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

"""Many rendered scenes on disk, so that training reads what it would take too long to draw again and again."""

import os
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from x2i_app.miniature.draw import draw_scene
from x2i_app.miniature.edits import random_edit
from x2i_app.miniature.scene import Scene, Split, random_scene
from x2i_app.miniature.skies import LOOP

_CHUNK = 250


@dataclass(frozen=True)
class ImagePool:
    """scenes: N scenes. pictures: their pictures, uint8 (N, size, size, 3)."""

    scenes: list[Scene]
    images: np.ndarray


def pool_scene(index: int, split: Split | None, seed: int) -> tuple[Scene, random.Random]:
    """The scene at an index of a pool, and the generator that made it, for what else is random about it."""
    rng = random.Random(f"pool {seed} {split} {index}")
    return random_scene(rng, split=split), rng


def pool_image(index: int, split: Split | None, seed: int, edited: bool = False) -> tuple[Scene, float, int]:
    """Scene, moment and seed of the picture at an index of a pool, as `draw_scene` takes them.

    edited: after a random edit of that scene; moment and seed stay, and so does every pixel that the edit leaves alone.
    """
    scene, rng = pool_scene(index, split, seed)
    moment, image_seed = rng.uniform(0, LOOP), rng.randrange(1 << 30)
    if edited:
        scene = random_edit(scene, rng, split=split).apply(scene)
    return scene, moment, image_seed


def image_pool(
    directory: Path,
    count: int,
    *,
    split: Split | None = None,
    seed: int = 0,
    size: int = 128,
    edited: bool = False,
    processes: int = 2,
) -> ImagePool:
    """`count` random scenes, each drawn once with its own seed and moment; rendered in parallel, kept in `directory`.

    A killed run goes on after the last chunk that was complete; the same arguments give the same pool. A larger pool
    begins with the smaller one. edited: as in `pool_picture`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    starts = range(0, count, _CHUNK)
    kind = "edited-" if edited else ""
    paths = [directory / f"{kind}{split}-{seed}-{size}-{start:07d}.npy" for start in starts]
    missing = [
        (path, start, split, seed, size, edited) for path, start in zip(paths, starts, strict=True) if not path.exists()
    ]
    if missing:
        run_in_processes(_render, missing, processes, title="drawing", unit=f"x{_CHUNK}")
    images = np.empty((count, size, size, 3), np.uint8)
    for path, start in zip(paths, starts, strict=True):
        part = images[start : start + _CHUNK]
        part[:] = np.load(path)[: len(part)]
    return ImagePool([pool_image(index, split, seed, edited)[0] for index in range(count)], images)


def edit_pools(directory: Path, count: int, seed: int = 0) -> tuple[ImagePool, ImagePool]:
    """`count` pictures that training may show, before and after one edit each."""
    before, after = (image_pool(directory, count, split="train", seed=seed, edited=edited) for edited in (False, True))
    return before, after


def run_in_processes(
    run: Callable[[Any], None], tasks: Sequence[Any], processes: int, *, title: str, unit: str
) -> None:
    """`run` every task in one of some new processes, with a progress bar.

    They are spawned: a forked copy of a process in which torch has already computed on several threads waits for ever
    for threads that were not copied.
    """
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_end_with_parent) as executor:
        for _ in tqdm(executor.map(run, tasks), desc=title, total=len(tasks), unit=unit):
            pass


def _end_with_parent():
    """Or a process that lost the one which was killed would wait for tasks for ever."""

    def watch():
        parent_process().join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _render(task):
    path, start, split, seed, size, edited = task
    images = np.empty((_CHUNK, size, size, 3), np.uint8)
    for offset in range(_CHUNK):
        scene, moment, image_seed = pool_image(start + offset, split, seed, edited)
        images[offset] = draw_scene(scene, size, moment, image_seed)
    save_array(path, images)


def save_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy file that is whole, or not there, wherever the process is killed."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        np.save(file, array)
    temporary.replace(path)

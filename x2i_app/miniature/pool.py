"""A pool of rendered scenes on disk: to render a scene takes longer than to train on it."""

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

_CHUNK = 50


@dataclass(frozen=True)
class ImagePool:
    """scenes: N scenes. images: their renders, uint8 (N, size, size, 3)."""

    scenes: list[Scene]
    images: np.ndarray


def pool_scene(index: int, split: Split | None, seed: int) -> tuple[Scene, random.Random]:
    """The scene at an index of a pool, and the generator that made it, for its other random values."""
    rng = random.Random(f"pool {seed} {split} {index}")
    return random_scene(rng, split=split), rng


def pool_image(index: int, split: Split | None, seed: int, edited: bool = False) -> tuple[Scene, float, int]:
    """Scene, time and seed of the image at an index of a pool, as `draw_scene` takes them.

    edited: apply a random edit to the scene; time and seed stay, so that all other pixels stay too.
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
    """`count` random scenes, each rendered with its own seed and time; made in parallel and cached in `directory`.

    A run that was stopped resumes after its last complete chunk. The same arguments give the same pool, and a larger
    pool starts with the smaller one. edited: as in `pool_image`.
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
    """`count` renders without pairs of HELD_OUT, before and after one edit each."""
    original, edited = (image_pool(directory, count, split="train", seed=seed, edited=edit) for edit in (False, True))
    return original, edited


def run_in_processes(
    run: Callable[[Any], None], tasks: Sequence[Any], processes: int, *, title: str, unit: str
) -> None:
    """Call `run` with every task, in new processes, with a progress bar.

    The processes are spawned, not forked: the fork of a process in which torch has already used several threads waits
    for ever for threads that were not copied.
    """
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_end_with_parent) as executor:
        for _ in tqdm(executor.map(run, tasks), desc=title, total=len(tasks), unit=unit):
            pass


def _end_with_parent():
    """End this process when its parent ends, even by a kill; it would otherwise wait for tasks for ever."""

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
    """Write a .npy file atomically: if the process is killed, the file is complete or absent."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        np.save(file, array)
    temporary.replace(path)

"""Last stage of x2i-tiny: LightControl, trained on pairs of renders that differ by one edit.

The prompt is T5's and CLIP's embedding of the edited scene, which AlignNet imitates, so that the LightControl fits any
AlignNet distilled from that teacher. Each render of a pair is the source of one sample and the target of another one.
"""

import io
import json
import random
import shutil
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm.auto import tqdm

from x2i_app.miniature.pool import ImagePool
from x2i_app.miniature.sentences import describe
from x2i_app.miniature.tokenizers import T5_LENGTH
from x2i_app.models import LightControl
from x2i_app.training import LightControlJob, LoopOptions
from x2i_app.training.job import write_settings

WIDTHS, TIME_EMBED_DIM = (16, 32, 96), 64  # half a million parameters a double block
_CANONICAL = 0.8  # share of captions that are canonical sentences, as the MLLM's answers are


@dataclass(frozen=True)
class ControlOptions:
    """pairs: number of pairs of renders. batch_size: pairs in a step. loop: options of the training loop."""

    pairs: int
    batch_size: int
    loop: LoopOptions

    def shortened(self, **few: Any) -> "ControlOptions":
        """The same options for a few steps on a few pairs."""
        return replace(self, pairs=8, batch_size=2, loop=replace(self.loop, **few))


def write_edits(pools: tuple[ImagePool, ImagePool], path: Path, seed: int) -> None:
    """Write a .tar shard of samples for `train light-control`, two for each pair, with lossless images.

    Each sample has its source image as .webp, its target image as .png, and a caption of the target as .txt.
    pools: before and after the edit. An existing file is kept.
    """
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, rng = path.with_suffix(".tmp"), random.Random(f"edits {seed}")
    with tarfile.open(temporary, "w") as shard:
        for index in tqdm(range(len(pools[0].scenes)), desc="writing edits", dynamic_ncols=True):
            for side, pool in enumerate(pools):
                caption = describe(pool.scenes[index], "en", None if rng.random() < _CANONICAL else rng)
                files = {
                    "webp": _encoded(pools[1 - side].images[index], "WEBP", lossless=True, method=0),
                    "png": _encoded(pool.images[index], "PNG"),
                    "txt": caption.encode(),
                }
                for extension, content in files.items():
                    member = tarfile.TarInfo(f"{index:06d}-{side}.{extension}")
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))
    temporary.replace(path)


def _encoded(pixels, form, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def make_light_control(
    bundle: Path, pools: tuple[ImagePool, ImagePool], directory: Path, options: ControlOptions, seed: int
) -> Path:
    """Train a LightControl for the FLUX.1 in the folder `bundle`, with its T5 and CLIP; the folder of the result.

    `python -m x2i_app train light-control` gives the same with the pairs and settings that stay in `directory`.
    """
    job = control_job(bundle, directory, options, seed)
    write_edits(pools, Path(job.data[0]), seed)
    write_settings(job)
    return job.run()


def control_job(bundle: Path, directory: Path, options: ControlOptions, seed: int) -> LightControlJob:
    """The training of LightControl as a job of `train light-control`."""
    return LightControlJob(
        output=directory,
        data=(str(directory / "edits.tar"),),
        max_broken=0,
        flux=str(bundle),
        reader="teacher",
        max_sequence_length=T5_LENGTH,
        widths=WIDTHS,
        time_embed_dim=TIME_EMBED_DIM,
        resolution=128,
        batch_size=options.batch_size,
        gradient_checkpointing=False,
        loop=replace(options.loop, seed=seed),
    )


def add_to_bundle(light_control: Path, bundle: Path) -> None:
    """Add a LightControl to the folder of a pipeline without one."""
    shutil.copytree(light_control, bundle / "light_control")
    index = bundle / "model_index.json"
    parts = json.loads(index.read_text(encoding="utf-8"))
    parts["light_control"] = [LightControl.__module__, LightControl.__name__]
    index.write_text(json.dumps(parts, indent=2, sort_keys=True) + "\n", encoding="utf-8")

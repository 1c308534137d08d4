"""Last stage of x2i-tiny: LightControl, from pairs of drawings that one edit tells apart.

Its transformer reads T5's and CLIP's words for the edited scene, which the AlignNet imitates, so that it fits any
AlignNet distilled from that teacher. Either drawing of a pair may be the one that is shown.
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
from x2i_app.training.image_jobs import LightControlJob
from x2i_app.training.loop_options import LoopOptions
from x2i_app.training.options import write_settings

WIDTHS, TIME_EMBED_DIM = (16, 32, 96), 64  # half a million parameters a double block
_CANONICAL = 0.8  # share of captions in the wording of the MLLM's answers


@dataclass(frozen=True)
class ControlOptions:
    """pairs: of drawings. batch_size: pairs a step. loop: how it is trained."""

    pairs: int
    batch_size: int
    loop: LoopOptions

    def shortened(self, **few: Any) -> "ControlOptions":
        """A few steps on a few pairs."""
        return replace(self, pairs=8, batch_size=2, loop=replace(self.loop, **few))


def write_edits(pools: tuple[ImagePool, ImagePool], path: Path, seed: int) -> None:
    """A .tar shard of samples as `train light-control` reads them, two of a pair, and neither has lost anything.

    Each has what is shown as .webp, what is wanted as .png, and words for what is wanted as .txt.
    pools: before and after the edit. A file that is there is left as it is.
    """
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, rng = path.with_suffix(".tmp"), random.Random(f"edits {seed}")
    with tarfile.open(temporary, "w") as shard:
        for index in tqdm(range(len(pools[0].scenes)), desc="writing edits", dynamic_ncols=True):
            for side, pool in enumerate(pools):
                words = describe(pool.scenes[index], "en", None if rng.random() < _CANONICAL else rng)
                files = {
                    "webp": _encoded(pools[1 - side].images[index], "WEBP", lossless=True, method=0),
                    "png": _encoded(pool.images[index], "PNG"),
                    "txt": words.encode(),
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
    """The folder of a trained LightControl for the FLUX.1 in the folder `bundle`, whose T5 and CLIP say what to draw.

    It is what `python -m x2i_app train light-control` makes of the pairs and settings that are left in `directory`.
    """
    job = control_job(bundle, directory, options, seed)
    write_edits(pools, Path(job.data[0]), seed)
    write_settings(job)
    return job.run()


def control_job(bundle: Path, directory: Path, options: ControlOptions, seed: int) -> LightControlJob:
    """The training of LightControl as a job of the command."""
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
    """Put it, as a part, into the folder of a pipeline that had none."""
    shutil.copytree(light_control, bundle / "light_control")
    index = bundle / "model_index.json"
    parts = json.loads(index.read_text(encoding="utf-8"))
    parts["light_control"] = [LightControl.__module__, LightControl.__name__]
    index.write_text(json.dumps(parts, indent=2, sort_keys=True) + "\n", encoding="utf-8")

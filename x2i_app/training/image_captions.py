"""`x2i caption`: an MLLM writes a caption beside every image of a folder that has none, for `train lora`."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from tqdm.auto import tqdm

from x2i_app.caption_files import CAPTION_SUFFIXES, IMAGE_SUFFIXES, find_tables, is_mask, read_table, visible_files
from x2i_app.encoders import MLLMEncoder
from x2i_app.errors import InvalidRequestError, TrainingError
from x2i_app.media import load_image
from x2i_app.presets import PRESETS
from x2i_app.training.frozen import load_mllm, preset_of
from x2i_app.training.samples import Broken

PROMPT = "Describe this image in one or two plain English sentences, without opinions."
_PIXELS = 448 * 448  # of an image that is described; for drawing, an MLLM sees less
_OPENINGS = re.compile(
    r"^((sure|certainly|of course)\b[^.:]*[:.]|(here is|this is) (a|the) (caption|description)[^:]*:)\s*", re.IGNORECASE
)


def caption_folder(
    folder: Path, preset: str, mllm: str | None, prompt: str | None, max_broken: int, device: torch.device
) -> tuple[int, int]:
    """Write `house.txt` beside `house.jpg` for all images without a caption; how many were written, and had one.

    preset, mllm: as in `train lora`. prompt: what the MLLM is asked; None asks for a description. A file that is there
    is never replaced, so a run that was stopped continues. Raises TrainingError if no image is found, or too many
    cannot be opened or described; each of these is named on standard error.
    """
    images = [path for path in visible_files(folder) if path.suffix.lower() in IMAGE_SUFFIXES and not is_mask(path)]
    if not images:
        raise TrainingError(f"There are no images in {str(folder)!r}; give a folder with .jpg, .png or .webp files.")
    listed = {row.file for table in find_tables(folder) for row in read_table(table) if not row.problem}
    missing = [path for path in images if path not in listed and not any(_texts_of(path))]
    if missing:
        encoder = _load(preset, mllm, device)
        written = _caption(missing, lambda image: describe(encoder, image, prompt), Broken(max_broken))
    else:
        written = 0
    return written, len(images) - len(missing)


def describe(encoder: MLLMEncoder, image: Image.Image, prompt: str | None = None) -> str:
    """What an MLLM says of an RGB image, cleaned. Raises TrainingError if it says nothing."""
    mark = encoder.spec.unknown_mark
    if prompt is None:
        prompt = "" if mark else PROMPT  # an MLLM with a mark says what it sees by itself
    answer = encoder.encode(prompt, [image], reason=True).answer or ""
    caption = clean_caption(answer.removesuffix(mark), encoder.processor.tokenizer.get_added_vocab())
    if not caption:
        raise TrainingError("the MLLM said nothing about it")
    return caption


def clean_caption(answer: str, reserved: dict[str, int]) -> str:
    """An answer as one row without reserved tokens of the MLLM, opening phrases and quotes."""
    for token in sorted(reserved, key=len, reverse=True):
        answer = answer.replace(token, " ")
    text = _OPENINGS.sub("", " ".join(answer.split()))
    return text.strip("\"'“”* ")


def _load(preset: str, mllm: str | None, device: torch.device) -> MLLMEncoder:
    preset = preset_of(preset, mllm)
    encoder = load_mllm(preset, mllm, torch.float32 if device.type == "cpu" else torch.bfloat16)
    if "image" not in encoder.spec.modalities:
        raise InvalidRequestError(f"{preset} takes no images; choose another MLLM.")
    if not (preset in PRESETS and PRESETS[preset].directory):  # a bundled MLLM sees what it was trained with
        encoder.spec = replace(encoder.spec, template="plain", image_size=None, max_image_pixels=_PIXELS)
    encoder.model.to(device)
    return encoder


def _caption(paths: list[Path], say: Callable[[Image.Image], str], broken: Broken) -> int:
    count = 0
    for path in tqdm(paths, desc="captions", dynamic_ncols=True):
        try:
            caption = say(load_image(path))
            with path.with_suffix(CAPTION_SUFFIXES[0]).open("x", encoding="utf-8") as file:
                file.write(caption + "\n")
            count += 1
        except FileExistsError:
            continue  # of another image with this stem, or of another process
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one image, the others are read
            broken.add(str(path), error)
    return count


def _texts_of(image: Path) -> Iterator[Path]:
    """The caption files beside an image."""
    beside = (image.with_suffix(suffix) for suffix in (*CAPTION_SUFFIXES, ".json"))
    return (path for path in beside if path.exists())

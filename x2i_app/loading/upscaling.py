"""Enlarges images: by an upscaler that the user has (ESRGAN and its relatives, by spandrel), or by Lanczos."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError

from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.loading.checkpoints import read_state_dict
from x2i_app.loading.files import SUFFIXES
from x2i_app.loading.hub import models_folder
from x2i_app.media import CAPS

SCALES = (2, 4)
FOLDER = "upscalers"  # in the folder with models
LANCZOS = "lanczos"
_TILE = 256  # pixels of the image; what an upscaler reads at once, so that memory does not grow with the image
_OVERLAP = 16  # pixels around each tile, which are not used: near its edges an upscaler sees too little


def find_upscalers(models: str | Path | None = None) -> dict[str, Path]:
    """The upscalers in the folder `models`/upscalers, by the names of their files. models: as in `load_pipeline`."""
    folder = models_folder(models) / FOLDER
    return {path.name: path for path in sorted(folder.glob("*")) if path.suffix.lower() in SUFFIXES}


def load_upscaler(source: str | Path, models: str | Path | None = None) -> ImageModelDescriptor:
    """Load an upscaler on the CPU. source: a file, or the name of one of `find_upscalers`. Nothing in it is executed.

    Raises CheckpointError if it is missing, damaged, or no upscaler for color images.
    """
    known = find_upscalers(models)
    path = known.get(str(source), Path(source))
    if not path.is_file():
        names = ", ".join(known) or f"none; put .safetensors or .pth files into {models_folder(models) / FOLDER}"
        raise CheckpointError(f"There is no upscaler {str(source)!r}; the upscalers here: {names}.")
    try:
        model = ModelLoader(device="cpu").load_from_state_dict(read_state_dict(path))
    except UnsupportedModelError as error:
        raise CheckpointError(
            f"{path.name} is no upscaler of a known kind; use the file as it was released."
        ) from error
    except (RuntimeError, KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"{path.name} is damaged or incomplete; download it again.") from error
    if not isinstance(model, ImageModelDescriptor) or (model.input_channels, model.output_channels) != (3, 3):
        raise CheckpointError(f"{path.name} is no upscaler for color images; use another file.")
    return model.eval()


def upscale(image: Image.Image, scale: int, upscaler: ImageModelDescriptor | None = None) -> Image.Image:
    """Enlarge an RGB image to exactly `scale` times its sides.

    scale: of SCALES. upscaler: of any scale of its own; it is applied once or twice, and the result is resampled to the
    size that was asked for. None resamples by Lanczos alone.
    Raises InvalidRequestError for another scale, or for a result that is larger than what can be read again.
    """
    if scale not in SCALES:
        raise InvalidRequestError(f"scale is {scale}; it must be {' or '.join(map(str, SCALES))}.")
    size = (scale * image.width, scale * image.height)
    if max(size) > CAPS.image_side or size[0] * size[1] > CAPS.image_pixels:
        raise InvalidRequestError(
            f"{image.width} x {image.height} enlarged {scale} times is {size[0]} x {size[1]}; up to "
            f"{CAPS.image_pixels:,} pixels and {CAPS.image_side:,} on a side are allowed, so take a smaller image."
        )
    if upscaler is not None:
        image = _apply(upscaler, image)
        if upscaler.scale > 1 and image.width < size[0]:
            image = _apply(upscaler, image)
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


@torch.no_grad()
def _apply(upscaler: ImageModelDescriptor, image: Image.Image) -> Image.Image:
    """What an upscaler makes of an image, tile by tile."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].to(upscaler.device, upscaler.dtype) / 255
    height, width = pixels.shape[2:]
    scale = upscaler.scale
    result = np.empty((scale * height, scale * width, 3), dtype=np.uint8)
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            above, before = max(0, top - _OVERLAP), max(0, left - _OVERLAP)
            bottom, right = min(height, top + _TILE), min(width, left + _TILE)
            tile = pixels[:, :, above : bottom + _OVERLAP, before : right + _OVERLAP]
            drawn = (255 * upscaler(tile)[0].float().clamp(0, 1)).round().byte().permute(1, 2, 0).cpu().numpy()
            rows = slice(scale * (top - above), scale * (bottom - above))
            columns = slice(scale * (left - before), scale * (right - before))
            result[scale * top : scale * bottom, scale * left : scale * right] = drawn[rows, columns]
    return Image.fromarray(result)

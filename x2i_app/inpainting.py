"""Painting on a picture: which of diffusers' pipelines does it, and what keeps the rest as it was."""

from typing import Any

from diffusers import (
    DiffusionPipeline,
    FluxFillPipeline,
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
)
from PIL import Image, ImageChops, ImageFilter

from x2i_app.errors import InvalidRequestError
from x2i_app.media import Painting

_SEAM = 2  # pixels over which the new goes over into the old


def choose_pipeline(
    transformer: FluxTransformer2DModel, painting: Painting | None, strength: float | None
) -> tuple[type[DiffusionPipeline], dict[str, Any]]:
    """The pipeline that paints on such a picture with this transformer, and what it takes beside the usual.

    strength: 0 to 1; None is 1. Raises InvalidRequestError if the transformer is Fill's and there is nothing to fill.
    """
    fills = transformer.config.in_channels != transformer.out_channels  # it also reads the picture and the mask
    if fills and not (painting and painting.mask):
        raise InvalidRequestError(
            "This FLUX model only fills parts of pictures; give a picture with a mask, or with room around it."
        )
    if painting is None:
        return FluxPipeline, {}
    given = {"image": painting.image, "strength": 1.0 if strength is None else strength}
    if painting.mask is None:
        return FluxImg2ImgPipeline, given
    return FluxFillPipeline if fills else FluxInpaintPipeline, given | {"mask_image": painting.mask}


def keep_the_rest(drawn: Image.Image, painting: Painting) -> Image.Image:
    """`drawn` where the mask is white, with a soft seam inside of it, and the old picture to the pixel elsewhere.

    The VAE alone would change also what is to be left alone, a little.
    """
    soft = ImageChops.darker(painting.mask, painting.mask.filter(ImageFilter.GaussianBlur(_SEAM)))
    return Image.composite(drawn, painting.image, soft)

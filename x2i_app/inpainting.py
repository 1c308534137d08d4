"""Image-to-image, inpainting and filling: which of diffusers' FLUX pipelines to use, and restoring unmasked pixels."""

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
from x2i_app.media import InpaintSource

_SEAM_RADIUS = 2  # pixels; standard deviation of the transition from new to original pixels


def choose_flux_pipeline(
    transformer: FluxTransformer2DModel, inpaint_source: InpaintSource | None, strength: float | None
) -> tuple[type[DiffusionPipeline], dict[str, Any]]:
    """The FLUX pipeline for this transformer and source image, and its arguments for the image.

    strength: 0 to 1; None means 1. Raises InvalidRequestError if the transformer is FLUX.1 Fill's and there is no mask.
    """
    is_fill = transformer.config.in_channels != transformer.out_channels  # its input includes the image and the mask
    if is_fill and not (inpaint_source and inpaint_source.mask):
        raise InvalidRequestError(
            "This FLUX model can only fill parts of an image; add an image with a mask, or extend an image."
        )
    if inpaint_source is None:
        return FluxPipeline, {}
    arguments = {"image": inpaint_source.image, "strength": 1.0 if strength is None else strength}
    if inpaint_source.mask is None:
        return FluxImg2ImgPipeline, arguments
    return FluxFillPipeline if is_fill else FluxInpaintPipeline, arguments | {"mask_image": inpaint_source.mask}


def restore_unmasked(generated: Image.Image, inpaint_source: InpaintSource) -> Image.Image:
    """`generated` where the mask is white, with a soft seam inside it, and the exact original pixels elsewhere.

    Without this, encoding and decoding by the VAE would slightly change unmasked pixels.
    """
    mask = inpaint_source.mask
    soft_mask = ImageChops.darker(mask, mask.filter(ImageFilter.GaussianBlur(_SEAM_RADIUS)))
    return Image.composite(generated, inpaint_source.image, soft_mask)

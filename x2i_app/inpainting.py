"""Which of diffusers' FLUX pipelines draws: from noise, from an image, in a mask, or close to a reference image."""

from typing import Any

from diffusers import (
    DiffusionPipeline,
    FluxFillPipeline,
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    FluxKontextInpaintPipeline,
    FluxKontextPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
)
from PIL import Image

from x2i_app.errors import InvalidRequestError
from x2i_app.media import InpaintSource


def needs_mask(transformer: FluxTransformer2DModel) -> bool:
    """Whether this is FLUX.1 Fill's, whose input includes an image and a mask."""
    return transformer.config.in_channels != transformer.out_channels


def choose_flux_pipeline(
    transformer: FluxTransformer2DModel,
    inpaint_source: InpaintSource | None,
    strength: float | None,
    reference: Image.Image | None = None,
    size: tuple[int, int] | None = None,
) -> tuple[type[DiffusionPipeline], dict[str, Any]]:
    """The FLUX pipeline for this transformer and these images, and its arguments for the images.

    strength: 0 to 1; None means 1. reference: RGB in a size that FLUX.1 Kontext can draw; None without one, or if the
    part of `inpaint_source` that is drawn is the reference. size: (width, height) of the result, with a reference.
    Raises InvalidRequestError if the transformer is FLUX.1 Fill's and there is no mask.
    """
    is_fill = needs_mask(transformer)
    if is_fill and not (inpaint_source and inpaint_source.mask):
        raise InvalidRequestError(
            "This FLUX model can only fill parts of an image; add an image with a mask, or extend an image."
        )
    # Kontext's pipelines would change the sizes to those of their training, each about 1024 x 1024.
    kontext = {"max_area": size[0] * size[1], "_auto_resize": False} if size else {}
    if inpaint_source is None:
        return (FluxKontextPipeline, {"image": reference} | kontext) if reference else (FluxPipeline, {})
    image, mask = inpaint_source.drawn()
    arguments = {"image": image, "strength": 1.0 if strength is None else strength}
    if mask is None:
        return FluxImg2ImgPipeline, arguments
    arguments["mask_image"] = mask
    if kontext:
        return FluxKontextInpaintPipeline, arguments | kontext | {"image_reference": reference}
    return FluxFillPipeline if is_fill else FluxInpaintPipeline, arguments

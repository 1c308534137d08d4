"""Which of diffusers' FLUX pipelines draws: from noise, from an image, in a mask, by a reference or a ControlNet."""

from collections.abc import Callable
from typing import Any

from diffusers import (
    DiffusionPipeline,
    FluxControlNetImg2ImgPipeline,
    FluxControlNetInpaintPipeline,
    FluxControlNetModel,
    FluxControlNetPipeline,
    FluxFillPipeline,
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    FluxKontextInpaintPipeline,
    FluxKontextPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
)
from PIL import Image, ImageOps

from x2i_app.controlnet import CONTROLNET_KINDS, FILL_AND_CONTROLNET, REFERENCE_AND_CONTROLNET, ControlNetInput
from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.media import InpaintSource
from x2i_app.media.canny import canny_edges


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


_WITH_CONTROLNET = {
    FluxPipeline: FluxControlNetPipeline,
    FluxImg2ImgPipeline: FluxControlNetImg2ImgPipeline,
    FluxInpaintPipeline: FluxControlNetInpaintPipeline,
}


def add_controlnet(
    cls: type[DiffusionPipeline],
    controlnet: FluxControlNetModel,
    own_kind: str | None,
    given: ControlNetInput,
    size: tuple[int, int],
    inpaint_source: InpaintSource | None,
    depth_of: Callable[[Image.Image], Image.Image] | None = None,
) -> tuple[type[DiffusionPipeline], dict[str, Any]]:
    """The pipeline of the same task with a ControlNet, and its arguments for the ControlNet.

    cls: what `choose_flux_pipeline` chose. own_kind: what the ControlNet is for, None if that is not known. size: as
    drawn, (width, height). depth_of: makes a depth map of a photo; None takes every image for one.
    Raises InvalidRequestError if there is no such pipeline, or if a ControlNet for several kinds of images is not told
    which one it gets.
    """
    if cls not in _WITH_CONTROLNET:
        raise InvalidRequestError(FILL_AND_CONTROLNET if cls is FluxFillPipeline else REFERENCE_AND_CONTROLNET)
    kind = given.kind or own_kind
    modes = [name for name, mode in CONTROLNET_KINDS.items() if mode < (controlnet.config.num_mode or 0)]
    if modes and kind not in modes:
        raise InvalidRequestError(
            f"This ControlNet is for several kinds of images; set controlnet_kind to one of {', '.join(modes)}."
        )
    whole = inpaint_source.image.size if inpaint_source else size
    image = ImageOps.fit(given.image, whole, Image.Resampling.LANCZOS)
    if kind == "depth" and depth_of:
        image = depth_of(image)  # of the whole, which says what is far
    if inpaint_source:
        image = image.crop(inpaint_source.area.box).resize(size, Image.Resampling.LANCZOS)
    arguments = {
        "control_image": canny_edges(image) if kind == "canny" else image,
        "control_mode": CONTROLNET_KINDS[kind] if modes else None,
        "controlnet_conditioning_scale": float(given.strength),
        "control_guidance_start": float(given.start),
        "control_guidance_end": float(given.end),
    }
    return _WITH_CONTROLNET[cls], arguments


def check_controlnet(controlnet: FluxControlNetModel, transformer: FluxTransformer2DModel) -> None:
    """Raise CheckpointError if a ControlNet is for a FLUX model of other sizes."""
    names = ("in_channels", "num_attention_heads", "attention_head_dim", "joint_attention_dim", "pooled_projection_dim")
    if needs_mask(transformer):
        raise CheckpointError(FILL_AND_CONTROLNET)
    for name in names:
        own, expected = controlnet.config[name], transformer.config[name]
        if own != expected:
            raise CheckpointError(
                f"This ControlNet has {own} as its {name}, but the FLUX model has {expected}; use a ControlNet that "
                "was trained for it."
            )

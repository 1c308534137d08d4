"""LightControl inside ComfyUI's FLUX model: its residuals are added as a ControlNet's."""

from typing import Any

import torch
from PIL import Image

from x2i_app.comfyui import host
from x2i_app.errors import CheckpointError
from x2i_app.models import LightControl
from x2i_app.models.control_hook import to_tensor

_KEY = "x2i_light_control"
_PIXELS = 8  # of a latent's side


def follow(model: Any, net: LightControl, image: Image.Image, strength: float, start: float, end: float) -> Any:
    """A copy of ComfyUI's model, which is a ModelPatcher, that keeps close to an image.

    image: RGB; center-cropped to the aspect ratio of the output. strength, start, end: as in
    `X2IPipeline.control`. Raises CheckpointError if the net is for another model.
    """
    from comfy.patcher_extension import WrappersMP

    params = getattr(model.model.diffusion_model, "params", None)
    width, depth = getattr(params, "hidden_size", 0), getattr(params, "depth", 0)
    if net.config.dim != width or net.config.num_blocks > depth:
        raise CheckpointError(
            f"This LightControl is for {net.config.num_blocks} double blocks of width {net.config.dim}, but the model "
            f"has {depth} of width {width}; use the LightControl trained for it."
        )
    controlled = model.clone()
    managed = host.Managed(net, str(model.load_device))
    others = controlled.get_additional_models_with_key(_KEY)  # of an X2I LightControl before this one
    controlled.set_additional_models(_KEY, [*others, managed.patcher])  # loaded and offloaded with the model
    wrapper = _Wrapper(net, image, strength, start, end)
    controlled.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, _KEY, wrapper)
    return controlled


class _Wrapper:
    """Runs instead of the model's forward, which it calls. The stems of the last size are kept."""

    def __init__(self, net: LightControl, image: Image.Image, strength: float, start: float, end: float):
        self._net, self._image, self._strength = net, image, strength
        self._start, self._end = start, end
        self._stems: tuple[tuple[int, int], list[torch.Tensor]] | None = None

    def __call__(
        self, forward, x, timestep, context, y=None, guidance=None, ref_latents=None, control=None, options=None, **more
    ):
        if self._strength and self._is_active(timestep, options or {}):
            control = self._with_residuals(control, x, timestep)
        return forward(x, timestep, context, y, guidance, ref_latents, control, options or {}, **more)

    def _with_residuals(self, control: dict[str, Any] | None, x: torch.Tensor, timestep: torch.Tensor):
        net, size = self._net, (x.shape[-1] * _PIXELS, x.shape[-2] * _PIXELS)
        if self._stems is None or self._stems[0] != size or self._stems[1][0].device != x.device:
            net.to(x.device)
            self._stems = size, net.stems(to_tensor(self._image, size).to(x.device, net.dtype))
        # Equal for the whole batch. ComfyUI adds each to the first tokens, which are those of the image.
        residuals = net.residuals(self._stems[1], 1000 * timestep[:1].float())
        added = [self._strength * residual.to(x) for residual in residuals]
        control = control or {}
        others = list(control.get("input") or ())
        for block, other in enumerate(others[: len(added)]):
            if other is not None:
                added[block] = added[block] + other
        return control | {"input": [*added, *others[len(added) :]], "output": control.get("output") or []}

    def _is_active(self, timestep: torch.Tensor, options: dict[str, Any]) -> bool:
        if self._start <= 0 and self._end >= 1:
            return True
        sigmas = options["sample_sigmas"][:-1].to(timestep)
        step = int((sigmas - timestep[0]).abs().argmin())
        return step / len(sigmas) >= self._start and (step + 1) / len(sigmas) <= self._end

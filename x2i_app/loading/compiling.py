"""torch.compile for the blocks of FLUX, which are most of the work of an image."""

from typing import Any

from diffusers import FluxTransformer2DModel

from x2i_app.devices import CARDS
from x2i_app.errors import InvalidRequestError
from x2i_app.loading.memory import Placement


def check_compile(placement: Placement) -> None:
    """Raise InvalidRequestError where compiled blocks would not run, or would not be faster."""
    if placement.device.type not in CARDS:
        raise InvalidRequestError(
            f"compile is for a CUDA or XPU card, and the device is {placement.device.type}; leave compile out."
        )
    if placement.offload == "group":
        raise InvalidRequestError(
            f"compile needs FLUX on the card as a whole, and the profile {placement.profile.name} moves it there block "
            "by block; leave compile out, or choose a smaller profile or model."
        )


def compile_blocks(transformer: FluxTransformer2DModel, **options: Any) -> None:
    """Compile the blocks when they run for the first time: one of each kind is compiled, and serves for all.

    Names of weights stay. With LoRAs, the pipeline runs the blocks uncompiled. options: of torch.compile.
    """
    transformer.compile_repeated_blocks(**options)

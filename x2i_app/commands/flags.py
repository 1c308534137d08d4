"""Flags that several commands have, and which of them were given."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from x2i_app.controlnet import CONTROLNET_DEFAULTS, CONTROLNET_KINDS
from x2i_app.errors import InvalidRequestError
from x2i_app.options import read_variables
from x2i_app.request import (
    LATER_SETTINGS,
    SETTINGS,
    VIDEO_SETTINGS,
)

if TYPE_CHECKING:
    from x2i_app.batch import Draw


def _read_lora(arguments: list[str]) -> tuple[str, float]:
    """`FILE:WEIGHT`, or a file with the weight 1."""
    path, _, weight = arguments[0].rpartition(":")
    try:
        return (path, float(weight)) if path else (arguments[0], 1.0)
    except ValueError:
        return arguments[0], 1.0


def first_given(options: Any, *names: str) -> str | None:
    """The flag of the first of these fields that was given another value than its default; None without one.

    X2I_* variables do not count, as they are for all commands.
    """
    variables = read_variables(type(options))
    for each in fields(options):
        value = getattr(options, each.name)
        if each.name in names and value not in (each.default, variables.get(each.name, each.default)):
            return f"--{each.name.replace('_', '-')}"
    return None


def reader(nargs, metavar: str, read: Callable[[list[str]], Any]) -> PrimitiveConstructorSpec:
    return PrimitiveConstructorSpec(nargs, metavar, read, lambda value: True, lambda value: [str(value)])


Files = tyro.conf.UseAppendAction[tuple[str, ...]]
LoRA = Annotated[tuple[str, float], reader(1, "FILE[:WEIGHT]", _read_lora)]
Number = Annotated[int | float | None, tyro.conf.arg(metavar="NUMBER")]
RayAddress = Annotated[str | None, reader("*", "[ADDRESS]", lambda given: " ".join(given) or "here")]
Switch = tyro.conf.FlagCreatePairsOff[bool]  # --name without --no-name


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """Where to draw."""

    ray: RayAddress = None
    """generate on a Ray cluster: auto, HOST:PORT, or no address for a new one on this machine"""
    replicas: Annotated[str, tyro.conf.arg(metavar="N[:M]")] = "1"
    """with --ray: copies of the model, from N to M"""
    gpus: float | None = None
    """with --ray: GPUs for each replica, or a fraction of one; none: 1 if the cluster has any"""

    def check(self) -> None:
        """Raise InvalidRequestError for what needs --ray, without it."""
        if self.ray is None and (flag := first_given(self, "replicas", "gpus")):
            raise InvalidRequestError(f"{flag} needs --ray, which says where to draw; add it, or leave {flag} out.")

    def draw(self) -> "Draw | None":
        """What draws rows on the cluster; None without one. Raises InvalidRequestError as `check`."""
        self.check()
        if self.ray is None:
            return None
        from x2i_app.scale.batch import draw_on

        return draw_on(self.ray, self.replicas, self.gpus)


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """What to generate. GenerationRequest says which values are allowed."""

    prompt: str | None = None
    """what to show, in any language"""
    width: int | None = None
    """pixels"""
    height: int | None = None
    """pixels"""
    steps: int | None = None
    """denoising steps"""
    guidance: Number = None
    """guidance scale"""
    seed: int | None = None
    """seed of the first image; each further one adds 1"""
    count: int | None = None
    """how many images"""
    reason: Switch = False
    """let the model answer first, and draw its answer"""
    control: Number = None
    """how closely LightControl keeps to the source image: 0 not at all, 1 as trained"""
    strength: Number = None
    """how much of the source image is redrawn, up to 1"""
    negative_prompt: str | None = None
    """what the image should not show; only models with many steps can follow it"""
    true_cfg_scale: Number = None
    """how strongly the negative prompt is avoided, 1 to 10"""
    fast: Switch = False
    """skip most of FLUX in steps that change little; for 12 steps or more"""
    controlnet_kind: Literal[tuple(CONTROLNET_KINDS)] | None = None
    """what the ControlNet's image shows; none: what the ControlNet's name says"""
    controlnet_strength: Number = None
    """how strongly the ControlNet acts: 0 not at all, 1 as trained, up to 2"""
    controlnet_start: Number = None
    """share of the steps after which it begins to act, 0 to 1"""
    controlnet_end: Number = None
    """share of the steps after which it stops, 0 to 1"""
    video_start: Number = None
    """seconds of the video before the part that is used"""
    video_end: Number = None
    """seconds at which that part ends; none: where the video ends"""
    loras: Annotated[tyro.conf.UseAppendAction[tuple[LoRA, ...]], tyro.conf.arg(name="lora")] = ()
    """a LoRA: a safetensors file, or OWNER/NAME[:FILE] of the hub; weight 1 is as trained; may be repeated"""

    def given(self) -> dict[str, object]:
        """The options that were given, by the names of flags; a prompt may be empty."""
        names = ("prompt", *SETTINGS, *LATER_SETTINGS, "control", "strength", *CONTROLNET_DEFAULTS, *VIDEO_SETTINGS)
        values = {name: getattr(self, name) for name in names}
        values |= {"reason": self.reason or None, "fast": self.fast or None, "loras": self.loras or None}
        return {name: value for name, value in values.items() if value is not None}

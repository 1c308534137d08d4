"""What each memory profile does to a pipeline, and how much memory there is."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch
from accelerate import cpu_offload_with_hook
from diffusers import AutoencoderKL
from torch import nn

from x2i_app.errors import InvalidRequestError
from x2i_app.loading.plan import COMPUTER_PROFILES, GIB, MemoryPlan, Planner, card_bytes
from x2i_app.loading.quantization import let_statistics_follow, quantize
from x2i_app.loading.skeletons import Parts, skeleton_of
from x2i_app.pipeline import X2IPipeline
from x2i_app.presets import MEMORY_PROFILES
from x2i_app.specs import MemoryProfile, Offload, Precision

_PLANS: "weakref.WeakKeyDictionary[X2IPipeline, dict[tuple[int, int], MemoryPlan]]" = weakref.WeakKeyDictionary()

# Devices that tell how much memory is free and that bitsandbytes computes on.
_CARDS = ("cuda", "xpu")


_WIDEST = 4  # times the file: 8-bit numbers that become 32-bit ones


@dataclass(frozen=True)
class Placement:
    """How a pipeline uses memory: by which profile, on which device, and where its parts wait."""

    profile: MemoryProfile
    device: torch.device
    offload: Offload


@dataclass(frozen=True)
class MemoryUse:
    """Bytes of a device: used by anybody, by this process, and in all."""

    used: int
    own: int
    total: int

    @property
    def free(self) -> int:
        """Bytes that can still be had."""
        return self.total - self.used


def memory_use(device: torch.device) -> MemoryUse:
    """How much of a device's memory is in use; of the computer's where the device has none of its own."""
    if device.type in _CARDS:
        backend = torch.get_device_module(device)
        free, total = backend.mem_get_info(device)
        return MemoryUse(total - free, backend.memory_reserved(device), total)
    memory = psutil.virtual_memory()
    return MemoryUse(memory.total - memory.available, psutil.Process().memory_info().rss, memory.total)


def best_device() -> str:
    """The device that draws fastest here."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def apply_profile(pipeline: X2IPipeline, name: str, device: torch.device) -> Placement:
    """Make a pipeline, loaded on the CPU, use memory as a profile says. name, device, errors: of `choose_placement`."""
    placement = choose_placement(name, device, lambda: plan_of(pipeline))
    place(pipeline, placement)
    return placement


def place(pipeline: X2IPipeline, placement: Placement) -> None:
    """Make a pipeline use memory as was chosen; parts that have settled already stay as they are."""
    settle(pipeline.mllm, placement.profile.mllm, placement)
    settle(pipeline.transformer, placement.profile.transformer, placement)
    tile_vae(pipeline.vae, placement.profile.tile)
    offload(pipeline, placement.offload, placement.device)
    pipeline.placement = placement


def settle(module: nn.Module, precision: Precision, placement: Placement) -> None:
    """Make a part's weights as small as they will be; bring it to its device if it is never to wait."""
    quantize(module, precision, placement.device)
    if placement.offload == "none":
        module.to(placement.device)


def choose_for_computer(name: str, planner: Callable[[], Planner], files: int, free: int | None = None) -> str:
    """The profile for a computer without a card, so that the system need not kill what it has no memory for.

    name: of MEMORY_PROFILES, or "auto", which takes 32 bit if that can be loaded into what is free, else 4 bit.
    planner: makes the plans, if there may be too little. files: bytes of the weights' files. free: bytes of memory;
    None asks the system. Raises InvalidRequestError if there is too little for what was asked.
    """
    free = memory_use(torch.device("cpu")).free if free is None else free
    if _WIDEST * files < free:
        return COMPUTER_PROFILES[0] if name == "auto" else name
    plans = planner()
    profile = plans.loadable(name, free)
    if profile:
        return profile.name
    thriftiest = MEMORY_PROFILES[COMPUTER_PROFILES[-1] if name == "auto" else name]
    raise InvalidRequestError(
        f"profile is {name!r}, for which loading takes {plans.loading(thriftiest) / GIB:.1f} GiB of the computer's "
        f"memory, and {free / GIB:.1f} are free; {plans.advise_computer(name, free)}."
    )


def choose_placement(
    name: str, device: torch.device, planner: Callable[[], Planner], free: int | None = None
) -> Placement:
    """How to use memory.

    name: of MEMORY_PROFILES, or "auto", which takes the best profile that fits the memory that is free. planner: makes
    the plans, if there is a card to plan for; where there is none nothing needs to wait, so only weights and tiles
    change. free: bytes on the card; None asks it.
    Raises InvalidRequestError if a card has too little memory for the profile that was asked for.
    """
    if device.type not in _CARDS:
        whole = "cpu" if device.type == "cpu" else "full"
        profile = MEMORY_PROFILES[whole if name == "auto" else name]
        if device.type != "cpu" and (profile.mllm, profile.transformer) != ("full", "full"):
            raise InvalidRequestError(
                f"profile is {name!r}, which needs a CUDA card or a CPU, and device is {str(device)!r}; choose full."
            )
        return Placement(profile, device, "none")
    free = memory_use(device).free if free is None else free
    plans = planner()
    plan = plans.choose(name, _budget(name, free))
    if not plan.fits and name != "auto":
        raise InvalidRequestError(
            f"profile is {name!r}, which needs {plan.needed / GIB:.1f} GiB, and {free / GIB:.1f} GiB are free on "
            f"{device}; {plans.advise(plan)}."
        )
    return Placement(MEMORY_PROFILES[plan.profile], device, plan.offload)


def plan_of(pipeline: X2IPipeline, width: int = 1024, height: int = 1024) -> Planner:
    """Plans for the parts that a pipeline has, whatever was done to them."""
    return Planner(skeleton_of(parts_of(pipeline)), width, height)


def present_plan(pipeline: X2IPipeline, width: int, height: int) -> MemoryPlan:
    """The plan of a loaded pipeline as it is placed; found once for a size."""
    known = _PLANS.setdefault(pipeline, {})
    if (width, height) not in known:
        placement = pipeline.placement
        known[width, height] = plan_of(pipeline, width, height).plan(placement.profile, placement.offload)
    return known[width, height]


def parts_of(pipeline: X2IPipeline) -> Parts:
    """The modules of a pipeline that hold weights."""
    return Parts(*(getattr(pipeline, name) for name in Parts._fields))


def tile_vae(vae: AutoencoderKL, tile: int) -> None:
    """Decode pictures larger than `tile` pixels in tiles of that size, each overlapping the next by a quarter.

    `enable_tiling` alone keeps diffusers' own tile, which is as large as the picture at 1024 x 1024.
    """
    vae.enable_tiling()
    vae.tile_sample_min_size = tile
    vae.tile_latent_min_size = tile // 2 ** (len(vae.config.block_out_channels) - 1)


def offload(pipeline: X2IPipeline, how: Offload, device: torch.device) -> None:
    """Let parts that do not work wait in the computer's memory; see specs.MemoryProfile."""
    if how == "none":
        pipeline.to(device)
    elif how == "model":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        # The MLLM leaves as soon as AlignNet begins; what is small stays on the card.
        _, hook = cpu_offload_with_hook(pipeline.mllm, device)
        cpu_offload_with_hook(pipeline.align_net, device, prev_module_hook=hook)
        pipeline.vae.to(device)
        if pipeline.light_control:
            pipeline.light_control.to(device)
        pipeline.transformer.enable_group_offload(
            onload_device=device,
            offload_type="block_level",
            num_blocks_per_group=1,
            use_stream=device.type in _CARDS,  # the next block comes while this one works
        )
        let_statistics_follow(pipeline.transformer)


def _budget(name: str, free: int) -> int:
    """Bytes that a profile may take on a card: no more than are free, nor than its kind of card has."""
    usual = None if name == "auto" else card_bytes(MEMORY_PROFILES[name])
    return free if usual is None else min(free, usual)

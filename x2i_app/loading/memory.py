"""How much memory there is, what each memory profile does to a pipeline, and what to do when memory runs out.

`choose_placement` chooses the profile of a model that is loaded; `plan.py` computes what each profile needs.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from accelerate import cpu_offload_with_hook
from diffusers import AutoencoderKL
from torch import nn

from x2i_app.devices import CARDS, has_fast_bfloat16, return_unused_memory
from x2i_app.errors import InvalidRequestError, OutOfMemoryError, forget_frames
from x2i_app.limits import LIMITS
from x2i_app.loading.plan import COMPUTER_PROFILES, CONTEXT, GIB, MemoryPlan, Planner, card_bytes
from x2i_app.loading.quantization import let_statistics_follow, quantize
from x2i_app.loading.sizes import Parts, skeleton_of
from x2i_app.pipeline import X2IPipeline
from x2i_app.presets import MEMORY_PROFILES
from x2i_app.request import GenerationRequest
from x2i_app.specs import MemoryProfile, Offload, Precision


@dataclass(frozen=True)
class MemoryUse:
    """Bytes of a device: used by all programs, used by this process, and in total."""

    used: int
    own: int
    total: int

    @property
    def free(self) -> int:
        """Free bytes."""
        return self.total - self.used


def memory_use(device: torch.device) -> MemoryUse:
    """How much of a device's memory is in use; of the computer's memory for a device that has none of its own."""
    if device.type in CARDS:
        backend = torch.get_device_module(device)
        free, total = backend.mem_get_info(device)
        return MemoryUse(total - free, backend.memory_reserved(device), total)
    memory = psutil.virtual_memory()
    own = psutil.Process().memory_info().rss
    use = MemoryUse(memory.total - memory.available, own, memory.total)
    limited = [MemoryUse(used, own, limit) for used, limit in _container_limits() if limit < memory.total]
    return min((use, *limited), key=lambda each: each.free)


_CGROUPS = Path("/sys/fs/cgroup")


def _container_limits(own: Path = Path("/proc/self/cgroup"), root: Path = _CGROUPS) -> list[tuple[int, int]]:
    """(used, limit) in bytes of each control group (cgroup v2) that this process is in; a container is one.

    Pages of files count as free, as they are given up when memory is short. Empty where there are no such groups.
    """
    found = []
    try:
        (path,) = [
            row.removeprefix("0::/") for row in own.read_text(encoding="utf-8").splitlines() if row.startswith("0::/")
        ]
    except (OSError, ValueError):
        return []
    for folder in (root / path, *(root / path).parents):
        try:
            limit = (folder / "memory.max").read_text(encoding="utf-8").strip()
            used = int((folder / "memory.current").read_text(encoding="utf-8"))
            pages = dict(row.split() for row in (folder / "memory.stat").read_text(encoding="utf-8").splitlines())
            if limit != "max":
                found.append((used - int(pages["inactive_file"]) - int(pages["active_file"]), int(limit)))
        except (OSError, ValueError, KeyError):
            continue  # the root has no limit, and above it there are no groups
    return found


# ----- Choose a profile ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Placement:
    """How a pipeline uses memory: its profile, its device, and where its parts wait.

    is_mapped: whether the weights of the MLLM and FLUX stay in their files, mapped.
    """

    profile: MemoryProfile
    device: torch.device
    offload: Offload
    is_mapped: bool = False


# Smaller models are loaded whole, in 32 bit: that is the same on every CPU, and fast.
_LEAST_MAPPED = 2 * GIB


def maps_weights(profile: str, count: int) -> bool:
    """Whether a computer without a card keeps 16-bit weights in their files, mapped, and computes in 16 bit.

    profile: as in `load_pipeline`. count: bytes of the weights of the MLLM and FLUX.
    """
    return profile in ("auto", "cpu") and count >= _LEAST_MAPPED and has_fast_bfloat16()


_LARGEST_EXPANSION = 4  # of a file in memory: 8-bit numbers become 32-bit numbers


def choose_computer_profile(name: str, planner: Callable[[], Planner], file_bytes: int, free: int | None = None) -> str:
    """The profile for a computer without a card, chosen so that the system does not end the process for its memory.

    name: of MEMORY_PROFILES; "auto" is 32 bit if that can be loaded into the free memory, else 4 bit. planner: called
    only if memory may be short. file_bytes: of the weights. free: bytes; None asks the system.
    Raises InvalidRequestError if there is too little memory for `name`.
    """
    free = memory_use(torch.device("cpu")).free if free is None else free
    if _LARGEST_EXPANSION * file_bytes < free:
        return COMPUTER_PROFILES[0] if name == "auto" else name
    plans = planner()
    profile = plans.loadable(name, free)
    if profile:
        return profile.name
    smallest = MEMORY_PROFILES[COMPUTER_PROFILES[-1] if name == "auto" else name]
    raise InvalidRequestError(
        f"profile is {name!r}, for which loading takes {plans.loading(smallest) / GIB:.1f} GiB of the computer's "
        f"memory, and {free / GIB:.1f} are free; {plans.advise_computer(name, free)}."
    )


def choose_placement(
    name: str, device: torch.device, planner: Callable[[], Planner], free: int | None = None
) -> Placement:
    """Choose how to use memory.

    name: of MEMORY_PROFILES; "auto" takes the best profile that fits the free memory. planner: called only for a card.
    Without one nothing needs to wait, so only weights and tiles change. free: bytes on the card; None asks it.
    Raises InvalidRequestError if a card has too little memory for `name`.
    """
    if device.type not in CARDS:
        whole = "cpu" if device.type == "cpu" else "full"
        profile = MEMORY_PROFILES[whole if name == "auto" else name]
        if device.type != "cpu" and (profile.mllm, profile.transformer) != ("full", "full"):
            raise InvalidRequestError(
                f"profile is {name!r}, which needs a CUDA or XPU card, or a CPU, and device is {str(device)!r}; choose "
                "full."
            )
        return Placement(profile, device, "none")
    # To ask a card makes the context of this process, which is then missing from what is free and is in the plan too.
    free = memory_use(device).free + CONTEXT if free is None else free
    plans = planner()
    plan = plans.choose(name, _budget(name, free))
    if not plan.fits and name != "auto":
        raise InvalidRequestError(
            f"profile is {name!r}, which needs {plan.needed / GIB:.1f} GiB, and {free / GIB:.1f} GiB are free on "
            f"{device}; {plans.advise(plan)}."
        )
    return Placement(MEMORY_PROFILES[plan.profile], device, plan.offload)


def _budget(name: str, free: int) -> int:
    """Bytes that a profile may take on a card: no more than are free, and than the profile's kind of card has."""
    usual = None if name == "auto" else card_bytes(MEMORY_PROFILES[name])
    return free if usual is None else min(free, usual)


# ----- Apply a profile -----------------------------------------------------------------------------------------------


def place(pipeline: X2IPipeline, placement: Placement) -> None:
    """Apply a placement to a whole pipeline; parts that `place_part` has placed stay as they are."""
    place_part(pipeline.mllm, placement.profile.mllm, placement)
    place_part(pipeline.transformer, placement.profile.transformer, placement)
    tile_vae(pipeline.vae, placement.profile.tile)
    offload(pipeline, placement.offload, placement.device)
    pipeline.placement = placement


def place_part(
    module: nn.Module, precision: Precision, placement: Placement, watch: Callable[[int], None] | None = None
) -> None:
    """Quantize a part's weights, and move it to its device if it is to stay there. watch: as in `quantize`."""
    stays = placement.offload == "none"
    quantize(module, precision, placement.device, stays, watch)
    if stays:
        module.to(placement.device)


def tile_vae(vae: AutoencoderKL, tile: int) -> None:
    """Decode images larger than `tile` pixels in tiles of that size, which overlap by a quarter.

    diffusers' `enable_tiling` alone uses the VAE's own tile size, which is 1024 pixels.
    """
    vae.enable_tiling()
    vae.tile_sample_min_size = tile
    vae.tile_latent_min_size = tile // 2 ** (len(vae.config.block_out_channels) - 1)


def offload(pipeline: X2IPipeline, how: Offload, device: torch.device) -> None:
    """Let parts wait in the computer's memory while they do not run; see specs.MemoryProfile."""
    if how == "none":
        pipeline.to(device)
    elif how == "model":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        # The MLLM leaves when AlignNet starts; the small parts stay on the card.
        _, hook = cpu_offload_with_hook(pipeline.mllm, device)
        cpu_offload_with_hook(pipeline.align_net, device, prev_module_hook=hook)
        pipeline.vae.to(device)
        for small in filter(None, (pipeline.light_control, pipeline.controlnet)):
            small.to(device)
        pipeline.transformer.enable_group_offload(
            onload_device=device,
            offload_type="block_level",
            num_blocks_per_group=1,
            use_stream=device.type in CARDS,  # copies the next block while this one runs
        )
        let_statistics_follow(pipeline.transformer)


# ----- Plans of a loaded pipeline ------------------------------------------------------------------------------------


def plan_of(pipeline: X2IPipeline, width: int = 1024, height: int = 1024) -> Planner:
    """Plans for the parts of a pipeline, whatever was done to them."""
    return Planner(skeleton_of(parts_of(pipeline)), width, height, int(pipeline.config.takes_reference))


def parts_of(pipeline: X2IPipeline) -> Parts:
    """The modules of a pipeline that hold weights."""
    return Parts(*(getattr(pipeline, name) for name in Parts._fields))


def present_plan(pipeline: X2IPipeline, width: int, height: int) -> MemoryPlan:
    """The plan of a loaded pipeline as it is placed; computed once for a size."""
    known = _PLANS.setdefault(pipeline, {})
    if (width, height) not in known:
        known[width, height] = _plan_as_placed(plan_of(pipeline, width, height), pipeline.placement)
    return known[width, height]


def _plan_as_placed(planner: Planner, placement: Placement) -> MemoryPlan:
    if placement.is_mapped:
        return planner.choose_mapped(None)
    return planner.plan(placement.profile, placement.offload)


_PLANS: "weakref.WeakKeyDictionary[X2IPipeline, dict[tuple[int, int], MemoryPlan]]" = weakref.WeakKeyDictionary()


# ----- When memory runs out ------------------------------------------------------------------------------------------

# torch's messages when the computer's memory ends; a card has an exception class of its own.
_CPU_MESSAGES = ("can't allocate memory", "not enough memory")
_ACTIONS = {"encode": "read this input", "denoise": "generate", "decode": "decode the image"}
_SCALES = (3 / 4, 1 / 2, 3 / 8, 1 / 4)  # of an image's sides


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a card or in the computer."""
    if isinstance(error, RuntimeError) and any(message in str(error) for message in _CPU_MESSAGES):
        return True
    return isinstance(error, (torch.OutOfMemoryError, MemoryError))


def return_memory(error: BaseException, pipeline: X2IPipeline | None = None) -> None:
    """Free everything that a failed call still holds.

    The tracebacks of the error and of its causes are dropped first: their frames hold every tensor of the call.
    """
    forget_frames(error)
    if pipeline is not None:
        pipeline.maybe_free_model_hooks()  # with offload, no part stays on the card
    return_unused_memory()


def explain(pipeline: X2IPipeline, request: GenerationRequest, phase: str) -> OutOfMemoryError:
    """The error that tells the user what would fit. phase: encode, denoise or decode, in which memory ran out.

    Call it after `return_memory`, as it reads the free memory. The request's None values are filled in.
    """
    planner = plan_of(pipeline, request.width, request.height)
    placement = pipeline.placement
    plan = _plan_as_placed(planner, placement)
    use = memory_use(placement.device)
    own = max(0, use.own - plan.mapped)  # pages of mapped files count as free already
    ways = []
    if phase == "encode":
        ways.append(_less_input(request))
    elif size := _smaller_size(plan, request, phase, use.free + own):
        ways.append(f"{size[0]} x {size[1]}")
    if smaller := _next_profile(planner, plan, placement.device):
        ways.append(f"the profile {smaller.name} ({smaller.about})")
    ways = ways or ["closing other programs"]
    return OutOfMemoryError(
        f"The memory of {placement.device} is too small to {_ACTIONS[phase]} at {request.width} x {request.height} "
        f"with the profile {placement.profile.name}; try {' or '.join(ways)}."
    )


def _less_input(request: GenerationRequest) -> str:
    turns = (*request.history, request.turn)
    if any(turn.images or turn.videos or turn.audios for turn in turns):
        return "fewer images, videos and audio files"
    return "a shorter conversation" if request.history else "a shorter prompt"


def _smaller_size(plan: MemoryPlan, request: GenerationRequest, phase: str, available: int) -> tuple[int, int] | None:
    """The largest smaller size of the same shape that fits, else the smallest; memory grows with the area."""
    held = sum(part.bytes for part in plan.parts) - plan.mapped if plan.offload == "none" else 0
    work = plan.peaks[phase] - held
    sizes = []
    for scale in _SCALES:
        step = LIMITS.width.step
        sides = (request.width, request.height)
        width, height = (max(int(LIMITS.width.low), round(side * scale / step) * step) for side in sides)
        if width * height < request.width * request.height:
            sizes.append((width, height))
            share = width * height / (request.width * request.height)
            if held + work * share + plan.overhead <= available:
                break
    return sizes[-1] if sizes else None


def _next_profile(planner: Planner, plan: MemoryPlan, device: torch.device) -> MemoryProfile | None:
    """The next profile that needs less memory than the present one; without a card, no part waits elsewhere."""
    for profile in MEMORY_PROFILES.values():
        how = profile.offload[0] if device.type in CARDS else "none"
        if profile.card and planner.plan(profile, how).needed < plan.needed:
            return profile
    return None

"""When memory runs out: give back what the failed call held, and say what would fit."""

import gc

import torch

from x2i_app.errors import OutOfMemoryError, forget_frames
from x2i_app.loading.memory import memory_use, plan_of
from x2i_app.loading.plan import MemoryPlan, Planner
from x2i_app.pipeline import X2IPipeline
from x2i_app.presets import MEMORY_PROFILES
from x2i_app.request import LIMITS, GenerationRequest
from x2i_app.specs import MemoryProfile

_SCALES = (3 / 4, 1 / 2, 3 / 8, 1 / 4)  # of a picture's sides
# What torch says where the computer's own memory ends; a card has an exception of its own.
_CPU_WORDS = ("can't allocate memory", "not enough memory")
_DOING = {"encode": "understand this input", "denoise": "draw", "decode": "develop the picture"}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a card or in the computer."""
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _CPU_WORDS):
        return True
    return isinstance(error, (torch.OutOfMemoryError, MemoryError))


def return_memory(error: BaseException, pipeline: X2IPipeline | None = None) -> None:
    """Let go of everything that the failed call still holds.

    The tracebacks of the error and of those behind it are dropped first: their frames hold every tensor of the call.
    """
    forget_frames(error)
    if pipeline is not None:
        pipeline.maybe_free_model_hooks()  # where parts take turns, none stays on the card
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def explain(pipeline: X2IPipeline, request: GenerationRequest, phase: str) -> OutOfMemoryError:
    """The error that tells the user what would fit. phase: encode, denoise or decode, in which memory ran out.

    Call it after `return_memory`, as it looks at what is free then. The request has nothing left open.
    """
    planner = plan_of(pipeline, request.width, request.height)
    placement = pipeline.placement
    plan = planner.plan(placement.profile, placement.offload)
    use = memory_use(placement.device)
    ways = []
    if phase == "encode":
        ways.append(_less_input(request))
    elif size := _smaller(plan, request, phase, use.free + use.own):
        ways.append(f"{size[0]} x {size[1]}")
    if thriftier := _next_profile(planner, plan):
        ways.append(f"the profile {thriftier.name} ({thriftier.about})")
    ways = ways or ["closing other programs"]
    return OutOfMemoryError(
        f"The memory of {placement.device} is too small to {_DOING[phase]} at {request.width} x {request.height} with "
        f"the profile {placement.profile.name}; try {' or '.join(ways)}."
    )


def _less_input(request: GenerationRequest) -> str:
    turns = (*request.history, request.turn)
    if any(turn.images or turn.videos or turn.audios for turn in turns):
        return "fewer pictures, films and sounds"
    return "a shorter conversation" if request.history else "a shorter prompt"


def _smaller(plan: MemoryPlan, request: GenerationRequest, phase: str, available: int) -> tuple[int, int] | None:
    """The largest size of the same shape that fits, else the smallest there is; what works grows with the area."""
    held = sum(part.bytes for part in plan.parts) if plan.offload == "none" else 0
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


def _next_profile(planner: Planner, plan: MemoryPlan) -> MemoryProfile | None:
    """The next profile that needs less than the present one."""
    for profile in MEMORY_PROFILES.values():
        if profile.card and planner.plan(profile, profile.offload[0]).needed < plan.needed:
            return profile
    return None

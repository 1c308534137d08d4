"""The memory plan as a command and a page show it: what is planned for which memory, and tables of it in Markdown."""

from collections.abc import Sequence
from pathlib import Path

import torch

from x2i_app.limits import LIMITS, Range, validate_integer, validate_number
from x2i_app.loading.memory import best_device, memory_use
from x2i_app.loading.plan import GIB, MemoryPlan, Planner, card_bytes
from x2i_app.loading.skeletons import build_skeleton
from x2i_app.presets import FLUX_MODELS, MEMORY_PROFILES, get_preset
from x2i_app.settings import CUSTOM
from x2i_app.specs import Offload

PRECISIONS = {"full": "16 bit", "int8": "8 bit", "nf4": "4 bit"}
OFFLOADS: dict[Offload, str] = {
    "none": "all parts stay on the card",
    "model": "one part on the card at a time, the others wait in the computer's memory",
    "group": "one part on the card at a time, FLUX block by block, the others wait in the computer's memory",
}


def plan_memory(
    preset: str,
    profiles: Sequence[str],
    *,
    mllm: str | Path | None = None,
    flux: str | Path | None = None,
    width: int | None = None,
    height: int | None = None,
    gib: float | None = None,
) -> list[MemoryPlan]:
    """The plan of each profile. preset, mllm, flux: as in `load_pipeline`; nothing is downloaded.

    profiles: names of MEMORY_PROFILES, or "auto". width, height: pixels; None takes the FLUX model's own. gib: free
    memory to plan for; None takes what the profile's kind of card has and, for one profile, what is free here.
    Raises InvalidRequestError and CheckpointError as `build_skeleton` does, and for sizes that are not allowed.
    """
    if gib is not None:
        gib = validate_number("gib", gib, Range(0.1, 10_000))
    resolution = _resolution(preset, flux)
    width = validate_integer("width", resolution if width is None else width, LIMITS.width)
    height = validate_integer("height", resolution if height is None else height, LIMITS.height)
    planners: dict[torch.dtype, Planner] = {}
    plans = []
    for name in profiles:
        if name == "auto" and gib is None and best_device() == "cpu":
            name = "cpu"  # as `load_pipeline` does without a card
        dtype = torch.float32 if name == "cpu" else torch.bfloat16
        if dtype not in planners:
            planners[dtype] = Planner(build_skeleton(preset, mllm, flux, dtype), width, height)
        available = round(gib * GIB) if gib is not None else _usual_memory(name, alone=len(profiles) == 1)
        plans.append(planners[dtype].choose(name, available))
    return plans


def _resolution(preset: str, flux: str | Path | None) -> int:
    name = flux or (None if preset.startswith(CUSTOM) else get_preset(preset).flux)
    known = {key: spec for spec in FLUX_MODELS.values() for key in (spec.name, spec.repo_id) if key}
    return known.get(str(name), FLUX_MODELS["shuttle-3-diffusion"]).resolution


def _usual_memory(name: str, alone: bool) -> int | None:
    """What the kind of card has, and if one profile was asked for, not more than is free here."""
    known = [] if name == "auto" else [card_bytes(MEMORY_PROFILES[name])]
    device = "cpu" if name == "cpu" else best_device()
    if alone and (name == "cpu" or device == "cuda"):
        known.append(memory_use(torch.device(device)).free)
    return min((count for count in known if count is not None), default=None)


def show_plan(plan: MemoryPlan) -> str:
    """One plan: its parts, its phases and whether it fits."""
    parts = [
        (part.name, f"{part.parameters:,}", precision(part.precision, plan), _gib(part.bytes)) for part in plan.parts
    ]
    phases = [(phase, _gib(peak)) for phase, peak in plan.peaks.items()]
    phases.append((f"needed, {plan.overhead / GIB:.1f} for libraries included", _gib(plan.needed)))
    phases.append(("free", "unknown" if plan.available is None else _gib(plan.available)))
    phases.append(("fits", fits(plan)))
    where = "all parts in the computer's memory" if plan.profile == "cpu" else OFFLOADS[plan.offload]
    return "\n\n".join(
        (
            f"Profile {plan.profile} at {plan.width} x {plan.height}: {where}.",
            table(("part", "parameters", "weights", "GiB"), parts),
            table(("phase", "peak GiB"), phases),
        )
    )


def show_plans(plans: Sequence[MemoryPlan]) -> str:
    """Several plans, one a row."""
    short = {"none": "no", "model": "parts take turns", "group": "block by block"}
    rows = [
        (
            plan.profile,
            *(precision(part.precision, plan) for part in plan.parts if part.name in ("mllm", "transformer")),
            short[plan.offload],
            *map(_gib, plan.peaks.values()),
            _gib(plan.needed),
            fits(plan),
        )
        for plan in plans
    ]
    return table(("profile", "MLLM", "FLUX", "offload", "encode", "denoise", "decode", "needed", "fits"), rows)


def precision(name: str, plan: MemoryPlan) -> str:
    """In how many bits a part's weights are."""
    return "32 bit" if name == "full" and plan.profile == "cpu" else PRECISIONS[name]


def fits(plan: MemoryPlan) -> str:
    """Whether a plan fits: yes, no, or a dash where it is not known how much memory there is."""
    return "-" if plan.available is None else "yes" if plan.fits else "no"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows))


def _gib(count: int) -> str:
    return f"{count / GIB:.2f}"

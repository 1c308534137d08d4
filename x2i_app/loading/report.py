"""Memory plans for the command line and the page: which plans to make, and their Markdown tables."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from x2i_app.devices import CARDS, best_device, has_fast_bfloat16
from x2i_app.limits import LIMITS, Range, validate_integer, validate_number
from x2i_app.loading.flux import BASE
from x2i_app.loading.memory import maps_weights, memory_use
from x2i_app.loading.plan import GIB, MemoryPlan, Planner, card_bytes
from x2i_app.loading.sizes import build_skeleton
from x2i_app.presets import FLUX_MODELS, MEMORY_PROFILES, get_preset, is_kontext, known_flux
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
    light_control: str | Path | None = None,
    controlnet: str | Path | None = None,
    kontext: bool | None = None,
    width: int | None = None,
    height: int | None = None,
    gib: float | None = None,
) -> list[MemoryPlan]:
    """The memory plan of each profile; nothing is downloaded. preset and the parts are as in `load_pipeline`.

    profiles: names of MEMORY_PROFILES, or "auto". width, height: pixels; None takes the FLUX model's own size. gib:
    free memory to plan for; None takes that of the profile's kind of card and, for a single profile, at most what is
    free here.
    Raises InvalidRequestError and CheckpointError as `build_skeleton` does, and for sizes that are not allowed.
    """
    if gib is not None:
        gib = validate_number("gib", gib, Range(0.1, 10_000))
    resolution = _resolution(preset, flux)
    width = validate_integer("width", resolution if width is None else width, LIMITS.width)
    height = validate_integer("height", resolution if height is None else height, LIMITS.height)
    name = flux or (None if preset.startswith(CUSTOM) else get_preset(preset).flux)
    references = int(bool(name) and is_kontext(name, kontext))
    planners: dict[torch.dtype, Planner] = {}
    plans = []
    is_single = len(profiles) == 1

    def planner(dtype: torch.dtype) -> Planner:
        if dtype not in planners:
            skeleton = build_skeleton(preset, mllm, flux, dtype, light_control, controlnet)
            planners[dtype] = Planner(skeleton, width, height, references)
        return planners[dtype]

    for name in profiles:
        # `load_pipeline` makes the same choice without a card.
        on_computer = is_single and (name == "cpu" or (name == "auto" and gib is None and best_device() == "cpu"))
        free = round(gib * GIB) if gib is not None else _usual_memory(name, is_single, on_computer)
        if on_computer and _is_large(preset) and has_fast_bfloat16():
            plan = planner(torch.bfloat16).choose_mapped(free)
            if maps_weights(name, plan.mapped):
                plans.append(plan if plan.fits else replace(plan, advice=planner(torch.bfloat16).advise(plan)))
                continue
        dtype = torch.float32 if on_computer or name == "cpu" else torch.bfloat16
        choose = planner(dtype).choose_for_computer if on_computer else planner(dtype).choose
        plan = choose(name, free)
        plans.append(plan if plan.fits else replace(plan, advice=planner(dtype).advise(plan)))
    return plans


def _is_large(preset: str) -> bool:
    """Whether a model may be so large that its weights are mapped; the bundled one is not."""
    return preset.startswith(CUSTOM) or get_preset(preset).directory is None


def _resolution(preset: str, flux: str | Path | None) -> int:
    name = flux or (None if preset.startswith(CUSTOM) else get_preset(preset).flux)
    return (known_flux(name) or FLUX_MODELS[BASE]).resolution


def _usual_memory(name: str, is_single: bool, on_computer: bool) -> int | None:
    """Memory of the profile's kind of card; for a single profile not more than is free here."""
    if on_computer:
        return memory_use(torch.device("cpu")).free
    known = [] if name == "auto" else [card_bytes(MEMORY_PROFILES[name])]
    if is_single and best_device() in CARDS:
        known.append(memory_use(torch.device(best_device())).free)
    return min((count for count in known if count is not None), default=None)


def show_plan(plan: MemoryPlan) -> str:
    """One plan: whether it fits, and what to do if not, then tables of its phases and its parts."""
    size, unit = _unit([plan])
    parts = [
        (part.name, f"{part.parameters:,}", precision(part.precision, plan), size(part.bytes)) for part in plan.parts
    ]
    phases = [(phase, size(peak + plan.overhead)) for phase, peak in plan.peaks.items()]
    if plan.waiting:
        phases.append(("waits in the computer's memory", size(plan.waiting)))
    mapped = f"{size(plan.mapped)} {unit} of weights stay in their files, mapped; the rest is in the computer's memory"
    where = (
        mapped
        if plan.mapped
        else "all parts in the computer's memory"
        if plan.where == "computer"
        else OFFLOADS[plan.offload]
    )
    return "\n\n".join(
        (
            _verdict(plan),
            f"Profile {plan.profile} at {plan.width} x {plan.height}: {where}.",
            table(("phase", f"{unit}, {size(plan.overhead)} for libraries included"), phases),
            table(("part", "parameters", "weights", unit), parts),
        )
    )


def show_plans(plans: Sequence[MemoryPlan]) -> str:
    """Several plans: which one to choose, then one in each row of a table."""
    short = {"none": "no", "model": "parts take turns", "group": "block by block"}
    size, unit = _unit(plans)
    rows = [
        (
            plan.profile,
            *(precision(part.precision, plan) for part in plan.parts if part.name in ("mllm", "transformer")),
            short[plan.offload],
            *map(size, plan.peaks.values()),
            size(plan.needed),
            fits(plan),
        )
        for plan in plans
    ]
    heads = ("profile", "MLLM", "FLUX", "offload", "encode", "denoise", "decode", f"needed, {unit}", "fits")
    return f"{_choice(plans)}\n\n{table(heads, rows)}"


def _verdict(plan: MemoryPlan) -> str:
    needed = f"{plan.needed / GIB:.2f} GiB"
    if plan.available is None:
        return f"Needs {needed}; the free memory is not known."
    there = f"{plan.available / GIB:.2f} GiB are available"
    if plan.fits:
        return f"Fits: needs {needed}, and {there}."
    return f"Does not fit: needs {needed}, and {there}. Advice: {plan.advice}."


def _choice(plans: Sequence[MemoryPlan]) -> str:
    """Which profile to choose, of plans for the same memory or each for its own kind of card."""
    known = [plan for plan in plans if plan.available is not None and plan.where == "card"]
    fitting = [plan for plan in known if plan.fits]
    if len({plan.available for plan in known}) == 1:
        there = f"{known[0].available / GIB:.2f} GiB"
        if not fitting:
            return f"No profile fits {there}. Advice: {known[-1].advice}."
        best = fitting[0]
        return f"The best profile for {there} is {best.profile}, which needs {best.needed / GIB:.2f} GiB."
    names = ", ".join(plan.profile for plan in fitting) or "none"
    return (
        f"Each profile is for a GPU of the size in its name; these fit: {names}. The profile auto takes the best one "
        "that fits the free memory."
    )


def _unit(plans: Sequence[MemoryPlan]) -> tuple[Callable[[int], str], str]:
    """A function that formats bytes, and its unit, one for all: GiB, or MiB for small parts."""
    most = max(sum(part.bytes for part in plan.parts) for plan in plans)
    if most > GIB / 10:
        return (lambda count: f"{count / GIB:.2f}"), "GiB"
    return (lambda count: f"{1024 * count / GIB:.1f}"), "MiB"


def precision(name: str, plan: MemoryPlan) -> str:
    """The number of bits of a part's weights."""
    is_whole = name == "full" and plan.where == "computer" and not plan.mapped
    return "32 bit" if is_whole else PRECISIONS[name]


def fits(plan: MemoryPlan) -> str:
    """Whether a plan fits: "yes", "no", or "-" if the free memory is unknown."""
    return "-" if plan.available is None else "yes" if plan.fits else "no"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that is aligned as plain text too; numbers are aligned on the right."""
    columns = list(zip(heads, *rows, strict=True))
    widths = [max(3, *map(len, column)) for column in columns]
    right = [all(map(_is_number, column[1:])) for column in columns]

    def row(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(cells, widths, right, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    rule = [f"{'-' * (width - 1)}:" if number else "-" * width for width, number in zip(widths, right, strict=True)]
    return "\n".join(map(row, (heads, rule, *rows)))


def _is_number(cell: str) -> bool:
    return cell.replace(",", "").replace(".", "").isdigit()

"""plan: how much memory a model needs."""

import json
from dataclasses import asdict, dataclass, field

from x2i_app.commands.flags import Switch, first_given
from x2i_app.errors import InvalidRequestError
from x2i_app.limits import LIMITS, validate_integer
from x2i_app.presets import MEMORY_PROFILES
from x2i_app.quiet import quiet
from x2i_app.settings import PlanSettings


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Show how much memory a model needs, without downloading it."""

    width: int | None = None
    """pixels; none: the FLUX model's own"""
    height: int | None = None
    """pixels; none: the FLUX model's own"""
    gib: float | None = None
    """free memory to plan for; none: what is usual"""
    all: Switch = False
    """every profile in one table"""
    distill: Switch = False
    """plan a step of training its AlignNet instead of an image; --width is then the side of its latents, in pixels"""
    json: Switch = False
    """bytes, as JSON"""
    settings: PlanSettings = field(default_factory=PlanSettings)

    @quiet()
    def run(self) -> int:
        """Print the plan."""
        if self.distill:
            return self._plan_distillation()
        from x2i_app.loading.report import plan_memory, show_plan, show_plans

        model = self.settings
        if self.all and first_given(self.settings, "profile"):
            raise InvalidRequestError("--all shows every profile, and --profile one; leave one of them out.")
        profiles = list(MEMORY_PROFILES) if self.all else [model.profile]
        parts = {name: getattr(model, name) for name in ("mllm", "flux", "light_control", "controlnet", "kontext")}
        plans = plan_memory(model.preset, profiles, **parts, width=self.width, height=self.height, gib=self.gib)
        if self.json:
            found = [{"preset": model.preset, "flux": model.flux} | plan.as_dict() for plan in plans]
            print(json.dumps(found if self.all else found[0], indent=2))
        else:
            print(show_plans(plans) if self.all else show_plan(plans[0]))
        return 0

    def _plan_distillation(self) -> int:
        if flag := first_given(self, "gib", "all") or first_given(
            self.settings, "light_control", "controlnet", "kontext", "profile"
        ):
            raise InvalidRequestError(
                f"{flag} is about generating an image, and --distill plans a step of training; leave one of them out."
            )
        if None not in (self.width, self.height) and self.width != self.height:
            raise InvalidRequestError(
                f"--width is {self.width} and --height is {self.height}, and a step of training with --distill is "
                "square; give the same number for both, or only one of them."
            )
        from x2i_app.loading.sizes import build_skeleton
        from x2i_app.training.distill import DistillOptions
        from x2i_app.training.plan import plan_distillation, show_distillation

        name, side = ("height", self.height) if self.width is None else ("width", self.width)
        size = {} if side is None else {"resolution": validate_integer(name, side, LIMITS.width)}
        model = self.settings
        plans = plan_distillation(build_skeleton(model.preset, model.mllm, model.flux), DistillOptions(**size))
        if self.json:
            print(json.dumps([asdict(plan) | {"needed": plan.needed} for plan in plans], indent=2))
        else:
            print(show_distillation(plans))
        return 0

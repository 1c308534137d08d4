"""evaluate: how well a model draws what it is asked for."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated

import tyro

from x2i_app.commands.flags import ClusterOptions, Switch, first_given, reader
from x2i_app.errors import InvalidRequestError
from x2i_app.quiet import quiet
from x2i_app.settings import MODEL_SETTINGS, ModelSettings, Settings


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure how well a model draws what a set of prompts asks for, or compare two such measurements."""

    prompts: str | None = None
    """own (160 rows of this project), or a file: own rows, GenEval, DPG-Bench, T2I-CompBench, PartiPrompts, MJHQ-30K"""
    judge: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """who answers the questions: attributes (x2i-tiny's own), own (the preset's MLLM), a folder or hub id; or none"""
    clip: str | None = None
    """CLIP model for CLIP score and image similarity: a folder or a hub id"""
    dino: str | None = None
    """DINOv2 model for the similarity of an edit to its source: a folder or a hub id"""
    teacher: bool | None = None
    """draw with T5 and CLIP too; none: if the FLUX model's folder has them"""
    seeds: str = "1"
    """images of each prompt, or the seeds themselves, as in 0,1,5"""
    limit: int | None = None
    """prompts at most, evenly of all rows"""
    size: int | None = None
    """width and height in pixels; none: the FLUX model's own"""
    steps: int | None = None
    """denoising steps; none: the model's own"""
    shard: Annotated[str | None, tyro.conf.arg(metavar="I/N")] = None
    """only part I of N; run without --shard at the end, it puts all parts together"""
    compare: Annotated[tuple[Path, Path] | None, reader(2, "A B", lambda given: (Path(given[0]), Path(given[1])))] = (
        None
    )
    """two folders of evaluations to compare, instead of measuring"""
    at_least: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="ROW=SHARE")] = ()
    """exit with status 1 if this row of the table is below this share, e.g. text=0.95; may be repeated"""
    json: Switch = False
    """print one JSON object instead of tables"""
    scenes: int | None = None
    """x2i-tiny without --prompts: new scenes for each kind of input, usually 500"""
    rows: str = ""
    """x2i-tiny without --prompts: kinds of input, e.g. english,image; empty: all"""
    output: Path | None = None
    """folder for images, answers and report; started again, an evaluation continues; none: artifacts/evaluation"""
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    settings: ModelSettings = field(default_factory=ModelSettings)

    @quiet()
    def run(self) -> int:
        """Evaluate or compare."""
        from x2i_app.evaluation import command
        from x2i_app.evaluation.goals import parse_goals

        settings, goals = Settings(**asdict(self.settings)), parse_goals(self.at_least)
        if self.compare:
            self._check_comparison()
            return command.run_comparison(*self.compare, self.output, goals, as_json=self.json)
        output = self.output or Path("artifacts/evaluation")
        if self.prompts is None and self._is_about_scenes(settings):
            from x2i_app.miniature.evaluation.command import run

            return run(settings, output, self._scenes(), self.rows, self.steps, goals, as_json=self.json)
        if self.scenes is not None or self.rows:
            raise InvalidRequestError("--scenes and --rows are for x2i-tiny without --prompts; use --limit instead.")
        options = command.Options(
            settings,
            output,
            command.parse_seeds(self.seeds),
            self.steps,
            self.size,
            self.limit,
            self.judge,
            self.clip,
            self.dino,
            self.teacher,
            command.parse_shard(self.shard),
            self.cluster.draw(),
        )
        return command.run_prompts(options, self.prompts or "own", goals, as_json=self.json)

    def _is_about_scenes(self, settings: Settings) -> bool:
        """Whether what draws is the miniature, which has an evaluation of its own."""
        from x2i_app.evaluation.asking import ATTRIBUTES, default_judge

        return default_judge(settings) == ATTRIBUTES

    def _scenes(self) -> int:
        """How many scenes. Raises InvalidRequestError for an option that needs --prompts."""
        needs_prompts = ("judge", "clip", "dino", "teacher", "size", "shard", "seeds")
        self.cluster.check()
        if flag := first_given(self, *needs_prompts) or first_given(self.cluster, "ray"):
            raise InvalidRequestError(f"{flag} needs --prompts; give a file, or own for the bundled set.")
        if None not in (self.limit, self.scenes):
            raise InvalidRequestError("--limit and --scenes mean the same without --prompts; leave one of them out.")
        default = 500 if self.limit is None else self.limit
        return default if self.scenes is None else self.scenes

    def _check_comparison(self) -> None:
        """Raise InvalidRequestError for an option of a measurement."""
        used = ("compare", "at_least", "json", "output", "cluster", "settings")
        own = [each.name for each in fields(self) if each.name not in used]
        flag = first_given(self, *own) or first_given(self.cluster, "ray", "replicas", "gpus")
        if flag := flag or first_given(self.settings, *MODEL_SETTINGS):
            raise InvalidRequestError(f"--compare reads two folders and measures nothing; leave out {flag}.")

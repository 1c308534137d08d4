"""Options of a dataclass as flags and as entries of a YAML file: what is read, and what errors say."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import yaml

from x2i_app.errors import InvalidRequestError
from x2i_app.options import as_values, choose, parse, read_file


@dataclass(frozen=True)
class Part:
    rate: float = 1e-3
    """how fast, in %"""
    betas: tuple[float, float] = (0.9, 0.99)
    """two"""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job."""

    config: Path | None = None
    """YAML file"""
    output: Path
    """where to"""
    names: tuple[str, ...] = ()
    """any number"""
    steps: int = 10
    """how many"""
    kind: Literal["a", "b"] = "a"
    """which"""
    decay: float | None = 0.5
    """or none"""
    fast: bool = False
    """or slow"""
    part: Part = field(default_factory=lambda: Part(rate=2e-4))
    """the rest"""


def parsed(*flags):
    return parse(Job, list(map(str, flags)), prog="job", environment={})


@pytest.fixture
def file(tmp_path):
    return tmp_path / "job.yaml"


def test_defaults_of_a_part_are_the_jobs_own():
    job = parsed("--output", "x")
    assert job == Job(output=Path("x"))
    assert job.part.rate == 2e-4
    assert list(as_values(job)) == ["config", "output", "names", "steps", "kind", "decay", "fast", "rate", "betas"]


def test_flags_and_files_mean_the_same(file):
    """YAML takes 1e-4 for text; it counts as a number."""
    flags = "--output=x --names=a,b --steps=7 --kind=b --decay=none --fast --rate=1e-4 --betas=0.8,0.9"
    job = parsed(*flags.split())
    assert job == Job(
        output=Path("x"), names=("a", "b"), steps=7, kind="b", decay=None, fast=True, part=Part(1e-4, (0.8, 0.9))
    )
    file.write_text("output: x\nnames: [a, b]\nsteps: 7\nkind: b\ndecay:\nfast: true\nrate: 1e-4\nbetas: [0.8, 0.9]\n")
    assert as_values(parsed("--config", file)) == as_values(job) | {"config": str(file)}


@pytest.mark.parametrize(
    "job",
    [
        Job(output=Path("a b"), names=("x,y", 'say "z"', "{1,2}.tar", " s"), decay=None, fast=True),
        Job(output=Path("-x"), names=("one",), steps=2**63 + 1, part=Part(1e-30, (-1.0, float("inf")))),
        Job(output=Path("x"), names=(), kind="b"),
    ],
)
def test_written_values_are_read_back(file, job):
    values = as_values(job)
    values.pop("config")
    file.write_text(yaml.safe_dump(values))
    assert as_values(parsed("--config", file)) == as_values(job) | {"config": str(file)}


def test_flag_wins_over_file(file):
    file.write_text("output: x\nsteps: 7\nfast: true\nrate: 0.5\n")
    job = parsed("--steps", 8, "--config", file, "--no-fast")
    assert (job.output, job.steps, job.fast, job.part.rate) == (Path("x"), 8, False, 0.5)
    file.write_text("kind: b\nno-such: 1\n")
    with pytest.raises(InvalidRequestError, match="Unrecognized options: --no-such, 1"):
        parsed("--config", file, "--output", "x")


@dataclass(frozen=True)
class Configured:
    VARIABLES: ClassVar[str] = "X_"
    RENAMED: ClassVar[dict[str, str]] = {"old_rate": "rate"}

    config: Path | None = None
    rate: float = 1.0
    count: int = 1
    size: int = 1
    name: str | None = None


def test_variables_files_and_flags(file):
    """A flag wins over the file, and the file over a variable."""
    file.write_text("count: 3\nsize: 3\n")
    environment = {"X_RATE": "2", "X_COUNT": "2", "X_SIZE": "2", "X_NAME": ""}
    options = parse(Configured, ["--config", str(file), "--size", "4"], prog="x", environment=environment)
    assert (options.rate, options.count, options.size, options.name) == (2.0, 3, 4, None)


def test_renamed_option(file):
    """Its earlier name works as a flag and in a file."""
    for flag in ("--old-rate=3", "--old_rate=3"):
        assert parse(Configured, [flag], prog="x", environment={}).rate == 3
    file.write_text("old_rate: 4\n")
    assert parse(Configured, ["--config", str(file)], prog="x", environment={}).rate == 4


def test_values_that_look_like_flags(file):
    file.write_text("name: --rate\n")
    assert parse(Configured, ["--config", str(file)], prog="x", environment={}).name == "--rate"


@pytest.mark.parametrize("text", ["12_500", "1e4", "10.0", "10000000000000001", "-3", "+4"])
def test_whole_numbers(file, text):
    """As a flag and, with the same result, in a file."""
    expected = {"12_500": 12_500, "1e4": 10_000, "10.0": 10}.get(text) or int(text)
    assert parsed("--output", "x", "--steps", text).steps == expected
    file.write_text(f"output: x\nsteps: {text}\n")
    assert parsed("--config", file).steps == expected


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "Missing from job: --output"),
        ({"steps": "1.5"}, "--steps: '1.5' is not a whole number"),
        ({"steps": "true"}, "--steps"),
        ({"steps": float("nan")}, "--steps: 'nan' is not a whole number"),
        ({"steps": float("inf")}, "--steps: 'inf' is not a whole number"),
        ({"rate": "fast"}, "--rate: 'fast' is not a number"),
        ({"kind": "c"}, "--kind: 'c' is not a or b"),
        ({"fast": "maybe"}, "maybe"),
        ({"betas": [1]}, "--betas: '1' is not a number, a number"),
        ({"betas": [1, 2, 3]}, "--betas: '1,2,3' is not a number, a number"),
        ({"decay": "some"}, "--decay: 'some' is not a number or none"),
        ({"stepz": 3}, "--stepz, 3; did you mean --steps?"),
        ({"zzz": 3}, "--zzz, 3; job --help lists what is allowed"),
    ],
    ids=str,
)
def test_bad_values(file, values, said):
    file.write_text(yaml.safe_dump(values and {"output": "x"} | values))
    with pytest.raises(InvalidRequestError) as caught:
        parsed("--config", file)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


def test_typo_in_a_required_option():
    """The typo is reported, not that the option is missing."""
    with pytest.raises(InvalidRequestError, match="Unrecognized options: --outpt x"):
        parsed("--outpt", "x")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"a: [", "is not YAML"), (b"- a\n", "holds"), (b"1: 2\n", "holds"), (b"\xff\xfe\x00", "not text")],
)
def test_bad_file(file, content, said):
    file.write_bytes(content)
    with pytest.raises(InvalidRequestError, match=said):
        read_file(file)


def test_missing_file(tmp_path):
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        parsed("--config", tmp_path / "missing.yaml")
    with pytest.raises(InvalidRequestError, match="--config"):
        parsed("--config")


def test_empty_file(file):
    file.write_text("# nothing\n")
    assert parsed("--config", file, "--output", "x").steps == 10


def test_file_runs_nothing(tmp_path, file):
    file.write_text(f"output: !!python/object/apply:pathlib.Path.touch [!!python/object:pathlib.Path {tmp_path}/ran]\n")
    with pytest.raises(InvalidRequestError, match="is not YAML"):
        read_file(file)
    assert not (tmp_path / "ran").exists()


def test_choose(capsys):
    assert choose({"job": "A job."}, ["job", "--steps"], "x", "All.") == ("job", ["--steps"])
    for arguments, said in ((["jab"], "'jab' is not a command; choose one of job."), ([], "The command is missing")):
        with pytest.raises(InvalidRequestError, match=said):
            choose({"job": "A job."}, arguments, "x", "All.")
    with pytest.raises(SystemExit) as stopped:
        choose({"job": "A job."}, ["--help"], "x", "All.")
    assert stopped.value.code == 0
    assert "job             A job." in capsys.readouterr().out

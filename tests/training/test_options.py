"""Fields as flags and as lines of a file: what is read is what was meant, and what is wrong is said in a sentence."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import yaml

from x2i_app.errors import InvalidRequestError
from x2i_app.training.options import add_flags, as_values, build, leaves, option, read_file


@dataclass(frozen=True)
class Part:
    rate: float = option(1e-3, help="how fast, in %")
    betas: tuple[float, float] = option((0.9, 0.99), help="two")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job."""

    output: Path = option(help="where to")
    names: tuple[str, ...] = option((), help="any number")
    steps: int = option(10, help="how many")
    kind: Literal["a", "b"] = option("a", help="which")
    decay: float | None = option(0.5, help="or none")
    fast: bool = option(False, help="or slow")
    part: Part = option(Part(rate=2e-4), help="the rest")


def parsed(*flags):
    parser = argparse.ArgumentParser()
    add_flags(parser, Job)
    return build(Job, vars(parser.parse_args(flags)))


def test_defaults_of_a_part_are_the_jobs_own():
    job = parsed("--output", "x")
    assert job == Job(output=Path("x"))
    assert job.part.rate == 2e-4
    assert leaves(Job)["rate"].default == 2e-4
    assert list(leaves(Job)) == ["output", "names", "steps", "kind", "decay", "fast", "rate", "betas"]


def test_flags_and_files_say_the_same(tmp_path):
    flags = "--output=x --names=a,b --steps=7 --kind=b --decay=none --fast --rate=1e-4 --betas=0.8,0.9"
    job = parsed(*flags.split())
    assert job == Job(
        output=Path("x"), names=("a", "b"), steps=7, kind="b", decay=None, fast=True, part=Part(1e-4, (0.8, 0.9))
    )
    file = tmp_path / "job.yaml"
    # YAML takes 1e-4 for text; it is meant as a number all the same.
    file.write_text("output: x\nnames: [a, b]\nsteps: 7\nkind: b\ndecay:\nfast: true\nrate: 1e-4\nbetas: [0.8, 0.9]\n")
    assert build(Job, read_file(file)) == job
    file.write_text(yaml.safe_dump(as_values(job)))
    assert build(Job, read_file(file)) == job


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "output is missing"),
        ({"steps": "1.5"}, "steps is '1.5'; it must be a whole number"),
        ({"steps": True}, "steps is True; it must be a whole number"),
        ({"steps": float("nan")}, "steps is nan"),
        ({"rate": "fast"}, "rate is 'fast'; it must be a number"),
        ({"kind": "c"}, "kind is 'c'; it must be a or b"),
        ({"fast": "yes"}, "fast is 'yes'; it must be true or false"),
        ({"betas": [1]}, r"betas is \[1\]; it must be a number,a number"),
        ({"decay": "some"}, "decay is 'some'; it must be a number or none"),
        ({"stepz": 3}, "no field 'stepz'; did you mean steps?"),
        ({"zzz": 3}, "no field 'zzz'; --help lists"),
    ],
)
def test_what_is_wrong_is_said(values, said):
    with pytest.raises(InvalidRequestError, match=said):
        build(Job, values if not values else {"output": "x"} | values)


@pytest.mark.parametrize(
    ("content", "said"), [("a: [", "is no YAML"), ("- a\n", "holds"), ("1: 2\n", "holds"), (b"\xff\xfe\x00", "no text")]
)
def test_a_file_that_is_none_is_told(tmp_path, content, said):
    file = tmp_path / "job.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidRequestError, match=said):
        read_file(file)
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        read_file(tmp_path / "missing.yaml")


def test_a_file_runs_nothing(tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text(f"output: !!python/object/apply:pathlib.Path.touch [!!python/object:pathlib.Path {tmp_path}/ran]\n")
    with pytest.raises(InvalidRequestError, match="is no YAML"):
        read_file(file)
    assert not (tmp_path / "ran").exists()

"""Rows of batches: whatever a file or a folder has in it, each row is a request or an error with its place."""

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from x2i_app.batch import RESULTS, run_batch, write_row
from x2i_app.errors import InvalidRequestError, X2IError
from x2i_app.request import GenerationRequest, GenerationResult
from x2i_app.rows import _ROW_FIELDS, Row, read_rows
from x2i_app.settings import Settings

NAMES = (
    "a",
    "deep/b",
    "c.d",
    "x" * 300,
    "../up",
    "/etc/a",
    "a\0b",
    "\ud800",
    "con",
    "NUL.txt",
    "a\\b",
    "",
    " ",
    "é",
    "é",
)
ODD = (
    *(
        "",
        "a.png",
        "a" * 300,
        "\0",
        "\ud800",
        "\u202e",
        "../..",
        "/dev/zero",
        "http://x",
        "data:,",
        "\x1b[2J",
        "5",
        "true",
    ),
    *(True, None, 0, -1, 3, 64, 4.5, 1e308, 10**400, float("nan"), float("inf"), [], {}, [[]], [None], [{}], {"a": 1}),
)

values = st.recursive(
    st.sampled_from(ODD) | st.text(max_size=20) | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
turns = st.lists(
    st.dictionaries(st.sampled_from(("prompt", "answer", "images", "videos", "audios", "odd")), values, max_size=4),
    max_size=3,
)
rows = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(_ROW_FIELDS, values)
    | {"id": st.sampled_from(NAMES) | values, "history": turns | values, "prompt": st.just("a house") | values},
)


def fuzz(rounds: int, strategy: st.SearchStrategy, check) -> None:
    """Run `check` with many values of a strategy."""
    relaxed = settings(
        max_examples=rounds, deadline=timedelta(seconds=60), database=None, suppress_health_check=list(HealthCheck)
    )
    relaxed(given(strategy)(check))()


def write(path: Path, *records: Any) -> Path:
    """Records that are not bytes are written as JSON."""
    path.write_bytes(b"\n".join(each if isinstance(each, bytes) else json.dumps(each).encode() for each in records))
    return path


def read(source: Path, **defaults: Any) -> list[Row]:
    """Every row, after everything that a batch does with it has been done but the image."""
    count, found = read_rows(source, defaults)
    found = list(found)
    assert len(found) == count
    for row in found:
        assert row.place
        if row.error:
            assert isinstance(row.error, X2IError)
            assert "internal" not in str(row.error), row.error
            assert str(row.error).isprintable()
            continue
        row.digest({})
        (source.parent / row.images[0]).relative_to(source.parent)
        assert problem(row).isprintable()
    return found


def problem(row: Row) -> str:
    """The row's error; empty if there is none."""
    try:
        row.request()
    except X2IError as error:
        return str(error)
    return ""


def problems(source: Path, **defaults: Any) -> list[str]:
    """The error of each row."""
    return list(map(problem, read(source, **defaults)))


@pytest.fixture
def rounds(request) -> int:
    return 1000 if request.config.getoption("--fuzz-long") else 50


def test_r15_any_json_in_any_field(tmp_path, rounds):
    """Between two good rows, which stay good."""
    source = tmp_path / "rows.jsonl"

    def check(row):
        good = {"id": "good", "prompt": "a"}, {"id": "other", "prompt": "b"}
        write(source, good[0], json.dumps(row).encode(), good[1])
        first, odd, last = read(source)
        assert not first.error
        assert not last.error or "line 2 also writes" in str(last.error)
        if not odd.error:
            assert len(odd.images) == len(set(odd.images))

    fuzz(rounds, rows, check)


def test_r15_any_bytes(tmp_path, rounds):
    source = tmp_path / "rows.jsonl"

    def check(content):
        source.write_bytes(b'{"prompt": "a"}\n' + content)
        assert not read(source)[0].error

    content = st.binary(max_size=200) | st.text(st.sampled_from('{}[]":,0e\\u"')).map(str.encode)
    fuzz(rounds, content, check)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"[" * 100_000, "not JSON"),
        (b'{"prompt": ' + b"[" * 900 + b"]" * 900 + b"}", "nested deeper"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"prompt": "' + b"a" * 2**24 + b'"}', "longer than"),
        (b"\xff\xfe{}", "not JSON"),
        ({"id": "a" * 201, "prompt": "a"}, "up to 200 bytes"),
        ({"id": "\ud800", "prompt": "a"}, "id is"),
        ({"id": "a\u202eb", "prompt": "a"}, "id is"),
        ({"id": "a\x9b2J", "prompt": "a"}, "id is"),
        ({"id": "COM1", "prompt": "a"}, "every system"),
        ({"id": "a/nul.txt/b", "prompt": "a"}, "every system"),
        ({"id": "a/COM¹ .txt", "prompt": "a"}, "every system"),
        ({"id": "dot.", "prompt": "a"}, "every system"),
        ({"id": 5, "prompt": "a"}, "id is 5"),
        ({"id": None, "prompt": "a"}, ""),
        ({"prompt": "a", "loras": "style.safetensors"}, "loras is"),
        ({"prompt": "a", "loras": {"a": 1}}, "loras is"),
        ({"prompt": "a", "loras": 5}, "loras is 5"),
        ({"prompt": "a", "source": 5}, "source is 5"),
        ({"prompt": "a", "source": {"a": []}}, "source is"),
        ({"prompt": "a", "mask": ["a.png"]}, "mask is"),
        ({"prompt": "a", "mask": ""}, "mask is ''"),
        ({"images": ["a" * 300]}, "a"),
        ({"images": ["a\0b"]}, "a"),
        ({"images": ["\ud800.png"]}, "a"),
        ({"prompt": "a", "history": {"prompt": "b"}}, "history is"),
        ({"prompt": "a", "history": [{"images": None}]}, "images is None"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_r15_named(tmp_path, record, message):
    """The row says what is wrong, and the next one is read."""
    found = problems(write(tmp_path / "rows.jsonl", record, {"prompt": "next"}))
    assert len(found) == 2
    assert message in found[0]
    assert bool(message) == bool(found[0])
    assert not found[1]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"id": "a"}, {"id": "a"}),
        ({"id": "a"}, {"id": "A"}),
        ({"id": "é"}, {"id": "é"}),
        ({"id": "a", "count": 2}, {"id": "a-2"}),
        ({"id": "a"}, {"id": "a.png/b"}),
        ({"id": "a.png/b/c"}, {"id": "a"}),
        ({"id": "000002"}, {}),
    ],
    ids=str,
)
def test_r15_two_rows_of_one_name(tmp_path, first, second):
    found = problems(write(tmp_path / "rows.jsonl", *({"prompt": "x"} | row for row in (first, second))))
    assert not found[0]
    assert "line 1 also writes the file" in found[1]


def test_r15_files_of_a_folder(tmp_path):
    """Names that the system allows and other systems do not, unreadable files, and two prompts of one name."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("good.txt", "aux.txt", "two.txt", "two.TXT", "line\nend.txt"):
        (folder / name).write_text("a house")
    (folder / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    (folder / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "empty.mp4").touch()
    found = {row.place: row.error for row in read(folder)}
    assert found.pop("good.txt") is None
    assert found.pop("aux.txt") is None, "its images are called _aux"
    assert found.pop("cut.png") is None, "it is an image; what is in it is seen when it is decoded"
    assert all(found.values())
    assert "two prompts" in str(found["two.TXT, two.txt"])


def draw(batch, todo, bar):
    """Writes a small image for each row, without a model."""
    for row in todo:
        if row.error:
            yield write_row(batch, row, row.error)
            continue
        request = GenerationRequest(
            prompt=row.request().prompt, width=64, height=64, num_inference_steps=1, guidance_scale=0, seed=1
        )
        image = Image.new("RGB", (64, 64), "red")
        yield write_row(batch, row, GenerationResult((image,) * len(row.images), (1,) * len(row.images), request))


def run(source: Path, output: Path) -> tuple[int, int, int]:
    outcome = run_batch(Settings(), source, output, {}, draw)
    return outcome.drawn, outcome.failed, outcome.kept


def records(output: Path) -> list[dict]:
    return [json.loads(record) for record in (output / RESULTS).read_bytes().splitlines()]


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_r15_a_file_name_that_is_not_utf_8(tmp_path):
    """Its row fails, is recorded, and the others are drawn."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.txt").write_text("a house")
    Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff.txt")).write_text("a house")
    assert run(folder, tmp_path / "out") == (1, 1, 0)
    assert {record["place"] for record in records(tmp_path / "out")} == {"good.txt", "bad\udcff.txt"}


def test_r15_two_batches_in_one_folder(tmp_path):
    """The second one does not replace the images of the first, and both resume."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first = write(tmp_path / "one/rows.jsonl", {"prompt": "a"}, {"id": "own", "prompt": "b"})
    second = write(tmp_path / "two/rows.jsonl", {"prompt": "c"}, {"id": "other", "prompt": "d"})
    output = tmp_path / "out"
    assert run(first, output) == (2, 0, 0)
    before = (output / "000001.png").read_bytes()
    for attempt in ((1, 1, 0), (0, 1, 1)):
        assert run(second, output) == attempt
        assert (output / "000001.png").read_bytes() == before
        (error,) = [record["error"] for record in records(output) if "error" in record]
        assert f"was made from {str(first)!r}" in error
    assert run(first, output) == (0, 0, 2)
    moved = first.rename(tmp_path / "moved.jsonl")
    assert run(moved, output) == (0, 0, 2), "the same rows in a file of another name"


def test_r15_two_runs_at_once(tmp_path):
    source = write(tmp_path / "rows.jsonl", {"prompt": "a"})
    output = tmp_path / "out"

    def second(batch, todo, bar):
        with pytest.raises(InvalidRequestError, match="Another run writes to --output"):
            run(source, output)
        yield from draw(batch, todo, bar)

    assert run_batch(Settings(), source, output, {}, second).drawn == 1
    assert sorted(path.name for path in output.iterdir()) == ["000001.png", RESULTS]


def test_r15_something_is_in_the_way(tmp_path):
    """A folder with the name of an image, and a file with the name of a folder: errors of these rows alone."""
    source = write(tmp_path / "rows.jsonl", *({"id": name, "prompt": "a"} for name in ("a", "b/c", "d")))
    output = tmp_path / "out"
    (output / "a.png").mkdir(parents=True)
    (output / "b").touch()
    assert run(source, output) == (1, 2, 0)
    assert ["cannot be written" in record.get("error", "") for record in records(output)] == [True, True, False]
    assert run(source, output) == (0, 2, 1)


def test_r15_records_that_are_no_records(tmp_path):
    """A damaged results.jsonl costs the rows that it no longer has, and nothing else."""
    source, output = write(tmp_path / "rows.jsonl", {"prompt": "a"}), tmp_path / "out"
    assert run(source, output) == (1, 0, 0)
    good = (output / RESULTS).read_bytes()
    odd = [b"[]", b"5", b"null", b'{"id": [], "files": [], "digest": 1}', b'{"id": "000001", "files": 5, "digest": 1}']
    odd += [b'{"id": "000001", "files": [5], "digest": 1}', b"[" * 5000, b"\xff", b'{"id": "a", "files": ["\\u0000"]}']
    (output / RESULTS).write_bytes(b"\n".join([*odd, good]))
    assert run(source, output) == (0, 0, 1)

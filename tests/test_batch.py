"""Batches with real processes, a real kill and real files; one bad row never stops the rest."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import file_size_limit
from PIL import Image
from waiting import wait_until

from x2i_app.batch import Batch, run_batch, write_row
from x2i_app.cli import main
from x2i_app.errors import EngineError, X2IError
from x2i_app.media import read_recipe
from x2i_app.presets import FLUX_MODELS
from x2i_app.request import GenerationResult
from x2i_app.rows import read_rows
from x2i_app.settings import ASSETS, Settings

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ASSETS / "examples"
SMALL = ("--steps", "1", "--width", "64", "--height", "64")


def write_rows(path: Path, *rows: dict | str) -> Path:
    records = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(records) + "\n", encoding="utf-8")
    return path


def results_of(output: Path) -> list[dict]:
    return [json.loads(record) for record in (output / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def images_in(output: Path) -> dict[str, int]:
    """All files except the results, with the time of writing."""
    files = (path for path in output.rglob("*") if path.is_file() and path.name != "results.jsonl")
    return {path.relative_to(output).as_posix(): path.stat().st_mtime_ns for path in files}


def test_bad_rows_do_not_stop_the_others(tmp_path, capsys):
    shutil.copy(EXAMPLES / "images/boat-at-sunset.png", tmp_path / "boat.png")
    source = write_rows(
        tmp_path / "rows.jsonl",
        {"id": "one", "prompt": "雪地上的红房子", "seed": 5},
        "not JSON",
        {"id": "wide", "prompt": "a cat", "width": 30},
        {"id": "../up", "prompt": "a cat"},
        {"id": "gone", "images": ["none.png"]},
        {"id": "one", "prompt": "a cat"},
        "",
        {"prompt": "a cat", "color": "red"},
        {"id": "deep/two", "images": ["boat.png"], "prompt": "make it night", "count": 2, "seed": None},
        {"id": "foreign", "prompt": "una casa roja en la nieve de noche"},
    )
    output = tmp_path / "out"
    assert main(["batch", "--input", str(source), "--output", str(output), *SMALL]) == 1
    said = capsys.readouterr().out
    assert "3 rows drawn, 6 failed, 0 drawn before" in said
    noted = [result["id"] for result in results_of(output) if result.get("notes")]
    assert "foreign" in noted
    assert f"Read the notes in {output / 'results.jsonl'} on rows just drawn: {len(noted)}\n" in said
    assert set(images_in(output)) == {"one.png", "deep/two-1.png", "deep/two-2.png", "foreign.png"}
    for name in images_in(output):
        with Image.open(output / name) as image:
            assert (image.format, image.size) == ("PNG", (64, 64))
    assert read_recipe(output / "one.png").request.seed == 5
    results = results_of(output)
    assert [result["place"] for result in results] == [f"line {i}" for i in (1, 2, 3, 4, 5, 6, 8, 9, 10)]
    assert (results[0]["seeds"], results[0]["prompt"], results[0]["answer"] != "") == ([5], "雪地上的红房子", True)
    assert results[0]["notes"] == []
    assert "Spanish" in results[-1]["notes"][0]
    said = [
        "",
        "not JSON",
        "width is 30",
        "'../up'",
        "no file called 'none.png'",
        "line 1 also writes",
        "'color'",
        "",
        "",
    ]
    assert all(part in result.get("error", "") for part, result in zip(said, results, strict=True))


def test_a_killed_run_resumes(tmp_path):
    source = write_rows(tmp_path / "rows.jsonl", *({"prompt": f"{n} stars", "seed": n} for n in range(1, 7)))
    output = tmp_path / "out"
    arguments = ["batch", "--input", str(source), "--output", str(output), *SMALL, "--steps", "20"]
    killed = subprocess.Popen([sys.executable, "-m", "x2i_app", *arguments], cwd=ROOT, stderr=subprocess.PIPE)
    results = output / "results.jsonl"
    wait_until(lambda: results.exists() and results.read_bytes().count(b"\n") >= 2, process=killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait(120)
    killed.stderr.close()
    before = {result["id"]: result for result in results_of(output)}
    assert 2 <= len(before) < 6, "killed too late for this test"
    kept = {name: images_in(output)[name] for result in before.values() for name in result["files"]}

    with results.open("ab") as file:
        file.write(b'{"id": "000006", "place": "li')  # as after a kill in the middle of a write
    rows = source.read_text(encoding="utf-8").splitlines()
    rows[0] = json.dumps({"prompt": "now a house", "seed": 1})  # this row has changed
    (output / "000002.png").unlink()  # and the image of this one is missing
    write_rows(source, *rows)
    assert main(arguments) == 0

    resumed = {result["id"]: result for result in results_of(output)}
    assert sorted(resumed) == [f"{n:06d}" for n in range(1, 7)]
    assert len(results_of(output)) == 6
    assert resumed["000001"]["prompt"] == "now a house"
    written = images_in(output)
    assert set(written) >= {f"{n:06d}.png" for n in range(1, 7)}
    for name in ("000001.png", "000002.png"):
        assert written[name] != kept.pop(name)
    assert all(written[name] == moment for name, moment in kept.items())
    assert main(arguments) == 0
    assert images_in(output) == written


def test_a_bad_row_with_the_id_of_a_finished_row(tmp_path, capsys):
    """It is reported in every run, and the finished row is kept."""
    rows = ({"id": "one", "prompt": "a cat"}, {"id": "one", "prompt": "a house"}, {"id": "one", "width": 7})
    source, output = write_rows(tmp_path / "rows.jsonl", *rows), tmp_path / "out"
    for summary in ("1 row drawn, 2 failed, 0 drawn before", "0 rows drawn, 2 failed, 1 drawn before"):
        assert main(["batch", "--input", str(source), "--output", str(output), *SMALL]) == 1
        assert summary in capsys.readouterr().out
        errors = [result["error"] for result in results_of(output) if "error" in result]
        assert len(errors) == 2
        assert "line 1 also writes the file 'one.png'" in errors[0]
        assert [result["prompt"] for result in results_of(output) if "files" in result] == ["a cat"]


@pytest.mark.parametrize(("room", "drawn"), [(2000, 0), (30_100, 1)], ids=["for no image", "for no second record"])
def test_a_full_disk(tmp_path, room, drawn):
    """A record of another batch has 30,000 bytes, more than an image, so that either images or records have no room."""
    source = write_rows(tmp_path / "rows.jsonl", *({"id": str(n), "prompt": "a cat", "seed": n} for n in range(3)))
    output = tmp_path / "out"
    output.mkdir()
    foreign = json.dumps({"id": "before", "files": [], "digest": "", "padding": ""})
    size = 30_000 if drawn else 200
    record = foreign.replace('""}', f'"{"x" * (size - len(foreign) - 1)}"}}') + "\n"
    (output / "results.jsonl").write_text(record)
    refusal = r"out' cannot be written to \(File too large\). Finished rows are kept"
    with file_size_limit(room), pytest.raises(EngineError, match=refusal):
        run_batch(Settings(profile="cpu"), source, output, {"steps": 1, "width": 64, "height": 64})
    assert set(images_in(output)) == {f"{n}.png" for n in range(drawn)}
    assert (output / "results.jsonl").read_text().startswith(record)
    outcome = run_batch(Settings(profile="cpu"), source, output, {"steps": 1, "width": 64, "height": 64})
    assert (outcome.drawn, outcome.failed) == (3, 0)
    assert [result["id"] for result in results_of(output)] == ["before", "0", "1", "2"]


def test_files_with_the_same_stem_form_one_row(tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    (source / "sub").mkdir(parents=True)
    shutil.copy(EXAMPLES / "images/boat-at-sunset.png", source / "boat.png")
    (source / "boat.txt").write_text("make it night\n", encoding="utf-8")
    shutil.copy(EXAMPLES / "audios/rain-at-sea.wav", source / "sub/rain (1).wav")
    (source / "notes.pdf").write_bytes(b"%PDF-1.7 nothing to draw from")
    (source / ".hidden").write_bytes(b"not read")
    command = ["batch", "--input", str(source), "--output", str(output), "--prompt", "with a fish", *SMALL]
    assert main(command) == 1
    assert set(images_in(output)) == {"boat.png", "sub/rain (1).png"}
    assert len(results_of(output)) == 3
    by_name = {result["id"]: result for result in results_of(output)}
    assert by_name["boat"]["prompt"] == "make it night"
    assert by_name["sub/rain (1)"]["prompt"] == "with a fish"
    assert "PDF" in by_name["notes"]["error"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--input", "nowhere"], "no file or folder 'nowhere'"),
        (["--input", "empty.jsonl"], "is empty"),
        (["--input", "rows.jsonl", "--width", "30"], "width is 30"),
        (["--input", "rows.jsonl", "--output", "rows.jsonl"], "cannot be used"),
        (["--input", "images", "--output", "images/out"], "is inside --input"),
        ([], "--input"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_refused_before_the_model_is_loaded(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").write_text("\n")
    write_rows(tmp_path / "rows.jsonl", {"prompt": "a house"})
    (tmp_path / "images").mkdir()
    shutil.copy(EXAMPLES / "images/boat-at-sunset.png", tmp_path / "images")
    try:
        status = main(["batch", *arguments])
    except SystemExit as stop:  # argparse's own way
        status = stop.code
    shown = capsys.readouterr().err
    assert (status, shown.count("\n")) == (2, 1)
    assert said in shown


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (b"[1, 2]", "one object in each line"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"prompt": 5}', "prompt is 5; it must be text"),
        (b'{"prompt": "a", "id": ""}', "id is ''"),
        (b'{"prompt": "a", "id": 7}', "id is 7"),
        (b'{"prompt": "a", "id": "a/../b"}', "it must be a file name"),
        (b'{"prompt": "a", "id": "/etc/x"}', "it must be a file name"),
        (b'{"prompt": "a", "id": "a\\u0000b"}', "it must be a file name"),
        (b'{"prompt": "a", "images": "a.png"}', "images is 'a.png'; it must be a list"),
        (b'{"prompt": "a", "history": 3}', "history is 3; it must be a list"),
        (b'{"prompt": "a", "history": [{"images": [5]}]}', "images is [5]"),
        (b'{"prompt": "a", "seed": NaN}', "seed is nan"),
        (b'{"prompt": "a", "count": [2]}', "num_images_per_prompt is [2]"),
        (b'{"images": [".."]}', "'..' is"),
        (b'{"images": ["a/b.png"]}', "There is no file called 'a/b.png' in '"),
        (b'{"prompt": "a", "history": [{"images": ["b.png"]}]}', "paths are relative to the folder of the file"),
        (b'{"images": ["a\\u0000b.png"]}', "There is no file called"),
        (b'{"images": ["' + 300 * b"a" + b'.png"]}', "aaa"),
    ],
    ids=lambda value: ascii(value)[:40] if isinstance(value, bytes) else "",
)
def test_bad_rows_have_an_error(tmp_path, row, said):
    (tmp_path / "rows.jsonl").write_bytes(row + b"\n" + b'{"prompt": "a house"}')
    count, rows = read_rows(tmp_path / "rows.jsonl", {})
    bad, good = rows
    assert count == 2
    with pytest.raises(X2IError) as raised:
        bad.request()
    assert said in str(raised.value)
    assert good.request().prompt == "a house"


def test_paths_are_relative_to_the_file(tmp_path):
    (tmp_path / "media").symlink_to(EXAMPLES)
    turn = {"prompt": "look", "images": ["media/images/boat-at-sunset.png"], "answer": "a boat"}
    row = {"prompt": "now at night", "audios": ["media/audios/rain-at-sea.wav"], "history": [turn]}
    (found,) = read_rows(write_rows(tmp_path / "rows.jsonl", row), {})[1]
    request = found.request()
    assert Path(request.history[0].images[0]) == tmp_path / "media/images/boat-at-sunset.png"
    assert Path(request.audios[0]) == tmp_path / "media/audios/rain-at-sea.wav"


def test_a_lora_of_the_models_folder(tmp_path, capsys):
    """A row's OWNER/NAME is looked for in the folder of --models, as the flag --lora and the page do; no hub here."""
    folder = tmp_path / "mine/artist/style"
    folder.mkdir(parents=True)
    shutil.copy(EXAMPLES / "loras/striped.safetensors", folder / "ink.safetensors")
    source = write_rows(tmp_path / "rows.jsonl", {"id": "a", "prompt": "a cat", "loras": ["artist/style"], "seed": 1})
    given = ("--models", str(tmp_path / "mine"), "--input", str(source), "--output", str(tmp_path / "out"))
    assert main(["batch", *SMALL, *given]) == 0, capsys.readouterr().err
    (record,) = results_of(tmp_path / "out")
    assert record["loras"] == {"ink.safetensors": 1.0}


def test_values_of_flags(tmp_path):
    """A row that lacks a value, or has null, takes the flag's; only a row's own paths are relative to its file."""
    lora = str(EXAMPLES / "loras/striped.safetensors")
    (tmp_path / "own.safetensors").symlink_to(lora)
    defaults = {"steps": 3, "loras": [(lora, 0.5)]}
    rows = ({"prompt": "a"}, {"prompt": "a", "steps": None, "loras": None}, {"prompt": "a", "steps": 2})
    source = write_rows(tmp_path / "rows.jsonl", *rows, {"prompt": "a", "loras": ["own.safetensors"]})
    found = [row.request() for row in read_rows(source, defaults)[1]]
    assert [request.num_inference_steps for request in found] == [3, 3, 2, 3]
    assert [Path(request.loras[0][0]) for request in found] == [Path(lora)] * 3 + [tmp_path / "own.safetensors"]


def test_a_digest_changes_with_every_input(tmp_path):
    """With the values, the model, and the size or the time of a file."""
    source = tmp_path / "in"
    source.mkdir()
    image = Path(shutil.copy(EXAMPLES / "images/boat-at-sunset.png", source))

    def digest(model: str = "one", **defaults) -> str:
        (row,) = read_rows(source, defaults)[1]
        return row.digest({"preset": model})

    first = digest()
    assert digest() == first
    assert len({first, digest(steps=3), digest("two")}) == 3
    os.utime(image, ns=(1, 1))
    touched = digest()
    image.write_bytes(image.read_bytes() + b"0")
    os.utime(image, ns=(1, 1))
    assert len({first, touched, digest()}) == 3


def test_without_a_model_the_run_ends(tmp_path):
    """No record is written, so that the next run tries every row."""
    source = write_rows(tmp_path / "rows.jsonl", {"prompt": "a cat"}, {"prompt": "a house"})
    settings = Settings(preset="qwen2.5-vl-3b", profile="cpu", mllm="/no/such/folder")
    with pytest.raises(EngineError, match="no folder '/no/such/folder'"):
        run_batch(settings, source, tmp_path / "out", {})
    assert results_of(tmp_path / "out") == []


def test_numbered_images_have_names_of_their_own(tmp_path):
    """Also on a disk where upper and lower case are the same."""
    rows = ({"id": "a-2"}, {"id": "a", "count": 2}, {"id": "B"}, {"id": "b"}, {"id": "a"})
    source = write_rows(tmp_path / "rows.jsonl", *({"prompt": "a cat"} | row for row in rows))
    errors = [str(row.error or "") for row in read_rows(source, {})[1]]
    assert ["also writes" in error for error in errors] == [False, True, False, True, False]
    assert errors[1].startswith("line 1 also writes the file 'a-2.png'")


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"image_format": "webp"}, ["one-1.webp", "one-2.webp"]),
        ({"output_template": "{id}/{seed}-{prompt}"}, ["one/7-a-red-cat.png", "one/8-a-red-cat.png"]),
        ({"output_template": "same", "image_format": "jpg"}, ["same.jpg", "same-2.jpg"]),
    ],
)
def test_formats_and_names(tmp_path, options, names):
    """The images of a row get the format and the names that are asked for, and the record says which."""
    write_rows(tmp_path / "rows.jsonl", {"id": "one", "prompt": "a red cat", "count": 2, "seed": 7})
    (row,) = read_rows(tmp_path / "rows.jsonl", {})[1]
    request = row.request().with_defaults(FLUX_MODELS["x2i-tiny"], 7)
    images = tuple(Image.new("RGB", (64, 64), (number, 0, 0)) for number in range(2))
    batch = Batch(Settings(**options), tmp_path / "out")
    record = write_row(batch, row, GenerationResult(images, (7, 8), request))
    assert record["files"] == names
    assert [read_recipe(tmp_path / "out" / name).request.seed for name in names] == [7, 8]
    other = Batch(Settings(image_format="png"), tmp_path / "out")
    assert (row.digest(batch.model) == row.digest(other.model)) is ("image_format" not in options)

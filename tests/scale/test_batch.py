"""A batch on Ray Data, on a local cluster: an actor is killed, and no row is lost."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.scale.conftest import ACTOR, SECONDS, ray_processes, wait_until
from x2i_app.batch import Batch
from x2i_app.cli import main
from x2i_app.errors import X2IError
from x2i_app.rows import read_rows
from x2i_app.scale.batch import RowActor
from x2i_app.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def test_killed_actor(tmp_path):
    rows = [{"id": f"row{n}", "prompt": f"{n} stars", "seed": n, "width": 64, "height": 64} for n in range(1, 5)]
    rows[0]["steps"] = 1
    rows.insert(2, {"id": "long", "prompt": "a cat", "steps": 1000})
    source, output = tmp_path / "rows.jsonl", tmp_path / "out"
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    command = [sys.executable, "-m", "x2i_app", "batch", "--ray", "--steps", "40"]
    command += ["--input", str(source), "--output", str(output)]
    batch = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    results = output / "results.jsonl"

    def records():
        assert batch.poll() is None, batch.stderr.read()
        return results.read_bytes().count(b"\n") if results.exists() else 0

    try:
        wait_until(records, "the first row is drawn")
        (actor,) = ray_processes(ACTOR)
        assert records() < len(rows)
        actor.kill()
        said, complaints = batch.communicate(timeout=SECONDS)
    finally:
        batch.kill()
    assert batch.returncode == 1, complaints
    assert "4 rows drawn, 1 failed, 0 drawn before" in said
    found = [json.loads(record) for record in results.read_text(encoding="utf-8").splitlines()]
    assert sorted(record["id"] for record in found) == sorted(row["id"] for row in rows)
    for record in found:
        if record["id"] == "long":
            assert "1000; it must be 1 to 100" in record["error"]
        else:
            assert record["seeds"] == [int(record["id"].removeprefix("row"))]
            with Image.open(output / record["files"][0]) as image:
                assert image.size == (64, 64)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--replicas", "many"], "replicas is 'many'; write a number, or a range such as 1:8."),
        (["--replicas", "8:2"], "replicas is 8:2; the first number must not be larger."),
        (["--replicas", "0"], "replicas is 0; it must be"),
        (["--gpus", "-1"], "gpus is -1"),
    ],
)
def test_bad_flags(tmp_path, capsys, flags, said):
    assert main(["batch", "--input", str(tmp_path), "--ray", *flags]) == 2
    assert said in capsys.readouterr().err


def test_an_actor_without_a_model(tmp_path, monkeypatch):
    """It raises, so that Ray ends the batch, instead of a failure of every row."""
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"prompt": "a cat"}')
    (row,) = read_rows(Path("rows.jsonl"), {})[1]
    settings = Settings(preset="qwen2.5-vl-3b", profile="cpu", mllm="/no/such/folder")
    actor = RowActor(Batch(settings, tmp_path), str(tmp_path))
    with pytest.raises(X2IError, match="no folder '/no/such/folder'"):
        actor({"row": pickle.dumps(row)})
    actor.engine.close()

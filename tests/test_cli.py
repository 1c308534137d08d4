"""The command line as people run it: one line and a status for what is wrong, PNG files for what is right."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]

DRAWING = (
    "--preset",
    "x2i-tiny",
    "--prompt",
    "a red house on snow",
    "--steps",
    "2",
    "--width",
    "128",
    "--height",
    "96",
)


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run `python -m x2i_app` in a folder of its own, where every file it leaves can be seen."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("X2I_")}
    environment |= {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "x2i_app", *arguments]
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, encoding="utf-8", timeout=300, check=False
    )


def files_in(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*")}


@pytest.fixture
def folder(tmp_path):
    """A folder with what the bad inputs need: a text file with a picture's name, and a folder with a picture's name."""
    (tmp_path / "words.png").write_text("no picture at all, only words\n", encoding="utf-8")
    (tmp_path / "taken.png").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prompt", "a house", "--width", "100"], "width is 100"),
        (["--prompt", "a house", "--width", "nan"], "width is nan"),
        (["--prompt", "a house", "--steps", "1e400"], "num_inference_steps is inf"),
        (["--prompt", "a house", "--seed", "nine"], "--seed: 'nine' is no number"),
        (["--prompt", "a house", "--count", "9" * 5000], "num_images_per_prompt is "),
        (["--prompt", "a house", "--preset", "gpt-9"], "no preset called 'gpt-9'"),
        (["--prompt", "a house", "--preset", "custom:gpt"], "no MLLM family called 'gpt'"),
        (["--prompt", "a house", "--output", "out.jpg"], "it must end in .png"),
        (["--prompt", "a house", "--output", "nowhere/out.png"], "no folder 'nowhere'"),
        (["--prompt", "a house", "--output", "taken.png"], "taken.png"),
        ([], "nothing to draw from"),
        (["--prompt", "  "], "nothing to draw from"),
        (["--prompt", "a house", "--control", "1"], "0 pictures came"),
        (["--prompt", "a house", "--image", "missing.png"], "no file called 'missing.png'"),
        (["--prompt", "a house", "--image", "words.png"], "'words.png' is a text file"),
        (["--from-picture", "words.png"], "'words.png' is a text file"),
        (["--from-picture", "bare.png"], "'bare.png' contains no settings"),
        (["--prompt", "a house", "--colour\nx\x1b[31m"], "--colour"),
    ],
    ids=lambda value: ascii(" ".join(value))[:60] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_status_2_and_leaves_no_file(folder, arguments, said):
    before = files_in(folder)
    finished = run(folder, "generate", *arguments)
    assert finished.stderr.count("\n") == 1, finished.stderr
    assert finished.stderr[:-1].isprintable()
    assert said in finished.stderr
    assert (finished.returncode, finished.stdout) == (2, "")
    assert files_in(folder) == before


@pytest.fixture(scope="module")
def two_images(tmp_path_factory):
    """One good run that draws two pictures: what it said, and the folder it worked in."""
    directory = tmp_path_factory.mktemp("two")
    return run(directory, "generate", *DRAWING, "--seed", "0", "--count", "2", "--output", "out.png"), directory


def test_a_good_run_writes_the_numbered_images_and_says_so(two_images):
    finished, directory = two_images
    assert finished.returncode == 0, finished.stderr
    assert files_in(directory) == {"out-1.png", "out-2.png"}
    assert finished.stdout.splitlines()[:2] == ["out-1.png (seed 0)", "out-2.png (seed 1)"]
    assert "Traceback" not in finished.stderr


def test_the_images_have_the_size_that_was_asked_for_and_differ(two_images):
    _, directory = two_images
    first, second = (Image.open(directory / f"out-{i}.png") for i in (1, 2))
    assert {(image.size, image.mode, image.format) for image in (first, second)} == {((128, 96), "RGB", "PNG")}
    assert not np.array_equal(first, second)


def test_a_image_is_made_again_from_a_file_to_the_byte_and_flags_win(two_images, tmp_path):
    _, directory = two_images
    second = str(directory / "out-2.png")
    finished = run(tmp_path, "generate", "--from-picture", second, "--seed", "0", "--output", "again.png")
    assert finished.returncode == 0, finished.stderr
    assert files_in(tmp_path) == {"again.png"}
    assert (tmp_path / "again.png").read_bytes() == (directory / "out-1.png").read_bytes()


def test_no_command_is_one_line_and_help_names_the_commands(tmp_path):
    nothing, shown = run(tmp_path), run(tmp_path, "--help")
    assert (nothing.returncode, nothing.stderr.count("\n"), nothing.stdout) == (2, 1, "")
    assert shown.returncode == 0
    assert {"app", "generate"} <= set(shown.stdout.split())

"""The command line as people run it: one line and a status for what is wrong, PNG files for what is right."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from x2i_app.cli import COMMANDS, App, Batch, Evaluate, Generate, Plan, main
from x2i_app.errors import EngineError, MediaError
from x2i_app.options import parse
from x2i_app.presets import FLUX_MODELS
from x2i_app.request import GenerationRequest, Turn

ROOT = Path(__file__).resolve().parents[1]

OPTIONS = ["--preset", "x2i-tiny", "--steps", "2", "--width", "128", "--height", "96"]


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
    """What the bad inputs need: a text file and a folder that are named like images, and a PNG without settings."""
    (tmp_path / "text.png").write_text("not an image, only text\n", encoding="utf-8")
    (tmp_path / "x-2.png").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prompt", "a house", "--width", "30"], "width is 30"),
        (["--prompt", "a house", "--output-template", "{cat}"], "has the field '{cat}'; choose from date"),
        (["--prompt", "a house", "--output-template", "{seed"], "output_template is '{seed'"),
        (["--prompt", "a house", "--output-template", "../{seed}"], "it must be a name in the output folder"),
        (["--prompt", "a house", "--output-template", "{seed}", "--output", "a.png"], "it must be a folder"),
        (["--prompt", "a house", "--image-format", "gif"], "--image-format"),
        (["--prompt", "a house", "--width", "nan"], "--width: 'nan' is not a whole number"),
        (["--prompt", "a house", "--guidance", "nan"], "guidance_scale is nan"),
        (["--prompt", "a house", "--steps", "1e400"], "--steps: '1e400' is not a whole number"),
        (["--prompt", "a house", "--seed", "nine"], "--seed: 'nine' is not a whole number"),
        (["--prompt", "a house", "--count", "9" * 5000], "--count: '9999"),
        (["--prompt", "a house", "--outpaint", "1,2,3"], "--outpaint: '1,2,3' is not"),
        (["--prompt", "a house", "--preset", "gpt-9"], "no preset called 'gpt-9'"),
        (["--prompt", "a house", "--preset", "custom:gpt"], "no MLLM family called 'gpt'"),
        (["--prompt", "a house", "--port", "80"], "Unrecognized options: --port, 80"),
        (["--prompt", "a house", "--output", "out.gif"], "it must end in .png, .jpg or .webp"),
        (["--prompt", "a house", "--output", "nowhere/out.png"], "no folder 'nowhere'"),
        (["--prompt", "a house", "--count", "2", "--output", "x.png"], "'x-2.png' is a folder"),
        ([], "request is empty"),
        (["--prompt", "  "], "request is empty"),
        (["--prompt", "a house", "--control", "1"], "Editing needs one image"),
        (["--prompt", "a house", "--image", "missing.png"], "no file called 'missing.png'"),
        (["--prompt", "a house", "--image", "text.png"], "'text.png' is a text file"),
        (["--prompt", "a house", "--mask", "text.png"], "'text.png' is a text file"),
        (["--from-image", "text.png"], "'text.png' is a text file"),
        (["--from-image", "bare.png"], "'bare.png' contains no settings"),
        (["--from-picture", "bare.png"], "'bare.png' contains no settings"),
        (["--prompt", "a house", "--color\nx\x1b[31m"], "--color"),
    ],
    ids=lambda value: ascii(" ".join(value))[:60] if isinstance(value, list) else "",
)
def test_bad_input(folder, monkeypatch, capsys, arguments, said):
    """One line on standard error, exit status 2, and no file is left."""
    before = files_in(folder)
    monkeypatch.chdir(folder)
    assert main(["generate", *arguments]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("x2i: ")
    assert written.err.endswith("\n")
    assert written.err[:-1].isprintable()
    assert said in written.err
    assert files_in(folder) == before


def test_exit_status(folder):
    """The same from outside the process."""
    finished = run(folder, "generate", "--prompt", "a house", "--width", "30")
    assert (finished.returncode, finished.stdout, finished.stderr.count("\n")) == (2, "", 1)
    assert "width is 30" in finished.stderr


@pytest.mark.parametrize(
    ("error", "status"),
    [(EngineError("It failed."), 1), (MediaError("It is bad."), 2), (KeyboardInterrupt(), 130)],
    ids=["failure", "bad input", "interrupt"],
)
def test_status_of_an_error(monkeypatch, capsys, error, status):
    def fail(self):
        raise error

    monkeypatch.setattr(Generate, "run", fail)
    assert main(["generate", "--prompt", "a house"]) == status
    assert capsys.readouterr().err == f"x2i: {str(error) or 'stopped.'}\n"


@pytest.fixture(scope="module")
def two_images(tmp_path_factory):
    """A run that draws two images: what it printed, and the folder it worked in."""
    directory = tmp_path_factory.mktemp("two")
    arguments = ("--prompt", "a red house on snow", "--seed", "0", "--count", "2", "--output", "out.png")
    return run(directory, "generate", *OPTIONS, *arguments), directory


def test_images_are_numbered_files(two_images):
    finished, directory = two_images
    assert finished.returncode == 0, finished.stderr
    assert files_in(directory) == {"out-1.png", "out-2.png"}
    assert finished.stdout.splitlines()[:2] == ["out-1.png (seed 0)", "out-2.png (seed 1)"]
    assert "Traceback" not in finished.stderr


def test_images_have_the_size_asked_for_and_differ(two_images):
    _, directory = two_images
    first, second = (Image.open(directory / f"out-{i}.png") for i in (1, 2))
    assert {(image.size, image.mode, image.format) for image in (first, second)} == {((128, 96), "RGB", "PNG")}
    assert not np.array_equal(first, second)


def test_from_image(two_images, tmp_path):
    """The settings in a PNG give the same image to the byte, and flags win over them. The flag's old name works."""
    _, directory = two_images
    second = str(directory / "out-2.png")
    asked = [request_of(*given, flux="x2i-tiny") for given in ([f"--from-image={second}"], ["--from-picture", second])]
    assert asked == [request_of("--from-image", second, flux="x2i-tiny")] * 2
    assert (asked[0].prompt, asked[0].seed) == ("a red house on snow", 1)
    finished = run(tmp_path, "generate", "--from-image", second, "--seed", "0", "--output", "again.png")
    assert finished.returncode == 0, finished.stderr
    assert files_in(tmp_path) == {"again.png"}
    assert (tmp_path / "again.png").read_bytes() == (directory / "out-1.png").read_bytes()


def request_of(*arguments: str, flux: str = "flux.1-schnell"):
    return parse(Generate, arguments, prog="x2i generate", environment={})._request(FLUX_MODELS[flux])


def test_settings_that_the_model_cannot_follow(tmp_path, capsys):
    """Those of the image are left out with a note; a flag that the model cannot follow is not."""
    texts = PngInfo()
    texts.add_text("parameters", "a car\nNegative prompt: fog\nSteps: 9, Sampler: Euler, Seed: 5")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=texts)
    given = ("--from-image", str(tmp_path / "a.png"))
    assert request_of(*given, flux="flux.1-dev").negative_prompt == "fog"
    assert "fog" not in capsys.readouterr().err
    assert request_of(*given).negative_prompt == ""
    assert "The negative prompt is left out, as flux.1-schnell cannot follow one: 'fog'" in capsys.readouterr().err
    assert request_of(*given, "--negative-prompt", "rain").negative_prompt == "rain"


def test_flags_fill_the_request(tmp_path):
    """Every flag reaches the field of the request that it is about."""
    for name in ("a.png", "b.png", "mask.png"):
        Image.new("RGB", (64, 64)).save(tmp_path / name)
    first, second, mask = (str(tmp_path / name) for name in ("a.png", "b.png", "mask.png"))
    (tmp_path / "history.json").write_text('[{"prompt": "a house", "answer": "a red house"}]')
    numbers = "--width 128 --height 96 --steps 3 --guidance 2.5 --seed 7 --count 2 --control 0.5 --strength 0.25"
    request = request_of(
        *("--prompt", "a tree", "--image", first, "--image", second, "--source", second, "--mask", mask),
        *(*numbers.split(), "--reason"),
        *("--lora", "x:1.safetensors", "--lora", "y.safetensors:0.5", "--history", str(tmp_path / "history.json")),
    )
    assert request == GenerationRequest(
        prompt="a tree",
        images=(first, second),
        source_image=second,
        mask=mask,
        width=128,
        height=96,
        num_inference_steps=3,
        guidance_scale=2.5,
        seed=7,
        num_images_per_prompt=2,
        control_strength=0.5,
        strength=0.25,
        reason=True,
        loras=(("x:1.safetensors", 1.0), ("y.safetensors", 0.5)),
        history=(Turn("a house", answer="a red house"),),
    )
    part = request_of("--prompt", "a tree", "--video-start", "1.5", "--video-end", "3").video_part
    assert part == (1.5, 3.0)
    assert request_of("--image", first, "--outpaint", "16,0,32,8").outpaint == (16, 0, 32, 8)
    assert request_of("--prompt", "a tree", "--control", "0", "--seed", "0") == GenerationRequest("a tree", seed=0)


@pytest.mark.parametrize(
    ("given", "address"), [([], None), (["--ray"], "here"), (["--ray", "auto"], "auto"), (["--ray", "h:1"], "h:1")]
)
def test_ray_address(given, address):
    app = parse(App, [*given, "--replicas", "1:2", "--gpus", "0.5", "--port", "80"], prog="x2i app", environment={})
    assert (app.cluster.ray, app.cluster.replicas, app.cluster.gpus, app.settings.port) == (address, "1:2", 0.5, 80)


@pytest.mark.parametrize("command", ["app", "batch --input gone.jsonl", "evaluate", "evaluate --prompts own"])
@pytest.mark.parametrize("flag", ["--replicas", "--gpus"])
def test_replicas_need_a_cluster(command, flag, capsys):
    assert main([*command.split(), flag, "2"]) == 2
    said = f"x2i: {flag} needs --ray, which says where to draw; add it, or leave {flag} out.\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("given", ["0.8", ":0.8"])
def test_a_weight_without_a_file_is_no_lora(given, capsys):
    assert main(["generate", "--prompt", "x", "--lora", given]) == 2
    assert f"'{given}'" in capsys.readouterr().err


def test_variables_reach_every_command(tmp_path):
    """X2I_PRESET is the preset of `batch` as of `app`."""
    for kind, given in ((App, []), (Generate, []), (Batch, ["--input", "x"]), (Evaluate, []), (Plan, [])):
        command = parse(kind, given, prog="x2i", environment={"X2I_PRESET": "qwen2.5-vl-3b", "X2I_PORT": "80"})
        assert command.settings.preset == "qwen2.5-vl-3b"


def test_no_command_and_help(tmp_path):
    nothing, shown = run(tmp_path), run(tmp_path, "--help")
    assert (nothing.returncode, nothing.stderr.count("\n"), nothing.stdout) == (2, 1, "")
    assert shown.returncode == 0
    assert set(COMMANDS) <= set(shown.stdout.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_fast(command):
    """--help imports none of the libraries that take seconds. That of `train` lists what can be trained."""
    code = (
        "import sys; from x2i_app.cli import main\n"
        f"try: main([{command!r}, '--help'])\n"
        "except SystemExit as stopped: assert stopped.code == 0\n"
        "print('heavy:', *sorted({'torch', 'diffusers', 'transformers', 'gradio', 'numpy', 'PIL'} & set(sys.modules)))"
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    names = {"upscale": "--scale", "comfyui": "--remove", "align": "convert", "train": "distill"}
    assert names.get(command, "--preset") in finished.stdout
    assert finished.stdout.endswith("heavy:\n")

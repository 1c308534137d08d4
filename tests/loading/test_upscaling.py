"""Upscaling with real ESRGAN networks of random weights, and by Lanczos."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from spandrel.architectures.ESRGAN import ESRGANArch

from x2i_app.cli import main
from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.loading.upscaling import find_upscalers, load_upscaler, upscale
from x2i_app.media import read_recipe, save_image
from x2i_app.media.image_texts import read_texts
from x2i_app.settings import ASSETS

BOAT = ASSETS / "examples/images/boat-at-sunset.png"


@pytest.fixture(scope="module")
def photo():
    return Image.open(BOAT).convert("RGB").resize((70, 50))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with an upscaler of twice and one of four times; the second is wrapped, as released ones are."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "upscalers").mkdir()
    torch.manual_seed(0)
    for scale, name in ((2, "twice.safetensors"), (4, "wrapped-x4.pth")):
        from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet

        weights = RRDBNet(num_filters=8, num_blocks=1, scale=scale).state_dict()
        path = folder / "upscalers" / name
        save_file(weights, path) if scale == 2 else torch.save({"params_ema": weights}, path)
    return folder


def test_they_are_found(models, tmp_path):
    assert list(find_upscalers(models)) == ["twice.safetensors", "wrapped-x4.pth"]
    assert find_upscalers(tmp_path) == {}
    assert ESRGANArch().id == "ESRGAN"


@pytest.mark.parametrize("name", [None, "twice.safetensors", "wrapped-x4.pth"])
@pytest.mark.parametrize("scale", [2, 4])
def test_exactly_twice_or_four_times(models, photo, name, scale):
    """Whatever scale the upscaler has."""
    upscaler = name and load_upscaler(name, models)
    enlarged = upscale(photo, scale, upscaler)
    assert enlarged.size == (scale * 70, scale * 50)
    lanczos = photo.resize(enlarged.size, Image.Resampling.LANCZOS)
    assert (enlarged.tobytes() == lanczos.tobytes()) is (name is None)


def test_tiles_have_no_seams(models):
    """Away from its edges, each tile is what the whole image would give."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 300, 3), dtype=np.uint8))
    upscaler = load_upscaler("twice.safetensors", models)
    pixels = torch.from_numpy(np.array(noise)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        whole = (255 * upscaler(pixels)[0].clamp(0, 1)).round().byte().permute(1, 2, 0).numpy()
    difference = np.abs(whole.astype(int) - np.asarray(upscale(noise, 2, upscaler)))
    assert difference.max() <= 1


def test_bad_input(models, photo, tmp_path):
    with pytest.raises(InvalidRequestError, match="scale is 3; it must be 2 or 4"):
        upscale(photo, 3)
    with pytest.raises(InvalidRequestError, match="enlarged 4 times is 12000 x 8000"):
        upscale(Image.new("RGB", (3000, 2000)), 4)
    with pytest.raises(CheckpointError, match=r"no upscaler 'none.pth'; the upscalers here: twice"):
        load_upscaler("none.pth", models)
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="no upscaler of a known kind"):
        load_upscaler(tmp_path / "other.safetensors")
    (tmp_path / "cut.pth").write_bytes((models / "upscalers/wrapped-x4.pth").read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r"cut\.pth"):
        load_upscaler(tmp_path / "cut.pth")


def test_command(models, photo, tmp_path, monkeypatch, capsys):
    """The settings in the file stay, with what was done to it."""
    monkeypatch.chdir(tmp_path)
    small = ("--steps", "1", "--width", "64", "--height", "64", "--seed", "3")
    assert main(["generate", "--prompt", "a boat", *small, "--output", "boat.png"]) == 0
    flags = ["--models", str(models), "--device", "cpu"]
    assert main(["upscale", "boat.png", "--scale", "4", *flags, "--output", "large.png"]) == 0
    assert Image.open("large.png").size == (256, 256)
    assert read_recipe("large.png").request.seed == 3
    texts = read_texts("large.png")
    assert json.loads(texts["x2i"])["upscale"] == {"scale": 4, "upscaler": "twice.safetensors"}
    assert texts["parameters"].endswith("Upscale: 4, Upscaler: twice.safetensors")
    save_image(photo, "photo.png")
    assert main(["upscale", "--image", "photo.png", "--models", "nowhere"]) == 0
    assert Image.open("upscaled.png").size == (140, 100)
    capsys.readouterr()
    assert main(["upscale", "photo.png", "--scale", "3"]) == 2
    assert "scale is 3" in capsys.readouterr().err
    assert main(["upscale", "photo.png", "--upscaler", "none.pth"]) == 2


def test_command_with_a_redraw(photo, tmp_path, monkeypatch, capsys):
    """The loaded model draws the enlarged image again; the file says how."""
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "--prompt", "a boat", "--steps", "1", "--seed", "3", "--output", "boat.png"]) == 0
    plain = ["upscale", "boat.png", "--upscaler", "lanczos", "--output"]
    assert main([*plain, "plain.png"]) == 0
    capsys.readouterr()
    given = ["--redraw", "0.25", "--steps", "4", "--seed", "7"]
    assert main([*plain, "redrawn.png", *given]) == 0
    told = capsys.readouterr()
    assert told.out == "redrawn.png: 256 x 256, lanczos, redrawn with strength 0.25\n"
    assert "Redrawing part 9 of 9" in told.err
    one, other = (np.asarray(Image.open(f"{name}.png"), int) for name in ("plain", "redrawn"))
    assert one.shape == other.shape
    assert 0 < np.abs(one - other).mean() < 30
    texts = read_texts("redrawn.png")
    assert json.loads(texts["x2i"])["redraw"] == {"strength": 0.25, "seed": 7, "steps": 4}
    assert json.loads(texts["x2i"])["upscale"] == {"scale": 2, "upscaler": "lanczos"}
    assert texts["parameters"].endswith("Upscale: 2, Upscaler: lanczos, Redraw: 0.25")
    for flags, sentence in (
        (["--seed", "7"], "--seed needs --redraw"),
        (["--redraw", "2"], "redraw is 2; it must be"),
        (["--redraw", "0.25", "--steps", "0"], "steps is 0"),
    ):
        assert main([*plain, "x.png", *flags]) == 2
        assert sentence in capsys.readouterr().err

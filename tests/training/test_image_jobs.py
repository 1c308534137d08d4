"""`train lora` and `train light-control` as people run them, over x2i-tiny; and the images that they read."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from measures import stripedness
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from x2i_app import load_pipeline
from x2i_app.cli import main
from x2i_app.errors import InvalidRequestError, TrainingError
from x2i_app.loading import load_light_control, use_loras
from x2i_app.miniature import striped, training_data
from x2i_app.settings import ASSETS
from x2i_app.training import LoopOptions, LoRAJob
from x2i_app.training.image_data import read_images
from x2i_app.training.lora import when_to_stop
from x2i_app.training.samples import Broken

BUNDLED = ASSETS / "x2i-tiny/light_control"
FEW = ("--resolution", "64", "--batch-size", "2", "--warmup-steps", "1", "--workers", "0", "--mixed-precision", "no")


@pytest.fixture(autouse=True)
def _accelerate_starts_anew():
    AcceleratorState._reset_state(reset_partial_state=True)


def train(*arguments):
    return main(["train", *map(str, arguments), *FEW])


def rows(sheet, count):
    """The rows of a sheet of samples, which has `count`, as arrays."""
    pixels = np.asarray(Image.open(sheet))
    return [pixels[len(pixels) - (row + 1) * 296 + 32 :][:256] for row in reversed(range(count))]


def test_lora(tmp_path, capsys):
    """Its file says what it is and changes images; a resumed run ends the same."""
    training_data.main(["striped", "--output", str(tmp_path / "data"), "--count", "4"])
    assert capsys.readouterr().out == f"{tmp_path / 'data'}\n"
    for suffix in ("png", "txt"):
        shutil.copy(tmp_path / f"data/000.{suffix}", tmp_path / f"data/copy.{suffix}")
    wide = Image.open(tmp_path / "data/003.png").resize((200, 120))
    wide.save(tmp_path / "data/003.png")
    job = ("lora", "--data", tmp_path / "data", "--output", tmp_path / "run", "--steps", 6, "--checkpoint-every", 3)
    job = (*job, "--learning-rate", "1e-2", "--rank", 4, "--alpha", 8, "--trigger", "striped", "--holdout", 1)
    job = (*job, "--no-gradient-checkpointing", "--num-inference-steps", 1)
    assert train(*job, "--evaluate-every", 3, "--samples", 2) == 0
    file = tmp_path / "run" / "lora.safetensors"
    printed = capsys.readouterr()
    assert printed.out.startswith(str(file))
    assert "Passed over 1 copies with equal captions: copy of 000" in printed.err
    assert (
        "batch_size 2 x accumulate 1 x 1 device = 2 samples a step; 6 steps = 12 samples = 4 epochs of 3" in printed.err
    )
    assert "The loss of held-out images was lowest at step" in printed.err
    with safe_open(file, framework="pt") as opened:
        metadata, trained = opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    assert metadata["modelspec.architecture"] == "flux-1/lora"
    assert metadata["modelspec.trigger_phrase"] == "striped"
    assert (metadata["x2i.preset"], metadata["x2i.samples"], metadata["x2i.steps"]) == ("x2i-tiny", "4", "6")
    settings = json.loads(metadata["lora_adapter_metadata"])
    assert (settings["transformer.r"], settings["transformer.lora_alpha"]) == (4, 8)

    sheets = sorted((tmp_path / "run" / "samples").iterdir())
    assert [sheet.name for sheet in sheets] == ["step-00000003.png", "step-00000006.png"]
    first, second = (rows(sheet, 3) for sheet in sheets)
    assert first[0].shape == (256, 2 * 264 + 8, 3)
    assert [np.array_equal(a, b) for a, b in zip(first, second, strict=True)] == [True, True, False]
    assert not np.array_equal(first[1], first[2])  # without it, and with it
    contact = rows(tmp_path / "run/contact-sheet.png", 4)
    assert all(np.array_equal(a, b) for a, b in zip(contact, [*first, second[2]], strict=True))
    half, whole = (load_file(tmp_path / f"run/{name}.safetensors") for name in ("lora-step-00000003", "lora"))
    assert half.keys() == whole.keys()
    assert not all(torch.equal(half[name], whole[name]) for name in half)

    # Resumed without drawing anything, it ends the same.
    file.unlink()
    shutil.rmtree(tmp_path / "run" / "step-00000006")
    assert train(*job) == 0
    said = capsys.readouterr().err
    assert "Continues the run at step 3 with other settings: samples 2 -> 4, evaluate_every 3 -> None." in said
    with safe_open(file, framework="pt") as opened:
        assert all(torch.equal(opened.get_tensor(name), value) for name, value in trained.items())

    pipeline = load_pipeline("x2i-tiny", profile="cpu")
    conditioning = pipeline.encode(prompt="a red house")
    given = {"conditioning": conditioning, "width": 64, "height": 64, "num_inference_steps": 1, "output_type": "latent"}

    def draw():
        return pipeline(**given, generator=torch.Generator().manual_seed(0)).images

    bare = draw()
    use_loras(pipeline, [(file, 1)])
    acting = draw()
    assert not torch.allclose(acting, bare, atol=1e-2)
    use_loras(pipeline, [])
    # Diffusers itself makes the same of the file, its alpha included.
    pipeline.drawing_pipeline().load_lora_weights(str(file.parent), weight_name=file.name)
    torch.testing.assert_close(draw(), acting, atol=1e-3, rtol=1e-3)


def test_lora_defaults():
    """Without steps or a learning rate, both suit the number of images."""
    job = LoRAJob(data=("x",), output=Path("y"), batch_size=4)
    assert [job._resolved_loop(count).steps for count in (3, 20, 500)] == [250, 500, 1500]
    loop = job._resolved_loop(20)
    assert (loop.optimizer, loop.learning_rate, loop.decay, loop.evaluate_every) == ("prodigy", 1.0, "cosine", 50)
    given = LoRAJob(data=("x",), output=Path("y"), loop=LoopOptions(steps=7, learning_rate=1e-3))
    assert given._resolved_loop(20) == given.loop


def test_when_to_stop(tmp_path):
    file = tmp_path / "history.jsonl"

    def told(*losses):
        file.write_text("".join(f'{{"step": {10 * i + 9}, "held_out": {loss}}}\n' for i, loss in enumerate(losses)))
        return when_to_stop(file)

    assert "lowest at step 20 (0.3000), and 0.4000 at the end: after step 20 it learns" in told(0.5, 0.3, 0.4)
    assert "lora-step-00000020.safetensors" in told(0.5, 0.3, 0.4)
    assert "more steps may teach it more" in told(0.5, 0.3, 0.2)


def test_lora_over_4_bit(tmp_path):
    """One step over FLUX and an MLLM whose frozen weights have 4 bit; only the LoRA is written."""
    training_data.main(["striped", "--output", str(tmp_path / "data"), "--count", "2"])
    job = ("lora", "--data", tmp_path / "data", "--output", tmp_path / "run", "--steps", 1, "--precision", "nf4")
    assert train(*job, "--rank", 2, "--evaluate-every", 0, "--no-gradient-checkpointing") == 0
    weights = load_file(tmp_path / "run/lora.safetensors")
    changed = [name for name, value in weights.items() if "lora_B" in name and value.any()]
    assert len(changed) > len(weights) / 4


def test_light_control(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for index, color in enumerate(("red", "green")):
        Image.new("RGB", (70, 64), color).save(data / f"{index}.jpg")
        Image.new("RGB", (64, 64), "blue").save(data / f"{index}.png")
        (data / f"{index}.json").write_text(json.dumps({"caption_en": "make it blue"}))
    job = ("light-control", "--data", data, "--caption-field", "caption_en", "--output", tmp_path / "run")
    job = (*job, "--light-control", BUNDLED, "--steps", 3, "--learning-rate", "1e-3", "--ema-decay", "none")
    assert train(*job, "--evaluate-every", 2, "--num-inference-steps", 1) == 0
    sheets = sorted((tmp_path / "run" / "samples").iterdir())
    assert [sheet.name for sheet in sheets] == ["step-00000002.png", "step-00000003.png"]
    source, wanted, without, acting = rows(sheets[0], 4)
    assert source[128, 128].tolist() == pytest.approx([255, 0, 0], abs=2)
    assert wanted[128, 128].tolist() == [0, 0, 255]
    assert not np.array_equal(without, acting)
    assert np.array_equal(without, rows(sheets[1], 4)[2])
    trained, before = load_light_control(tmp_path / "run" / "light_control"), load_light_control(BUNDLED)
    assert dict(trained.config)["widths"] == dict(before.config)["widths"]
    changed = [not torch.equal(a, b) for a, b in zip(trained.parameters(), before.parameters(), strict=True)]
    assert sum(changed) > len(changed) / 2
    pipeline = load_pipeline("x2i-tiny", profile="cpu", light_control=tmp_path / "run" / "light_control")
    image = Image.new("RGB", (64, 64), "red")
    drawn = pipeline("make it blue", [image], control_image=image, width=64, height=64, num_inference_steps=1)
    assert drawn.images[0].size == (64, 64)


def as_png(image=None):
    content = io.BytesIO()
    (image or Image.new("RGB", (8, 8))).save(content, "PNG")
    return content.getvalue()


def test_images_of_shards(tmp_path, capsys):
    files = {
        "good.png": as_png(),
        "good.txt": b" a house \n",
        "both.jpg": as_png(),  # whatever it is called
        "both.png": as_png(),
        "both.json": b'{"caption": "bluer"}',
        "torn.png": as_png()[:40],
        "torn.txt": b"a tree",
        "mute.png": as_png(),
        "mute.json": b"{}",
        "blind.txt": b"a car",
        "wordless.png": as_png(),
    }
    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))
    found = read_images([tmp_path / "a.tar"], "caption", Broken(4), with_source=False)
    assert [(image.caption, image.target, image.source) for image in found] == [
        ("a house", "png", None),
        ("bluer", "png", "jpg"),
    ]
    said = capsys.readouterr().err
    assert all(f"/{name}" in said for name in ("torn", "mute", "blind"))
    assert "/wordless: it has no caption, a .txt (or .json) of the same name" in said
    assert len(read_images([tmp_path / "a.tar"], "caption", Broken(5), with_source=True)) == 1
    with pytest.raises(TrainingError, match="samples are broken and 2 may be"):
        read_images([tmp_path / "a.tar"], "caption", Broken(2), with_source=False)


def test_pairs_in_folders(tmp_path, capsys):
    """source/, target/ and captions/, in any format; what has no partner is named."""
    for name, color in (("source/a.png", "red"), ("target/a.jpg", "blue"), ("source/b.webp", "red")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 20), color).save(tmp_path / name)
    for name in ("target/c.png", "source/d.png", "target/b.png", "source/b.png"):
        Image.new("RGB", (20, 24), "green").save(tmp_path / name)
    (tmp_path / "captions").mkdir()
    (tmp_path / "captions/a.txt").write_text("make it blue")
    (tmp_path / "target/b.json").write_text('{"caption_en": "greener"}')
    found = read_images([tmp_path], "caption_en", Broken(3), with_source=True)
    assert [image.caption for image in found] == ["make it blue", "greener"]
    assert [image.open(image.target).getpixel((9, 9))[2] for image in found] == [254, 0]
    assert [image.open(image.source).getpixel((9, 9))[0] > 250 for image in found] == [True, False]
    said = capsys.readouterr().err
    assert "c.png: there is no image 'c' in the folder source" in said
    assert "d.png: there is no image 'd' in the folder target" in said
    assert "b.webp: there is b.png beside it, and a pair has one source" in said
    assert "other aspect ratios" not in said
    with pytest.raises(TrainingError, match="samples are broken and 2 may be"):
        read_images([tmp_path], "caption_en", Broken(2), with_source=True)
    Image.new("RGB", (40, 20)).save(tmp_path / "source/a.png")
    read_images([tmp_path], "caption_en", Broken(3), with_source=True)
    assert "Of 1 pairs the two images have other aspect ratios" in capsys.readouterr().err


@pytest.mark.parametrize(("size", "kept"), [((8, 8), 1), ((7, 300), 0), ((300, 7), 0), ((1, 1), 0)])
def test_an_image_without_content(tmp_path, size, kept, capsys):
    """A tracking pixel or a line would be enlarged to nothing."""
    for name, each in (("good", (32, 32)), ("small", size)):
        Image.new("RGB", each, "red").save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(name)
    assert len(read_images([tmp_path], "caption", Broken(1), with_source=False)) == 1 + kept
    assert ("a side needs at least 8" in capsys.readouterr().err) == (not kept)


def test_name_of_an_image(tmp_path):
    """It changes with the image and with its source, so that caches are made again."""

    def name(image, source):
        (tmp_path / "a.png").write_bytes(as_png(Image.new("RGB", (8, 8), image)))
        (tmp_path / "a.jpg").write_bytes(as_png(Image.new("RGB", (8, 8), source)))
        (tmp_path / "a.txt").write_text("bluer")
        return read_images([tmp_path], "caption", Broken(0), with_source=True)[0].name

    assert name("red", "blue") == name("red", "blue")
    assert len({name("red", "blue"), name("green", "blue"), name("red", "green")}) == 3


def test_stripedness():
    image = Image.new("RGB", (128, 128), (200, 180, 160))
    assert stripedness(image) == pytest.approx(0)
    assert stripedness(striped.stripe(image)) == pytest.approx(0.55, abs=0.01)


def test_a_trigger_is_a_whole_word():
    """A cart has the letters of art."""
    job = LoRAJob(data=("x",), output=Path("y"), trigger="art")
    assert job._triggered("a red cart") == "art, a red cart"
    assert job._triggered("a cart, art") == "a cart, art"
    assert LoRAJob(data=("x",), output=Path("y"))._triggered("a cart") == "a cart"


def test_alpha_is_no_zero():
    with pytest.raises(InvalidRequestError, match="alpha"):
        LoRAJob(data=("x",), output=Path("y"), alpha=0.0)

"""Inpainting, outpainting and image-to-image, from Python, rows and the command line."""

import json

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from PIL import Image, ImageChops, ImageDraw
from safetensors.torch import save_file

from x2i_app import load_pipeline
from x2i_app.cli import main
from x2i_app.errors import InvalidRequestError
from x2i_app.inpainting import choose_flux_pipeline
from x2i_app.media import InpaintSource, Prepared, describe, read_recipe, save_image
from x2i_app.media.hashing import path_hash
from x2i_app.presets import FLUX_MODELS
from x2i_app.request import GenerationRequest
from x2i_app.settings import ASSETS

DRAWING = ASSETS / "examples/images/boat-at-sunset.png"
QUICK = {"seed": 3, "num_inference_steps": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """source.png, 96 x 64, and mask.png, whose left half is white."""
    folder = tmp_path_factory.mktemp("inpainting")
    Image.open(DRAWING).convert("RGB").resize((96, 64)).save(folder / "source.png")
    mask = Image.new("L", (96, 64), 0)
    ImageDraw.Draw(mask).rectangle((0, 0, 47, 63), fill=255)
    mask.save(folder / "mask.png")
    return folder


def pixels(image):
    return np.asarray(image.convert("RGB"), dtype=int)


def source_of(request):
    return Prepared.of(request, FLUX_MODELS["x2i-tiny"], seed=0).inpaint_source


def draw(engine, folder, **fields):
    request = {"prompt": "make it night", "images": (folder / "source.png",)} | QUICK | fields
    job = engine.submit(GenerationRequest(**request))
    moments = [moment.steps for moment in job.watch()]
    return pixels(job.wait(300).images[0]), max(moments)


def test_only_masked_pixels_change(engine, folder):
    old = pixels(Image.open(folder / "source.png"))
    new, steps = draw(engine, folder, mask=folder / "mask.png")
    assert new.shape == old.shape  # its own size
    assert steps == 4
    assert np.array_equal(new[:, 48:], old[:, 48:])
    assert np.abs(new[:, :48] - old[:, :48]).mean() > 10


def test_outpainting(engine, folder):
    old = pixels(Image.open(folder / "source.png"))
    new, _ = draw(engine, folder, outpaint=(32, 16, 0, 0), mask=folder / "mask.png")
    assert new.shape == (80, 128, 3)
    assert np.array_equal(new[16:, 32 + 48 :], old[:, 48:])
    assert new[:16].std() > 5  # painted, not the gray of the empty canvas
    assert np.abs(new[16:, 32:80] - old[:, :48]).mean() > 10  # the mask goes with it


def test_strength(engine, folder):
    """A lower strength runs fewer steps and stays closer to the image."""
    old = pixels(Image.open(folder / "source.png"))
    (faint, few), (strong, all_of_them) = (draw(engine, folder, strength=strength) for strength in (0.3, 1.0))
    assert (few, all_of_them) == (2, 4)
    assert np.abs(faint - old).mean() < 0.7 * np.abs(strong - old).mean()


def test_inpainting_with_size_and_light_control(engine, folder):
    given = {"width": 64, "height": 64, "mask": folder / "mask.png"}
    free, _ = draw(engine, folder, **given)
    kept, _ = draw(engine, folder, control_strength=1, **given)
    assert free.shape == (64, 64, 3)
    assert not np.array_equal(free, kept)


def test_any_size_comes_back(engine, tmp_path):
    """A photo larger than the model draws keeps its size to the pixel, and so does one that is extended."""
    photo = Image.open(DRAWING).convert("RGB").resize((601, 399))
    mask = Image.new("L", photo.size)
    ImageDraw.Draw(mask).ellipse((300, 100, 380, 180), fill=255)
    request = GenerationRequest("a red house", (photo,), mask=mask, **QUICK)
    result = engine.submit(request).wait(300)
    new, old, inside = pixels(result.images[0]), pixels(photo), np.asarray(mask) > 0
    assert result.report()["width"] == new.shape[1] == 601
    assert np.array_equal(new[~inside], old[~inside])
    assert np.abs(new[inside] - old[inside]).mean() > 10
    (texts,) = describe(result, engine.settings)
    assert "Size: 601x399" in texts["parameters"]
    photo.save(tmp_path / "photo.png")
    save_image(result.images[0], tmp_path / "result.png", texts)
    again = read_recipe(tmp_path / "result.png").with_files(images=[tmp_path / "photo.png"])
    assert (again.width, again.height) == (None, None)
    assert np.array_equal(pixels(engine.submit(again).wait(300).images[0]), new)
    wide, _ = draw(engine, tmp_path, **{"images": (photo,), "outpaint": (0, 0, 256, 0)})
    assert wide.shape == (399, 601 + 256, 3)
    assert np.array_equal(wide[:, :601], old)


def test_from_python():
    pipe = load_pipeline("x2i-tiny", profile="cpu")
    photo = Image.open(DRAWING).convert("RGB").resize((300, 200))
    mask = Image.new("L", photo.size)
    mask.paste(255, (200, 100, 240, 140))
    conditioning, given = pipe.encode("a red house"), {"num_inference_steps": 2}
    (new,) = pipe(conditioning=conditioning, inpaint_source=InpaintSource(photo, mask), **given).images
    assert ImageChops.difference(new, photo).getbbox() == mask.getbbox()
    source = InpaintSource(photo, mask).with_area(128, only_masked=False)
    latents = pipe(conditioning=conditioning, inpaint_source=source, output_type="latent", **given).images
    assert latents.shape[1] == 9 * 6  # tokens of 16 x 16 pixels: all of the photo, at 144 x 96


def test_a_stretched_mask_is_told(engine, folder):
    request = GenerationRequest("x", (folder / "source.png",), mask=Image.new("L", (64, 64), 255), **QUICK)
    assert "(64 x 64) has another shape" in engine.submit(request).wait(300).notes[0]


def test_a_separate_source_image(engine, folder):
    """The MLLM reads only the prompt."""
    request = GenerationRequest("a red house", source_image=folder / "source.png", mask=folder / "mask.png", **QUICK)
    new = pixels(engine.submit(request).wait(300).images[0])
    assert np.array_equal(new[:, 48:], pixels(Image.open(folder / "source.png"))[:, 48:])


def test_a_fill_model_requires_a_mask(folder):
    small = {"attention_head_dim": 16, "num_attention_heads": 1, "joint_attention_dim": 8, "axes_dims_rope": (4, 6, 6)}
    fill = FluxTransformer2DModel(in_channels=384, out_channels=64, num_layers=1, num_single_layers=1, **small)
    inpaint_source = source_of(GenerationRequest("x", (folder / "source.png",), mask=folder / "mask.png"))
    cls, given = choose_flux_pipeline(fill, inpaint_source, None)
    assert cls.__name__ == "FluxFillPipeline"
    assert given["mask_image"].size == given["image"].size == inpaint_source.area.size
    for without_mask in (None, source_of(GenerationRequest("x", (folder / "source.png",), strength=0.5))):
        with pytest.raises(InvalidRequestError, match="can only fill parts"):
            choose_flux_pipeline(fill, without_mask, None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mask": "m.png"}, "Editing needs one image, and 0 were given"),
        ({"strength": 0.5, "images": ("a", "b")}, "and 2 were given"),
        ({"strength": 0, "images": ("a",)}, "strength is 0; it must be 0.05 to 1"),
        ({"outpaint": (1, 2), "images": ("a",)}, "four numbers of pixels"),
        ({"outpaint": (0, 0, 0, 5000), "images": ("a",)}, r"outpaint \(bottom\) is 5000; it must be 0 to 1024"),
        ({"outpaint": "wide", "images": ("a",)}, "four numbers"),
        ({"mask_grow": 128, "mask": "m", "images": ("a",)}, "mask_grow is 128; it must be 0 to 127"),
        ({"mask_feather": -1, "mask": "m", "images": ("a",)}, "mask_feather is -1; it must be 0 to 127"),
        ({"mask_invert": 1, "mask": "m", "images": ("a",)}, "mask_invert is 1; it must be true or false"),
        ({"only_masked": "yes", "mask": "m", "images": ("a",)}, "only_masked is 'yes'; it must be true or false"),
        ({"only_masked": True, "images": ("a",)}, "only_masked is set, but there is no mask"),
    ],
)
def test_invalid_inpainting_is_refused(fields, message):
    with pytest.raises(InvalidRequestError, match=message):
        GenerationRequest("x", **fields)


def test_a_black_mask_is_refused(folder):
    Image.new("L", (96, 64)).save(folder / "black.png")
    with pytest.raises(InvalidRequestError, match="black everywhere"):
        source_of(GenerationRequest("x", (folder / "source.png",), mask=folder / "black.png"))


def test_cli_and_rows(folder, capsys, monkeypatch):
    """`generate` and a row of `batch` produce the same image, with all inpainting options."""
    monkeypatch.chdir(folder)
    down, up = torch.ones(2, 192), torch.ones(192, 2)
    layer = "transformer.single_transformer_blocks.0.attn.to_q.lora"
    save_file({f"{layer}_A.weight": down, f"{layer}_B.weight": up}, folder / "lora.safetensors")
    turn = {"prompt": "a boat", "images": ["source.png"], "answer": "a large red boat on the sea"}
    (folder / "history.json").write_text(json.dumps([turn]), encoding="utf-8")
    flags = ["--steps", "2", "--seed", "1", "--control", "0.5", "--strength", "0.8", "--lora", "lora.safetensors:0.5"]
    more = ["--prompt", "make it night", "--source", "source.png", "--mask", "mask.png", "--outpaint", "0,0,0,16"]
    more += ["--mask-invert", "--mask-grow", "2", "--mask-feather", "1", "--only-masked", "yes"]
    assert main(["generate", *flags, *more, "--history", "history.json", "--output", "out.png"]) == 0
    row = {"id": "row", "prompt": "make it night", "source": "source.png", "mask": "mask.png", "history": [turn]}
    row |= {"outpaint": [0, 0, 0, 16], "control": 0.5, "strength": 0.8, "loras": [["lora.safetensors", 0.5]]}
    row |= {"mask_invert": True, "mask_grow": 2, "mask_feather": 1, "only_masked": True}
    bare = row | {"id": "bare", "loras": None}
    rows = [row, bare, {"id": "flags", "prompt": "x", "source": "source.png"}, row | {"id": "bad", "loras": [5]}]
    rows += [{"id": "nothing", "prompt": "x", "source": "source.png", "outpaint": [0, 0, 0, 0]}]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert main(["batch", "--input", "rows.jsonl", "--output", "out", *flags[:4]]) == 1
    drawn = {name: pixels(Image.open(path)) for name, path in (("one", "out.png"), ("row", "out/row.png"))}
    assert drawn["one"].shape == (80, 96, 3)
    assert np.array_equal(drawn["one"], drawn["row"])
    assert not np.array_equal(drawn["row"], pixels(Image.open("out/bare.png")))
    recipe = read_recipe("out.png").request
    assert (recipe.strength, recipe.outpaint) == (0.8, (0, 0, 0, 16))
    assert (recipe.mask_invert, recipe.mask_grow, recipe.mask_feather, recipe.only_masked) == (True, 2, 1, True)
    assert recipe.mask.tobytes() == Image.open("mask.png").tobytes()
    assert recipe.source_image == path_hash("source.png")
    results = (folder / "out/results.jsonl").read_text(encoding="utf-8")
    assert "loras is [5]" in results
    assert "outpaint is 0 on all four sides" in results
    assert main(["generate", "--prompt", "x", "--source", "source.png", "--outpaint", "0,0,0,0"]) == 2
    assert "outpaint is 0 on all four sides" in capsys.readouterr().err
    assert main(["generate", "--prompt", "x", "--source", "source.png", "--mask", "none.png"]) == 2
    assert "no file called 'none.png'" in capsys.readouterr().err

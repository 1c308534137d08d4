"""Our own images keep their settings in every file format, and other programs can read them there."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from x2i_app.media import Prepared, describe, read_recipe, save_image
from x2i_app.media.image_texts import read_texts
from x2i_app.presets import FLUX_MODELS
from x2i_app.request import GenerationRequest, GenerationResult
from x2i_app.settings import ASSETS, FORMATS, Settings

BOAT, SETTINGS = ASSETS / "examples/images/boat-at-sunset.png", Settings()
PROMPT = 'a "red" house & <a> 雪 {x}\nat night'


def result_of(**fields) -> GenerationResult:
    """A result of one image."""
    request = GenerationRequest(**{"width": 64, "height": 96, "num_inference_steps": 4, "seed": 7} | fields)
    prepared = Prepared.of(request, FLUX_MODELS["x2i-tiny"], seed=0)
    return GenerationResult((Image.new("RGB", (64, 96)),), (request.seed,), prepared.request, inputs=prepared.record)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("prompt", [PROMPT, "a house"])
def test_settings_in_every_format(tmp_path, form, prompt):
    made = result_of(prompt=prompt, images=(BOAT,), num_inference_steps=3)
    (texts,) = describe(made, SETTINGS)
    path = tmp_path / f"a.{form}"
    assert save_image(made.images[0], path, texts, form)
    with Image.open(path) as image:
        assert image.format == {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[form]
        assert image.mode == "RGB"
    recipe = read_recipe(path)
    assert (recipe.request.prompt, recipe.request.num_inference_steps, recipe.notes) == (prompt, 3, ())
    assert recipe.with_files(images=(BOAT,)).images == (BOAT,)
    assert read_texts(path)["parameters"].startswith(prompt.split("\n")[0])


@pytest.mark.parametrize("form", ["jpg", "webp"])
def test_other_programs_read_the_user_comment(tmp_path, form):
    """Without our own settings, which an editor may drop, the A1111 text is left, and gives the same values."""
    (texts,) = describe(result_of(prompt=PROMPT, seed=9), SETTINGS)
    save_image(Image.new("RGB", (8, 8)), tmp_path / f"a.{form}", {"parameters": texts["parameters"]}, form)
    with Image.open(tmp_path / f"a.{form}") as image:
        comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment == b"UNICODE\0" + texts["parameters"].encode("utf-16-be")
    recipe = read_recipe(tmp_path / f"a.{form}")
    assert (recipe.request.prompt, recipe.request.seed) == (PROMPT, 9)
    assert recipe.notes == ("These settings are from X2I.",)


@pytest.mark.parametrize("form", FORMATS)
def test_no_texts(tmp_path, form):
    """With metadata turned off, nothing is in the file."""
    save_image(Image.new("RGB", (8, 8)), tmp_path / f"a.{form}", {}, form)
    assert read_texts(tmp_path / f"a.{form}") == {}


def test_settings_that_are_too_long_for_a_jpeg(tmp_path):
    """A segment of a JPEG file has 64 KB; the other formats have no such limit."""
    (texts,) = describe(result_of(prompt="a house"), SETTINGS)
    long = texts | {"x2i": json.dumps(json.loads(texts["x2i"]) | {"notes": ["x" * 70_000]})}
    image = Image.new("RGB", (8, 8))
    assert [save_image(image, tmp_path / f"a.{form}", long, form) for form in FORMATS] == [True, False, True]
    assert read_recipe(tmp_path / "a.webp").request.prompt == "a house"
    assert read_recipe(tmp_path / "a.jpg").notes == ("These settings are from X2I.",)


def test_quality(tmp_path):
    """Lossy formats stay close to the drawn pixels, also at edges between colors."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :30], pixels[35:, 10:50] = (255, 0, 0), (0, 90, 255)
    for form in FORMATS:
        save_image(Image.fromarray(pixels), tmp_path / f"a.{form}", {}, form)
        with Image.open(tmp_path / f"a.{form}") as image:
            difference = np.abs(np.asarray(image.convert("RGB")).astype(int) - pixels)
        assert difference.mean() < (0.01 if form == "png" else 4), form


def test_each_image_has_its_own_seed(tmp_path):
    made = result_of(prompt="a house", num_images_per_prompt=2, seed=4)
    texts = describe(replace(made, seeds=(4, 5)), SETTINGS)
    for form in FORMATS:
        seeds = []
        for number, each in enumerate(texts):
            save_image(Image.new("RGB", (8, 8)), tmp_path / f"{number}.{form}", each, form)
            seeds.append(read_recipe(tmp_path / f"{number}.{form}").request.seed)
        assert seeds == [4, 5]

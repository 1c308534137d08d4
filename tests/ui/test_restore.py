"""Settings of an image that is dropped in: what the page shows of them."""

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from x2i_app.media import read_recipe
from x2i_app.ui.restore import _note, tab_of, values_of

PARAMETERS = "a red car <lora:ink:0.5>\nNegative prompt: text\nSteps: 20, Sampler: Euler, Seed: 5, Size: 900x512"


@pytest.fixture
def recipe(tmp_path):
    """What an image of A1111 says."""
    texts = PngInfo()
    texts.add_text("parameters", PARAMETERS)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=texts)
    return read_recipe(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("language", "parts"),
    [
        (
            "en",
            ["restored.", "from A1111. Not used here: Sampler.", "900 x 512 was changed to 896"],
        ),
        ("zh", ["已恢复", "来自 A1111", "900 x 512", "896 x 512"]),
    ],
)
def test_note_about_another_program(recipe, language, parts):
    """It says which program the settings are from and what is not used, in the language of the page."""
    note = _note(recipe, [], language)
    assert [part for part in parts if part not in note] == []
    assert ("Not used" in note) is (language == "en")


def test_values_of_another_program(recipe):
    assert tab_of(recipe.request) == "text"
    values = values_of(recipe.request)
    assert values["text"] == ["a red car <lora:ink:0.5>"]
    assert values["settings"][:3] == [896, 512, 20]
    assert 5 in values["settings"]
    assert recipe.request.negative_prompt == "text"

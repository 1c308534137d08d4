"""The LoRAs that the page lists, and the request for those that are chosen."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from x2i_app.errors import InvalidRequestError
from x2i_app.limits import LIMITS
from x2i_app.media import Recipe
from x2i_app.request import GenerationRequest
from x2i_app.settings import ASSETS, Settings
from x2i_app.ui.i18n import PageError
from x2i_app.ui.loras import LoraChoices, add_known, known_loras, lora_choices, lora_files, lora_pairs, triggers_html

STRIPED = ASSETS / "examples/loras/striped.safetensors"


@pytest.fixture
def settings(tmp_path):
    """With a LoRA of the owner's beside the bundled one."""
    (tmp_path / "loras").mkdir()
    shutil.copy(STRIPED, tmp_path / "loras/mine.safetensors")
    (tmp_path / "loras/notes.txt").write_text("not for you")
    return Settings(models=str(tmp_path))


def test_listed_loras_only(settings, tmp_path):
    """The bundled LoRAs and the owner's can be chosen by name, and no other file."""
    assert list(known_loras(settings)) == ["striped", "mine"]
    chosen = LoraChoices.model_validate([{"file": "mine", "weight": 0.5}, {"file": "striped"}])
    pairs = lora_pairs(chosen, settings)
    assert pairs == ((str(tmp_path / "loras/mine.safetensors"), 0.5), (str(STRIPED), 1.0))
    assert lora_choices(pairs, settings) == chosen.model_dump()
    for name in ("notes", "../striped", str(STRIPED), "mine.safetensors", "somebody/some-lora", "https://a.example/a"):
        with pytest.raises(InvalidRequestError, match=r"There is no LoRA .* here; choose from striped, mine"):
            lora_pairs(LoraChoices.model_validate([{"file": name}]), settings)


def test_one_too_many(settings):
    """As many LoRAs as a request may have; the next one is refused."""
    chosen = None
    for _ in range(LIMITS.loras):
        value, *updates = add_known(chosen, "striped")[:-1]
        chosen = LoraChoices.model_validate(value)
    rows, weights = updates[: LIMITS.loras], updates[LIMITS.loras :]
    assert [row.visible for row in rows] == [True] * LIMITS.loras
    assert [weight.value for weight in weights] == [1.0] * LIMITS.loras
    with pytest.raises(PageError, match="4 LoRAs are allowed at once"):
        add_known(chosen, "striped")


def test_files_of_a_recipe(settings, tmp_path):
    """Only a recipe with LoRAs looks for their files, among the chosen ones and this machine's."""
    own = tmp_path / "own.safetensors"
    shutil.copy(STRIPED, own)
    chosen = LoraChoices.model_validate([{"file": {"path": str(own)}}, {"file": {"path": str(tmp_path / "gone")}}])
    recipe = Recipe(GenerationRequest(prompt="x", loras=((str(own), 1.0),)))
    assert lora_files(recipe, chosen, settings) == [str(own), str(STRIPED), str(tmp_path / "loras/mine.safetensors")]
    assert lora_files(Recipe(GenerationRequest(prompt="x")), chosen, settings) == []


TAGS = {"10_cat": {"<b>sks</b> cat": 20, "sofa": 9, "grass": 11}, "5_dog": {"grass": 9, "bad\x00word": "many"}}


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, []),
        ({"modelspec.trigger_phrase": "sks cat, ink wash"}, ["sks cat", "ink wash"]),
        ({"ss_tag_frequency": json.dumps(TAGS)}, ["&lt;b&gt;sks&lt;/b&gt; cat", "grass"]),
        ({"modelspec.trigger_phrase": "sks cat", "ss_tag_frequency": json.dumps(TAGS)}, ["sks cat"]),
        ({"modelspec.trigger_phrase": "x" * 1000, "ss_tag_frequency": "{"}, []),
        ({"ss_tag_frequency": "[" * 100_000}, []),
        ({"ss_tag_frequency": json.dumps({"a": {"b": -1, "c": 10**300}, "d": 5})}, []),
    ],
)
def test_triggers(settings, tmp_path, metadata, expected):
    """The words of the file's metadata are buttons; whatever else the metadata has, there are none."""
    save_file({"a": np.zeros(1, np.float32)}, tmp_path / "loras/mine.safetensors", metadata)
    chosen = LoraChoices.model_validate([{"file": "mine"}, {"file": {"path": str(tmp_path / "gone.safetensors")}}])
    shown = triggers_html(chosen, settings, "en")
    buttons = [f'<button type="button" data-word="{word}">{word}</button>' for word in expected]
    assert [button for button in buttons if button not in shown] == []
    assert shown.count("<button") == len(expected)
    assert ("mine was trained with:" in shown) is bool(expected)

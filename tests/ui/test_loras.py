"""Which LoRAs the page offers, and what a request makes of those that are chosen."""

import shutil

import pytest

from x2i_app.errors import InvalidRequestError
from x2i_app.settings import ASSETS, Settings
from x2i_app.ui.loras import LoraChoices, known_loras, lora_choices, lora_pairs

STRIPED = ASSETS / "examples/loras/striped.safetensors"


@pytest.fixture
def settings(tmp_path):
    """With a LoRA of the owner's beside the bundled one."""
    (tmp_path / "loras").mkdir()
    shutil.copy(STRIPED, tmp_path / "loras/mine.safetensors")
    (tmp_path / "loras/notes.txt").write_text("not for you")
    return Settings(models=str(tmp_path))


def test_the_bundled_and_the_owners_can_be_chosen_and_nothing_else(settings, tmp_path):
    assert list(known_loras(settings)) == ["striped", "mine"]
    chosen = LoraChoices.model_validate([{"file": "mine", "weight": 0.5}, {"file": "striped"}])
    pairs = lora_pairs(chosen, settings)
    assert pairs == ((str(tmp_path / "loras/mine.safetensors"), 0.5), (str(STRIPED), 1.0))
    assert lora_choices(pairs, settings) == chosen.model_dump()
    for name in ("notes", "../striped", str(STRIPED), "mine.safetensors", "somebody/some-lora", "https://a.example/a"):
        with pytest.raises(InvalidRequestError, match=r"There is no LoRA .* here; choose from striped, mine"):
            lora_pairs(LoraChoices.model_validate([{"file": name}]), settings)

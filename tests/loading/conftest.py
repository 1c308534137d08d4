"""A hub on this machine, with an empty cache; and latents of x2i-tiny, whose LoRAs change."""

from collections.abc import Iterator

import pytest
from huggingface_hub import constants
from loading.hub_server import Hub


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    """The hub that huggingface_hub uses in this test, with an empty cache.

    Its settings are patched, as it reads the environment only when it is imported.
    """
    hub = Hub(tmp_path / "cache")
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("X2I_MODELS", str(tmp_path / "models"))
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def conditioning(pipeline):
    """Of a prompt, without any LoRA."""
    return pipeline.encode(prompt="a red house")


@pytest.fixture
def draw(pipeline, conditioning):
    """A function that generates latents; the pipeline has no LoRA before and after the test."""
    import torch

    from x2i_app.loading import use_loras

    def latents():
        generator = torch.Generator().manual_seed(0)
        given = {"width": 64, "height": 64, "num_inference_steps": 1, "output_type": "latent"}
        return pipeline(conditioning=conditioning, **given, generator=generator).images

    use_loras(pipeline, [])
    yield latents
    use_loras(pipeline, [])

"""A tiny pipeline, its teacher and a whole tiny FLUX model."""

from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from diffusers import FlowMatchEulerDiscreteScheduler
from training.tiny import build_pipeline, build_transformer, build_vae, save_teacher

from x2i_app.training import TeacherText


@pytest.fixture(autouse=True)
def _accelerate_starts_anew():
    """Its state belongs to the process and would keep the first test's precision."""
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def pipeline(qwen_vl_directory):
    return build_pipeline(qwen_vl_directory)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return TeacherText.load(save_teacher(tmp_path_factory.mktemp("flux")))


@pytest.fixture(scope="session")
def flux_directory(tmp_path_factory) -> Path:
    """A whole tiny FLUX.1 model in diffusers layout, text encoders included."""
    directory = save_teacher(tmp_path_factory.mktemp("flux"))
    build_transformer().save_pretrained(directory / "transformer")
    build_vae().save_pretrained(directory / "vae")
    FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True).save_pretrained(directory / "scheduler")
    return directory

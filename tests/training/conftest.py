"""A tiny pipeline and its teacher, for every test of distillation."""

import pytest
from accelerate.state import AcceleratorState
from training.tiny import build_pipeline, save_teacher

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

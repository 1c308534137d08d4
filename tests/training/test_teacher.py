"""The teacher reads what FLUX.1 reads, from complete files without code."""

import shutil

import pytest
import torch
from diffusers import FluxPipeline
from training.tiny import JOINT, POOLED, save_teacher

from x2i_app.errors import CheckpointError
from x2i_app.training import TeacherText


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("flux"))


def test_embeddings_of_flux_pipeline(directory):
    teacher = TeacherText.load(directory)
    captions = ["a red house", "a green tree on snow at night"] * 20
    prompt_embeds, pooled = teacher.encode(captions, max_sequence_length=12)
    assert (prompt_embeds.shape, pooled.shape) == ((40, 12, JOINT), (40, POOLED))
    assert (teacher.joint_dim, teacher.pooled_dim) == (JOINT, POOLED)
    nothing = {"scheduler": None, "vae": None, "transformer": None}
    parts = {name: getattr(teacher._pipeline, name) for name in ("tokenizer", "tokenizer_2")}
    encoders = {"text_encoder": teacher.text_encoder, "text_encoder_2": teacher.text_encoder_2}
    pipeline = FluxPipeline(**nothing, **parts, **encoders)
    with torch.no_grad():
        expected = pipeline.encode_prompt(captions[1], max_sequence_length=12)
    torch.testing.assert_close(prompt_embeds[1:2], expected[0])
    torch.testing.assert_close(pooled[1:2], expected[1])


@pytest.mark.parametrize("part", ["tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2"])
def test_missing_part(directory, tmp_path, part):
    copy = shutil.copytree(directory, tmp_path / "flux")
    shutil.rmtree(copy / part)
    with pytest.raises(CheckpointError, match=f"{part} holds no readable .*; give the folder of a FLUX.1 model"):
        TeacherText.load(copy)


def test_cut_weights(directory, tmp_path):
    copy = shutil.copytree(directory, tmp_path / "flux")
    file = copy / "text_encoder_2" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="text_encoder_2 cannot be loaded as T5EncoderModel"):
        TeacherText.load(copy)

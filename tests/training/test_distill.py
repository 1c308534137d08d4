"""AlignNet is trained, some steps at a tiny size, and nothing else is."""

import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from training.tiny import (
    CAPTIONS,
    LOOP,
    OPTIONS,
    batches,
    build_pipeline,
    distill_pipeline,
    same,
    save_teacher,
    weights,
)

from x2i_app.encoders import MLLMEncoder
from x2i_app.errors import CheckpointError, InvalidRequestError, TrainingError
from x2i_app.training import DistillOptions, TeacherText
from x2i_app.training.batches import CaptionBatches
from x2i_app.training.encoding import LiveStates, LiveTeacher


@pytest.mark.parametrize(("sigmas", "path_share"), [("first", 1.0), ("path", 0.5)])
def test_loss_falls_and_only_align_net_changes(pipeline, teacher, tmp_path, sigmas, path_share):
    parts = (pipeline.transformer, pipeline.mllm, pipeline.vae, teacher.text_encoder, teacher.text_encoder_2)
    before, align_net = [weights(part) for part in parts], weights(pipeline.align_net)
    options = replace(OPTIONS, sigmas=sigmas, path_share=path_share, output_weight=1.0)
    loop = replace(LOOP, steps=100, learning_rate=1e-2, checkpoint_every=1000)
    distill_pipeline(pipeline, teacher, tmp_path, options, loop)
    records = [json.loads(record) for record in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert records[-1]["attention"] < 0.7 * records[0]["attention"]
    assert records[-1]["output"] < records[0]["output"]
    assert all(same(part, old) for part, old in zip(parts, before, strict=True))
    assert not same(pipeline.align_net, align_net)
    assert not any(parameter.requires_grad for parameter in pipeline.align_net.parameters())
    assert pipeline(prompt="a red house", width=64, height=64, num_inference_steps=1).images[0].size == (64, 64)


def test_resumed_run_needs_no_mllm_and_no_teacher(pipeline, teacher, tmp_path, monkeypatch):
    whole, start = tmp_path / "whole", weights(pipeline.align_net)
    distill_pipeline(pipeline, teacher, whole, OPTIONS, LOOP)
    expected = weights(pipeline.align_net)

    halfway = shutil.copytree(whole, tmp_path / "halfway")
    shutil.rmtree(halfway / "step-00000004")
    pipeline.align_net.load_state_dict(start)
    monkeypatch.delattr(MLLMEncoder, "encode_batch")
    monkeypatch.delattr(TeacherText, "encode")
    distill_pipeline(pipeline, teacher, halfway, OPTIONS, LOOP)
    assert same(pipeline.align_net, expected)


def test_mixed_precision_keeps_the_dtype(pipeline, teacher, tmp_path):
    pipeline.align_net.to(torch.bfloat16)
    distill_pipeline(
        pipeline, teacher, tmp_path, OPTIONS, replace(LOOP, mixed_precision="bf16", ema_decay=0.9, workers=1)
    )
    assert pipeline.align_net.dtype == torch.bfloat16


def test_caption_batches(pipeline, teacher, tmp_path):
    """A batch has one length, and depends only on the step."""
    data = batches(pipeline, teacher, tmp_path)
    assert len(set(data.lengths)) > 2
    for step in range(30):
        batch, chosen = data[step], data.captions(step)
        assert len({data.lengths[i] for i in chosen}) == 1
        assert len(set(chosen)) == len(chosen) == min(4, data.lengths.count(data.lengths[chosen[0]]))
        assert batch["hidden_states"].shape[0] == batch["prompt_embeds"].shape[0] == len(chosen)
    again = batches(pipeline, teacher, tmp_path)
    assert all(torch.equal(again[7][name], value) for name, value in data[7].items())
    assert {int(i) for step in range(60) for i in data.captions(step)} == set(range(len(CAPTIONS)))


def test_captions_are_encoded_as_prompts(pipeline, teacher, tmp_path):
    data = batches(pipeline, teacher, tmp_path)
    for index, caption in enumerate(CAPTIONS):
        row = data.states[index] | data.embeddings[index]
        expected = pipeline.encoder.encode(caption).hidden_states[0]
        torch.testing.assert_close(row["hidden_states"], expected, atol=1e-4, rtol=1e-4)
        prompt_embeds, pooled = teacher.encode([caption], OPTIONS.max_sequence_length)
        torch.testing.assert_close(row["prompt_embeds"], prompt_embeds[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(row["pooled"], pooled[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("encoding", [{"states": "answer", "max_new_tokens": 6}, {"padding": "padded"}])
def test_answers_and_padded_prompts(qwen_vl_directory, teacher, tmp_path, encoding):
    pipeline = build_pipeline(qwen_vl_directory, **encoding)
    distill_pipeline(pipeline, teacher, tmp_path, OPTIONS, replace(LOOP, steps=2))
    data = batches(pipeline, teacher, tmp_path)
    if "padding" in encoding:  # equal rows are kept once, and all of them come back
        assert max(data.lengths) < 64
        for step in range(5):
            expected = pipeline.encoder.encode(CAPTIONS[data.captions(step)[0]]).hidden_states[0]
            assert expected.shape[1] == 512
            torch.testing.assert_close(data[step]["hidden_states"][0], expected, atol=1e-4, rtol=1e-4)
    else:
        assert max(data.lengths) <= 6


def test_live_equals_cached(pipeline, teacher, tmp_path):
    cached = batches(pipeline, teacher, tmp_path)
    live = CaptionBatches(
        LiveStates(pipeline.encoder, CAPTIONS),
        LiveTeacher(teacher, CAPTIONS, OPTIONS.max_sequence_length),
        OPTIONS.batch_size,
        seed=0,
    )
    assert live.lengths == cached.lengths
    for step in range(3):
        expected, got = cached[step], live.complete(pickle.loads(pickle.dumps(live))[step])  # noqa: S301 (as workers do)
        assert got.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(got[name], value, atol=1e-4, rtol=1e-4)
    answering = build_answering(pipeline)
    with pytest.raises(TrainingError, match="set cache_states to true"):
        LiveStates(answering, CAPTIONS)


def build_answering(pipeline):
    encoder = pipeline.encoder
    return type(encoder)(encoder.model, encoder.processor, replace(encoder.spec, states="answer"))


def test_sample_sheets(pipeline, teacher, tmp_path):
    """They show teacher and student, and change nothing."""
    options, start = replace(OPTIONS, samples=2), weights(pipeline.align_net)
    distill_pipeline(pipeline, teacher, tmp_path / "sampled", options, replace(LOOP, evaluate_every=2))
    trained = weights(pipeline.align_net)
    sheets = sorted((tmp_path / "sampled" / "samples").iterdir())
    assert [sheet.name for sheet in sheets] == ["step-00000002.png", "step-00000004.png"]
    first, second = (np.asarray(Image.open(sheet)) for sheet in sheets)
    rows = first.shape[0] // 2
    assert (first[:rows] == second[:rows]).all()  # the teacher's
    assert (first[rows + 40 :] != second[rows + 40 :]).any()
    pipeline.align_net.load_state_dict(start)
    distill_pipeline(pipeline, teacher, tmp_path / "plain", options, LOOP)
    assert same(pipeline.align_net, trained)


def test_match_text_with_other_lengths(pipeline, teacher, tmp_path):
    options = replace(OPTIONS, match_text=True, max_sequence_length=9)
    with pytest.raises(TrainingError, match=r"AlignNet gives \d+ text rows and T5 9, but match_text"):
        distill_pipeline(pipeline, teacher, tmp_path, options, LOOP)


def test_infinite_layer_is_named(pipeline, teacher, tmp_path):
    def break_it(module, args, output):
        return output * float("nan") if torch.is_grad_enabled() else output

    handle = pipeline.transformer.single_transformer_blocks[1].attn.register_forward_hook(break_it)
    with pytest.raises(TrainingError, match=r"step 0 the single_transformer_blocks\.1\.attn/image is nan"):
        distill_pipeline(pipeline, teacher, tmp_path, OPTIONS, LOOP)
    handle.remove()


def test_teacher_of_another_size(pipeline, tmp_path):
    other = TeacherText.load(save_teacher(tmp_path / "flux", pooled=12))
    with pytest.raises(CheckpointError, match="embeddings of width 24 and 12, but FLUX reads 24 and 16"):
        distill_pipeline(pipeline, other, tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"path_share": 1.5},
        {"path_share": 0.5},
        {"resolution": 100},
        {"temperature": 0},
        {"batch_size": 0},
        {"output_weight": -1},
        {"state_noise": -0.1},
    ],
)
def test_wrong_options(wrong):
    with pytest.raises(InvalidRequestError, match=f"{next(iter(wrong))} is"):
        DistillOptions(**wrong)

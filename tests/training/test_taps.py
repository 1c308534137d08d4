"""Taps receive every attention output once, and leave no hook."""

import pytest
import torch
from training.tiny import JOINT, POOLED, build_transformer

from x2i_app.training.losses import tap_attention

IMAGE, TEXT = 4, 5


@pytest.fixture(scope="module")
def transformer():
    return build_transformer(layers=2, single_layers=3)


def call(transformer, text=TEXT, positional=False):
    torch.manual_seed(0)
    inputs = {
        "hidden_states": torch.randn(2, IMAGE, 16),
        "encoder_hidden_states": torch.randn(2, text, JOINT),
        "pooled_projections": torch.randn(2, POOLED),
        "timestep": torch.ones(2),
        "img_ids": torch.zeros(IMAGE, 3),
        "txt_ids": torch.zeros(text, 3),
    }
    return transformer(*inputs.values()) if positional else transformer(**inputs)


def tapped(transformer, streams, **options):
    told = []
    with torch.no_grad(), tap_attention(transformer, lambda *args: told.append(args), streams):
        call(transformer, **options)
    return told


def hooks(transformer):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in transformer.modules())


@pytest.mark.parametrize("positional", [False, True])
def test_every_block_in_order(transformer, positional):
    told = tapped(transformer, ("image", "text"), positional=positional)
    blocks = ["transformer_blocks.0", "transformer_blocks.1"] + [f"single_transformer_blocks.{i}" for i in range(3)]
    assert [name for name, _, _ in told] == [f"{b}.attn/{stream}" for b in blocks for stream in ("image", "text")]
    for name, stream, tensor in told:
        assert name.endswith(stream)
        assert tensor.shape == (2, IMAGE if stream == "image" else TEXT, 32)


def test_streams(transformer):
    outputs = {}
    names = ("transformer_blocks.1", "single_transformer_blocks.2")
    handles = [
        transformer.get_submodule(f"{name}.attn").register_forward_hook(
            lambda _, args, output, name=name: outputs.update({name: output})
        )
        for name in names
    ]
    told = {name: tensor for name, _, tensor in tapped(transformer, ("text", "image"))}
    for handle in handles:
        handle.remove()
    image, text = outputs["transformer_blocks.1"]
    assert torch.equal(told["transformer_blocks.1.attn/image"], image)
    assert torch.equal(told["transformer_blocks.1.attn/text"], text)
    both = outputs["single_transformer_blocks.2"]
    parts = [told[f"single_transformer_blocks.2.attn/{stream}"] for stream in ("text", "image")]
    assert torch.equal(torch.cat(parts, dim=1), both)


def test_image_stream_with_any_text(transformer):
    short, long = tapped(transformer, ("image",), text=3), tapped(transformer, ("image",), text=9)
    assert len(short) == len(long) == 5
    assert all(stream == "image" for _, stream, _ in short)
    assert all(ours[2].shape == theirs[2].shape for ours, theirs in zip(short, long, strict=True))


def test_taps_are_removed(transformer):
    before = hooks(transformer)
    with torch.no_grad():
        plain = call(transformer).sample
        with tap_attention(transformer, lambda *_: None):
            assert hooks(transformer) == before + 6
            assert torch.equal(call(transformer).sample, plain)
    assert hooks(transformer) == before

    def fail(*_):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"), torch.no_grad(), tap_attention(transformer, fail):
        call(transformer)
    assert hooks(transformer) == before

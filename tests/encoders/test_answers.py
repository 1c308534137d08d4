"""What an MLLM says can be shown, stored and asked about, whatever its tokens spell."""

from dataclasses import replace

import pytest
import torch
from encoders.internvl_checkpoint_factory import save_internvl
from encoders.minicpm_o_factory import save_minicpm_o
from factories import save_qwen_omni, save_qwen_vl

from x2i_app.encoders import load_encoder
from x2i_app.encoders.native import clean_answer
from x2i_app.presets import get_family
from x2i_app.request import Turn

SAVE = {
    "qwen2.5-vl": save_qwen_vl,
    "qwen2.5-omni": save_qwen_omni,
    "internvl2.5": save_internvl,
    "minicpm-o": save_minicpm_o,
}


def test_clean_answer():
    assert clean_answer(" \x00a\x1b[0m\x7f\x85 rot\té\r\n雪 👩‍🚀\ufffd\x04 ") == "a[0m rot\té\r\n雪 👩‍🚀\ufffd"


@pytest.mark.parametrize("family", SAVE)
def test_an_answer_can_be_an_earlier_turn(tmp_path, monkeypatch, family):
    spec = replace(get_family(family), max_new_tokens=8)
    encoder = load_encoder(family, SAVE[family](tmp_path), spec=spec, dtype=torch.float32)
    tokenizer = encoder.processor.tokenizer
    decode = type(tokenizer).decode
    # These tiny models speak at random; let each of them speak as badly as one can.
    monkeypatch.setattr(type(tokenizer), "decode", lambda *args, **kwargs: "\x00\x1b\x7f" + decode(*args, **kwargs))
    said = encoder.encode(prompt="a red house", reason=True).answer
    assert not any(c in said for c in "\x00\x1b\x7f")
    history = [Turn("a red house", answer=said)]
    assert encoder.encode(prompt="make it night", history=history, padding="compact").mask.all()

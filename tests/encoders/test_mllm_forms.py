"""MLLM folders in the forms that people have: older and newer key names, bitsandbytes' own, without a chat template."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BitsAndBytesConfig, Qwen2_5_VLForConditionalGeneration

from x2i_app.encoders import load_encoder
from x2i_app.errors import CheckpointError
from x2i_app.loading.quantization import Linear4bit, Linear8bit, quantize
from x2i_app.loading.sources import find_sources
from x2i_app.settings import ASSETS


@pytest.fixture
def copy(qwen_vl_directory, tmp_path):
    return shutil.copytree(qwen_vl_directory, tmp_path / "copy")


def states(directory, image, family="qwen2.5-vl", **given):
    encoder = load_encoder(family, directory, dtype=torch.float32)
    return encoder.encode(prompt="a red house", images=[image], **given).hidden_states


BARE = {"model.language_model.": "", "language_model.model.": "", "model.visual.": "visual.", "model.": ""}


def bare(key):
    """A key without what the versions of transformers put in front of it."""
    for prefix, new in BARE.items():
        if key.startswith(prefix):
            return new + key.removeprefix(prefix)
    return key


RELEASED = {"visual": "visual.", "text": "model."}
NEWER = {"visual": "model.visual.", "text": "model.language_model."}


@pytest.mark.parametrize("names", [RELEASED, NEWER], ids=["released", "newer"])
@pytest.mark.parametrize("reason", [False, True])
def test_key_names(qwen_vl_directory, copy, image, names, reason):
    """The same weights by the released files' names and by those that transformers has saved since 4.52."""
    weights = {}
    for key, value in load_file(copy / "model.safetensors").items():
        name = bare(key)
        kind = "visual" if name.startswith("visual.") else "text"
        weights[name if name == "lm_head.weight" else names[kind] + name.removeprefix("visual.")] = value
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    expected = states(qwen_vl_directory, image, reason=reason)
    torch.testing.assert_close(states(copy, image, reason=reason), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("bits", [4, 8])
def test_bitsandbytes(qwen_vl_directory, tmp_path, image, bits):
    """A folder that bitsandbytes quantized has nearly the same states as the original, as if quantized here."""
    options = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"} if bits == 4 else {"load_in_8bit": True}
    config = BitsAndBytesConfig(**options)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        qwen_vl_directory, quantization_config=config, dtype=torch.float32, device_map="cpu"
    )
    shutil.copytree(qwen_vl_directory, tmp_path / "small", ignore=lambda _, names: [n for n in names if "model" in n])
    model.save_pretrained(tmp_path / "small")
    encoder = load_encoder("qwen2.5-vl", tmp_path / "small", dtype=torch.float32)
    quantize(encoder.model, "nf4", torch.device("cpu"))
    kinds = {type(layer) for layer in encoder.model.modules() if isinstance(layer, torch.nn.Linear)}
    assert kinds <= {Linear4bit, Linear8bit, type(encoder.model.language_model.layers[0].mlp.up_proj)}
    found = encoder.encode(prompt="a red house", images=[image]).hidden_states
    expected = states(qwen_vl_directory, image)
    assert 0.85 < torch.cosine_similarity(found[:, 1:], expected[:, 1:], dim=-1).mean() < 1


@pytest.mark.parametrize("family", ["qwen2.5-vl", "qwen2.5-omni"])
def test_no_chat_template(request, tmp_path, image, family):
    """A folder without a template is read with the family's own, in which media stand where the message has them."""
    original = request.getfixturevalue(f"{family.replace('2.5-', '_')}_directory")
    copy = shutil.copytree(original, tmp_path / "copy", ignore=lambda _, names: [n for n in names if "template" in n])
    for name in ("tokenizer_config.json", "processor_config.json"):
        settings = json.loads((copy / name).read_text())
        settings.pop("chat_template", None)
        (copy / name).write_text(json.dumps(settings))
    encoder = load_encoder(family, copy, dtype=torch.float32)
    processor, image_token = encoder.processor, "<|image_pad|>" if family == "qwen2.5-vl" else "<|IMAGE|>"
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "a house"}]}
    text = processor.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    assert text.startswith("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_")
    assert image_token in text
    assert text.endswith("a house<|im_end|>\n<|im_start|>assistant\n")
    assert encoder.encode(prompt="a red house", images=[image]).hidden_states.isfinite().all()


@pytest.mark.parametrize("method", ["awq", "gptq", "fp8", "compressed-tensors", "x" * 200])
def test_other_quantization(copy, method):
    """Another method is named, before any weight is read; also where no model is loaded."""
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": method}}))
    (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:-1000])
    parts = {"flux": "x2i-tiny", "alignnet": ASSETS / "x2i-tiny/align_net"}
    for read in (
        lambda: load_encoder("qwen2.5-vl", copy),
        lambda: find_sources("custom:qwen2.5-vl", mllm=copy, **parts),
    ):
        with pytest.raises(
            CheckpointError, match=f"copy is quantized by {method[:40]}, which|is cut or damaged"
        ) as raised:
            read()
        assert len(str(raised.value)) < 250


@pytest.mark.parametrize("name", ["qwen2.5-vl-7b-Q4_K_M.GGUF", "qwen2.5-vl-7b-instruct.pt"])
def test_one_file(tmp_path, name):
    parts = {"flux": "x2i-tiny", "alignnet": ASSETS / "x2i-tiny/align_net"}
    with pytest.raises(CheckpointError, match=f"{name} is one file, and an MLLM needs its configuration"):
        find_sources("custom:qwen2.5-vl", mllm=tmp_path / name, **parts)

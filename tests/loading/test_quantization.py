"""Linear layers in 8 and 4 bit on a CPU: exact to their bits, whatever their width, and unchanged by their use."""

from types import SimpleNamespace

import bitsandbytes as bnb
import pytest
import torch
from measures import held_bytes

from x2i_app.encoders import load_encoder
from x2i_app.loading.quantization import (
    Linear4bit,
    Linear8bit,
    dense_weight,
    let_statistics_follow,
    quantize,
)

CPU = torch.device("cpu")
KINDS = {"nf4": Linear4bit, "int8": Linear8bit}


@pytest.mark.parametrize(("precision", "likeness"), [("nf4", 0.9), ("int8", 0.99)])
def test_mllm(qwen_vl_directory, image, precision, likeness):
    """A quantized MLLM has nearly the same states, needs less memory, and can still answer."""
    encoder = load_encoder("qwen2.5-vl", qwen_vl_directory, dtype=torch.float32)
    given = {"prompt": "a red house", "images": [image]}
    before, size = encoder.encode(**given).hidden_states, held_bytes(encoder.model)
    quantize(encoder.model, precision, CPU)
    quantized = encoder.encode(**given).hidden_states
    assert held_bytes(encoder.model) < 0.65 * size
    kinds = {type(module) for module in encoder.model.modules() if isinstance(module, torch.nn.Linear)}
    assert kinds == {KINDS[precision]}
    likenesses = torch.cosine_similarity(before[:, 1:], quantized[:, 1:], dim=-1)
    assert likeness < likenesses.mean() < 1
    assert type(encoder.model.get_input_embeddings()) is torch.nn.Embedding
    assert encoder.encode(prompt="a red house", reason=True).answer is not None


@pytest.mark.parametrize("width", [64, 96, 48, 33, 3420])  # of Qwen2.5-VL's vision tower the last one
def test_row_width(width):
    """Rows of any width are dequantized right, forward and backward, also if a row ends inside a block of 64."""
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Linear(width, 20))
    given, expected = torch.eye(width), layer[0].weight.T + layer[0].bias
    quantize(layer, "nf4", CPU)
    given.requires_grad_()
    found = layer(given)
    assert 0.08 < (found - expected).norm() / (expected - layer[0].bias).norm() < 0.1  # what NF4 costs uniform numbers
    found.sum().backward()
    torch.testing.assert_close(given.grad[0], (found - layer[0].bias).sum(dim=1))  # the rows of the same weights


@pytest.mark.parametrize("rows", [3420, 4304, 20, 33, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_number_of_rows(rows, dtype):
    """Layers of any number of rows work, as in the vision towers of Qwen2.5-VL and MiniCPM-o; also after repacking."""
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Linear(128, rows)).to(dtype)
    quantize(layer, "nf4", CPU)
    given = torch.randn(7, 128, dtype=dtype)
    expected = given.float() @ dense_weight(layer[0]).T + layer[0].bias.float()
    for _ in range(2):
        error = layer(given).float() - expected
        assert error.norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("shape", [(192, 768), (33, 77), (5, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_same_bytes(shape, dtype):
    """The faster way to NF4 on a CPU gives the bytes and scales of bitsandbytes' own, but where a value is halfway."""
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Linear(*reversed(shape))).to(dtype)
    original = layer[0].weight.data.clone()
    quantize(layer, "nf4", CPU)
    found = layer[0].weight
    expected = bnb.nn.Params4bit(original, quant_type="nf4", compress_statistics=True).to(CPU)
    assert found.shape == expected.shape
    assert (found.data == expected.data).float().mean() > 0.995
    for name in ("shape", "dtype", "blocksize", "quant_type", "nested"):
        assert getattr(found.quant_state, name) == getattr(expected.quant_state, name)
    assert (found.quant_state.absmax.int() - expected.quant_state.absmax.int()).abs().max() <= 1
    torch.testing.assert_close(found.quant_state.offset, expected.quant_state.offset)


def test_state_dict():
    """Reading the state dict changes nothing, before and after a CPU with AVX512-BF16 has repacked the weight."""
    layer = torch.nn.Sequential(torch.nn.Linear(256, 96)).eval()
    quantize(layer, "nf4", CPU)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    given = torch.randn(8, 256)
    found = layer(given)
    repacked = layer.state_dict()
    assert before.keys() == repacked.keys()
    assert all(torch.equal(before[name], repacked[name]) for name in before)
    assert torch.equal(layer(given), found)


@pytest.mark.parametrize(("precision", "error"), [("nf4", 0.13), ("int8", 0.01)])
def test_precision(precision, error):
    """A quantized layer is as exact as its number of bits allows."""
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Linear(256, 96), torch.nn.GELU(), torch.nn.Linear(96, 64, bias=False))
    given = torch.randn(8, 256)
    expected = layer(given)
    quantize(layer, precision, CPU)
    quantize(layer, precision, CPU)  # changes nothing
    assert 0 < (layer(given) - expected).norm() / expected.norm() < error
    assert layer[2].bias is None
    assert not any(parameter.requires_grad for parameter in layer.parameters())


def test_double_quantization():
    layer = torch.nn.Sequential(torch.nn.Linear(256, 64))
    quantize(layer, "nf4", CPU)
    state = layer[0].weight.quant_state
    assert (state.quant_type, state.nested, state.absmax.dtype) == ("nf4", True, torch.uint8)


def test_scales_follow():
    """With block-wise offload the scales of a 4-bit layer are moved to its input."""
    layer = torch.nn.Sequential(torch.nn.Linear(64, 32))
    quantize(layer, "nf4", CPU)
    went = []
    state = layer[0].weight.quant_state
    layer[0].weight.quant_state = SimpleNamespace(to=went.append)
    let_statistics_follow(layer)
    with pytest.raises(AttributeError):  # the fake scales moved, and cannot be used
        layer(torch.ones(1, 64))
    assert went == [CPU]
    assert isinstance(state.absmax, torch.Tensor)


@pytest.mark.parametrize("precision", ["nf4", "int8"])
def test_head(precision):
    """A language-model head keeps its weight, wherever it is in the module."""
    model = torch.nn.Module()
    model.layer, model.lm_head = torch.nn.Linear(64, 64), torch.nn.Linear(64, 10)
    head, outer = model.lm_head, torch.nn.Sequential(model)
    quantize(outer, precision, CPU)
    assert model.lm_head is head
    assert type(head) is torch.nn.Linear
    assert type(model.layer) is KINDS[precision]


def test_full():
    layer = torch.nn.Linear(8, 8)
    module = torch.nn.Sequential(layer)
    quantize(module, "full", CPU)
    assert module[0] is layer


def test_other_parts():
    """Biases, norms and embeddings keep their dtype; the mode and the number of layers stay."""
    module = torch.nn.ModuleDict(
        {"embed": torch.nn.Embedding(4, 64), "norm": torch.nn.LayerNorm(64), "layer": torch.nn.Linear(64, 64)}
    )
    module.bfloat16().train()
    quantize(module, "nf4", CPU)
    assert module["embed"].weight.dtype == module["norm"].weight.dtype == module["layer"].bias.dtype == torch.bfloat16
    assert module["layer"].training
    assert module["layer"].compute_dtype == torch.bfloat16

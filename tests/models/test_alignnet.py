"""AlignNet against formulas written out by hand, and its save and load round trip."""

import math

import pytest
import torch

from x2i_app.models import AlignNet


def gelu(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-6) * weight + bias


def merge_by_convolution(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """The convolution as the sum over states and offsets that it is: (L, S, H) -> (S, H)."""
    _, length, width = states.shape
    reach = weight.shape[-1] // 2
    merged = torch.full((length, width), float(bias))
    for layer, kernel in enumerate(weight[0]):
        for row in range(length):
            for column in range(width):
                for i, r in enumerate(range(row - reach, row + reach + 1)):
                    for j, c in enumerate(range(column - reach, column + reach + 1)):
                        if 0 <= r < length and 0 <= c < width:
                            merged[row, column] += kernel[i, j] * states[layer, r, c]
    return merged


def randomized(**config) -> AlignNet:
    torch.manual_seed(0)
    align_net = AlignNet(**config)
    for parameter in align_net.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return align_net.eval()


@pytest.mark.parametrize("fusion", ["conv", "scale"])
def test_output_equals_the_formula(fusion):
    align_net = randomized(num_states=3, hidden_size=6, fusion=fusion, joint_dim=4, pooled_dim=2)
    states = torch.randn(2, 3, 5, 6)
    weights = align_net.state_dict()
    if fusion == "conv":
        merged = torch.stack([merge_by_convolution(s, weights["conv.weight"], weights["conv.bias"]) for s in states])
    else:
        merged = sum(states[:, i] * weights["cha_scale"][0, i, 0, 0] for i in range(3)) / 3
    normed = layer_norm(merged, weights["mlp.layernorm.weight"], weights["mlp.layernorm.bias"])
    expected = gelu(normed @ weights["mlp.projector.0.weight"].T) @ weights["mlp.projector.2.weight"].T
    pooled = (gelu(expected) @ weights["mlp.fc.1.weight"].T + weights["mlp.fc.1.bias"]).mean(1)

    prompt_embeds, pooled_prompt_embeds = align_net(states)

    torch.testing.assert_close(prompt_embeds, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(pooled_prompt_embeds, pooled, atol=1e-5, rtol=1e-5)


def test_scale_fusion_is_a_mean():
    align_net = randomized(num_states=4, hidden_size=6, fusion="scale", joint_dim=4, pooled_dim=2)
    torch.nn.init.ones_(align_net.cha_scale)
    states = torch.randn(1, 4, 3, 6)
    mean = states.mean(1, keepdim=True).expand(-1, 4, -1, -1)
    torch.testing.assert_close(align_net(states), align_net(mean))


@pytest.mark.parametrize("fusion", ["conv", "scale"])
def test_save_and_load(tmp_path, fusion):
    align_net = randomized(num_states=3, hidden_size=6, fusion=fusion, kernel_size=3, joint_dim=4, pooled_dim=2)
    align_net.save_pretrained(tmp_path)
    loaded = AlignNet.from_pretrained(tmp_path)
    states = torch.randn(1, 3, 7, 6)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]
    for got, expected in zip(loaded(states), align_net(states), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("shape", [(1, 4, 5, 6), (1, 3, 5, 7), (3, 5, 6)])
def test_other_shapes_are_refused(shape):
    align_net = randomized(num_states=3, hidden_size=6, joint_dim=4, pooled_dim=2)
    with pytest.raises(ValueError, match=r"expected \(B, 3, S, 6\)") as error:
        align_net(torch.zeros(shape))
    assert str(tuple(shape)) in str(error.value)


def test_invalid_configurations_are_refused():
    with pytest.raises(ValueError, match="must be 'conv' or 'scale'"):
        AlignNet(3, 6, fusion="mean")
    with pytest.raises(ValueError, match="must be odd"):
        AlignNet(3, 6, kernel_size=4)

"""LightControl: published keys and shapes, its formula by hand, no effect before training, and its hook in FLUX."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from PIL import Image
from torch.nn import functional

from x2i_app.models import LightControl, controlled

SHAPES = Path(__file__).resolve().parents[1] / "fixtures" / "light_control_shapes.json"
SMALL = {"num_blocks": 2, "dim": 32, "widths": (8, 8, 16), "time_embed_dim": 8}
SIZE = 64  # pixels


def randomized(**changes) -> LightControl:
    torch.manual_seed(0)
    light_control = LightControl(**SMALL | changes).eval()
    for parameter in light_control.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return light_control


def build_transformer(layers: int = 2) -> FluxTransformer2DModel:
    torch.manual_seed(1)
    return FluxTransformer2DModel(
        in_channels=16,
        num_layers=layers,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        axes_dims_rope=(4, 6, 6),
    ).eval()


def call(transformer, sigma=0.7, **more) -> torch.Tensor:
    """Call a transformer as a pipeline does for an image of 64 x 64 pixels."""
    generator = torch.Generator().manual_seed(2)
    side = SIZE // 16
    ids = torch.stack([torch.zeros(side, side), *torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")])
    arguments = {
        "hidden_states": torch.randn(2, side * side, 16, generator=generator),
        "encoder_hidden_states": torch.randn(2, 5, 8, generator=generator),
        "pooled_projections": torch.randn(2, 8, generator=generator),
        "timestep": torch.full((2,), sigma),
        "img_ids": ids.flatten(1).T,
        "txt_ids": torch.zeros(5, 3),
    }
    with torch.no_grad():
        return transformer(**arguments | more, return_dict=False)[0]


def image(side: int = SIZE) -> Image.Image:
    noise = torch.randint(256, (side, side, 3), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    return Image.fromarray(noise.numpy())


def scheduler(steps: int = 4) -> FlowMatchEulerDiscreteScheduler:
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(steps)
    return scheduler


def test_keys_and_shapes_are_the_published_ones():
    with torch.device("meta"):
        light_control = LightControl()
    one = json.loads(SHAPES.read_text())
    expected = {f"{block}.{name}": tuple(shape) for block in range(19) for name, shape in one.items()}
    assert {name: tuple(value.shape) for name, value in light_control.state_dict().items()} == expected
    assert sum(parameter.numel() for parameter in light_control.parameters()) == 125_266_240


def by_hand(weights: dict[str, torch.Tensor], image: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """One net, written with plain functions from the description of the architecture."""

    def conv(x, name, **options):
        return functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **options)

    def norm(x, name, groups, eps=1e-5):
        return functional.group_norm(x, groups, weights[f"{name}.weight"], weights[f"{name}.bias"], eps)

    def linear(x, name):
        return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    frequencies = torch.exp(-math.log(10_000) * torch.arange(64) / 64)
    angles = timestep[:, None] * frequencies
    time = torch.cat([angles.cos(), angles.sin()], dim=1)
    time = linear(functional.silu(linear(time, "time_embedding.linear_1")), "time_embedding.linear_2")
    x = image
    for place, stride in ((0, 2), (3, 1), (6, 1)):
        x = conv(x, f"embedding.{place}", stride=stride, padding=1)
        x = functional.relu(norm(x, f"embedding.{place + 1}", 2))
    for block, groups in ((0, 4), (1, 8)):
        name = f"down_res.{block}"
        y = conv(functional.silu(norm(x, f"{name}.norm1", groups, 1e-6)), f"{name}.conv1", padding=1)
        y = y + linear(functional.silu(time), f"{name}.time_emb_proj")[:, :, None, None]
        y = conv(functional.silu(norm(y, f"{name}.norm2", groups, 1e-6)), f"{name}.conv2", padding=1)
        x = y + (conv(x, f"{name}.conv_shortcut") if f"{name}.conv_shortcut.weight" in weights else x)
        x = conv(x, f"down_sample.{block}.conv", stride=2, padding=1)
    y = norm(functional.relu(conv(x, "mid_convs.0.0", padding=1)), "mid_convs.0.2", 8)
    x = x + norm(conv(y, "mid_convs.0.3", padding=1), "mid_convs.0.4", 8)
    return conv(x, "mid_convs.1", stride=2).flatten(2).transpose(1, 2)


def test_output_equals_the_formula():
    light_control = randomized()
    image, timestep = torch.rand(2, 3, 48, 32) * 2 - 1, torch.tensor([900.0, 20.0])
    residuals = light_control(image, timestep)
    assert [tuple(one.shape) for one in residuals] == [(2, 6, 32)] * 2
    for block, residual in enumerate(residuals):
        prefix = f"{block}."
        weights = {k.removeprefix(prefix): v for k, v in light_control.state_dict().items() if k.startswith(prefix)}
        torch.testing.assert_close(residual, by_hand(weights, image, timestep), atol=1e-4, rtol=1e-4)


def test_an_untrained_light_control_has_no_effect():
    """Its gradients are not zero, so that it can be trained."""
    fresh, transformer = LightControl(**SMALL), build_transformer()
    bare = call(transformer)
    with controlled(transformer, scheduler(), fresh, image()):
        assert torch.equal(call(transformer), bare)
    sum(one.square().sum() + one.sum() for one in fresh(torch.rand(1, 3, 32, 32), torch.tensor([500.0]))).backward()
    assert fresh.nets[0].mid_convs[1].weight.grad.abs().sum() > 0


def test_residuals_and_removal_of_the_hook():
    """Residuals are added after their blocks, and the hook is removed even if the block raises."""
    light_control, transformer = randomized(), build_transformer()
    bare = call(transformer)
    pixels = torch.from_numpy(np.array(image())).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        expected = [0.5 * one for one in light_control(pixels, torch.tensor([700.0]))]
    with controlled(transformer, scheduler(), light_control, image(), strength=0.5):
        controlled_output = call(transformer)
    torch.testing.assert_close(controlled_output, call(transformer, controlnet_block_samples=expected))
    assert not torch.allclose(controlled_output, bare)
    assert torch.equal(call(transformer), bare)
    with pytest.raises(KeyboardInterrupt), controlled(transformer, scheduler(), light_control, image()):
        raise KeyboardInterrupt
    assert not transformer._forward_pre_hooks


def test_stems_are_computed_once():
    light_control, transformer = randomized(), build_transformer()
    calls = []
    for net in light_control.nets:
        net.embedding.register_forward_hook(lambda *_: calls.append("stem"))
        net.down_res[0].register_forward_hook(lambda *_: calls.append("rest"))
    with controlled(transformer, scheduler(), light_control, image()):
        for sigma in (1.0, 0.5, 0.2):
            call(transformer, sigma)
    assert (calls.count("stem"), calls.count("rest")) == (2, 6)


def test_start_and_end():
    light_control, transformer = randomized(), build_transformer()
    schedule = scheduler(4)
    sigmas = (schedule.timesteps / 1000).tolist()
    bare = [call(transformer, sigma) for sigma in sigmas]

    def is_active(start, end):
        with controlled(transformer, schedule, light_control, image(), start=start, end=end):
            return [not torch.equal(call(transformer, sigma), one) for sigma, one in zip(sigmas, bare, strict=True)]

    assert is_active(0, 1) == [True] * 4
    assert is_active(0, 0.5) == [True, True, False, False]
    assert is_active(0.25, 0.75) == [False, True, True, False]
    assert is_active(1, 1) == [False] * 4


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("repeat", [False, True])
def test_a_controlnet_still_has_its_effect(samples, repeat):
    """For all numbers of samples that FluxTransformer2DModel distributes over four blocks."""
    transformer = build_transformer(layers=4)
    fresh = LightControl(**SMALL)
    beside = [torch.randn(2, 16, 32) for _ in range(samples)]
    more = {"controlnet_block_samples": beside, "controlnet_blocks_repeat": repeat}
    expected = call(transformer, **more)
    with controlled(transformer, scheduler(), fresh, image()):
        torch.testing.assert_close(call(transformer, **more), expected)
    with controlled(transformer, scheduler(), randomized(), image()):
        assert not torch.allclose(call(transformer, **more), expected)


def test_tokens_of_a_reference_image_are_unchanged():
    """FLUX.1 Kontext appends them; their first position id is 1."""
    light_control, transformer = randomized(), build_transformer()
    samples = []
    ids = torch.zeros(20, 3)
    ids[:16, 1], ids[:16, 2] = torch.arange(16) // 4, torch.arange(16) % 4
    ids[16:, 0] = 1
    more = {"hidden_states": torch.randn(2, 20, 16), "img_ids": ids}
    with controlled(transformer, scheduler(), light_control, image()):
        transformer.register_forward_pre_hook(
            lambda _, args, kwargs: samples.append(kwargs["controlnet_block_samples"]), with_kwargs=True
        )
        call(transformer, **more)
    assert [tuple(one.shape) for one in samples[0]] == [(1, 20, 32)] * 2
    assert all(one[:, 16:].abs().sum() == 0 and one[:, :16].abs().sum() > 0 for one in samples[0])


@pytest.mark.parametrize("shape", [(1, 3, 40, 64), (1, 4, 32, 32), (3, 32, 32), (1, 3, 0, 16)])
def test_sides_must_be_multiples_of_16(shape):
    with pytest.raises(ValueError, match="multiples of 16"):
        randomized()(torch.zeros(shape), torch.tensor([1.0]))

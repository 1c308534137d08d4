"""attention_kl against its formula in float64, and the memory that it keeps; flow matching; taps."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from torch.utils.checkpoint import checkpoint
from training.tiny import JOINT, POOLED, build_transformer

from x2i_app.training import attention_kl, losses
from x2i_app.training.losses import FlowMatching


def formula(teacher, student, temperature=3.0):
    """arXiv 2503.06134's loss: one line of arithmetic a line."""

    def logits(tokens):
        mean, std = tokens.mean(dim=-1, keepdim=True), tokens.std(dim=-1, keepdim=True)
        return (tokens - mean) / (std + 1e-7) / temperature

    student, teacher = (torch.softmax(logits(tokens.double()), dim=-1) for tokens in (student, teacher))
    return (student * (student.log() - teacher.log())).sum() / len(student)


def pair(shape, apart, dtype=torch.float32, scale=5.0):
    generator = torch.Generator().manual_seed(0)
    teacher = scale * torch.randn(shape, generator=generator) + 1
    student = teacher + apart * scale * torch.randn(shape, generator=generator)
    return teacher.to(dtype), student.to(dtype).requires_grad_()


def gradient(loss, student):
    (found,) = torch.autograd.grad(loss, student)
    return found.double().flatten()


@pytest.mark.parametrize("shape", [(1, 2), (3, 7, 16), (2, 3, 5, 8)])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_value_and_gradient(shape, temperature):
    teacher, student = pair(shape, apart=0.5, dtype=torch.float64)
    loss, expected = attention_kl(teacher, student, temperature), formula(teacher, student, temperature)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradient(loss, student), gradient(expected, student), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("apart", [0.01, 0.3])
def test_small_difference(dtype, apart):
    teacher, student = pair((2, 40, 192), apart, dtype)
    loss, expected = attention_kl(teacher, student), formula(teacher, student)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=5e-3)
    found, wanted = gradient(loss, student), gradient(expected, student)
    assert torch.nn.functional.cosine_similarity(found, wanted, dim=0) > 0.999


def test_chunks_change_nothing(monkeypatch):
    teacher, student = pair((3, 50, 16), apart=0.3)
    strided = student[:, 7:], teacher[:, 7:]
    whole = attention_kl(strided[1], strided[0])
    direction = gradient(whole, student)
    for chunk in (16, 48, 700, 1500):  # one row, parts of a sample, one sample, two samples
        monkeypatch.setattr(losses, "_CHUNK", chunk)
        loss = attention_kl(strided[1], strided[0])
        torch.testing.assert_close(loss, whole)
        torch.testing.assert_close(gradient(loss, student), direction)


def test_equal_outputs_cost_nothing():
    teacher, student = pair((2, 5, 8), apart=0.0)
    same = attention_kl(teacher, student)
    assert abs(same.item()) < 1e-6
    assert gradient(same, student).abs().max() < 1e-6
    scaled = attention_kl(teacher, 3 * student + 2)  # what normalization takes away does not count
    assert abs(scaled.item()) < 1e-5
    other = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))
    assert attention_kl(teacher, other) > 0.01


def test_only_the_student_learns():
    teacher, student = pair((2, 5, 8), apart=0.5)
    teacher.requires_grad_()
    attention_kl(teacher, student).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0
    assert not attention_kl(teacher.detach(), student.detach()).requires_grad


def test_token_without_contrast():
    teacher, student = pair((1, 3, 8), apart=0.5)
    flat = torch.cat((torch.full((1, 1, 8), 2.0), student.detach()[:, 1:]), dim=1).requires_grad_()
    loss = attention_kl(teacher, flat)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient(loss, flat)).all()


def test_memory_for_the_backward_pass():
    """Only one gradient is kept, in the student's dtype."""
    teacher, student = pair((2, 50, 64), apart=0.5, dtype=torch.bfloat16)
    loss = attention_kl(teacher, student)
    (kept,) = loss.grad_fn.saved_tensors
    assert kept.dtype == torch.bfloat16
    assert kept.shape == student.shape


def test_gradient_checkpointing_computes_it_once(monkeypatch):
    teacher, student = pair((2, 5, 8), apart=0.5)
    calls, collected = [], []
    compare = losses._compare
    monkeypatch.setattr(losses, "_compare", lambda *args: calls.append(1) or compare(*args))
    weight = torch.eye(8, requires_grad=True)
    first_time = iter([True])

    def block(tokens):
        output = (tokens @ weight).sin()
        if next(first_time, False):  # as a tap that is removed before the backward pass
            collected.append(attention_kl(teacher, output))
        return output

    checkpoint(block, student, use_reentrant=False)
    collected[0].backward()
    assert len(calls) == 1
    expected = formula(teacher, (student @ weight).sin())
    torch.testing.assert_close(weight.grad, torch.autograd.grad(expected, weight)[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shapes", [((2, 3, 8), (2, 4, 8)), ((8,), (8,)), ((2, 3, 1), (2, 3, 1))])
def test_shapes_that_cannot_be_compared_are_told(shapes):
    with pytest.raises(ValueError, match=r"The teacher's shape is .* and the student's"):
        attention_kl(*map(torch.zeros, shapes))


@pytest.mark.parametrize("shifting", [True, False])
def test_flow_matching(shifting):
    """Its inputs lie between latents and noise; the target is the velocity from one to the other."""
    transformer = build_transformer(guidance=True)
    config = {"use_dynamic_shifting": shifting, "shift": 3.0}
    flow_matching = FlowMatching(transformer, config, noise_bias=0.5, guidance_scale=2.0)
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    calls = []
    handle = transformer.register_forward_hook(
        lambda _, args, kwargs, output: calls.append((kwargs, output[0])), with_kwargs=True
    )
    torch.manual_seed(0)
    found = flow_matching(latents, torch.zeros(3, 5, JOINT), torch.zeros(3, POOLED))
    handle.remove()
    ((given, velocity),) = calls

    torch.manual_seed(0)
    tokens = FluxPipeline._pack_latents(latents, 3, 4, 8, 8)
    noise, sigmas = torch.randn_like(tokens), torch.sigmoid(0.5 + torch.randn(3, 1, 1))
    sigmas = scheduler_shift(sigmas, config, tokens.shape[1])
    torch.testing.assert_close(given["hidden_states"], (1 - sigmas) * tokens + sigmas * noise)
    torch.testing.assert_close(given["timestep"], sigmas.flatten())
    assert given["guidance"].tolist() == [2.0] * 3
    assert given["img_ids"].shape == (16, 3)
    torch.testing.assert_close(found, (velocity - (noise - tokens)).square().mean())


def test_flow_matching_weighs_places():
    """With weights at one place, the loss is the mean error there; weights that are all alike change nothing."""
    transformer, latents = build_transformer(), torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))

    def found(weights):
        torch.manual_seed(0)
        return FlowMatching(transformer, {})(latents, torch.zeros(2, 5, JOINT), torch.zeros(2, POOLED), weights=weights)

    whole = torch.ones(2, 1, 8, 8)
    left, right = whole.clone(), whole.clone()
    left[..., 4:], right[..., :4] = 0, 0
    torch.testing.assert_close(found(3 * whole), found(None))
    assert not torch.isclose(found(left), found(right))
    torch.testing.assert_close((found(left) + found(right)) / 2, found(None))


def test_residuals_reach_the_transformer():
    """They are asked for at timesteps from 0 to 1000."""
    transformer, asked = build_transformer(), []

    def residuals(timestep):
        asked.append(timestep)
        return [torch.linspace(-9, 9, 32).expand(2, 16, 32), torch.zeros(2, 16, 32)]

    def found(**given):
        torch.manual_seed(0)
        inputs = torch.zeros(2, 4, 8, 8), torch.zeros(2, 5, JOINT), torch.zeros(2, POOLED)
        return FlowMatching(transformer, {})(*inputs, **given)

    assert found(residuals=residuals) != found()
    assert asked[0].shape == (2,)
    assert 1 < asked[0].max() <= 1000


def scheduler_shift(sigmas, config, tokens):
    """As diffusers' own scheduler shifts noise levels for drawing."""
    if not config["use_dynamic_shifting"]:
        return config["shift"] * sigmas / (1 + (config["shift"] - 1) * sigmas)
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    mu = calculate_shift(tokens, 256, 4096, 0.5, 1.15)
    return scheduler.time_shift(mu, 1.0, sigmas)

"""The loss of distillation: one transformer run twice, at the noise levels where FLUX.1 runs."""

from dataclasses import replace

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
    encode_captions,
    flux_parts,
    same,
    weights,
)

from x2i_app.errors import TrainingError
from x2i_app.loading.quantization import quantize
from x2i_app.training.distill import DistillationLoss, distill
from x2i_app.training.encoding import encode_latents


def test_transformer_in_4_bit(pipeline, teacher, tmp_path):
    made = batches(pipeline, teacher, tmp_path)

    def direction(batch):
        """Of AlignNet's gradients."""
        return torch.cat([gradient.flatten() for gradient in terms_and_gradients(pipeline, batch, OPTIONS)[1]])

    whole, other = direction(made[0]), direction(made[1])
    quantize(pipeline.transformer, "nf4", torch.device("cpu"))
    likeness = torch.nn.functional.cosine_similarity(direction(made[0]), whole, dim=0)
    assert likeness > 0.95  # measured: 0.976
    assert likeness > torch.nn.functional.cosine_similarity(other, whole, dim=0) + 0.1  # captions differ by more
    align_net, transformer = weights(pipeline.align_net), weights(pipeline.transformer)
    distill_pipeline(pipeline, teacher, tmp_path, OPTIONS, replace(LOOP, steps=2))
    assert not same(pipeline.align_net, align_net)
    assert same(pipeline.transformer, transformer)


def test_noise_levels_of_images(pipeline, teacher, tmp_path):
    def image(name):
        return Image.new("RGB", (80 + int(name), 64), (30 * int(name), 90, 200))

    names = list(map(str, range(len(CAPTIONS))))
    latents = encode_latents(pipeline.vae, names, image, tmp_path, 64, torch.float32)
    assert latents[3]["latents"].shape == (4, 8, 8)
    options = replace(OPTIONS, sigmas="logit_normal")
    encoded, flux = encode_captions(pipeline, teacher, tmp_path), flux_parts(pipeline)
    distill(pipeline.align_net, flux, *encoded, tmp_path, options, replace(LOOP, steps=2), latents)
    loss = DistillationLoss(flux, options, torch.device("cpu"))
    clean = torch.zeros(200, 4, 8, 8)
    noisy, timestep = loss._noisy_latents(clean, None, None)
    sigmas = timestep / 1000
    torch.testing.assert_close(noisy.std(dim=(1, 2)), sigmas, rtol=0.4, atol=0)  # the share of noise in it
    assert 0 < sigmas.min() < 0.4 < 0.9 < sigmas.max() < 1
    with pytest.raises(TrainingError, match="needs images beside the captions"):
        distill(pipeline.align_net, flux, *encoded, tmp_path, options, LOOP)


def terms_and_gradients(pipeline, batch, options):
    task = DistillationLoss(pipeline, options, torch.device("cpu"))
    pipeline.transformer.requires_grad_(False)
    align_net = pipeline.align_net.requires_grad_(True)
    torch.manual_seed(0)
    terms = task(align_net, batch)
    gradients = torch.autograd.grad(sum(terms.values()), list(align_net.parameters()))
    return terms, gradients


def test_gradient_checkpointing_changes_nothing(pipeline, teacher, tmp_path):
    batch = batches(pipeline, teacher, tmp_path)[0]
    options = replace(OPTIONS, sigmas="path", output_weight=1.0)
    terms, gradients = terms_and_gradients(pipeline, batch, options)
    pipeline.transformer.enable_gradient_checkpointing()
    pipeline.transformer.train()
    again, same_gradients = terms_and_gradients(pipeline, batch, options)
    for name, term in terms.items():
        torch.testing.assert_close(again[name], term, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(same_gradients, gradients, rtol=1e-3, atol=1e-5)


def test_student_equal_to_the_teacher(pipeline, teacher, tmp_path):
    batch = batches(pipeline, teacher, tmp_path)[0]
    options = replace(OPTIONS, output_weight=1.0, match_text=True)
    task = DistillationLoss(pipeline, options, torch.device("cpu"))
    rows = batch["prompt_embeds"].shape[1]
    batch["hidden_states"] = torch.zeros(len(batch["pooled"]), 1, rows, 1)
    terms = task(lambda _: (batch["prompt_embeds"], batch["pooled"]), batch)
    assert terms["attention"].abs() < 1e-3
    assert terms["output"] < 1e-8


@pytest.mark.parametrize("share", [0.0, 0.15])
def test_state_noise(pipeline, teacher, tmp_path, share):
    batch = batches(pipeline, teacher, tmp_path)[0]
    states = torch.randn(2, 3, 40, 64) * torch.tensor([0.1, 1.0, 30.0])[:, None, None]
    reached = []

    def listen(given):
        reached.append(given)
        return batch["prompt_embeds"][:2], batch["pooled"][:2]

    batch = {name: value[:2] for name, value in batch.items()}
    DistillationLoss(pipeline, replace(OPTIONS, state_noise=share), torch.device("cpu"))(
        listen, {**batch, "hidden_states": states}
    )
    noise = (reached[0] - states).std(dim=(2, 3)) / states.std(dim=(2, 3))
    torch.testing.assert_close(noise, torch.full((2, 3), share), rtol=0.1, atol=0)


def flux_path(pipeline, prompt_embeds, pooled, noise):
    """Timesteps and latents of FluxPipeline: [(t, latents before the step at t)]."""
    passed = [noise]

    def keep(_, step, timestep, values):
        passed.append(values["latents"])
        return {}

    flux = pipeline.drawing_pipeline()
    flux(
        prompt_embeds=prompt_embeds,
        pooled_prompt_embeds=pooled,
        width=64,
        height=64,
        num_inference_steps=4,
        latents=noise.clone(),
        output_type="latent",
        callback_on_step_end=keep,
    )
    return list(zip(flux.scheduler.timesteps.tolist(), passed, strict=False))


def test_path_of_flux_pipeline(pipeline, teacher, tmp_path):
    batch = batches(pipeline, teacher, tmp_path)[3]
    options = replace(OPTIONS, sigmas="path", num_inference_steps=4)
    task = DistillationLoss(pipeline, options, torch.device("cpu"))
    prompt_embeds, pooled = batch["prompt_embeds"], batch["pooled"]
    reached = set()
    for seed in range(4):
        torch.manual_seed(seed)
        with torch.no_grad():
            latents, timestep = task._along_path(prompt_embeds, pooled)
        torch.manual_seed(seed)
        path = dict(flux_path(pipeline, prompt_embeds, pooled, torch.randn(len(pooled), 16, 16)))
        for row, time in enumerate(timestep.tolist()):
            reached.add(time)
            torch.testing.assert_close(latents[row], path[time][row], rtol=1e-4, atol=1e-4)
    assert len(reached) > 2


def test_guidance(qwen_vl_directory, teacher, tmp_path):
    pipeline = build_pipeline(qwen_vl_directory, guidance=True)
    batch = batches(pipeline, teacher, tmp_path)[0]
    weak, strong = (terms_and_gradients(pipeline, batch, replace(OPTIONS, guidance_scale=g))[0] for g in (1.0, 30.0))
    assert weak["attention"] != strong["attention"]

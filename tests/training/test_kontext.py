"""A LoRA for a FLUX.1 Kontext, from pairs of images: the source is read as FluxKontextPipeline reads it."""

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxKontextPipeline
from PIL import Image
from safetensors.torch import load_file
from training.tiny import JOINT, POOLED, build_transformer, build_vae

from x2i_app.cli import main
from x2i_app.models import AlignNet
from x2i_app.training.frozen import read_mllm_sizes
from x2i_app.training.image_data import to_pixels
from x2i_app.training.losses import FlowMatching


def test_a_reference_is_read_as_by_kontext():
    transformer, vae, calls = build_transformer(), build_vae().eval(), []
    transformer.register_forward_pre_hook(lambda _, args, kwargs: calls.append(kwargs), with_kwargs=True)
    image = Image.effect_noise((64, 64), 90).convert("RGB")
    text = {"prompt_embeds": torch.zeros(1, 5, JOINT), "pooled_prompt_embeds": torch.zeros(1, POOLED)}
    no_text = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    pipeline = FluxKontextPipeline(FlowMatchEulerDiscreteScheduler(), vae, transformer=transformer, **no_text)
    size = {"width": 64, "height": 64, "max_area": 64 * 64, "_auto_resize": False, "num_inference_steps": 1}
    pipeline(image=image, **size, **text, output_type="latent")
    with torch.no_grad():
        reference = vae.encode(to_pixels(image, (64, 64))[None]).latent_dist.mean
        loss = FlowMatching(transformer, {})(torch.zeros_like(reference), *text.values(), reference=reference)
    drawn, trained = calls
    torch.testing.assert_close(trained["img_ids"], drawn["img_ids"])
    tokens = len(drawn["img_ids"]) // 2
    torch.testing.assert_close(trained["hidden_states"][:, tokens:], drawn["hidden_states"][:, tokens:])
    assert loss.isfinite()


@pytest.fixture
def job(tmp_path, qwen_vl_directory, flux_directory):
    """The arguments of a run over tiny models, and pairs of several shapes."""
    states, width = read_mllm_sizes("custom:qwen2.5-vl", qwen_vl_directory)
    AlignNet(states, width, joint_dim=JOINT, pooled_dim=POOLED).save_pretrained(tmp_path / "align")
    for index, (color, size) in enumerate((("red", (64, 64)), ("green", (96, 60)), ("blue", (64, 64)))):
        for folder, shade in (("source", color), ("target", "white")):
            (tmp_path / "pairs" / folder).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size, shade).save(tmp_path / f"pairs/{folder}/{index}.png")
        (tmp_path / f"pairs/target/{index}.txt").write_text("make it white")
    job = ("train", "lora", "--data", tmp_path / "pairs", "--output", tmp_path / "run", "--preset", "custom:qwen2.5-vl")
    job += ("--mllm", qwen_vl_directory, "--flux", flux_directory, "--alignnet", tmp_path / "align")
    return (*job, "--resolution", 64, "--steps", 2, "--rank", 2, "--workers", 0, "--mixed-precision", "no")


def start(*arguments):
    return main([str(argument) for argument in arguments])


def test_a_lora_of_edits(job, tmp_path):
    more = ("--kontext", "true", "--batch-size", 3, "--evaluate-every", 2, "--samples", 2, "--num-inference-steps", 1)
    assert start(*job, *more) == 0
    edits = load_file(tmp_path / "run/lora.safetensors")
    sheet = np.asarray(Image.open(tmp_path / "run/contact-sheet.png"))
    assert sheet.shape[0] > 4 * 256  # source, image, without and with the LoRA
    # The same pairs without --kontext: the MLLM reads the source, and FLUX does not.
    assert start(*job, "--batch-size", 3, "--evaluate-every", 0, "--output", tmp_path / "other") == 0
    plain = load_file(tmp_path / "other/lora.safetensors")
    assert edits.keys() == plain.keys()
    assert not all(torch.equal(edits[name], plain[name]) for name in edits)


def test_kontext_needs_pairs(job, tmp_path, capsys):
    for path in (tmp_path / "pairs/source").iterdir():
        path.unlink()
    assert start(*job, "--kontext", "true") == 2
    assert "x2i: " in (said := capsys.readouterr().err)
    assert "there is no image '0' in the folder source" in said
    assert start(*job, "--kontext", "true", "--sample-prompts", "a cat") == 2
    assert "which also needs an image for each" in capsys.readouterr().err

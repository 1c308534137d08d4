"""The plan of a distillation step is the step itself, taken on the meta device."""

import json
from dataclasses import replace

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from torch.nn.attention import SDPBackend, sdpa_kernel

from x2i_app.cli import main
from x2i_app.loading.plan import GIB, OVERHEAD
from x2i_app.loading.sizes import LiveBytes, build_skeleton
from x2i_app.models import AlignNet
from x2i_app.settings import ASSETS
from x2i_app.training import DistillOptions
from x2i_app.training.distill import DistillationLoss
from x2i_app.training.frozen import FluxParts
from x2i_app.training.plan import _take_step, plan_distillation, show_distillation

SMALL = DistillOptions(resolution=128, max_sequence_length=32)


def test_one_card_is_enough_at_full_size():
    whole, small = plan_distillation(build_skeleton("qwen2.5-vl-7b", flux="flux.1-dev"))
    assert (whole.precision, small.precision) == ("full", "nf4")
    assert whole.needed - OVERHEAD < 27 * GIB
    assert small.needed - OVERHEAD < 10.5 * GIB
    page = (ASSETS.parent / "docs/MODELS.md").read_text(encoding="utf-8")
    assert "-m x2i_app plan --preset qwen2.5-vl-7b --flux flux.1-dev --distill\n" in page
    assert show_distillation([whole, small]) in page
    # 57 blocks' image tokens at 1024 x 1024, which the teacher says before the student does.
    assert whole.work > 57 * 4096 * 3072 * 2


def test_it_is_what_a_real_step_holds():
    """The same modules with numbers in them, on a CPU."""
    skeleton = build_skeleton("x2i-tiny", dtype=torch.float32)
    skeleton.align_net.requires_grad_(True)
    planned = _take_step(skeleton, SMALL)
    torch.manual_seed(0)
    flux = FluxTransformer2DModel.from_config(skeleton.transformer.config).eval().requires_grad_(False)
    align_net = AlignNet.from_config(skeleton.align_net.config)
    assert planned == pytest.approx(real_step(flux, align_net, skeleton.vae), rel=0.1)


def real_step(flux, align_net, vae):
    task = DistillationLoss(FluxParts(flux, vae, FlowMatchEulerDiscreteScheduler()), SMALL, torch.device("cpu"))
    task._fast_backward = lambda: sdpa_kernel(SDPBackend.FLASH_ATTENTION)  # as on a card
    config, tokens = align_net.config, SMALL.max_sequence_length
    with LiveBytes([flux, align_net]) as live:
        batch = {
            "prompt_embeds": torch.randn(1, tokens, flux.config.joint_attention_dim),
            "pooled": torch.randn(1, flux.config.pooled_projection_dim),
            "hidden_states": torch.randn(1, config.num_states, tokens, config.hidden_size),
        }
        sum(task(align_net, batch).values()).backward()
    return live.peak


def test_checkpointing_saves_memory_and_more_captions_cost_it():
    def work(options, checkpointing):
        return plan_distillation(build_skeleton("x2i-tiny"), options, checkpointing)[0].work

    assert work(SMALL, True) < 0.8 * work(SMALL, False)
    assert work(replace(SMALL, batch_size=2), True) > 1.5 * work(SMALL, True)


def test_the_command_prints_it(capsys):
    assert main(["plan", "--distill"]) == 0
    assert "| FLUX   | its weights | AlignNet and optimizer | a step | needed |" in capsys.readouterr().out
    assert main(["plan", "--distill", "--json"]) == 0
    plans = json.loads(capsys.readouterr().out)
    assert [plan["precision"] for plan in plans] == ["full", "nf4"]
    assert all(plan["needed"] > plan["weights"] + plan["work"] for plan in plans)


def test_the_command_uses_the_size(capsys):
    def work(*flags):
        assert main(["plan", "--distill", "--json", *flags]) == 0
        return json.loads(capsys.readouterr().out)[0]["work"]

    assert work("--width", "64") == work("--height", "64") == work("--width", "64", "--height", "64")
    assert work("--width", "64") < work("--width", "256") < work()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--distill", "--gib", "8"), "--gib is about generating an image, and --distill plans a step of training"),
        (("--distill", "--all"), "--all is about generating an image"),
        (("--distill", "--profile", "8gb"), "--profile is about generating an image"),
        (("--distill", "--light-control", "x"), "--light-control is about generating an image"),
        (("--distill", "--kontext", "yes"), "--kontext is about generating an image"),
        (("--distill", "--width", "64", "--height", "128"), "--width is 64 and --height is 128, and a step"),
        (("--distill", "--width", "30"), "width is 30"),
        (("--all", "--profile", "8gb"), "--all shows every profile, and --profile one"),
    ],
)
def test_the_command_drops_no_flag(capsys, flags, said):
    assert main(["plan", *flags]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"x2i: {said}")
    assert printed.err.count("\n") == 1


def test_variables_for_all_commands_are_no_flags(capsys, monkeypatch):
    monkeypatch.setenv("X2I_PROFILE", "8gb")
    assert main(["plan", "--distill", "--width", "64"]) == 0
    assert "| FLUX" in capsys.readouterr().out


def test_plan_of_a_lora_and_a_light_control(capsys, monkeypatch):
    """Quantized weights, smaller images and a smaller optimizer need less; nothing is loaded, and no data is read."""
    monkeypatch.setattr("x2i_app.training.plan.GIB", 2**10)  # x2i-tiny has kilobytes
    job = ("--plan", "--data", "none", "--output", "none")

    def needed(*more):
        assert main(["train", *more, *job]) == 0
        rows = [row.split("|")[1:-1] for row in capsys.readouterr().out.splitlines()[2:]]
        return {(row[0].strip(), row[1].strip().partition(" ")[0]): float(row[6]) for row in rows}

    plans = needed("lora")
    assert sorted({side for _, side in plans}, key=int) == ["64", "96", "128"]
    assert plans["4 bit", "128"] < plans["8 bit", "128"] < plans["16 bit", "128"]
    assert plans["16 bit", "64"] < plans["16 bit", "128"]
    smaller = needed(
        "lora", "--optimizer", "adamw8bit", "--learning-rate", "1e-4", "--rank", "4", "--resolution", "128"
    )
    assert smaller["16 bit", "128"] < plans["16 bit", "128"]
    assert needed("light-control", "--batch-size", "8")["16 bit", "128"] > needed("light-control")["16 bit", "128"]

"""LightControl learns on a tiny transformer, which stays as it is; a resumed run equals an uninterrupted one."""

import json

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch.utils.data import Dataset
from training.tiny import JOINT, POOLED, build_transformer

from x2i_app.models import LightControl
from x2i_app.training.frozen import FluxParts
from x2i_app.training.light_control import train_light_control
from x2i_app.training.loop import LoopOptions

SCHEDULER = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)


class Pairs(Dataset):
    """The target is the source itself, as latents of one of four images."""

    def __getitem__(self, step):
        generator = torch.Generator().manual_seed(step % 4)
        source = torch.rand(4, 3, 64, 64, generator=generator).round() * 2 - 1
        latents = torch.nn.functional.avg_pool2d(source, 8)
        text = {"prompt_embeds": torch.zeros(4, 3, JOINT), "pooled": torch.zeros(4, POOLED)}
        return {"source": source, "latents": 4 * torch.cat([latents, latents[:, :1]], dim=1)} | text


def run(directory, steps, stop_at=None):
    torch.manual_seed(0)
    light_control = LightControl(num_blocks=2, dim=32, widths=(8, 8, 16), time_embed_dim=8)
    transformer = build_transformer()
    frozen = {name: value.clone() for name, value in transformer.state_dict().items()}
    options = LoopOptions(
        steps=steps, learning_rate=2e-3, warmup_steps=1, optimizer="muon", ema_decay=None, workers=0, checkpoint_every=5
    )
    flux = FluxParts(transformer, None, SCHEDULER)
    train_light_control(light_control, flux, Pairs(), directory, options, stop_at=stop_at)
    assert all(torch.equal(value, frozen[name]) for name, value in transformer.state_dict().items())
    return light_control


def test_loss_falls_and_nothing_else_changes(tmp_path):
    run(tmp_path, 40)
    records = (tmp_path / "history.jsonl").read_text().splitlines()
    losses = [json.loads(record)["flow"] for record in records]
    assert sum(losses[-2:]) < 0.9 * sum(losses[:2])


def test_resumed_run(tmp_path):
    whole = run(tmp_path / "whole", 10)
    run(tmp_path / "stopped", 10, stop_at=4)
    resumed = run(tmp_path / "stopped", 10)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name

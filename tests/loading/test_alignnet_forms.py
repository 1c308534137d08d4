"""`x2i align convert`: the same numbers in every form, and what ComfyUI's nodes of the reference find in theirs."""

from itertools import pairwise

import pytest
import torch

from x2i_app.cli import main
from x2i_app.loading import load_alignnet
from x2i_app.loading.alignnet_forms import comfyui_config
from x2i_app.models import AlignNet


@pytest.mark.parametrize("fusion", ["conv", "scale"])
def test_there_and_back(tmp_path, capsys, fusion):
    torch.manual_seed(0)
    align_net = AlignNet(5, 32, fusion, 3 if fusion == "conv" else 5, joint_dim=24, pooled_dim=16).bfloat16()
    align_net.save_pretrained(tmp_path / "folder")
    chain = ("folder", "comfyui.pt", "one.safetensors", "again.pt", "back")
    for source, output in pairwise(chain):
        assert main(["align", "convert", "--input", str(tmp_path / source), "--output", str(tmp_path / output)]) == 0
        assert f"5 states of width 32, fused by {fusion}" in capsys.readouterr().out
    found = load_alignnet(tmp_path / "back")
    assert all(align_net.config[name] == value for name, value in found.config.items() if not name.startswith("_"))
    assert all(torch.equal(value, align_net.state_dict()[name]) for name, value in found.state_dict().items())
    assert main(["align", "convert", "--input", str(tmp_path / "back"), "--output", str(tmp_path / "again.pt")]) == 2
    assert "give a new .pt file" in capsys.readouterr().err


def test_what_comfyui_finds(tmp_path):
    """The fields of the reference's own file for Qwen2.5-VL-7B."""
    with torch.device("meta"):
        config = comfyui_config(AlignNet(29, 3584))
    assert config == {
        **{"in_channels": 29, "kernel_size": 5, "input_dim": 3584, "output_dim0": 768, "output_dim1": 4096},
        **{"num_layers": 2, "num_heads": 28, "norm_eps": 1e-6, "head_dim": 128},
        **{"use_t5": False, "use_scale": False, "use_cnn": True},
    }


@pytest.mark.parametrize("arguments", [[], ["convert"], ["convert", "--input", "x", "--output", "y.gguf"], ["turn"]])
def test_bad_input(capsys, arguments):
    assert main(["align", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1

"""A LoRA is looked at before a job does, as the page does with an upload: by its header, and telling no folder."""

import pytest
import torch
from safetensors.torch import save_file

from x2i_app.errors import CheckpointError
from x2i_app.loading.lora import check_lora
from x2i_app.settings import ASSETS

STRIPED = ASSETS / "examples/loras/striped.safetensors"


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("a.pt", lambda path: path.write_bytes(STRIPED.read_bytes()), r"a\.pt is no \.safetensors file"),
        ("a.safetensors", lambda path: path.write_bytes(STRIPED.read_bytes()[:5000]), "is cut or damaged"),
        ("a.safetensors", lambda path: path.write_bytes(b"\x80\x04\x95" + bytes(40)), "is cut or damaged"),
        ("a.safetensors", lambda path: path.write_bytes(b""), "is empty"),
        (
            "a.safetensors",
            lambda path: save_file({str(n): torch.ones(1) for n in range(5001)}, path),
            "has 5,001 tensors and 5,000 are allowed",
        ),
        ("a.safetensors", lambda path: None, r"There is no LoRA 'a\.safetensors'"),
        ("a.safetensors", lambda path: path.mkdir(), "There is no LoRA"),
    ],
    ids=["pickle", "cut", "disguised", "empty", "crowded", "gone", "folder"],
)
def test_what_is_refused_is_told_by_its_name_alone(tmp_path, name, write, words):
    write(tmp_path / name)
    with pytest.raises(CheckpointError, match=words) as raised:
        check_lora(tmp_path / name)
    assert str(tmp_path) not in str(raised.value)


def test_a_whole_one_is_taken():
    check_lora(STRIPED)

"""T14 to T17 and R8 of SECURITY.md: hostile and damaged weight files. tests/loading has more of them."""

import json
import pickle
import random
import re
import zipfile
from copy import copy

import psutil
import pytest
import torch
from safetensors.torch import save, save_file
from safety.corruption import corrupt

from x2i_app.errors import CheckpointError, X2IError
from x2i_app.loading import load_alignnet
from x2i_app.models import AlignNet


@pytest.fixture(scope="module")
def align_net():
    torch.manual_seed(0)
    return AlignNet(num_states=3, hidden_size=6, joint_dim=4, pooled_dim=2)


def packed(source, path):
    """Write the same archive with every entry compressed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))


def test_t15_compressed_entries_are_not_unpacked(tmp_path):
    torch.save({"conv.weight": torch.zeros(1, 3, 3000, 3000)}, tmp_path / "whole.pt")  # 108 MB of zeros
    packed(tmp_path / "whole.pt", tmp_path / "a.pt")
    (tmp_path / "whole.pt").unlink()
    assert (tmp_path / "a.pt").stat().st_size < 10**6
    before = psutil.Process().memory_info().rss
    with pytest.raises(CheckpointError, match=r"a\.pt has compressed entries"):
        load_alignnet(tmp_path / "a.pt")
    assert psutil.Process().memory_info().rss - before < 50e6


def share_bytes(path, entries: int, size: int):
    """Write an archive whose directory says that all entries are the same bytes of the file."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data/0", bytes(size))
        one = archive.infolist()[0]
        for number in range(1, entries):
            twin = copy(one)
            twin.filename = twin.orig_filename = f"archive/data/{number}"
            archive.filelist.append(twin)


def test_t15_entries_that_share_bytes_are_not_read(tmp_path):
    share_bytes(tmp_path / "a.pt", entries=1000, size=10**6)  # 1 GB in 1 MB
    with pytest.raises(CheckpointError, match=r"a\.pt has [\d,]+ bytes but its entries claim 1,000,000,000"):
        load_alignnet(tmp_path / "a.pt")


@pytest.mark.parametrize("cut", [4, 100, -1, -22, -60], ids=["head", "middle", "one byte", "end", "directory"])
def test_r8_a_cut_archive_is_refused_by_name(tmp_path, align_net, cut):
    torch.save(align_net.state_dict(), tmp_path / "a.pt")
    (tmp_path / "a.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:cut])
    with pytest.raises(CheckpointError, match=r"a\.pt is cut or damaged"):
        load_alignnet(tmp_path / "a.pt")


def test_t15_the_older_format_is_read_and_its_bombs_are_not(tmp_path, align_net):
    """PyTorch's format before archives; a bomb is a storage that is larger than the file."""
    torch.save(align_net.state_dict(), tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(load_alignnet(tmp_path / "a.pt").conv.weight, align_net.conv.weight)
    whole = (tmp_path / "a.pt").read_bytes()
    # The device of a storage is followed by its number of elements, as an integer of one, two or four bytes.
    place = re.search(rb"cpuq.(K.|M..|J....)N", whole, re.DOTALL).span(1)
    (tmp_path / "b.pt").write_bytes(whole[: place[0]] + pickle.dumps(2**40, 2)[2:-1] + whole[place[1] :])
    before = psutil.Process().memory_info().rss
    with pytest.raises(CheckpointError, match=r"b\.pt is damaged"):
        load_alignnet(tmp_path / "b.pt")
    assert psutil.Process().memory_info().rss - before < 50e6


@pytest.mark.parametrize(
    "bomb",
    [
        lambda: torch.zeros(60_000).as_strided((40_000, 20_000), (1, 1)),  # overlapping rows: 3.2 GB
        lambda: torch.zeros(1).expand(30_000, 30_000),
    ],
    ids=["overlapping", "repeated"],
)
def test_t15_tensors_larger_than_the_file_are_refused(tmp_path, align_net, bomb):
    key = "mlp.projector.0.weight"  # its shape gives the width of an AlignNet
    torch.save(align_net.state_dict() | {key: bomb()}, tmp_path / "a.bin")
    before = psutil.Process().memory_info().rss
    with pytest.raises(CheckpointError, match=r"a\.bin has [\d,]+ bytes but its weights claim [\d,]+"):
        load_alignnet(tmp_path / "a.bin")
    assert psutil.Process().memory_info().rss - before < 50e6


def header(**changes) -> bytes:
    """A safetensors file with a wrong header."""
    tensor = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} | changes
    text = json.dumps({"conv.weight": tensor}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(16)


@pytest.mark.parametrize(
    "content",
    [
        header(shape=[2**31, 2**31]),
        header(shape=[-1, -4]),
        header(data_offsets=[0, 2**40]),
        header(data_offsets=[8, 0]),
        header(dtype="F1"),
        header(shape="2x2"),
        (2**63).to_bytes(8, "little") + bytes(100),
        (10**8).to_bytes(8, "little") + b"{",
        (2).to_bytes(8, "little") + b"{}",
        (20_000).to_bytes(8, "little") + b"[" * 20_000,
        save({"__metadata__": torch.zeros(1)}),
    ],
    ids=range(11),
)
def test_r8_a_wrong_safetensors_header_is_refused_by_name(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.safetensors"):
        load_alignnet(tmp_path / "a.safetensors")


class Bomb:
    """A pickle of this object writes a file when it is loaded."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return open, (str(self.canary), "w")


@pytest.mark.parametrize("name", ["a.pt", "a.bin", "a.BIN", "a.safetensors", "a.SafeTensors"])
def test_t14_a_pickle_runs_no_code(tmp_path, name):
    torch.save({"conv.weight": Bomb(tmp_path / "ran")}, tmp_path / name)
    with pytest.raises(CheckpointError, match=re.escape(name)):
        load_alignnet(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(("form", "times"), [("safetensors", 20), ("pt", 4), ("bin", 2)])
def test_r8_corrupted_weights(tmp_path, align_net, form, times, fuzz_rounds):
    """Each file is loaded or refused in one sentence with its name, and the process does not grow."""
    good, path = tmp_path / f"good.{form}", tmp_path / f"corrupted.{form}"
    if form == "safetensors":
        save_file(align_net.state_dict(), good)
    else:  # .bin has the older format
        torch.save(align_net.state_dict(), good, _use_new_zipfile_serialization=form == "pt")
    whole, rng = good.read_bytes(), random.Random(form)
    before = psutil.Process().memory_info().rss
    refused = 0
    for _ in range(fuzz_rounds * times):
        path.write_bytes(corrupt(whole, rng))
        sentence = complaint(path)
        assert sentence is None or (path.name in sentence and len(sentence) < 600)
        refused += sentence is not None
    assert refused > fuzz_rounds
    assert psutil.Process().memory_info().rss - before < 200e6


def complaint(path) -> str | None:
    """The sentence that refuses a file; None if it is loaded."""
    try:
        load_alignnet(path)
    except X2IError as error:
        return str(error)
    return None

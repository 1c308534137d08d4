"""T14 to T17 and R8 of SECURITY.md: weights of strangers. tests/loading has more of them."""

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
from safety.corruption import mutate

from x2i_app.errors import CheckpointError, X2IError
from x2i_app.loading import load_alignnet
from x2i_app.models import AlignNet


@pytest.fixture(scope="module")
def align_net():
    torch.manual_seed(0)
    return AlignNet(num_states=3, hidden_size=6, joint_dim=4, pooled_dim=2)


def packed(source, path):
    """The same archive with every entry compressed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))


def test_t15_compressed_entries_are_refused_before_they_are_unpacked(tmp_path):
    torch.save({"conv.weight": torch.zeros(1, 3, 3000, 3000)}, tmp_path / "whole.pt")  # 108 MB of zeros
    packed(tmp_path / "whole.pt", tmp_path / "a.pt")
    (tmp_path / "whole.pt").unlink()
    assert (tmp_path / "a.pt").stat().st_size < 10**6
    before = psutil.Process().memory_info().rss
    with pytest.raises(CheckpointError, match=r"a\.pt has compressed entries"):
        load_alignnet(tmp_path / "a.pt")
    assert psutil.Process().memory_info().rss - before < 50e6


def claim(path, entries: int, size: int):
    """An archive whose directory says of many entries that they are the same bytes, all of them."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data/0", bytes(size))
        one = archive.infolist()[0]
        for number in range(1, entries):
            twin = copy(one)
            twin.filename = twin.orig_filename = f"archive/data/{number}"
            archive.filelist.append(twin)


def test_t15_entries_that_share_their_bytes_are_refused_before_they_are_read(tmp_path):
    claim(tmp_path / "a.pt", entries=1000, size=10**6)  # 1 GB in 1 MB
    with pytest.raises(CheckpointError, match=r"a\.pt has [\d,]+ bytes but its entries claim 1,000,000,000"):
        load_alignnet(tmp_path / "a.pt")


@pytest.mark.parametrize("cut", [4, 100, -1, -22, -60], ids=["head", "middle", "one byte", "end", "directory"])
def test_r8_an_archive_without_its_directory_is_a_named_error(tmp_path, align_net, cut):
    torch.save(align_net.state_dict(), tmp_path / "a.pt")
    (tmp_path / "a.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:cut])
    with pytest.raises(CheckpointError, match=r"a\.pt is cut or damaged"):
        load_alignnet(tmp_path / "a.pt")


def test_t15_the_older_form_is_read_and_its_bombs_are_not(tmp_path, align_net):
    """Files from before archives: the same weights, or a sentence about storages that the file has no bytes for."""
    torch.save(align_net.state_dict(), tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(load_alignnet(tmp_path / "a.pt").conv.weight, align_net.conv.weight)
    whole = (tmp_path / "a.pt").read_bytes()
    # Behind a storage's place comes its size in numbers, as an integer of one, two or four bytes.
    numbers = re.search(rb"cpuq.(K.|M..|J....)N", whole, re.DOTALL).span(1)
    (tmp_path / "b.pt").write_bytes(whole[: numbers[0]] + pickle.dumps(2**40, 2)[2:-1] + whole[numbers[1] :])
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
def test_t15_weights_that_claim_more_numbers_than_the_file_has(tmp_path, align_net, bomb):
    key = "mlp.projector.0.weight"  # its shape says how wide an AlignNet is
    torch.save(align_net.state_dict() | {key: bomb()}, tmp_path / "a.bin")
    before = psutil.Process().memory_info().rss
    with pytest.raises(CheckpointError, match=r"a\.bin has [\d,]+ bytes but its weights claim [\d,]+"):
        load_alignnet(tmp_path / "a.bin")
    assert psutil.Process().memory_info().rss - before < 50e6


def header(**changes) -> bytes:
    """A safetensors file with a header that lies."""
    tensor = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} | changes
    words = json.dumps({"conv.weight": tensor}).encode()
    return len(words).to_bytes(8, "little") + words + bytes(16)


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
def test_r8_a_safetensors_header_that_lies_is_a_named_error(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.safetensors"):
        load_alignnet(tmp_path / "a.safetensors")


class Bomb:
    """Pickled, it asks the loader to write a file."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return open, (str(self.canary), "w")


@pytest.mark.parametrize("name", ["a.pt", "a.bin", "a.BIN", "a.safetensors", "a.SafeTensors"])
def test_t14_a_pickle_is_not_run_under_any_name(tmp_path, name):
    torch.save({"conv.weight": Bomb(tmp_path / "ran")}, tmp_path / name)
    with pytest.raises(CheckpointError, match=name.split(".")[0]):
        load_alignnet(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(("form", "times"), [("safetensors", 20), ("pt", 4), ("bin", 2)])
def test_weights_that_were_bent_anywhere_load_or_are_refused_in_one_sentence(
    tmp_path, align_net, form, times, fuzz_rounds
):
    """Mutation fuzzing: flipped, cut, doubled and swapped bytes; the same process goes on, within its memory."""
    good, path = tmp_path / f"good.{form}", tmp_path / f"bent.{form}"
    if form == "safetensors":
        save_file(align_net.state_dict(), good)
    else:  # .bin stands for the older form
        torch.save(align_net.state_dict(), good, _use_new_zipfile_serialization=form == "pt")
    whole, chance = good.read_bytes(), random.Random(form)
    before = psutil.Process().memory_info().rss
    refused = 0
    for _ in range(fuzz_rounds * times):
        path.write_bytes(mutate(whole, chance))
        said = complaint(path)
        assert said is None or (path.name in said and len(said) < 600)
        refused += said is not None
    assert refused > fuzz_rounds
    assert psutil.Process().memory_info().rss - before < 200e6


def complaint(path) -> str | None:
    try:
        load_alignnet(path)
    except X2IError as error:
        return str(error)
    return None

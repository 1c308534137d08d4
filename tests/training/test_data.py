"""Samples from real shards, folders and files; broken ones are named, and too many of them stop the run."""

import io
import json
import pickle
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from x2i_app.errors import MediaError, TrainingError
from x2i_app.training.caption_data import read_captions
from x2i_app.training.image_data import open_image, to_pixels
from x2i_app.training.samples import Broken, Span, find_files, find_samples


def write_shard(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as shard:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))
    return path


def pair(number: int) -> dict[str, bytes]:
    caption = json.dumps({"caption": f"caption {number}"}).encode()
    return {f"{number:04d}.jpg": b"jpg %d" % number, f"{number:04d}.cond.png": b"png", f"{number:04d}.json": caption}


@pytest.fixture
def shards(tmp_path):
    for index in range(3):
        write_shard(tmp_path / f"s-{index:02d}.tar", pair(2 * index) | pair(2 * index + 1))
    return tmp_path


@pytest.fixture
def broken():
    return Broken(limit=2)


def captions(source, broken, field="caption"):
    return [each.caption for each in read_captions([source], field, broken)]


@pytest.mark.parametrize("pattern", ["", "s-*.tar", "s-{00..02}.tar", "s-{00,01,02}.tar", "s-0{0..2}.tar"])
def test_shards(shards, broken, pattern):
    samples = find_samples(shards / pattern, broken)
    assert [sample.read("jpg") for sample in samples] == [b"jpg %d" % number for number in range(6)]
    assert sorted(samples[0].parts) == ["cond.png", "jpg", "json"]
    assert samples[5].read_json() == {"caption": "caption 5"}
    assert samples[5].key == f"{shards}/s-02.tar/0005"
    assert captions(shards / pattern, broken) == [f"caption {number}" for number in range(6)]
    assert broken.names == []


def test_folders_jsonl_and_text(tmp_path, broken):
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    for name, content in (("b.txt", "two\n"), ("a.txt", " one "), ("deep/c.txt", "three"), (".hidden.txt", "no")):
        (tmp_path / "folder" / name).write_text(content)
    assert captions(tmp_path / "folder", broken) == ["one", "two", "three"]
    (tmp_path / "x.jsonl").write_text('{"text": "eins"}\n\n{"text": "zwei"}\n{"text": "eins"}\n')
    assert captions(tmp_path / "x.jsonl", broken, "text") == ["eins", "zwei", "eins"]
    (tmp_path / "x.txt").write_text("a house\n\na tree\n")
    assert captions(tmp_path / "x.txt", broken) == ["a house", "a tree"]
    assert broken.names == []


def test_names_with_dots(tmp_path, broken):
    names = (
        "Screen 10.23.11.PNG",
        "Screen 10.23.11.txt",
        "Screen 10.jpg",
        "Screen 10.txt",
        "Screen 10.k.jpg",
        ".DS_Store",
    )
    for name in names:
        (tmp_path / name).touch()
    assert {Path(sample.key).name: sorted(sample.parts) for sample in find_samples(tmp_path, broken)} == {
        "Screen 10": ["jpg", "txt"],
        "Screen 10.23.11": ["png", "txt"],
        "Screen 10.k": ["jpg"],
    }


@pytest.mark.parametrize("size", [512 * 10 + 300, 512 * 10, 512 * 11 + 8])
def test_broken_samples(shards, broken, capsys, size):
    path = shards / "s-01.tar"
    path.write_bytes(path.read_bytes()[:size])  # inside the header of 0003.json, before it, and inside its content
    assert captions(shards, broken) == [f"caption {number}" for number in (0, 1, 2, 4, 5)]
    assert broken.names == [str(path), f"{path}/0003"]
    assert f"Left out {path}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "record", [b"{", b"[1]", b'{"text": "a"}', b'{"caption": 3}', b'{"caption": " "}', b"\xff\xff"]
)
def test_too_many_broken_samples(tmp_path, record):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\n".join([record, b'{"caption": "good"}', record, record]))
    assert captions(path, Broken(3)) == ["good"]
    with pytest.raises(TrainingError, match=r"3 samples are broken and 2 may be, the last one is .*x\.jsonl:4"):
        captions(path, Broken(2))


def test_links_and_pickles_in_shards(tmp_path, broken):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    path = write_shard(tmp_path / "x.tar", {"0.pyd": pickle.dumps(Bomb()), "0.txt": b"a house"})
    with tarfile.open(path, "a") as shard:
        link = tarfile.TarInfo("1.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        shard.addfile(link)
    assert captions(path, broken) == ["a house"]
    assert broken.names == [f"{path}/1.txt"]
    assert not (tmp_path / "ran").exists()


def test_missing_data(tmp_path, broken):
    for source in ("nothing.tar", "s-{0..3}.tar", "*.tar"):
        with pytest.raises(TrainingError, match=r"There is no .*; give a \.tar"):
            find_files(tmp_path / source)
    (tmp_path / "x.zip").touch()
    with pytest.raises(TrainingError, match="is not a data file"):
        find_samples(tmp_path / "x.zip", broken)
    with pytest.raises(TrainingError, match="no captions"):
        captions(tmp_path, Broken(9))
    (tmp_path / "x.tar").write_bytes(b"<html>" * 300)
    with pytest.raises(TrainingError, match="holds no samples"):
        find_samples(tmp_path / "x.tar", broken)
    assert broken.names == [str(tmp_path / "x.tar")]


def test_span(tmp_path):
    """It reads its own bytes, and reports a file that ends too early."""
    path = tmp_path / "x"
    path.write_bytes(b"0123456789")
    assert Span(path, 2, 3).read() == b"234"
    assert Span(path, 7, 3).read() == b"789"
    with pytest.raises(OSError, match="x is cut"):
        Span(path, 8, 3).read()


def test_taught_field_and_images(tmp_path, broken):
    """The teacher may read another field; an image beside a caption is found."""
    (tmp_path / "a.json").write_text('{"caption": "eins", "meant": "one"}')
    (tmp_path / "a.webp").write_bytes(b"image")
    (tmp_path / "b.json").write_text('{"caption": "zwei"}')
    (only,) = read_captions([tmp_path], "caption", broken, "meant")
    assert (only.caption, only.taught, only.image.read()) == ("eins", "one", b"image")
    assert broken.names == [str(tmp_path / "b")]


def test_open_image_and_square():
    """An image is turned upright, cut to its middle square and scaled to [-1, 1]."""
    content, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    wide = Image.new("RGB", (60, 20), "white")
    wide.paste("black", (20, 0, 40, 20))
    wide.save(content, "PNG", exif=exif)
    image = open_image(content.getvalue())
    assert image.size == (20, 60)
    assert (to_pixels(image, (20, 20)) == -1).all()
    assert (to_pixels(Image.new("RGB", (8, 8), "white"), (4, 4)) == 1).all()
    with pytest.raises(MediaError, match=r"12,501 x 12,000 pixels"):
        open_image(huge_png())
    with pytest.raises(MediaError):
        open_image(b"GIF89a")


def huge_png() -> bytes:
    """A PNG that says it has one row of pixels more than allowed."""
    content = io.BytesIO()
    Image.new("1", (12_501, 12_000)).save(content, "PNG")
    return content.getvalue()

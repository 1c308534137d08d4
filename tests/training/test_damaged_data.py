"""Whatever the bytes of a training file are, it is counted and named, and all other samples are read."""

import io
import itertools
import json
import struct
import tarfile
import zlib
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.training.test_data import write_shard
from x2i_app.errors import TrainingError
from x2i_app.training.caption_data import read_captions
from x2i_app.training.image_data import leave_out_broken_images, read_images
from x2i_app.training.samples import Broken, find_files, find_samples


def as_bytes(form: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((24, 16)).convert("RGB").save(buffer, form, **options)
    return buffer.getvalue()


GOOD = {"png": as_bytes("PNG"), "jpg": as_bytes("JPEG"), "webp": as_bytes("WebP")}


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A 1-bit PNG of that size that ends where its pixels should begin."""
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)) + b"".join(chunks)
    )


EXIF = Image.Exif()
EXIF[0x0112] = 6
IMAGES = {
    "bomb of 177 megapixels": png(13_300, 13_300, chunk(b"IDAT", zlib.compress(bytes(1000)))),
    "bomb of 4 gigapixels": png(65_000, 65_000, chunk(b"IDAT", b"")),
    "text that unpacks to 200 MB": png(9, 9, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2 * 10**8)))),
    "broken chunk": png(9, 9, b"\0\0\0\5\xff\xff\xff\xffabcde"),
    "no pixels": png(0, 0),
    "negative chunk": png(9, 9, b"\xff\xff\xff\xffIDAT"),
    "EXIF that ends early": as_bytes("JPEG", exif=EXIF.tobytes()[:-9]),
    "EXIF of ones": as_bytes("JPEG", exif=b"Exif\0\0" + b"\xff" * 40),
    "only a JPEG's marker": b"\xff\xd8\xff",
    "WebP of a size that it has not": b"RIFF\xff\xff\xff\xffWEBPVP8L\xff\xff\xff\xff/",
    "nothing": b"",
    "HTML": b"<html>",
    "a PSD": b"8BPS\0\1",
}
JSONS = {
    "a bomb of brackets": b"[" * 200_000,
    "objects in objects": b'{"caption":' * 50_000,
    "an integer of 5,000 digits": b'{"caption": ' + b"9" * 5000 + b"}",
    "a NUL": b'{"caption": "a\\u0000"}',
    "half a character": b'{"caption": "\\ud800"}',
    "a list as a caption": b'{"caption": [[[]]]}',
    "not UTF-8": b'{"caption": "\xff"}',
    "a field with a terminal code": b'{"\\u001b[2Jx": 1}',
    "a long one": b'{"caption": "' + b"a" * 5_000_000 + b'"}',
    "a caption of 9,000 letters": b'{"caption": "' + b"a" * 9000 + b'"}',
    "a number": b"5",
    "nothing": b"",
}


def names(broken: Broken) -> list[str]:
    return [Path(name).name for name in broken.names]


@pytest.mark.parametrize("in_shard", [False, True])
def test_r16_images(tmp_path, in_shard):
    """Beside a good one, in a folder and in a shard."""
    files = {"good.png": GOOD["png"], "good.txt": b"a house"}
    for number, content in enumerate(IMAGES.values()):
        files |= {f"x{number}.png": content, f"x{number}.txt": b"a tree"}
    if in_shard:
        source = write_shard(tmp_path / "a.tar", files)
    else:
        source = tmp_path
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
    broken = Broken(len(IMAGES))
    (only, *readable) = read_images([str(source)], "caption", broken, with_source=False)
    assert only.caption == "a house"
    assert len(broken.names) + len(readable) == len(IMAGES)
    assert {image.caption for image in readable} <= {"a tree"}
    for image in readable:
        image.open("png").load()
    captions = read_captions([source], "caption", Broken(0))
    left = Broken(len(IMAGES))
    assert len(leave_out_broken_images(captions, left)) == 1 + len(readable)
    assert len(left.names) == len(broken.names)


@pytest.mark.parametrize("kind", ["jsonl", "shard", "folder"])
def test_r16_captions(tmp_path, kind, capsys):
    contents = [b'{"caption": "first"}', *JSONS.values(), b'{"caption": "last"}']
    files = {f"{number:02}.json": content for number, content in enumerate(contents)}
    source = tmp_path / "data"
    if kind == "jsonl":
        source = tmp_path / "a.jsonl"
        source.write_bytes(b"\n".join(contents))
    elif kind == "shard":
        source = write_shard(tmp_path / "a.tar", files)
    else:
        source.mkdir()
        for name, content in files.items():
            (source / name).write_bytes(content)
    broken = Broken(len(JSONS))
    assert [each.caption for each in read_captions([source], "caption", broken)] == ["first", "last"]
    empty = kind == "jsonl"  # an empty row is no record
    assert len(broken.names) == len(JSONS) - empty
    output = capsys.readouterr().err
    assert "\x1b" not in output
    assert max(map(len, output.splitlines())) < 1000


def test_r16_one_more_than_allowed(tmp_path):
    source = tmp_path / "a.jsonl"
    source.write_bytes(b'{"caption": "good"}\n' + b"[" * 100_000 + b"\n\xff")
    assert len(read_captions([source], "caption", Broken(2))) == 1
    with pytest.raises(TrainingError, match=r"2 samples are broken and 1 may be, the last one is .*a\.jsonl:3"):
        read_captions([source], "caption", Broken(1))


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, size: int | None = None, **values) -> bytes:
    """A header of a tar file, whose size may be any, and its content."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for key, value in values.items():
        setattr(info, key, value)
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    if size is not None:
        header[124:136] = (
            b"\x80" + size.to_bytes(11, "big") if size >= 0 else b"\xff" + size.to_bytes(11, "big", signed=True)
        )
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content + bytes(-len(content) % 512)


def pax(**records: str) -> bytes:
    """A pax header for the next member."""
    content = b""
    for key, value in records.items():
        text = f" {key.replace('__', '.')}={value}\n"
        size = next(size for size in itertools.count(len(text)) if len(str(size)) + len(text) == size)
        content += f"{size}{text}".encode()
    return member("pax", content, tarfile.XHDTYPE)


TARS = {
    "negative size": member("a.txt", size=-512),
    "negative size of a pax header": member("a", b"", tarfile.XHDTYPE, size=-512),
    "size of 8 exabytes": member("a.txt", b"a", size=2**63),
    "long name of 8 exabytes": member("a", b"a", tarfile.GNUTYPE_LONGNAME, size=2**63),
    "pax size that is negative": pax(size="-1024") + member("a.txt", b"a house"),
    "pax size that is no number": pax(size="many") + member("a.txt", b"a house"),
    "pax headers without end": b"".join(pax(comment="x") for _ in range(3000)),
    "long names without end": member("n", b"a\0", tarfile.GNUTYPE_LONGNAME) * 3000,
    "sparse": member("a.txt", b"a house", tarfile.GNUTYPE_SPARSE),
    "pax sparse": pax(GNU__sparse__map="0,1000000", GNU__sparse__size="99999999999") + member("a.txt", b"a house"),
    "hard link": member("a.txt", kind=tarfile.LNKTYPE, linkname="0.txt"),
    "symbolic link": member("a.txt", kind=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "device": member("a.txt", kind=tarfile.CHRTYPE, devmajor=1, devminor=5),
    "pipe": member("a.txt", kind=tarfile.FIFOTYPE),
    "wrong checksum": b"\1" * 512,
    "name with a terminal code": member("\x1b[2J.txt", kind=tarfile.SYMTYPE),
}


@pytest.mark.parametrize("what", TARS)
def test_r16_shards(tmp_path, what, capsys):
    """What stands before the damage is read, and so are other shards."""
    source = tmp_path / "a.tar"
    source.write_bytes(member("0.txt", b"a house") + TARS[what] + bytes(1024))
    write_shard(tmp_path / "b.tar", {"1.txt": b"a tree"})
    broken = Broken(2)
    assert [each.caption for each in read_captions([tmp_path], "caption", broken)] == ["a house", "a tree"]
    assert broken.names
    output = capsys.readouterr().err
    assert "\x1b" not in output
    assert ("sparse file" in output) == ("sparse" in what)


def test_r16_long_and_odd_member_names(tmp_path):
    """They are names like others."""
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as shard:
        for name in ("x" * 300 + ".txt", "con.txt", "../../up.txt", "/etc/passwd.txt", "\udcff.txt"):
            info = tarfile.TarInfo(name)
            info.size = 7
            shard.addfile(info, io.BytesIO(b"a house"))
    broken = Broken(0)
    assert len(read_captions([tmp_path], "caption", broken)) == 5
    assert not broken.names


def test_r16_two_parts_of_one_kind(tmp_path):
    """None of them is dropped in silence."""
    source = write_shard(tmp_path / "a.tar", {"0.txt": b"a house", "0.TXT": b"a tree", "1.txt": b"a car"})
    broken = Broken(1)
    assert [each.caption for each in read_captions([source], "caption", broken)] == ["a car"]
    assert names(broken) == ["0"]


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "{0..99999999999}", "{0..9" + "9" * 5000 + "}", "**a*", "\ud800"])
def test_r16_names_of_sources(tmp_path, name):
    with pytest.raises(TrainingError):
        find_files(tmp_path / name)


@pytest.fixture
def rounds(request) -> int:
    return 1000 if request.config.getoption("--fuzz-long") else 40


def fuzz(rounds: int, strategy: st.SearchStrategy, check) -> None:
    relaxed = settings(
        max_examples=rounds, deadline=timedelta(seconds=60), database=None, suppress_health_check=list(HealthCheck)
    )
    relaxed(given(strategy)(check))()


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """`content` with some bytes replaced, inserted or cut."""
    edit = st.tuples(st.integers(0, len(content)), st.binary(max_size=12), st.integers(0, 12))

    def apply(edits):
        found = content
        for place, new, length in edits:
            found = found[:place] + new + found[place + length :]
        return found

    return st.lists(edit, min_size=1, max_size=4).map(apply)


def test_r16_damaged_images(tmp_path, rounds):
    """Each is a sample or a broken one, and the good one is read."""
    (tmp_path / "good.png").write_bytes(GOOD["png"])
    (tmp_path / "good.txt").write_text("a house")
    (tmp_path / "x.txt").write_text("a tree")

    def check(case):
        kind, content = case
        path = tmp_path / f"x.{kind}"
        path.write_bytes(content)
        broken = Broken(1)
        found = read_images([str(tmp_path)], "caption", broken, with_source=False)
        assert found[0].caption == "a house"
        assert len(found) + len(broken.names) == 2
        path.unlink()

    cases = st.sampled_from(list(GOOD)).flatmap(lambda kind: st.tuples(st.just(kind), damaged(GOOD[kind])))
    fuzz(rounds, cases, check)


def test_r16_damaged_shards(tmp_path, rounds):
    shard = write_shard(tmp_path / "x.tar", {"0.json": b'{"caption": "a"}', "1.txt": b"a tree"}).read_bytes()[:2560]
    write_shard(tmp_path / "y.tar", {"1.txt": b"a house"})

    def check(content):
        (tmp_path / "x.tar").write_bytes(content)
        broken = Broken(9)
        assert read_captions([tmp_path], "caption", broken)[-1].caption == "a house"

    fuzz(rounds, damaged(shard) | damaged(pax(path="1.txt", size="7") + shard), check)


def test_r16_damaged_records(tmp_path, rounds):
    source = tmp_path / "x.jsonl"

    def check(content):
        source.write_bytes(b'{"caption": "first"}\n' + content)
        broken = Broken(99)
        assert read_captions([source], "caption", broken)[0].caption == "first"
        assert len(find_samples(source, broken)) <= content.count(b"\n") + 2

    fuzz(rounds, st.binary(max_size=99) | damaged(json.dumps({"caption": "a", "b": [1, {}]}).encode()), check)

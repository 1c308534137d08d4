"""Captions are read as other trainers write them: in any code page, beside an image, in a table, in a folder's name."""

import csv
import json

import pytest
from PIL import Image
from refusals import refuse

from x2i_app.caption_files import decode_text, describe_strangers, find_tables, folder_repeats, is_stranger, read_table
from x2i_app.errors import InvalidRequestError
from x2i_app.rows import describe_passed_over, read_rows
from x2i_app.training.caption_data import read_captions
from x2i_app.training.image_data import read_images
from x2i_app.training.samples import Broken


def write_image(path, color="red"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), color).save(path)
    return path


def training_captions(folder, limit=0, column="caption"):
    return [image.caption for image in read_images([folder], column, Broken(limit), with_source=False)]


def batch_prompts(folder):
    return [row.values["prompt"] for row in read_rows(folder, {})[1]]


TEXTS = {
    "utf-8": "ein grünes Haus, 红色的房子",
    "utf-8-sig": "ein grünes Haus, 红色的房子",
    "utf-16": "ein grünes Haus, 红色的房子",
    "utf-16-le": "a red house on snow",
    "utf-16-be": "a red house on snow",
    "cp1252": "ein grünes Haus auf dem Schnee",
    "gbk": "一座红色的房子",
    "cp1251": "красный дом на снегу",
    "shift_jis": "赤い家と青い空",
}


@pytest.mark.parametrize("encoding", TEXTS)
def test_code_pages(tmp_path, encoding):
    """The same caption in training, in a list of captions and in a batch, without marks and carriage returns."""
    write_image(tmp_path / "data" / "a.png")
    (tmp_path / "data" / "a.txt").write_bytes(f"{TEXTS[encoding]}\r\n".encode(encoding))
    assert training_captions(tmp_path / "data") == [TEXTS[encoding]]
    assert batch_prompts(tmp_path / "data") == [TEXTS[encoding]]
    (tmp_path / "list.txt").write_bytes(f"{TEXTS[encoding]}\r\n{TEXTS[encoding]}\r\n".encode(encoding))
    read = read_captions([tmp_path / "list.txt"], "caption", Broken(0))
    assert [each.caption for each in read] == [TEXTS[encoding]] * 2


@pytest.mark.parametrize("text", ["grün", "Größe", "Äpfel", "café", "ein Mädchen, Straße", "une forêt d'été"])
def test_short_captions_of_the_west(text):
    """Two bytes of a short word are a Chinese letter too."""
    assert decode_text(text.encode("cp1252")) == text


@pytest.mark.parametrize(("text", "encoding"), [("红色的房子", "gbk"), ("дом", "cp1251"), ("紅色", "big5")])
def test_short_captions_of_others(text, encoding):
    assert decode_text(text.encode(encoding)) == text


def test_ends_of_rows():
    assert decode_text(b"\xef\xbb\xbfone\r\ntwo\rthree\n") == "one\ntwo\nthree"
    assert decode_text(b"") == decode_text("\ufeff\n\ufeff".encode()).strip() == ""


def test_captions_with_the_whole_name_of_the_image(tmp_path):
    for name, color in (("one.png", "red"), ("two.v2.JPG", "blue"), ("three.webp", "lime")):
        write_image(tmp_path / name, color)
    for name in ("one.png.txt", "two.v2.JPG.caption", "three.txt"):
        (tmp_path / name).write_text(f"\ufeffof {name}", encoding="utf-8")
    expected = ["of one.png.txt", "of three.txt", "of two.v2.JPG.caption"]
    assert sorted(training_captions(tmp_path)) == sorted(batch_prompts(tmp_path)) == expected
    assert len(list(read_rows(tmp_path, {})[1])) == 3


@pytest.mark.parametrize("separator", [";", "\t"])
def test_tables_of_spreadsheets(tmp_path, separator):
    """Excel writes semicolons in many countries, and tabs as "text"."""
    write_image(tmp_path / "one.png")
    rows = (("file_name", "text"), ("one.png", '"a house, red; and a ""tree"""'))
    (tmp_path / "metadata.csv").write_text("\ufeff" + "\r\n".join(map(separator.join, rows)), encoding="utf-8")
    assert training_captions(tmp_path) == batch_prompts(tmp_path) == ['a house, red; and a "tree"']


def test_spaces_behind_the_commas_of_a_table(tmp_path):
    write_image(tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_text('file_name, text\na.png, "a fox, in snow"\n')
    assert training_captions(tmp_path) == batch_prompts(tmp_path) == ["a fox, in snow"]


def test_names_that_other_systems_spell_differently(tmp_path):
    """A folder zipped on macOS, which takes letters apart, and a table written on Windows, which reads A as a."""
    for name in ("gr\u0075\u0308n.png", "Cat.PNG", "twin.png", "TWIN.png"):
        write_image(tmp_path / name)
    rows = [{"file_name": name, "text": name} for name in ("gr\u00fcn.png", "cat.png", "twin.png", "Twin.png")]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = {row.caption: row.file and row.file.name for row in read_table(tmp_path / "metadata.jsonl")}
    assert found == {"gr\u00fcn.png": "gr\u0075\u0308n.png", "cat.png": "Cat.PNG", "twin.png": "twin.png", None: None}


@pytest.mark.parametrize("folder", ["@eaDir/a.png", "#recycle", "$RECYCLE.BIN", "__MACOSX"])
def test_what_systems_keep_beside_the_images(tmp_path, folder):
    """A Synology NAS keeps thumbnails of each image, and what was deleted."""
    write_image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a fox")
    write_image(tmp_path / folder / "SYNOPHOTO_THUMB_M.png")
    assert training_captions(tmp_path) == batch_prompts(tmp_path) == ["a fox"]


def test_a_quotation_mark_that_is_not_closed(tmp_path):
    write_image(tmp_path / "one.png")
    rows = "\n".join(f"{number}.png,a house" for number in range(20_000))
    (tmp_path / "metadata.csv").write_text(f'file_name,text\none.png,a house\ntwo.png,"a red\n{rows}')
    for read in (training_captions, batch_prompts):
        refuse(InvalidRequestError, read, tmp_path, contains="'metadata.csv' cannot be read as a table")


def test_a_caption_that_is_not_text(tmp_path):
    """The message names the file; in training, the sample is named and counted."""
    write_image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(bytes(range(128, 256)) * 3 + b"\x00\x01")
    (row,) = read_rows(tmp_path, {})[1]
    assert "'a.txt' cannot be read: its text is in an unknown code page; save it as UTF-8." in str(row.error)
    write_image(tmp_path / "b.png")
    (tmp_path / "b.txt").write_text("a house")
    broken = Broken(1)
    assert [image.caption for image in read_images([tmp_path], "caption", broken, with_source=False)] == ["a house"]
    assert broken.names == [str(tmp_path / "a")]


@pytest.mark.parametrize("suffix", ["caption", "CAPTION", "txt"])
def test_caption_suffixes(tmp_path, suffix):
    write_image(tmp_path / "a.png")
    (tmp_path / f"a.{suffix}").write_text("a house")
    assert training_captions(tmp_path) == batch_prompts(tmp_path) == ["a house"]


def test_txt_wins_over_caption(tmp_path):
    write_image(tmp_path / "a.png")
    (tmp_path / "a.caption").write_text("tags")
    (tmp_path / "a.txt").write_text("a house")
    assert training_captions(tmp_path) == batch_prompts(tmp_path) == ["a house"]


def write_table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("\ufeff" + "".join(json.dumps(row) + "\r\n" for row in rows), encoding="utf-8")
        return
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize("table", ["metadata.jsonl", "metadata.csv"])
@pytest.mark.parametrize("column", ["text", "caption", "prompt"])
def test_tables_of_imagefolder(tmp_path, table, column):
    """A table may be in a sub-folder and name files below it; a comma and quotes belong to the caption."""
    write_image(tmp_path / "train" / "one.png")
    write_image(tmp_path / "train" / "deep" / "two.jpg")
    rows = [
        {"file_name": "one.png", column: 'a "red" house, at night'},
        {"file_name": "deep/two.jpg", column: "a tree"},
    ]
    write_table(tmp_path / "train" / table, rows)
    assert sorted(training_captions(tmp_path)) == ['a "red" house, at night', "a tree"]
    assert sorted(batch_prompts(tmp_path)) == ['a "red" house, at night', "a tree"]
    assert describe_passed_over(tmp_path) == ""


@pytest.mark.parametrize("column", ["image", "image_path"])
def test_tables_of_other_trainers(tmp_path, column):
    write_image(tmp_path / "one.png")
    write_table(tmp_path / "metadata.csv", [{column: "one.png", "prompt": "a house"}])
    assert training_captions(tmp_path) == batch_prompts(tmp_path) == ["a house"]
    assert describe_passed_over(tmp_path) == ""


def test_column_of_a_table(tmp_path):
    write_image(tmp_path / "one.png")
    write_table(tmp_path / "metadata.csv", [{"file_name": "one.png", "text": "a house", "german": "ein Haus"}])
    assert training_captions(tmp_path, column="german") == ["ein Haus"]
    assert training_captions(tmp_path) == ["a house"]


def test_a_table_written_from_the_folder_above(tmp_path):
    """As diffusers users have it: the names begin with the folder; a sub-folder of that name is still meant first."""
    folder = write_image(tmp_path / "train" / "one.png").parent
    write_image(folder / "train" / "two.png")
    rows = [{"file_name": f"train/{name}.png", "text": name} for name in ("one", "two")]
    write_table(folder / "metadata.csv", rows)
    assert [row.file for row in read_table(folder / "metadata.csv")] == [folder / "one.png", folder / "train/two.png"]
    assert training_captions(folder) == ["one", "two"]


def test_rows_of_a_table_that_cannot_be_used(tmp_path):
    """Each is named by its row, and no file outside the folder is opened."""
    write_image(tmp_path / "outside.png")
    folder = write_image(tmp_path / "data" / "one.png").parent
    (folder / "metadata.jsonl").write_text(
        '{"file_name": "one.png", "text": "a house"}\n{"file_name": "../outside.png", "text": "no"}\n'
        '{"file_name": "gone.png", "text": "no"}\n{"text": "no"}\n{\n{"file_name": "one.png", "number": 5}\n'
    )
    found = {row.place.rpartition(":")[2]: row.problem for row in read_table(folder / "metadata.jsonl")}
    assert found == {
        "1": "",
        "2": "the file '../outside.png' is outside the folder",
        "3": "there is no file 'gone.png'",
        "4": "it has no file_name",
        "5": "it has no file_name",
        "6": "it has no column 'text' with text, only number",
    }
    assert training_captions(folder, limit=5) == ["a house"]
    rows = list(read_rows(folder, {})[1])
    assert [row.values["prompt"] for row in rows if not row.error] == ["a house"]
    assert len([row for row in rows if row.error]) == 5
    for name in ("/etc/passwd", "C:\\x.png", "..\\outside.png"):
        (folder / "metadata.jsonl").write_text(json.dumps({"file_name": name, "text": "no"}))
        (row,) = read_table(folder / "metadata.jsonl")
        assert "outside the folder" in row.problem


def test_a_comma_without_quotes_cuts_no_caption(tmp_path):
    write_image(tmp_path / "a.png")
    rows = 'a.png,a red house, at night\na.png,"a red house, at night"\n'
    (tmp_path / "metadata.csv").write_text(f"file_name,text\n{rows}")
    cut, whole = read_table(tmp_path / "metadata.csv")
    assert "more columns than the first row; quote text with commas" in cut.problem
    assert whole.caption == "a red house, at night"


def test_other_jsonl_files_are_no_tables(tmp_path):
    """`train captions` reads a folder of JSONL files without images."""
    (tmp_path / "metadata.jsonl").write_text('{"caption": "a house"}\n')
    assert find_tables(tmp_path) == []
    assert [each.caption for each in read_captions([tmp_path], "caption", Broken(0))] == ["a house"]


def test_folders_of_kohya(tmp_path):
    """Their number says how often an image counts, their name what images without a caption show."""
    write_image(tmp_path / "20_red house" / "a.png", "red")
    write_image(tmp_path / "10_tree" / "b.png", "green")
    (tmp_path / "10_tree" / "b.txt").write_text("a green tree")
    assert sorted(training_captions(tmp_path)) == ["a green tree", "red house", "red house"]
    assert training_captions(tmp_path / "20_red house") == ["red house"]
    assert folder_repeats(tmp_path / "3_x" / "deep" / "a.png", tmp_path) == (3, "x")
    assert folder_repeats(tmp_path / "2024_summer" / "a.png", tmp_path) == (1, "")


def test_strangers_are_counted_once(tmp_path, capsys):
    for number in range(3):
        write_image(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(f"house {number}")
        (tmp_path / f"{number}_0128x0128_flux.npz").write_bytes(b"PK")
    for name in ("Thumbs.db", ".DS_Store", "dataset.toml", "desktop.ini", "meta_cap.json.bak"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "sample_prompts.txt").write_text("a car")
    broken = Broken(0)
    found = read_images([tmp_path], "caption", broken, with_source=False)
    assert [image.caption for image in found] == ["house 0", "house 1", "house 2"]
    said = capsys.readouterr().err
    assert said.count("Passed over 7 files that are neither media nor captions (3 .npz, ") == 1
    assert "Passed over 1 captions without an image: sample_prompts." in said
    assert broken.names == []
    assert sorted(batch_prompts(tmp_path)) == ["a car", "house 0", "house 1", "house 2"]
    assert describe_passed_over(tmp_path).startswith("Passed over 7 files")
    assert not is_stranger(tmp_path / "0.png")
    assert describe_strangers([]) == ""


def test_an_empty_caption_is_named(tmp_path, capsys):
    for number, caption in enumerate(("a house", " \r\n", "a tree")):
        write_image(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(caption)
    assert training_captions(tmp_path, limit=1) == ["a house", "a tree"]
    assert f"Left out {tmp_path / '1'}: its caption is empty" in capsys.readouterr().err


def test_pixels_are_those_of_the_page(tmp_path):
    """A transparent image is on white, 16-bit levels keep their brightness, and every kind of image is read."""
    Image.new("RGBA", (16, 16), (255, 0, 0, 0)).save(tmp_path / "a.png")
    Image.new("I;16", (16, 16), 65535 // 2).save(tmp_path / "b.png")
    Image.new("RGB", (16, 16), "lime").save(tmp_path / "c.bmp")
    Image.new("RGB", (16, 16), "lime").save(tmp_path / "d.TIFF")
    for name in "abcd":
        (tmp_path / f"{name}.txt").write_text(name)
    found = read_images([tmp_path], "caption", Broken(0), with_source=False)
    pixels = {image.caption: image.open(image.target).getpixel((3, 3)) for image in found}
    assert pixels == {"a": (255, 255, 255), "b": (127, 127, 127), "c": (0, 255, 0), "d": (0, 255, 0)}


def test_names_that_some_systems_refuse(tmp_path):
    """A batch of a folder writes its images under names that every system allows."""
    for name in ("10:20.png", "con.png", "a?.png", "nul.b.png", "plain.png", "ends. .png"):
        write_image(tmp_path / name)
    names = sorted(row.name for row in read_rows(tmp_path, {"prompt": "x"})[1])
    assert names == ["10_20", "_con", "_nul.b", "a_", "ends", "plain"]


@pytest.mark.parametrize("name", ["con", "NUL", "com1.a", "a:b", "a.", "a ", "lpt9", "x/aux"])
def test_ids_that_some_systems_refuse(tmp_path, name):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"id": name, "prompt": "x"}))
    (row,) = read_rows(tmp_path / "rows.jsonl", {})[1]
    assert "it must be a file name" in str(row.error)


def test_unreadable_tables(tmp_path):
    write_image(tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_bytes(bytes(range(128, 256)) * 3 + b"\x00\x01")
    refuse(InvalidRequestError, read_rows, tmp_path, {}, contains="'metadata.csv' cannot be read")


def test_masks_of_onetrainer(tmp_path):
    """`cat-masklabel.png` lies beside `cat.png` and has no caption of its own."""
    for name in ("cat.png", "cat-masklabel.png", "cat-condlabel.png"):
        write_image(tmp_path / name)
    (tmp_path / "cat.txt").write_text("a cat")
    assert training_captions(tmp_path) == batch_prompts(tmp_path) == ["a cat"]
    assert describe_passed_over(tmp_path).startswith("Passed over 2 files")


@pytest.mark.parametrize("stranger", ["log.jsonl", "backup.tar"])
def test_shards_beside_images_are_strangers(tmp_path, capsys, stranger):
    """A log or an archive in a folder of images does not take the images' place."""
    write_image(tmp_path / "cat.png")
    (tmp_path / "cat.txt").write_text("a cat")
    (tmp_path / stranger).write_text('{"loss": 0.5}\n')
    assert training_captions(tmp_path) == ["a cat"]
    assert "Passed over 1 files" in capsys.readouterr().err

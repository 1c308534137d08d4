"""`x2i caption`: what is written beside images, and what is never replaced."""

import pytest
from PIL import Image

from x2i_app.cli import main
from x2i_app.miniature.draw import draw_scene
from x2i_app.miniature.world import parse_canonical
from x2i_app.training.image_captions import clean_caption


def test_caption(tmp_path, capsys):
    """x2i-tiny says what it sees; captions that are there stay, broken images are named, a second run has no work."""
    scene = parse_canonical("a large red house on the left and a small green tree on the right, on snow at night")
    draw_scene(scene, 128, seed=0).save(tmp_path / "house.png")
    for name in ("kept.jpg", "also.webp", "listed.png"):
        Image.new("RGB", (40, 30), "red").save(tmp_path / name)
    (tmp_path / "kept.txt").write_text("mine")
    (tmp_path / "also.caption").write_text("mine too")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "listed.png", "text": "a list"}\n')
    (tmp_path / "torn.png").write_bytes(b"PNG?")
    assert main(["caption", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.out == "1 captions written, 3 images had one\n"
    assert "Left out" in said.err
    assert "torn.png" in said.err
    caption = (tmp_path / "house.txt").read_text()
    assert "red house" in caption
    assert caption.endswith("\n")
    assert {path.name for path in tmp_path.glob("*.txt")} == {"house.txt", "kept.txt"}
    assert (tmp_path / "kept.txt").read_text() == "mine"
    (tmp_path / "torn.png").unlink()
    assert main(["caption", str(tmp_path), "--mllm", "no such folder"]) == 0  # nothing is loaded
    assert capsys.readouterr().out == "0 captions written, 4 images had one\n"


@pytest.mark.parametrize(
    ("folder", "limit", "said"),
    [("empty", "10", "There are no images in"), ("torn", "0", "samples are broken and 0 may")],
)
def test_bad_folders(tmp_path, capsys, folder, limit, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn/a.png").write_bytes(b"")
    assert main(["caption", str(tmp_path / folder), "--max-broken", limit]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("A red house.", "A red house."),
        (" A red\n\n house <|im_end|> on <|image_pad|>grass ", "A red house on grass"),
        ('Sure, here is a description: "A red house."', "A red house."),
        ("This is a caption of the image: **A cat**", "A cat"),
        ("<|im_end|>", ""),
    ],
)
def test_clean_captions(answer, caption):
    assert clean_caption(answer, {"<|im_end|>": 1, "<|image_pad|>": 2, "<|im": 3}) == caption

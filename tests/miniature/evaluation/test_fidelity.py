"""Measure what LightControl keeps: the pixels outside an edit, their PSNR, and the command."""

import json

import numpy as np
import pytest
from PIL import Image, ImageFilter

from x2i_app.miniature.evaluation.attributes import Tally
from x2i_app.miniature.evaluation.cases import ROWS, cases
from x2i_app.miniature.evaluation.command import JUDGE
from x2i_app.miniature.evaluation.fidelity import Edited, Fidelity, judge, main
from x2i_app.miniature.evaluation.judge import Judge

SCENES = 40


def blurred(image: Image.Image) -> Image.Image:
    """Nearly the same image: no generated image is exact."""
    return image.filter(ImageFilter.GaussianBlur(0.5))


@pytest.fixture(scope="module")
def edits() -> list[Edited]:
    return [Edited.of(case) for case in cases(ROWS["instruction"], SCENES)]


def test_mask_of_equal_pixels(edits):
    for one in edits:
        source, target = np.asarray(one.source, int), np.asarray(one.target, int)
        assert np.abs(source - target)[one.same].max(initial=0) <= 3
        assert one.case.shown == one.case.wanted or not one.same.all()
    assert 0.2 < np.mean([one.same.mean() for one in edits]) < 0.95


def test_psnr_of_the_pixels_outside_an_edit(edits):
    rng = np.random.default_rng(0)
    one = next(one for one in edits if 0.3 < one.same.mean() < 0.9)
    image = np.asarray(one.target, int) + rng.choice([-5, 5], np.shape(one.target))
    image[~one.same] = 255 - image[~one.same]  # must not count
    image = Image.fromarray(image.clip(0, 255).astype(np.uint8))
    assert one.psnr(image) == pytest.approx(20 * np.log10(255 / 5), abs=0.4)  # less by clipping
    assert one.psnr(one.source) > 20 * np.log10(255 / 3)
    assert one.psnr(one.target) == pytest.approx(58.9, abs=0.1)
    skies = [one for one in edits if one.case.shown.sky != one.case.wanted.sky]
    assert skies
    assert all(one.psnr(one.source) is None for one in skies if one.same.mean() < 0.05)
    assert any(one.same.mean() < 0.05 for one in skies)


def test_asked_and_kept(edits):
    """Three sets of renders: as wanted, unchanged, and of other scenes."""
    reader = Judge.load(JUDGE)
    right, lazy, wrong = (
        judge(reader, "some", edits, drawn).as_dict()
        for drawn in (
            [blurred(one.target) for one in edits],
            [one.source for one in edits],
            [one.target for one in (*edits[1:], edits[0])],
        )
    )
    assert right["asked"] > 0.97 < right["kept"]
    assert lazy["kept"] > 0.97
    assert lazy["asked"] < 0.1
    assert wrong["kept"] < 0.6
    assert wrong["psnr_db"] < 25 < lazy["psnr_db"]
    for found in (right, lazy, wrong):
        for name in ("asked", "kept"):
            low, high = found[f"{name}_interval_95"]
            assert low <= found[name] <= high
    assert lazy["asked_interval_95"][1] < right["asked_interval_95"][0]


def test_standard_error():
    tallies = [Tally({"sky": 1}, {"sky": 1})] * 3
    found = Fidelity("some", tallies, tallies, [20.0, 22.0, 27.0]).as_dict()
    assert found["psnr_db"] == pytest.approx(23)
    assert found["psnr_standard_error_db"] == pytest.approx(2.082, abs=0.001)  # sqrt((9 + 1 + 16) / 2 / 3)
    assert Fidelity("some", tallies, tallies, [20.0]).as_dict()["psnr_standard_error_db"] is None
    assert Fidelity("some", tallies, tallies, []).as_cells()[-2:] == ("", "")


def test_light_control_keeps_pixels(tmp_path, capsys):
    main(["--scenes", "4", "--output", str(tmp_path / "new")])
    without, with_control = json.loads((tmp_path / "new/fidelity.json").read_text(encoding="utf-8"))
    assert (without["title"], with_control["title"]) == ("LightControl 0", "LightControl 1")
    assert with_control["psnr_db"] > without["psnr_db"] + 2
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 4
    assert f"{with_control['psnr_db']:.1f}" in said[3]
    assert Image.open(tmp_path / "new/sheet.png").size == (4 * 132 - 4, 4 * 132 - 4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scenes", "0"], "scenes is 0"),
        (["--strength", "9"], "strength is 9.0"),
        (["--light-control", "nowhere"], "nowhere"),
        (["--output", __file__], "cannot be created (File exists)"),
    ],
    ids=" ".join,
)
def test_bad_input(tmp_path, capsys, arguments, said):
    with pytest.raises(SystemExit) as stopped:
        main(["--output", str(tmp_path / "new"), *arguments])
    (message,) = (row for row in capsys.readouterr().err.splitlines() if row.startswith("x2i: "))
    assert stopped.value.code == 2
    assert said in message
    assert not (tmp_path / "new").exists()

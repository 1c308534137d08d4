"""Names by a template: allowed on every file system, short, and never taken."""

from datetime import datetime

import pytest

from x2i_app.errors import InvalidRequestError
from x2i_app.output_names import check_template, free_path, output_name, prompt_part

AT = datetime(2026, 11, 30, 17, 5, 9)
VALUES = {"prompt": "A red house, on snow!", "seed": 7, "width": 128, "height": 64, "number": 1}


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{date}-{seed}-{prompt}", "2026-11-30-7-A-red-house-on-snow"),
        ("{date}/{time}_{width}x{height}", "2026-11-30/17-05-09_128x64"),
        ("{id}-{preset}-{seed}", "7"),
        ("ab:*c?{seed}", "abc7"),
        ("con", "_con"),
        ("NUL.{seed}", "_NUL.7"),
        ("CONOUT$", "_CONOUT$"),
        ("lpt².{seed}", "_lpt².7"),
        ("com0 .{seed}", "_com0 .7"),
        ("console", "console"),
        ("{prompt}...", "A-red-house-on-snow"),
        ("{id}", "image"),
    ],
)
def test_names(template, name):
    assert output_name(check_template(template), VALUES, AT) == name


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("雪地上的红房子，夜晚", "雪地上的红房子-夜晚"),
        ("../../etc/passwd", "etc-passwd"),
        ("C:\\Windows\\x", "C-Windows-x"),
        ("a\x00b\u202egnp.exe", "a-b-gnp-exe"),
        ("one two three four five six seven eight nine", "one-two-three-four-five-six-seven-eight"),
        ("x" * 500, "x" * 60),
        ("long " + "y" * 70, "long"),
        ("😀 !", ""),
        (None, ""),
    ],
)
def test_first_part(prompt, text):
    assert prompt_part(prompt) == text


def test_no_part_is_too_long():
    name = output_name("{prompt}{prompt}{prompt}/{prompt}{prompt}{prompt}", {"prompt": "猫" * 60}, AT)
    assert [len(part.encode()) <= 180 for part in name.split("/")] == [True, True]


@pytest.mark.parametrize("template", ["", " ", "../{seed}", "/tmp/{seed}", "C:{seed}", "a/../{seed}", "\\{seed}"])
def test_templates_that_leave_the_folder(template):
    with pytest.raises(InvalidRequestError, match="must be a name in the output folder"):
        check_template(template)


@pytest.mark.parametrize("template", ["{", "{seed!r}", "{seed:>9999999}", "{cat}", "{}", "{seed.real}", "{0}"])
def test_templates_with_other_fields(template):
    with pytest.raises(InvalidRequestError, match=r"output_template (has the field|is)"):
        check_template(template)


def test_taken_names(tmp_path):
    for name in ("a.png", "a-2.png", "a-3.png"):
        path = free_path(tmp_path, "a", ".png")
        assert path.name == name
        path.touch()

"""Styles and prompts by chance: what they write into the prompt, and which files are styles."""

import json
import random

import gradio as gr
import pytest

from x2i_app.errors import InvalidRequestError
from x2i_app.serving.engine import Engine
from x2i_app.settings import Settings
from x2i_app.ui.i18n import LANGUAGES, PageError
from x2i_app.ui.ideas import surprise
from x2i_app.ui.layout import build_page
from x2i_app.ui.styles import STYLES, Style, read_styles, with_style
from x2i_app.ui.tabs import TABS

CSV = 'name,prompt,negative_prompt\n--- mine ---,,\n"Old, map","a map of {prompt}",photo\nmoody,"dark, rain",\n'


def test_own_styles():
    """At least thirty, each of which keeps the prompt."""
    assert len(STYLES) >= 30
    assert all(
        "a cat" in with_style(" a cat ", style) and "{" not in with_style("a cat", style) for style in STYLES.values()
    )


@pytest.mark.parametrize("name", ["styles.csv", "styles.json"])
def test_files_of_other_programs(tmp_path, name):
    """A1111's CSV with headings, and Fooocus' JSON; words without a place for the prompt follow it."""
    rows = [{"name": "Old, map", "prompt": "a map of {prompt}", "negative_prompt": "photo"}]
    rows += [{"name": "moody", "prompt": "dark, rain"}, {"name": 5}, "x", {"name": "half \ud800", "prompt": "a"}]
    content = CSV if name.endswith("csv") else json.dumps(rows)
    (tmp_path / name).write_text("\ufeff" + content, encoding="utf-8")
    styles = read_styles(str(tmp_path / name))
    assert styles == {"Old, map": Style("a map of {prompt}", "photo"), "moody": Style("dark, rain")}
    assert with_style("a cat,", styles["moody"]) == "a cat, dark, rain"
    assert read_styles(None) == {}


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", b"\xff\xfe\x00"), ("a.csv", b"a,b\n1,2\n"), ("a.json", b"{}"), ("a.json", b"[[")]
)
def test_no_styles(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PageError, match="The file has no styles"):
        read_styles(str(tmp_path / name))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("preset", ["x2i-tiny", "qwen2.5-vl-3b"])
def test_surprise(preset, language):
    """Different each time, of the page's language, and of what the model knows."""
    found = {surprise(preset, language, random.Random(seed)) for seed in range(20)}
    assert len(found) > 15
    assert all("|" not in each and "{" not in each for each in found)
    assert all(any(letter > "\u3000" for letter in each) is (language == "zh") for each in found)


def test_style_of_the_open_tab():
    """A style is put around the prompt of the open tab; another one replaces it; removed, the prompt is as before."""
    page = build_page(Engine(Settings()))
    panel = next(fn.fn.__closure__ for fn in page.fns.values() if fn.name == "roll")
    panel = next(cell.cell_contents for cell in panel if hasattr(cell.cell_contents, "boxes"))
    functions = {fn.name: fn.fn for fn in page.fns.values()}
    fusion = [tab.name for tab in TABS].index("fusion")
    prompts = ["", "", "", "", {"text": "a cat", "files": ["a.png"]}]
    kept, _, *boxes = functions["apply"](fusion, "oil", {}, None, "", *prompts)
    assert boxes[:-1] == [gr.skip()] * 4
    assert boxes[-1] == {"text": with_style("a cat", STYLES["oil"]), "files": ["a.png"]}
    own = {"mine": Style("my {prompt}")}
    with pytest.raises(InvalidRequestError, match="prompt is 9,000 bytes long"):
        functions["apply"](0, "own:many", {"many": Style("{prompt}" * 250)}, None, "", "a" * 9000, *prompts[1:])
    kept, _, *boxes = functions["apply"](fusion, "own:mine", own, kept, "", *prompts[:-1], boxes[-1])
    assert boxes[-1]["text"] == "my a cat"
    changed = functions["remove"](fusion, kept, "", *prompts[:-1], {"text": "my own cat", "files": []})
    assert changed[-1]["text"] == "my own cat", "what was typed since stays"
    assert functions["remove"](fusion, kept, "", *prompts[:-1], boxes[-1])[-1]["text"] == "a cat"

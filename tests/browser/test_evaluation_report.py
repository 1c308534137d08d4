"""The report of an evaluation as a stranger reads it: one file that loads nothing, filters that filter, any width."""

import re

import pytest
from PIL import Image
from playwright.sync_api import expect

from x2i_app.evaluation.html_report import as_html
from x2i_app.evaluation.report import summarize

SIDES = ("student", "teacher")
KINDS = ("text", "image + instruction", 'odd "<b>name')
LONG = "a_name_without_any_space_" * 8


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The page of 30 prompts, with two images of each side."""
    folder = tmp_path_factory.mktemp("evaluation")
    for number in range(4):
        Image.new("RGB", (96, 64), (60 * number, 120, 200)).save(folder / f"{number}.png")
    rows = [
        {
            "id": f"row{number}",
            "place": f"line {number}",
            "category": KINDS[number % 3],
            "language": ("en", "zh", "")[number // 3 % 3],
            "prompt": f"a red house number {number}" if number else LONG,
            "caption": None,
            "inputs": [],
            "questions": [{"text": "Is there a house?", "expected": True, "kind": "content", "depends": []}] * 4,
            "samples": [
                {
                    "side": side,
                    "seed": seed,
                    "file": f"{(number + seed) % 4}.png",
                    "right": number % 5,
                    "total": 4,
                    "answers": {"attributes": [0.9 if place < number % 5 else 0.1 for place in range(4)]},
                    "scores": {"CLIP score": 31.25},
                    "mllm": None,
                    "notes": [],
                }
                for side in SIDES
                for seed in (0, 1)
            ],
        }
        for number in range(30)
    ]
    page = as_html(
        {
            "preset": "x2i-tiny",
            "prompts": {"name": "rows.jsonl", "form": "own rows", "sha256": "0" * 64},
            "settings": {"alignnet": f"/home/somebody/{LONG}.safetensors"},
            "weights": {"mllm": "1" * 64},
            "versions": {"torch": "2"},
            "judges": [
                {"name": "attributes", "weights": "2" * 64, "notes": [], "self_check": {"right": 1, "wrong": 0}}
            ],
            "agreement": [],
            "table": summarize(rows, SIDES),
            "questions": [],
            "rows": rows,
            "problems": [{"place": "line 7", "sentence": LONG}],
            "phases": {},
        },
        dict.fromkeys(SIDES, folder),
    )
    (folder / "report.html").write_text(page, encoding="utf-8")
    return (folder / "report.html").as_uri()


@pytest.fixture(params=[("light", 1280), ("dark", 390)], ids=["wide", "phone"])
def page(browser, report, request):
    """The report in a window; nothing else is loaded, and the script has no fault."""
    scheme, width = request.param
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    asked, faults = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(report)
    yield page
    assert [url for url in asked if not url.startswith("data:")] == [report]
    assert faults == []
    page.close()


def test_every_image_is_there_and_nothing_is_wider_than_the_window(page):
    for image in page.locator("article img").all():
        image.scroll_into_view_if_needed()
    assert page.evaluate("[...document.images].every((each) => each.complete && each.naturalWidth === 96)")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    first, second = (page.locator("article figure").nth(number).bounding_box() for number in (0, 1))
    assert first["y"] == second["y"], "both sides stand side by side"
    overflowing = """[...document.querySelectorAll("article *")].filter((each) => getComputedStyle(each).display !==
      "inline" && each.scrollWidth > each.clientWidth + 1).map((each) => each.outerHTML.slice(0, 80))"""
    assert page.evaluate(overflowing) == []


def test_filters(page):
    def shown():
        return [re.match(r"row\d+", each)[0] for each in page.locator("article:visible h3").all_inner_texts()]

    count = page.locator("#count")
    expect(count).to_have_text("30 of 30")
    assert len(shown()) == 30
    for number, kind in enumerate(KINDS):
        page.get_by_label("row").select_option(label=kind)
        expect(count).to_have_text("10 of 30")
        assert {int(name[3:]) % 3 for name in shown()} == {number}
    page.get_by_label("which").select_option("worst")
    expect(count).to_have_text("5 of 30")
    assert max(int(name[3:]) % 5 for name in shown()) <= 2
    page.get_by_label("row").select_option(label="all")
    page.get_by_label("which").select_option(label="all")
    page.get_by_label("language").select_option(label="zh")
    assert {int(name[3:]) // 3 % 3 for name in shown()} == {1}
    page.get_by_label("language").select_option(label="all")
    page.get_by_role("searchbox").fill("HOUSE NUMBER 7")
    expect(count).to_have_text("1 of 30")
    assert shown() == ["row7"]
    page.get_by_role("searchbox").fill("a dragon")
    expect(count).to_have_text("0 of 30")
    assert shown() == []

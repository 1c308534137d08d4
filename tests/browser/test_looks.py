"""Keys, themes, a page that stays still, and accessibility."""

import re
from pathlib import Path

import axe_playwright_python
import pytest
from browser.actions import generate, open_tab, prompt_box, set_settings, wait_until_ready
from PIL import Image
from playwright.sync_api import expect

from x2i_app.ui.tabs import TABS

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def findings(page):
    """What axe-core calls serious or critical in the page as it is now, with the element."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run()")["violations"]
    grave = [rule for rule in found if rule["impact"] in ("serious", "critical")]
    return [f"{rule['id']}: {node['target']} {node['html'][:200]}" for rule in grave for node in rule["nodes"]]


def test_accessibility(page):
    """axe-core finds nothing serious on any tab, before and after there is a result."""
    assert findings(page) == []
    page.locator("#generate-text").click()  # without a prompt: an error
    expect(page.locator("#progress .failed")).to_be_visible()
    if page.kind == "wide-light":
        expect(page.locator(".toast-body")).to_have_css("opacity", "1")  # it fades in
    assert findings(page) == []
    prompt_box(page).fill("a red house")
    generate(page)
    sections = ("settings", "prompt-help", "loras", "batch", "restore", "model", "memory", "compare-original")
    for section in sections:
        page.locator(f"#{section} button").first.click()
    page.wait_for_timeout(500)
    for tab in TABS:
        open_tab(page, tab.name)  # all tabs are visible, also on a phone
        page.wait_for_timeout(500)
        assert findings(page) == [], tab.name
    for width in (640, 320):  # 1280 pixels at 200 and 400 %: nothing is cut, and nothing scrolls sideways
        page.set_viewport_size({"width": width, "height": 450})
        for tab in ("text", "image_text"):
            open_tab(page, tab)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (width, tab)


def test_reduced_motion(page):
    """Who asks the system for less motion gets none."""
    moving = """[...document.querySelectorAll("*")].filter(part => {
        const {animationDuration, transitionDuration} = getComputedStyle(part);
        return [animationDuration, transitionDuration].join().split(",").some(each => parseFloat(each) > 0.01);
    }).length"""
    assert page.evaluate(moving) == 0


@pytest.mark.parametrize("key", ["Control+Enter", "Meta+Enter"])
def test_keys(page, key):
    """Ctrl+Enter or Cmd+Enter generates, and Esc stops."""
    prompt_box(page).fill("a rocket")
    set_settings(page, Width=256, Height=256, Steps=100)
    prompt_box(page).press(key)
    expect(page.locator("#stop")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#progress")).to_contain_text("Stopped")


def test_theme(page):
    """The chosen theme is kept when the page is opened again."""
    is_dark = "document.body.classList.contains('dark')"
    was = page.evaluate(is_dark)
    page.locator("#theme").click()
    assert page.evaluate(is_dark) != was
    page.reload()
    wait_until_ready(page)
    page.wait_for_timeout(500)
    assert page.evaluate(is_dark) != was
    assert findings(page) == []


def test_nothing_moves(page):
    """The page stays still when a result arrives; on a phone, from the first result on."""
    prompt_box(page).fill("a red house")
    if page.kind == "phone-dark":
        generate(page)
    places = [page.locator(name) for name in ("#result-images", "#generate-text", "#keep-seed", "#settings")]
    top = "scrollTo(0, 0)"
    page.evaluate(top)
    before = [place.bounding_box()["y"] for place in places]
    page.locator("#generate-text").click()
    expect(page.locator("#progress")).to_contain_text("Done")
    page.wait_for_timeout(500)
    page.evaluate(top)
    assert [place.bounding_box()["y"] for place in places] == pytest.approx(before, abs=2)


def test_nothing_is_cut(page):
    """The answer and its notes are there whole, each once; so are the words under the images of the session."""
    prompt_box(page).fill("a dog and a horse and a unicorn on grass by day")
    generate(page)
    assert page.locator("#title h1").bounding_box()["height"] < 50, "the title is one row"
    answer = page.locator("#answer textarea")
    understood, *notes = answer.input_value().splitlines()
    assert understood.endswith(", and something unknown")
    assert "“dog”, “horse”, “unicorn”" in notes[0]
    assert understood.removesuffix(", and something unknown") not in " ".join(notes)
    is_cut = "part => part.scrollHeight > part.clientHeight + 2 || part.scrollWidth > part.clientWidth + 2"
    assert not answer.evaluate(is_cut)
    favorites = page.locator("#only-favorites")
    assert not favorites.evaluate(is_cut)
    assert not favorites.locator("label").first.evaluate(is_cut)
    box = favorites.bounding_box()
    assert box["x"] + box["width"] <= page.viewport_size["width"]
    caption = re.compile(r"^a dog and a horse and a unicorn… · \d+$")
    expect(page.locator("#history-images .caption-label")).to_have_text(caption)
    expect(open_tab(page, "image")).to_contain_text("Drop images here")
    wrapper = open_tab(page, "fusion").locator(".input-wrapper")
    text = wrapper.locator("textarea").bounding_box()
    assert text["x"] - wrapper.bounding_box()["x"] >= 8


def test_tab_keys(page):
    """The arrow keys, Home and End move between the tabs; only the open one is reached with Tab."""
    tabs = page.locator("#tabs [role=tab]")
    tabs.first.focus()
    for key, name in (
        ("ArrowRight", "Image"),
        ("End", "Creative Fusion"),
        ("ArrowRight", "Text"),
        ("ArrowLeft", "Creative Fusion"),
    ):
        page.keyboard.press(key)
        opened = page.locator("#tabs [role=tab][aria-selected=true]")
        expect(opened).to_have_text(name)
        expect(opened).to_be_focused()
        expect(opened).to_have_attribute("tabindex", "0")
    expect(page.locator("#tabs [role=tab][tabindex='0']")).to_have_count(1)


def test_result_in_view(page):
    """On a wide screen the result stays in view while a long tab is scrolled; in full screen nothing lies over it."""
    if page.kind == "wide-light":
        open_tab(page, "image_text")
        page.locator("#inpaint button").first.click()
        page.wait_for_timeout(500)
        page.locator("#generate-image_text").scroll_into_view_if_needed()
        page.wait_for_timeout(300)
        assert page.locator("#result-images").bounding_box()["y"] >= 0
        page.evaluate("scrollTo(0, 0)")
        open_tab(page, "text")
    prompt_box(page).fill("a red house")
    generate(page)
    before = page.locator("#result-images img").bounding_box()
    page.locator("#result-images img").click()
    opened = page.locator("#result-images [data-testid=detailed-image]")
    expect(opened).to_be_visible()
    assert opened.bounding_box()["height"] >= before["height"] - 2, "a click makes it no smaller"
    page.locator("#result-images").get_by_label("Fullscreen").click()
    page.wait_for_timeout(500)
    width, height = page.viewport_size["width"], page.viewport_size["height"]
    covers = page.evaluate(
        """([width, height]) => {
            const result = document.querySelector("#result-images"), covers = [];
            for (let x = 5; x < width; x += 40) for (let y = 5; y < height; y += 40) {
                const top = document.elementFromPoint(x, y);
                if (!result.contains(top)) covers.push(top.outerHTML.slice(0, 80));
            }
            return covers;
        }""",
        [width, height],
    )
    assert covers == []


def test_tall_image(page, tmp_path):
    """A tall input image is shown whole."""
    tall = tmp_path / "tall.png"
    Image.new("RGB", (100, 400), "red").save(tall)
    open_tab(page, "image").locator("input[type=file]").first.set_input_files(str(tall))
    image, box = page.locator("#input-images .thumbnail-item img"), page.locator("#input-images").bounding_box()
    expect(image).to_be_visible()
    page.wait_for_timeout(300)
    shown = image.bounding_box()
    assert shown["y"] >= box["y"]
    assert shown["y"] + shown["height"] <= box["y"] + box["height"]
    assert image.evaluate("image => getComputedStyle(image).objectFit") == "contain"


def test_chinese(browser, server):
    """In a Chinese browser the examples are Chinese, and those for English pages are hidden."""
    context = browser.new_context(locale="zh-CN")
    page = context.new_page()
    page.goto(server)
    expect(page.locator("#examples-text-zh .gallery-item").first).to_have_text(
        "夜晚的雪地上，有一座红色的房子和一棵绿色的树"
    )
    expect(page.locator("#examples-text")).to_be_hidden()
    context.close()

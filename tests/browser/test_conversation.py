"""The conversation of Image + Text in a real Chromium."""

import re

import pytest
from browser.actions import generate, images, open_tab, prompt_box, set_settings, upload
from browser.conftest import ARTIFACTS
from browser.test_looks import findings
from playwright.sync_api import expect

from x2i_app.settings import ASSETS
from x2i_app.ui.i18n import Text

BOAT = ASSETS / "examples/images/boat-at-sunset.png"


def test_turns(page):
    """Each turn edits the last result; turns are undone one by one, and a conversation can start over."""
    open_tab(page, "image_text")
    turns, prompt = page.locator("#conversation li"), prompt_box(page, "image_text")
    upload(page, "image_text", BOAT)
    page.locator("#keep-editing input").check()
    expect(page.locator("#conversation")).to_contain_text(Text("conversation.hint").en)
    examples, top = page.locator("#examples-image_text"), "scrollTo(0, 0)"
    page.evaluate(top)
    before = examples.bounding_box()["y"]
    first = "make it night <img src=x onerror=window.p=1>"
    for count, text in enumerate((first, "make it day"), 1):
        prompt.fill(text)
        page.locator("#generate-image_text").click()
        expect(turns).to_have_count(count)
        expect(prompt).to_have_value("")
        if count == 1 and page.kind == "phone-dark":  # from the first result on
            page.evaluate(top)
            before = examples.bounding_box()["y"]
    page.evaluate(top)
    assert examples.bounding_box()["y"] == pytest.approx(before, abs=2), "nothing moves"
    expect(turns.first).to_contain_text(first)
    expect(turns.first.locator("img")).to_have_count(2)  # the input and the result
    expect(turns.last).to_contain_text("by day")
    assert page.evaluate("window.p") is None
    page.screenshot(path=ARTIFACTS / f"conversation-{page.kind}.png", full_page=True)
    assert findings(page) == []
    page.locator("#keep-editing input").uncheck()
    expect(page.locator("#conversation")).to_be_hidden()
    page.locator("#keep-editing input").check()  # continues with the shown result and the turns that led to it
    expect(turns).to_have_count(2)
    page.locator("#start-over").click()
    expect(turns).to_have_count(0)
    page.locator("#keep-editing input").uncheck()
    expect(page.locator("#conversation")).to_be_hidden()
    page.locator("#keep-editing input").check()
    expect(turns).to_have_count(2)
    answer = page.locator("#answer textarea")
    page.locator("#undo").click()
    expect(turns).to_have_count(1)
    expect(prompt).to_have_value("make it day")
    expect(answer).to_have_value(re.compile("at night"))  # the result before it is shown again
    page.locator("#undo").click()
    expect(turns).to_have_count(0)
    expect(prompt).to_have_value(first)
    expect(answer).to_have_value("")
    expect(images(page)).to_have_count(0)


def test_several_results(page):
    """The conversation continues with the selected one of several results."""
    prompt_box(page).fill("a yellow balloon")
    set_settings(page, **{"Number of images": 3, "Width": 64, "Height": 64})
    generate(page)
    expect(images(page)).to_have_count(3)
    page.wait_for_timeout(2000)  # the new result's selection is the first image: it must not come after the click
    images(page).nth(1).click()
    page.wait_for_timeout(1000)
    open_tab(page, "image_text")
    page.locator("#keep-editing input").check()
    shown, addresses = page.locator("#conversation li img"), []
    expect(shown).to_have_count(1)
    for index in (0, 2, 1):
        addresses.append(shown.get_attribute("src"))
        page.locator("#result-images .thumbnail-small").nth(index).click()
        expect(shown).not_to_have_attribute("src", addresses[-1])
    expect(shown).to_have_attribute("src", addresses[0])
    assert len(set(addresses)) == 3

"""Whom the page serves: keys, light and dark, small screens, and those who hear it instead of seeing it."""

from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import expect

from x2i_app.ui.i18n.texts import TABS

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def findings(page):
    """What axe-core calls serious or critical in what is shown now, as lines that say where."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run()")["violations"]
    grave = [rule for rule in found if rule["impact"] in ("serious", "critical")]
    return [f"{rule['id']}: {node['target']} {node['html'][:200]}" for rule in grave for node in rule["nodes"]]


def test_axe_finds_nothing_grave_on_any_tab(page):
    for section in ("settings", "restore", "model", "memory", "before-after"):
        page.locator(f"#{section} button").first.click()
    page.wait_for_timeout(500)
    for tab in TABS.values():
        button = page.get_by_role("tab", name=tab.en, exact=True).first
        expect(button).to_be_visible()  # also on a phone, where there is little room
        button.click()
        page.wait_for_timeout(500)
        assert findings(page) == [], tab.en


@pytest.mark.parametrize("key", ["Control+Enter", "Meta+Enter"])
def test_keys_make_and_stop_a_image(page, key):
    page.get_by_label("What should it show?").fill("a rocket")
    page.locator("#settings button").first.click()
    page.wait_for_timeout(500)
    for label in ("Width", "Height"):
        page.get_by_label(f"number input for {label}", exact=True).fill("512")
    page.get_by_label("number input for Steps", exact=True).fill("100")
    page.get_by_label("What should it show?").press(key)
    expect(page.locator("#stop")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#progress")).to_contain_text("Stopped")


def test_light_and_dark_are_chosen_and_last(page):
    is_dark = "document.body.classList.contains('dark')"
    was = page.evaluate(is_dark)
    page.locator("#light-or-dark").click()
    assert page.evaluate(is_dark) != was
    page.reload()
    page.locator("#make-text").wait_for()
    page.wait_for_timeout(500)
    assert page.evaluate(is_dark) != was
    assert findings(page) == []


def test_nothing_moves_when_a_image_arrives(page):
    page.get_by_label("What should it show?").fill("a red house")
    expect(page.locator("#heading")).to_contain_text("x2i-tiny")  # it comes a moment after the page
    places = [page.locator(name) for name in ("#pictures", "#make-text", "#keep-seed", "#settings")]
    top = "scrollTo(0, 0)"
    page.evaluate(top)
    before = [place.bounding_box()["y"] for place in places]
    page.locator("#make-text").click()
    expect(page.locator("#progress")).to_contain_text("Done")
    page.wait_for_timeout(500)
    page.evaluate(top)
    assert [place.bounding_box()["y"] for place in places] == pytest.approx(before, abs=2)

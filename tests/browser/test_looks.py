"""Keys, themes, a page that stays still, and accessibility."""

from pathlib import Path

import axe_playwright_python
import pytest
from browser.actions import open_tab, prompt_box, set_settings
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
    """axe-core finds nothing serious on any tab."""
    for section in ("settings", "restore", "model", "memory", "compare-original"):
        page.locator(f"#{section} button").first.click()
    page.wait_for_timeout(500)
    for tab in TABS:
        open_tab(page, tab.name)  # all tabs are visible, also on a phone
        page.wait_for_timeout(500)
        assert findings(page) == [], tab.name


@pytest.mark.parametrize("key", ["Control+Enter", "Meta+Enter"])
def test_keys(page, key):
    """Ctrl+Enter or Cmd+Enter generates, and Esc stops."""
    prompt_box(page).fill("a rocket")
    set_settings(page, Width=512, Height=512, Steps=100)
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
    page.locator("#generate-text").wait_for()
    page.wait_for_timeout(500)
    assert page.evaluate(is_dark) != was
    assert findings(page) == []


def test_nothing_moves(page):
    """The page stays still when a result arrives."""
    prompt_box(page).fill("a red house")
    places = [page.locator(name) for name in ("#result-images", "#generate-text", "#keep-seed", "#settings")]
    top = "scrollTo(0, 0)"
    page.evaluate(top)
    before = [place.bounding_box()["y"] for place in places]
    page.locator("#generate-text").click()
    expect(page.locator("#progress")).to_contain_text("Done")
    page.wait_for_timeout(500)
    page.evaluate(top)
    assert [place.bounding_box()["y"] for place in places] == pytest.approx(before, abs=2)

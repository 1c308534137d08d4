"""What somebody sees for whom there is no room in the queue."""

import time
from pathlib import Path

import pytest
from conftest import run_app
from playwright.sync_api import Browser, expect
from safety.client import CALL, ask

SECONDS_LONG = ["a red house", 512, 512, 50, None, 1, 4, False, []]
ARTIFACTS = Path(__file__).resolve().parents[2] / "artifacts"


@pytest.fixture
def crowded(tmp_path):
    """An app with room for one who waits, in which one draws and one waits, for long."""
    with run_app(tmp_path, "--queue-size", "1", "--linger", "600") as app:
        deadline = time.monotonic() + 120
        joined = 0
        # The second has room as soon as the first is drawn and no longer waits.
        while joined < 2 and time.monotonic() < deadline:
            body = {"data": SECONDS_LONG, "session_hash": f"session{joined}"}
            joined += ask(app.url, "POST", f"{CALL}/text", body).status == 200
            time.sleep(0.2)
        assert joined == 2
        yield app.url


def test_one_too_many_reads_that_it_is_full_keeps_the_words_and_can_try_again(crowded, browser: Browser):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(crowded)
    words = page.get_by_label("What should it show?")
    words.fill("a blue boat")
    page.locator("#make-text").click()
    toast = page.locator(".toast-body.error")
    expect(toast).to_contain_text("1 job is waiting already, which is all there is room for; try later.")
    page.wait_for_timeout(500)  # it fades in
    page.screenshot(path=ARTIFACTS / "full.png")
    expect(words).to_have_value("a blue boat")
    expect(page.locator("#make-text")).to_be_enabled()
    context.close()

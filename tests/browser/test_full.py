"""What a user sees when the queue is full."""

import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest
from browser.actions import prompt_box
from conftest import run_app
from playwright.sync_api import Browser, expect
from safety.client import CALL, ask
from waiting import wait_until

LONG = ["a red house", 512, 512, 100, None, 1, 8, False, []]  # minutes: longer than a busy browser needs
ARTIFACTS = Path(__file__).resolve().parents[2] / "artifacts"


@pytest.fixture
def crowded(tmp_path):
    """An app whose queue has room for one job; one job runs and one waits."""
    with run_app(tmp_path, "--queue-size", "1", "--linger", "600") as app:

        def join() -> bool:
            answer = ask(app.url, "POST", f"{CALL}/text", {"data": LONG})
            if answer.status == 200:
                address = f"{app.url}{CALL}/text/{answer.json()['event_id']}"
                listeners.enter_context(urllib.request.urlopen(address, timeout=600))
            return answer.status == 200

        with ExitStack() as listeners:
            wait_until(join)
            # The second one has room as soon as the first one runs. A job without a listener would give way.
            wait_until(join, pause=0.2)
            yield app.url


def test_full_queue(crowded, browser: Browser):
    """The page says that the queue is full, keeps the prompt, and allows another try."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(crowded)
    prompt_box(page).fill("a blue boat")
    page.locator("#generate-text").click()
    toast = page.locator(".toast-body.error")
    expect(toast).to_contain_text("1 job is waiting")
    page.wait_for_timeout(500)  # it fades in
    page.screenshot(path=ARTIFACTS / "full.png")
    expect(prompt_box(page)).to_have_value("a blue boat")
    expect(page.locator("#generate-text")).to_be_enabled()
    context.close()

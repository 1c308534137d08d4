"""A real Chromium, and where its screenshots go."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser.actions import wait_until_ready
from playwright.sync_api import Browser, Page, expect, sync_playwright

_PATIENCE = 180_000  # milliseconds: the first job waits for the model, and other tests have the cores too
expect.set_options(timeout=_PATIENCE)

ARTIFACTS = Path(__file__).resolve().parents[2] / "artifacts"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_chromium() -> str:
    """Path of a Chromium: X2I_CHROMIUM, or one on PATH."""
    found = os.environ.get("X2I_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if not found:
        pytest.fail(
            "The browser tests need a Chromium: install one (on Debian: apt-get install chromium), "
            "or set X2I_CHROMIUM to its path."
        )
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for a file's tests; each page has its own profile.

    Playwright runs an event loop in this thread until it ends, beside which no other test may run one.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
        new_context = browser.new_context

        def patient_context(**options):
            context = new_context(**options)
            context.set_default_timeout(_PATIENCE)
            return context

        browser.new_context = patient_context
        yield browser
        browser.close()


@pytest.fixture(params=["wide-light", "phone-dark"])
def page(request, browser, server) -> Iterator[Page]:
    """The app's page, wide and light or narrow and dark. It must not ask another host for anything."""
    width, height, scheme = (1280, 900, "light") if request.param == "wide-light" else (390, 844, "dark")
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    page.kind = request.param
    strangers, complaints = [], []
    page.on("request", lambda r: strangers.append(r.url) if not r.url.startswith((server, "data:", "blob:")) else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(server)
    wait_until_ready(page)
    yield page
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{request.node.name}.png", full_page=True)
    context.close()
    assert not strangers
    assert not complaints

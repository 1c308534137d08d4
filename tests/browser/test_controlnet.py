"""The ControlNet section and a redrawn image in a real Chromium, with a tiny ControlNet of random weights."""

import pytest
from browser.actions import images, prompt_box, wait_until_ready
from browser.conftest import ARTIFACTS
from conftest import run_app
from factories import save_controlnet
from playwright.sync_api import expect

from x2i_app import load_pipeline
from x2i_app.settings import ASSETS
from x2i_app.ui.i18n import TEXTS, Text

BOAT = ASSETS / "examples/images/boat-at-sunset.png"
LOOKS = {
    "wide-light-english": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light", "locale": "en-US"},
    "phone-dark-chinese": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "locale": "zh-CN"},
}


@pytest.fixture(scope="module")
def own_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("controlnet")
    save_controlnet(load_pipeline("x2i-tiny", profile="cpu").transformer, folder / "tiny-canny")
    with run_app(folder, "--controlnet", "tiny-canny", "--linger", "40") as app:
        yield app.url


@pytest.mark.parametrize("look", LOOKS)
def test_an_image_follows_another_one_and_is_redrawn(browser, own_server, look):
    """Without the section being opened, nothing of it counts; it fits the screen, and the report says its strength."""
    context = browser.new_context(**LOOKS[look], reduced_motion="reduce")
    page, complaints = context.new_page(), []
    language = LOOKS[look]["locale"][:2]
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(own_server)
    wait_until_ready(page)
    prompt_box(page).fill("a red house")
    section = page.locator("#controlnet")
    section.locator("button").first.click()
    page.locator("#controlnet-image input[type=file]").set_input_files(str(BOAT))
    expect(page.locator("#controlnet-image img").first).to_be_visible()
    page.locator("#generate-text").click()
    expect(images(page).first).to_be_visible()
    done = TEXTS[language]["progress.done"].partition("{")[0]
    expect(page.locator("#progress")).to_contain_text(done)
    section.scroll_into_view_if_needed()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"controlnet-{look}.png", full_page=True)

    before = images(page).first.get_attribute("src")
    page.get_by_label(Text("enlarge.redraw").to(language)).check()
    page.locator("#enlarge-2").click()
    expect(images(page).first).not_to_have_attribute("src", before)
    expect(page.locator("#progress")).to_contain_text("256 x 256")
    page.screenshot(path=ARTIFACTS / f"redrawn-{look}.png", full_page=True)
    context.close()
    assert not complaints

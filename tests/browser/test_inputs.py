"""Images that are pasted and files that are dropped anywhere on the page; results that are taken away."""

import base64
import re

import pytest
from browser.actions import generate, images, open_tab, panel, prompt_box, wait_until_ready
from playwright.sync_api import expect

from x2i_app.media import read_recipe
from x2i_app.settings import ASSETS

EXAMPLES = ASSETS / "examples"
GIVE = """([data, type, name, how]) => {
  const transfer = new DataTransfer(), bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
  transfer.items.add(new File([bytes], name, {type}));
  const options = {bubbles: true, cancelable: true};
  const event = how === "paste" ? new ClipboardEvent("paste", {clipboardData: transfer, ...options})
    : new DragEvent("drop", {dataTransfer: transfer, ...options});
  document.activeElement.dispatchEvent(event);
}"""


@pytest.fixture
def wide(browser, server):
    """A wide page."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(server)
    wait_until_ready(page)
    yield page
    context.close()


def give(page, file, kind, how):
    page.evaluate(GIVE, [base64.b64encode(file.read_bytes()).decode(), kind, file.name, how])


def test_paste_and_drop(wide):
    """They go into the open tab if it takes them, in place of an image or beside others; else into one that does."""
    boat, cat = (EXAMPLES / f"images/{name}.png" for name in ("boat-at-sunset", "cat-and-umbrella"))
    prompt_box(wide).focus()
    given = panel(wide, "image_text").locator("img[src*='/file=']").first
    for file in (boat, cat):
        give(wide, file, "image/png", "paste")
        expect(wide.locator("#generate-image_text")).to_be_visible()
        expect(given).to_have_attribute("src", re.compile(file.stem))
    open_tab(wide, "image")
    for count, file in enumerate((boat, cat), 1):
        give(wide, file, "image/png", "paste")
        expect(wide.locator("#input-images .thumbnail-item")).to_have_count(count)
    give(wide, EXAMPLES / "videos/rocket-at-night.mp4", "video/mp4", "drop")
    expect(wide.locator("#input-preview-video")).to_contain_text("The model sees 4 frames")
    open_tab(wide, "fusion")
    give(wide, EXAMPLES / "audios/rain-at-sea.wav", "audio/wav", "drop")
    expect(wide.locator("#input-preview-fusion")).to_contain_text("Audio 1: 4.0 s")


def test_take_away(wide, tmp_path):
    """A result is saved in another format with its settings, and seen in its own size."""
    prompt_box(wide).fill("a red house")
    generate(wide)
    for form in ("PNG", "WEBP"):
        wide.locator("#download-form input").click()
        wide.get_by_role("option", name=form).click()
        with wide.expect_download() as download:
            wide.locator("#download").click()
        assert download.value.suggested_filename.endswith(f"-a-red-house.{form.lower()}")
        download.value.save_as(tmp_path / form.lower())
        assert read_recipe(tmp_path / form.lower()).request.prompt == "a red house"
    wide.locator("#actual-size").click()
    image = wide.locator("#actual-size-view img")
    expect(image).to_have_attribute("alt", images(wide).first.get_attribute("alt"))
    assert [image.bounding_box()[side] for side in ("width", "height")] == [128, 128]
    wide.keyboard.press("Escape")
    expect(image).to_have_count(0)

"""Painting on a picture in a real Chromium: with the mouse, with the keys, and room added around it."""

import io

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from x2i_app.settings import ASSETS
from x2i_app.ui.i18n import texts

SNOW = ASSETS / "examples/images/house-and-tree-on-snow.png"
SIDE = 128


@pytest.fixture
def source(tmp_path):
    """A picture of the size that the model draws."""
    with Image.open(SNOW) as image:
        image.convert("RGB").resize((SIDE, SIDE)).save(tmp_path / "snow.png")
    return tmp_path / "snow.png"


def unfold(page: Page, source) -> None:
    """The tab with the picture in it, and the painter below."""
    page.get_by_role("tab", name=texts.TABS["image_text"].en, exact=True).first.click()
    panel = page.locator("[role=tabpanel]:has(#make-image_text)")
    panel.locator("input[type=file]").first.set_input_files(source)
    panel.get_by_label(texts.LABELS["instruction"].en).fill("a yellow balloon")
    page.locator("#paint button").first.click()
    expect(page.locator("#painter canvas")).to_be_visible()
    page.wait_for_timeout(500)


def drawn(page: Page) -> np.ndarray:
    """Make the picture; its pixels, uint8 (H, W, 3)."""
    shown = page.locator("#pictures img").first
    before = shown.get_attribute("src") if shown.count() else ""
    page.locator("#make-image_text").click()
    expect(shown).not_to_have_attribute("src", before)
    expect(page.locator("#progress")).to_contain_text("Done")
    body = page.request.get(shown.get_attribute("src")).body()
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))


def test_what_is_painted_is_new_and_the_rest_stays_to_the_pixel(page, source, request):
    old = np.asarray(Image.open(source))
    unfold(page, source)
    canvas = page.locator("#painter canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 0.15 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.2 * box["height"], steps=5)
    page.mouse.up()
    page.screenshot(path=f"artifacts/{request.node.name}-painted.png", full_page=True)
    new = drawn(page)
    assert new.shape == old.shape
    changed = (new != old).any(axis=2)
    inside = np.zeros_like(changed)
    inside[int(0.1 * SIDE) : int(0.3 * SIDE), int(0.05 * SIDE) : int(0.5 * SIDE)] = True  # the brush is 15 % wide
    assert changed[inside].mean() > 0.5
    assert not changed[~inside].any()
    made = page.request.get(page.locator("#pictures img").first.get_attribute("src")).body()

    page.locator("#paint-clear").click()
    canvas.focus()
    for key in ("ArrowDown", "ArrowDown", "Space"):  # from where the mouse was, a third of the brush each
        page.keyboard.press(key)
    changed = (drawn(page) != old).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert (columns.mean() / SIDE, rows.mean() / SIDE) == pytest.approx((0.4, 0.3), abs=0.05)
    assert changed.mean() < 0.05

    page.reload()  # its file brings the paint back, which waits for the picture that it is on
    page.locator("#restore button").first.click()
    page.locator("#restore input[type=file]").set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": made}
    )
    expect(page.locator("#restored")).to_contain_text("Add the same files again: 1 picture(s).")
    panel = page.locator("[role=tabpanel]:has(#make-image_text)")
    panel.locator("input[type=file]").first.set_input_files(source)
    expect(page.locator("#restored p")).to_have_text(texts.restored({}))
    page.wait_for_timeout(500)
    assert (drawn(page) == new).all()


def test_room_is_added_around_a_image_and_its_settings_come_back(page, source):
    with Image.open(source) as image:
        image.resize((64, 64)).save(source)
    unfold(page, source)
    page.locator("#margins").get_by_label(texts.LABELS["right"].en).fill("64")
    page.keyboard.press("Tab")
    new = drawn(page)
    assert new.shape == (64, 128, 3)
    assert (new[:, :64] == np.asarray(Image.open(source))).all()
    page.locator("#margins").get_by_label(texts.LABELS["right"].en).fill("0")
    page.keyboard.press("Tab")
    page.locator("#reuse").click()
    expect(page.locator("#margins").get_by_label(texts.LABELS["right"].en)).to_have_value("64")

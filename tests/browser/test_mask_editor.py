"""The mask editor in a real Chromium: painting with the mouse and with keys, and extending the image."""

import io

import numpy as np
import pytest
from browser.actions import generate, open_tab, panel, prompt_box, wait_until_ready
from PIL import Image
from playwright.sync_api import Page, expect

from x2i_app.settings import ASSETS
from x2i_app.ui.i18n import Text
from x2i_app.ui.restore import restored_text

SNOW = ASSETS / "examples/images/house-and-tree-on-snow.png"
SIDE = 128


@pytest.fixture
def source(tmp_path):
    """An image of the model's own size."""
    with Image.open(SNOW) as image:
        image.convert("RGB").resize((SIDE, SIDE)).save(tmp_path / "snow.png")
    return tmp_path / "snow.png"


def open_editor(page: Page, source) -> None:
    """Add the image to the tab and open the mask editor."""
    tab = open_tab(page, "image_text")
    tab.locator("input[type=file]").first.set_input_files(source)
    prompt_box(page, "image_text").fill("a yellow balloon")
    page.locator("#inpaint button").first.click()
    expect(page.locator("#mask-editor canvas")).to_be_visible()
    page.wait_for_timeout(500)


def result(page: Page) -> np.ndarray:
    """Generate an image; its pixels, uint8 (H, W, 3)."""
    body = page.request.get(generate(page, "image_text")).body()
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))


def test_mask(page, source, request):
    """The painted area is new, and every other pixel stays. The result's file restores the mask."""
    old = np.asarray(Image.open(source))
    open_editor(page, source)
    canvas = page.locator("#mask-editor canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 0.15 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.2 * box["height"], steps=5)
    page.mouse.up()
    page.screenshot(path=f"artifacts/{request.node.name}-painted.png", full_page=True)
    new = result(page)
    assert new.shape == old.shape
    changed = (new != old).any(axis=2)
    inside = np.zeros_like(changed)
    inside[int(0.1 * SIDE) : int(0.3 * SIDE), int(0.05 * SIDE) : int(0.5 * SIDE)] = True  # the brush is 15 % wide
    # The stroke is 0.6 of this box. What is drawn depends on the seed: a new sky may equal the old one here and there.
    assert changed[inside].mean() > 0.25
    assert not changed[~inside].any()
    file = page.request.get(page.locator("#result-images img").first.get_attribute("src")).body()

    page.locator("#mask-clear").click()
    assert painted(page) == 0
    canvas.focus()
    for key in ("ArrowDown", "ArrowDown", "Space"):  # from where the mouse was, a third of the brush size each
        page.keyboard.press(key)
    changed = (result(page) != old).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert (columns.mean() / SIDE, rows.mean() / SIDE) == pytest.approx((0.4, 0.3), abs=0.05)
    assert changed.mean() < 0.05

    page.evaluate("localStorage.clear()")  # as in another browser, which has not kept the image
    page.reload()  # the restored mask waits for its image
    wait_until_ready(page)
    page.locator("#restore button").first.click()
    page.locator("#restore input[type=file]").set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": file}
    )
    expect(page.locator("#restored")).to_contain_text("Add the same files again: 1 image.")
    panel(page, "image_text").locator("input[type=file]").first.set_input_files(source)
    expect(page.locator("#restored p")).to_have_text(restored_text({}))
    page.wait_for_timeout(500)
    assert (result(page) == new).all()


def painted(page: Page) -> float:
    """The share of the canvas that is colored; edges are soft."""
    return page.evaluate(
        """() => {
            const canvas = document.querySelector("#mask-editor canvas"), {width, height} = canvas;
            const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
            return pixels.filter((value, i) => i % 4 === 3 && value > 127).length / width / height;
        }"""
    )


def test_tools(page, source):
    """Undo, redo, eraser, invert, clear and zoom by buttons and keys; two fingers enlarge and paint nothing."""
    open_editor(page, source)
    canvas = page.locator("#mask-editor canvas")
    canvas.focus()
    page.keyboard.press("Space")  # in the middle
    dot = painted(page)
    assert dot == pytest.approx(3.14 * 0.075**2, rel=0.1)
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    assert painted(page) == pytest.approx(2 * dot, rel=0.1)
    page.locator("#mask-undo").click()
    assert painted(page) == dot
    page.locator("#mask-redo").click()
    assert painted(page) == pytest.approx(2 * dot, rel=0.1)
    canvas.focus()
    for key in ("e", "Space", "e"):
        page.keyboard.press(key)
    assert painted(page) == pytest.approx(dot, rel=0.1)
    invert = page.get_by_label(Text("label.mask_invert").en)
    invert.check()
    page.wait_for_function("window.x2iMaskInverted")
    assert painted(page) == pytest.approx(1 - dot, rel=0.1)
    invert.uncheck()
    page.wait_for_function("!window.x2iMaskInverted")
    page.locator("#mask-clear").click()
    assert painted(page) == 0
    canvas.focus()
    page.keyboard.press("Control+z")
    assert painted(page) == pytest.approx(dot, rel=0.1)
    page.keyboard.press("Control+Shift+z")
    assert painted(page) == 0
    before = canvas.bounding_box()["width"]
    page.keyboard.press("+")
    assert canvas.bounding_box()["width"] == pytest.approx(1.25 * before, rel=0.02)
    page.keyboard.press("-")
    assert canvas.bounding_box()["width"] == pytest.approx(before, rel=0.02)
    canvas.evaluate(
        """canvas => {
            const box = canvas.getBoundingClientRect(), {x, y, width} = box;
            const touch = (name, pointerId, part) => canvas.dispatchEvent(new PointerEvent(name, {
                pointerId, bubbles: true, pointerType: "touch", clientX: x + part * width, clientY: y + 50}));
            canvas.setPointerCapture = () => {};  // there are no such pointers
            touch("pointerdown", 11, 0.4);
            touch("pointerdown", 12, 0.6);
            touch("pointermove", 12, 0.8);
            touch("pointerup", 12, 0.8);
            touch("pointermove", 11, 0.5);
            touch("pointerup", 11, 0.5);
        }"""
    )
    assert canvas.bounding_box()["width"] == pytest.approx(2 * before, rel=0.05)
    assert painted(page) == 0


def test_extend(page, source):
    """The image is extended, its pixels stay, and the margins come back with its settings."""
    with Image.open(source) as image:
        image.resize((64, 64)).save(source)
    open_editor(page, source)
    page.locator("#margins").get_by_label(Text("label.right").en).fill("64")
    page.keyboard.press("Tab")
    new = result(page)
    assert new.shape == (64, 128, 3)
    assert (new[:, :64] == np.asarray(Image.open(source))).all()
    page.locator("#margins").get_by_label(Text("label.right").en).fill("0")
    page.keyboard.press("Tab")
    page.locator("#reuse").click()
    expect(page.locator("#margins").get_by_label(Text("label.right").en)).to_have_value("64")

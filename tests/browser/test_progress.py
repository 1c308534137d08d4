"""A running job in a real Chromium: its preview, its images one by one, and a page that is closed and opened again."""

import re

from browser.actions import prompt_box, set_settings, wait_until_ready
from playwright.sync_api import Browser, Page, expect

LONG = {"Steps": 100, "Width": 256, "Height": 256, "Number of images": 8}  # longer than a busy browser needs
# Positions and sizes of what is on the right.
PLACES = """() => ["result-images", "job", "answer"].map(id => {
    const box = document.getElementById(id).getBoundingClientRect();
    return [box.top + scrollY, box.left, box.width, box.height].map(Math.round).join(" ");
})"""


def begin(page: Page, prompt: str, **settings: int) -> None:
    prompt_box(page).fill(prompt)
    set_settings(page, **settings)
    page.locator("#generate-text").click()


def stop(page: Page) -> None:
    """Press Stop. Playwright's own click waits for two frames without movement, which a busy machine draws late."""
    page.locator("#stop").dispatch_event("click")


def test_preview(page, request):
    """The preview covers the place of the result, and nothing moves."""
    begin(page, "a red house and a green tree on snow", **LONG)
    expect(page.locator("#progress progress")).to_be_visible()
    before = page.evaluate(PLACES)
    preview = page.locator("#preview img")
    expect(preview).to_be_visible()
    expect(page.locator("#progress")).to_contain_text(re.compile(r"step [1-9]"))
    assert preview.get_attribute("src").startswith("data:image/jpeg;base64,")
    assert page.evaluate(PLACES) == before
    canvas, box = preview.bounding_box(), page.locator("#result-images").bounding_box()
    assert [round(canvas[key] - box[key], -1) for key in ("x", "y", "width", "height")] == [0, 0, 0, 0]
    page.screenshot(path=f"artifacts/{request.node.name}-running.png")
    stop(page)
    expect(page.locator("#progress")).to_contain_text("Stopped")
    expect(preview).to_have_count(0)


def test_reload(page, browser: Browser, server):
    """A page that is opened again finds its running job, and later its result; another browser does not."""
    begin(page, "a blue boat", **LONG)
    expect(page.locator("#progress")).to_contain_text(re.compile(r"step [1-9]"))
    page.evaluate("localStorage.removeItem('x2i-draft')")  # else the settings would be there again too
    page.reload()
    expect(page.locator("#progress")).to_contain_text(re.compile(r"step \d+ of 100"))
    stop(page)
    expect(page.locator("#progress")).to_contain_text("Stopped")

    prompt_box(page).fill("a red boat")  # with the model's own size and steps
    page.locator("#generate-text").click()
    expect(page.locator("#progress")).to_contain_text("Done")
    seed = page.locator("#progress").inner_text().split()[-1]
    page.reload()
    expect(page.locator("#progress")).to_contain_text(f"Seed {seed}")
    expect(page.locator("#result-images img").first).to_have_js_property("naturalWidth", 128)
    stranger = browser.new_context().new_page()
    stranger.goto(server)
    wait_until_ready(stranger)
    stranger.wait_for_timeout(1500)
    expect(stranger.locator("#progress")).not_to_contain_text("Seed")
    stranger.context.close()


def test_several_images(page, request):
    """Several images appear one by one."""
    # The page itself counts: a check from outside may come after two images.
    page.evaluate("""() => {
        window.counts = [];
        new MutationObserver(() => {
            const count = document.querySelectorAll("#result-images .thumbnail-item img").length;
            if (count !== window.counts.at(-1)) window.counts.push(count);
        }).observe(document.getElementById("result-images").parentElement, {childList: true, subtree: true});
    }""")
    begin(page, "a yellow balloon", **{"Steps": 20, "Width": 256, "Height": 256, "Number of images": 3})
    expect(page.locator("#progress")).to_contain_text("Done")
    expect(page.locator("#result-images .thumbnail-item img")).to_have_count(3)
    page.screenshot(path=f"artifacts/{request.node.name}.png")
    assert [count for count in page.evaluate("window.counts") if count] == [1, 2, 3]


def test_lost_image(page):
    """An image whose connection broke is requested again."""
    lost = []

    def lose_two(route):
        if len(lost) < 2:
            lost.append(route.request.url)
            return route.abort("connectionreset")
        return route.continue_()

    page.route(re.compile(r"/gradio_api/file=.*\.png"), lose_two)
    begin(page, "a red house", Steps=1, Width=64, Height=64)
    expect(page.locator("#progress")).to_contain_text("Done")
    expect(page.locator("#result-images img").first).to_have_js_property("naturalWidth", 64)
    assert len(lost) == 2

"""A running job in a real Chromium: its prediction, its pictures one by one, and that it outlives its page."""

import re

from playwright.sync_api import Browser, Page, expect

LONG = {"Steps": 60, "Width": 256, "Height": 256}
# Where everything on the right is, whether or not a prediction is shown.
PLACES = """() => ["pictures", "news", "words"].map(id => {
    const box = document.getElementById(id).getBoundingClientRect();
    return [box.top + scrollY, box.left, box.width, box.height].map(Math.round).join(" ");
})"""


def settle(page: Page, **settings: int) -> None:
    page.locator("#settings button").first.click()
    for label, value in settings.items():
        field = page.get_by_label(f"number input for {label}", exact=True)
        for _ in range(10):  # a section that was just unfolded takes the first words for its own old value
            field.fill(str(value))
            field.press("Tab")
            page.wait_for_timeout(200)
            if field.input_value() == str(value):
                break
        expect(field).to_have_value(str(value))


def begin(page: Page, prompt: str, **settings: int) -> None:
    page.get_by_label("What should it show?").fill(prompt)
    settle(page, **settings)
    page.locator("#make-text").click()


def test_a_prediction_takes_the_images_place_and_nothing_moves(page, request):
    begin(page, "a red house and a green tree on snow", **LONG)
    before = page.evaluate(PLACES)
    preview = page.locator("#preview img")
    expect(preview).to_be_visible()
    expect(page.locator("#progress")).to_contain_text(re.compile(r"step [1-9]"))
    assert preview.get_attribute("src").startswith("data:image/jpeg;base64,")
    assert page.evaluate(PLACES) == before
    canvas, box = preview.bounding_box(), page.locator("#pictures").bounding_box()
    assert [round(canvas[key] - box[key], -1) for key in ("x", "y", "width", "height")] == [0, 0, 0, 0]
    page.screenshot(path=f"artifacts/{request.node.name}-running.png")
    page.locator("#stop").click()
    expect(page.locator("#progress")).to_contain_text("Stopped")
    expect(preview).to_have_count(0)


def test_a_reload_finds_the_running_job_and_then_its_image_again_and_nobody_else_does(page, browser: Browser, server):
    begin(page, "a blue boat", **LONG | {"Steps": 30})
    expect(page.locator("#progress")).to_contain_text(re.compile(r"step [1-9]"))
    page.reload()
    expect(page.locator("#progress")).to_contain_text(re.compile(r"step \d+ of 30"))
    expect(page.locator("#progress")).to_contain_text("Done")
    image = page.locator("#pictures img").first
    expect(image).to_have_js_property("naturalWidth", 256)
    seed = page.locator("#progress").inner_text().split()[-1]
    page.reload()
    expect(page.locator("#progress")).to_contain_text(f"Seed {seed}")
    expect(image).to_have_js_property("naturalWidth", 256)
    stranger = browser.new_context().new_page()
    stranger.goto(server)
    stranger.locator("#make-text").wait_for()
    stranger.wait_for_timeout(1500)
    expect(stranger.locator("#progress")).not_to_contain_text("Seed")
    stranger.context.close()


def test_several_images_appear_one_by_one(page, request):
    page.get_by_label("What should it show?").wait_for()
    # Seen by the page itself: a look from outside may come after two pictures.
    page.evaluate("""() => {
        window.counts = [];
        new MutationObserver(() => {
            const count = document.querySelectorAll("#pictures .thumbnail-item img").length;
            if (count !== window.counts.at(-1)) window.counts.push(count);
        }).observe(document.getElementById("pictures").parentElement, {childList: true, subtree: true});
    }""")
    begin(page, "a yellow balloon", **LONG | {"Steps": 20, "How many": 3})
    expect(page.locator("#progress")).to_contain_text("Done")
    expect(page.locator("#pictures .thumbnail-item img")).to_have_count(3)
    page.screenshot(path=f"artifacts/{request.node.name}.png")
    assert [count for count in page.evaluate("window.counts") if count] == [1, 2, 3]


def test_a_image_that_was_lost_on_the_way_is_asked_for_again(page):
    lost = []

    def lose_two(route):
        if len(lost) < 2:
            lost.append(route.request.url)
            return route.abort("connectionreset")
        return route.continue_()

    page.route(re.compile(r"/gradio_api/file=.*\.png"), lose_two)
    begin(page, "a red house", Steps=1, Width=64, Height=64)
    expect(page.locator("#progress")).to_contain_text("Done")
    expect(page.locator("#pictures img").first).to_have_js_property("naturalWidth", 64)
    assert len(lost) == 2

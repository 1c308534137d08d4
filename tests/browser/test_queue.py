"""Several jobs at once in a real Chromium: seen, moved, changed, taken out, there again after a reload, and drawn."""

import re
import shutil
from contextlib import contextmanager

from browser.actions import number_field, open_tab, prompt_box, set_settings, upload, wait_until_ready, write
from browser.test_looks import findings
from conftest import free_port, run_app
from playwright.sync_api import expect

from x2i_app.ui.tabs import EXAMPLES

ROWS = "#queue li"


def test_queue(page):
    """Each click queues a job; the browser finds them again; all that stay are drawn and are in the session."""
    set_settings(page, **{"Steps": 100, "Width": 256, "Height": 256, "Number of images": 8})  # minutes
    for prompt in ("a red house", "a green boat", "a yellow car", "a blue fish"):
        prompt_box(page).fill(prompt)
        page.wait_for_timeout(450)  # a double click queues one job
        page.locator("#generate-text").click()
        expect(page.locator("#progress")).to_contain_text(re.compile(r"step \d+ of 100"))
    rows = page.locator(ROWS)
    prompts = rows.locator("b")
    expect(prompts).to_have_text(["a green boat", "a yellow car", "a blue fish"])
    expect(rows.first).to_contain_text("In queue")
    assert findings(page) == []
    rows.nth(2).get_by_label("Move up").click()
    expect(prompts).to_have_text(["a green boat", "a blue fish", "a yellow car"])
    expect(rows.nth(1).get_by_label("Move up")).to_be_focused()
    rows.first.get_by_label("One image less").click()
    expect(rows.first).to_contain_text("7 images")
    rows.first.get_by_label("Remove", exact=True).click()
    expect(prompts).to_have_text(["a blue fish", "a yellow car"])

    page.reload()
    wait_until_ready(page)
    expect(prompts).to_have_text(["a blue fish", "a yellow car"])
    rows.nth(1).get_by_label("Take it out and edit it").click()
    expect(prompts).to_have_text(["a blue fish"])
    expect(prompt_box(page)).to_have_value("a yellow car")
    page.locator("#stop").dispatch_event("click")
    expect(rows).to_have_count(0)
    expect(page.locator("#progress")).to_contain_text(re.compile(r"step \d+ of 100"))
    page.locator("#settings button").first.click()
    write(number_field(page, "Steps"), 2)
    write(number_field(page, "Number of images"), 1)
    page.locator("#generate-text").click()
    expect(prompts).to_have_text(["a yellow car"])
    page.locator("#stop").dispatch_event("click")
    expect(page.locator("#history-images .thumbnail-item")).to_have_count(1)
    expect(page.locator("#progress")).to_contain_text("Done")


def test_jobs_kept_over_a_restart(browser, tmp_path):
    """Jobs that did not end before the app did are offered to their browser, queued again with their files, and drawn.

    The uploads of the earlier run are gone by then.
    """
    port, cache = str(free_port()), tmp_path / "cache"
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    offer, prompts = page.locator("#kept-jobs"), page.locator(ROWS).locator("b")

    @contextmanager
    def running(name):
        (tmp_path / name).mkdir()
        with run_app(tmp_path / name, "--port", port, XDG_CACHE_HOME=str(cache)) as app:
            page.goto(app.url)
            wait_until_ready(page)
            yield

    with running("first"):
        set_settings(page, **{"Steps": 100, "Width": 256, "Height": 256, "Number of images": 8})  # minutes
        prompt_box(page).fill("a red house")
        page.locator("#generate-text").click()
        expect(page.locator("#progress")).to_contain_text(re.compile(r"step \d+ of 100"))
        open_tab(page, "image_text")
        upload(page, "image_text", EXAMPLES / "images/boat-at-sunset.png")
        prompt_box(page, "image_text").fill("make it night")
        write(number_field(page, "Steps"), 2)
        write(number_field(page, "Number of images"), 1)
        page.locator("#generate-image_text").click()
        expect(prompts).to_have_text(["make it night"])
        for _ in range(600):  # it is written beside the page
            if len(list(cache.rglob("*.json"))) == 2:
                break
            page.wait_for_timeout(100)
        assert not offer.is_visible()
    shutil.rmtree(tmp_path / "first")
    with running("second"):
        expect(offer.locator("li")).to_have_text(["a red house", "make it night"])
        assert findings(page) == []
        page.locator("#queue-again").click()
        expect(prompts).to_have_text(["make it night"])
        expect(page.locator(ROWS).locator("img")).to_have_count(1)
        expect(offer).to_be_hidden()
        expect(page.locator("#progress")).to_contain_text(re.compile(r"step \d+ of 100"))
        page.reload()
        wait_until_ready(page)
        expect(prompts).to_have_text(["make it night"])
        expect(offer).to_be_hidden()
        page.locator("#stop").dispatch_event("click")
        expect(page.locator("#answer textarea")).to_have_value(re.compile("at night"))
    context.close()

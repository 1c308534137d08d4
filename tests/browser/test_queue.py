"""Several jobs at once in a real Chromium: seen, moved, changed, taken out, there again after a reload, and drawn."""

import re

from browser.actions import number_field, prompt_box, set_settings, wait_until_ready, write
from browser.test_looks import findings
from playwright.sync_api import expect

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
    expect(rows.first).to_contain_text("7 image(s)")
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

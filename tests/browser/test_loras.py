"""LoRAs in a real Chromium: chosen, weighed, mixed, removed; and what strangers call and put into theirs."""

import shutil

from browser.test_tabs import write
from playwright.sync_api import Page, expect

from x2i_app.settings import ASSETS
from x2i_app.ui.i18n import texts

STRIPED = ASSETS / "examples/loras/striped.safetensors"


def image(page: Page, *, before: str | None = None) -> str:
    """Draw, and give the picture's address, which follows from its content."""
    page.locator("#make-text").click()
    shown = page.locator("#pictures img").first
    if before:
        expect(shown).not_to_have_attribute("src", before)
    expect(page.locator("#progress")).to_contain_text("Done")
    expect(shown).to_be_visible()
    return shown.get_attribute("src")


def weight(page: Page, name: str):
    return page.get_by_label(f"number input for {name}", exact=True)


def test_a_lora_is_chosen_weighed_mixed_and_removed_again(page, tmp_path, request):
    page.get_by_label(texts.LABELS["prompt"].en).fill("a red house and a green tree on snow")
    page.locator("#settings button").first.click()
    write(page.get_by_label("Seed", exact=True), 5)
    plain = image(page)
    page.locator("#model button").first.click()
    page.get_by_label(texts.LORA_ADD.en).click()
    page.get_by_role("option", name="striped").click()
    expect(weight(page, "striped")).to_have_value("1")
    striped = image(page, before=plain)
    page.screenshot(path=f"artifacts/{request.node.name}-striped.png", full_page=True)

    name = "<img src=x onerror=window.p=1>"  # as a stranger may call a file
    shutil.copy(STRIPED, tmp_path / f"{name}.safetensors")
    page.locator("input[type=file][accept='.safetensors']").set_input_files(tmp_path / f"{name}.safetensors")
    second = weight(page, "img-src-x-onerror-window-p-1")
    expect(second).to_have_value("1")
    second.fill("-1")  # takes away what the first one adds
    second.press("Tab")
    expect(page.locator("#lora-2 input[type=range]")).to_have_value("-1")
    mixed = image(page, before=striped)
    page.locator("button", has_text=texts.USED.en).click()
    expect(page.locator("#report")).to_contain_text("img-src-x-onerror-window-p-1.safetensors")
    page.locator("#lora-1").get_by_role("button", name=texts.LORA_REMOVE.en).click()
    expect(weight(page, "striped")).to_have_count(0)
    expect(second).to_have_value("-1")  # and moves up
    page.locator("#lora-1").get_by_role("button", name=texts.LORA_REMOVE.en).click()
    expect(second).to_have_count(0)
    again = image(page, before=mixed)
    assert again == plain
    assert page.evaluate("window.p") is None


def test_what_is_no_lora_is_refused_before_anything_is_drawn_with_it(page, tmp_path):
    page.locator("#model button").first.click()
    (tmp_path / "web page.safetensors").write_text("<!doctype html>")
    page.locator("input[type=file][accept='.safetensors']").set_input_files(tmp_path / "web page.safetensors")
    expect(page.locator(".toast-body")).to_contain_text("web-page.safetensors is a web page instead of weights")
    expect(page.locator("#lora-1")).to_be_hidden()

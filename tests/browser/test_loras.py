"""LoRAs in a real Chromium: added, weighted, combined, removed; and what hostile files are called and contain."""

import shutil

from browser.actions import generate, number_field, prompt_box, write
from playwright.sync_api import expect

from x2i_app.settings import ASSETS
from x2i_app.ui.i18n import Text

STRIPED = ASSETS / "examples/loras/striped.safetensors"


def test_loras(page, tmp_path, request):
    """One of this machine's and an upload are combined; without them the image is what it was."""
    prompt_box(page).fill("a red house and a green tree on snow")
    page.locator("#settings button").first.click()
    write(page.get_by_label("Seed", exact=True), 5)
    plain = generate(page)  # the address contains a hash of the image
    page.locator("#loras button").first.click()
    page.get_by_label(Text("lora.add").en).click()
    page.get_by_role("option", name="striped").click()
    expect(number_field(page, "striped")).to_have_value("1")
    generate(page)
    page.screenshot(path=f"artifacts/{request.node.name}-striped.png", full_page=True)

    name = "<img src=x onerror=window.p=1>"
    shutil.copy(STRIPED, tmp_path / f"{name}.safetensors")
    page.locator("input[type=file][accept='.safetensors']").set_input_files(tmp_path / f"{name}.safetensors")
    second = number_field(page, "img-src-x-onerror-window-p-1")
    expect(second).to_have_value("1")
    second.fill("-1")  # cancels the first one
    second.press("Tab")
    expect(page.locator("#lora-2 input[type=range]")).to_have_value("-1")
    generate(page)
    page.locator("button", has_text=Text("report").en).click()
    expect(page.locator("#report")).to_contain_text("img-src-x-onerror-window-p-1.safetensors")
    page.locator("#lora-1").get_by_role("button", name=Text("lora.remove").en).click()
    expect(number_field(page, "striped")).to_have_count(0)
    expect(second).to_have_value("-1")  # moved up
    page.locator("#lora-1").get_by_role("button", name=Text("lora.remove").en).click()
    expect(second).to_have_count(0)
    assert generate(page) == plain
    assert page.evaluate("window.p") is None


def test_no_lora(page, tmp_path):
    """A file that is no LoRA is refused when it is uploaded."""
    page.locator("#loras button").first.click()
    (tmp_path / "web page.safetensors").write_text("<!doctype html>")
    page.locator("input[type=file][accept='.safetensors']").set_input_files(tmp_path / "web page.safetensors")
    expect(page.locator(".toast-body")).to_contain_text("web-page.safetensors is a web page instead of weights")
    expect(page.locator("#lora-1")).to_be_hidden()

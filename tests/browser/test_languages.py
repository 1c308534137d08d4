"""The page in the browser's language, and in English for a language that it does not have."""

import re

import pytest
from browser.actions import panel
from playwright.sync_api import expect

from x2i_app.settings import ASSETS
from x2i_app.ui.http.limits import HTTP_LIMITS
from x2i_app.ui.i18n import TEXTS, Text
from x2i_app.ui.tabs import TABS

ZH = TEXTS["zh"]


def open_page(browser, server, locale):
    context = browser.new_context(locale=locale, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(server)
    page.locator("#generate-text").wait_for()
    return page


@pytest.fixture
def chinese(browser, server):
    page = open_page(browser, server, "zh-CN")
    yield page
    page.context.close()


def test_chinese(chinese):
    """The page and what is shown of a job are Chinese."""
    for tab in TABS:
        expect(chinese.get_by_role("tab", name=ZH[f"tab.{tab.name}"], exact=True).first).to_be_visible()
    expect(chinese.locator("#title")).to_contain_text(ZH["tagline"])
    expect(chinese.locator("#model-description")).to_contain_text(ZH["preset.x2i-tiny"])
    expect(chinese.locator("#empty-hint")).to_contain_text("图片会出现在这里")
    chinese.get_by_label(ZH["label.prompt"], exact=True).fill("雪地上的红房子")
    chinese.get_by_role("button", name=ZH["generate"], exact=True).first.click()
    expect(chinese.locator("#progress")).to_contain_text("用时")
    expect(chinese.locator("#result-images img").first).to_be_visible()
    chinese.get_by_role("tab", name=ZH["tab.audio"], exact=True).first.click()
    audio = panel(chinese, "audio")
    audio.locator("input[type=file]").first.set_input_files(next((ASSETS / "examples/audios").iterdir()))
    expect(audio.locator("#input-preview-audio")).to_contain_text("模型会直接听")
    audio.locator("#generate-audio").click()
    expect(chinese.locator("#answer textarea")).to_have_value(re.compile("直接听了这段音频，全部"))


def test_chinese_panels(chinese):
    """What the server sends later is Chinese too."""
    chinese.get_by_role("button", name=ZH["generate"], exact=True).first.click()
    expect(chinese.get_by_test_id("toast-body")).to_contain_text(ZH["empty.text"])
    chinese.locator("#model button").first.click()
    expect(chinese.locator("#facts")).to_contain_text(ZH["state.ready"])
    chinese.locator("#memory button").first.click()
    expect(chinese.locator("#memory")).to_contain_text("GiB，其中本应用")
    assert "__i18n__" not in chinese.locator("body").inner_text()


def test_chinese_errors(chinese):
    chinese.locator("#settings button").first.click()
    chinese.locator("#match").click()
    expect(chinese.get_by_test_id("toast-body")).to_contain_text(ZH["error.no_image_in_tab"])
    expect(chinese.get_by_test_id("toast-body")).to_contain_text(ZH["failed"])


def test_wrong_file(chinese, tmp_path):
    """A file that does not fit is refused in one sentence, in the user's language."""
    (tmp_path / "notes.txt").write_text("no image")
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(HTTP_LIMITS.upload_bytes + 1)
    chinese.get_by_role("tab", name=ZH["tab.image"], exact=True).first.click()
    chooser = panel(chinese, "image").locator("input[type=file]").first
    toast = chinese.get_by_test_id("toast-text")
    chooser.set_input_files(tmp_path / "notes.txt")
    expect(toast).to_have_text(Text("file.wrong").to("zh", files="notes.txt", kinds=ZH["file.image"]))
    expect(chinese.get_by_test_id("toast-body")).to_contain_text(ZH["failed"])
    chinese.get_by_test_id("toast-close").click()
    expect(toast).to_have_count(0)
    chooser.set_input_files(tmp_path / "huge.png")
    expect(toast).to_have_text(Text("file.large").to("zh", files="huge.png", most="110 MB"))


def test_other_language(browser, server):
    """A German browser gets the page in English, without keys or markers."""
    page = open_page(browser, server, "de-DE")
    expect(page.locator("#generate-text")).to_have_text(TEXTS["en"]["generate"])
    expect(page.locator("#title")).to_contain_text(TEXTS["en"]["tagline"])
    expect(page.get_by_label("Prompt", exact=True)).to_be_visible()
    shown = page.locator("body").inner_text()
    assert "__i18n__" not in shown
    assert not [key for key in TEXTS["en"] if "." in key and key in shown]
    page.context.close()

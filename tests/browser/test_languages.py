"""The page in Chinese, for a browser that asks for it: its words, the server's, and a picture."""

import re

import pytest
from playwright.sync_api import expect

from x2i_app.settings import ASSETS
from x2i_app.ui.http.limits import HTTP_LIMITS
from x2i_app.ui.i18n import texts


@pytest.fixture(scope="module")
def chinese(browser, server):
    context = browser.new_context(locale="zh-CN", viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(server)
    page.locator("#make-text").wait_for()
    yield page
    context.close()


def test_a_image_is_made_in_chinese(chinese):
    for tab in texts.TABS.values():
        expect(chinese.get_by_role("tab", name=tab.zh, exact=True).first).to_be_visible()
    expect(chinese.locator("#title")).to_contain_text(texts.TAGLINE.zh)
    expect(chinese.locator("#heading")).to_contain_text("卡通世界")
    expect(chinese.locator("#hint")).to_contain_text("图片会出现在这里")
    chinese.get_by_label(texts.LABELS["prompt"].zh).fill("雪地上的红房子")
    chinese.get_by_role("button", name=texts.MAKE.zh).first.click()
    expect(chinese.locator("#progress")).to_contain_text("用时")
    expect(chinese.locator("#pictures img").first).to_be_visible()
    chinese.get_by_role("tab", name=texts.TABS["audio"].zh, exact=True).first.click()
    audio = chinese.locator("[role=tabpanel]:has(#make-audio)")
    audio.locator("input[type=file]").first.set_input_files(next((ASSETS / "examples/audios").iterdir()))
    expect(audio.locator("#seen-audio")).to_contain_text("模型会直接听")
    audio.locator("#make-audio").click()
    expect(chinese.locator("#words textarea")).to_have_value(re.compile("直接听了这段声音，全部"))


def test_what_is_told_later_is_chinese_too(chinese):
    chinese.get_by_role("button", name=texts.MODEL.zh).click()
    expect(chinese.locator("#facts")).to_contain_text(texts.STATES["ready"].zh)
    chinese.get_by_role("button", name=texts.MEMORY.zh).click()
    expect(chinese.locator("#memory")).to_contain_text("GiB，其中本应用")
    shown = chinese.locator("body").inner_text()
    assert "__i18n__" not in shown


def test_a_file_that_does_not_fit_gets_one_sentence(chinese, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(HTTP_LIMITS.upload_bytes + 1)
    chinese.get_by_role("tab", name=texts.TABS["image"].zh, exact=True).first.click()
    place = chinese.locator("[role=tabpanel]:has(#make-image) input[type=file]").first
    told = chinese.get_by_test_id("toast-text")
    place.set_input_files(tmp_path / "notes.txt")
    expect(told).to_have_text(texts.WRONG_FILE.to("zh", files="notes.txt", kinds=texts.FILE_KINDS["image"].zh))
    expect(chinese.get_by_test_id("toast-body")).to_contain_text(texts.FAILED.zh)
    chinese.get_by_test_id("toast-close").click()
    expect(told).to_have_count(0)
    place.set_input_files(tmp_path / "huge.png")
    expect(told).to_have_text(texts.LARGE_FILE.to("zh", files="huge.png", most="110 MB"))

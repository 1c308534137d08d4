"""The page in the browser's language, and in English for a language that it does not have."""

import re

import pytest
from browser.actions import panel, prompt_box, wait_until_ready
from playwright.sync_api import expect

from x2i_app.settings import ASSETS
from x2i_app.ui.http.limits import HTTP_LIMITS
from x2i_app.ui.i18n import NAMES as NAMES_OF
from x2i_app.ui.i18n import TEXTS, Text
from x2i_app.ui.tabs import TABS

ZH = TEXTS["zh"]
# Names, units and keys; whatever else has Latin letters on a Chinese page is not translated.
NAMES = re.compile(
    r"X2I Studio|x2i-tiny|FLUX|LoRA|MLLM|AlignNet|VAE|LightControl|CPU|API|A1111|Forge|ComfyUI|InvokeAI|Fooocus|"
    r"Hugging Face|Whisper|Apache-2.0|Ctrl|Enter|[GM]i?B|[.]?safetensors|JSONL?|CSV|(?<!\w)(?:cpu|mp4|png|wav|x)\b"
)
# (kind, text) of everything that is visible or read aloud, without examples, file names and what the model says.
CRAWL = """() => {
  const isShown = part => part.checkVisibility({visibilityProperty: true, opacityProperty: true})
    && !part.closest("[id^=examples-], #facts, .chips, #result-images, #history-images");
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; node = walker.nextNode();) {
    const part = node.parentElement;
    if (!/STYLE|SCRIPT|TEXTAREA/.test(part.tagName) && isShown(part)) found.push(["text", node.data.trim()]);
  }
  for (const name of ["placeholder", "aria-label", "title", "aria-description", "aria-roledescription"]) {
    for (const part of document.querySelectorAll(`[${name}]`)) {
      if (isShown(part)) found.push([name, part.getAttribute(name)]);
    }
  }
  return found;
}"""


def untranslated(page):
    """(kind, text) of what is visible or read aloud and has words that are not Chinese."""
    page.wait_for_timeout(500)
    return [(kind, text) for kind, text in page.evaluate(CRAWL) if re.search("[A-Za-z]{2}", NAMES.sub("", text))]


def open_page(browser, server, locale):
    context = browser.new_context(locale=locale, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(server)
    wait_until_ready(page)
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

    for name in (
        "settings",
        "prompt-help",
        "style-previews",
        "loras",
        "batch",
        "restore",
        "model",
        "memory",
        "report-section",
        "compare-original",
        "compare-history",
    ):
        chinese.locator(f"#{name} button").first.click()
    files = {
        "image_text": "images",
        "video": "videos",
        "audio": None,
        "fusion": "images",
        "image": "images",
        "text": None,
    }
    for tab, kind in files.items():
        chinese.get_by_role("tab", name=ZH[f"tab.{tab}"], exact=True).first.click()
        if tab == "image_text":
            chinese.locator("#inpaint button").first.click()
        if kind:
            chooser = panel(chinese, tab).locator("input[type=file]").first
            chooser.set_input_files(next((ASSETS / "examples" / kind).iterdir()))
        for _ in range(100):  # while a file arrives, Gradio's own upload says so in English
            if not untranslated(chinese):
                break
            chinese.wait_for_timeout(100)
        assert untranslated(chinese) == [], tab
    chinese.get_by_role("tab", name=ZH["tab.fusion"], exact=True).first.click()
    document = {"name": "a.png", "mimeType": "image/png", "buffer": b"%PDF-1.4"}
    panel(chinese, "fusion").locator("input[type=file]").first.set_input_files([document])
    sentence = re.compile("'a.*png' 是 PDF 文档；请改用常见的图片、视频或音频文件")
    expect(chinese.locator("#input-preview-fusion .unused")).to_have_text(sentence)
    chinese.locator("#generate-fusion").click()
    expect(chinese.get_by_test_id("toast-text")).to_have_text(sentence)
    expect(chinese.locator("#progress .failed")).to_have_text(sentence)


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


@pytest.mark.parametrize(("locale", "chosen"), [("en-US", "zh"), ("zh-CN", "en")])
def test_choice_of_language(browser, server, locale, chosen):
    """The switch at the top shows the whole page in another language, for good, and keeps what was typed."""
    page, texts = open_page(browser, server, locale), TEXTS[chosen]
    choice = page.locator("#language input")
    expect(choice).to_have_value(NAMES_OF["zh" if locale == "zh-CN" else "en"])
    page.locator("#generate-text").click()
    expect(page.locator("#progress .failed")).to_be_visible()
    prompt_box(page).fill("a red house")
    page.locator("#batch button").first.click()
    page.locator("#batch-prompts textarea").fill("a boat")
    page.wait_for_timeout(500)
    choice.click()
    page.get_by_role("option", name=NAMES_OF[chosen]).click()
    expect(page.locator("#generate-text")).to_have_text(texts["generate"])
    wait_until_ready(page)
    expect(choice).to_have_value(NAMES_OF[chosen])
    expect(prompt_box(page)).to_have_value("a red house")
    page.locator("#batch button").first.click()
    expect(page.locator("#batch-prompts textarea")).to_have_value("a boat")
    page.locator("#restore button").first.click()
    expect(page.locator("#restore")).to_contain_text(texts["restore.file"])
    if chosen == "zh":
        assert untranslated(page) == []
    page.reload()
    wait_until_ready(page)
    page.get_by_role("tab", name=texts["tab.video"], exact=True).first.click()
    page.locator("#generate-video").click()
    expect(page.locator("#progress .failed")).to_have_text(texts["empty.video"])  # what the server says, too
    assert page.evaluate("document.documentElement.lang").startswith(chosen)
    page.context.close()


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

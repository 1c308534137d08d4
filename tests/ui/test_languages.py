"""The page in every language: no text is missing, and no component shows an untranslated one."""

import copy
import json
import re
from pathlib import Path

import gradio as gr
import pytest

from x2i_app import notes
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import Phase, Progress
from x2i_app.settings import Settings
from x2i_app.ui import i18n
from x2i_app.ui.i18n import LANGUAGES, TEXTS, PageError, Text, language_of, translations
from x2i_app.ui.layout import build_page
from x2i_app.ui.page import TITLE, as_gradio_error
from x2i_app.ui.progress import note_text, progress_text, time_left_text

SOURCES = sorted(Path(i18n.__file__).parents[1].rglob("*.py"))
CHINESE = re.compile(r"[\u4e00-\u9fff]")
MARKER = re.compile(r"__i18n__\{.+?\}")
SHOWN = ("label", "info", "placeholder", "value")
VALUES_ARE_TEXTS = (gr.Button, gr.Markdown, gr.HTML)


@pytest.fixture(scope="module")
def page():
    return build_page(Engine(Settings()))


def placeholders(text):
    return sorted(re.findall(r"{\w+}", text))


@pytest.mark.parametrize("language", LANGUAGES)
def test_keys(language):
    """Every language has all keys, and the same placeholders in each text."""
    english, texts = TEXTS["en"], TEXTS[language]
    assert texts.keys() == english.keys()
    assert {key for key in texts if placeholders(texts[key]) != placeholders(english[key])} == set()
    assert translations().translations[language].items() >= texts.items()


def test_chinese_is_chinese():
    names = [key for key, text in TEXTS["zh"].items() if not CHINESE.search(text)]
    assert names == ["comma", "stop_mark"], "the only texts of punctuation"


def test_plain_terms():
    """The page says image, video and audio, never film or sound for a file, visit or line."""
    old = re.compile(r"\b(films?|sounds|visits?|anew|in line|miniature)\b", re.IGNORECASE)
    assert [key for key, text in TEXTS["en"].items() if old.search(text)] == []


def test_every_key_is_used():
    """Each key stands in the code, whole or as the part before an f-string's variable."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES if path.parent.name != "i18n")
    whole = set(re.findall(r"[\"']([a-z_]+(?:\.[\w.-]+)?)[\"']", code))
    started = tuple(re.findall(r"[\"']([a-z_.]+)\{", code))
    assert [key for key in TEXTS["en"] if key not in whole and not key.startswith(started)] == []


def test_unknown_key():
    with pytest.raises(KeyError, match="no text 'generat'; add it to every language"):
        Text("generat")


def test_components_are_translated(page):
    """Every text that a component shows is a Text; examples and choices are values."""
    for component in page.blocks.values():
        for name, text in shown(component):
            keys = {json.loads(key) for key in re.findall(r'"key": (".+?")}', text)}
            assert keys <= TEXTS["en"].keys(), f"{name} of {component}"
            left = re.sub(r"<.+?>", "", MARKER.sub("", text)).replace(TITLE, "").replace("x2i-tiny", "")
            assert not re.search("[A-Za-z]", left), f"{name} of {component} is {text!r}; make it a Text"
            # Gradio's page translates only the first marker of a string.
            assert len(keys) <= 1, f"{name} of {component}"


def shown(component):
    """(attribute, text) of what a user can see of a component."""
    if getattr(component, "visible", True) is False:
        return
    for name in SHOWN:
        text = getattr(component, name, None)
        if name == "value" and not isinstance(component, VALUES_ARE_TEXTS):
            continue
        if name == "label" and (isinstance(component, gr.HTML) or getattr(component, "show_label", True) is False):
            continue
        if isinstance(text, (str, Text)):
            yield name, str(text)


def test_programs_get_english(page):
    endpoints = page.get_api_info()["named_endpoints"]
    labels = [value["label"] for endpoint in endpoints.values() for value in endpoint["parameters"]]
    assert "Prompt" in labels
    assert all(isinstance(label, str) and "i18n" not in label for label in labels)


@pytest.mark.parametrize(
    ("asked", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("zh", "zh"),
        ("ZH", "zh"),
        ("en-GB,zh;q=0.5", "en"),
        ("de-DE", "en"),
        ("zhx", "en"),
        ("", "en"),
    ],
)
def test_language_of_request(asked, language):
    assert language_of(gr.Request(headers={"accept-language": asked})) == language


@pytest.mark.parametrize("key", ["input.video_chip", "queue.images", "restore.audios", "batch.noted"])
def test_one_and_many(key):
    """English has a word for one and another for more; no text leaves that to the reader."""
    one, more = (Text(key).to("en", number=3, count=count).rstrip(":") for count in (1, 2))
    assert f"{one}s" == more.replace("2", "1")
    assert [key for key, text in TEXTS["en"].items() if "(s)" in text] == []


def test_progress():
    denoising = Progress(Phase.DENOISING, step=2, steps=8, image=1, images=3)
    assert progress_text(denoising) == "Generating, image 1 of 3, step 2 of 8"
    assert progress_text(denoising, "zh") == "正在生成，第 1 张，共 3 张，第 2 步，共 8 步"
    assert progress_text(Progress(Phase.QUEUED, place=3)) == "In queue, 2 ahead of you"
    assert progress_text(Progress(Phase.QUEUED, place=1)) == "In queue"
    assert progress_text(Progress(Phase.LOADING, detail="1 of 2 GB")) == "Loading the model. 1 of 2 GB"
    assert progress_text(Progress(Phase.ENCODING, image=1, images=1)) == "Reading your input"


def test_time_left():
    assert time_left_text(99.4) == "about 99 s left"
    assert time_left_text(100) == "about 2 min left"
    assert time_left_text(100, "zh") == "大约还需 2 分钟"


def test_notes():
    """Every note of a result is translated, with its values."""
    templates = [template for name, template in vars(notes).items() if name.isupper()]
    assert len(templates) >= 5
    for template in templates:
        values = {name: f"<{name}>" for name in re.findall(r"{(\w+)}", template)}
        note = copy.copy(notes.Note(template, **values))  # as pickling does: results may cross processes
        assert note_text(note, "en") == note == template.format(**values)
        assert CHINESE.search(note_text(note, "zh"))
        assert all(value in note_text(note, "zh") for value in values.values())
    assert note_text("an unknown note", "zh") == "an unknown note"
    (nested,) = notes.of_negative([notes.Note(notes.TAG_LEFT_OUT, tag="<x>")])
    for note in (nested, str(nested)):
        assert note_text(note, "zh") == "负面提示词：略去提示词中的 <x>，它在这里没有意义。"


def test_page_error():
    """An error of the page is in the user's language on the page, and in English elsewhere."""
    error = PageError("error.not_saved", reason="<full>")
    assert str(error).startswith("The image is finished but cannot be written (<full>)")
    shown = as_gradio_error(error, "zh")
    assert shown.message.startswith("图片已生成，但无法写入（&lt;full&gt;）"), "HTML is escaped"
    assert shown.title == "出错了"

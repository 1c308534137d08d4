"""The page speaks English and Chinese, and no word of it goes past the translations."""

import copy
import json
import re

import gradio as gr
import pytest

from x2i_app import notes
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import Phase, Progress
from x2i_app.settings import Settings
from x2i_app.ui.i18n import texts
from x2i_app.ui.i18n.gradio_strings import GRADIO_WORDS
from x2i_app.ui.i18n.languages import Text, language_of, translations
from x2i_app.ui.i18n.notes import say_note
from x2i_app.ui.layout import build_page

CHINESE = re.compile(r"[\u4e00-\u9fff]")
MARKER = re.compile(r"__i18n__\{.+?\}")
SHOWN = ("label", "info", "placeholder", "value")
VALUES_ARE_WORDS = (gr.Button, gr.Markdown, gr.HTML)


@pytest.fixture(scope="module")
def page():
    return build_page(Engine(Settings()))


def test_every_word_is_there_in_both_languages():
    en, zh = (translations(GRADIO_WORDS).translations[language] for language in ("en", "zh"))
    assert en.keys() == zh.keys()
    assert len(en) > 50
    for key, words in zh.items():
        assert CHINESE.search(words) or not re.search("[A-Za-z]{2}", re.sub(r"{\w+}", "", en[key])), key
        assert sorted(re.findall(r"{\w+}", words)) == sorted(re.findall(r"{\w+}", en[key]))


def test_no_component_shows_words_that_are_not_translated(page):
    known = translations().translations["en"]
    for component in page.blocks.values():
        for name, words in shown(component):
            keys = [json.loads(key) for key in re.findall(r'"key": (".+?")}', words)]
            assert set(keys) <= set(known), f"{name} of {component}"
            left = re.sub(r"<.+?>", "", MARKER.sub("", words)).replace(texts.TITLE, "")
            assert not re.search("[A-Za-z]", left), f"{name} of {component} is {words!r}; make it a Text in ui/texts.py"


def shown(component):
    """(name, words) of what a visitor could see of it; examples and choices are values, not words of ours."""
    if getattr(component, "visible", True) is False:
        return
    for name in SHOWN:
        words = getattr(component, name, None)
        if name == "value" and not isinstance(component, VALUES_ARE_WORDS):
            continue
        if name == "label" and (isinstance(component, gr.HTML) or getattr(component, "show_label", True) is False):
            continue
        if isinstance(words, (str, Text)):
            yield name, str(words)


def test_programs_read_english(page):
    endpoints = page.get_api_info()["named_endpoints"]
    labels = [value["label"] for endpoint in endpoints.values() for value in endpoint["parameters"]]
    assert "What should it show?" in labels
    assert all(isinstance(label, str) and "i18n" not in label for label in labels)


@pytest.mark.parametrize(
    ("asked", "language"),
    [("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("zh", "zh"), ("en-GB,zh;q=0.5", "en"), ("de-DE", "en"), ("", "en")],
)
def test_the_server_answers_in_the_language_that_a_browser_asks_for(asked, language):
    request = gr.Request(headers={"accept-language": asked})
    assert language_of(request) == language


def test_progress_is_told_in_both_languages():
    moment = Progress(Phase.DENOISING, step=2, steps=8, image=1, images=3)
    assert texts.say(moment) == "Drawing, image 1 of 3, step 2 of 8"
    assert texts.say(moment, "zh") == "正在绘制，第 1 张，共 3 张，第 2 步，共 8 步"


def test_what_stands_with_a_result_is_told_in_both_languages():
    templates = [template for name, template in vars(notes).items() if name.isupper()]
    assert len(templates) >= 5
    for template in templates:
        values = {name: f"<{name}>" for name in re.findall(r"{(\w+)}", template)}
        note = copy.copy(notes.Note(template, **values))  # as pickling does: results may cross processes
        assert say_note(note, "en") == note == template.format(**values)
        assert CHINESE.search(say_note(note, "zh"))
        assert all(value in say_note(note, "zh") for value in values.values())
    assert say_note("words of nobody", "zh") == "words of nobody"


def test_one_sentence_has_one_translation():
    with pytest.raises(ValueError, match="two translations"):
        Text("Stop", "停下")

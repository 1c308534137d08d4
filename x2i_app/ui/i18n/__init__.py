"""Every text of the page in every language: one file a language, named by its code, whose TEXTS all have the same keys.

To add a language, add its file; tests/ui/test_languages.py says which keys are missing. The browser translates what a
component was built with. The server writes what it sends later, such as progress, in the language of the request. For
programs, the log and the command line everything is English. A cookie has the language that the user has chosen.

In a text, {count:frame|frames} is the word for one or for more.

The layers below the page know only English. A language may have SENTENCES, by which the page translates their errors.
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from string import Formatter
from typing import Any

import gradio as gr
from gradio.i18n import I18nData

from x2i_app.errors import InvalidRequestError, X2IError

DEFAULT = "en"
_MODULES = {module.name: import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)}
TEXTS: dict[str, dict[str, str]] = {language: module.TEXTS for language, module in _MODULES.items()}
LANGUAGES = tuple(TEXTS)
LANGUAGE_COOKIE = "x2i-language"
NAMES = {language: module.NAME for language, module in _MODULES.items()}
_TOKEN = re.compile(r"[\w.,+-]+")


class _Formatter(Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        one, bar, more = format_spec.partition("|")
        return (one if value == 1 else more) if bar else super().format_field(value, format_spec)


class Text(I18nData):
    """A text of the page by its key. A component that is built with it shows the browser's language.

    Raises KeyError for an unknown key. `str` is only for Gradio's page; in a string of the server's, use `to`.
    """

    def __init__(self, key: str):
        if key not in TEXTS[DEFAULT]:
            raise KeyError(f"There is no text {key!r}; add it to every language in ui/i18n.")
        super().__init__(key)

    @property
    def en(self) -> str:
        """The English text."""
        return self.to(DEFAULT)

    def to(self, language: str, **values: object) -> str:
        """The text in one of LANGUAGES; `values` replace the names in braces."""
        text = TEXTS[language][self.key]
        return _Formatter().vformat(text, (), values) if values else text

    def __deepcopy__(self, memo: dict) -> "Text":
        return self  # Gradio copies the settings of components


class PageError(InvalidRequestError):
    """An error whose sentence the page has in every language. `str` is English."""

    def __init__(self, key: str, **values: object):
        self.text, self.values = Text(key), values
        super().__init__(self.to(DEFAULT))

    def to(self, language: str) -> str:
        """The sentence in one of LANGUAGES."""
        return self.text.to(language, **self.values)


def error_text(error: X2IError, language: str) -> str:
    """The sentence of an error in one of LANGUAGES."""
    return error.to(language) if isinstance(error, PageError) else translate(str(error), language)


def translate(sentence: str, language: str) -> str:
    """A sentence or a note of the layers below the page in one of LANGUAGES; as it is if there is no translation.

    The values in it are translated too, where they are sentences or known phrases and not quoted.
    """
    if language == DEFAULT:
        return sentence
    phrases = getattr(_MODULES[language], "PHRASES", {})
    if sentence in phrases:
        return phrases[sentence]
    for known in _sentences(language):
        if (values := known.values_of(sentence)) is not None:
            return known.translation.format(**{name: _value(value, language) for name, value in values.items()})
    parts = sentence.split(", ")
    return Text("comma").to(language).join(phrases[part] for part in parts) if phrases.keys() >= {*parts} else sentence


def _value(value: str, language: str) -> str:
    # What is quoted is a name or a value of the user's, whatever it says.
    return value if value.startswith(("'", '"')) else translate(value, language)


@dataclass(frozen=True)
class _Sentence:
    """literals: what stands before, between and after the values of a template. names: of the values.

    is_phrase: each value is one number or one name.
    """

    literals: tuple[str, ...]
    names: tuple[str, ...]
    translation: str
    is_phrase: bool

    @classmethod
    def of(cls, template: str, translation: str, is_phrase: bool = False) -> "_Sentence":
        parts = re.split(r"{(\w+)}", template)
        names = tuple(f"_{name}" if name.isdigit() else name for name in parts[1::2])
        return cls(tuple(parts[::2]), names, re.sub(r"{(\d+)}", r"{_\1}", translation), is_phrase)

    def values_of(self, text: str) -> dict[str, str] | None:
        """The values with which the template is `text`, each as short as can be; None if it is not."""
        if not self.names:
            return {} if text == self.literals[0] else None
        first, last = self.literals[0], self.literals[-1]
        at, end = len(first), len(text) - len(last)
        if at > end or not text.startswith(first) or not text.endswith(last):
            return None
        found = []
        for literal in self.literals[1:-1]:
            until = text.find(literal, at + 1, end)
            if until < 0:
                return None
            found.append(text[at:until])
            at = until + len(literal)
        found.append(text[at:end])
        is_value = _TOKEN.fullmatch if self.is_phrase else bool
        return dict(zip(self.names, found, strict=True)) if all(map(is_value, found)) else None


@cache
def _sentences(language: str) -> tuple[_Sentence, ...]:
    """The templates of a language, the most special first: those with much text and few values.

    Before all of them come those that end with a colon and a value, as that may read like any other sentence.
    """
    module = _MODULES[language]
    notes = {TEXTS[DEFAULT][key]: text for key, text in TEXTS[language].items() if key.startswith("note.")}
    sentences = [_Sentence.of(*pair) for pair in (getattr(module, "SENTENCES", {}) | notes).items()]
    phrases = [pair for pair in getattr(module, "PHRASES", {}).items() if "{" in pair[0]]
    sentences += [_Sentence.of(*pair, is_phrase=True) for pair in phrases]
    return tuple(sorted(sentences, key=_order))


def _order(sentence: _Sentence) -> tuple[bool, int]:
    is_heading = sentence.literals[0].endswith(": ") and sentence.literals[1:] == ("",)
    return not is_heading, 4 * len(sentence.names) - sum(map(len, sentence.literals))


def translations() -> gr.I18n:
    """All texts, as `launch` wants them, and some in place of Gradio's own."""
    return gr.I18n(
        **{language: TEXTS[language] | getattr(module, "GRADIO", {}) for language, module in _MODULES.items()}
    )


def page_script(language: str) -> str:
    """JavaScript that makes a browser say that it prefers one of LANGUAGES, before Gradio's page asks it.

    Gradio would not know zh-HK, and would show its own words in languages that the page does not have.
    """
    tag = getattr(_MODULES[language], "TAG", language)
    return f'Object.defineProperty(navigator, "language", {{value: {json.dumps(tag)}}});'


def gradio_labels(language: str) -> dict[str, str]:
    """Translations of what Gradio says to screen readers only in English."""
    return getattr(_MODULES[language], "GRADIO_LABELS", {})


def language_of(request: gr.Request | None) -> str:
    """The language that the browser prefers, if the page has it; English for all others, and for programs."""
    asked = request.headers.get("accept-language", "") if request else ""
    code = re.match(r"\s*([a-z]*)", asked.lower())[1]
    return code if code in TEXTS else DEFAULT


def in_english(value: object) -> object:
    """The English of a Text, for programs; anything else as it is."""
    return value.en if isinstance(value, Text) else value

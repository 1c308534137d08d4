"""The languages of the page: words that the browser shows in its own language, and the server in a request's.

Gradio's page translates the labels, hints and values that a component was built with, by the locale of the browser;
what the server sends later, such as progress, it words itself, by the Accept-Language of the request. What is told to
programs, and the sentences of errors, which are also the command line's and the log's, stay English.
"""

from collections.abc import Mapping

import gradio as gr
from gradio.i18n import I18nData

LANGUAGES = ("en", "zh")
_KNOWN: dict[str, "Text"] = {}


class Text(I18nData):
    """The same words in English and Chinese. Given to a component, the page shows the browser's language.

    They are known by their English. In a string of the server's, use `to`: `str` gives what only the page can read.
    """

    def __init__(self, en: str, zh: str):
        super().__init__(en)
        self.en, self.zh = en, zh
        if _KNOWN.setdefault(en, self).zh != zh:
            raise ValueError(f"{en!r} has two translations: {_KNOWN[en].zh!r} and {zh!r}.")

    def to(self, language: str, **values: object) -> str:
        """The words in a language of LANGUAGES, with `values` in the places that they name in braces."""
        words = self.zh if language == "zh" else self.en
        return words.format(**values) if values else words

    def __deepcopy__(self, memo: dict) -> "Text":
        return self  # Gradio copies the settings of components


def translations(more: Mapping[str, Text] | None = None) -> gr.I18n:
    """Every Text there is, as `launch` wants them; `more`: texts by other keys than their English."""
    texts = _KNOWN | dict(more or {})
    known = {language: {key: text.to(language) for key, text in texts.items()} for language in LANGUAGES}
    return gr.I18n(**known)


def language_of(request: gr.Request | None) -> str:
    """What the visitor's browser asks for: "zh" or "en"; programs, which do not ask, get English."""
    asked = request.headers.get("accept-language", "") if request else ""
    return "zh" if asked.strip().lower().startswith("zh") else "en"


def in_english(value: object) -> object:
    """The English of a Text, for programs; anything else as it is."""
    return value.en if isinstance(value, Text) else value

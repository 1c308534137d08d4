"""Every text of the page in every language: one file a language, named by its code, whose TEXTS all have the same keys.

To add a language, add its file; tests/ui/test_languages.py says which keys are missing. The browser translates what a
component was built with. The server writes what it sends later, such as progress, in the language of the request. For
programs, the log and the command line everything is English.
"""

import re
from importlib import import_module
from pkgutil import iter_modules

import gradio as gr
from gradio.i18n import I18nData

from x2i_app.errors import InvalidRequestError

DEFAULT = "en"
_MODULES = {module.name: import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)}
TEXTS: dict[str, dict[str, str]] = {language: module.TEXTS for language, module in _MODULES.items()}
LANGUAGES = tuple(TEXTS)


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
        return text.format(**values) if values else text

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


def translations() -> gr.I18n:
    """All texts, as `launch` wants them, and texts of Gradio's that it has not translated itself."""
    return gr.I18n(
        **{language: TEXTS[language] | getattr(module, "GRADIO", {}) for language, module in _MODULES.items()}
    )


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

"""The top of the page: title, language, theme button, and what the loaded model can do."""

import gradio as gr

from x2i_app.ui.browser import SHOWN_LANGUAGE, SWITCH_LANGUAGE, TOGGLE_THEME
from x2i_app.ui.context import BROWSER_ONLY, Panel
from x2i_app.ui.i18n import DEFAULT, NAMES, TEXTS, Text
from x2i_app.ui.page import TITLE


class Header(Panel):
    """Title, language, theme button and the model's description."""

    def build(self) -> None:
        with gr.Row(elem_id="top"):
            gr.Markdown(f"# {TITLE}\n\n{Text('tagline')}", elem_id="title")
            self.language = gr.Dropdown(
                [(name, language) for language, name in NAMES.items()],
                label=Text("language"),
                show_label=False,
                container=False,
                filterable=False,
                interactive=True,
                min_width=128,
                scale=0,
                elem_id="language",
            )
            self.theme = gr.Button(Text("theme"), size="sm", min_width=96, scale=0, elem_id="theme")
        self.model = gr.Markdown(self._describe(), elem_id="model-description")
        self.model_outputs = [self.model]

    def connect(self) -> None:
        self.context.page.load(None, None, self.language, js=SHOWN_LANGUAGE, **BROWSER_ONLY)
        self.language.input(None, self.language, None, js=SWITCH_LANGUAGE, **BROWSER_ONLY)
        self.theme.click(None, None, None, js=TOGGLE_THEME, **BROWSER_ONLY)

    def model_values(self, language: str) -> list[str]:
        return [self._describe(language)]

    def _describe(self, language: str | None = None) -> str:
        """The model in Markdown; with no language, the browser translates it."""
        preset, key = self.engine.preset, f"preset.{self.engine.settings.preset}"
        if key in TEXTS[DEFAULT]:
            about = Text(key).to(language) if language else Text(key)
        else:
            about = preset.about if preset else ""  # a model of the user's own
        return f"**{self.engine.settings.preset}**: {about}"

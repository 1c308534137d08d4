"""Help with the prompt: styles, a prompt by chance, and the prompts that were used before."""

import random
from typing import Any

import anyio
import gradio as gr
from platformdirs import user_cache_path

from x2i_app.request import validate_text
from x2i_app.ui.context import BROWSER_ONLY, PRIVATE, STATE_SECONDS, Panel
from x2i_app.ui.i18n import Text, language_of
from x2i_app.ui.ideas import surprise
from x2i_app.ui.style_previews import StylePreviews
from x2i_app.ui.styles import STYLES, Style, read_styles, with_style

_MOST_KEPT = 50  # prompts of one browser
_REMEMBER = f"""(prompts, report) => {{
  const prompt = report?.prompt?.trim();
  return [prompt ? [prompt, ...(prompts ?? []).filter(each => each !== prompt)].slice(0, {_MOST_KEPT}) : prompts ?? []];
}}"""
# The number of the open tab among the tabs.
_OPEN_TAB = "[...document.querySelectorAll('#tabs [role=tab]')].findIndex(tab => tab.ariaSelected === 'true')"


class PromptPanel(Panel):
    """Folded, below the tabs: what is chosen is written into the prompt of the open tab, where it can be changed."""

    def build(self) -> None:
        with gr.Accordion(Text("prompts"), open=False, elem_id="prompt-help") as self.section:
            with gr.Row(elem_id="dice-row"):
                self.dice = gr.Button(Text("dice"), size="sm", min_width=112, elem_id="dice")
                self.plain = gr.Button(Text("style.remove"), size="sm", min_width=112, elem_id="style-remove")
            self.style = gr.Dropdown(
                self._choices({}, None), value=None, label=Text("style"), info=Text("style.hint"), elem_id="style"
            )
            with gr.Accordion(Text("style.previews"), open=False, elem_id="style-previews") as self.previews_section:
                self.draw = gr.Button(Text("style.draw"), size="sm", elem_id="style-draw")
                self.drawn = gr.HTML("", label="style previews", container=False, elem_id="style-drawn")
                self.gallery = gr.Gallery(
                    label=Text("style.previews"),
                    show_label=False,
                    type="filepath",
                    format="jpeg",
                    interactive=False,
                    allow_preview=False,
                    columns=4,
                    height="auto",
                    object_fit="cover",
                    buttons=[],
                    elem_id="style-gallery",
                )
            self.file = gr.File(label=Text("style.file"), file_types=[".csv", ".json"], height=96, elem_id="style-file")
            self.recent = gr.Dropdown(
                [], value=None, label=Text("prompts.recent"), info=Text("prompts.recent_hint"), elem_id="recent-prompts"
            )
        self.previews = StylePreviews(self.engine, user_cache_path("x2i") / "styles")
        self.own = gr.State({}, time_to_live=STATE_SECONDS)
        self.before = gr.State(None, time_to_live=STATE_SECONDS)  # the prompt without its style, and with it
        self.kept = gr.BrowserState([], storage_key="x2i-prompts", secret="x2i")
        self.tab = gr.Number(0, visible=False, label="tab")

    @staticmethod
    def _choices(own: dict[str, Style], language: str | None) -> list[tuple[Any, str]]:
        """(name, value): a user's own first."""
        names = {key: Text(f"style.{key}") for key in STYLES}
        ours = [(text.to(language) if language else text.en, key) for key, text in names.items()]
        return [*((name, f"own:{name}") for name in own), *sorted(ours, key=lambda pair: pair[0])]

    def connect(self) -> None:
        context = self.context
        self.boxes = [
            panel.input(_prompt_of(panel.tab.parameters)) for panel in context.tabs if _prompt_of(panel.tab.parameters)
        ]
        # Which of `boxes` belongs to each tab; the tab without a prompt writes into the first.
        self.box_of = [
            self.boxes.index(panel.input(_prompt_of(panel.tab.parameters))) if _prompt_of(panel.tab.parameters) else 0
            for panel in context.tabs
        ]
        negative = context.settings.components["negative_prompt"]
        send_tab = f"(...values) => {{ values[0] = {_OPEN_TAB}; return values; }}"

        def open_section(request: gr.Request, own: dict[str, Style], prompts: Any):
            given = prompts if isinstance(prompts, list) else []  # a browser keeps them
            kept = [prompt for prompt in given if isinstance(prompt, str)][:_MOST_KEPT]
            return gr.Dropdown(choices=self._choices(own, language_of(request))), gr.Dropdown(choices=kept, value=None)

        self.section.expand(open_section, [self.own, self.kept], [self.style, self.recent], **PRIVATE)
        context.result.shown.change(None, [self.kept, context.result.report], self.kept, js=_REMEMBER, **BROWSER_ONLY)

        def roll(request: gr.Request, tab: Any, *prompts: Any):
            return self._written(
                tab, prompts, surprise(self.engine.settings.preset, language_of(request), random.Random())
            )

        self.dice.click(roll, [self.tab, *self.boxes], self.boxes, js=send_tab, **PRIVATE)

        def write_again(tab: Any, prompt: Any, *prompts: Any):
            return self._written(tab, prompts, prompt) if isinstance(prompt, str) else [gr.skip()] * len(self.boxes)

        self.recent.input(write_again, [self.tab, self.recent, *self.boxes], self.boxes, js=send_tab, **PRIVATE)

        def apply(tab: Any, chosen: Any, own: dict[str, Style], before: Any, avoided: Any, *prompts: Any):
            name = _text_of(chosen)
            style = own.get(name.removeprefix("own:")) if name.startswith("own:") else STYLES.get(name)
            if style is None:
                return [gr.skip(), gr.skip(), *[gr.skip()] * len(self.boxes)]
            plain, avoided_before = self._plain(tab, before, avoided, prompts)
            validate_text("prompt", plain)  # a style may repeat it hundreds of times
            styled = with_style(plain, style)
            negative = ", ".join(filter(None, (avoided_before, style.negative_prompt)))
            can_avoid = self.engine.flux.true_cfg
            kept = {"plain": plain, "styled": styled, "avoided": avoided_before, "negative": negative}
            return kept, negative if can_avoid else gr.skip(), *self._written(tab, prompts, styled)

        given = [self.tab, self.style, self.own, self.before, negative, *self.boxes]
        self.style.input(apply, given, [self.before, negative, *self.boxes], js=send_tab, **PRIVATE)

        def choose(tab: Any, own: dict[str, Style], before: Any, avoided: Any, event: gr.SelectData, *prompts: Any):
            names, index = list(self.previews.found()), event.index
            chosen = names[index] if type(index) is int and 0 <= index < len(names) else None
            return chosen or gr.skip(), *apply(tab, chosen, own, before, avoided, *prompts)

        chosen_from = [self.tab, self.own, self.before, negative, *self.boxes]
        shown = [self.style, self.before, negative, *self.boxes]
        self.gallery.select(choose, chosen_from, shown, js=send_tab, **PRIVATE)
        self._connect_previews()

        def remove(tab: Any, before: Any, avoided: Any, *prompts: Any):
            plain, avoided = self._plain(tab, before, avoided, prompts)
            can_avoid = self.engine.flux.true_cfg
            return None, None, avoided if can_avoid else gr.skip(), *self._written(tab, prompts, plain)

        given = [self.tab, self.before, negative, *self.boxes]
        self.plain.click(remove, given, [self.before, self.style, negative, *self.boxes], js=send_tab, **PRIVATE)

        def add_file(request: gr.Request, path: Any):
            own = read_styles(path)
            return own, gr.Dropdown(choices=self._choices(own, language_of(request)), value=None)

        self.file.change(add_file, self.file, [self.own, self.style], **PRIVATE)

    def _connect_previews(self) -> None:
        def show(language: str) -> list[tuple[str, str]]:
            return [(path, Text(f"style.{name}").to(language)) for name, path in self.previews.found().items()]

        def open_previews(request: gr.Request):
            return show(language_of(request))

        async def draw(request: gr.Request):
            language = language_of(request)
            async for number in self.previews.draw():
                text = Text("style.drawn").to(language, number=number, count=len(STYLES))
                yield f'<p role="status">{text}</p>', await anyio.to_thread.run_sync(show, language)

        self.previews_section.expand(open_previews, None, self.gallery, **PRIVATE)
        self.draw.click(draw, None, [self.drawn, self.gallery], **PRIVATE)

    def _box(self, tab: Any) -> int:
        return self.box_of[int(tab)] if isinstance(tab, (int, float)) and 0 <= tab < len(self.box_of) else 0

    def _plain(self, tab: Any, before: Any, avoided: Any, prompts: tuple) -> tuple[str, str]:
        """Both prompts without the style that was chosen before, unless they were changed since."""
        text, avoided = _text_of(prompts[self._box(tab)]), _text_of(avoided)
        if not before:
            return text, avoided
        return (
            before["plain"] if text == before["styled"] else text,
            before["avoided"] if avoided == before["negative"] else avoided,
        )

    def _written(self, tab: Any, prompts: tuple, text: str) -> list[Any]:
        """Values of `boxes` with this prompt in the open tab."""
        values = [gr.skip()] * len(self.boxes)
        number = self._box(tab)
        is_message = isinstance(self.boxes[number], gr.MultimodalTextbox)
        message = prompts[number] if isinstance(prompts[number], dict) else {}
        files = message.get("files") or []
        values[number] = {"text": text, "files": files} if is_message else text
        return values


def _prompt_of(parameters: tuple[str, ...]) -> str:
    """The name of a tab's parameter that has its prompt; empty if there is none."""
    return next((name for name in ("prompt", "message") if name in parameters), "")


def _text_of(value: Any) -> str:
    """The text of a box or of a message; empty for anything else that a client may send."""
    text = value.get("text") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""

"""The memory panel: what the loaded model was planned to need, part by part, and a meter of what is really in use."""

import html
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from x2i_app.serving.engine import Engine
from x2i_app.ui.i18n import texts
from x2i_app.ui.i18n.languages import language_of

_SECONDS = 3  # between two looks at the meter, and only while the panel is open
_GIB = 2**30


def build_memory_panel(engine: Engine) -> None:
    """A closed panel, which costs nothing until it is opened."""
    with gr.Accordion(texts.MEMORY, open=False, elem_id="memory") as panel:
        shown = gr.HTML(f"<p>{texts.MEMORY_LATER}</p>", label="memory", container=False)
    clock = gr.Timer(_SECONDS, active=False)
    quiet: dict[str, Any] = {
        "show_progress": "hidden",
        "queue": False,
        "concurrency_limit": None,
        "api_visibility": "private",
    }
    look = memory_handler(engine)
    gr.on([panel.expand, clock.tick], look, None, shown, **quiet)
    panel.expand(lambda: gr.Timer(active=True), None, clock, **quiet)
    panel.collapse(lambda: gr.Timer(active=False), None, clock, **quiet)


def memory_handler(engine: Engine) -> Callable[[gr.Request | None], str]:
    """What the panel shows now, as HTML made of our own words and numbers only."""

    def memory(request: gr.Request = None) -> str:
        language = language_of(request)
        found = engine.model.memory()
        if found is None:
            return f"<p>{texts.MEMORY_LATER.to(language)}</p>"
        plan, use = found
        parts = [
            (texts.PARTS.get(part.name, part.name), f"{part.parameters / 1e6:,.1f} M", _size(part.bytes))
            for part in plan.parts
        ]
        phases = [
            (texts.PLANNED[phase].to(language), "", _size(peak + plan.overhead)) for phase, peak in plan.peaks.items()
        ]
        size = f"{plan.width} x {plan.height}"
        return (
            f"<p>{html.escape(texts.memory_in_use(use.used / _GIB, use.own / _GIB, use.total / _GIB, language))}</p>"
            f'<meter min="0" max="{use.total}" high="{int(0.9 * use.total)}" value="{use.used}"></meter>'
            f"<p>{html.escape(texts.memory_profile(plan.profile, size, language))}</p>"
            f"{_table(parts + phases)}"
        )

    return memory


def _table(rows: Sequence[Sequence[str]]) -> str:
    cells = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def _size(count: int) -> str:
    return f"{count / _GIB:.2f} GiB" if count > _GIB / 10 else f"{1024 * count / _GIB:.1f} MiB"

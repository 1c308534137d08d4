"""The memory panel: what the loaded model is planned to need, part by part, and a meter of what is in use."""

import html
from collections.abc import Callable, Sequence

import gradio as gr

from x2i_app.serving.engine import Engine
from x2i_app.ui.context import IMMEDIATE, Panel
from x2i_app.ui.i18n import Text, language_of

_REFRESH_SECONDS = 3  # only while the panel is open
_GIB = 2**30
_PART_COLUMNS = ("part", "parameters", "size")
_PHASE_COLUMNS = ("peak", "size")
_PARTS = {
    **{"mllm": "MLLM", "align_net": "AlignNet", "transformer": "FLUX", "vae": "VAE"},
    **{"light_control": "LightControl", "controlnet": "ControlNet"},
}


class MemoryPanel(Panel):
    """Folded; it costs nothing until it is opened."""

    def build(self) -> None:
        with gr.Accordion(Text("memory"), open=False, elem_id="memory") as self.section:
            self.shown = gr.HTML(f"<p>{Text('memory.later')}</p>", label="memory", container=False)
        self.timer = gr.Timer(_REFRESH_SECONDS, active=False)

    def connect(self) -> None:
        show = memory_handler(self.engine)
        gr.on([self.section.expand, self.timer.tick], show, None, self.shown, **IMMEDIATE)
        self.section.expand(lambda: gr.Timer(active=True), None, self.timer, **IMMEDIATE)
        self.section.collapse(lambda: gr.Timer(active=False), None, self.timer, **IMMEDIATE)


def memory_handler(engine: Engine) -> Callable[[gr.Request | None], str]:
    """What the panel shows now, as HTML."""

    def memory(request: gr.Request = None) -> str:
        language = language_of(request)
        found = engine.memory()
        if found is None:
            return f"<p>{Text('memory.later').to(language)}</p>"
        plan, use = found
        parts = [
            (_PARTS.get(part.name, part.name), f"{part.parameters / 1e6:,.1f} M", _size(part.bytes))
            for part in plan.parts
        ]
        phases = [
            (Text(f"memory.{phase}").to(language), _size(peak + plan.overhead)) for phase, peak in plan.peaks.items()
        ]
        used, own, total = (f"{count / _GIB:.1f}" for count in (use.used, use.own, use.total))
        in_use = Text("memory.in_use").to(language, used=used, own=own, total=total)
        planned = Text("memory.plan").to(language, profile=plan.profile, size=f"{plan.width} x {plan.height}")
        return (
            f"<p>{html.escape(in_use)}</p>"
            f'<meter min="0" max="{use.total}" high="{int(0.9 * use.total)}" value="{use.used}"></meter>'
            f"<p>{html.escape(planned)}</p>"
            f"{_table(parts, [Text(f'memory.{name}').to(language) for name in _PART_COLUMNS])}"
            f"{_table(phases, [Text(f'memory.{name}').to(language) for name in _PHASE_COLUMNS])}"
        )

    return memory


def _table(rows: Sequence[Sequence[str]], columns: Sequence[str]) -> str:
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
    cells = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def _size(count: int) -> str:
    return f"{count / _GIB:.2f} GiB" if count > _GIB / 10 else f"{1024 * count / _GIB:.1f} MiB"

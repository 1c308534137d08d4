"""What the panels of a page share. Each panel is given one PageContext and finds the others there."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gradio as gr

from x2i_app.serving.engine import Engine
from x2i_app.ui.history import BrowserKeys, MetadataOptOut
from x2i_app.ui.page import Page
from x2i_app.ui.progress import JobFollowers

if TYPE_CHECKING:
    from x2i_app.ui.batch_panel import BatchPanel
    from x2i_app.ui.controlnet_panel import ControlNetPanel
    from x2i_app.ui.header import Header
    from x2i_app.ui.history_panel import HistoryPanel
    from x2i_app.ui.loras import LoraPanel
    from x2i_app.ui.memory_panel import MemoryPanel
    from x2i_app.ui.model_panel import ModelPanel
    from x2i_app.ui.queue_panel import QueuePanel
    from x2i_app.ui.restore import RestorePanel
    from x2i_app.ui.result_actions import ResultActions
    from x2i_app.ui.result_panel import ResultPanel
    from x2i_app.ui.settings_panel import SettingsPanel
    from x2i_app.ui.tab_panel import TabPanel

# Options of the page's own events, which are no endpoints. Jobs wait in the engine's queue and never in Gradio's.
BROWSER_ONLY: dict[str, Any] = {"api_visibility": "private"}  # the event runs JavaScript and asks no server
PRIVATE: dict[str, Any] = BROWSER_ONLY | {"concurrency_limit": None, "show_progress": "hidden"}
IMMEDIATE: dict[str, Any] = PRIVATE | {"queue": False}  # short, and answered beside everything that waits

STATE_SECONDS = 86_400  # how long Gradio keeps the values of a session


@dataclass
class PageContext:
    """The engine, what was remembered of sessions and jobs, and the panels, in the order in which they were built."""

    engine: Engine
    page: Page
    opt_out: MetadataOptOut = field(default_factory=MetadataOptOut)
    keys: BrowserKeys = field(default_factory=BrowserKeys)
    panels: list["Panel"] = field(default_factory=list)

    header: "Header" = field(init=False)
    tab_group: gr.Tabs = field(init=False)
    tabs: list["TabPanel"] = field(init=False)
    settings: "SettingsPanel" = field(init=False)
    controlnet: "ControlNetPanel" = field(init=False)
    batch: "BatchPanel" = field(init=False)
    loras: "LoraPanel" = field(init=False)
    restore: "RestorePanel" = field(init=False)
    model: "ModelPanel" = field(init=False)
    memory: "MemoryPanel" = field(init=False)
    result: "ResultPanel" = field(init=False)
    queue: "QueuePanel" = field(init=False)
    result_actions: "ResultActions" = field(init=False)
    history: "HistoryPanel" = field(init=False)

    def __post_init__(self) -> None:
        self.followers = JobFollowers(self.engine, self.opt_out)

    @property
    def tab_inputs(self) -> list[gr.components.Component]:
        """The inputs of all tabs, in order."""
        return [component for panel in self.tabs for component in panel.inputs]

    @property
    def video_parts(self) -> list[gr.components.Component]:
        """Start and end of the part of a video, of each tab that takes one."""
        return [component for panel in self.tabs for component in panel.video_part]


class Panel:
    """A part of the page. `build` makes its components; `connect` adds its events, once all panels are built."""

    # The components that change with the model; `model_values` gives their new values, in the same order.
    model_outputs: Sequence[gr.blocks.Block] = ()

    def __init__(self, context: PageContext):
        self.context, self.engine = context, context.engine
        context.panels.append(self)
        self.build()

    def build(self) -> None:
        """Make the components, where the page stands now."""

    def connect(self) -> None:
        """Add the events."""

    def model_values(self, language: str) -> list[Any]:
        """Values of `model_outputs` for the model that is loaded now."""
        return []

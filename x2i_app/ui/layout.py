"""How the page is put together: input on the left, result on the right; on a phone the result comes first."""

import gradio as gr

from x2i_app.serving.engine import Engine
from x2i_app.ui.batch_panel import BatchPanel
from x2i_app.ui.context import PageContext
from x2i_app.ui.controlnet_panel import ControlNetPanel
from x2i_app.ui.draft import Draft
from x2i_app.ui.header import Header
from x2i_app.ui.history_panel import HistoryPanel
from x2i_app.ui.loras import LoraPanel
from x2i_app.ui.memory_panel import MemoryPanel
from x2i_app.ui.model_panel import ModelPanel
from x2i_app.ui.page import TITLE, Page
from x2i_app.ui.prompt_panel import PromptPanel
from x2i_app.ui.restore import RestorePanel
from x2i_app.ui.result_actions import ResultActions
from x2i_app.ui.result_panel import ResultPanel
from x2i_app.ui.settings_panel import SettingsPanel
from x2i_app.ui.tab_panel import TabPanel
from x2i_app.ui.tabs import TABS


def build_page(engine: Engine) -> Page:
    """The page and its endpoints for an engine, which need not have started."""
    with Page(title=TITLE, fill_width=True, analytics_enabled=False, delete_cache=(3600, 86_400)) as page:
        context = PageContext(engine, page)
        context.header = Header(context)
        with gr.Row(elem_id="workbench"):
            with gr.Column(scale=1):
                with gr.Tabs(overflow_behavior="wrap", elem_id="tabs") as context.tab_group:
                    context.tabs = [TabPanel(context, tab) for tab in TABS]
                PromptPanel(context)
                context.loras = LoraPanel(context)
                context.settings = SettingsPanel(context)
                context.controlnet = ControlNetPanel(context)
                context.batch = BatchPanel(context)
                context.restore = RestorePanel(context)
                context.model = ModelPanel(context)
                context.memory = MemoryPanel(context)
            with gr.Column(scale=1, elem_id="result"):
                context.result = ResultPanel(context)
                context.result_actions = ResultActions(context)
        context.history = HistoryPanel(context)
        Draft(context)
        for panel in context.panels:
            panel.connect()
    return page

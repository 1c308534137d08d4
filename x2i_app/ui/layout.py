"""How the page is put together: input on the left, the picture on the right, on a phone the picture first."""

from dataclasses import dataclass

import gradio as gr
from gradio.events import Dependency

from x2i_app.limits import LIMITS, Range
from x2i_app.request import SETTINGS
from x2i_app.serving.engine import Engine
from x2i_app.ui.browser import TURN_LIGHT
from x2i_app.ui.conversation import Thread, build_thread, connect_thread
from x2i_app.ui.handlers import drawing_handler
from x2i_app.ui.history import Discreet
from x2i_app.ui.history_panel import build_after, build_restore, build_session, connect_after, connect_discretion
from x2i_app.ui.i18n import texts
from x2i_app.ui.i18n.languages import language_of
from x2i_app.ui.input_preview import build_seen
from x2i_app.ui.memory_panel import build_memory_panel
from x2i_app.ui.model_notice import Notice, build_notice, connect_notices
from x2i_app.ui.model_panel import Panel, build_panel, chosen, connect_panel, show_facts
from x2i_app.ui.page import Page
from x2i_app.ui.progress import OUTPUTS, Audience, cancel_handler, finding_handler, status_handler
from x2i_app.ui.result_actions import build_onward, connect_onward
from x2i_app.ui.sizes import build_sizes
from x2i_app.ui.tabs import TABS, Tab, unconverted
from x2i_app.ui.theme import NARROW

# Jobs wait in the engine's own queue, which is fair between visitors; Gradio only carries their news.
_NO_LIMIT = None
_EASEL = "easel"


@dataclass
class Result:
    """The right side of the page."""

    images: gr.Gallery
    progress: gr.HTML
    answer: gr.Textbox
    report: gr.JSON
    job: gr.Textbox
    preview: gr.HTML
    stop: gr.Button

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What every drawing endpoint gives back, in order."""
        return [getattr(self, name) for name in OUTPUTS]


def build_page(engine: Engine) -> Page:
    """The whole page and its endpoints over an engine, which need not have started."""
    with Page(title=texts.TITLE, fill_width=True, analytics_enabled=False, delete_cache=(3600, 86_400)) as page:
        with gr.Row(elem_id="top"):
            gr.Markdown(f"# {texts.TITLE}\n\n{texts.TAGLINE}", elem_id="title")
            turn = gr.Button(texts.LIGHT_OR_DARK, size="sm", min_width=96, scale=0, elem_id="light-or-dark")
            turn.click(None, None, None, js=TURN_LIGHT, api_visibility="private")
        heading = gr.Markdown(elem_id="heading")
        thread = build_thread()
        with gr.Row(elem_id="workbench"):
            with gr.Column(scale=1):
                with gr.Tabs(overflow_behavior="wrap", elem_id="tabs") as tabs:
                    notices, drawn, looks = zip(*(_build_tab(engine, tab, thread) for tab in TABS), strict=True)
                settings, metadata = _build_settings(engine, drawn)
                restore = build_restore()
                panel = build_panel(engine)
                build_memory_panel(engine)
            with gr.Column(scale=1, elem_id="result"):
                result = _build_result()
                after = build_after()
                onward = build_onward()
        session = build_session()
        discreet = Discreet()
        connect_after(
            engine,
            after,
            restore,
            session,
            result,
            tabs,
            drawn,
            dict(zip(SETTINGS, settings, strict=True)),
            panel.loras,
            discreet,
        )
        connect_onward(engine, onward, result, session.kept, tabs, drawn, looks)
        connect_discretion(metadata, discreet)
        audience = Audience(engine, discreet)
        for tab, button, inputs in drawn:
            made = _connect(engine, tab, button, [*inputs, *settings, panel.loras.value], result, audience)
            if "history" in tab.parameters:
                connect_thread(
                    engine, thread, dict(zip(tab.parameters, inputs, strict=True)), made, result, onward.place
                )
        _keep_job(page, result, audience)
        # Only who follows the job writes its progress: an answer from here might come after the last word on it.
        answer = gr.Textbox(label="cancel", visible=False)
        result.stop.click(
            cancel_handler(engine),
            result.job,
            answer,
            api_name="cancel",
            concurrency_limit=_NO_LIMIT,
            queue=False,
            show_progress="hidden",
        )
        # Gradio shows a number that has no value as 0, which would be a seed: the browser empties it.
        page.load(None, None, settings[list(SETTINGS).index("seed")], js="() => null", api_visibility="private")
        _follow_model(engine, page, panel, heading, notices, drawn, settings)
        state = gr.JSON(label="status", visible=False)
        asked = gr.Textbox("", label="job", visible=False)
        page.load(status_handler(engine), asked, state, api_name="status", concurrency_limit=_NO_LIMIT, queue=False)
    return page


def _keep_job(page: gr.Blocks, result: Result, audience: Audience) -> None:
    """The browser keeps the id of its last job; when the page opens again, also after a restart, it asks for it."""
    kept = gr.BrowserState("", storage_key="x2i-job", secret="x2i")
    result.job.change(None, result.job, kept, js="job => job", api_visibility="private")
    page.load(
        finding_handler(audience),
        kept,
        result.outputs,
        api_visibility="private",
        concurrency_limit=_NO_LIMIT,
        show_progress="hidden",
    )


def _follow_model(
    engine: Engine, page: gr.Blocks, panel: Panel, heading: gr.Markdown, notices: tuple[Notice, ...], drawn, settings
) -> None:
    """The page was built for one model; with another, what depends on it changes, also on pages opened later."""
    built_for = engine.settings
    followers = dict(zip(SETTINGS, settings, strict=True))
    names = [name for name in ("width", "height", "steps", "guidance", "reason") if name in followers]
    controls = [inputs[tab.parameters.index("control")] for tab, _, inputs in drawn if "control" in tab.parameters]
    outputs = [panel.facts, *panel.choices, heading, *(followers[name] for name in names), *controls]
    outputs += [output for notice in notices for output in notice.outputs]

    def refresh(request: gr.Request):
        language = language_of(request)
        flux, control = engine.flux, engine.has_light_control
        values = {
            "width": gr.update(value=flux.resolution),
            "height": gr.update(value=flux.resolution),
            "steps": gr.update(value=flux.num_inference_steps),
            "guidance": gr.update(value=flux.guidance_scale, visible=flux.guidance_embeds),
            "reason": gr.update(value=False, visible=not _always_answers(engine)),
        }
        yours = [gr.update(value=1 if control else 0, visible=control) for _ in controls]
        return [
            show_facts(engine, language),
            *chosen(engine),
            _heading(engine, language),
            *(values[name] for name in names),
            *yours,
            *(value for notice in notices for value in notice.show(engine, language)),
        ]

    def greet(request: gr.Request):
        if engine.settings != built_for:
            return refresh(request)
        hello = _heading(engine, language_of(request))
        return [hello if output is heading else gr.skip() for output in outputs]

    quiet = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
    page.load(greet, None, outputs, **quiet)
    connect_panel(engine, panel, refresh, outputs)
    connect_notices(engine, notices, panel, refresh, outputs)


def _always_answers(engine: Engine) -> bool:
    return engine.preset is not None and engine.preset.encoding.states != "prompt"


def _heading(engine: Engine, language: str = "en") -> str:
    about = engine.preset.about if engine.preset else ""
    return texts.loaded(engine.settings.preset, about, language)


def _build_tab(engine: Engine, tab: Tab, thread: Thread):
    with gr.Tab(texts.TABS[tab.name], id=tab.name) as place:
        gr.Markdown(texts.HINTS[tab.name])
        notice = build_notice(engine, tab)
        inputs = tab.build()
        look_after = build_seen(engine, tab, inputs)
        if "control" in tab.parameters and not engine.has_light_control:
            control = inputs[tab.parameters.index("control")]
            control.value, control.visible = 0, False
        button = gr.Button(texts.MAKE, variant="primary", size="lg", elem_id=f"make-{tab.name}")
        if "history" in tab.parameters:
            thread.render(place)
        examples = tab.examples()
        if examples:
            shown = gr.Examples(
                examples,
                inputs[: len(examples[0])],
                examples_per_page=6,
                label=texts.EXAMPLES,
                cache_examples=False,
                api_visibility="private",
                elem_id=f"examples-{tab.name}",
            )
            shown.dataset.headers = []  # Gradio would show its translations' raw JSON there
            if tab.name == "fusion":
                look_after(shown.load_input_event)
    return notice, (tab, button, inputs), look_after


def _build_settings(engine: Engine, drawn: list) -> tuple[list[gr.components.Component], gr.Checkbox]:
    """Components in the order of SETTINGS, set to what suits the FLUX model; and whether files say how they were made.

    drawn: the tabs, in whose inputs a size is looked for.
    """
    flux = engine.flux

    def slider(name: str, allowed: Range, value: float, **options) -> gr.Slider:
        step = allowed.step or options.pop("step", 1)
        return unconverted(gr.Slider(allowed.low, allowed.high, value, step=step, label=texts.LABELS[name], **options))

    with gr.Accordion(texts.SETTINGS, open=False, elem_id="settings"):
        with gr.Row():
            width = slider("width", LIMITS.width, flux.resolution)
            height = slider("height", LIMITS.height, flux.resolution)
        images = [component for _, _, inputs in drawn for component in inputs]
        build_sizes(engine, width, height, [c for c in images if isinstance(c, (gr.Image, gr.Gallery))])
        with gr.Row():
            steps = slider("steps", LIMITS.num_inference_steps, flux.num_inference_steps)
            count = slider("count", LIMITS.num_images_per_prompt, 1)
        guidance = slider(
            "guidance", LIMITS.guidance_scale, flux.guidance_scale, step=0.1, visible=flux.guidance_embeds
        )
        seed = unconverted(gr.Number(None, label=texts.LABELS["seed"], info=texts.SEED_HINT, precision=0))
        always = _always_answers(engine)
        reason = unconverted(gr.Checkbox(label=texts.LABELS["reason"], value=False, visible=not always))
        metadata = gr.Checkbox(engine.settings.metadata, label=texts.METADATA, visible=engine.settings.metadata)
    by_name = {
        "width": width,
        "height": height,
        "steps": steps,
        "guidance": guidance,
        "seed": seed,
        "count": count,
        "reason": reason,
    }
    return [by_name[name] for name in SETTINGS], metadata


def _build_result() -> Result:
    with gr.Column(elem_id=_EASEL):
        images = gr.Gallery(
            label=texts.IMAGES,
            show_label=False,
            format="png",
            type="filepath",
            interactive=False,
            object_fit="contain",
            columns=2,
            height="28rem",
            buttons=["download", "fullscreen"],
            elem_id="pictures",
        )
        preview = gr.HTML(
            "",
            label="preview",
            html_template='{{#if value}}<img src="{{value}}" alt="">{{/if}}',  # the words beside it say as much
            container=False,
            elem_id="preview",
        )
        gr.Markdown(texts.EMPTY, elem_id="hint")
    with gr.Row(elem_id="news"):
        progress = gr.HTML("", label="progress", elem_id="progress", container=False, scale=5)
        stop = gr.Button(texts.STOP, variant="stop", size="md", min_width=88, scale=0, elem_id="stop")
    # Plain text, never Markdown or HTML: a stranger's sound may say anything.
    answer = gr.Textbox(label=texts.WORDS, lines=3, max_lines=3, placeholder=" ", interactive=False, elem_id="words")
    with gr.Accordion(texts.USED, open=False, elem_id="used"):
        report = gr.JSON(label="report", show_label=False, elem_id="report")
    job = gr.Textbox(label="job", visible=False)
    return Result(images, progress, answer, report, job, preview, stop)


def _connect(
    engine: Engine, tab: Tab, button: gr.Button, inputs: list, result: Result, audience: Audience
) -> Dependency:
    return gr.on(
        [button.click],
        drawing_handler(engine, tab, audience),
        inputs,
        result.outputs,
        # On a phone the picture is above the button: go and see it being drawn.
        js=f"(...values) => {{ if (innerWidth <= {NARROW}) {_EASEL}.scrollIntoView(); "
        f"return ({tab.prepare})(values); }}",
        api_name=tab.name,
        api_description=texts.HINTS[tab.name].en,
        concurrency_limit=_NO_LIMIT,
        show_progress="hidden",  # the page has its own
    )

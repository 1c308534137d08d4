"""Many prompts from the page: one a line, or a file; drawn one after the other, and downloaded as one ZIP file."""

import html
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import gradio as gr

from x2i_app.errors import X2IError
from x2i_app.limits import show_value
from x2i_app.request import LATER_SETTINGS, SETTINGS, GenerationRequest
from x2i_app.ui.context import PRIVATE, Panel
from x2i_app.ui.handlers import generate
from x2i_app.ui.history import HistoryItem, add_job, existing, zip_images
from x2i_app.ui.http.clients import client_of
from x2i_app.ui.http.uploads import count_stored
from x2i_app.ui.i18n import PageError, Text, error_text, language_of
from x2i_app.ui.loras import lora_pairs
from x2i_app.ui.progress import OUTPUTS, note_text, outputs

MAX_ROWS = 100
_MAX_BYTES = 1_000_000  # of a file with prompts
_FIELDS = {"prompt": "prompt"} | SETTINGS | LATER_SETTINGS  # of a JSONL row -> of a request
_MOST_LETTERS = 80  # of a prompt in the progress


class BatchPanel(Panel):
    """Folded. Each row has the page's settings, but for what a JSONL row says itself."""

    def build(self) -> None:
        self._running: Counter[str] = Counter()  # batches by session
        self._stopped: set[str] = set()  # of these sessions
        with gr.Accordion(Text("batch"), open=False, elem_id="batch"):
            gr.Markdown(Text("batch.hint"))
            self.prompts = gr.Textbox(label=Text("batch.prompts"), lines=4, max_lines=12, elem_id="batch-prompts")
            self.file = gr.File(
                label=Text("batch.file"), file_types=[".txt", ".jsonl"], height=96, elem_id="batch-file"
            )
            with gr.Row():
                self.start = gr.Button(Text("batch.start"), variant="primary", size="md", elem_id="batch-start")
                self.stop = gr.Button(Text("batch.stop"), size="md", elem_id="batch-stop")
            self.progress = gr.HTML("", label="batch", container=False, elem_id="batch-progress")
            self.zip = gr.DownloadButton(Text("batch.download"), visible=False, size="md", elem_id="batch-zip")

    def connect(self) -> None:
        context = self.context
        settings = [context.settings.components[name] for name in (*SETTINGS, *LATER_SETTINGS)]
        given = [self.prompts, self.file, context.settings.format, context.loras.value, *settings]
        shown = [*context.result.outputs, self.progress, self.zip]
        self.start.click(self.generate_all, given, shown, **PRIVATE)
        self.stop.click(self.stop_all, None, None, **PRIVATE)

    def stop_all(self, request: gr.Request) -> None:
        """Stop the page's batch after the image that is drawn now, which is stopped too."""
        session = request.session_hash or ""
        if session in self._running:
            self._stopped.add(session)
        for job in self.engine.jobs_of(session):
            self.engine.cancel(job)

    async def generate_all(
        self, request: gr.Request, text: Any, file: Any, format: Any, loras: Any, *settings: Any
    ) -> AsyncIterator[tuple]:
        """Draw each row, and yield values of progress.OUTPUTS, the batch's progress, and its ZIP file."""
        session = request.session_hash or ""
        rows = await anyio.to_thread.run_sync(read_rows, text, file)
        page = dict(zip((*SETTINGS, *LATER_SETTINGS), settings, strict=True))
        with self._batch_of(session):
            async for update in self._generate_rows(request, rows, page, format, loras):
                yield update

    @contextmanager
    def _batch_of(self, session: str) -> Iterator[None]:
        """Count a batch, which can be stopped inside the block."""
        self._stopped.discard(session)
        self._running[session] += 1
        try:
            yield
        finally:
            self._running[session] -= 1
            if not self._running[session]:
                del self._running[session]
                self._stopped.discard(session)

    async def _generate_rows(
        self, request: gr.Request, rows: list[dict[str, Any]], page: dict[str, Any], format: Any, loras: Any
    ) -> AsyncIterator[tuple]:
        language, session = language_of(request), request.session_hash or ""
        images: list[HistoryItem] = []
        failures: list[str] = []
        noted: list[str] = []
        for number, row in enumerate(rows, 1):
            now = Text("batch.progress").to(language, number=number, count=len(rows), prompt=_brief(row.get("prompt")))
            yield *outputs(), _show(now, failures, noted, number - 1, len(rows)), gr.skip()
            wanted, job = partial(self._request, row, page, loras), ""
            try:
                async for update in generate(self.context.followers, wanted, request, format):
                    shown = update[OUTPUTS.index("job")]
                    job = shown if isinstance(shown, str) else job
                    yield *update, gr.skip(), gr.skip()
                finished = self.engine.get(job)
                files, preset = self.context.followers.files, self.engine.settings.preset
                drawn = await anyio.to_thread.run_sync(add_job, [], finished, files, preset)
                images = [*drawn, *images]
                said = [note_text(note, language) for note in drawn[0].notes] if drawn else []
                if said:
                    noted.append(Text("batch.row").to(language, number=number, sentence=" ".join(said)))
            except X2IError as error:
                failures.append(Text("batch.row").to(language, number=number, sentence=error_text(error, language)))
            if session in self._stopped:
                break
        done = Text("batch.done").to(language, images=len(images), number=len(rows) - len(failures), count=len(rows))
        if noted:
            done += " " + Text("batch.noted").to(language, count=len(noted))
        zipped = gr.skip()
        if existing(images):
            path = await anyio.to_thread.run_sync(zip_images, existing(images), client_of(request).owner)
            await anyio.to_thread.run_sync(count_stored, request, [path])
            zipped = gr.DownloadButton(value=path, visible=True)
        yield *outputs(), _show(done, failures, noted, len(rows), len(rows)), zipped

    def _request(self, row: dict[str, Any], page: dict[str, Any], loras: Any) -> GenerationRequest:
        given = {_FIELDS[name]: value for name, value in (page | row).items() if value is not None}
        if not given.get("negative_prompt"):
            given.pop("true_cfg_scale", None)  # the slider has a value before there is something to avoid
        return GenerationRequest(**given, loras=lora_pairs(loras, self.engine.settings))


def read_rows(text: Any, file: Any) -> list[dict[str, Any]]:
    """Each row's fields: of the typed prompts, then of a text or JSONL file. Raises PageError."""
    rows = [{"prompt": text_row.strip()} for text_row in _typed(text)]
    if isinstance(file, str):
        path = Path(file)
        if path.stat().st_size > _MAX_BYTES:
            raise PageError("error.batch_file_large", most=f"{_MAX_BYTES / 1e6:g}")
        try:
            content = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise PageError("error.batch_file_text") from None
        is_json = path.suffix.lower() == ".jsonl"
        numbered = enumerate(content.splitlines(), 1)
        rows += [
            _read_row(row, number) if is_json else {"prompt": row.strip()} for number, row in numbered if row.strip()
        ]
    if not rows:
        raise PageError("error.no_prompts")
    if len(rows) > MAX_ROWS:
        raise PageError("error.too_many_prompts", count=len(rows), most=MAX_ROWS)
    return rows


def _typed(text: Any) -> list[str]:
    return [row for row in text.splitlines() if row.strip()] if isinstance(text, str) else []


def _read_row(text: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict) or "prompt" not in row:
        raise PageError("error.batch_row", number=number)
    if unknown := [name for name in row if name not in _FIELDS]:
        raise PageError("error.batch_field", number=number, field=_brief(unknown[0]), fields=", ".join(_FIELDS))
    return row


def _brief(value: Any) -> str:
    """Any value as the page can show it. JSON may contain halves of characters, which no response can."""
    text = value if isinstance(value, str) else show_value(value)
    return text[:_MOST_LETTERS].encode(errors="replace").decode()


def _show(text: str, failures: list[str], noted: list[str], done: int, count: int) -> str:
    bar = f'<progress value="{done}" max="{count}"></progress>' if done < count else ""
    return f'<p role="status">{html.escape(text)}</p>{bar}{_list(failures, "failed")}{_list(noted, "noted")}'


def _list(sentences: list[str], kind: str) -> str:
    rows = "".join(f"<li>{html.escape(each)}</li>" for each in sentences)
    return f'<ul class="{kind}">{rows}</ul>' if rows else ""

"""The images of this session below the page: shown again, compared, used again, downloaded."""

from collections import OrderedDict
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr
from platformdirs import user_cache_path

from x2i_app.ui.context import BROWSER_ONLY, PRIVATE, STATE_SECONDS, Panel
from x2i_app.ui.history import MAX_ITEMS, HistoryItem, add_job, existing, zip_images
from x2i_app.ui.http.clients import client_of
from x2i_app.ui.http.uploads import count_stored
from x2i_app.ui.i18n import PageError, Text, language_of
from x2i_app.ui.progress import answer_text, outputs
from x2i_app.ui.session_store import SessionStore, new_key

_OFF = "off"  # instead of a key, of a browser that wants nothing kept
_NOT_CONFIRMED = "no"  # instead of a key
_MOST_DELETED = 10_000  # jobs whose images were deleted, of all sessions
_MOST_SEARCHED = 200  # letters, which no program can exceed either: each word is looked for in each prompt
_CONFIRM = f"key => confirm(document.querySelector('#delete-all').innerText + '?') ? key : '{_NOT_CONFIRMED}'"


class HistoryPanel(Panel):
    """A row of thumbnails. items: HistoryItems, newest first; selected: indices of the last two that were clicked.

    key: what the browser keeps, by which its images are found again; _OFF if it wants none to be kept.
    """

    def build(self) -> None:
        hours = self.engine.settings.keep_hours
        self.store = SessionStore(user_cache_path("x2i") / "sessions", hours)
        self._deleted: OrderedDict[str, None] = OrderedDict()
        with gr.Accordion(Text("history"), open=True, elem_id="history"):
            self.hint = gr.Markdown(Text("history.hint"))
            with gr.Column(visible=False) as self.content:
                with gr.Row(elem_id="history-find"):
                    self.search = gr.Textbox(
                        label=Text("history.search"),
                        placeholder=Text("history.search"),
                        max_length=_MOST_SEARCHED,
                        show_label=False,
                        container=False,
                        elem_id="history-search",
                        scale=3,
                    )
                    self.favorites = gr.Checkbox(
                        False, label=Text("history.favorites"), container=False, elem_id="only-favorites", scale=1
                    )
                self.gallery = gr.Gallery(
                    label=Text("history"),
                    show_label=False,
                    format="png",
                    type="filepath",
                    interactive=False,
                    allow_preview=False,
                    height=136,
                    object_fit="contain",
                    buttons=[],
                    elem_id="history-images",
                )
                options = {"size": "sm", "min_width": 96}
                with gr.Row():
                    self.reuse = gr.Button(Text("history.reuse"), elem_id="reuse", **options)
                    self.favorite = gr.Button(Text("history.favorite"), elem_id="favorite", **options)
                    self.download = gr.Button(Text("history.download"), elem_id="download-all", **options)
                    self.delete = gr.Button(Text("history.delete"), elem_id="delete", **options)
                    self.delete_all = gr.Button(Text("history.delete_all"), elem_id="delete-all", **options)
                with gr.Accordion(Text("history.compare"), open=False, elem_id="compare-history"):
                    self.compare = gr.ImageSlider(
                        label=Text("history.compare"),
                        show_label=False,
                        type="filepath",
                        format="png",
                        interactive=False,
                        buttons=[],
                        height=386,
                        max_height=384,
                    )
                self.file = gr.DownloadButton(
                    Text("history.download"), elem_id="download-file", elem_classes="not-shown"
                )
            self.keep = gr.Checkbox(bool(hours), label=Text("history.keep"), visible=bool(hours), elem_id="keep-images")
        self.items, self.selected = (gr.State([], time_to_live=STATE_SECONDS) for _ in range(2))
        self.key = gr.BrowserState(None, storage_key="x2i-session", secret="x2i")
        self.shown = [self.items, self.selected, self.gallery, self.content]
        self.filters = [self.search, self.favorites]

    def connect(self) -> None:
        result = self.context.result
        self.context.page.load(self.load_kept, self.key, [self.key, self.keep, *self.shown, self.hint], **PRIVATE)
        result.shown.change(self.add_result, [self.items, result.job, *self.filters, self.key], self.shown, **PRIVATE)
        for component in self.filters:
            component.change(self.find, [self.items, *self.filters], [self.selected, self.gallery], **PRIVATE)
        selected = [self.selected, self.compare, *result.outputs]

        def select_item(
            request: gr.Request,
            items: list[HistoryItem],
            chosen: list[int],
            search: Any,
            favorites: Any,
            event: gr.SelectData,
        ):
            items, index = existing(items), event.index
            found = matching(items, search, favorites)
            if type(index) is not int or not 0 <= index < len(found):
                return [gr.skip() for _ in selected]
            index = found[index]
            chosen = [*(other for other in chosen if other != index), index][-2:]
            pair = tuple(items[each].path for each in chosen if each < len(items))
            compared = pair if len(pair) == 2 else gr.skip()
            return chosen, compared, *shown_item(items[index], language_of(request))

        self.gallery.select(select_item, [self.items, self.selected, *self.filters], selected, **PRIVATE)

        def reuse(items: list[HistoryItem], selected: list[int]):
            return self.context.restore.values(self.selected_item(items, selected).request)

        self.reuse.click(reuse, [self.items, self.selected], self.context.restore.outputs, **PRIVATE)

        given = [self.items, self.selected, *self.filters, self.key]
        self.favorite.click(self.mark, given, [self.items, self.gallery], **PRIVATE)

        def download_all(request: gr.Request, items: list[HistoryItem]):
            if not existing(items):
                raise PageError("error.no_result")
            path = zip_images(existing(items), client_of(request).owner)
            count_stored(request, [path])
            return path

        self.download.click(download_all, self.items, self.file, **PRIVATE).success(
            None, None, None, js="() => document.querySelector('#download-file').click()", **BROWSER_ONLY
        )
        self._connect_deleting()

    def _connect_deleting(self) -> None:
        outputs = [*self.shown, *self.context.result.outputs]

        def delete(
            request: gr.Request, items: list[HistoryItem], selected: list[int], search: Any, favorites: Any, key: Any
        ):
            item = self.selected_item(items, selected)
            self._deleted[item.job] = None
            if len(self._deleted) > _MOST_DELETED:
                self._deleted.popitem(last=False)
            self.store.remove(key, item)
            left = [other for other in existing(items) if other is not item]
            return *self.values(left, search, favorites), *shown_item(None, language_of(request))

        def delete_all(request: gr.Request, key: str | None):
            if key == _NOT_CONFIRMED:
                return [gr.skip() for _ in outputs]
            self.store.remove(key)
            self.context.queue.store.remove(key)
            self.context.followers.take_finished(request.session_hash or "")
            return *self.values([]), *shown_item(None, language_of(request))

        given = [self.items, self.selected, *self.filters, self.key]
        # Once more at the end, as the search may have changed meanwhile and shown what was there before.
        find = [self.find, [self.items, *self.filters], [self.selected, self.gallery]]
        self.delete.click(delete, given, outputs, **PRIVATE).success(*find, **PRIVATE)
        self.delete_all.click(delete_all, self.key, outputs, js=_CONFIRM, **PRIVATE)

        def set_keep(request: gr.Request, is_on: bool, key: str | None, items: list[HistoryItem]):
            if is_on is True:
                key = new_key()
                self.store.add(key, existing(items), client_of(request).owner)
            else:
                self.store.remove(key)
                self.context.queue.store.remove(key)
                key = _OFF
            self.context.keys.set(request.session_hash or "", key)
            return key, self._hint(key != _OFF, language_of(request))

        self.keep.input(set_keep, [self.keep, self.key, self.items], [self.key, self.hint], **PRIVATE)

    def load_kept(self, request: gr.Request, key: str | None):
        """Values of key, keep, `shown` and hint for a page that opens; a browser without a key gets one."""
        key = key if isinstance(key, str) else None  # JSON has numbers that no response can give back
        key = new_key() if not key and self.store.hours else key
        self.context.keys.set(request.session_hash or "", key)
        is_kept = bool(key) and key != _OFF
        hint = self._hint(is_kept, language_of(request))
        items = self.store.load(key, partial(count_stored, request), client_of(request).owner)
        return key, is_kept, *self.values(items), hint

    def _hint(self, is_kept: bool, language: str) -> str:
        if not is_kept or not self.store.hours:
            return Text("history.hint").to(language)
        return Text("history.kept").to(
            language, hours=self.store.hours, images=MAX_ITEMS, size=f"{self.store.max_bytes / 1e9:g}"
        )

    def mark(self, items: list[HistoryItem], selected: list[int], search: Any, favorites: Any, key: Any):
        """Make the selected image a favorite, or none any more."""
        marked = self.selected_item(items, selected)
        changed = replace(marked, is_favorite=not marked.is_favorite)
        self.store.mark(key, changed)
        items = [changed if item is marked else item for item in existing(items)]
        return items, self._thumbnails(items, search, favorites)

    def add_result(
        self, request: gr.Request, items: list[HistoryItem], job: str, search: Any, favorites: Any, key: str | None
    ):
        """Add the images of finished jobs, and keep them on disk if the browser wants that.

        The page may already show the next job of its queue.
        """
        followers, added = self.context.followers, items
        shown = self.engine.get(job) if isinstance(job, str) else None
        for finished in dict.fromkeys([*followers.take_finished(request.session_hash or ""), shown]):
            # After a reload, a page may hear of a job only when its images have already been deleted again.
            if finished and finished.id not in self._deleted:
                added = add_job(added, finished, followers.files, self.engine.settings.preset)
        added = existing(added)
        new = [item for item in added if not any(item is old for old in items)]
        if not new and len(added) == len(items):
            return [gr.skip() for _ in self.shown]  # an image may be deleted at this moment: it would come back
        self.store.add(key, new, client_of(request).owner)
        return self.values(added, search, favorites)

    def find(self, items: list[HistoryItem], search: Any, favorites: Any):
        """The thumbnails of the images that are `matching`."""
        return [], self._thumbnails(existing(items), search, favorites)

    def values(self, items: list[HistoryItem], search: Any = "", favorites: Any = False) -> list[Any]:
        """Values of `shown`."""
        return [items, [], self._thumbnails(items, search, favorites), gr.Column(visible=bool(items))]

    @staticmethod
    def _thumbnails(items: list[HistoryItem], search: Any, favorites: Any) -> list[tuple[str, str]]:
        return [(items[index].path, items[index].caption) for index in matching(items, search, favorites)]

    @staticmethod
    def selected_item(items: list[HistoryItem], selected: list[int]) -> HistoryItem:
        """The item that was selected last, or else the newest. Raises PageError if there is none."""
        items = existing(items)
        if not items:
            raise PageError("error.no_result")
        return items[selected[-1] if selected and selected[-1] < len(items) else 0]


def matching(items: list[HistoryItem], search: Any, favorites: Any = False) -> list[int]:
    """Indices of the items whose prompt or answer has all words of the search, in any letter case.

    favorites: only those that are marked.
    """
    terms = search[:_MOST_SEARCHED].casefold().split() if isinstance(search, str) else []
    texts = (f"{item.request.prompt} {item.answer or ''}".casefold() for item in items)
    return [
        index
        for index, text in enumerate(texts)
        if all(term in text for term in terms) and (items[index].is_favorite or favorites is not True)
    ]


def shown_item(item: HistoryItem | None, language: str) -> tuple:
    """Values of progress.OUTPUTS that show an image of the session with all its facts; None shows an empty result."""
    if item is None:
        return outputs(images=[], progress="", answer="", report=None, job="", preview="")
    answer = answer_text(item, language)
    return outputs(
        images=[item.path],
        progress=_caption(item, language),
        answer=answer,
        report=item.report,
        job=item.job,
        preview="",
    )


def _caption(item: HistoryItem, language: str) -> str:
    made, (width, height) = item.request, item.size
    text = Text("progress.shown").to(
        language, seed=made.seed, width=width, height=height, steps=made.num_inference_steps
    )
    return f"<p>{text}</p>"

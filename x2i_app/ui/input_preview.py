"""What the model will see and hear of the input, shown before a job starts.

Videos are sampled by the encoder's own function, so the frames shown are the frames that the model sees. All files are
untrusted and are read by `media`. The worker and its lock are not used, and at most two inputs are read at a time.
"""

import html
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image

from x2i_app.errors import X2IError
from x2i_app.media import VideoPart, load_audio, load_video, modality_of
from x2i_app.media.guard import MediaModality
from x2i_app.media.images import image_size
from x2i_app.presets import presets_that_take
from x2i_app.request import clean_video_part
from x2i_app.specs import EncodingSpec
from x2i_app.ui.context import PageContext, Panel
from x2i_app.ui.i18n import Text, error_text, language_of
from x2i_app.ui.progress import as_data_url

if TYPE_CHECKING:
    from x2i_app.ui.tab_panel import TabPanel

_AT_ONCE = 2  # inputs that are read beside the running job
_CACHED = 64  # videos and audio files, about 100 KB each: typing beside a video does not sample it again
_THUMBNAIL = (160, 160)  # pixels

Part = tuple[float | None, float | None]  # of a video: start and end in seconds
WHOLE: Part = (None, None)


@dataclass(frozen=True)
class Video:
    """The frames that the model sees, as data: URLs of thumbnails, their times, and the seconds that are used."""

    frames: tuple[str, ...]
    times: tuple[float, ...]
    duration: float
    has_audio: bool


class InputPreview(Panel):
    """The preview under the input of the tabs Video, Audio and Creative Fusion; other tabs have none."""

    def __init__(self, context: PageContext, panel: "TabPanel"):
        self.panel = panel
        self._describe = _DESCRIBE.get(panel.tab.name)
        super().__init__(context)

    def build(self) -> None:
        if not self._describe:
            return
        name = self.panel.tab.name
        self.shown = gr.HTML(
            "",
            label="preview",
            elem_id=f"input-preview-{name}",
            elem_classes="input-preview",
            container=False,
            padding=False,
        )
        for component in (self.panel.inputs[0], *self.panel.video_part):
            self.refresh_on(component.change)

    def refresh_on(self, event: Callable) -> None:
        """Show the input again when `event` happens.

        Gradio's multimodal textbox has no change event when its files change and its text does not.
        """
        if not self._describe:
            return
        event(
            self.show_input,
            [self.panel.inputs[0], *self.panel.video_part],
            self.shown,
            api_visibility="private",
            concurrency_id="input-preview",
            concurrency_limit=_AT_ONCE,
            trigger_mode="always_last",  # the multimodal textbox changes with every letter
            show_progress="hidden",
        )

    def show_input(self, request: gr.Request, value: Any, start: Any = None, end: Any = None) -> str:
        """The input as HTML, or why it cannot be used. start, end: of the part of a video."""
        spec = self.engine.encoding
        if not value or spec is None:
            return ""
        try:
            return self._describe(value, spec, language_of(request), clean_video_part(start, end))
        except X2IError as error:
            return f'<p role="alert" class="unused">{html.escape(error_text(error, language_of(request)))}</p>'


def sample_video(path: str, spec: EncodingSpec, part: Part = WHOLE) -> Video:
    """The frames of a part of a video that an encoder with this spec sees. Raises MediaError."""
    return _sample(path, part, spec.video_fps, spec.max_video_frames, spec.max_video_pixels)


@lru_cache(_CACHED)
def _sample(path: str, part: Part, fps: float, max_frames: int, max_pixels: int) -> Video:
    clip = load_video(VideoPart(path, *part), fps, max_frames, max_pixels)
    times = tuple((part[0] or 0) + number / clip.fps for number in range(len(clip.frames)))
    return Video(tuple(map(_thumbnail, clip.frames)), times, clip.duration, clip.has_audio)


@lru_cache(_CACHED)
def _seconds(path: str) -> float:
    return load_audio(path).duration


def _thumbnail(frame) -> str:
    image = Image.fromarray(frame)
    image.thumbnail(_THUMBNAIL)
    return as_data_url(image)


def describe_video(path: str, spec: EncodingSpec, language: str, part: Part = WHOLE) -> str:
    """The video's frames and their times, as HTML; empty if the model takes no video, which the tab's notice says."""
    if "video" not in spec.modalities:
        return ""
    video = sample_video(path, spec, part)
    title = Text("input.video").to(language, seconds=f"{video.duration:.1f}", count=len(video.frames))
    times = [Text("input.seconds").to(language, seconds=f"{time:.1f}") for time in video.times]
    frames = "".join(
        f'<li><img src="{address}" alt=""><span>{time}</span></li>'
        for address, time in zip(video.frames, times, strict=True)
    )
    audio = f"<p>{Text('input.video_audio').to(language)}</p>" if video.has_audio else ""
    # The tab index lets the arrow keys scroll the frames.
    return f'<p>{title}</p><ol class="frames" tabindex="0" aria-label="{title}">{frames}</ol>{audio}'


def describe_audio(path: str, spec: EncodingSpec, language: str, _part: Part = WHOLE) -> str:
    """Whether the model hears the audio itself, as HTML."""
    text = Text("input.heard" if spec.audio_rate else "input.transcribed")
    return f"<p>{text.to(language, seconds=f'{_seconds(path):.1f}')}</p>"


def describe_message(message: dict[str, Any], spec: EncodingSpec, language: str, part: Part = WHOLE) -> str:
    """A chip for each part of a multimodal message, as HTML; one that cannot be used says why."""
    chips, numbers = [], Counter()
    for path in message.get("files") or []:
        modality = None
        try:
            modality = modality_of(path)
            numbers[modality] += 1
            if modality not in spec.modalities and modality != "audio":
                others = Text("input.other_presets").to(language, names=", ".join(presets_that_take(modality)))
                said, is_used = f"{Text(f'unsupported.{modality}').to(language)} {others}", False
            else:
                said, is_used = _CHIPS[modality](path, spec, numbers[modality], language, part), True
        except X2IError as error:
            said, is_used = error_text(error, language), False
        chips.append(_chip(said, path, modality, is_used))
    if (message.get("text") or "").strip():
        chips.append(f"<li>{Text('input.prompt_chip').to(language)}</li>")
    return f'<ul class="chips" aria-label="{Text("input.chips").to(language)}">{"".join(chips)}</ul>' if chips else ""


def _image_chip(path: str, spec: EncodingSpec, number: int, language: str, _part: Part) -> str:
    width, height = image_size(path)
    return Text("input.image_chip").to(language, number=number, width=width, height=height)


def _video_chip(path: str, spec: EncodingSpec, number: int, language: str, part: Part) -> str:
    video = sample_video(path, spec, part)
    text = Text("input.video_chip").to(language, number=number, count=len(video.frames))
    comma = Text("comma").to(language)
    return f"{text}{comma}{Text('input.video_audio_chip').to(language)}" if video.has_audio else text


def _audio_chip(path: str, spec: EncodingSpec, number: int, language: str, _part: Part) -> str:
    text = Text("input.audio_chip" if spec.audio_rate else "input.transcribed_chip")
    return text.to(language, number=number, seconds=f"{_seconds(path):.1f}")


def _chip(text: str, path: str, modality: MediaModality | None, is_used: bool) -> str:
    """Both are escaped: a file's name may be anything."""
    name, used = html.escape(Path(path).name), "" if is_used else " class=unused"
    return f'<li title="{name}" data-kind="{modality}"{used}>{html.escape(text)}</li>'


_CHIPS: dict[MediaModality, Callable[..., str]] = {"image": _image_chip, "video": _video_chip, "audio": _audio_chip}
_DESCRIBE: dict[str, Callable[..., str]] = {
    "video": describe_video,
    "audio": describe_audio,
    "fusion": describe_message,
}

"""What the model will see and hear of what was given, told before a job starts.

Films go through the encoder's own sampling, so what is shown is what is seen. Everything here is a stranger's file and
goes through `media`; it takes neither the worker nor its lock, and two at a time at most are looked at.
"""

import html
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from x2i_app.errors import X2IError
from x2i_app.media import is_animation, load_audio, load_video, sniff
from x2i_app.media.guard import MediaModality
from x2i_app.media.images import open_image
from x2i_app.presets import presets_that_take
from x2i_app.serving.engine import Engine
from x2i_app.specs import EncodingSpec
from x2i_app.ui.i18n import input_preview as texts_seen
from x2i_app.ui.i18n import texts
from x2i_app.ui.i18n.languages import language_of
from x2i_app.ui.progress import as_address
from x2i_app.ui.tabs import Tab

_AT_ONCE = 2  # films and sounds that are looked at beside the job that runs
_REMEMBERED = 64  # films and sounds, about 100 KB each: writing a word beside a film does not sample it again
_THUMBNAIL = (160, 160)  # pixels


@dataclass(frozen=True)
class Video:
    """The frames that the model sees, as addresses of small pictures, and when, in seconds; how long the film is."""

    frames: tuple[str, ...]
    times: tuple[float, ...]
    duration: float
    has_audio: bool


def build_seen(engine: Engine, tab: Tab, inputs: list[gr.components.Component]) -> Callable[[Any], None]:
    """The place under a tab's film, sound or mix that tells what becomes of it.

    Returns what makes it look again after an event that sets the input: Gradio's box for a mix tells of no change where
    its words are what they were, whatever its files are.
    """
    tell = _TELLERS.get(tab.name)
    if tell is None:
        return lambda event: None
    place = gr.HTML("", label="seen", elem_id=f"seen-{tab.name}", elem_classes="seen", container=False, padding=False)

    def look(request: gr.Request, given: Any) -> str:
        spec = engine.model.encoding
        if not given or spec is None:
            return ""
        try:
            return tell(given, spec, engine.settings.preset, language_of(request))
        except X2IError as error:
            return _sorry(error)

    def look_at(event: Callable) -> None:
        event(
            look,
            inputs[0],
            place,
            api_visibility="private",
            concurrency_id="look",
            concurrency_limit=_AT_ONCE,
            trigger_mode="always_last",  # a mix changes with every letter beside it
            show_progress="hidden",
        )

    look_at(inputs[0].change)
    return lambda event: look_at(event.success)


def look_at_video(path: str, spec: EncodingSpec) -> Video:
    """What an encoder with this spec sees of a film. Raises MediaError."""
    return _video(path, spec.video_fps, spec.max_video_frames, spec.max_video_pixels)


@lru_cache(_REMEMBERED)
def _video(path: str, fps: float, max_frames: int, max_pixels: int) -> Video:
    clip = load_video(path, fps, max_frames, max_pixels)
    times = tuple(number / clip.fps for number in range(len(clip.frames)))
    return Video(tuple(map(_thumbnail, clip.frames)), times, clip.duration, clip.has_audio)


@lru_cache(_REMEMBERED)
def _seconds(path: str) -> float:
    return load_audio(path).duration


def _thumbnail(frame) -> str:
    image = Image.fromarray(frame)
    image.thumbnail(_THUMBNAIL)
    return as_address(image)


def tell_video(path: str, spec: EncodingSpec, preset: str, language: str) -> str:
    """The film's frames and their times, as HTML; nothing where the tab says already that it cannot be seen."""
    if "video" not in spec.modalities:
        return ""
    video = look_at_video(path, spec)
    said = texts_seen.VIDEO.to(language, seconds=f"{video.duration:.1f}", count=len(video.frames))
    moments = [texts_seen.MOMENT.to(language, seconds=f"{time:.1f}") for time in video.times]
    strip = "".join(
        f'<li><img src="{address}" alt=""><span>{moment}</span></li>'
        for address, moment in zip(video.frames, moments, strict=True)
    )
    silent = f"<p>{texts_seen.SILENT.to(language)}</p>" if video.has_audio else ""
    # Whoever has no mouse scrolls it by its arrow keys.
    return f'<p>{said}</p><ol class="strip" tabindex="0" aria-label="{said}">{strip}</ol>{silent}'


def tell_audio(path: str, spec: EncodingSpec, preset: str, language: str) -> str:
    """Whether the model hears the sound itself, as HTML."""
    words = texts_seen.HEARD if spec.audio_rate else texts_seen.WRITTEN
    return f"<p>{words.to(language, seconds=f'{_seconds(path):.1f}')}</p>"


def tell_mix(message: dict[str, Any], spec: EncodingSpec, preset: str, language: str) -> str:
    """A chip for each thing in the mix, as HTML; one that cannot be used says why."""
    chips, numbers = [], Counter()
    for path in message.get("files") or []:
        try:
            modality: MediaModality = "video" if is_animation(path) else sniff(path).modality
            numbers[modality] += 1
            if modality not in spec.modalities and modality != "audio":
                no = texts.cannot_take(preset, modality).to(language).replace("**", "")
                others = texts_seen.OTHERS.to(language, names=", ".join(presets_that_take(modality)))
                chips.append(_chip(f"{no} {others}", path, is_used=False))
            else:
                chips.append(_chip(_CHIPS[modality](path, spec, numbers[modality], language), path))
        except X2IError as error:
            chips.append(_chip(str(error), path, is_used=False))
    if (message.get("text") or "").strip():
        chips.append(f"<li>{texts_seen.WORDS.to(language)}</li>")
    return f'<ul class="chips" aria-label="{texts_seen.GIVEN.to(language)}">{"".join(chips)}</ul>' if chips else ""


def _image_chip(path: str, spec: EncodingSpec, number: int, language: str) -> str:
    with open_image(path) as image:
        width, height = image.size
    return texts_seen.IMAGE_CHIP.to(language, number=number, width=width, height=height)


def _video_chip(path: str, spec: EncodingSpec, number: int, language: str) -> str:
    video = look_at_video(path, spec)
    said = texts_seen.VIDEO_CHIP.to(language, number=number, count=len(video.frames))
    return f"{said}, {texts_seen.SILENT_CHIP.to(language)}" if video.has_audio else said


def _audio_chip(path: str, spec: EncodingSpec, number: int, language: str) -> str:
    words = texts_seen.AUDIO_CHIP if spec.audio_rate else texts_seen.WRITTEN_CHIP
    return words.to(language, number=number, seconds=f"{_seconds(path):.1f}")


def _chip(said: str, path: str, is_used: bool = True) -> str:
    """said and the file's name are anybody's words."""
    name = html.escape(Path(path).name)
    return f'<li title="{name}"{"" if is_used else " class=unused"}>{html.escape(said)}</li>'


def _sorry(error: X2IError) -> str:
    return f'<p role="alert" class="unused">{html.escape(str(error))}</p>'


_CHIPS: dict[MediaModality, Callable[..., str]] = {"image": _image_chip, "video": _video_chip, "audio": _audio_chip}
_TELLERS: dict[str, Callable[..., str]] = {"video": tell_video, "audio": tell_audio, "fusion": tell_mix}

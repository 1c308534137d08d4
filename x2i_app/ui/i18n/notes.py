"""Every sentence that stands with a result, in every language."""

from x2i_app import notes
from x2i_app.ui.i18n.languages import Text

_NOTES = {
    note.en: note
    for note in (
        Text(notes.NOTHING_SAID, "多模态模型没有说什么，所以图片直接依照输入生成。"),
        Text(notes.SILENT_VIDEO, "视频只用到画面；它的声音请另外作为声音添加。"),
        Text(notes.CUT_AUDIO, "这段声音有 {seconds} 秒，这个模型只听前 {heard} 秒。"),
        Text(notes.HEARD, "模型直接听了这段声音，全部 {seconds} 秒。"),
        Text(notes.WRITTEN_DOWN, "{family} 听不见，所以由 Whisper 写下其中的话（{spoken}）：{said}"),
    )
}


def say_note(note: str, language: str) -> str:
    """A result's note in a language of the page; as it is, if nobody has put it into other words."""
    known = _NOTES.get(getattr(note, "template", ""))
    return known.to(language, **note.values) if known else note

"""What the user should read about a result beside the picture: sentences that a page can say in another language."""

from typing import Any

NOTHING_SAID = "The MLLM had nothing to say, so the picture follows the input itself."
SILENT_VIDEO = "Of the film only the pictures count; give its sound as a sound of its own."
CUT_AUDIO = "The sound lasts {seconds} s, of which this MLLM hears the first {heard} s."
HEARD = "The model hears the sound itself, all {seconds} s of it."
WRITTEN_DOWN = "{family} cannot hear, so Whisper wrote down what is said ({spoken}): {said}"


class Note(str):
    """A sentence in English, which knows its template, one of the above, and the values in it."""

    template: str
    values: dict[str, Any]

    def __new__(cls, template: str, **values: Any) -> "Note":
        note = super().__new__(cls, template.format(**values) if values else template)
        note.template, note.values = template, values
        return note

"""Notes about a result for the user: sentences in English, which the page can show in another language."""

from typing import Any

NOTHING_SAID = "The MLLM gave no answer, so the image follows the input directly."
SILENT_VIDEO = "The video's sound is not used. To use it, add it as audio."
CUT_AUDIO = "The audio is {seconds} s long; this MLLM hears the first {heard} s."
HEARD = "The model hears the audio directly, all {seconds} s of it."
WRITTEN_DOWN = "{family} cannot hear, so Whisper transcribed the speech ({spoken}): {said}"

UNKNOWN = (
    "A part of the prompt is unknown to this model, or it cannot do it. It drew what it knows: {drawn}. It can draw "
    "houses, trees, cars, boats, balloons, flowers, cats, fish, stars, balls, rockets and umbrellas, and it reads "
    "English, Chinese, German, French, Japanese and Vietnamese."
)


class Note(str):
    """A sentence in English that keeps its template, one of the above, and the values in it."""

    template: str
    values: dict[str, Any]

    def __new__(cls, template: str, **values: Any) -> "Note":
        note = super().__new__(cls, template.format(**values) if values else template)
        note.template, note.values = template, values
        return note

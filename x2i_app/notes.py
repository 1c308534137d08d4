"""Notes about a result for the user: sentences in English, which the page can show in another language."""

from collections.abc import Iterable
from typing import Any

from x2i_app import specs

NOTHING_SAID = "The MLLM gave no answer, so the image follows the input directly."
SILENT_VIDEO = "The video's sound is not used. To use it, add it as audio."
INCOMPLETE = "The {modality} file is incomplete; its first {seconds} s are used."
CUT_AUDIO = "The audio is {seconds} s long; this MLLM hears the first {heard} s."
HEARD = "The model hears the audio directly, all {seconds} s of it."
WRITTEN_DOWN = "{family} cannot hear, so Whisper transcribed the speech ({spoken}): {said}"

SIZE_SNAPPED = "{name} {asked} was changed to {used}, the nearest multiple of {step}."
FROM_PROGRAM = "These settings are from {program}."
FROM_PROGRAM_PARTLY = "These settings are from {program}. Not used here: {names}."
SIZE_FITTED = "The size {asked} was changed to {used}, which is allowed here."
NUMBER_FITTED = "{name} {asked} was changed to {used}, which is allowed here."
NEGATIVE_LEFT_OUT = "The negative prompt is left out, as {flux} cannot follow one: {negative}"
PROMPT_CUT = "The prompt was longer than {limit} bytes, so its end was left out: {left}"

SCALED_DOWN = "An image of {width} x {height} pixels was scaled down to {new_width} x {new_height}."
SETTINGS_TOO_LONG = "The settings are too long for a JPEG file. Save as PNG or WebP to keep all of them."

CHOICES_FILLED = "The prompt with its choices filled in: {prompt}"
WILDCARD_MISSING = "There is no list {name} in the wildcards folder, so the prompt says '{used}' there."
LORA_TAGGED = "The prompt's LoRA {name} is used with weight {weight}."
LORA_MISSING = "There is no LoRA '{name}' on this machine, so the prompt's tag for it is left out."
LORA_TOO_MANY = "The prompt's LoRA {name} is left out; up to {limit} are allowed."
TAG_LEFT_OUT = "{tag} is left out of the prompt, as it means nothing here."
SIGNS_LEFT_OUT = "Weights and steps in the prompt have no effect here, so only their text is used: {signs}"
OF_NEGATIVE = "Negative prompt: {note}"
LONG_PROMPT = "The prompt has {tokens} tokens. Models learn from up to {limit}, so its end may be ignored: {end}"


def _with_known(sentence: str) -> str:
    """The sentence, and what x2i-tiny knows."""
    return (
        f"{sentence} It can draw houses, trees, cars, boats, balloons, flowers, cats, fish, stars, balls, rockets and "
        "umbrellas, and it reads English, Chinese, German, French, Japanese and Vietnamese."
    )


UNKNOWN = _with_known("A part of the input is unknown to this model, or it cannot do it.")
UNKNOWN_TERMS = _with_known("This model does not know {terms}. It drew what it understood instead.")
UNKNOWN_LANGUAGE = _with_known("The prompt seems to be {spoken}, which this model cannot read.")
GUESS = _with_known("This model is not sure what the files show; its answer is a guess.")
UNKNOWN_MEDIA = _with_known("This model finds nothing that it knows in the input.")

LORA_USED = "LoRA {name}: used; layers of FLUX that it changes: {count}."
LORA_TEXT_ENCODERS = "LoRA {name}: not used, as X2I has neither CLIP nor T5: their tensors ({count})."
LORA_EMBEDDINGS = "LoRA {name}: not used, as X2I has neither CLIP nor T5: embeddings of new words ({count} tensors)."
LORA_GUIDANCE = "LoRA {name}: not used, as this FLUX model has no guidance: its guidance layers ({count} tensors)."

MASK_STRETCHED = (
    "The mask ({mask}) has another shape than the image ({image}) and was stretched to it; if the wrong area has "
    "changed, use a mask of the image's size."
)
CONTROLNET_CROPPED = (
    "The image for the ControlNet ({image}) has another shape than the result ({result}), so only its middle is used."
)
CONTROLNET_LEFT_OUT = "The image for a ControlNet is left out, as no ControlNet is loaded."
FEW_STEPS = "Fast has no effect on fewer than {least} steps, and {steps} were run."


class Note(str):
    """A sentence in English that keeps its template, one of the above, and the values in it."""

    template: str
    values: dict[str, Any]

    def __new__(cls, template: str, **values: Any) -> "Note":
        note = super().__new__(cls, template.format(**values) if values else template)
        note.template, note.values = template, values
        return note


def readable_answer(answer: str) -> str:
    """An MLLM's answer as people read it: the mark of something unknown becomes words."""
    known = answer.removesuffix(specs.UNKNOWN_MARK)
    return answer if known == answer else f"{known}, and something unknown"


def of_negative(notes: Iterable[str]) -> tuple[Note, ...]:
    """Notes about a negative prompt, which say so: without that they read as if they were about the prompt."""
    return tuple(Note(OF_NEGATIVE, note=note) for note in notes)


def is_unsure(note: str) -> bool:
    """Whether a note says that the MLLM does not know a part of its input, or only guesses."""
    unsure = (UNKNOWN, UNKNOWN_TERMS, UNKNOWN_LANGUAGE, UNKNOWN_MEDIA, GUESS)
    return getattr(note, "template", None) in unsure

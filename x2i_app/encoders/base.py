"""One protocol for every MLLM family: a conversation of text and media in, hidden states of all layers out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from PIL import Image

from x2i_app.errors import InvalidRequestError, UnsupportedModalityError
from x2i_app.media import VideoClip, load_audio, load_image, load_video
from x2i_app.media.speech import Transcriber
from x2i_app.notes import CUT_AUDIO, HEARD, NOTHING_SAID, SILENT_VIDEO, WRITTEN_DOWN, Note
from x2i_app.presets import presets_that_take
from x2i_app.request import NOTHING, Turn, as_turn, validate_text
from x2i_app.specs import EncodingSpec, MLLMSpec, Padding, Template


@dataclass(frozen=True)
class HiddenStates:
    """What an MLLM made of a conversation.

    hidden_states: (B, L, S, H), the embedding output first, the last layer after the final norm.
    mask: (B, S) bool, False where a row belongs to padding.
    answer: what the MLLM said, if it was asked. notes: sentences that the user should read.
    """

    hidden_states: torch.Tensor
    mask: torch.Tensor
    answer: str | None = None
    notes: tuple[str, ...] = ()


@dataclass
class Conversation:
    """Chat messages in the form that chat templates take, and their media in the order in which they appear.

    images: PIL, RGB. videos: clips of RGB frames. audios: mono float32 samples at the family's own rate.
    notes: sentences about what became of the media that the user should read.
    """

    messages: list[dict[str, Any]] = field(default_factory=list)
    images: list[Image.Image] = field(default_factory=list)
    videos: list[VideoClip] = field(default_factory=list)
    audios: list[np.ndarray] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class MLLMEncoder(ABC):
    """An MLLM as an encoder. Subclasses know one family's model, processor and chat format.

    model: the family's transformers model. processor: its tokenizer and media processors.
    spec: what it takes and how it is fed. transcriber: writes down what is said, for an MLLM that cannot hear; None
    refuses sounds instead.
    """

    family: ClassVar[str]

    def __init__(self, model: torch.nn.Module, processor: Any, spec: EncodingSpec):
        self.model = model
        self.processor = processor
        self.spec = spec
        self.transcriber: Transcriber | None = None

    @classmethod
    @abstractmethod
    def load(
        cls,
        directory: str | Path,
        spec: EncodingSpec,
        *,
        expected: MLLMSpec | None = None,
        dtype: torch.dtype | str = "auto",
    ) -> "MLLMEncoder":
        """From a folder in the family's own on-disk format, on the CPU.

        expected: depth and width that the configuration must have. dtype: "auto" keeps the file's.
        Raises CheckpointError if the folder is not of this family, not of that size, or not complete.
        """

    @property
    @abstractmethod
    def num_states(self) -> int:
        """L: hidden states a token, one per layer and the embedding output."""

    @property
    @abstractmethod
    def hidden_size(self) -> int:
        """H: width of a hidden state."""

    @abstractmethod
    def _prefill(self, conversations: Sequence[Conversation], padding: Padding) -> list[HiddenStates]:
        """States of each conversation's own tokens by a forward pass, without the language-model head."""

    @abstractmethod
    def _answer(self, conversations: Sequence[Conversation]) -> list[HiddenStates]:
        """Let the MLLM answer each conversation; of the states of a prompt and its answer, what `_choose` chooses."""

    @torch.no_grad()
    def encode(
        self,
        prompt: str = "",
        images: Sequence[Any] = (),
        videos: Sequence[Any] = (),
        audios: Sequence[Any] = (),
        history: Sequence[Turn] = (),
        padding: Padding | None = None,
        reason: bool = False,
    ) -> HiddenStates:
        """Hidden states of a conversation whose last turn is `prompt` with its media.

        images, videos, audios, history: as in GenerationRequest. padding: "padded" fills the prompt's rows up to the
        reference's length, "compact" keeps real rows only; None takes the spec's. An answer's rows are never padded.
        reason: answer first, and return the answer's states; a spec may ask for that by itself.

        Raises UnsupportedModalityError, MediaError, or InvalidRequestError for text that the MLLM reserves.
        """
        return self.encode_batch([[*history, Turn(prompt, images, videos, audios)]], padding, reason)[0]

    @torch.no_grad()
    def encode_batch(
        self, turns_lists: Sequence[Sequence[Turn]], padding: Padding | None = None, reason: bool = False
    ) -> list[HiddenStates]:
        """Hidden states of many conversations; item i is what `encode` makes of the turns i (B = 1), and as exact.

        turns_lists: the turns of each conversation, the present one last. padding, reason, errors: as in `encode`.

        Nothing is padded to make a batch: conversations of one length in tokens, with media of one size, run together,
        every other one alone. All results are in memory at the end; give a long list in pieces.
        """
        if padding not in (None, *get_args(Padding)) or not isinstance(reason, bool):
            raise InvalidRequestError(
                f"padding is {padding!r} and reason {reason!r}; allowed are padded, compact or None, and true or false."
            )
        conversations = [self._read(list(map(as_turn, turns))) for turns in turns_lists]
        encoded = self._encode(conversations, padding, reason)
        return [
            replace(states, notes=(*conversation.notes, *states.notes))
            for conversation, states in zip(conversations, encoded, strict=True)
        ]

    def _read(self, turns: Sequence[Turn]) -> Conversation:
        if not any(turn.modalities for turn in turns):
            raise InvalidRequestError(NOTHING)
        self.check_modalities(turns)
        return self._converse(turns)

    def _encode(
        self, conversations: Sequence[Conversation], padding: Padding | None, reason: bool
    ) -> list[HiddenStates]:
        if self.spec.states == "prompt" and not reason:
            return self._prefill(conversations, padding or self.spec.padding)
        return self._answer(conversations)

    def _choose(self, asked: HiddenStates, answered: HiddenStates) -> HiddenStates:
        """Of the states of a prompt and its answer, those that feed AlignNet."""
        if answered.hidden_states.shape[2] == 0:
            return HiddenStates(asked.hidden_states, asked.mask, answered.answer, (Note(NOTHING_SAID),))
        if self.spec.states == "prompt+answer":
            return HiddenStates(
                torch.cat((asked.hidden_states, answered.hidden_states), dim=2),
                torch.cat((asked.mask, answered.mask), dim=1),
                answered.answer,
            )
        return answered

    def check_modalities(self, turns: Sequence[Turn]) -> None:
        """Raise UnsupportedModalityError if a turn has something that this MLLM cannot take; name presets that can."""
        for modality in dict.fromkeys(m for turn in turns for m in turn.modalities):
            heard = modality == "audio" and self.transcriber is not None
            if modality not in self.spec.modalities and not heard:
                raise UnsupportedModalityError(
                    f"{self.family} cannot take {modality}, only {', '.join(self.spec.modalities)}; "
                    f"presets that can: {', '.join(presets_that_take(modality))}."
                )

    def _converse(self, turns: Sequence[Turn]) -> Conversation:
        conversation = Conversation()
        for turn in turns:
            content = []
            for source in turn.images:
                conversation.images.append(self._load_image(source))
                content.append({"type": "image"})
            for source in turn.videos:
                clip = self._load_video(source)
                conversation.videos.append(clip)
                content.append({"type": "video"})
                if clip.has_audio:
                    conversation.notes.append(Note(SILENT_VIDEO))
            words = [turn.prompt]
            for source in turn.audios:
                if self.spec.audio_rate:
                    conversation.audios.append(self._load_audio(source, conversation))
                    content.append({"type": "audio"})
                else:
                    words.append(self._write_down(source, conversation))
            prompt = "\n".join(filter(None, words))
            if text := fill_template(self.spec.template, prompt, has_image=bool(turn.images)):
                content.append({"type": "text", "text": text})
            conversation.messages.append({"role": "user", "content": content})
            if turn.answer:
                answer = [{"type": "text", "text": turn.answer}]
                conversation.messages.append({"role": "assistant", "content": answer})
        return conversation

    @property
    def _most_samples(self) -> int | None:
        """How much of a sound the MLLM hears, in samples; None: all of it."""
        return None

    def _load_audio(self, source: Any, conversation: Conversation) -> np.ndarray:
        rate = self.spec.audio_rate
        samples = load_audio(source, rate).samples
        heard = samples[: self._most_samples]
        if len(heard) < len(samples):
            seconds = {"seconds": f"{len(samples) / rate:.0f}", "heard": f"{len(heard) / rate:.0f}"}
            conversation.notes.append(Note(CUT_AUDIO, **seconds))
        else:
            conversation.notes.append(Note(HEARD, seconds=f"{len(samples) / rate:.1f}"))
        return heard

    def _write_down(self, source: Any, conversation: Conversation) -> str:
        """What is said in a sound, for an MLLM that reads but cannot hear."""
        heard = self.transcriber.transcribe(source)
        if not heard.text:
            raise UnsupportedModalityError(
                f"No speech was found in the sound, and {self.family} can only read what is said; "
                f"presets that hear sounds: {', '.join(presets_that_take('audio'))}."
            )
        conversation.notes.append(Note(WRITTEN_DOWN, family=self.family, spoken=heard.language, said=repr(heard.text)))
        return validate_text("What is said in the sound", heard.text)

    def _load_image(self, source: Any) -> Image.Image:
        image = load_image(source)
        if self.spec.image_size:
            return image.resize(self.spec.image_size)
        area = image.width * image.height
        if area > self.spec.max_image_pixels:
            scale = (self.spec.max_image_pixels / area) ** 0.5
            image = image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))))
        return image

    def _load_video(self, source: Any) -> VideoClip:
        spec = self.spec
        return load_video(
            source, fps=spec.video_fps, max_frames=spec.max_video_frames, max_pixels=spec.max_video_pixels
        )


def fill_template(template: Template, prompt: str, has_image: bool) -> str:
    """The user's words as the MLLM reads them: plain, or as the instruction dictionary of X2I's training.

    The dictionaries stand also where the user only shows something; so the reference does it.
    """
    if template == "plain":
        return prompt
    if template == "short-instruction":
        return str({"Text input": prompt or None, "Instruction editing description": "no"})
    words = {"Text input": prompt, "Instruction editing description": "no", "image input": "yes" if has_image else "no"}
    return str(words)

"""One interface for every MLLM family: a conversation of text and media in, the hidden states of all layers out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from PIL import Image

from x2i_app.encoders.vocabulary import Vocabulary
from x2i_app.errors import InvalidRequestError, UnsupportedModalityError
from x2i_app.media import AudioClip, VideoClip, load_audio, load_image, load_video
from x2i_app.media.edges import at_one_level, without_bars, without_silence
from x2i_app.media.images import fit_size, scaled_note
from x2i_app.media.transcription import Transcriber
from x2i_app.notes import (
    CUT_AUDIO,
    GUESS,
    HEARD,
    INCOMPLETE,
    LONG_PROMPT,
    NOTHING_SAID,
    SILENT_VIDEO,
    UNKNOWN,
    UNKNOWN_LANGUAGE,
    UNKNOWN_MEDIA,
    UNKNOWN_TERMS,
    WRITTEN_DOWN,
    Note,
)
from x2i_app.presets import presets_that_take
from x2i_app.request import NOTHING, Turn, as_turn, validate_text
from x2i_app.specs import EncodingSpec, MLLMSpec, Padding, Template

_LONGEST_END = 200  # characters of a long prompt's end that a note quotes
_NAMED_TERMS = 6  # of the unknown words of a prompt


@dataclass(frozen=True)
class HiddenStates:
    """Hidden states of a conversation.

    hidden_states: (B, L, S, H); the embedding output first, the last layer after the final norm.
    mask: (B, S) bool, False for padding.
    answer: what the MLLM answered, None if it was not asked. confidence: the mean logarithm of the probabilities of its
    tokens, None if not measured. notes: sentences to show to the user.
    """

    hidden_states: torch.Tensor
    mask: torch.Tensor
    answer: str | None = None
    notes: tuple[str, ...] = ()
    confidence: float | None = None


@dataclass
class Conversation:
    """Chat messages in the format of chat templates, and their media in order of appearance.

    images: PIL, RGB. videos: clips of RGB frames. audios: (N,) float32, mono, at the family's own sampling rate.
    notes: sentences to show to the user about how the media are used.
    """

    messages: list[dict[str, Any]] = field(default_factory=list)
    images: list[Image.Image] = field(default_factory=list)
    videos: list[VideoClip] = field(default_factory=list)
    audios: list[np.ndarray] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class MLLMEncoder(ABC):
    """An MLLM as an encoder. A subclass implements the model, processor and chat format of one family.

    model: the family's transformers model. processor: its tokenizer and media processors.
    spec: supported modalities, and how inputs are prepared. transcriber: turns speech into text for an MLLM without
    audio input; with None, such an MLLM refuses audio.
    """

    family: ClassVar[str]
    # How `model_type` in config.json begins; None: as the family's name, with underscores.
    model_type: ClassVar[str | None] = None

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
        """Load the encoder from a folder in the family's own on-disk format, onto the CPU.

        expected: depth and width that the configuration must have. dtype: "auto" keeps the dtype of the file.
        Raises CheckpointError if the folder is of another family or size, or incomplete.
        """

    @property
    @abstractmethod
    def num_states(self) -> int:
        """L: hidden states per token, one for each layer and one for the embedding output."""

    @property
    @abstractmethod
    def hidden_size(self) -> int:
        """H: width of a hidden state."""

    @abstractmethod
    def _prefill(self, conversations: Sequence[Conversation], padding: Padding) -> list[HiddenStates]:
        """States of each conversation's own tokens: one forward pass without the language-model head."""

    @abstractmethod
    def _answer(self, conversations: Sequence[Conversation]) -> list[HiddenStates]:
        """Generate an answer to each conversation, and return the states that `_select_states` selects."""

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
        """Hidden states of a conversation whose last turn is `prompt` with its media; B = 1.

        images, videos, audios, history: as in GenerationRequest. padding: "padded" extends the prompt to `pad_length`
        tokens as the reference does, "compact" returns real tokens only; None uses the spec's. Answers are never
        padded. reason: generate an answer first and return its states; the spec can also ask for this.

        Text that spells a token reserved by the MLLM, such as <|im_end|>, is read as text.

        Raises UnsupportedModalityError or MediaError, and InvalidRequestError if there is nothing to encode.
        """
        return self.encode_batch([[*history, Turn(prompt, images, videos, audios)]], padding, reason)[0]

    @torch.no_grad()
    def encode_batch(
        self, turns_lists: Sequence[Sequence[Turn]], padding: Padding | None = None, reason: bool = False
    ) -> list[HiddenStates]:
        """Hidden states of many conversations; item i equals what `encode` returns for conversation i (B = 1).

        turns_lists: the turns of each conversation, oldest first. padding, reason, errors: as in `encode`.

        No padding is added to form batches: conversations with equal numbers of tokens and equal media sizes run
        together, others run one by one. All results stay in memory; split a long list into parts.
        """
        if padding not in (None, *get_args(Padding)) or not isinstance(reason, bool):
            raise InvalidRequestError(
                f"padding is {padding!r} and reason is {reason!r}; padding must be padded, compact or None, "
                "and reason true or false."
            )
        turns_lists = [list(map(as_turn, turns)) for turns in turns_lists]
        conversations = list(map(self._prepare, turns_lists))
        encoded = self._encode(conversations, padding, reason)
        return [
            replace(states, notes=(*conversation.notes, *states.notes, *self._unknown_notes(turns, states)))
            for conversation, turns, states in zip(conversations, turns_lists, encoded, strict=True)
        ]

    def _length_notes(self, prompt: str) -> tuple[str, ...]:
        """A note if a prompt has more tokens than X2I's models were trained with, and what is beyond them."""
        limit = self.spec.pad_length
        if len(prompt.encode()) <= limit:  # a token has at least one byte
            return ()
        tokenizer = self.processor.tokenizer
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        if len(ids) <= limit:
            return ()
        end = " ".join(tokenizer.decode(ids[limit:]).split())
        shown = end if len(end) <= _LONGEST_END else f"{end[:_LONGEST_END]}..."
        return (Note(LONG_PROMPT, tokens=len(ids), limit=limit, end=shown),)

    def _unknown_notes(self, turns: Sequence[Turn], states: HiddenStates) -> tuple[str, ...]:
        """A note on what of the last prompt the MLLM does not know: if it marks its answer, or should have done so."""
        mark, answer = self.spec.unknown_mark, states.answer
        if not mark or not answer:
            return ()
        prompt = turns[-1].prompt
        vocabulary = self._vocabulary
        language = vocabulary.foreign_language(prompt)
        if language:
            return (Note(UNKNOWN_LANGUAGE, spoken=language),)
        if not answer.endswith(mark) and vocabulary.knows_any(prompt) and not vocabulary.has_strange(prompt):
            least = self.spec.least_confidence
            is_sure = None in (states.confidence, least) or states.confidence >= least
            # Of a prompt alone, such as "snow", that may mean two things, its words already tell.
            is_sure = is_sure or set(turns[-1].modalities) <= {"text"}
            return () if is_sure else (Note(GUESS),)
        terms = vocabulary.unknown_terms(prompt)
        if terms:
            named = ", ".join(f"“{term}”" for term in terms[:_NAMED_TERMS])
            return (Note(UNKNOWN_TERMS, terms=named + ", …" * (len(terms) > _NAMED_TERMS)),)
        return (Note(UNKNOWN if prompt else UNKNOWN_MEDIA),)

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        """That of the tokenizer's config; without one every word counts as known."""
        return Vocabulary.from_dict(self.processor.tokenizer.init_kwargs.get("vocabulary"))

    def _prepare(self, turns: Sequence[Turn]) -> Conversation:
        if not any(turn.modalities for turn in turns):
            raise InvalidRequestError(NOTHING)
        self.check_modalities(turns)
        return self._build_conversation(turns)

    def _encode(
        self, conversations: Sequence[Conversation], padding: Padding | None, reason: bool
    ) -> list[HiddenStates]:
        if self.spec.states == "prompt" and not reason:
            return self._prefill(conversations, padding or self.spec.padding)
        return self._answer(conversations)

    def _select_states(self, prompt: HiddenStates, answer: HiddenStates) -> HiddenStates:
        """Select the states for AlignNet from those of a prompt and its answer, as the spec says."""
        if answer.hidden_states.shape[2] == 0:
            return HiddenStates(prompt.hidden_states, prompt.mask, answer.answer, (Note(NOTHING_SAID),))
        if self.spec.states == "prompt+answer":
            return HiddenStates(
                torch.cat((prompt.hidden_states, answer.hidden_states), dim=2),
                torch.cat((prompt.mask, answer.mask), dim=1),
                answer.answer,
            )
        return answer

    def check_modalities(self, turns: Sequence[Turn]) -> None:
        """Raise UnsupportedModalityError if any turn has a modality that this MLLM does not support.

        The message names presets that do.
        """
        for modality in dict.fromkeys(m for turn in turns for m in turn.modalities):
            is_transcribed = modality == "audio" and self.transcriber is not None
            if modality not in self.spec.modalities and not is_transcribed:
                raise UnsupportedModalityError(
                    f"{self.family} does not support {modality}, only {', '.join(self.spec.modalities)}; "
                    f"presets that do: {', '.join(presets_that_take(modality))}."
                )

    def _build_conversation(self, turns: Sequence[Turn]) -> Conversation:
        conversation = Conversation()
        for turn in turns:
            content = []
            for source in turn.images:
                conversation.images.append(self._load_image(source))
                conversation.notes += filter(None, [scaled_note(source)])
                content.append({"type": "image"})
            for source in turn.videos:
                clip = self._load_video(source)
                conversation.videos.append(clip)
                content.append({"type": "video"})
                if clip.has_audio:
                    conversation.notes.append(Note(SILENT_VIDEO))
                if clip.is_incomplete:
                    conversation.notes.append(Note(INCOMPLETE, modality="video", seconds=f"{clip.duration:.1f}"))
            texts = [turn.prompt]
            for source in turn.audios:
                if self.spec.audio_rate:
                    conversation.audios.append(self._load_audio(source, conversation))
                    content.append({"type": "audio"})
                else:
                    texts.append(self._transcribe(source, conversation))
            prompt = "\n".join(filter(None, texts))
            if turn is turns[-1]:
                conversation.notes += self._length_notes(prompt)
            if text := fill_template(self.spec.template, prompt, has_image=bool(turn.images)):
                content.append({"type": "text", "text": text})
            conversation.messages.append({"role": "user", "content": content})
            if turn.answer:
                answer = [{"type": "text", "text": turn.answer}]
                conversation.messages.append({"role": "assistant", "content": answer})
        return conversation

    @property
    def _max_samples(self) -> int | None:
        """Longest audio that the MLLM accepts, in samples; None for no limit."""
        return None

    def _load_audio(self, source: Any, conversation: Conversation) -> np.ndarray:
        rate = self.spec.audio_rate
        samples = _read_audio(source, rate, conversation).samples
        cleaned = at_one_level(without_silence(samples, rate)) if self.spec.trims_media else samples
        used = cleaned[: self._max_samples]
        if len(used) < len(cleaned):
            seconds = {"seconds": f"{len(samples) / rate:.0f}", "heard": f"{len(used) / rate:.0f}"}
            conversation.notes.append(Note(CUT_AUDIO, **seconds))
        else:
            conversation.notes.append(Note(HEARD, seconds=f"{len(samples) / rate:.1f}"))
        return used

    def _transcribe(self, source: Any, conversation: Conversation) -> str:
        """The text spoken in an audio file, for an MLLM without audio input."""
        transcript = self.transcriber.transcribe(_read_audio(source, 16_000, conversation))
        if not transcript.text:
            raise UnsupportedModalityError(
                f"No speech was found in the audio, and {self.family} can only use the text that is spoken; "
                f"presets that support any audio: {', '.join(presets_that_take('audio'))}."
            )
        said = {"spoken": transcript.language, "said": repr(transcript.text)}
        conversation.notes.append(Note(WRITTEN_DOWN, family=self.family, **said))
        return validate_text("The text spoken in the audio", transcript.text)

    def _load_image(self, source: Any) -> Image.Image:
        image = load_image(source)
        if self.spec.trims_media:
            image = Image.fromarray(without_bars(np.asarray(image)[None])[0])
        size = self.spec.image_size or fit_size(*image.size, self.spec.max_image_pixels)
        return image if size == image.size else image.resize(size)

    def _load_video(self, source: Any) -> VideoClip:
        spec = self.spec
        # What is left without bars still has as many pixels as the MLLM takes.
        max_pixels = spec.max_video_pixels * (4 if spec.trims_media else 1)
        clip = load_video(source, fps=spec.video_fps, max_frames=spec.max_video_frames, max_pixels=max_pixels)
        if not spec.trims_media:
            return clip
        frames = [Image.fromarray(frame) for frame in without_bars(clip.frames)]
        size = fit_size(*frames[0].size, spec.max_video_pixels)
        return replace(clip, frames=np.stack([frame.resize(size, Image.Resampling.LANCZOS) for frame in frames]))


def _read_audio(source: Any, rate: int, conversation: Conversation) -> AudioClip:
    clip = load_audio(source, rate)
    if clip.is_incomplete:
        conversation.notes.append(Note(INCOMPLETE, modality="audio", seconds=f"{clip.duration:.1f}"))
    return clip


def fill_template(template: Template, prompt: str, has_image: bool) -> str:
    """The prompt as the MLLM reads it: unchanged, or inside the instruction dictionary of X2I's training.

    The reference uses the dictionary for empty prompts too, so that media without a prompt get it as well.
    """
    if template == "plain":
        return prompt
    if template == "short-instruction":
        return str({"Text input": prompt or None, "Instruction editing description": "no"})
    image_input = "yes" if has_image else "no"
    return str({"Text input": prompt, "Instruction editing description": "no", "image input": image_input})

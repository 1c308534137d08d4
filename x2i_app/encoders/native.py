"""Prefill and answers for families whose model and processor are classes like those of transformers."""

import json
import logging
import unicodedata
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import init_empty_weights
from transformers import BatchFeature, GenerationConfig, PreTrainedConfig, PreTrainedModel, ProcessorMixin

from x2i_app.encoders.base import Conversation, HiddenStates, MLLMEncoder
from x2i_app.encoders.grouping import run_in_groups
from x2i_app.encoders.reserved import hide, may_be_reserved, reading_hidden_text
from x2i_app.encoders.weights import LOADING_ERRORS, load_strictly, read_head, short_message, without_values
from x2i_app.errors import CheckpointError
from x2i_app.load_lock import one_at_a_time
from x2i_app.request import Turn
from x2i_app.specs import EncodingSpec, MLLMSpec, Padding

logger = logging.getLogger(__name__)

# Position id of every padding token in the reference's transformers (4.49), on all three rotary axes.
_PAD_POSITION = 1

_ANSWER_FIELDS = ("repetition_penalty", "no_repeat_ngram_size", "bad_words_ids", "suppress_tokens", "min_new_tokens")


class NativeEncoder(MLLMEncoder):
    """Runs a family's model for prefills and answers.

    base_class: the model without its language-model head, which is enough for a prefill.
    answering_class: the model with the head; it is built around the loaded base for the first answer.
    processor_class: fixed here and never read from the folder, which could name its own code.
    """

    base_class: ClassVar[type[PreTrainedModel]]
    answering_class: ClassVar[type[PreTrainedModel]]
    processor_class: ClassVar[type[ProcessorMixin]]
    # Possible keys of the head's weight in a checkpoint.
    head_keys: ClassVar[tuple[str, ...]] = ("lm_head.weight",)
    # Prefixes of further weights that a checkpoint may contain; they are not loaded.
    left_out: ClassVar[tuple[str, ...]] = ()
    # Keys of newer files that transformers does not know for the model without its head.
    key_mapping: ClassVar[dict[str, str] | None] = None
    # The family's own template, for folders that lack one; None if a folder must have it.
    chat_template: ClassVar[str | None] = None
    # Fields of generation_config.json that are used. Sampling options are not: answers are generated greedily.
    generation_fields: ClassVar[tuple[str, ...]] = ("bos_token_id", "eos_token_id", "pad_token_id", *_ANSWER_FIELDS)

    # Largest number of conversations of one shape that run together.
    max_group_size: ClassVar[int] = 32

    @classmethod
    def load(
        cls,
        directory: str | Path,
        spec: EncodingSpec,
        *,
        expected: MLLMSpec | None = None,
        dtype: torch.dtype | str = "auto",
        fill: Callable[[PreTrainedModel], bool] | None = None,
    ) -> "NativeEncoder":
        directory = Path(directory)
        config = cls._read_config(directory)
        text = config.get_text_config()
        got = (text.num_hidden_layers, text.hidden_size)
        if expected and got != (expected.num_layers, expected.hidden_size):
            raise CheckpointError(
                f"{directory.name} has {got[0]} layers of width {got[1]}; "
                f"expected {expected.num_layers} of width {expected.hidden_size}, so choose the matching preset."
            )
        processor = cls._load_processor(directory, config)
        model = cls._empty_model(config, dtype) if fill else None
        if model is None or not fill(model):
            model = cls._load_model(directory, config, dtype)
        return cls(model.eval().requires_grad_(False), processor, spec)

    @classmethod
    def check_weights(cls, directory: Path) -> None:
        """Compare the names and shapes of a folder's weights with its configuration; no values are read.

        Raises CheckpointError. A folder that is quantized is checked when it is loaded.
        """
        config = cls._read_config(directory)
        if getattr(config, "quantization_config", None) is None:
            with without_values():
                cls._load_model(directory, config, "auto")

    @classmethod
    def _read_config(cls, directory: Path) -> PreTrainedConfig:
        try:
            model_type = json.loads((directory / "config.json").read_text(encoding="utf-8")).get("model_type", "")
            if not model_type.startswith(cls.model_type or cls.family.replace("-", "_").replace(".", "_")):
                raise CheckpointError(f"{directory.name} contains a model of type {model_type!r}, not {cls.family}.")
            return cls.base_class.config_class.from_pretrained(directory, local_files_only=True)
        except LOADING_ERRORS as error:
            raise CheckpointError(
                f"{directory} has no readable config.json of {cls.family} ({short_message(error)}); "
                f"choose a folder with a {cls.family} model."
            ) from error

    @classmethod
    def _load_processor(cls, directory: Path, config: PreTrainedConfig) -> ProcessorMixin:
        try:
            # The processor loads its parts by the class names in the folder, so remote code must be off for them too.
            processor = cls.processor_class.from_pretrained(
                processor_directory(directory), local_files_only=True, trust_remote_code=False
            )
        except LOADING_ERRORS as error:
            raise CheckpointError(
                f"{directory.name} has no readable {cls.family} processor: {short_message(error)}"
            ) from error
        if not (processor.chat_template or processor.tokenizer.chat_template):
            logger.info("%s has no chat template; the one of %s is used.", directory.name, cls.family)
            processor.chat_template = cls.chat_template
        return processor

    @classmethod
    def _empty_model(cls, config: PreTrainedConfig, dtype: torch.dtype | str) -> PreTrainedModel:
        """The model with buffers, but without weights: those are on the meta device."""
        with init_empty_weights(include_buffers=False):
            return cls.base_class._from_config(config, dtype=dtype)

    @classmethod
    def _load_model(cls, directory: Path, config: PreTrainedConfig, dtype: torch.dtype | str) -> PreTrainedModel:
        left_out = (*cls.head_keys, *cls.left_out)
        return load_strictly(cls.base_class, directory, cls.family, config, dtype, left_out, cls.key_mapping)

    @property
    def num_states(self) -> int:
        return self.model.config.get_text_config().num_hidden_layers + 1

    @property
    def hidden_size(self) -> int:
        return self.model.config.get_text_config().hidden_size

    @property
    def base(self) -> PreTrainedModel:
        """The model without its head."""
        return self.model.model if isinstance(self.model, self.answering_class) else self.model

    @abstractmethod
    def _media_inputs(self, conversation: Conversation) -> dict[str, Any]:
        """Keyword arguments of the processor for the conversation's media."""

    @abstractmethod
    def _position_ids(self, inputs: BatchFeature) -> torch.Tensor:
        """(3, B, S): temporal, height and width position of every token."""

    def _tokenize(self, conversation: Conversation) -> BatchFeature:
        messages, reading = conversation.messages, nullcontext()
        texts = [part["text"] for m in messages for part in m["content"] if part["type"] == "text"]
        if may_be_reserved(texts, self.processor.tokenizer):
            messages, reading = _with_hidden_text(messages), reading_hidden_text(self.processor)
        text = self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        with reading:
            inputs = self.processor(text=[text], return_tensors="pt", **self._media_inputs(conversation))
        return inputs.to(self.model.device)

    def count_tokens(self, turns: Sequence[Turn]) -> int:
        """Number of tokens of a conversation, without running the model. Errors as in `encode`."""
        return self._tokenize(self._prepare(turns))["input_ids"].shape[1]

    def _prefill(self, conversations: Sequence[Conversation], padding: Padding) -> list[HiddenStates]:
        inputs = map(self._tokenize, conversations)
        return run_in_groups(inputs, lambda group: self._prefill_group(group, padding), self.max_group_size)

    def _prefill_group(self, inputs: BatchFeature, padding: Padding) -> list[HiddenStates]:
        """States of conversations of equal length."""
        count, length = inputs["input_ids"].shape
        position_ids = self._position_ids(inputs)
        pads = max(0, self.spec.pad_length - length) if padding == "padded" else 0
        if pads:
            # With right padding, every pad token attends to the same keys from the same position, so all pad rows are
            # equal: compute one and repeat it.
            inputs = self._append_pads(inputs, 1)
            position_ids = torch.nn.functional.pad(position_ids, (0, 1), value=_PAD_POSITION)
        output = self.base(**inputs, position_ids=position_ids, output_hidden_states=True, use_cache=False)
        states = torch.stack(output.hidden_states, dim=1)
        mask = torch.ones(count, length, dtype=torch.bool, device=states.device)
        if pads:
            rows = states[:, :, -1:].expand(-1, -1, pads, -1)
            states = torch.cat((states[:, :, :-1], rows), dim=2)
            mask = torch.nn.functional.pad(mask, (0, pads))
        return list(map(HiddenStates, states.split(1), mask.split(1)))

    def _append_pads(self, inputs: BatchFeature, count: int) -> BatchFeature:
        fill = {"input_ids": self.processor.tokenizer.pad_token_id, "attention_mask": 0, "mm_token_type_ids": 0}
        inputs = BatchFeature(dict(inputs))
        for key in fill.keys() & inputs.keys():
            inputs[key] = torch.nn.functional.pad(inputs[key], (0, count), value=fill[key])
        return inputs

    def _answer(self, conversations: Sequence[Conversation]) -> list[HiddenStates]:
        self.add_head()
        return run_in_groups(map(self._tokenize, conversations), self._answer_group, self.max_group_size)

    def _answer_group(self, inputs: BatchFeature) -> list[HiddenStates]:
        """Answers to prompts of equal length; each result has its answer's own length."""
        output = self.model.generate(
            **inputs,
            max_new_tokens=self.spec.max_new_tokens,
            do_sample=False,
            num_beams=1,
            output_hidden_states=True,
            output_scores=self.spec.least_confidence is not None,
            return_dict_in_generate=True,
        )
        # Step 0 processes the prompt, step i the answer's token i - 1. The last token is never processed.
        steps = [torch.stack(step, dim=1) for step in output.hidden_states]
        prompts = steps[0]
        answers = torch.cat(steps[1:], dim=2) if len(steps) > 1 else prompts[:, :, :0]
        answer_ids = output.sequences[:, inputs["input_ids"].shape[1] :].tolist()
        results = [
            self._pair_states(prompt, answer, self._cut_at_eos(ids))
            for prompt, answer, ids in zip(prompts.split(1), answers.split(1), answer_ids, strict=True)
        ]
        if output.scores is None:
            return results
        scores = self.model.compute_transition_scores(output.sequences, output.scores, normalize_logits=True)
        lengths = [len(self._cut_at_eos(ids)) for ids in answer_ids]
        return [
            replace(states, confidence=row[:length].float().mean().item())
            for states, row, length in zip(results, scores, lengths, strict=True)
        ]

    def _cut_at_eos(self, answer_ids: list[int]) -> list[int]:
        """An answer up to and including its end token; `generate` pads shorter answers of a batch after it."""
        eos = self.model.generation_config.eos_token_id
        ends = {eos} if isinstance(eos, int) else set(eos)
        end = next((index for index, token in enumerate(answer_ids) if token in ends), len(answer_ids) - 1)
        return answer_ids[: end + 1]

    def _pair_states(self, prompt: torch.Tensor, answer: torch.Tensor, answer_ids: list[int]) -> HiddenStates:
        """Select from the states of a prompt and its answer, both (1, L, S, H).

        answer: at least one row for each token of answer_ids except the last.
        """
        tokenizer = self.processor.tokenizer
        reserved = tokenizer.added_tokens_decoder  # not only those that transformers calls special
        text = clean_answer(tokenizer.decode([token for token in answer_ids if token not in reserved]))
        return self._select_states(
            *(
                HiddenStates(states, torch.ones(1, states.shape[2], dtype=torch.bool, device=states.device), text)
                for states in (prompt, answer[:, :, : len(answer_ids) - 1])
            )
        )

    @one_at_a_time
    def add_head(self) -> None:
        """Add the language-model head to the model if it has none; loaded weights are shared, not copied.

        A tied head is the embedding; another one is read from the checkpoint. Raises CheckpointError if the checkpoint
        has no head of the right shape, or an unreadable generation_config.json.
        """
        if isinstance(self.model, self.answering_class):
            return
        base = self.model
        with init_empty_weights():
            model = self.answering_class(base.config)
        model.model = base
        embedding = base.get_input_embeddings().weight
        if base.config.tie_word_embeddings:
            model.lm_head.weight = embedding
        else:
            model.lm_head.weight = read_head(Path(base.config.name_or_path), self.head_keys, embedding)
        self._configure_answers(model.generation_config, Path(base.config.name_or_path))
        self.model = model.eval()

    def _configure_answers(self, config: GenerationConfig, directory: Path) -> None:
        """Apply the folder's generation_config.json to `config`, which transformers derived from the model's."""
        if (directory / "generation_config.json").is_file():
            try:
                saved = GenerationConfig.from_pretrained(directory, local_files_only=True)
                values = {name: getattr(saved, name) for name in self.generation_fields}
                config.update(**{name: value for name, value in values.items() if value is not None})
            except LOADING_ERRORS as error:
                raise CheckpointError(
                    f"generation_config.json of {directory.name} cannot be read: {short_message(error)}"
                ) from error
        if config.eos_token_id is None:
            config.eos_token_id = self.processor.tokenizer.eos_token_id


def _with_hidden_text(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        message | {"content": [part | {"text": hide(part["text"])} if "text" in part else part for part in content]}
        for message in messages
        for content in [message["content"]]
    ]


def clean_answer(text: str) -> str:
    """An answer without control characters except tabs and line breaks, so that it can be shown and sent again."""
    return "".join(c for c in text if c in "\t\n\r" or unicodedata.category(c) != "Cc").strip()


def processor_directory(directory: Path) -> Path:
    """The folder with the tokenizer: the model's own, or the sibling folder `processor` of a diffusers pipeline."""
    sibling = directory.parent / "processor"
    return sibling if not (directory / "tokenizer_config.json").is_file() and sibling.is_dir() else directory

"""Families for which transformers has both a model and a processor of its own."""

import json
import unicodedata
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import init_empty_weights
from transformers import BatchFeature, GenerationConfig, PreTrainedConfig, PreTrainedModel, ProcessorMixin

from x2i_app.encoders.base import Conversation, HiddenStates, MLLMEncoder
from x2i_app.encoders.grouping import run_in_groups
from x2i_app.encoders.weights import LOADING_ERRORS, first_line, load_strictly, read_head
from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.load_lock import one_at_a_time
from x2i_app.request import Turn
from x2i_app.specs import EncodingSpec, MLLMSpec, Padding

# Position that the reference's transformers (4.49) gave to every padding row, on all three rotary axes.
_PAD_POSITION = 1

_SHAPING = ("repetition_penalty", "no_repeat_ngram_size", "bad_words_ids", "suppress_tokens", "min_new_tokens")


class NativeEncoder(MLLMEncoder):
    """Prefill and answers with transformers' own classes.

    base_class: the model without a language-model head, all that a prefill needs.
    answering_class: the same with the head, which is built around the loaded base when an answer is first asked for.
    processor_class: never asked of the folder, which might name code of its own.
    """

    base_class: ClassVar[type[PreTrainedModel]]
    answering_class: ClassVar[type[PreTrainedModel]]
    processor_class: ClassVar[type[ProcessorMixin]]
    # Where the head's weights may be in a checkpoint.
    head_keys: ClassVar[tuple[str, ...]] = ("lm_head.weight",)
    # How the names of weights begin that a checkpoint may have beside the model's and the head's.
    left_out: ClassVar[tuple[str, ...]] = ()
    # What of a folder's generation_config.json shapes an answer; how it is sampled does not, as no answer is.
    generation_fields: ClassVar[tuple[str, ...]] = ("bos_token_id", "eos_token_id", "pad_token_id", *_SHAPING)

    # Conversations of one shape that run together.
    max_group_size: ClassVar[int] = 32

    @classmethod
    def load(
        cls,
        directory: str | Path,
        spec: EncodingSpec,
        *,
        expected: MLLMSpec | None = None,
        dtype: torch.dtype | str = "auto",
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
        model = cls._load_model(directory, config, dtype)
        return cls(model.eval().requires_grad_(False), processor, spec)

    @classmethod
    def _read_config(cls, directory: Path) -> PreTrainedConfig:
        try:
            stated = json.loads((directory / "config.json").read_text(encoding="utf-8")).get("model_type", "")
            if not stated.startswith(cls.family.replace("-", "_").replace(".", "_")):
                raise CheckpointError(f"{directory.name} holds a model of the type {stated!r}, not {cls.family}.")
            return cls.base_class.config_class.from_pretrained(directory, local_files_only=True)
        except LOADING_ERRORS as error:
            raise CheckpointError(
                f"{directory} holds no readable config.json of {cls.family} ({first_line(error)}); "
                "give the folder of such a model."
            ) from error

    @classmethod
    def _load_processor(cls, directory: Path, config: PreTrainedConfig) -> ProcessorMixin:
        try:
            # The class reads its parts by what the folder calls them, so the prohibition is theirs too.
            return cls.processor_class.from_pretrained(
                processor_directory(directory), local_files_only=True, trust_remote_code=False
            )
        except LOADING_ERRORS as error:
            raise CheckpointError(
                f"{directory.name} has no readable processor of {cls.family}: {first_line(error)}"
            ) from error

    @classmethod
    def _load_model(cls, directory: Path, config: PreTrainedConfig, dtype: torch.dtype | str) -> PreTrainedModel:
        return load_strictly(
            cls.base_class, directory, cls.family, config, dtype, left_out=(*cls.head_keys, *cls.left_out)
        )

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
        """Arguments of the processor for the conversation's media."""

    @abstractmethod
    def _position_ids(self, inputs: BatchFeature) -> torch.Tensor:
        """(3, B, S): time, height and width position of every token."""

    def _tokenize(self, conversation: Conversation) -> BatchFeature:
        self._refuse_reserved_words(conversation)
        text = self.processor.apply_chat_template(conversation.messages, tokenize=False, add_generation_prompt=True)
        inputs = self.processor(text=[text], return_tensors="pt", **self._media_inputs(conversation))
        return inputs.to(self.model.device)

    def count_tokens(self, turns: Sequence[Turn]) -> int:
        """How many tokens a conversation has, without running the model. Errors as in `encode`."""
        return self._tokenize(self._read(turns))["input_ids"].shape[1]

    def _refuse_reserved_words(self, conversation: Conversation) -> None:
        reserved = set(self.processor.tokenizer.get_added_vocab())
        texts = [part["text"] for m in conversation.messages for part in m["content"] if part["type"] == "text"]
        for word in reserved:
            if any(word in text for text in texts):
                raise InvalidRequestError(f"The text contains {word}, which the MLLM reserves for itself; remove it.")

    def _prefill(self, conversations: Sequence[Conversation], padding: Padding) -> list[HiddenStates]:
        inputs = map(self._tokenize, conversations)
        return run_in_groups(inputs, lambda group: self._prefill_group(group, padding), self.max_group_size)

    def _prefill_group(self, inputs: BatchFeature, padding: Padding) -> list[HiddenStates]:
        """States of conversations of one length."""
        count, length = inputs["input_ids"].shape
        position_ids = self._position_ids(inputs)
        pads = max(0, self.spec.pad_length - length) if padding == "padded" else 0
        if pads:
            # All pad rows of a right-padded prompt see the same keys from the same position, so they are equal:
            # compute one and repeat it.
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
        """Answers to prompts of one length, each as long as it is."""
        output = self.model.generate(
            **inputs,
            max_new_tokens=self.spec.max_new_tokens,
            do_sample=False,
            num_beams=1,
            output_hidden_states=True,
            return_dict_in_generate=True,
        )
        # Step 0 is the prompt; step i feeds the answer's token i - 1. The last token is never fed.
        steps = [torch.stack(step, dim=1) for step in output.hidden_states]
        prompts = steps[0]
        answers = torch.cat(steps[1:], dim=2) if len(steps) > 1 else prompts[:, :, :0]
        said = output.sequences[:, inputs["input_ids"].shape[1] :].tolist()
        return [
            self._settle(prompt, answer, self._cut(ids))
            for prompt, answer, ids in zip(prompts.split(1), answers.split(1), said, strict=True)
        ]

    def _cut(self, answer_ids: list[int]) -> list[int]:
        """An answer up to the token that ends it. What follows only fills it up to the longest answer of its group."""
        eos = self.model.generation_config.eos_token_id
        ends = {eos} if isinstance(eos, int) else set(eos)
        end = next((place for place, token in enumerate(answer_ids) if token in ends), len(answer_ids) - 1)
        return answer_ids[: end + 1]

    def _settle(self, prompt: torch.Tensor, answer: torch.Tensor, answer_ids: list[int]) -> HiddenStates:
        """prompt, answer: states (1, L, S, H); of the answer one row for each token but the last, and maybe more."""
        text = clean_answer(self.processor.tokenizer.decode(answer_ids, skip_special_tokens=True))
        asked, answered = (
            HiddenStates(states, torch.ones(1, states.shape[2], dtype=torch.bool, device=states.device), text)
            for states in (prompt, answer[:, :, : len(answer_ids) - 1])
        )
        return self._choose(asked, answered)

    @one_at_a_time
    def add_head(self) -> None:
        """Put the language-model head on the model, if it is not there yet; nothing that is loaded is copied.

        The head is the embedding's transpose where the configuration ties them, else it is read from the checkpoint.
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
        self._settle_generation(model.generation_config, Path(base.config.name_or_path))
        self.model = model.eval()

    def _settle_generation(self, config: GenerationConfig, directory: Path) -> None:
        """What the folder says about answers, over what follows from the model's configuration."""
        if (directory / "generation_config.json").is_file():
            try:
                stated = GenerationConfig.from_pretrained(directory, local_files_only=True)
                values = {name: getattr(stated, name) for name in self.generation_fields}
                config.update(**{name: value for name, value in values.items() if value is not None})
            except LOADING_ERRORS as error:
                raise CheckpointError(
                    f"generation_config.json of {directory.name} cannot be read: {first_line(error)}"
                ) from error
        if config.eos_token_id is None:
            config.eos_token_id = self.processor.tokenizer.eos_token_id


def clean_answer(text: str) -> str:
    """An answer as it can be shown and asked about: without control characters other than tabs and line breaks."""
    return "".join(c for c in text if c in "\t\n\r" or unicodedata.category(c) != "Cc").strip()


def processor_directory(directory: Path) -> Path:
    """Where the tokenizer lies: with the model, or in a diffusers pipeline's `processor` folder beside it."""
    beside = directory.parent / "processor"
    return beside if not (directory / "tokenizer_config.json").is_file() and beside.is_dir() else directory

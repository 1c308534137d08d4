"""Families for which transformers has both a model and a processor of its own."""

import json
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import init_empty_weights
from safetensors import SafetensorError, safe_open
from transformers import AutoProcessor, BatchFeature, PreTrainedConfig, PreTrainedModel, ProcessorMixin
from transformers.utils import logging as transformers_logging

from x2i_app.encoders.base import Conversation, HiddenStates, MLLMEncoder
from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.specs import EncodingSpec, MLLMSpec, Padding

# Position that the reference's transformers (4.49) gave to every padding row, on all three rotary axes.
_PAD_POSITION = 1


class NativeEncoder(MLLMEncoder):
    """Prefill and answers with transformers' own classes.

    base_class: the model without a language-model head, all that a prefill needs.
    answering_class: the same with the head, which is built around the loaded base when an answer is first asked for.
    """

    base_class: ClassVar[type[PreTrainedModel]]
    answering_class: ClassVar[type[PreTrainedModel]]
    # Where the head's weights may be in a checkpoint.
    head_keys: ClassVar[tuple[str, ...]] = ("lm_head.weight",)

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
        except (OSError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"{directory} holds no readable config.json of {cls.family}; give the folder of such a model."
            ) from error

    @classmethod
    def _load_processor(cls, directory: Path, config: PreTrainedConfig) -> ProcessorMixin:
        with cls._named_errors(directory):
            return AutoProcessor.from_pretrained(processor_directory(directory), local_files_only=True)

    @classmethod
    def _load_model(cls, directory: Path, config: PreTrainedConfig, dtype: torch.dtype | str) -> PreTrainedModel:
        with cls._named_errors(directory), quiet_loading():
            model, report = cls.base_class.from_pretrained(
                directory, config=config, dtype=dtype, local_files_only=True, output_loading_info=True
            )
        # transformers only warns of weights that are not there, and makes some up.
        if missing := sorted(report["missing_keys"]):
            raise CheckpointError(
                f"{directory.name} lacks {len(missing)} weights, among them {missing[0]}; use the complete model."
            )
        return model

    @classmethod
    @contextmanager
    def _named_errors(cls, directory: Path) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            reason = str(error).split("\n")[0]
            raise CheckpointError(f"{directory.name} cannot be loaded as {cls.family}: {reason}") from error

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

    def _refuse_reserved_words(self, conversation: Conversation) -> None:
        reserved = set(self.processor.tokenizer.get_added_vocab())
        texts = [part["text"] for m in conversation.messages for part in m["content"] if part["type"] == "text"]
        for word in reserved:
            if any(word in text for text in texts):
                raise InvalidRequestError(f"The text contains {word}, which the MLLM reserves for itself; remove it.")

    def _prefill(self, conversation: Conversation, padding: Padding) -> HiddenStates:
        inputs = self._tokenize(conversation)
        length = inputs["input_ids"].shape[1]
        position_ids = self._position_ids(inputs)
        pads = max(0, self.spec.pad_length - length) if padding == "padded" else 0
        if pads:
            # All pad rows of a right-padded prompt see the same keys from the same position, so they are equal:
            # compute one and repeat it.
            inputs = self._append_pads(inputs, 1)
            position_ids = torch.nn.functional.pad(position_ids, (0, 1), value=_PAD_POSITION)
        output = self.base(**inputs, position_ids=position_ids, output_hidden_states=True, use_cache=False)
        states = torch.stack(output.hidden_states, dim=1)
        mask = torch.ones(1, length, dtype=torch.bool, device=states.device)
        if pads:
            rows = states[:, :, -1:].expand(-1, -1, pads, -1)
            states = torch.cat((states[:, :, :-1], rows), dim=2)
            mask = torch.nn.functional.pad(mask, (0, pads))
        return HiddenStates(states, mask)

    def _append_pads(self, inputs: BatchFeature, count: int) -> BatchFeature:
        fill = {"input_ids": self.processor.tokenizer.pad_token_id, "attention_mask": 0, "mm_token_type_ids": 0}
        inputs = BatchFeature(dict(inputs))
        for key in fill.keys() & inputs.keys():
            inputs[key] = torch.nn.functional.pad(inputs[key], (0, count), value=fill[key])
        return inputs

    def _answer(self, conversation: Conversation) -> tuple[HiddenStates, HiddenStates]:
        self.add_head()
        inputs = self._tokenize(conversation)
        output = self.model.generate(
            **inputs,
            max_new_tokens=self.spec.max_new_tokens,
            do_sample=False,
            output_hidden_states=True,
            return_dict_in_generate=True,
        )
        # Step 0 is the prompt; step i feeds the answer's token i - 1. The last token is never fed.
        steps = [torch.stack(step, dim=1) for step in output.hidden_states]
        answer_ids = output.sequences[0, inputs["input_ids"].shape[1] :]
        text = self.processor.tokenizer.decode(answer_ids, skip_special_tokens=True).strip()
        prompt = steps[0]
        answer = torch.cat(steps[1:], dim=2) if len(steps) > 1 else prompt[:, :, :0]
        return tuple(
            HiddenStates(states, torch.ones(1, states.shape[2], dtype=torch.bool, device=states.device), text)
            for states in (prompt, answer)
        )

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
            weight = read_tensor(Path(base.config.name_or_path), self.head_keys)
            model.lm_head.weight = torch.nn.Parameter(weight.to(embedding), requires_grad=False)
        self.model = model.eval()


@contextmanager
def quiet_loading() -> Iterator[None]:
    """No report that the head is left out on purpose; what is missing is checked here."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def processor_directory(directory: Path) -> Path:
    """Where the tokenizer lies: with the model, or in a diffusers pipeline's `processor` folder beside it."""
    beside = directory.parent / "processor"
    return beside if not (directory / "tokenizer_config.json").is_file() and beside.is_dir() else directory


def read_tensor(directory: Path, keys: tuple[str, ...]) -> torch.Tensor:
    """The first of these weights that a folder's safetensors hold. Raises CheckpointError if there is none."""
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            for key in keys:
                if key in weights.keys():  # noqa: SIM118 (not a dict)
                    return weights.get_tensor(key)
    raise CheckpointError(
        f"{directory.name} has no {' or '.join(keys)}, which answering needs; use the complete model, or do not reason."
    )

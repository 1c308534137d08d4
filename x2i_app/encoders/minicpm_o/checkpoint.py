"""openbmb's own MiniCPM-o 2.6 checkpoints, read without running their code; each weight must be known, none missing."""

import json
from pathlib import Path

import torch

from x2i_app.encoders.minicpm_o.configuration import MiniCPMOConfig
from x2i_app.encoders.minicpm_o.modeling import HEAD_KEY, SPEECH_PREFIX, MiniCPMOModel
from x2i_app.encoders.minicpm_o.processing import NEEDED_TOKENS, MiniCPMOProcessor
from x2i_app.encoders.native import processor_directory
from x2i_app.encoders.weights import LOADING_ERRORS, first_line, load_strictly
from x2i_app.errors import CheckpointError


def read_config(directory: Path) -> MiniCPMOConfig:
    """The configuration of the model in `directory`. Raises CheckpointError for what is not MiniCPM-o."""
    try:
        stated = json.loads((directory / "config.json").read_text(encoding="utf-8"))["model_type"]
        if stated != MiniCPMOConfig.model_type:
            raise CheckpointError(f"{directory.name} holds a model of the type {stated!r}, not minicpm-o.")
        return MiniCPMOConfig.from_pretrained(directory, local_files_only=True)
    except LOADING_ERRORS as error:
        raise CheckpointError(
            f"{directory} holds no readable config.json of minicpm-o ({first_line(error)}); "
            "give the folder of such a model."
        ) from error


def load_model(directory: Path, config: MiniCPMOConfig, dtype: torch.dtype | str) -> MiniCPMOModel:
    """The model without its head, on the CPU. dtype: "auto" keeps the files'.

    Left out by name: the head, speech output, and a last vision layer that the configuration drops and a file has.
    Raises CheckpointError, naming a key, if the files and the configuration do not agree on every weight and shape.
    """
    left_out = (HEAD_KEY, SPEECH_PREFIX)
    if config.drop_vision_last_layer:
        left_out += (f"vpm.encoder.layers.{config.num_vision_layers}.",)
    return load_strictly(MiniCPMOModel, directory, "minicpm-o", config, dtype, left_out)


def load_processor(directory: Path, config: MiniCPMOConfig) -> MiniCPMOProcessor:
    """The folder's tokenizer and media processors. Raises CheckpointError if they are incomplete or do not fit."""
    try:
        processor = MiniCPMOProcessor.from_pretrained(processor_directory(directory), local_files_only=True)
    except LOADING_ERRORS as error:
        raise CheckpointError(
            f"{directory.name} has no readable tokenizer or preprocessor_config.json ({first_line(error)}); "
            "use the complete model."
        ) from error
    vocabulary = processor.tokenizer.get_vocab()
    lacking = [f"token {token}" for token in NEEDED_TOKENS if token not in vocabulary]
    if not processor.tokenizer.chat_template:
        lacking.append("chat template")
    if lacking:
        raise CheckpointError(f"The tokenizer of {directory.name} has no {lacking[0]}; use the complete model.")
    if (highest := max(vocabulary.values())) >= config.vocab_size:
        raise CheckpointError(
            f"{directory.name} has embeddings for {config.vocab_size} tokens, but its tokenizer counts up to "
            f"{highest}; take both from one model."
        )
    image_processor, vision = processor.image_processor, config.vision_config
    for what, got, expected in (
        ("tokens an image", image_processor.image_feature_size, config.query_num),
        ("pixels a patch", image_processor.patch_size, vision.patch_size),
        ("mel bins", processor.feature_extractor.feature_size, config.audio_config.num_mel_bins),
    ):
        if got != expected:
            raise CheckpointError(
                f"The processor of {directory.name} makes {got} {what}; the model expects {expected}, "
                "so take both from one model."
            )
    return processor

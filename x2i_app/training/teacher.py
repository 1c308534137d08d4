"""What FLUX.1 reads without X2I: T5's tokens and CLIP's pooled vector, which AlignNet learns to stand in for."""

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import FluxPipeline
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

from x2i_app.encoders.weights import LOADING_ERRORS, load_strictly, short_message
from x2i_app.errors import CheckpointError

_BATCH_SIZE = 32


class TeacherText:
    """The two text encoders of a FLUX.1 model, and nothing else of it.

    tokenizer, text_encoder: CLIP's. tokenizer_2, text_encoder_2: T5's. Names as in diffusers.
    """

    def __init__(
        self,
        tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModel,
        tokenizer_2: T5TokenizerFast,
        text_encoder_2: T5EncoderModel,
    ):
        self.text_encoder = text_encoder.eval().requires_grad_(False)
        self.text_encoder_2 = text_encoder_2.eval().requires_grad_(False)
        # The pipeline's own method encodes, so that the teacher reads exactly what FLUX.1 reads.
        self._pipeline = FluxPipeline(
            scheduler=None,
            vae=None,
            transformer=None,
            text_encoder=self.text_encoder,
            tokenizer=tokenizer,
            text_encoder_2=self.text_encoder_2,
            tokenizer_2=tokenizer_2,
        )

    @classmethod
    def load(cls, directory: str | Path, dtype: torch.dtype | str = "auto") -> "TeacherText":
        """From a FLUX.1 model's folder in diffusers layout, on the CPU. dtype: "auto" keeps the files'.

        Raises CheckpointError if a part is missing, damaged or incomplete. Pickles and remote code are never read.
        """
        directory = Path(directory)
        return cls(
            _read(CLIPTokenizer, directory / "tokenizer", trust_remote_code=False),
            _load_model(CLIPTextModel, CLIPTextConfig, directory / "text_encoder", dtype),
            _read(T5TokenizerFast, directory / "tokenizer_2", trust_remote_code=False),
            _load_model(T5EncoderModel, T5Config, directory / "text_encoder_2", dtype),
        )

    @property
    def joint_dim(self) -> int:
        """Width of `prompt_embeds`."""
        return self.text_encoder_2.config.d_model

    @property
    def pooled_dim(self) -> int:
        """Width of the pooled embedding."""
        return self.text_encoder.config.hidden_size

    @torch.no_grad()
    def encode(self, captions: Sequence[str], max_sequence_length: int = 512) -> tuple[torch.Tensor, torch.Tensor]:
        """prompt_embeds (B, max_sequence_length, joint) and pooled_prompt_embeds (B, pooled), as of FluxPipeline.

        A caption that is longer in tokens is cut there, as there.
        """
        parts = [
            self._pipeline.encode_prompt(
                list(captions[start : start + _BATCH_SIZE]),
                device=self.text_encoder_2.device,
                max_sequence_length=max_sequence_length,
            )[:2]
            for start in range(0, len(captions), _BATCH_SIZE)
        ]
        prompt_embeds, pooled = zip(*parts, strict=True)
        return torch.cat(prompt_embeds), torch.cat(pooled)


def _read(cls, directory, **options):
    try:
        return cls.from_pretrained(directory, local_files_only=True, **options)
    except LOADING_ERRORS as error:
        raise CheckpointError(
            f"{directory} holds no readable {cls.__name__} ({short_message(error)}); give the folder of a FLUX.1 model "
            "in diffusers layout, text encoders included."
        ) from error


def _load_model(cls, config_class, directory, dtype):
    return load_strictly(cls, directory, cls.__name__, _read(config_class, directory), dtype, left_out=())

"""The frozen models of a training run, found by the names that the rest of the app knows them by."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import PartialState
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

from x2i_app.encoders import MLLMEncoder, encoder_class, family_of, load_encoder
from x2i_app.encoders.weights import LOADING_ERRORS, load_strictly, short_message, without_values
from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.loading.flux import BASE
from x2i_app.loading.hub import find_directory
from x2i_app.loading.quantization import quantize
from x2i_app.loading.sources import MLLM_FILES
from x2i_app.presets import FLUX_MODELS, get_family, get_preset
from x2i_app.settings import ASSETS, CUSTOM
from x2i_app.specs import Precision

_TEXT_FILES = ["text_encoder/*", "text_encoder_2/*", "tokenizer/*", "tokenizer_2/*"]
_BATCH_SIZE = 32  # captions that the teacher encodes at once


class FluxParts(NamedTuple):
    """A FLUX.1 model without its text encoders."""

    transformer: FluxTransformer2DModel
    vae: AutoencoderKL
    scheduler: FlowMatchEulerDiscreteScheduler


class TeacherText:
    """The two text encoders of a FLUX.1 model: what it reads without X2I, and AlignNet learns to replace.

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
        reserved = {token for each in (tokenizer, tokenizer_2) for token in each.get_added_vocab()}
        self._reserved = re.compile("|".join(map(re.escape, sorted(reserved, key=len, reverse=True))) or "(?!)")
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
            _load_text_encoder(CLIPTextModel, CLIPTextConfig, directory / "text_encoder", dtype),
            _read(T5TokenizerFast, directory / "tokenizer_2", trust_remote_code=False),
            _load_text_encoder(T5EncoderModel, T5Config, directory / "text_encoder_2", dtype),
        )

    def spell_out(self, caption: str) -> str:
        """The caption with a space in each token that T5 or CLIP reserves, such as </s>: it is text, not its end.

        T5 has these tokens among its words too, so its tokenizer cannot be told to overlook them.
        """
        return self._reserved.sub(lambda token: f"{token.group()[0]} {token.group()[1:]}", caption)

    def to(self, device: torch.device) -> "TeacherText":
        """Move both text encoders."""
        self.text_encoder.to(device)
        self.text_encoder_2.to(device)
        return self

    @property
    def joint_dim(self) -> int:
        """Width of `prompt_embeds`."""
        return self.text_encoder_2.config.d_model

    @property
    def pooled_dim(self) -> int:
        """Width of the pooled embedding."""
        return self.text_encoder.config.hidden_size

    @property
    def max_tokens(self) -> int:
        """The longest text that T5's tokenizer is made for, in tokens."""
        return self._pipeline.tokenizer_2.model_max_length

    @torch.no_grad()
    def encode(self, captions: Sequence[str], max_sequence_length: int = 512) -> tuple[torch.Tensor, torch.Tensor]:
        """prompt_embeds (B, max_sequence_length, joint) and pooled_prompt_embeds (B, pooled), as of FluxPipeline.

        A caption of more tokens is truncated, as FluxPipeline does it.
        """
        parts = [
            self._pipeline.encode_prompt(
                list(map(self.spell_out, captions[start : start + _BATCH_SIZE])),
                device=self.text_encoder_2.device,
                max_sequence_length=max_sequence_length,
            )[:2]
            for start in range(0, len(captions), _BATCH_SIZE)
        ]
        prompt_embeds, pooled = zip(*parts, strict=True)
        return torch.cat(prompt_embeds), torch.cat(pooled)


def preset_of(preset: str, mllm: str | Path | None) -> str:
    """The preset, or `custom:FAMILY` if `mllm`, a folder or a hub id, is of another family than the preset's."""
    if mllm is None or preset.startswith(CUSTOM):
        return preset
    family = family_of(find_directory(mllm, None, MLLM_FILES).path)
    return preset if family in (None, get_preset(preset).mllm.family) else f"{CUSTOM}{family}"


def load_mllm(preset: str, mllm: str | Path | None, dtype: torch.dtype) -> MLLMEncoder:
    """The MLLM of a preset, or of `custom:FAMILY`, which needs `mllm`: a folder or a hub id. On the CPU.

    Raises X2IError's kinds.
    """
    if not preset.startswith(CUSTOM):
        spec = get_preset(preset)
        if mllm is None and spec.directory:
            mllm = ASSETS / spec.directory / "mllm"
        revision = None if mllm else spec.mllm.revision
        directory = find_directory(mllm or spec.mllm.repo_id, revision, MLLM_FILES).path
        return load_encoder(spec.mllm.family, directory, spec=spec.encoding, expected=spec.mllm, dtype=dtype)
    family = preset.removeprefix(CUSTOM)
    get_family(family)
    if mllm is None:
        raise InvalidRequestError(f"{preset} needs an MLLM; give its folder or hub id as mllm.")
    return load_encoder(family, find_directory(mllm, None, MLLM_FILES).path, dtype=dtype)


def read_mllm_sizes(preset: str, mllm: str | Path | None) -> tuple[int, int]:
    """L and H of the hidden states of `load_mllm`'s MLLM, before its weights are read. Errors as there."""
    if not preset.startswith(CUSTOM):
        spec = get_preset(preset).mllm
        return spec.num_states, spec.hidden_size
    cls = encoder_class(preset.removeprefix(CUSTOM))
    if mllm is None:
        raise InvalidRequestError(f"{preset} needs an MLLM; give its folder or hub id as mllm.")
    text = cls._read_config(find_directory(mllm, None, MLLM_FILES).path).get_text_config()
    return text.num_hidden_layers + 1, text.hidden_size


def default_flux(preset: str) -> str:
    """The FLUX model of a preset. Raises InvalidRequestError for `custom:FAMILY`, which has none."""
    if preset.startswith(CUSTOM):
        raise InvalidRequestError(f"{preset} needs a FLUX.1 model; give a name, a folder or a hub id as flux.")
    return get_preset(preset).flux


def read_flux_config(flux: str | Path) -> dict[str, Any]:
    """The configuration of a FLUX transformer, before its weights are read. Raises CheckpointError."""
    directory = _flux_directory(flux, ["transformer/config.json"])
    try:
        return FluxTransformer2DModel.load_config(directory, subfolder="transformer", local_files_only=True)
    except OSError as error:
        raise CheckpointError(
            f"{directory} holds no readable transformer/config.json; give a FLUX.1 model in diffusers layout."
        ) from error


def load_teacher(flux: str | Path, dtype: torch.dtype) -> TeacherText:
    """T5 and CLIP of a FLUX model: a folder, a name of the registry or a hub id. Raises CheckpointError."""
    return TeacherText.load(_flux_directory(flux, _TEXT_FILES), dtype)


class TeacherSizes(NamedTuple):
    """Widths of what T5 and CLIP write."""

    joint_dim: int
    pooled_dim: int


def check_teacher_files(flux: str | Path) -> TeacherSizes:
    """Widths of `load_teacher`'s T5 and CLIP, whose files are compared with their sizes; no weights are read.

    Raises CheckpointError.
    """
    directory = _flux_directory(flux, _TEXT_FILES)
    with without_values():
        clip = _load_text_encoder(CLIPTextModel, CLIPTextConfig, directory / "text_encoder", "auto")
        t5 = _load_text_encoder(T5EncoderModel, T5Config, directory / "text_encoder_2", "auto")
    return TeacherSizes(t5.config.d_model, clip.config.hidden_size)


def check_teacher(teacher: TeacherText | TeacherSizes, flux_config: Mapping[str, Any]) -> None:
    """Raise CheckpointError if a FLUX transformer of this configuration reads other widths than the teacher writes."""
    reads = (flux_config["joint_attention_dim"], flux_config["pooled_projection_dim"])
    if (teacher.joint_dim, teacher.pooled_dim) != reads:
        raise CheckpointError(
            f"The teacher writes embeddings of width {teacher.joint_dim} and {teacher.pooled_dim}, but FLUX reads "
            f"{reads[0]} and {reads[1]}; use the text encoders of that FLUX model."
        )


def check_sharding(precision: Precision) -> None:
    """Raise InvalidRequestError in a single process, and for weights that are quantized."""
    if PartialState().num_processes == 1:
        raise InvalidRequestError(
            "shard is true, but there is only one process; start several with `accelerate launch`."
        )
    if precision != "full":
        raise InvalidRequestError(f"shard is true, but quantized weights ({precision}) stay whole; choose one of both.")


def quantize_frozen(transformer: FluxTransformer2DModel, precision: Precision, device: torch.device) -> None:
    """Quantize a FLUX transformer that gradients flow through, in place."""
    quantize(transformer, precision, device)
    let_gradients_through(transformer)
    # peft asks the model which kind of layers a LoRA is added to.
    transformer.is_loaded_in_4bit, transformer.is_loaded_in_8bit = precision == "nf4", precision == "int8"


def let_gradients_through(transformer: FluxTransformer2DModel) -> None:
    """Switch off bitsandbytes' fast 4-bit kernel of some CPUs, which has no backward pass."""
    for layer in transformer.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def shard_flux(transformer: FluxTransformer2DModel, device: torch.device) -> None:
    """Keep a share of the weights in every process; a block is complete only while it runs (torch's FSDP2).

    transformer: frozen, of one dtype, equal in all processes. What it computes stays the same.
    """
    transformer.requires_grad_(False)
    mesh = init_device_mesh(device.type, (PartialState().num_processes,))
    for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks):
        fully_shard(block, mesh=mesh)
    fully_shard(transformer, mesh=mesh)


def _flux_directory(flux: str | Path, patterns: list[str]) -> Path:
    if str(flux).endswith(".safetensors"):
        flux = BASE  # the file of a fine-tune: all FLUX.1 models read the same T5 and CLIP
    spec = FLUX_MODELS.get(str(flux))
    if spec is None:
        return find_directory(flux, None, patterns).path
    return ASSETS / spec.directory if spec.directory else find_directory(spec.repo_id, spec.revision, patterns).path


def _read(cls, directory, **options):
    try:
        return cls.from_pretrained(directory, local_files_only=True, **options)
    except LOADING_ERRORS as error:
        raise CheckpointError(
            f"{directory} holds no readable {cls.__name__} ({short_message(error)}); give the folder of a FLUX.1 model "
            "in diffusers layout, text encoders included."
        ) from error


def _load_text_encoder(cls, config_class, directory, dtype):
    return load_strictly(cls, directory, cls.__name__, _read(config_class, directory), dtype, left_out=())

"""From a preset, or from parts of one's own, to a working X2IPipeline."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel, ModelMixin
from safetensors import SafetensorError

from x2i_app.encoders import load_encoder
from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.loading.checkpoints import load_alignnet
from x2i_app.loading.hub import download_alignnet, resolve_directory, resolve_file
from x2i_app.media.speech import Transcriber
from x2i_app.pipeline import X2IPipeline
from x2i_app.presets import FLUX_MODELS, get_family, get_preset
from x2i_app.settings import ASSETS, CUSTOM, PROFILES
from x2i_app.specs import Preset

# Of a FLUX.1 repository, what X2I needs: neither T5 (9 GiB), nor CLIP, nor the single-file copies of the weights.
_FLUX_FILES = ["scheduler/*", "transformer/*", "vae/*"]
_MLLM_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


def load_pipeline(
    preset: str = "x2i-tiny",
    profile: str = "auto",
    device: str | torch.device | None = None,
    *,
    mllm: str | Path | None = None,
    flux: str | Path | None = None,
    alignnet: str | Path | None = None,
    whisper: str | Path = "base",
    dtype: torch.dtype | None = None,
) -> X2IPipeline:
    """A ready pipeline.

    preset: a name of the registry, or "custom:FAMILY", which takes its sizes from the files and needs `mllm`, `flux`
    and `alignnet`. mllm: a folder or a hub id instead of the preset's; flux: also a name of the registry; alignnet: a
    file, a folder that `AlignNet.save_pretrained` wrote, or a file on the hub such as owner/name/file.bin.
    profile: how to use memory; "auto" takes the best device there is. device: None lets the profile choose.
    whisper: what writes speech down for an MLLM that cannot hear, a size of Whisper or a .pt file; read when needed.
    dtype: None is bfloat16 on a GPU and float32 on a CPU.

    Raises X2IError's kinds: an unknown name, a part that is missing, damaged or does not fit the others.
    """
    if profile not in PROFILES:
        raise InvalidRequestError(f"profile is {profile!r}; choose one of {', '.join(PROFILES)}.")
    device = _device(device or _best_device(profile))
    dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
    if preset.startswith(CUSTOM):
        encoder, align_net = _load_custom(preset, mllm, flux, alignnet, dtype)
    else:
        spec = get_preset(preset)
        encoder, align_net = _load_preset(spec, mllm, alignnet, dtype)
        flux = flux or spec.flux
    transformer, vae, scheduler = load_flux(flux, dtype)
    pipeline = X2IPipeline.from_encoder(encoder, align_net, transformer, vae, scheduler)
    if "audio" not in encoder.spec.modalities:
        pipeline.encoder.transcriber = Transcriber(whisper)
    pipeline.set_progress_bar_config(disable=not sys.stderr.isatty())
    return pipeline.to(device)


def load_flux(
    source: str | Path, dtype: torch.dtype
) -> tuple[FluxTransformer2DModel, AutoencoderKL, FlowMatchEulerDiscreteScheduler]:
    """Transformer, VAE and scheduler of a FLUX.1 model in diffusers layout.

    source: a folder, a name of the registry or a hub id. Raises CheckpointError.
    """
    spec = FLUX_MODELS.get(str(source))
    if spec is None:
        directory = resolve_directory(source, None, _FLUX_FILES)
    elif spec.directory:
        directory = ASSETS / spec.directory
    else:
        directory = resolve_directory(spec.repo_id, spec.revision, _FLUX_FILES)
    return (
        _load_part(FluxTransformer2DModel, directory, "transformer", dtype=dtype),
        _load_part(AutoencoderKL, directory, "vae", dtype=dtype),
        _load_scheduler(directory),
    )


def _load_part(cls: type[ModelMixin], directory: Path, subfolder: str, **options: Any) -> ModelMixin:
    where = f"The {subfolder} of {directory.name}"
    with _named_errors(directory):
        _check_class(cls, cls.load_config(directory, subfolder=subfolder, local_files_only=True), where)
        model, report = cls.from_pretrained(
            directory,
            subfolder=subfolder,
            local_files_only=True,
            use_safetensors=True,  # a pickle may hold code
            output_loading_info=True,
            **options,
        )
    for complaint, key in (("lacks", "missing_keys"), ("has no place for", "unexpected_keys")):
        if names := report[key]:
            raise CheckpointError(
                f"{where} {complaint} {len(names)} weights, among them {min(names)}; use the complete, original model."
            )
    return model


def _load_scheduler(directory: Path) -> FlowMatchEulerDiscreteScheduler:
    cls = FlowMatchEulerDiscreteScheduler
    with _named_errors(directory):
        config = cls.load_config(directory, subfolder="scheduler", local_files_only=True)
        _check_class(cls, config, f"The scheduler of {directory.name}")
        return cls.from_config(config)


def _check_class(cls: type, config: dict[str, Any], where: str) -> None:
    if (stated := config.get("_class_name", cls.__name__)) != cls.__name__:
        raise CheckpointError(f"{where} is of the class {stated!r}; FLUX.1 has {cls.__name__}.")


@contextmanager
def _named_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, SafetensorError) as error:
        # The first sentence has it all; diffusers adds advice to programmers.
        reason = re.split(r"\. |\n", str(error))[0][:300] or type(error).__name__
        raise CheckpointError(
            f"{directory.name} cannot be loaded as a FLUX.1 model in diffusers layout: {reason}"
        ) from error


def _load_preset(spec: Preset, mllm, alignnet, dtype):
    if spec.directory:
        bundle = ASSETS / spec.directory
        mllm, alignnet = mllm or bundle / "mllm", alignnet or bundle / spec.align_net.filename
    if mllm:
        directory = resolve_directory(mllm, None, _MLLM_FILES)
    else:
        directory = resolve_directory(spec.mllm.repo_id, spec.mllm.revision, _MLLM_FILES)
    encoder = load_encoder(spec.mllm.family, directory, spec=spec.encoding, expected=spec.mllm, dtype=dtype)
    path = resolve_file(alignnet) if alignnet else download_alignnet(spec.name, spec.align_net)
    sizes = {"num_states": spec.mllm.num_states, "hidden_size": spec.mllm.hidden_size}
    return encoder, load_alignnet(path, **sizes, dtype=dtype)


def _load_custom(preset, mllm, flux, alignnet, dtype):
    family = preset.removeprefix(CUSTOM)
    get_family(family)
    missing = [name for name, part in (("mllm", mllm), ("flux", flux), ("alignnet", alignnet)) if not part]
    if missing:
        raise InvalidRequestError(
            f"{preset} came without {' and '.join(missing)}; give all of mllm, flux and alignnet."
        )
    encoder = load_encoder(family, resolve_directory(mllm, None, _MLLM_FILES), dtype=dtype)
    return encoder, load_alignnet(resolve_file(alignnet), dtype=dtype)


def _device(name: str | torch.device) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).split("\n")[0][:120]
        raise InvalidRequestError(f"device is {str(name)!r}, which does not work here ({reason}); try cpu.") from error
    return device


def _best_device(profile: str) -> str:
    if profile == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"

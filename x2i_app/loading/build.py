"""From a preset, or from parts of one's own, to a working X2IPipeline."""

import sys
from pathlib import Path

import torch

from x2i_app.encoders import MLLMEncoder, load_encoder
from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.loading.checkpoints import load_alignnet
from x2i_app.loading.control import load_light_control
from x2i_app.loading.download import Report
from x2i_app.loading.flux import load_flux
from x2i_app.loading.memory import best_device, choose_for_computer, choose_placement, place, settle
from x2i_app.loading.plan import Planner
from x2i_app.loading.skeletons import build_skeleton
from x2i_app.loading.sources import Sources, find_sources
from x2i_app.media.transcription import Transcriber
from x2i_app.models import AlignNet
from x2i_app.pipeline import X2IPipeline
from x2i_app.presets import get_preset
from x2i_app.settings import CUSTOM, PROFILES


def load_pipeline(
    preset: str = "x2i-tiny",
    profile: str = "auto",
    device: str | torch.device | None = None,
    *,
    mllm: str | Path | None = None,
    flux: str | Path | None = None,
    alignnet: str | Path | None = None,
    light_control: str | Path | None = None,
    whisper: str | Path = "base",
    dtype: torch.dtype | None = None,
    models: str | Path | None = None,
    report: Report | None = None,
) -> X2IPipeline:
    """A ready pipeline.

    preset: a name of the registry, or "custom:FAMILY", which takes its sizes from the files and needs `mllm`, `flux`
    and `alignnet`. mllm: a folder or a hub id instead of the preset's; flux: also a name of the registry, or one
    safetensors file; alignnet: a file, a folder that `AlignNet.save_pretrained` wrote, or a file on the hub such as
    owner/name/file.bin; light_control: as alignnet, of a LightControl, where the preset has none or another is wanted.
    None takes X2I_MLLM, X2I_FLUX, X2I_ALIGNNET or X2I_LIGHT_CONTROL, then what the preset names: from the folder
    `models` (or X2I_MODELS), else the hub's cache, else the hub. Which it took is logged.
    profile: how to use memory, a name of presets.MEMORY_PROFILES; "auto" takes the best that fits what is free.
    device: None takes the best there is, and a CPU for the profile "cpu".
    whisper: what writes speech down for an MLLM that cannot hear, a size of Whisper or a .pt file; read when needed.
    dtype: None is bfloat16 on a GPU and float32 on a CPU.
    report: is told of every piece of a download; None draws a bar on a terminal.

    Raises X2IError's kinds: an unknown name, a part that is missing, damaged or does not fit the others.
    """
    sources = find_sources(preset, mllm, flux, alignnet, light_control, models=models, report=report)
    return build_pipeline(sources, profile, device, whisper=whisper, dtype=dtype)


def build_pipeline(
    sources: Sources,
    profile: str = "auto",
    device: str | torch.device | None = None,
    *,
    whisper: str | Path = "base",
    dtype: torch.dtype | None = None,
) -> X2IPipeline:
    """A ready pipeline of files that `find_sources` found; the rest is as in `load_pipeline`."""
    if profile not in PROFILES:
        raise InvalidRequestError(f"profile is {profile!r}; choose one of {', '.join(PROFILES)}.")
    device = _device(device or ("cpu" if profile == "cpu" else best_device()))
    dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)

    # 1. Choose, by sizes alone: what does not fit is known before anything is loaded
    def planner() -> Planner:
        return Planner(build_skeleton(sources.preset, sources.mllm, sources.flux, dtype, sources.light_control))

    if device.type == "cpu":
        profile = choose_for_computer(profile, planner, _bytes_of_files(sources))
    placement = choose_placement(profile, device, planner)
    # 2. The MLLM, made small and brought where it stays, before FLUX comes: the computer never holds both whole
    encoder, align_net = load_reader(sources, dtype)
    settle(encoder.model, placement.profile.mllm, placement)
    # 3. FLUX
    transformer, vae, scheduler = load_flux(sources.flux, dtype)
    if transformer.config.in_channels != 4 * vae.config.latent_channels:
        raise CheckpointError(
            f"{sources.flux.found.path.name} is a FLUX model that also reads a picture, as Fill and Depth do; load it "
            "with loading.load_transformer and give it to drawing_pipeline, or choose one that draws from words."
        )
    settle(transformer, placement.profile.transformer, placement)
    # 4. Together
    control = load_light_control(sources.light_control, dtype=dtype) if sources.light_control else None
    pipeline = X2IPipeline.from_encoder(encoder, align_net, transformer, vae, scheduler, control)
    if "audio" not in encoder.spec.modalities:
        pipeline.encoder.transcriber = Transcriber(whisper)
    pipeline.set_progress_bar_config(disable=not sys.stderr.isatty())
    place(pipeline, placement)
    return pipeline


def _bytes_of_files(sources: Sources) -> int:
    """Of the weights of the MLLM and FLUX."""
    flux = sources.flux.found.path
    files = [flux] if flux.is_file() else [*flux.glob("transformer/*.safetensors")]
    return sum(file.stat().st_size for file in [*files, *sources.mllm.glob("*.safetensors")])


def load_reader(sources: Sources, dtype: torch.dtype) -> tuple[MLLMEncoder, AlignNet]:
    """What reads, without what draws: the MLLM and its AlignNet, on the CPU."""
    if sources.preset.startswith(CUSTOM):
        encoder = load_encoder(sources.preset.removeprefix(CUSTOM), sources.mllm, dtype=dtype)
        return encoder, load_alignnet(sources.alignnet, dtype=dtype)
    spec = get_preset(sources.preset)
    encoder = load_encoder(spec.mllm.family, sources.mllm, spec=spec.encoding, expected=spec.mllm, dtype=dtype)
    sizes = {"num_states": spec.mllm.num_states, "hidden_size": spec.mllm.hidden_size}
    return encoder, load_alignnet(sources.alignnet, **sizes, dtype=dtype)


def _device(name: str | torch.device) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # which the meta device cannot, as it holds no numbers
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).split("\n")[0][:120]
        raise InvalidRequestError(f"device is {str(name)!r}, which does not work here ({reason}); try cpu.") from error
    return device

"""From a preset, or from parts of your own, to an X2IPipeline that is ready to use."""

from pathlib import Path

import torch

from x2i_app.encoders import MLLMEncoder, load_encoder
from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.loading.checkpoints import load_alignnet, load_light_control
from x2i_app.loading.flux import load_flux
from x2i_app.loading.hub import Download, Report
from x2i_app.loading.memory import best_device, choose_computer_profile, choose_placement, place, place_part
from x2i_app.loading.plan import Planner
from x2i_app.loading.sizes import build_skeleton
from x2i_app.loading.sources import Sources, find_sources
from x2i_app.media.transcription import Transcriber
from x2i_app.models import AlignNet
from x2i_app.pipeline import X2IPipeline
from x2i_app.presets import get_preset
from x2i_app.quiet import quiet
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
    """Load a pipeline that is ready to use, and download what is missing.

    Nothing is printed and nothing is logged above INFO. `pipeline.set_progress_bar_config(disable=False)` shows the
    steps of denoising, `report=print` the progress of a download.

    preset: a name of the registry, or "custom:FAMILY", which takes its sizes from the files and needs `mllm`, `flux`
    and `alignnet`.
    mllm: a folder or a hub id instead of the preset's. flux: as mllm, or a name of the registry, or a safetensors file.
    alignnet: a file, a folder that `AlignNet.save_pretrained` wrote, or a file on the hub such as owner/name/file.bin.
    light_control: as alignnet, for a LightControl. None takes X2I_MLLM, X2I_FLUX, X2I_ALIGNNET or X2I_LIGHT_CONTROL,
    then the preset's part: from the folder `models` (None: X2I_MODELS, else "models"), the hub's cache, or the hub.
    profile: how to use memory, a name of presets.MEMORY_PROFILES; "auto" takes the best that fits the free memory.
    device: None takes the fastest, and a CPU for the profile "cpu".
    whisper: transcribes speech for an MLLM that takes no audio: a size of Whisper, or a .pt file; loaded when needed.
    dtype: None is bfloat16 on a GPU and float32 on a CPU.
    report: called with the progress of a download, a `hub.Download`.

    Raises X2IError's kinds: an unknown name, a part that is missing, damaged or does not fit the others.
    """
    with quiet():
        parts = {"mllm": mllm, "flux": flux, "alignnet": alignnet, "light_control": light_control}
        sources = find_sources(preset, **parts, models=models, report=report or _ignore)
        return build_pipeline(sources, profile, device, whisper=whisper, dtype=dtype)


def _ignore(progress: Download) -> None:
    pass


def build_pipeline(
    sources: Sources,
    profile: str = "auto",
    device: str | torch.device | None = None,
    *,
    whisper: str | Path = "base",
    dtype: torch.dtype | None = None,
) -> X2IPipeline:
    """Load a pipeline from files that `find_sources` found; the other arguments are as in `load_pipeline`."""
    if profile not in PROFILES:
        raise InvalidRequestError(f"profile is {profile!r}; choose one of {', '.join(PROFILES)}.")
    device = _device(device or ("cpu" if profile == "cpu" else best_device()))
    dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
    with quiet():
        # 1. Choose a placement, by sizes alone: what does not fit is known before anything is loaded.
        def planner() -> Planner:
            return Planner(build_skeleton(sources.preset, sources.mllm, sources.flux, dtype, sources.light_control))

        if device.type == "cpu":
            profile = choose_computer_profile(profile, planner, _weights_bytes(sources))
        placement = choose_placement(profile, device, planner)
        # 2. The MLLM is quantized and placed before FLUX is read, so that both are never in memory at full size.
        encoder, align_net = load_encoder_and_alignnet(sources, dtype)
        place_part(encoder.model, placement.profile.mllm, placement)
        # 3. FLUX
        transformer, vae, scheduler = load_flux(sources.flux, dtype)
        if transformer.config.in_channels != 4 * vae.config.latent_channels:
            raise CheckpointError(
                f"{sources.flux.found.path.name} is a FLUX model that needs an image besides the prompt, as Fill and "
                "Depth do; load it with loading.load_transformer and give it to drawing_pipeline, or choose a "
                "text-to-image model."
            )
        place_part(transformer, placement.profile.transformer, placement)
        # 4. The pipeline
        control = load_light_control(sources.light_control, dtype=dtype) if sources.light_control else None
        pipeline = X2IPipeline.from_encoder(encoder, align_net, transformer, vae, scheduler, control)
        if "audio" not in encoder.spec.modalities:
            pipeline.encoder.transcriber = Transcriber(whisper)
        pipeline.set_progress_bar_config(disable=True)
        place(pipeline, placement)
    return pipeline


def load_encoder_and_alignnet(sources: Sources, dtype: torch.dtype) -> tuple[MLLMEncoder, AlignNet]:
    """The MLLM and its AlignNet on the CPU, without FLUX."""
    if sources.preset.startswith(CUSTOM):
        encoder = load_encoder(sources.preset.removeprefix(CUSTOM), sources.mllm, dtype=dtype)
        return encoder, load_alignnet(sources.alignnet, dtype=dtype)
    spec = get_preset(sources.preset)
    encoder = load_encoder(spec.mllm.family, sources.mllm, spec=spec.encoding, expected=spec.mllm, dtype=dtype)
    sizes = {"num_states": spec.mllm.num_states, "hidden_size": spec.mllm.hidden_size}
    return encoder, load_alignnet(sources.alignnet, **sizes, dtype=dtype)


def _weights_bytes(sources: Sources) -> int:
    """Bytes of the files of the MLLM and the FLUX transformer."""
    flux = sources.flux.file
    files = [flux] if flux else [*sources.flux.base.glob("transformer/*.safetensors")]
    return sum(file.stat().st_size for file in [*files, *sources.mllm.glob("*.safetensors")])


def _device(name: str | torch.device) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # fails on the meta device, which holds no numbers
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).split("\n")[0][:120]
        raise InvalidRequestError(f"device is {str(name)!r}, which does not work here ({reason}); try cpu.") from error
    return device

"""From a preset, or from parts of your own, to an X2IPipeline that is ready to use."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from x2i_app.devices import CARDS, best_device
from x2i_app.encoders import MLLMEncoder, load_encoder
from x2i_app.encoders.weights import watch_weights
from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.loading.checkpoints import load_alignnet, load_light_control
from x2i_app.loading.compiling import check_compile, compile_blocks
from x2i_app.loading.depth import DepthEstimator
from x2i_app.loading.files import is_safetensors
from x2i_app.loading.flux import load_controlnet, load_flux
from x2i_app.loading.hub import Download, Report
from x2i_app.loading.kept_weights import KeptWeights
from x2i_app.loading.memory import (
    choose_computer_profile,
    choose_placement,
    maps_weights,
    place,
    place_part,
)
from x2i_app.loading.plan import Planner
from x2i_app.loading.quantization import linear_bytes
from x2i_app.loading.sizes import build_skeleton
from x2i_app.loading.sources import Sources, find_sources
from x2i_app.media.transcription import Transcriber
from x2i_app.models import AlignNet
from x2i_app.notebook import is_notebook
from x2i_app.pipeline import X2IPipeline
from x2i_app.presets import get_preset
from x2i_app.quiet import quiet
from x2i_app.settings import CUSTOM, PROFILES, read_parts

_MASK_CHANNELS = 256  # of one token of FLUX.1 Fill: the mask of its 16 x 16 pixels

_MLLM, _FLUX = "the MLLM", "FLUX"  # in messages
_SECONDS_BETWEEN_REPORTS = 0.2


def load_pipeline(
    preset: str = "x2i-tiny",
    profile: str = "auto",
    device: str | torch.device | None = None,
    *,
    mllm: str | Path | None = None,
    flux: str | Path | None = None,
    alignnet: str | Path | None = None,
    light_control: str | Path | None = None,
    controlnet: str | Path | None = None,
    kontext: bool | None = None,
    whisper: str | Path = "base",
    dtype: torch.dtype | None = None,
    models: str | Path | None = None,
    report: Report | None = None,
    keep_quantized: bool = True,
    compile: bool = False,
) -> X2IPipeline:
    """Load a pipeline that is ready to use, and download what is missing.

    Nothing is printed and nothing is logged above INFO. `pipeline.set_progress_bar_config(disable=False)` shows the
    steps of denoising, as a notebook does unasked; `report=print` shows the progress of a download.

    preset: a name of the registry, or "custom:FAMILY", which takes its sizes from the files and needs `mllm`, `flux`
    and `alignnet`.
    mllm: a folder or a hub id instead of the preset's. flux: as mllm, or a name of the registry, or a .safetensors or
    .gguf file.
    alignnet: a file, a folder that `AlignNet.save_pretrained` wrote, or a file on the hub such as owner/name/file.bin.
    light_control: as alignnet, for a LightControl. None takes X2I_MLLM, X2I_FLUX, X2I_ALIGNNET or X2I_LIGHT_CONTROL
    (see `settings.read_parts`), then the preset's part: from the folder `models` (None: X2I_MODELS, else "models"), the
    hub's cache, or the hub.
    controlnet: a folder or a hub id of a FLUX.1 ControlNet; None takes X2I_CONTROLNET, then none.
    kontext: whether the FLUX model is a FLUX.1 Kontext, which keeps to a reference image; None: its name tells.
    profile: how to use memory, a name of presets.MEMORY_PROFILES; "auto" takes the best that fits the free memory.
    device: None takes the fastest, and a CPU for the profile "cpu".
    whisper: transcribes speech for an MLLM that takes no audio: a size of Whisper, or a .pt file; loaded when needed.
    dtype: None is bfloat16 on a GPU and float32 on a CPU. A large model in bfloat16 keeps that dtype on a CPU that
    computes in it, and stays in its files, mapped.
    report: called with the progress of a download, a `hub.Download`.
    keep_quantized: keep the 4-bit weights of a large model on disk, for a faster next start; see `kept_weights`.
    compile: compile FLUX's blocks by torch.compile, on a card: the first image of a size takes a minute or more, and
    others less than before.

    Raises an X2IError: an unknown name, a part that is missing, damaged or does not fit the others.
    """
    with quiet():
        given = {"mllm": mllm, "flux": flux, "alignnet": alignnet, "light_control": light_control}
        given["controlnet"] = controlnet
        named = {name: value for name, value in given.items() if value}
        parts = given | (read_parts(preset) if isinstance(preset, str) else {}) | named
        sources = find_sources(preset, **parts, kontext=kontext, models=models, report=report or _ignore)
        options = {"whisper": whisper, "dtype": dtype, "keep_quantized": keep_quantized, "compile": compile}
        return build_pipeline(sources, profile, device, **options)


def _ignore(progress: Download) -> None:
    pass


def build_pipeline(
    sources: Sources,
    profile: str = "auto",
    device: str | torch.device | None = None,
    *,
    whisper: str | Path = "base",
    dtype: torch.dtype | None = None,
    watch: Callable[["Reading"], None] | None = None,
    keep_quantized: bool = False,
    compile: bool = False,
) -> X2IPipeline:
    """Load a pipeline from files that `find_sources` found; the other arguments are as in `load_pipeline`.

    watch: called while weights are read and quantized; what it raises stops loading.
    Raises InvalidRequestError for a profile or a device that cannot be used, CheckpointError for parts that are damaged
    or do not fit each other.
    """
    if profile not in PROFILES:
        raise InvalidRequestError(f"profile is {profile!r}; choose one of {', '.join(PROFILES)}.")
    device = _device(device or ("cpu" if profile == "cpu" else best_device()))
    is_mapped = device.type == "cpu" and dtype is None and _maps_weights(sources, profile)
    dtype = dtype or (torch.float32 if device.type == "cpu" and not is_mapped else torch.bfloat16)
    with quiet():
        # 1. Choose a placement, by sizes alone: what does not fit is known before anything is loaded.
        def planner() -> Planner:
            skeleton = build_skeleton(
                sources.preset, sources.mllm, sources.flux, dtype, sources.light_control, sources.controlnet
            )
            return Planner(skeleton, references=int(sources.takes_reference))

        if is_mapped:
            profile = "cpu"
        elif device.type == "cpu":
            profile = choose_computer_profile(profile, planner, _weights_bytes(sources))
        placement = replace(choose_placement(profile, device, planner), is_mapped=is_mapped)
        if compile:
            check_compile(placement)
        # 2. The MLLM is quantized and placed before FLUX is read, so that both are never in memory at full size.
        size = sum(file.stat().st_size for file in _mllm_files(sources))
        reading = _Meter(f"Reading {_MLLM}", size, watch)
        kept = {}
        if keep_quantized:
            for part, mine in ((_MLLM, placement.profile.mllm), (_FLUX, placement.profile.transformer)):
                if mine == "nf4":
                    kept[part] = _kept_weights(part, sources, dtype, placement.device.type, watch)
        fill = kept[_MLLM].fill if _MLLM in kept else None
        with watch_weights(lambda share: reading(round(share * size))):
            encoder, align_net = load_encoder_and_alignnet(sources, dtype, fill)
        to_quantize = linear_bytes(encoder.model)
        quantizing = _Meter(f"Quantizing {_MLLM}", to_quantize, watch)
        place_part(encoder.model, placement.profile.mllm, placement, quantizing)
        if _MLLM in kept and to_quantize:
            kept[_MLLM].keep(encoder.model)
        # 3. FLUX
        precision = placement.profile.transformer
        stays = placement.offload == "none"
        transformer, vae, scheduler = load_flux(
            sources.flux,
            dtype,
            precision=precision,
            device=placement.device,
            stays=stays,
            watch=_Meter(f"Reading {_FLUX}", sum(file.stat().st_size for file in _flux_files(sources)), watch),
            kept=kept.get(_FLUX),
        )
        latents = 4 * vae.config.latent_channels  # of one token
        if transformer.config.in_channels not in (latents, 2 * latents + _MASK_CHANNELS):
            raise CheckpointError(
                f"{sources.flux.found.path.name} is a FLUX model that needs another image besides the prompt, as Depth "
                "and Canny do; load it with loading.load_transformer and give it to drawing_pipeline, or choose a "
                "text-to-image model, or FLUX.1 Fill."
            )
        place_part(transformer, precision, placement)
        # 4. The pipeline
        control = load_light_control(sources.light_control, dtype=dtype) if sources.light_control else None
        controlnet = load_controlnet(sources.controlnet, dtype) if sources.controlnet else None
        if controlnet:
            place_part(controlnet, precision, placement)
        pipeline = X2IPipeline.from_encoder(
            encoder,
            align_net,
            transformer,
            vae,
            scheduler,
            control,
            takes_reference=sources.takes_reference,
            true_cfg=sources.true_cfg,
            controlnet=controlnet,
            controlnet_kind=sources.controlnet_kind,
        )
        pipeline.depth_of = sources.depth_model and DepthEstimator(sources.depth_model)
        if sources.flux_spec:
            pipeline.use_settings_of(sources.flux_spec)
        if "audio" not in encoder.spec.modalities:
            pipeline.encoder.transcriber = Transcriber(whisper)
        pipeline.set_progress_bar_config(disable=not is_notebook())
        place(pipeline, placement)
        if compile:
            compile_blocks(transformer)
    return pipeline


def load_encoder_and_alignnet(
    sources: Sources, dtype: torch.dtype, fill: Callable[[nn.Module], bool] | None = None
) -> tuple[MLLMEncoder, AlignNet]:
    """The MLLM and its AlignNet on the CPU, without FLUX. fill: as in `load_encoder`."""
    if sources.preset.startswith(CUSTOM):
        encoder = load_encoder(sources.preset.removeprefix(CUSTOM), sources.mllm, dtype=dtype, fill=fill)
        return encoder, load_alignnet(sources.alignnet, dtype=dtype)
    spec = get_preset(sources.preset)
    about = {"spec": spec.encoding, "expected": spec.mllm, "dtype": dtype}
    encoder = load_encoder(spec.mllm.family, sources.mllm, **about, fill=fill)
    sizes = {"num_states": spec.mllm.num_states, "hidden_size": spec.mllm.hidden_size}
    return encoder, load_alignnet(sources.alignnet, **sizes, dtype=dtype)


@dataclass(frozen=True)
class Reading:
    """Progress of loading. action: such as "Reading FLUX". done, total: bytes. seconds: since the first one."""

    action: str
    done: int
    total: int
    seconds: float

    def __str__(self):
        left = self.seconds * (self.total - self.done) / max(1, self.done)
        return f"{self.action}: {self.done / 1e9:.1f} of {self.total / 1e9:.1f} GB, about {left:.0f} s left"


class _Meter:
    """Counts the bytes of each weight, and tells `watch`, if there is one, a few times a second."""

    def __init__(self, action: str, total: int, watch: Callable[[Reading], None] | None):
        self.action, self.total, self.watch = action, total, watch
        self.done, self.started, self.told = 0, time.monotonic(), 0.0

    def __call__(self, count: int) -> None:
        self.done = min(self.total, self.done + count)
        now = time.monotonic()
        if self.watch and now - self.told >= _SECONDS_BETWEEN_REPORTS:
            self.told = now
            self.watch(Reading(self.action, self.done, self.total, now - self.started))


def _kept_weights(
    part: str, sources: Sources, dtype: torch.dtype, device: str, watch: Callable[[Reading], None] | None
) -> KeptWeights:
    flux_config = sources.flux.base / "transformer" / "config.json"
    files = {
        _MLLM: [*_mllm_files(sources), sources.mllm / "config.json"],
        _FLUX: [*_flux_files(sources), flux_config],
    }
    meters: dict[str, _Meter] = {}

    def tell(action: str, count: int, total: int) -> None:
        meters.setdefault(action, _Meter(action, total, watch))(count)

    return KeptWeights(part, sorted(files[part]), dtype, device, tell)


def _flux_files(sources: Sources) -> list[Path]:
    flux = sources.flux.file
    return [flux] if flux else [*sources.flux.base.glob("transformer/*.safetensors")]


def _mllm_files(sources: Sources) -> list[Path]:
    return [*sources.mllm.glob("*.safetensors")]


def _weights_files(sources: Sources) -> list[Path]:
    """The files of the MLLM and the FLUX transformer."""
    return [*_flux_files(sources), *_mllm_files(sources)]


def _weights_bytes(sources: Sources) -> int:
    return sum(file.stat().st_size for file in _weights_files(sources))


def _maps_weights(sources: Sources, profile: str) -> bool:
    """Whether the weights stay in their files: those of a large model in bfloat16, on a CPU that computes in it."""
    return maps_weights(profile, _weights_bytes(sources)) and all(map(_is_mappable, _weights_files(sources)))


def _is_mappable(file: Path) -> bool:
    """Whether a file's matrices can be used in bfloat16 as they are; those of GGUF are expanded while they run."""
    if not is_safetensors(file):
        return True
    with safe_open(file, framework="pt") as weights:
        found = (weights.get_slice(key) for key in weights.keys())  # noqa: SIM118 (not a dict)
        return all(each.get_dtype() == "BF16" for each in found if len(each.get_shape()) > 1)


def _device(name: str | torch.device) -> torch.device:
    try:
        device = torch.device(name)
        _try(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).split("\n")[0][:120]
        raise InvalidRequestError(f"device is {str(name)!r}, which does not work here ({reason}); try cpu.") from error
    if device.type in CARDS and device.index is None:  # accelerate and diffusers compare devices with their indices
        device = torch.device(device.type, torch.get_device_module(device).current_device())
    return device


def _try(device: torch.device) -> None:
    torch.zeros(1, device=device).item()  # fails on the meta device, which holds no numbers

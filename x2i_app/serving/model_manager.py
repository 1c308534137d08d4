"""The model in memory: loaded, unloaded, or changed for another, which comes only when the old one has gone.

Two do not fit on one card, so "a failed load leaves the old one working" means: whatever can fail beforehand (a wrong
name, no connection, a full disk, a cut file) fails while the old model still works; and if the new one then cannot be
built, the old one is built again from its files, which are there.

Importing this imports no torch.
"""

import ctypes
import gc
import importlib
import logging
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from x2i_app.errors import forget_frames
from x2i_app.presets import FLUX_MODELS, PRESETS, get_preset, known_flux
from x2i_app.settings import CUSTOM, PARTS, Settings
from x2i_app.specs import EncodingSpec, FluxSpec, Preset

if TYPE_CHECKING:
    from x2i_app.loading.download import Download
    from x2i_app.loading.memory import MemoryUse
    from x2i_app.loading.plan import MemoryPlan
    from x2i_app.loading.sources import Sources
    from x2i_app.pipeline import X2IPipeline

logger = logging.getLogger(__name__)

_UNKNOWN_LICENSE = "its publisher's own; read it where you found the model"


class ResidentModel:
    """Holds the only reference to the pipeline. `settings` say which it is, or was before it was unloaded."""

    def __init__(self, settings: Settings):
        self.first = settings
        self.settings = settings
        self.pipeline: X2IPipeline | None = None
        self.news = ""  # of a download, for whoever waits
        self._sources: Sources | None = None
        self._told = -1

    @property
    def preset(self) -> Preset | None:
        """The preset's facts; None for a custom model, whose facts are in its files."""
        return None if self.settings.preset.startswith(CUSTOM) else get_preset(self.settings.preset)

    @property
    def flux(self) -> FluxSpec:
        """Steps, guidance, size and licence of the FLUX model; if the registry lacks it, by what it looks like."""
        name = self.settings.flux or (self.preset.flux if self.preset else "")
        if spec := known_flux(name):
            return spec
        if self.pipeline is None:
            return FLUX_MODELS["shuttle-3-diffusion"]
        guided = self.pipeline.transformer.config.guidance_embeds  # as only dev and its descendants are
        kin = FLUX_MODELS["flux.1-dev" if guided else "flux.1-schnell"]
        resolution = self.pipeline.vae.config.sample_size
        return replace(kin, name=name, repo_id="", resolution=resolution, license=_UNKNOWN_LICENSE, gated=False)

    @property
    def encoding(self) -> EncodingSpec | None:
        """How conversations are shown to the MLLM; None for a custom model that is not loaded yet."""
        if self.preset:
            return self.preset.encoding
        return EncodingSpec.from_dict(self.pipeline.config.encoding) if self.pipeline else None

    @property
    def has_light_control(self) -> bool:
        """Whether a picture can be kept to."""
        if self._sources:
            return self._sources.light_control is not None
        if self.settings.light_control:
            return True
        preset = self.preset
        return bool(preset and preset.light_control and self.settings.flux in (None, preset.flux))

    @property
    def sources(self) -> dict[str, str]:
        """Of each part, where it was found and who chose it; empty before anything is found."""
        return dict(self._sources.said) if self._sources else {}

    def settings_for(self, preset: str = "", flux: str = "", profile: str = "") -> Settings:
        """The settings of another model; what is empty stays, but parts of one preset are not carried to another.

        Raises X2IError's kinds for a name that is not known.
        """
        preset = preset or self.settings.preset
        start = self.first if preset == self.first.preset else replace(self.first, **dict.fromkeys(PARTS))
        kept = self.settings.flux if preset == self.settings.preset else start.flux
        return replace(start, preset=preset, flux=flux or kept, profile=profile or self.settings.profile)

    @property
    def choices(self) -> list[str]:
        """The presets that can be switched to: those of the registry, and what the app was started with."""
        return list(dict.fromkeys([*PRESETS, self.first.preset]))

    def find(self, settings: Settings) -> "Sources":
        """Have every file of a model on this machine, while another may be working. Raises X2IError's kinds."""
        quiet_libraries()
        from x2i_app.loading.sources import find_sources

        parts = {name: getattr(settings, name) for name in PARTS}
        try:
            return find_sources(settings.preset, **parts, models=settings.models, report=self._tell)
        finally:
            self.news = ""

    def load(self) -> None:
        """Load what `settings` describe, downloading it if need be; the pipeline is there afterwards."""
        self._sources = self._sources or self.find(self.settings)
        self.pipeline = _build(self.settings, self._sources)
        # A look at all that the libraries and the page consist of stops every thread for half a second, and is due as
        # soon as many visitors come at once; from here on the collector looks at what is newer only.
        gc.collect()
        gc.freeze()

    def memory(self) -> "tuple[MemoryPlan, MemoryUse] | None":
        """What the loaded model was planned to need at its own size, and what is in use now; None without a model.

        The first call for a model takes seconds; any thread may make it.
        """
        pipeline, side = self.pipeline, self.flux.resolution
        if pipeline is None:
            return None
        from x2i_app.loading.memory import memory_use, present_plan

        return present_plan(pipeline, side, side), memory_use(pipeline.placement.device)

    def plan(self, settings: Settings) -> "MemoryPlan":
        """What another model would need here, before a byte of it is downloaded. Takes seconds; any thread may ask.

        Raises X2IError's kinds for a model that nothing is known of.
        """
        quiet_libraries()
        from x2i_app.loading.report import plan_memory

        parts = {name: getattr(settings, name) for name in ("mllm", "flux", "light_control")}
        return plan_memory(settings.preset, (settings.profile,), **parts)[0]

    def unload(self) -> None:
        """Let the model go, with all that it holds; its settings stay."""
        self.pipeline = None
        _return_memory()

    def change(self, settings: Settings, sources: "Sources") -> None:
        """Let the old model go, then load the new one.

        If that fails, the old one is loaded again, and the failure raised; if that fails too, there is none.
        """
        old, had_one = (self.settings, self._sources), self.pipeline is not None
        self.unload()
        try:
            self.settings, self._sources = settings, sources
            self.load()
        except Exception as error:
            self.settings, self._sources = old
            forget_frames(error)  # they hold what was already built of the new one
            self.unload()
            if had_one:
                self.load()
            raise

    def _tell(self, moment: "Download") -> None:
        self.news = str(moment)
        twentieth = 20 * moment.done // max(1, moment.total)
        if twentieth != self._told:
            self._told = twentieth
            logger.info("%s", self.news)


def _build(settings: Settings, sources: "Sources") -> "X2IPipeline":
    from x2i_app.loading.build import build_pipeline

    pipeline = build_pipeline(sources, settings.profile, settings.device, whisper=settings.whisper)
    pipeline.set_progress_bar_config(disable=True)  # jobs report their own progress
    return pipeline


def _return_memory() -> None:
    gc.unfreeze()
    gc.collect()  # modules and hooks refer to each other
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch and torch.backends.mps.is_available():
        torch.mps.empty_cache()
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)  # glibc keeps what was freed in small pieces, as a miniature's weights are


def quiet_libraries() -> None:
    """Jobs tell their own progress; the libraries' bars and hints would only garble a terminal that shows it."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    for library in ("diffusers", "transformers"):
        library_logging = importlib.import_module(f"{library}.utils.logging")
        library_logging.set_verbosity_error()
        library_logging.disable_progress_bar()

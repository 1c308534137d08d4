"""Holds the model: finds its files, loads it, unloads it, and replaces it by another one.

Two models do not fit on one GPU, so the old one is unloaded before the new one is loaded. Whatever can fail earlier (a
wrong name, no connection, a full disk, a damaged file) fails in `find`, while the old model still works. If the new
model then cannot be built, the old one is loaded again from its files, which are still on this machine.

Importing this imports no torch.
"""

import ctypes
import gc
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from x2i_app.errors import LoadingStoppedError, forget_frames
from x2i_app.presets import FLUX_MODELS, get_preset, is_kontext, known_flux, similar_flux
from x2i_app.quiet import quiet
from x2i_app.serving.protocol import ModelFacts
from x2i_app.settings import CUSTOM, PARTS, Settings
from x2i_app.specs import EncodingSpec, FluxSpec

if TYPE_CHECKING:
    from x2i_app.loading.build import Reading
    from x2i_app.loading.hub import Download
    from x2i_app.loading.memory import MemoryUse
    from x2i_app.loading.plan import MemoryPlan
    from x2i_app.loading.sources import Sources
    from x2i_app.pipeline import X2IPipeline

logger = logging.getLogger(__name__)

_PLAN_SECONDS = 60
_UNKNOWN_LICENSE = "its publisher's own; read it where you found the model"


def facts_of(settings: Settings, sources: "Sources | None" = None, pipeline: "X2IPipeline | None" = None) -> ModelFacts:
    """What is known of the model that `settings` describe, before it is found, when found, and when loaded."""
    preset = None if settings.preset.startswith(CUSTOM) else get_preset(settings.preset)
    encoding = preset.encoding if preset else None
    if not preset and pipeline:
        encoding = EncodingSpec.from_dict(pipeline.config.encoding)
    if sources:
        has_light_control = sources.light_control is not None
    elif settings.light_control:
        has_light_control = True
    else:
        has_light_control = bool(preset and preset.light_control and settings.flux in (None, preset.flux))
    name = settings.flux or (preset.flux if preset else "")
    found = dict(sources.descriptions) if sources else {}
    flux = known_flux(name) or _guess_flux(name, pipeline)
    takes_reference = sources.takes_reference if sources else is_kontext(name, settings.kontext)
    flux = replace(flux, takes_reference=takes_reference)
    has_controlnet = bool(sources.controlnet if sources else settings.controlnet)
    return ModelFacts(flux, encoding, has_light_control, found, sources.commits if sources else {}, has_controlnet)


def _guess_flux(name: str, pipeline: "X2IPipeline | None") -> FluxSpec:
    """A FLUX model that the registry lacks, described by its configuration."""
    if pipeline is None:
        return FLUX_MODELS["shuttle-3-diffusion"]
    return replace(
        similar_flux(pipeline.transformer.config.guidance_embeds, pipeline.needs_mask),
        name=name,
        repo_id="",
        resolution=pipeline.vae.config.sample_size,
        license=_UNKNOWN_LICENSE,
        gated=False,
    )


def plan_model(settings: Settings) -> "MemoryPlan":
    """The memory that a model would need on this machine, before it is downloaded. Takes up to seconds.

    The plan is kept for a minute: then files and free memory may be others.
    Raises an X2IError for a model of which nothing is known.
    """
    parts = {name: getattr(settings, name) for name in ("mllm", "flux", "light_control", "controlnet", "kontext")}
    return _plan(int(time.monotonic() // _PLAN_SECONDS), settings.preset, settings.profile, **parts)


@lru_cache(maxsize=32)
def _plan(_minute: int, preset: str, profile: str, **parts: Any) -> "MemoryPlan":
    with quiet():
        from x2i_app.loading.report import plan_memory

        return plan_memory(preset, (profile,), **parts)[0]


class ModelManager:
    """Holds the only reference to the pipeline. settings: of the model that is loaded, or that `load` would load.

    report: called with a sentence about a download, or about the weights that are read.
    """

    def __init__(self, settings: Settings, report: Callable[[str], None]):
        self.settings = settings
        self.pipeline: X2IPipeline | None = None
        self._report = report
        self._sources: Sources | None = None
        self._twentieth = -1  # of a download, that was logged last

    @property
    def facts(self) -> ModelFacts:
        """Of the model that is loaded, or would be."""
        return facts_of(self.settings, self._sources, self.pipeline)

    def find(self, settings: Settings) -> "Sources":
        """Find every file of a model, or download it, while another one may be working. Raises an X2IError."""
        parts = {name: getattr(settings, name) for name in (*PARTS, "kontext")}
        try:
            with quiet():
                from x2i_app.loading.sources import find_sources

                return find_sources(settings.preset, **parts, models=settings.models, report=self._report_download)
        finally:
            self._report("")

    def load(self) -> None:
        """Load what `settings` describe, downloading it if need be, into `pipeline`."""
        self._sources = self._sources or self.find(self.settings)
        try:
            self.pipeline = _build(self.settings, self._sources, lambda reading: self._report(str(reading)))
        finally:
            self._report("")
        # A full garbage collection over all objects of the libraries and the page stops every thread for half a second,
        # and many requests at once would trigger it. From here on, the collector ignores what exists now.
        gc.collect()
        gc.freeze()

    def memory(self) -> "tuple[MemoryPlan, MemoryUse] | None":
        """What the loaded model was planned to need at its own size, and what is in use now; None without a model.

        The first call for a model takes seconds; any thread may make it.
        """
        pipeline, side = self.pipeline, self.facts.flux.resolution
        if pipeline is None:
            return None
        from x2i_app.loading.memory import memory_use, present_plan

        return present_plan(pipeline, side, side), memory_use(pipeline.placement.device)

    def unload(self) -> None:
        """Drop the model and return its memory; the settings stay."""
        self.pipeline = None
        _return_memory()

    def close(self) -> None:
        """Drop the model before the process ends, so that libraries see their objects collected, not leaked."""
        self.pipeline = None
        gc.unfreeze()

    def change(self, settings: Settings, sources: "Sources") -> None:
        """Unload the old model, then load the new one from `sources`.

        If that fails, the old one is loaded again if it was loaded, and the error is raised. It stays unloaded if the
        error is a LoadingStoppedError.
        """
        old, had_one = (self.settings, self._sources), self.pipeline is not None
        self.unload()
        try:
            self.settings, self._sources = settings, sources
            self.load()
        except Exception as error:
            self.settings, self._sources = old
            forget_frames(error)  # their variables hold the parts of the new model that were already built
            self.unload()
            if had_one and not isinstance(error, LoadingStoppedError):
                self.load()
            raise

    def _report_download(self, download: "Download") -> None:
        self._report(str(download))
        twentieth = 20 * download.done // max(1, download.total)
        if twentieth != self._twentieth:
            self._twentieth = twentieth
            logger.info("%s", download)


def _build(settings: Settings, sources: "Sources", watch: "Callable[[Reading], None]") -> "X2IPipeline":
    from x2i_app.loading.build import build_pipeline

    pipeline = build_pipeline(
        sources,
        settings.profile,
        settings.device,
        whisper=settings.whisper,
        watch=watch,
        keep_quantized=settings.keep_quantized,
        compile=settings.compile,
    )
    pipeline.set_progress_bar_config(disable=True)  # jobs report their progress themselves
    return pipeline


def _return_memory() -> None:
    gc.unfreeze()
    if "torch" in sys.modules:  # without it there was no model
        from x2i_app.devices import return_unused_memory

        return_unused_memory()
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)  # glibc keeps memory that was freed in small pieces, such as a small model's weights

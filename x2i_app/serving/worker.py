"""The worker that draws in this process, with one pipeline. Importing it imports no torch."""

import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from x2i_app.errors import X2IError
from x2i_app.media import Prepared
from x2i_app.media.hashing import conversation_hash
from x2i_app.notes import of_negative
from x2i_app.quiet import quiet
from x2i_app.request import GenerationRequest, GenerationResult, Turn
from x2i_app.serving.eta import Stopwatch
from x2i_app.serving.jobs import Job, Phase
from x2i_app.serving.model_manager import ModelManager
from x2i_app.serving.protocol import EngineState, ModelFacts, Report, ignore_report
from x2i_app.settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch.nn import Module

    from x2i_app.loading.memory import MemoryUse
    from x2i_app.loading.plan import MemoryPlan
    from x2i_app.loading.sources import Sources
    from x2i_app.pipeline import Conditioning, X2IPipeline
    from x2i_app.serving.preview import Previewer

logger = logging.getLogger(__name__)

_REMEMBERED_CONDITIONINGS = 16  # about 4 MiB each at full size


class LocalWorker:
    """A Worker (see protocol.py) with one pipeline in this process; it draws one job at a time.

    models: holds the pipeline. conditionings: what FLUX reads, by the hash of the conversation, least recently used
    first: a new seed or size does not run the MLLM again.
    """

    max_jobs = 1

    def __init__(self, settings: Settings):
        self.report: Report = ignore_report
        self.models = ModelManager(settings, lambda detail: self.report(None, detail))
        self.conditionings: OrderedDict[str, Conditioning] = OrderedDict()
        self._found: tuple[Settings, Sources] | None = None  # by `find`, for `change`
        self._previewer: Previewer | None = None

    @property
    def settings(self) -> Settings:
        """As in Worker."""
        return self.models.settings

    @property
    def pipeline(self) -> "X2IPipeline | None":
        """None while no model is loaded."""
        return self.models.pipeline

    @property
    def facts(self) -> ModelFacts:
        """As in Worker."""
        return self.models.facts

    @property
    def is_loaded(self) -> bool:
        """As in Worker."""
        return self.pipeline is not None

    def load(self) -> None:
        """As in Worker."""
        self.models.load()

    def find(self, settings: Settings) -> None:
        """As in Worker; `change` then uses what was found."""
        self._found = settings, self.models.find(settings)

    def change(self, settings: Settings) -> None:
        """As in Worker."""
        found, self._found = self._found, None
        sources = found[1] if found and found[0] == settings else self.models.find(settings)
        self.report(EngineState.LOADING, "")
        self._forget()
        self.models.change(settings, sources)

    def memory(self) -> "tuple[MemoryPlan, MemoryUse] | None":
        """As in Worker."""
        return self.models.memory()

    def unload(self) -> None:
        """As in Worker."""
        self._forget()
        self.models.unload()

    def close(self) -> None:
        """As in Worker."""
        self._forget()
        self.models.close()

    def _forget(self) -> None:
        self.conditionings.clear()
        self._previewer = None

    def draw(self, job: Job, prepared: Prepared) -> Iterator[GenerationResult]:
        """As in Worker. Raises OutOfMemoryError, which says what would fit, if memory runs out."""
        try:
            with quiet():
                yield from self._draw(job, prepared)
        except Exception as error:
            if failure := self._out_of_memory(error, job, prepared):
                raise failure from None
            raise

    def _draw(self, job: Job, prepared: Prepared) -> Iterator[GenerationResult]:
        from x2i_app.loading import use_loras

        request, clock, images, commits = prepared.request, Stopwatch(), (), self.facts.commits
        use_loras(self.pipeline, request.loras, self.settings.models)
        previewer = self._preview() if job.previewed else None
        clock.start("encode")
        job.report(Phase.ENCODING)
        conditioning, negative = self._condition(job, prepared), self._negative(job, prepared.request)
        about_negative = of_negative(negative.notes) if negative else ()
        notes = (*prepared.notes, *conditioning.notes, *about_negative, *self.pipeline.lora_notes)
        with self.pipeline.kept_parts():
            for number, seed in enumerate(request.seeds, 1):
                image = self._draw_image(job, prepared, conditioning, negative, seed, number, clock, previewer)
                clock.stop()
                images = (*images, image)
                yield GenerationResult(
                    images,
                    request.seeds[:number],
                    request,
                    conditioning.answer,
                    notes,
                    dict(clock.seconds),
                    prepared.record,
                    commits,
                )

    def _preview(self) -> "Previewer":
        from x2i_app.serving.preview import Previewer

        self._previewer = self._previewer or Previewer(self.pipeline.vae)
        return self._previewer

    def _condition(self, job: Job, prepared: Prepared) -> "Conditioning":
        """What FLUX reads of the conversation."""
        return self._encode(job, prepared.conversation_hash, prepared.turns, prepared.request.reason)

    def _negative(self, job: Job, request: GenerationRequest) -> "Conditioning | None":
        """What FLUX reads of the negative prompt; None without one."""
        if not request.negative_prompt:
            return None
        own = GenerationRequest(request.negative_prompt)
        return self._encode(job, conversation_hash(own, {}), (own.turn,), False)

    def _encode(self, job: Job, key: str | None, turns: Sequence[Turn], reason: bool) -> "Conditioning":
        """Encode a conversation, unless what was encoded for this hash of it is remembered."""
        if key in self.conditionings:
            self.conditionings.move_to_end(key)
            return self.conditionings[key]
        *history, turn = turns
        # A cancelled job waits neither for the last token of an answer nor for the last layer of a long prompt.
        hooks = [
            each.register_forward_pre_hook(lambda *_: job.check_cancelled()) for each in _blocks(self.pipeline.mllm)
        ]
        try:
            conditioning = self.pipeline.encode(turn.prompt, turn.images, turn.videos, turn.audios, history, reason)
        finally:
            for hook in hooks:
                hook.remove()
        if key:
            self.conditionings[key] = conditioning
            while len(self.conditionings) > _REMEMBERED_CONDITIONINGS:
                self.conditionings.popitem(last=False)
        return conditioning

    def _draw_image(
        self,
        job: Job,
        prepared: Prepared,
        conditioning: "Conditioning",
        negative: "Conditioning | None",
        seed: int,
        number: int,
        clock: Stopwatch,
        previewer: "Previewer | None",
    ) -> "Image":
        """Image `number`, from 1. Images are drawn one by one: that takes less memory than a batch, and the image with
        a seed is the same whatever the number of images.
        """
        import torch

        request, drawn = prepared.request, prepared.drawn
        steps = request.steps_run
        place = {"image": number, "images": request.num_images_per_prompt, "steps": steps}

        def on_step_end(_pipeline, step, _timestep, _tensors):
            job.report(Phase.DENOISING, step=step + 1, **place)
            if step + 1 == steps:
                clock.start("decode")
                job.report(Phase.DECODING, step=steps, **place)
            return {}

        clock.start("denoise")
        job.report(Phase.DENOISING, **place)
        watching = nullcontext()
        if previewer:
            watching = previewer.watch(self.pipeline.transformer, drawn.width, drawn.height, job.show)
        with watching:
            output = self.pipeline(
                conditioning=conditioning,
                width=request.width,
                height=request.height,
                num_inference_steps=request.num_inference_steps,
                guidance_scale=request.guidance_scale,
                generator=torch.Generator("cpu").manual_seed(seed),
                callback_on_step_end=on_step_end,
                control_image=prepared.control_image,
                control_strength=request.control_strength,
                inpaint_source=prepared.inpaint_source,
                strength=request.strength,
                reference=prepared.reference,
                negative_conditioning=negative,
                true_cfg_scale=request.true_cfg_scale,
                fast=request.fast,
                controlnet=prepared.controlnet,
            )
        return output.images[0]

    def _out_of_memory(self, error: Exception, job: Job, prepared: Prepared) -> X2IError | None:
        """What would fit, after everything was given back that can be; None for any other error."""
        from x2i_app.loading.memory import explain, is_out_of_memory, return_memory

        if isinstance(error, X2IError) or not is_out_of_memory(error):
            return None
        phase = {Phase.DENOISING: "denoise", Phase.DECODING: "decode"}.get(job.progress.phase, "encode")
        logger.warning("Out of memory (%s) while a job was %s.", type(error).__name__, job.progress.phase)
        self.conditionings.clear()
        return_memory(error, self.pipeline)
        return explain(self.pipeline, prepared.drawn, phase)


def _blocks(model: "Module") -> list["Module"]:
    """A model, and the blocks of its stacks of layers."""
    from torch.nn import ModuleList

    return [model, *(block for stack in model.modules() if isinstance(stack, ModuleList) for block in stack)]

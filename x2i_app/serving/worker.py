"""One picture of a job: its steps are told, its predictions shown, its phases timed."""

from contextlib import nullcontext

import torch
from PIL import Image

from x2i_app.media import source_arguments
from x2i_app.pipeline import Conditioning, X2IPipeline
from x2i_app.request import GenerationRequest
from x2i_app.serving.eta import Stopwatch
from x2i_app.serving.jobs import Job, Phase
from x2i_app.serving.preview import Previewer


def draw_image(
    pipeline: X2IPipeline,
    job: Job,
    request: GenerationRequest,
    conditioning: Conditioning,
    seed: int,
    image: int,
    clock: Stopwatch,
    previewer: Previewer | None = None,
) -> Image.Image:
    """Picture number `picture`, from 1, of the job's `request`, which has nothing left open.

    One at a time: less memory than a batch, and picture i is what seed + i gives alone.
    Raises GenerationCancelledError within a step of the job's being cancelled; nothing is decoded then.
    """
    steps = request.steps_run
    place = {"image": image, "images": request.num_images_per_prompt, "steps": steps}

    def on_step_end(_pipeline, step, _timestep, _tensors):
        job.report(Phase.DENOISING, step=step + 1, **place)
        if step + 1 == steps:
            clock.start("decode")
            job.report(Phase.DECODING, step=steps, **place)
        return {}

    clock.start("denoise")
    job.report(Phase.DENOISING, **place)
    looking = nullcontext()
    if previewer:
        looking = previewer.look(pipeline.transformer, request.width, request.height, job.show)
    with looking:
        output = pipeline(
            conditioning=conditioning,
            width=request.width,
            height=request.height,
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            generator=torch.Generator("cpu").manual_seed(seed),
            callback_on_step_end=on_step_end,
            **source_arguments(request),
        )
    return output.images[0]

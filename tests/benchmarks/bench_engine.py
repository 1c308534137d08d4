"""The engine compared with diffusers, with x2i-tiny: python -m tests.benchmarks.bench_engine

Rows: the time of four seeds : one encode and four calls of FluxPipeline (and how often the MLLM ran); the time of
denoising : FluxPipeline with the same embeddings, without and with previews (and whether the latents are bit-
identical).
"""

import torch
from diffusers import FluxPipeline

from tests.benchmarks.side_by_side import compare, print_row
from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.serving.preview import Previewer
from x2i_app.serving.worker import LocalWorker
from x2i_app.settings import Settings

SIZE = {"width": 256, "height": 256, "num_inference_steps": 8}
SEEDS = (0, 1, 2, 3)
RUNS = 10
DENOISING_RUNS = 40  # a third of a second each; a few percent of difference need many runs


def main() -> None:
    worker = LocalWorker(Settings(profile="cpu"))
    engine = Engine(worker.settings, worker)
    engine.start()
    engine.submit(GenerationRequest(prompt="warm up", **SIZE)).wait()
    pipeline = worker.pipeline
    bare = FluxPipeline(
        scheduler=pipeline.scheduler,
        vae=pipeline.vae,
        transformer=pipeline.transformer,
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
    )
    bare.set_progress_bar_config(disable=True)
    four_seeds(engine, pipeline, bare)
    denoising(pipeline, bare)
    engine.close()


def four_seeds(engine: Engine, pipeline, bare: FluxPipeline) -> None:
    """Four images of one conversation, in one job."""
    encode, calls, prompts = pipeline.encode, [], iter(range(1000))
    pipeline.encode = lambda *a, **k: calls.append(1) or encode(*a, **k)

    def ours():
        prompt = f"a red house {next(prompts)}"  # so that no run uses the cache of another one
        engine.submit(GenerationRequest(prompt=prompt, seed=0, num_images_per_prompt=4, **SIZE)).wait()

    def other():
        conditioning = encode(prompt=f"a red house {next(prompts)}")
        for seed in SEEDS:
            draw(bare, conditioning, seed)

    result = compare(ours, other, RUNS)
    per_job = len(calls) / (RUNS + 1)
    print_row("MLLM runs for four seeds", f"{per_job:g}", "1", per_job == 1)
    print_row(
        "Four seeds : one encode + 4 bare FluxPipeline calls", f"{result.ratio:.3f}", "1.05", result.ratio <= 1.05
    )
    pipeline.encode = encode


def denoising(pipeline, bare: FluxPipeline) -> None:
    """The same embeddings with X2IPipeline and with diffusers."""
    conditioning = pipeline.encode(prompt="a red house")

    def ours():
        return pipeline(
            conditioning=conditioning, **SIZE, generator=torch.Generator().manual_seed(0), output_type="latent"
        ).images

    def other():
        return draw(bare, conditioning, 0, output_type="latent")

    result = compare(ours, other, DENOISING_RUNS)
    print_row("Denoising : bare FluxPipeline", f"{result.ratio:.3f}", "1.03", result.ratio <= 1.03)
    previewer, shown = Previewer(pipeline.vae), []

    def watched():
        with previewer.watch(pipeline.transformer, SIZE["width"], SIZE["height"], shown.append):
            return ours()

    result = compare(watched, other, DENOISING_RUNS)
    print_row("The same with a preview every step", f"{result.ratio:.3f}", "1.10", result.ratio <= 1.10)
    equal = torch.equal(ours(), other()) and torch.equal(watched(), other())
    print_row("Latents equal to the bit", str(equal), "True", equal)


def draw(bare: FluxPipeline, conditioning, seed: int, **options):
    return bare(
        prompt_embeds=conditioning.prompt_embeds,
        pooled_prompt_embeds=conditioning.pooled_prompt_embeds,
        guidance_scale=3.5,
        generator=torch.Generator().manual_seed(seed),
        **SIZE,
        **options,
    ).images


if __name__ == "__main__":
    main()

"""Memory peaks and times of FLUX.1 at full size on a GPU, compared with the plan: python -m tests.benchmarks.bench_card

Random weights, 1024 x 1024, 512 text tokens: one denoising step in 16, 8 and 4 bit, and the VAE whole and in tiles.
Peaks are torch.cuda.max_memory_allocated; the plan must be within 5 % of them. Times are the fastest of five runs.
Cases that do not fit the GPU are left out with a message. Exit status 1 if the plan is wrong.

`--device cpu --preset x2i-tiny --size 256` runs all of this without a GPU. There, the peak is the sum of the weights
and of the tensors that exist at the same time; in 8 and 4 bit, a CPU has other ones.
"""

import argparse
import gc
import sys
import time
from collections.abc import Callable

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from torch import nn

from tests.benchmarks.side_by_side import print_row
from tests.measures import held_bytes
from x2i_app.loading.memory import memory_use, tile_vae
from x2i_app.loading.plan import GIB, TEXT_TOKENS, Planner
from x2i_app.loading.quantization import quantize, scratch_bytes, stored_bytes
from x2i_app.loading.sizes import LiveBytes, build_skeleton
from x2i_app.quiet import quiet
from x2i_app.specs import Precision

RUNS = 5
TOLERANCE = 0.05


@quiet()
def main() -> int:
    """Measure, and print a row for each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--preset", default="qwen2.5-vl-7b")
    parser.add_argument("--size", type=int, default=1024)
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA card here, so nothing was measured; run this where there is one.")
        return 1
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}")
    parts = build_skeleton(options.preset)._replace(light_control=None)
    bench = Bench(Planner(parts, options.size, options.size), device)
    reached = [bench.measure_flux(precision) for precision in ("full", "int8", "nf4")]
    reached += [bench.measure_vae(tile) for tile in (options.size, options.size // 2)]
    return 0 if all(reached) else 1


class Bench:
    """Runs what `planner` plans on `device`."""

    def __init__(self, planner: Planner, device: torch.device):
        self.planner, self.device = planner, device

    @torch.no_grad()
    def measure_flux(self, precision: Precision) -> bool:
        """One denoising step, with the weights on the GPU."""
        skeleton = self.planner.parts.transformer
        config, tokens = skeleton.config, (self.planner.height // 2 // self.planner._shrink) ** 2
        planned = stored_bytes(skeleton, precision) + self.planner._denoising() + scratch_bytes(skeleton, precision)
        if not self._has_room(f"FLUX step, {precision}", planned):
            return True
        with torch.device("meta"):
            flux = FluxTransformer2DModel.from_config(config).to(torch.bfloat16).eval()
        flux.to_empty(device=self.device if precision == "full" else "cpu")
        for parameter in flux.parameters():  # made on the GPU, where billions of them take seconds
            parameter.copy_(0.02 * self._noise(*parameter.shape))
        quantize(flux, precision, self.device)
        flux.to(self.device)
        given = {
            "hidden_states": self._noise(1, tokens, config.in_channels),
            "timestep": self._noise(1),
            "guidance": self._noise(1) if config.guidance_embeds else None,
            "pooled_projections": self._noise(1, config.pooled_projection_dim),
            "encoder_hidden_states": self._noise(1, TEXT_TOKENS, config.joint_attention_dim),
            "txt_ids": torch.zeros(TEXT_TOKENS, 3, device=self.device),
            "img_ids": torch.zeros(tokens, 3, device=self.device),
        }
        return self._compare(f"FLUX step, {precision}", lambda: flux(**given), flux, planned)

    @torch.no_grad()
    def measure_vae(self, tile: int) -> bool:
        """One decoded image."""
        skeleton = self.planner.parts.vae
        planned = stored_bytes(skeleton) + self.planner._decoding(tile)
        if not self._has_room(f"VAE, {tile} px tiles", planned):
            return True
        vae = AutoencoderKL.from_config(skeleton.config).to(self.device, torch.bfloat16).eval()
        tile_vae(vae, tile)
        side = self.planner.height // self.planner._shrink
        latents = self._noise(1, vae.config.latent_channels, side, side)
        return self._compare(f"VAE, {tile} px tiles", lambda: vae.decode(latents), vae, planned)

    def _noise(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, device=self.device, dtype=torch.bfloat16)

    def _has_room(self, what: str, planned: int) -> bool:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        free = memory_use(self.device).free
        if planned > free:
            print_row(what, f"left out: {free / GIB:.2f} GiB are free", f"{planned / GIB:.2f} GiB planned", False)
        return planned <= free

    def _compare(self, what: str, run: Callable[[], object], module: nn.Module, planned: int) -> bool:
        run()  # selects kernels, and initializes the state of 8-bit layers
        peak = self._peak(run, module)
        seconds = []
        for _ in range(RUNS):
            self._wait()
            start = time.perf_counter()
            run()
            self._wait()
            seconds.append(time.perf_counter() - start)
        reached = abs(planned / peak - 1) <= TOLERANCE
        measured, expected = (f"{1024 * count / GIB:,.1f} MiB" for count in (peak, planned))
        print_row(f"{what}, {min(seconds):.3f} s", measured, f"{expected} planned", reached)
        return reached

    def _peak(self, run: Callable[[], object], module: nn.Module) -> int:
        if self.device.type != "cuda":
            with LiveBytes([module]) as live:
                run()
            return held_bytes(module) + live.peak
        self._wait()
        torch.cuda.reset_peak_memory_stats(self.device)
        run()
        self._wait()
        return torch.cuda.max_memory_allocated(self.device)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


if __name__ == "__main__":
    sys.exit(main())

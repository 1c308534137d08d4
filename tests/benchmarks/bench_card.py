"""Real peaks and times of FLUX.1 at its real size on a card, against the plan: python -m tests.benchmarks.bench_card

Random weights, 1024 x 1024, 512 text tokens: one denoising step in 16, 8 and 4 bit, and the VAE whole and in tiles.
Peaks are torch.cuda.max_memory_allocated, of which the plan must be within 5 %; seconds are the fastest of five.
Without a CUDA card it says so and measures nothing.
"""

import sys
import time
from collections.abc import Callable

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel

from tests.benchmarks.side_by_side import print_row
from x2i_app.loading.memory import tile_vae
from x2i_app.loading.plan import GIB, TEXT_TOKENS, Planner
from x2i_app.loading.quantization import quantize, scratch_bytes, stored_bytes
from x2i_app.loading.skeletons import build_skeleton

CARD = torch.device("cuda")
TOLERANCE = 0.05


def main() -> int:
    if not torch.cuda.is_available():
        print("There is no CUDA card here, so nothing was measured; run this where there is one.")
        return 1
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    planner = Planner(build_skeleton("qwen2.5-vl-7b"))
    for precision in ("full", "int8", "nf4"):
        flux = planner.parts.transformer
        planned = stored_bytes(flux, precision) + planner._denoising() + scratch_bytes(flux, precision)
        measure_flux(flux.config, precision, planned)
    for tile in (1024, 512):
        measure_vae(planner.parts.vae.config, tile, stored_bytes(planner.parts.vae) + planner._decoding(tile))
    return 0


@torch.no_grad()
def measure_flux(config, precision: str, planned: int) -> None:
    """One denoising step, with the weights on the card."""
    with torch.device("meta"):
        flux = FluxTransformer2DModel.from_config(config).to(torch.bfloat16).eval()
    flux.to_empty(device="cpu")
    for parameter in flux.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    quantize(flux, precision, CARD)
    flux.to(CARD)
    given = {
        "hidden_states": noise(1, 4096, config["in_channels"]),
        "timestep": noise(1),
        "pooled_projections": noise(1, config["pooled_projection_dim"]),
        "encoder_hidden_states": noise(1, TEXT_TOKENS, config["joint_attention_dim"]),
        "txt_ids": noise(TEXT_TOKENS, 3),
        "img_ids": noise(4096, 3),
    }
    compare(f"FLUX step, {precision}", lambda: flux(**given), planned)


@torch.no_grad()
def measure_vae(config, tile: int, planned: int) -> None:
    """One decoded picture."""
    vae = AutoencoderKL.from_config(config).to(CARD, torch.bfloat16).eval()
    tile_vae(vae, tile)
    latents = noise(1, 16, 128, 128)
    compare(f"VAE, {tile} px tiles", lambda: vae.decode(latents), planned)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, device=CARD, dtype=torch.bfloat16)


def compare(what: str, run: Callable[[], object], planned: int) -> None:
    run()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated()
    reached = abs(planned / peak - 1) <= TOLERANCE
    print_row(f"{what}, {min(seconds):.3f} s", f"{peak / GIB:.2f} GiB", f"{planned / GIB:.2f} planned", reached)


if __name__ == "__main__":
    sys.exit(main())

"""Peaks of the computer's memory while a pipeline is loaded: python -m tests.benchmarks.bench_loading

Random models in bfloat16, an MLLM and a FLUX transformer of a few hundred MB, are loaded in 4 bit on a CPU in two
orders: as in `load_pipeline`, where the MLLM is quantized before FLUX is read, and with both read before they are
quantized. Each runs in a process that is forked after the libraries were imported. Memory is read every 2 ms, and the
memory before is subtracted. Anonymous memory is what the system cannot take back; pages of the weights' files can be
dropped.
"""

import multiprocessing
import re
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel

from tests.benchmarks.side_by_side import print_row
from tests.factories import save_qwen_vl
from x2i_app.loading.build import build_pipeline, load_encoder_and_alignnet
from x2i_app.loading.flux import load_flux
from x2i_app.loading.memory import choose_placement, place, plan_of
from x2i_app.loading.sources import Sources, find_sources
from x2i_app.models import AlignNet
from x2i_app.pipeline import X2IPipeline
from x2i_app.quiet import quiet
from x2i_app.settings import ASSETS

MB = 2**20
MLLM = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 8,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
}
FLUX = {"num_layers": 3, "num_single_layers": 6, "num_attention_heads": 8, "attention_head_dim": 128}


@quiet()
def main() -> None:
    """Measure, and print a row for each order."""
    with tempfile.TemporaryDirectory() as folder:
        sources = make_models(Path(folder))
        mllm, flux = (sum(p.stat().st_size for p in path.glob("*.safetensors")) / MB for path in parts(sources))
        print(f"MLLM {mllm:.0f} MB, FLUX {flux:.0f} MB in 16 bit")
        together = measure(lambda: load_together(sources))
        ours = measure(lambda: build_pipeline(sources, "8gb", "cpu", dtype=torch.bfloat16))
        for kind, most, other in zip(("anonymous", "with pages of files"), ours, together, strict=True):
            print_row(f"peak while loading, {kind}", f"{most:.0f} MB", f"both first: {other:.0f} MB", most < other)


def make_models(folder: Path) -> Sources:
    """An MLLM, an AlignNet, and a FLUX model with the VAE and the schedule of x2i-tiny."""
    torch.set_default_dtype(torch.bfloat16)
    mllm = save_qwen_vl(folder / "mllm", **MLLM)
    FluxTransformer2DModel(**FLUX, in_channels=64, joint_attention_dim=128, pooled_projection_dim=128).save_pretrained(
        folder / "flux/transformer"
    )
    AlignNet(9, 1024, joint_dim=128, pooled_dim=128).save_pretrained(folder / "align_net")
    torch.set_default_dtype(torch.float32)
    for part in ("vae", "scheduler"):
        (folder / "flux" / part).symlink_to(ASSETS / "x2i-tiny" / part)
    given = {"mllm": mllm, "flux": folder / "flux", "alignnet": folder / "align_net"}
    return find_sources("custom:qwen2.5-vl", **given, environment={})


def parts(sources: Sources) -> tuple[Path, Path]:
    """The folders of the two large models' weights."""
    return sources.mllm, sources.flux.base / "transformer"


def load_together(sources: Sources) -> X2IPipeline:
    """Load both in 16 bit, then quantize."""
    encoder, align_net = load_encoder_and_alignnet(sources, torch.bfloat16)
    pipeline = X2IPipeline.from_encoder(encoder, align_net, *load_flux(sources.flux, torch.bfloat16))
    place(pipeline, choose_placement("8gb", torch.device("cpu"), lambda: plan_of(pipeline)))
    return pipeline


def measure(load: Callable[[], object]) -> tuple[float, float]:
    """Peak in MB, above the memory before, of anonymous memory and of all resident memory."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_watched, args=(load, sender))
    process.start()
    sender.close()
    peaks = receiver.recv()
    process.join()
    return peaks


def _watched(load: Callable[[], object], sender) -> None:
    before, most, done = _resident(), [(0.0, 0.0)], threading.Event()

    def watch():
        while not done.is_set():
            most.append(tuple(now - then for now, then in zip(_resident(), before, strict=True)))
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    pipeline = load()
    done.set()
    watcher.join()
    assert pipeline is not None  # keep it until here
    sender.send(tuple(map(max, zip(*most, strict=True))))


def _resident() -> tuple[float, float]:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return tuple(int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1024 for name in ("RssAnon", "VmRSS"))


if __name__ == "__main__":
    main()

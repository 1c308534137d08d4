"""Distillation compared with the reference, which is reimplemented here: python -m tests.benchmarks.bench_distillation

Rows: `attention_kl` (memory that it keeps, its peak, its gradient in bfloat16, its time), then a whole training step,
with and without gradient checkpointing. Times are measured alternately in one process, memory in separate processes.

The reference has two copies of the transformer, keeps all attention outputs of both, and compares them at the end
with softmaxes and a KL divergence under autograd, in the outputs' own dtype.
"""

import ctypes
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import psutil
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from torch import nn

from tests.benchmarks.side_by_side import compare, print_row
from x2i_app.models import AlignNet
from x2i_app.training.distill import DistillationLoss, DistillOptions
from x2i_app.training.frozen import FluxParts
from x2i_app.training.losses import attention_kl, tap_attention

KL_ROWS, KL_CHANNELS = 4096, 3072  # of one block's image tokens at 1024 x 1024
TOKENS, JOINT, POOLED = 64, 128, 64
OPTIONS = DistillOptions(batch_size=1, resolution=256, max_sequence_length=TOKENS)
RUNS = 5
_MMAP_THRESHOLD = -3  # the parameter of mallopt


def main() -> None:
    # Forked processes are small if torch has not computed anything yet.
    kl = {way: measure(measure_kl, way) for way in KL_WAYS}
    step = {way: measure(measure_step, way) for way in STEP_WAYS}
    kl_rows(kl)
    step_rows(step)


def reference_kl(teacher: torch.Tensor, student: torch.Tensor, temperature: float = 3.0) -> torch.Tensor:
    def spread(rows):
        return (rows - rows.mean(-1, keepdim=True)) / (rows.std(-1, keepdim=True) + 1e-7) / temperature

    ours, theirs = spread(student).softmax(-1), spread(teacher).log_softmax(-1)
    return nn.functional.kl_div(theirs, ours, reduction="sum") / len(student)


STEP_WAYS = ("reference", "checkpointed", "ours")
KL_WAYS = {"ours": attention_kl, "reference": reference_kl}


def kl_tensors(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    teacher = torch.randn(1, rows, KL_CHANNELS)
    student = teacher + 0.01 * torch.randn(1, rows, KL_CHANNELS)
    return teacher.bfloat16(), student.bfloat16().requires_grad_(True)


def kl_rows(measured: dict[str, tuple[float, float]]) -> None:
    ours, other = measured["ours"], measured["reference"]
    print_row("attention_kl: bytes kept a value (reference)", f"{ours[0]:.1f} ({other[0]:.1f})", "2", ours[0] <= 2.05)
    print_row(
        "attention_kl: bytes a value at its peak (reference)", f"{ours[1]:.1f} ({other[1]:.1f})", "6", ours[1] <= 6
    )
    teacher, student = kl_tensors(KL_ROWS // 4)
    exact = teacher.double(), student.detach().double().requires_grad_(True)
    (truth,) = torch.autograd.grad(reference_kl(*exact), exact[1])
    cosines = {}
    for name, way in KL_WAYS.items():
        (gradient,) = torch.autograd.grad(way(teacher, student), student)
        cosines[name] = nn.functional.cosine_similarity(gradient.double().flatten(), truth.flatten(), dim=0).item()
    said = f"{cosines['ours']:.5f} ({cosines['reference']:.3f})"
    print_row("attention_kl: cosine of its gradient to float64's (reference)", said, "0.999", cosines["ours"] >= 0.999)
    result = compare(*(lambda way=way: torch.autograd.grad(way(teacher, student), student) for way in KL_WAYS.values()))
    ratio = result.ours / result.other
    print_row("attention_kl : reference, time forth and back", f"{ratio:.2f}", "0.8", ratio <= 0.8)


class Setting:
    """A training step at a size for a CPU: activations are larger than weights, as at full size."""

    def __init__(self, way: str):
        torch.manual_seed(0)
        self.transformer = build_transformer()
        self.align_net = AlignNet(8, 64, joint_dim=JOINT, pooled_dim=POOLED)
        self.batch = {
            "hidden_states": torch.randn(1, 8, TOKENS, 64),
            "prompt_embeds": torch.randn(1, TOKENS, JOINT),
            "pooled": torch.randn(1, POOLED),
        }
        vae = AutoencoderKL(
            block_out_channels=(2,) * 4, down_block_types=("DownEncoderBlock2D",) * 4, norm_num_groups=1
        )
        scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
        if way == "checkpointed":
            self.transformer.enable_gradient_checkpointing()
        self.loss = DistillationLoss(FluxParts(self.transformer, vae, scheduler), OPTIONS, torch.device("cpu"))
        if way == "reference":
            self.teacher = build_transformer()
            self.teacher.load_state_dict(self.transformer.state_dict())
        self.run = self.reference_step if way == "reference" else self.our_step

    def our_step(self) -> None:
        terms = self.loss(self.align_net, self.batch)
        sum(terms.values()).backward()

    def reference_step(self) -> None:
        comparison, batch = self.loss, self.batch
        with torch.no_grad():
            latents, timestep = comparison._go_along(batch["prompt_embeds"], batch["pooled"])
            taught = outputs(comparison, self.teacher, latents, timestep, batch["prompt_embeds"], batch["pooled"])
        said = outputs(comparison, self.transformer, latents, timestep, *self.align_net(batch["hidden_states"]))
        loss = sum(reference_kl(*pair) for kind in taught for pair in zip(taught[kind], said[kind], strict=True))
        loss.backward()


def outputs(comparison, transformer, *inputs) -> dict[str, torch.Tensor]:
    """Attention outputs of double blocks and of single ones, each stacked (layers, B, tokens, C)."""
    kept: dict[str, list] = {"transformer_blocks": [], "single_transformer_blocks": []}
    comparison.transformer = transformer
    tap = tap_attention(transformer, lambda name, _, output: kept[name.split(".")[0]].append(output))
    with tap, comparison._fast_gradients():
        comparison._predict(*inputs)
    return {kind: torch.stack(parts) for kind, parts in kept.items()}


def build_transformer() -> FluxTransformer2DModel:
    torch.manual_seed(1)
    return FluxTransformer2DModel(
        num_layers=2,
        num_single_layers=4,
        attention_head_dim=64,
        num_attention_heads=4,
        joint_attention_dim=JOINT,
        pooled_projection_dim=POOLED,
        axes_dims_rope=(16, 24, 24),
    ).requires_grad_(False)


def step_rows(measured: dict[str, tuple[float, float]]) -> None:
    reference = measured["reference"][1]
    settings = {way: Setting(way) for way in STEP_WAYS}
    for way, title, goals in (("checkpointed", "with checkpointing", (0.5, 1.5)), ("ours", "without", (0.75, 1.05))):
        peak = measured[way][1]
        result = compare(settings[way].run, settings["reference"].run, RUNS)
        memory, time = peak / reference, result.ours / result.other
        said = f"{memory:.2f} ({peak:.0f} : {reference:.0f} MB)"
        print_row(f"Step {title} : reference, memory", said, f"{goals[0]}", memory <= goals[0])
        said = f"{time:.2f} ({1 / result.ours:.2f} : {1 / result.other:.2f} steps/s)"
        print_row(f"Step {title} : reference, time", said, f"{goals[1]}", time <= goals[1])


def measure(work: Callable[[str], tuple[float, float]], way: str) -> tuple[float, float]:
    """The result of `work` for one way, measured in a new process."""
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, mp_context=context, initializer=return_memory_at_once) as pool:
        return pool.submit(work, way).result()


def return_memory_at_once() -> None:
    """Let glibc return freed blocks of 64 KB and more to the kernel, so that resident memory is memory in use."""
    ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 2**16)


def grown(work: Callable[[], object]) -> tuple[int, int]:
    """Bytes by which `work` increases the process while its result is kept, and at the peak."""
    before = psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # Linux: reset the peak
    kept = work()
    now = psutil.Process().memory_info().rss
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
    del kept
    return now - before, int(status.split()[0]) * 1024 - before


def measure_kl(way: str) -> tuple[float, float]:
    teacher, student = kl_tensors(KL_ROWS)
    torch.autograd.grad(KL_WAYS[way](teacher, student), student)  # libraries allocate their own memory once
    kept, _ = grown(lambda: KL_WAYS[way](teacher, student))
    _, peak = grown(lambda: torch.autograd.grad(KL_WAYS[way](teacher, student), student))
    return kept / student.numel(), peak / student.numel()


def measure_step(way: str) -> tuple[float, float]:
    setting = Setting(way)
    setting.run()
    setting.align_net.zero_grad()
    kept, peak = grown(setting.run)
    # The weights count too; the reference has them twice.
    weights = sum(p.nbytes for p in setting.transformer.parameters()) * (2 if way == "reference" else 1)
    return (kept + weights) / 1e6, (peak + weights) / 1e6


if __name__ == "__main__":
    main()

"""Parameters of the released sizes, counted on the meta device: python -m tests.benchmarks.bench_memory

Parameters of the parts that X2I loads for a prompt and for an answer, and GiB in bfloat16. T5 and CLIP are never
loaded. The configurations are the published ones of each model.
"""

import torch
from diffusers import FluxTransformer2DModel
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLModel

from tests.benchmarks.side_by_side import print_row
from x2i_app.loading.mllm_configs import qwen_vl_config
from x2i_app.models import AlignNet
from x2i_app.presets import PRESETS

# Counted independently: the whole 7B, the 7B without its head, the 3B (whose head is tied).
EXPECTED = {
    "qwen2.5-vl-3b": (3_754_622_976, 3_754_622_976),
    "qwen2.5-vl-7b": (7_747_169_280, 8_292_166_656),
}
FLUX_TRANSFORMER = 11_891_178_560  # schnell and shuttle-3


def main() -> None:
    for name, (prompt, answer) in EXPECTED.items():
        config = qwen_vl_config(name.rpartition("-")[2])
        show(f"{name}, prompts only", count(Qwen2_5_VLModel, config), prompt)
        show(f"{name}, with answers", count(Qwen2_5_VLForConditionalGeneration, config), answer)
    show("FLUX.1-schnell transformer", count(FluxTransformer2DModel, guidance_embeds=False), FLUX_TRANSFORMER)
    for name in EXPECTED:
        preset = PRESETS[name]
        align_net = count(AlignNet, preset.mllm.num_states, preset.mllm.hidden_size)
        print_row(f"AlignNet of {name}", gib(align_net), "", True)


def count(cls, *args, **kwargs) -> int:
    with torch.device("meta"):
        return sum({id(p): p.numel() for p in cls(*args, **kwargs).parameters()}.values())


def show(what: str, parameters: int, expected: int) -> None:
    print_row(what, f"{parameters:,} = {gib(parameters)}", f"{expected:,}", parameters == expected)


def gib(parameters: int) -> str:
    return f"{parameters * 2 / 2**30:.2f} GiB"


if __name__ == "__main__":
    main()

"""Encoding compared with the reference, with a random Qwen2.5-VL of about 80 million parameters.

python -m tests.benchmarks.bench_encoders

Rows: prefill : `generate` of 128 tokens, which is how the reference gets the hidden states of a prompt; padded rows
(one pad row is computed and repeated) : a prefill of all 512 tokens; and the largest difference of the states. Then
every family at the tests' tiny sizes, with an image and text: prefill : the family's own generate of up to 128
tokens.
"""

import tempfile
from pathlib import Path

import torch
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration

from tests.benchmarks.side_by_side import compare, print_row
from tests.encoders.internvl_checkpoint_factory import save_internvl
from tests.encoders.minicpm_o_factory import save_minicpm_o
from tests.factories import save_qwen_omni, save_qwen_vl
from x2i_app.encoders import load_encoder
from x2i_app.request import Turn

SIZE = {
    "vocab_size": 32_000,
    "hidden_size": 640,
    "intermediate_size": 1792,
    "num_hidden_layers": 10,
    "num_attention_heads": 10,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [8, 12, 12]},
}
# About 60 tokens with those of the chat template.
PROMPT = "a red house and a green tree on snow at night, " * 2
GOAL = 1e-4

FAMILIES = {
    "qwen2.5-vl": save_qwen_vl,
    "qwen2.5-omni": save_qwen_omni,
    "internvl2.5": save_internvl,
    "minicpm-o": save_minicpm_o,
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = save_qwen_vl(Path(folder), **SIZE)
        encoder = load_encoder("qwen2.5-vl", directory, dtype=torch.float32)
        complete = Qwen2_5_VLForConditionalGeneration.from_pretrained(directory, dtype=torch.float32).eval()
    inputs = encoder._tokenize(encoder._build_conversation([Turn(PROMPT)]))
    length = inputs["input_ids"].shape[1]
    millions = sum(p.numel() for p in complete.parameters()) / 1e6
    print(f"{millions:.0f} million parameters, {length} tokens, {torch.get_num_threads()} threads")
    against_generate(encoder, complete, inputs)
    against_full_padding(encoder, inputs, length)
    for family in FAMILIES:
        by_family(family)


@torch.no_grad()
def against_generate(encoder, complete, inputs) -> None:
    def ours():
        return encoder.encode(prompt=PROMPT, padding="compact").hidden_states

    def reference():
        output = complete.generate(
            **inputs,
            max_new_tokens=128,
            min_new_tokens=128,  # a random model may end early, a trained one rarely
            do_sample=False,
            output_hidden_states=True,
            return_dict_in_generate=True,
        )
        return torch.stack(output.hidden_states[0], dim=1)

    result = compare(ours, reference, runs=5)
    print_row("Encode, times faster than generate(128)", f"{1 / result.ratio:.1f}", "10", result.ratio <= 1 / 10)
    show_difference("... largest difference of the states", ours(), reference())


@torch.no_grad()
def against_full_padding(encoder, inputs, length: int) -> None:
    pads = encoder.spec.pad_length - length
    position_ids = torch.nn.functional.pad(encoder._position_ids(inputs), (0, pads), value=1)
    fill = {"input_ids": encoder.processor.tokenizer.pad_token_id, "attention_mask": 0, "mm_token_type_ids": 0}
    whole = {key: torch.nn.functional.pad(value, (0, pads), value=fill[key]) for key, value in inputs.items()}

    def ours():
        return encoder.encode(prompt=PROMPT, padding="padded").hidden_states

    def reference():
        output = encoder.base(**whole, position_ids=position_ids, output_hidden_states=True, use_cache=False)
        return torch.stack(output.hidden_states, dim=1)

    result = compare(ours, reference, runs=9)
    print_row("Padded encode, times faster than 512 tokens", f"{1 / result.ratio:.1f}", "5", result.ratio <= 1 / 5)
    show_difference("... largest difference on all 512 rows", ours(), reference())


def by_family(family: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        encoder = load_encoder(family, FAMILIES[family](Path(folder)), dtype=torch.float32)
        given = {"prompt": "a red house", "images": [Image.new("RGB", (256, 256), "navy")]}
        result = compare(
            lambda: encoder.encode(**given, padding="compact"), lambda: encoder.encode(**given, reason=True)
        )
        tokens = encoder.encode(**given, reason=True).hidden_states.shape[2] + 1
    measured = f"{result.ours * 1000:.0f} ms : {result.other * 1000:.0f} ms for {tokens} tokens"
    print_row(f"{family}, encode : its own generate", measured, "", True)


def show_difference(what: str, ours: torch.Tensor, reference: torch.Tensor) -> None:
    difference = (ours - reference).abs().max().item()
    print_row(what, f"{difference:.0e}", f"{GOAL:.0e}", difference <= GOAL)


if __name__ == "__main__":
    main()

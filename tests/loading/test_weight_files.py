"""FLUX models in the forms that people have: GGUF, bitsandbytes' 4 and 8 bit, fp8; others are named and refused."""

import json
import shutil

import bitsandbytes as bnb
import gguf
import numpy as np
import pytest
import torch
from diffusers.quantizers.gguf.utils import GGUFLinear
from gguf import GGMLQuantizationType as Kind
from loading.test_flux_file import original_names
from measures import held_bytes
from safetensors.torch import load_file, save_file

from x2i_app import load_pipeline
from x2i_app.errors import CheckpointError
from x2i_app.loading import use_loras
from x2i_app.loading.flux import load_flux, load_transformer
from x2i_app.loading.memory import plan_of
from x2i_app.loading.quantization import Linear4bit, dense_weight, stored_bytes
from x2i_app.loading.sizes import LiveBytes, build_skeleton
from x2i_app.presets import MEMORY_PROFILES
from x2i_app.settings import ASSETS

TINY = ASSETS / "x2i-tiny/transformer"
CPU = torch.device("cpu")


class HostBytes(LiveBytes):
    """LiveBytes without the meta device."""

    def _count(self, storage):
        if storage.device.type != "meta":
            super()._count(storage)


@pytest.fixture
def weights():
    return load_file(TINY / "diffusion_pytorch_model.safetensors")


@pytest.fixture
def original(weights):
    return original_names(weights)


# ----- GGUF ----------------------------------------------------------------------------------------------------------


def blocks(shape, kind, seed=0):
    """Random blocks of a kind, of which the writer can make only some from numbers; their scales are small."""
    per_block, size = gguf.GGML_QUANT_SIZES[kind]
    found = np.random.default_rng(seed).integers(0, 256, (shape[0], shape[1] // per_block, size), dtype=np.uint8)
    places = {Kind.Q6_K: (-2,), Kind.Q3_K: (-2,), Kind.Q2_K: (-4, -2), Kind.IQ4_XS: (0,)}.get(kind, (0, 2))
    for place in places:
        found[..., place : place + 2 or None] = np.frombuffer(np.float16(2e-4).tobytes(), np.uint8)
    return found.reshape(shape[0], -1)


def write_gguf(path, original, kind, architecture="flux", prefix=""):
    """The weights by Black Forest Labs' names, in blocks of `kind` where rows allow it; what they stand for."""
    writer, meant = gguf.GGUFWriter(path, architecture), {}
    for key, value in original.items():
        array, raw = value.float().numpy(), None
        if array.ndim == 2 and array.shape[1] % 256 == 0 and kind.name.endswith(("_K", "_XS")):
            array, raw = blocks(array.shape, kind), kind
        elif array.ndim == 2 and array.shape[1] % 32 == 0 and "mod" not in key:
            raw = kind if kind in (Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0, Kind.Q5_1) else Kind.Q8_0
            array = gguf.quantize(array, raw)
        writer.add_tensor(prefix + key, array, raw_dtype=raw if raw not in (None, Kind.F16) else None)
        meant[key] = torch.from_numpy(gguf.dequantize(array, raw) if raw else array).float()
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return meant


def latents(pipe, **given):
    given = {"width": 64, "height": 64, "num_inference_steps": 1, "output_type": "latent"} | given
    return pipe("a red house", generator=torch.Generator().manual_seed(0), **given).images


KINDS = (Kind.Q4_K, Kind.Q5_K, Kind.Q6_K, Kind.Q3_K, Kind.Q2_K, Kind.Q8_0, Kind.Q4_0, Kind.Q5_1, Kind.F16, Kind.BF16)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_gguf(original, tmp_path, kind):
    """The layers stay in the file's form, and count as the numbers that the gguf library reads from it."""
    meant = write_gguf(tmp_path / "flux1-dev-X.GGUF", original, kind, prefix="model.diffusion_model.")
    transformer = load_transformer(tmp_path / "flux1-dev-X.GGUF", torch.float32, base="x2i-tiny")
    found = {
        name: dense_weight(layer) for name, layer in transformer.named_modules() if isinstance(layer, torch.nn.Linear)
    }
    expected = load_transformer(saved(meant, tmp_path), torch.float32, base="x2i-tiny")
    for name, weight in found.items():
        wanted = expected.get_submodule(name).weight  # diffusers multiplies in 16 bit
        torch.testing.assert_close(weight, wanted.data, atol=1e-3 * wanted.abs().max().item(), rtol=1e-3)
    kept = [name for name, layer in transformer.named_modules() if isinstance(layer, GGUFLinear)]
    assert len(kept) == (0 if kind in (Kind.F16, Kind.BF16) else len(found) - sum("norm" in name for name in found))
    skeleton = build_skeleton("x2i-tiny", flux=tmp_path / "flux1-dev-X.GGUF", dtype=torch.float32).transformer
    assert stored_bytes(skeleton) == stored_bytes(transformer)


def saved(weights, folder, name="tuned.safetensors"):
    save_file({key: value.contiguous() for key, value in weights.items()}, folder / name)
    return folder / name


def test_gguf_pipeline(original, tmp_path):
    """The same image as with the expanded weights, also with a LoRA; other profiles leave the file's form as it is."""
    meant = write_gguf(tmp_path / "flux.gguf", original, Kind.Q4_K)
    pipes = [
        load_pipeline("x2i-tiny", profile="cpu", flux=path) for path in (tmp_path / "flux.gguf", saved(meant, tmp_path))
    ]
    bare = [latents(pipe) for pipe in pipes]
    torch.testing.assert_close(*bare, atol=0.01, rtol=0.01)
    for pipe in pipes:
        use_loras(pipe, [(ASSETS / "examples/loras/striped.safetensors", 1.0)])
    changed = [latents(pipe) for pipe in pipes]
    torch.testing.assert_close(*changed, atol=0.01, rtol=0.01)
    assert (changed[0] - bare[0]).abs().max() > 0.1
    small = load_pipeline("x2i-tiny", profile="8gb", device="cpu", flux=tmp_path / "flux.gguf")
    kinds = {type(layer) for layer in small.transformer.modules() if isinstance(layer, torch.nn.Linear)}
    assert kinds == {GGUFLinear, Linear4bit}
    assert torch.cosine_similarity(latents(small).flatten(), bare[0].flatten(), dim=0) > 0.9
    parts = plan_of(small).plan(MEMORY_PROFILES["8gb"], "none").parts
    planned = next(part.bytes for part in parts if part.name == "transformer")
    assert planned == pytest.approx(held_bytes(small.transformer), rel=0.01)


def test_gguf_is_mapped(original, tmp_path):
    """No weight is copied."""
    write_gguf(tmp_path / "flux.gguf", original, Kind.Q8_0)
    with HostBytes([]) as live:
        load_transformer(tmp_path / "flux.gguf", torch.float32, base="x2i-tiny")
    assert live.peak < 1.1 * (tmp_path / "flux.gguf").stat().st_size  # which is mapped, and counted here


# ----- bitsandbytes --------------------------------------------------------------------------------------------------


def four_bit(weights, nested, kind="nf4"):
    """As bitsandbytes saves matrices in 4 bit, and what they stand for."""
    found, meant = {}, {}
    for key, value in weights.items():
        found[key] = meant[key] = value.float()
        if value.ndim == 2 and key.endswith(".weight"):
            packed, state = bnb.functional.quantize_4bit(
                value.float(), blocksize=64, quant_type=kind, compress_statistics=nested
            )
            found[key] = packed
            found |= {f"{key}.{name}": part for name, part in state.as_dict(packed=True).items()}
            flat = value.float().reshape(1, -1)
            packed, state = bnb.functional.quantize_4bit(
                flat, blocksize=64, quant_type=kind, compress_statistics=nested
            )
            meant[key] = bnb.functional.dequantize_4bit(packed, state).view(value.shape)
    return found, meant


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_four_bit_file(original, tmp_path, nested, kind):
    """An all-in-one file in 4 bit has the same numbers in 32 bit, and in 4 bit nearly so: only scales are rounded."""
    found, meant = four_bit(original, nested, kind)
    path = saved({f"model.diffusion_model.{key}": value for key, value in found.items()}, tmp_path, "flux-bnb.SFT")
    expected = load_transformer(saved(meant, tmp_path), torch.float32, base="x2i-tiny")
    whole = load_transformer(path, torch.float32, base="x2i-tiny")
    small, _, _ = load_flux(path, torch.float32, "x2i-tiny", "nf4", CPU)
    for name, layer in expected.named_modules():
        if type(layer) is torch.nn.Linear:
            torch.testing.assert_close(whole.get_submodule(name).weight, layer.weight, atol=1e-6, rtol=1e-5)
            error = dense_weight(small.get_submodule(name)) - layer.weight
            assert error.norm() < (0.02 if kind == "nf4" else 0.15) * layer.weight.norm()


def test_four_bit_folder(weights, tmp_path):
    """A folder in diffusers layout that bitsandbytes quantized."""
    directory = tmp_path / "flux-bnb-4bit"
    shutil.copytree(ASSETS / "x2i-tiny", directory, ignore=lambda folder, names: [n for n in names if n == "mllm"])
    found, meant = four_bit(weights, nested=True)
    saved(found, directory / "transformer", "diffusion_pytorch_model.safetensors")
    config = json.loads((directory / "transformer/config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (directory / "transformer/config.json").write_text(json.dumps(config))
    transformer, _, _ = load_flux(directory, torch.float32)
    torch.testing.assert_close(transformer.proj_out.weight.data, meant["proj_out.weight"], atol=1e-6, rtol=1e-5)


def test_eight_bit_layers(original, tmp_path):
    """bitsandbytes' LLM.int8(): each row has a scale."""
    found = dict(original)
    for key, value in original.items():
        if value.ndim == 2:
            scale = value.float().abs().amax(dim=1).clamp_min(1e-6)
            found[key] = (value.float() / scale[:, None] * 127).round().to(torch.int8)
            found |= {key.replace(".weight", ".SCB"): scale, key.replace(".weight", ".weight_format"): torch.tensor(0)}
    transformer = load_transformer(saved(found, tmp_path), torch.float32, base="x2i-tiny")
    expected = load_transformer(saved(original, tmp_path, "b.safetensors"), torch.float32, base="x2i-tiny")
    for name, weight in expected.named_parameters():
        assert (transformer.get_parameter(name) - weight).norm() < 0.02 * weight.norm()


# ----- Memory --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["fp8", "bf16", "nf4"])
def test_memory(original, tmp_path, form):
    """A file is quantized weight by weight: beside the result there are never more than a few weights at full size."""
    if form == "nf4":
        found, _ = four_bit(original, nested=False)
    else:
        dtype = {"fp8": torch.float8_e4m3fn, "bf16": torch.bfloat16}[form]
        found = {key: value.to(dtype) for key, value in original.items()}
    path = saved(found, tmp_path)
    with HostBytes([]) as live:
        transformer, _, _ = load_flux(path, torch.bfloat16, "x2i-tiny", "nf4", CPU)
    largest = max(value.numel() for value in original.values())
    whole = sum(value.numel() for value in original.values())
    assert 2 * whole > held_bytes(transformer) + 12 * largest
    assert live.peak < path.stat().st_size * (form == "nf4") + held_bytes(transformer) + 12 * largest


# ----- Refused -------------------------------------------------------------------------------------------------------


def with_keys(**tensors):
    return lambda original: original | {name.replace("__", "."): value for name, value in tensors.items()}


def comfy(form):
    return torch.tensor([*json.dumps({"format": form}).encode()], dtype=torch.uint8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_keys(double_blocks__0__img_attn__qkv__qweight=torch.ones(2)), r"in the form of nunchaku \(SVDQuant\)"),
        (with_keys(double_blocks__0__img_attn__qkv__comfy_quant=comfy("nvfp4")), "in the form of nvfp4"),
        (with_keys(double_blocks__0__img_attn__qkv__comfy_quant=comfy("mxfp8")), "in the form of mxfp8"),
        (with_keys(double_blocks__0__img_attn__qkv__weight_scale_2=torch.ones(1)), "in the form of NVFP4"),
        (with_keys(double_blocks__0__img_attn__qkv__weight___data=torch.ones(2)), "in the form of optimum-quanto"),
        (with_keys(double_blocks__0__img_attn__qkv__qzeros=torch.ones(2)), "in the form of GPTQ"),
        (
            with_keys(double_blocks__0__img_mlp__0__bias=torch.full((768,), float("nan"))),
            "img_mlp.0.bias has .*not finite",
        ),
        (with_keys(double_blocks__0__img_mlp__0__weight=torch.full((768, 192), float("inf"))), "not finite"),
        (lambda original: {"lora_unet_double_blocks_0.lora_down.weight": torch.ones(2, 2)}, "this is no FLUX.1 transf"),
        (
            lambda original: four_bit(original, True)[0] | {"img_in.weight.absmax": torch.ones(0)},
            "img_in.weight is damaged",
        ),
        (
            lambda original: (
                four_bit(original, True)[0]
                | {"img_in.weight.quant_state.bitsandbytes__nf4": torch.tensor([1], dtype=torch.uint8)}
            ),
            "bitsandbytes__nf4 is damaged",
        ),
    ],
)
@pytest.mark.parametrize("precision", ["full", "nf4"])
def test_refused(original, tmp_path, change, message, precision):
    path = saved(change(original), tmp_path)
    with pytest.raises(CheckpointError, match=message) as raised:
        load_flux(path, torch.bfloat16, "x2i-tiny", precision, CPU)
    assert "tuned.safetensors" in str(raised.value)
    assert "\n" not in str(raised.value)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("change", "architecture", "message"),
    [
        (cut, "flux", r"flux\.gguf is cut or damaged"),
        (lambda path: path.write_bytes(b"GGUF" + bytes(40)), "flux", "is cut or damaged"),
        (lambda path: path.write_bytes(b""), "flux", r"flux\.gguf is empty"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "flux", "only a Git LFS pointer"),
        (lambda path: None, "llama", "is a GGUF file of llama, not of FLUX.1"),
    ],
    ids=["cut", "damaged", "empty", "pointer", "llama"],
)
def test_bad_gguf(original, tmp_path, change, architecture, message):
    write_gguf(tmp_path / "flux.gguf", original, Kind.Q8_0, architecture)
    change(tmp_path / "flux.gguf")
    for read in (load_transformer, lambda path, dtype, base: build_skeleton(base, flux=path, dtype=dtype)):
        with pytest.raises(CheckpointError, match=message) as raised:
            read(tmp_path / "flux.gguf", torch.float32, "x2i-tiny")
        assert "\n" not in str(raised.value)


def test_gguf_of_another_model(original, tmp_path):
    original.pop("double_blocks.1.img_mlp.0.bias")
    write_gguf(tmp_path / "flux.gguf", original, Kind.Q8_0)
    with pytest.raises(CheckpointError, match=r"flux\.gguf lacks transformer_blocks\.1\.ff\.net\.0\.proj\.bias"):
        load_transformer(tmp_path / "flux.gguf", torch.float32, "x2i-tiny")

"""FLUX.1 transformers in one safetensors file, under Black Forest Labs' names and under diffusers'."""

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers
from safetensors.torch import load_file, save_file

from x2i_app import load_pipeline
from x2i_app.errors import CheckpointError
from x2i_app.loading import flux_file, flux_names
from x2i_app.loading.flux import load_flux, load_transformer
from x2i_app.loading.sizes import build_skeleton
from x2i_app.settings import ASSETS

TINY = ASSETS / "x2i-tiny/transformer"


def original_names(weights):
    """A diffusers transformer's weights as Black Forest Labs would save them.

    It uses the table of the code in the other direction; `test_diffusers_converter` checks that table.
    """
    modules = {ours: theirs for theirs, ours in flux_names.TOP.items()}
    for theirs, (blocks, table) in flux_names.BLOCKS.items():
        numbers = {key.split(".")[1] for key in weights if key.startswith(f"{blocks}.")}
        for module, names in table.items():
            for number in numbers:
                modules[tuple(f"{blocks}.{number}.{name}" for name in names)] = f"{theirs}.{number}.{module}"
    original = {}
    for names, module in modules.items():
        for kind in ("weight", "bias"):
            if f"{names[0]}.{kind}" in weights:
                joined = torch.cat([weights[f"{name}.{kind}"] for name in names])
                original[f"{module}.{'scale' if module.endswith('_norm') else kind}"] = joined
    for kind in ("weight", "bias"):
        scale, shift = original[f"final_layer.adaLN_modulation.1.{kind}"].chunk(2)
        original[f"final_layer.adaLN_modulation.1.{kind}"] = torch.cat([shift, scale])
    return original


@pytest.fixture
def weights():
    return load_file(TINY / "diffusion_pytorch_model.safetensors")


@pytest.fixture
def save(tmp_path):
    def save(weights):
        save_file({key: value.contiguous() for key, value in weights.items()}, tmp_path / "tuned.safetensors")
        return tmp_path / "tuned.safetensors"

    return save


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_original_names(weights, save, prefix):
    """A file under the original names is the same transformer, also inside an all-in-one file."""
    original = {prefix + key: value for key, value in original_names(weights).items()}
    assert len(original) < len(weights)
    original |= {"vae.decoder.conv_in.weight": torch.zeros(1)} if prefix else {}  # an all-in-one file
    transformer, _, scheduler = load_flux(save(original), torch.float32, base="x2i-tiny")
    expected, _, base = load_flux("x2i-tiny", torch.float32)
    assert dict(transformer.config) | {"_name_or_path": ""} == dict(expected.config) | {"_name_or_path": ""}
    assert dict(scheduler.config) == dict(base.config)
    assert not transformer.training
    state_dict = transformer.state_dict()
    assert state_dict.keys() == weights.keys()
    assert all(torch.equal(state_dict[key], value.float()) for key, value in weights.items())


EIGHT_BIT = torch.float8_e4m3fn


def scaled(weights, name, hint, rows=False):
    """8-bit linear layers as in ComfyUI's files, with the older or the newer name of the scale.

    rows: one scale for each row. A layer also has an input scale and the newer files' description.
    """
    found = {}
    for key, value in weights.items():
        found[key] = value
        if key.endswith(".weight") and value.ndim == 2:
            most = value.float().abs().amax(dim=1, keepdim=True) if rows else value.float().abs().max()
            scale = most.clamp(min=1e-9) / torch.finfo(EIGHT_BIT).max
            found[key] = (value.float() / scale).to(EIGHT_BIT)
            module = key.removesuffix(".weight")
            found |= {f"{module}.{name}": scale, f"{module}.{hint}": torch.ones(())}
            if name == "weight_scale":
                found[f"{module}.comfy_quant"] = torch.tensor([*b'{"format": "float8_e4m3fn"}'], dtype=torch.uint8)
    return found


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda weights: {key: value.to(EIGHT_BIT) for key, value in weights.items()}, 0.04),
        (lambda weights: scaled(weights, "scale_weight", "scale_input") | {"scaled_fp8": torch.empty(2)}, 0.03),
        (lambda weights: scaled(weights, "weight_scale", "input_scale", rows=True), 0.03),
    ],
    ids=["plain", "scale_weight", "weight_scale"],
)
def test_eight_bit(weights, save, change, error):
    """8-bit floating point has 3 bits of mantissa, an error of 2.6 % on average; small numbers need a scale."""
    path = save({f"model.diffusion_model.{key}": value for key, value in change(original_names(weights)).items()})
    found = load_transformer(path, torch.float32, base="x2i-tiny").state_dict()
    assert found.keys() == weights.keys()
    for key, value in weights.items():
        if value.ndim == 2:
            assert 0 < (found[key] - value.float()).norm() / value.float().norm() < error


def test_diffusers_names(weights, save):
    transformer = load_transformer(save(weights), torch.float32, base="x2i-tiny")
    assert all(torch.equal(transformer.state_dict()[key], value.float()) for key, value in weights.items())


def test_diffusers_converter():
    """diffusers' own converter gives the same weights, at the width of 3072 that it takes for granted.

    The weights are only two columns wide, as it never looks at columns.
    """
    with torch.device("meta"):
        flux = FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=True)
    thin = {key: torch.randn(value.shape[0], 2) for key, value in flux.state_dict().items()}
    original = original_names(thin)
    parts, shapes = flux_file.find_parts(TINY, {key: tuple(value.shape) for key, value in original.items()})
    ours = {part.name: part.take(original[key]) for key, found in parts.items() for part in found}
    assert shapes == {key: tuple(value.shape) for key, value in ours.items()}
    theirs = convert_flux_transformer_checkpoint_to_diffusers(dict(original))
    assert ours.keys() == theirs.keys() == thin.keys()
    assert all(torch.equal(ours[key], theirs[key]) and torch.equal(ours[key], thin[key]) for key in thin)


def test_no_copies(weights, save):
    """Weights that are split stay slices of one storage, mapped from the file, which diffusers' converter copies."""
    original = original_names({key: value.bfloat16() for key, value in weights.items()})
    transformer = load_transformer(save(original), torch.bfloat16, base="x2i-tiny")
    for block in transformer.single_transformer_blocks:
        parts = (block.attn.to_q, block.attn.to_k, block.attn.to_v, block.proj_mlp)
        assert len({part.weight.untyped_storage().data_ptr() for part in parts}) == 1


def test_dev_schedule(weights, save):
    """A fine-tune of FLUX.1-dev, known by its guidance embedding, gets dev's schedule."""
    for number, columns in ((1, 256), (2, 192)):
        weights[f"time_text_embed.guidance_embedder.linear_{number}.weight"] = torch.zeros(192, columns)
        weights[f"time_text_embed.guidance_embedder.linear_{number}.bias"] = torch.zeros(192)
    transformer, _, scheduler = load_flux(save(original_names(weights)), torch.float32, base="x2i-tiny")
    assert transformer.config.guidance_embeds
    assert (scheduler.config.shift, scheduler.config.use_dynamic_shifting) == (3.0, True)


def drop(name):
    return lambda weights: weights.pop(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("double_blocks.1.img_attn.proj.bias"), r"lacks transformer_blocks.1.attn.to_out.0.bias \(192,\)"),
        (drop("img_in.weight"), "has neither img_in nor x_embedder; this is no FLUX.1 transformer"),
        (
            lambda weights: weights.update({"double_blocks.0.img_mlp.0.lora": torch.ones(1)}),
            "has double_blocks.0.img_mlp.0.lora, which no FLUX.1 transformer has; use the model in",
        ),
        (  # as bitsandbytes saves 4 bit, two numbers a byte
            lambda weights: weights.update({"img_in.weight": torch.zeros(192, 64, dtype=torch.uint8)}),
            r"quantized in a form that cannot be read \(img_in.weight is uint8\); use the model in bf16, fp16, fp8",
        ),
        (
            lambda weights: weights.update(
                {"img_in.weight": torch.ones(192, 64).to(torch.int8), "img_in.weight_scale": torch.ones(1)}
            ),
            r"\(img_in.weight is int8\)",
        ),
        (
            lambda weights: weights.update(
                {
                    "img_in.weight": torch.ones(192, 64).to(torch.float8_e4m3fn),
                    "img_in.weight_scale": torch.ones(192, 2),
                }
            ),
            r"the scale of img_in.weight has the shape \(192, 2\); expected one number for each row",
        ),
        (
            lambda weights: weights.update({"single_blocks.0.linear1.weight": torch.ones(9, 192)}),
            "single_blocks.0.linear1.weight has 9 rows; expected 3 times 192 or more",
        ),
        (  # a billion blocks would take for ever to build
            lambda weights: weights.update({"double_blocks.1000000000.img_mlp.0.bias": torch.ones(1)}),
            r"lacks transformer_blocks.2\.",
        ),
        (
            lambda weights: weights.update({"double_blocks.0.img_attn.norm.query_norm.scale": torch.ones(0)}),
            "sizes that make no FLUX.1 transformer|heads of 0 channels",
        ),
        (
            lambda weights: weights.update({"double_blocks.0.img_attn.norm.query_norm.scale": torch.ones(96)}),
            "has attention heads of 96 channels; its base model has ",
        ),
    ],
)
def test_bad_file(weights, save, change, message):
    original = original_names(weights)
    change(original)
    with pytest.raises(CheckpointError, match=message):
        load_transformer(save(original), torch.float32, base="x2i-tiny")


def test_unreadable_file(weights, save, tmp_path):
    path = save(weights)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"tuned.safetensors is cut or damaged"):
        load_transformer(path, torch.float32, base="x2i-tiny")
    with pytest.raises(CheckpointError, match=r"There is no file '.*none.safetensors'"):
        load_transformer(tmp_path / "none.safetensors", torch.float32, base="x2i-tiny")


def test_pipeline(weights, save):
    """A pipeline generates the same image with the file as with the folder."""
    images = []
    for flux in (None, save(original_names(weights))):
        pipe = load_pipeline("x2i-tiny", profile="cpu", flux=flux)
        generator = torch.Generator().manual_seed(0)
        out = pipe("a red house", width=64, height=64, num_inference_steps=2, generator=generator)
        images.append(out.images[0].tobytes())
    assert images[0] == images[1]


def test_fill(weights, save):
    """Fill can be the pipeline's own. A model that needs another image, such as Depth, can only be loaded alone."""
    weights["proj_out.weight"] = weights["proj_out.weight"].clone()
    weights["x_embedder.weight"] = torch.zeros(192, 384)  # as Fill's: latents, masked image and mask
    path = save(original_names(weights))
    assert load_pipeline("x2i-tiny", profile="cpu", flux=path).transformer.config.in_channels == 384
    assert build_skeleton("x2i-tiny", flux=path).transformer.config.in_channels == 384
    weights["x_embedder.weight"] = torch.zeros(192, 128)  # as Depth's: latents and an image
    path = save(original_names(weights))
    with pytest.raises(CheckpointError, match=r"tuned.safetensors is a FLUX model that needs another image besides"):
        load_pipeline("x2i-tiny", profile="cpu", flux=path)
    assert load_transformer(path, torch.float32, base="x2i-tiny").config.out_channels == 64

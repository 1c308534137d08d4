"""FLUX.1 in one safetensors file, under Black Forest Labs' names and under diffusers' own."""

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers
from safetensors.torch import load_file, save_file

from x2i_app import load_pipeline
from x2i_app.errors import CheckpointError
from x2i_app.loading.flux import load_flux, load_transformer
from x2i_app.loading.flux_file import to_diffusers
from x2i_app.settings import ASSETS

TINY = ASSETS / "x2i-tiny/transformer"
WIDTH = 3072  # which diffusers' own converter takes for granted

DOUBLE = {
    "img_mod.lin": ["norm1.linear"],
    "txt_mod.lin": ["norm1_context.linear"],
    "img_attn.qkv": ["attn.to_q", "attn.to_k", "attn.to_v"],
    "txt_attn.qkv": ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"],
    "img_attn.proj": ["attn.to_out.0"],
    "txt_attn.proj": ["attn.to_add_out"],
    "img_mlp.0": ["ff.net.0.proj"],
    "img_mlp.2": ["ff.net.2"],
    "txt_mlp.0": ["ff_context.net.0.proj"],
    "txt_mlp.2": ["ff_context.net.2"],
}
SINGLE = {
    "modulation.lin": ["norm.linear"],
    "linear1": ["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"],
    "linear2": ["proj_out"],
}
NORMS = {
    "double_blocks": {"img_attn.norm": ("norm_q", "norm_k"), "txt_attn.norm": ("norm_added_q", "norm_added_k")},
    "single_blocks": {"norm": ("norm_q", "norm_k")},
}
TOP = {"img_in": "x_embedder", "txt_in": "context_embedder", "final_layer.linear": "proj_out"}
EMBEDDERS = {"time_in": "timestep_embedder", "vector_in": "text_embedder", "guidance_in": "guidance_embedder"}


def original_names(weights):
    """A diffusers transformer's weights as Black Forest Labs would have saved them."""
    original = {}
    for kind in ("weight", "bias"):
        original |= {f"{theirs}.{kind}": weights[f"{ours}.{kind}"] for theirs, ours in TOP.items()}
        scale, shift = weights[f"norm_out.linear.{kind}"].chunk(2)
        original[f"final_layer.adaLN_modulation.1.{kind}"] = torch.cat([shift, scale])
        for theirs, ours in EMBEDDERS.items():
            for layer, number in (("in_layer", 1), ("out_layer", 2)):
                if (key := f"time_text_embed.{ours}.linear_{number}.{kind}") in weights:
                    original[f"{theirs}.{layer}.{kind}"] = weights[key]
        for theirs, ours, names in (
            ("double_blocks", "transformer_blocks", DOUBLE),
            ("single_blocks", "single_transformer_blocks", SINGLE),
        ):
            for i in range(sum(key.endswith("attn.norm_q.weight") and key.startswith(ours) for key in weights)):
                for module, parts in names.items():
                    joined = [weights[f"{ours}.{i}.{part}.{kind}"] for part in parts]
                    original[f"{theirs}.{i}.{module}.{kind}"] = torch.cat(joined)
                for module, (query, key) in NORMS[theirs].items():
                    original[f"{theirs}.{i}.{module}.query_norm.scale"] = weights[f"{ours}.{i}.attn.{query}.weight"]
                    original[f"{theirs}.{i}.{module}.key_norm.scale"] = weights[f"{ours}.{i}.attn.{key}.weight"]
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
def test_a_file_under_the_original_names_is_the_same_transformer(weights, save, prefix):
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


def scaled(weights, name, aside, rows=False):
    """8-bit linear layers as ComfyUI's files have them, under the older or the newer name of the scale."""
    found = {}
    for key, value in weights.items():
        found[key] = value
        if key.endswith(".weight") and value.ndim == 2:
            most = value.float().abs().amax(dim=1, keepdim=True) if rows else value.float().abs().max()
            scale = most.clamp(min=1e-9) / torch.finfo(EIGHT_BIT).max
            found[key] = (value.float() / scale).to(EIGHT_BIT)
            module = key.removesuffix(".weight")
            found |= {f"{module}.{name}": scale, f"{module}.{aside}": torch.ones(())}
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
def test_a_file_in_8_bit_floating_point_is_the_same_but_for_its_bits(weights, save, change, error):
    """3 bits after the point: 2.6 % of a number on average, and without scales all below 2 ** -9 is lost."""
    path = save({f"model.diffusion_model.{key}": value for key, value in change(original_names(weights)).items()})
    found = load_transformer(path, torch.float32, base="x2i-tiny").state_dict()
    assert found.keys() == weights.keys()
    for key, value in weights.items():
        if value.ndim == 2:
            assert 0 < (found[key] - value.float()).norm() / value.float().norm() < error


def test_a_gguf_file_is_refused_with_what_to_take_instead():
    for name in ("flux1-dev-Q4_K_S.gguf", "city96/FLUX.1-dev-gguf/flux1-dev-Q8_0.GGUF"):
        with pytest.raises(CheckpointError, match=r"is a GGUF file, and those are not read; take the same model as a"):
            load_transformer(name, torch.float32)


def test_a_file_under_diffusers_names_is_read_too(weights, save):
    transformer = load_transformer(save(weights), torch.float32, base="x2i-tiny")
    assert all(torch.equal(transformer.state_dict()[key], value.float()) for key, value in weights.items())


def test_the_names_are_those_that_diffusers_own_converter_gives():
    """At the width that it can convert; the weights are only two columns wide, as it never looks at columns."""
    with torch.device("meta"):
        flux = FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=True)
    thin = {key: torch.randn(value.shape[0], 2) for key, value in flux.state_dict().items()}
    original = original_names(thin)
    ours = to_diffusers(TINY, dict(original))
    theirs = convert_flux_transformer_checkpoint_to_diffusers(dict(original))
    assert ours.keys() == theirs.keys() == thin.keys()
    assert all(torch.equal(ours[key], theirs[key]) and torch.equal(ours[key], thin[key]) for key in thin)


def test_a_fine_tune_of_dev_takes_devs_schedule(weights, save):
    for number, columns in ((1, 256), (2, 192)):
        weights[f"time_text_embed.guidance_embedder.linear_{number}.weight"] = torch.zeros(192, columns)
        weights[f"time_text_embed.guidance_embedder.linear_{number}.bias"] = torch.zeros(192)
    transformer, _, scheduler = load_flux(save(original_names(weights)), torch.float32, base="x2i-tiny")
    assert transformer.config.guidance_embeds
    assert (scheduler.config.shift, scheduler.config.use_dynamic_shifting) == (3.0, True)


def drop(name):
    return lambda weights: weights.pop(name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop("double_blocks.1.img_attn.proj.bias"), r"lacks transformer_blocks.1.attn.to_out.0.bias \(192,\)"),
        (drop("img_in.weight"), "has neither img_in nor x_embedder; it is no FLUX.1 transformer"),
        (
            lambda weights: weights.update({"double_blocks.0.img_mlp.0.lora": torch.ones(1)}),
            "has double_blocks.0.img_mlp.0.lora, which no FLUX.1 transformer has; single files can be read",
        ),
        (  # as bitsandbytes saves 4 bit, two numbers a byte
            lambda weights: weights.update({"img_in.weight": torch.zeros(9, 1, dtype=torch.uint8)}),
            r"quantised in a way that is not read here \(img_in.weight is uint8\); take the model's file in 16",
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
            r"the scale of img_in.weight has the shape \(192, 2\); expected one number a row",
        ),
        (
            lambda weights: weights.update({"single_blocks.0.linear1.weight": torch.ones(9, 192)}),
            "single_blocks.0.linear1.weight has 9 rows, which is not 3 times 192 and more",
        ),
    ],
)
def test_a_file_that_is_no_whole_flux_is_refused(weights, save, change, words):
    original = original_names(weights)
    change(original)
    with pytest.raises(CheckpointError, match=words):
        load_transformer(save(original), torch.float32, base="x2i-tiny")


def test_a_cut_file_and_another_kind_of_file_are_refused(weights, save, tmp_path):
    path = save(weights)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"tuned.safetensors is cut or damaged"):
        load_transformer(path, torch.float32, base="x2i-tiny")
    with pytest.raises(CheckpointError, match=r"There is no file '.*none.safetensors'"):
        load_transformer(tmp_path / "none.safetensors", torch.float32, base="x2i-tiny")


def test_a_pipeline_draws_with_it_what_it_draws_with_the_folder(weights, save):
    images = []
    for flux in (None, save(original_names(weights))):
        pipe = load_pipeline("x2i-tiny", profile="cpu", flux=flux)
        generator = torch.Generator().manual_seed(0)
        out = pipe("a red house", width=64, height=64, num_inference_steps=2, generator=generator)
        images.append(out.images[0].tobytes())
    assert images[0] == images[1]


def test_a_flux_that_reads_a_image_too_is_not_taken_for_one_that_draws_from_words(weights, save):
    weights["x_embedder.weight"] = torch.zeros(192, 384)  # as Fill's: latents, masked picture and mask
    weights["proj_out.weight"] = weights["proj_out.weight"].clone()
    path = save(original_names(weights))
    with pytest.raises(CheckpointError, match=r"tuned.safetensors is a FLUX model that also reads a picture, as Fill"):
        load_pipeline("x2i-tiny", profile="cpu", flux=path)
    assert load_transformer(path, torch.float32, base="x2i-tiny").config.out_channels == 64

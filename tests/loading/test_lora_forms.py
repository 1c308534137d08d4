"""LoRA files of every trainer and form do what the change that they describe does when it is added to the weights."""

import json

import pytest
import torch
from safetensors.torch import save_file

from x2i_app import load_pipeline
from x2i_app.errors import CheckpointError
from x2i_app.loading import use_loras
from x2i_app.loading.lora_file import read_lora
from x2i_app.loading.quantization import dense_weight
from x2i_app.notes import LORA_EMBEDDINGS, LORA_GUIDANCE, LORA_TEXT_ENCODERS, LORA_USED, Note

SMALL = {"width": 64, "height": 64, "num_inference_steps": 1}
DOUBLE, SINGLE = "transformer_blocks.1", "single_transformer_blocks.2"
QKV = ("to_q", "to_k", "to_v")
LAYERS = (f"{DOUBLE}.attn.to_k", f"{DOUBLE}.ff.net.0.proj", f"{SINGLE}.proj_out", "x_embedder")
RANK, ALPHA = 4, 3.0


@pytest.fixture
def same_as(pipeline, draw):
    """A function that compares the image of a file with that of changed weights. changes: by the parameter's name."""

    def compare(file, changes, weight=1.0):
        use_loras(pipeline, [(file, weight)])
        found = draw()
        use_loras(pipeline, [])
        bare = draw()
        parameters = {name: pipeline.transformer.get_parameter(name) for name in changes}
        before = {name: parameter.clone() for name, parameter in parameters.items()}
        try:
            for name, parameter in parameters.items():
                parameter.data += weight * changes[name]
            wanted = draw()
        finally:
            for name, parameter in parameters.items():
                parameter.data.copy_(before[name])
        torch.testing.assert_close(found, wanted, atol=2e-4, rtol=2e-4)
        assert (wanted - bare).abs().max() > 0.01

    return compare


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape))) / 8


def sizes(pipeline, layer):
    module = pipeline.transformer.get_submodule(layer)
    return module.out_features, module.in_features


def low_rank(pipeline, layers=LAYERS):
    """(down, up) of each layer."""
    found = {}
    for seed, layer in enumerate(layers):
        out, width = sizes(pipeline, layer)
        found[layer] = 4 * numbers(RANK, width, seed=seed), 4 * numbers(out, RANK, seed=seed)
    return found


def deltas(found, scale=1.0):
    return {f"{layer}.weight": scale * up @ down for layer, (down, up) in found.items()}


# ----- Names ---------------------------------------------------------------------------------------------------------

UNDERSCORED = "{flat}.lora_down.weight", "{flat}.lora_up.weight", "{flat}.alpha"
NAMES = {
    "diffusers": ("transformer.{layer}.lora_A.weight", "transformer.{layer}.lora_B.weight", None),
    "diffusers before peft": ("transformer.{layer}.lora.down.weight", "transformer.{layer}.lora.up.weight", None),
    "peft": ("base_model.model.{layer}.lora_A.weight", "base_model.model.{layer}.lora_B.weight", None),
    "peft, named": (
        "base_model.model.{layer}.lora_A.style.weight",
        "base_model.model.{layer}.lora_B.style.weight",
        None,
    ),
    "diffsynth": ("{layer}.lora_A.default.weight", "{layer}.lora_B.default.weight", None),
    "comfyui": ("diffusion_model.{layer}.lora_A.weight", "diffusion_model.{layer}.lora_B.weight", None),
    "comfyui, alpha": (
        "diffusion_model.{layer}.lora_down.weight",
        "diffusion_model.{layer}.lora_up.weight",
        "diffusion_model.{layer}.alpha",
    ),
    "onetrainer": tuple(f"lora_transformer_{each}" for each in UNDERSCORED),
    "kohya": tuple(f"lora_unet_{each}" for each in UNDERSCORED),
    "lycoris": tuple(f"lycoris_{each}" for each in UNDERSCORED),
    "ai-toolkit, alpha": (
        "transformer.{layer}.lora_A.weight",
        "transformer.{layer}.lora_B.weight",
        "transformer.{layer}.alpha",
    ),
}


def written(found, form, dtype=torch.float32):
    down_name, up_name, alpha_name = NAMES[form]
    weights = {}
    for layer, (down, up) in found.items():
        names = {"layer": layer, "flat": layer.replace(".", "_")}
        weights[down_name.format(**names)] = down.to(dtype)
        weights[up_name.format(**names)] = up.to(dtype)
        if alpha_name:
            weights[alpha_name.format(**names)] = torch.tensor(ALPHA)
    return weights


@pytest.mark.parametrize("form", NAMES)
def test_names(pipeline, same_as, tmp_path, form):
    """Each trainer's names for the same low-rank change, with alpha / rank where the file has an alpha."""
    found = low_rank(pipeline)
    save_file(written(found, form), tmp_path / "a.safetensors")
    same_as(tmp_path / "a.safetensors", deltas(found, ALPHA / RANK if NAMES[form][2] else 1.0))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float16])
def test_small_numbers(pipeline, same_as, tmp_path, dtype):
    found = {layer: (down.to(dtype).float(), up.to(dtype).float()) for layer, (down, up) in low_rank(pipeline).items()}
    save_file(written(found, "diffusers", dtype), tmp_path / "a.SAFETENSORS")
    same_as(tmp_path / "a.SAFETENSORS", deltas(found))


# Black Forest Labs' name of a layer -> diffusers' layers, whose rows it has one after the other.
JOINED = {
    "double_blocks.1.img_attn.qkv": [f"{DOUBLE}.attn.{part}" for part in QKV],
    "double_blocks.1.txt_attn.qkv": [f"{DOUBLE}.attn.add_{part[-1]}_proj" for part in QKV],
    "single_blocks.2.linear1": [*(f"{SINGLE}.attn.{part}" for part in QKV), f"{SINGLE}.proj_mlp"],
    "double_blocks.1.img_mod.lin": [f"{DOUBLE}.norm1.linear"],
    "img_in": ["x_embedder"],
}


def joined(pipeline):
    """(down, up) under the names of Black Forest Labs, and the changes under those of diffusers."""
    found, changes = {}, {}
    for seed, (theirs, ours) in enumerate(JOINED.items()):
        rows = [sizes(pipeline, layer)[0] for layer in ours]
        found[theirs] = (
            4 * numbers(RANK, sizes(pipeline, ours[0])[1], seed=seed),
            4 * numbers(sum(rows), RANK, seed=seed),
        )
        changes |= dict(
            zip((f"{layer}.weight" for layer in ours), deltas(found)[f"{theirs}.weight"].split(rows), strict=True)
        )
    return found, changes


@pytest.mark.parametrize("form", ["kohya", "comfyui", "peft"])
def test_joined_layers(pipeline, same_as, tmp_path, form):
    found, changes = joined(pipeline)
    save_file(written(found, form), tmp_path / "a.safetensors")
    scale = ALPHA / RANK if NAMES[form][2] else 1.0
    same_as(tmp_path / "a.safetensors", {name: scale * change for name, change in changes.items()})


def test_last_layer(pipeline, same_as, tmp_path):
    """diffusers has scale and shift of the last layer in the other order."""
    out, width = sizes(pipeline, "norm_out.linear")
    down, up = 8 * numbers(RANK, width), 8 * numbers(out, RANK)
    save_file(written({"final_layer.adaLN_modulation.1": (down, up)}, "kohya"), tmp_path / "a.safetensors")
    shift, scale = (ALPHA / RANK * up @ down).chunk(2)
    same_as(tmp_path / "a.safetensors", {"norm_out.linear.weight": torch.cat([scale, shift])})


def test_xlabs(pipeline, same_as, tmp_path):
    """XLabs has one name for each attention; in a single block it leaves the MLP out."""
    names = {
        "double_blocks.1.processor.qkv_lora1": [f"{DOUBLE}.attn.{part}" for part in QKV],
        "double_blocks.1.processor.proj_lora2": [f"{DOUBLE}.attn.to_add_out"],
        "single_blocks.2.processor.qkv_lora": [f"{SINGLE}.attn.{part}" for part in QKV],
        "single_blocks.2.processor.proj_lora": [f"{SINGLE}.proj_out"],
    }
    weights, changes = {}, {}
    for seed, (theirs, ours) in enumerate(names.items()):
        rows = [sizes(pipeline, layer)[0] for layer in ours]
        down, up = 4 * numbers(RANK, sizes(pipeline, ours[0])[1], seed=seed), 4 * numbers(sum(rows), RANK, seed=seed)
        weights |= {f"{theirs}.down.weight": down, f"{theirs}.up.weight": up}
        changes |= dict(zip((f"{layer}.weight" for layer in ours), (up @ down).split(rows), strict=True))
    save_file(weights, tmp_path / "a.safetensors")
    same_as(tmp_path / "a.safetensors", changes)


def test_parts_of_joined_layers(pipeline, same_as, tmp_path):
    """OneTrainer numbers the parts of the layers that Black Forest Labs joins."""
    ours = {"double_blocks.1.img_attn.qkv.1": f"{DOUBLE}.attn.to_k", "single_blocks.2.linear1.3": f"{SINGLE}.proj_mlp"}
    found = low_rank(pipeline, ours.values())
    theirs = {name: found[layer] for name, layer in ours.items()}
    save_file(written(theirs, "diffusers"), tmp_path / "a.safetensors")
    same_as(tmp_path / "a.safetensors", deltas(found))


@pytest.mark.parametrize(("is_rslora", "scale"), [(False, ALPHA / RANK), (True, ALPHA / RANK**0.5)])
def test_peft_folder(pipeline, same_as, tmp_path, is_rslora, scale):
    """A folder that PEFT wrote says alpha, and the alphas of single layers, in a file beside the weights."""
    found = low_rank(pipeline)
    save_file(written(found, "peft"), tmp_path / "adapter_model.safetensors")
    config = {"r": RANK, "lora_alpha": ALPHA, "use_rslora": is_rslora, "alpha_pattern": {"attn.to_k": 1}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    changes = deltas(found, scale)
    changes[f"{LAYERS[0]}.weight"] *= 1 / ALPHA
    same_as(tmp_path, changes)


# ----- Other ways to write a change ----------------------------------------------------------------------------------


def loha(out, width, seed=0):
    parts = [numbers(out, RANK, seed=seed), numbers(RANK, width, seed=seed)]
    parts += [numbers(out, RANK, seed=seed + 1), numbers(RANK, width, seed=seed + 1)]
    tensors = dict(zip(("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), (6 * part for part in parts), strict=True))
    return tensors | {"alpha": torch.tensor(ALPHA)}, ALPHA / RANK * 6**4 * (parts[0] @ parts[1]) * (parts[2] @ parts[3])


def lokr(out, width, splits=(), seed=0):
    """splits: which of the two factors are written as products. Only these have a rank, so that alpha counts."""
    tensors, factors = {"alpha": torch.tensor(ALPHA)}, []
    for kind, shape in (("lokr_w1", (4, 6)), ("lokr_w2", (out // 4, width // 6))):
        if kind in splits:
            tensors |= {
                f"{kind}_a": 4 * numbers(shape[0], RANK, seed=seed),
                f"{kind}_b": 4 * numbers(RANK, shape[1], seed=seed),
            }
            factors.append(tensors[f"{kind}_a"] @ tensors[f"{kind}_b"])
        else:
            tensors[kind] = 4 * numbers(*shape, seed=seed)
            factors.append(tensors[kind])
    return tensors, (ALPHA / RANK if splits else 1.0) * torch.kron(*factors)


MATRICES = {
    "loha": loha,
    "lokr": lokr,
    "lokr, second split": lambda *size: lokr(*size, splits=("lokr_w2",)),
    "lokr, both split": lambda *size: lokr(*size, splits=("lokr_w1", "lokr_w2")),
    "whole": lambda *size: ({"diff": numbers(*size)}, numbers(*size)),
}


@pytest.mark.parametrize("way", MATRICES)
def test_matrices(pipeline, same_as, tmp_path, way):
    """On a layer of diffusers, on one that Black Forest Labs joins, and on the one that it orders otherwise."""
    layers = {f"lycoris_{DOUBLE}.attn.to_k".replace(".", "_"): [f"{DOUBLE}.attn.to_k"]}
    layers["lora_unet_single_blocks_2_linear1"] = JOINED["single_blocks.2.linear1"]
    layers["diffusion_model.final_layer.adaLN_modulation.1"] = ["norm_out.linear"]
    weights, changes = {}, {}
    for theirs, ours in layers.items():
        rows = [sizes(pipeline, layer)[0] for layer in ours]
        tensors, change = MATRICES[way](sum(rows), sizes(pipeline, ours[0])[1])
        weights |= {f"{theirs}.{kind}": value for kind, value in tensors.items()}
        change = change.roll(len(change) // 2, 0) if theirs.endswith("adaLN_modulation.1") else change
        changes |= dict(zip((f"{layer}.weight" for layer in ours), change.split(rows), strict=True))
    save_file(weights, tmp_path / "a.safetensors")
    same_as(tmp_path / "a.safetensors", changes, weight=0.7)


@pytest.mark.parametrize("axis", [1, 0], ids=["rows", "columns"])
@pytest.mark.parametrize("way", ["low rank", "loha"])
@pytest.mark.parametrize("kind", ["dora_scale", "lora_magnitude_vector.default.weight"])
def test_dora(pipeline, same_as, tmp_path, axis, way, kind):
    """Each row, or each column, of weight + change gets the length of the file."""
    weights, changes = {}, {}
    for theirs, ours in (
        ("double_blocks.1.img_attn.qkv", JOINED["double_blocks.1.img_attn.qkv"]),
        (LAYERS[1], LAYERS[1:2]),
    ):
        modules = [pipeline.transformer.get_submodule(layer) for layer in ours]
        weight = torch.cat([module.weight.data for module in modules])
        if way == "loha":
            tensors, change = loha(*weight.shape)
        else:
            tensors = {
                "lora_down.weight": 4 * numbers(RANK, weight.shape[1]),
                "lora_up.weight": numbers(len(weight), RANK),
            }
            change = tensors["lora_up.weight"] @ tensors["lora_down.weight"]
        lengths = weight.norm(dim=axis, keepdim=True) * (1 + numbers(*weight.norm(dim=axis, keepdim=True).shape))
        tensors[kind] = lengths.flatten() if axis == 1 and kind != "dora_scale" else lengths
        changed = weight + change
        difference = lengths * changed / changed.norm(dim=axis, keepdim=True) - weight
        weights |= {f"{theirs}.{name}": value for name, value in tensors.items()}
        rows = [module.out_features for module in modules]
        changes |= dict(zip((f"{layer}.weight" for layer in ours), difference.split(rows), strict=True))
    save_file(weights, tmp_path / "a.safetensors")
    same_as(tmp_path / "a.safetensors", changes, weight=0.5)


def test_dora_of_last_layer(pipeline, same_as, tmp_path):
    """The lengths are those of the file's rows, which diffusers has in another order."""
    weight = pipeline.transformer.get_submodule("norm_out.linear").weight.data
    weight, half = weight.roll(len(weight) // 2, 0), len(weight) // 2
    down, up = 4 * numbers(RANK, weight.shape[1]), 4 * numbers(len(weight), RANK)
    lengths = weight.norm(dim=1, keepdim=True) * torch.linspace(0.5, 2, len(weight))[:, None]
    names = {"lora_down.weight": down, "lora_up.weight": up, "dora_scale": lengths}
    save_file({f"final_layer.adaLN_modulation.1.{kind}": value for kind, value in names.items()}, tmp_path / "a.sft")
    changed = weight + up @ down
    difference = lengths * changed / changed.norm(dim=1, keepdim=True) - weight
    same_as(tmp_path / "a.sft", {"norm_out.linear.weight": difference.roll(half, 0)})


def test_biases_and_norms(pipeline, same_as, tmp_path):
    """Differences of biases and norms; a norm may also be written whole, as Black Forest Labs do in theirs."""
    found = low_rank(pipeline, LAYERS[:1])
    norm = pipeline.transformer.get_parameter(f"{DOUBLE}.attn.norm_q.weight")
    bias, scale = numbers(sizes(pipeline, LAYERS[1])[0]), numbers(len(norm))
    weights = written(found, "comfyui") | {
        f"diffusion_model.{LAYERS[1]}.diff_b": bias,
        "diffusion_model.double_blocks.1.img_attn.norm.query_norm.scale": norm.data + scale,
        "diffusion_model.double_blocks.1.txt_attn.norm.key_norm.scale.diff": scale,
        f"lycoris_{SINGLE.replace('.', '_')}_attn_norm_k.w_norm": 2 * scale,
        f"diffusion_model.{LAYERS[0]}.lora_B.bias": numbers(sizes(pipeline, LAYERS[0])[0]),
    }
    save_file(weights, tmp_path / "a.safetensors")
    changes = deltas(found) | {
        f"{LAYERS[1]}.bias": bias,
        f"{DOUBLE}.attn.norm_q.weight": scale,
        f"{DOUBLE}.attn.norm_added_k.weight": scale,
        f"{SINGLE}.attn.norm_k.weight": 2 * scale,
        f"{LAYERS[0]}.bias": numbers(sizes(pipeline, LAYERS[0])[0]),
    }
    same_as(tmp_path / "a.safetensors", changes, weight=-0.5)


@pytest.mark.parametrize(("profile", "alike"), [("24gb", 0.95), ("8gb", 0.9)])
def test_quantized_dora(pipeline, conditioning, tmp_path, profile, alike):
    """DoRA needs the lengths of the quantized weights; also after a CPU has repacked them in the first pass."""
    weights = {}
    for layer, (down, up) in low_rank(pipeline, LAYERS[:3]).items():
        weight = pipeline.transformer.get_submodule(layer).weight.data
        weights |= {f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}
        weights[f"{layer}.dora_scale"] = 1.5 * weight.norm(dim=1, keepdim=True)
    save_file(weights, tmp_path / "a.safetensors")

    def changed(pipe):
        drawn = []
        for loras in ([], [(tmp_path / "a.safetensors", 1.0)], []):
            use_loras(pipe, loras)
            given = {
                "conditioning": conditioning,
                "output_type": "latent",
                "generator": torch.Generator().manual_seed(0),
            }
            drawn.append(pipe(**SMALL, **given).images)
        assert torch.equal(drawn[0], drawn[2])
        return (drawn[1] - drawn[0]).flatten()

    small = load_pipeline("x2i-tiny", profile=profile, device="cpu")
    assert torch.cosine_similarity(changed(small), changed(pipeline), dim=0) > alike
    for layer in LAYERS[:3]:
        weight, found = (
            pipeline.transformer.get_submodule(layer).weight,
            dense_weight(small.transformer.get_submodule(layer)),
        )
        assert (found - weight).norm() < 0.12 * weight.norm()


# ----- What is not used is told --------------------------------------------------------------------------------------


def test_unused_parts(pipeline, draw, tmp_path):
    """Layers of CLIP, T5 and guidance, and trained words: the rest is used."""
    found = low_rank(pipeline)
    weights = written(found, "kohya")
    for name in ("te1_text_model_encoder_layers_0_self_attn_q_proj", "te3_encoder_block_0_layer_0_SelfAttention_q"):
        weights |= {f"lora_{name}.lora_down.weight": torch.ones(2, 8), f"lora_{name}.lora_up.weight": torch.ones(8, 2)}
    weights["text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_A.weight"] = torch.ones(2, 8)
    for layer in ("lora_unet_guidance_in_in_layer", "transformer.time_text_embed.guidance_embedder.linear_1"):
        weights |= {f"{layer}.lora_down.weight": torch.ones(2, 8), f"{layer}.lora_up.weight": torch.ones(8, 2)}
    weights["bundle_emb.style.clip_l"] = torch.ones(2, 8)
    save_file(weights, tmp_path / "a.safetensors")
    notes = use_loras(pipeline, [(tmp_path / "a.safetensors", 1)])
    counts = {LORA_USED: len(LAYERS), LORA_TEXT_ENCODERS: 5, LORA_GUIDANCE: 4, LORA_EMBEDDINGS: 1}
    assert set(notes) == {Note(template, name="a.safetensors", count=count) for template, count in counts.items()}
    output = pipeline(prompt="a red house", **SMALL)
    assert output.notes[-len(notes) :] == notes
    use_loras(pipeline, [(tmp_path / "a.safetensors", 0)])
    assert pipeline.lora_notes == ()


def text_encoders_only(_):
    return {"lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(2, 8)}


def with_key(key, *shape):
    return lambda found: written(found, "diffusers") | {key: torch.ones(shape or (4, 4))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (text_encoders_only, "holds nothing for FLUX's transformer"),
        (with_key("transformer_blocks.0.attn.to_q.oft_blocks"), "is OFT"),
        (with_key("lycoris_transformer_blocks_0_attn_to_q.a1.weight"), "is GLoRA"),
        (with_key("transformer_blocks.0.attn.to_q.lokr_t2"), "LoKr of convolutions"),
        (with_key("double_blocks.0.processor.ip_adapter_double_stream_k_proj.weight"), "is an IP-Adapter"),
        (with_key("unet.down_blocks.0.attentions.0.proj_in.lora_A.weight"), "has unet.down_blocks.*fits no layer"),
        (with_key("lora_unet_double_blocks_19_img_attn_qkv.lora_down.weight"), "has lora_unet_double_blocks_19"),
        (with_key("transformer_blocks.0.attn.to_q.lokr_w1"), "lokr_w1 lacks the other matrices"),
        (with_key("transformer_blocks.0.attn.to_q.diff", 192, 191), r"shape \(192, 191\)"),
        (with_key("transformer_blocks.0.attn.to_q.diff_b", 191), r"shape \(191,\)"),
        (with_key("transformer_blocks.0.attn.to_q.alpha", 1), "alpha without a matrix"),
        (with_key("transformer.x_embedder.lora_down.weight"), "for one layer; keep one"),
        (
            lambda found: {key: value.to(torch.int8) for key, value in written(found, "diffusers").items()},
            "of the type int8",
        ),
    ],
)
def test_refused(pipeline, draw, tmp_path, change, message):
    """One sentence that names the file and its key, and nothing has changed."""
    before = draw()
    save_file(change(low_rank(pipeline)), tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=message) as raised:
        use_loras(pipeline, [(tmp_path / "a.safetensors", 1)])
    assert str(raised.value).startswith("a.safetensors")
    assert "\n" not in str(raised.value)
    assert torch.equal(draw(), before)


def test_hostile_config(pipeline, tmp_path):
    """Of a file's own configuration only alphas are read, and never as a regular expression."""
    found = low_rank(pipeline, LAYERS[:1])
    hostile = {"transformer.lora_alpha": RANK, "transformer.modules_to_save": ["proj_out"]}
    hostile["transformer.alpha_pattern"] = {"(" + "a*" * 50 + "b": 1}
    metadata = {"lora_adapter_metadata": json.dumps(hostile)}
    save_file(written(found, "diffusers"), tmp_path / "a.safetensors", metadata=metadata)
    (change,) = read_lora(tmp_path / "a.safetensors", pipeline.transformer).changes[LAYERS[0]]
    torch.testing.assert_close(change.matrix(), deltas(found)[f"{LAYERS[0]}.weight"])

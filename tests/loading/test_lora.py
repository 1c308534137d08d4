"""LoRAs in diffusers' and kohya's formats: applied with a weight, mixed, removed without a trace; bad files refused."""

import pickle

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from measures import stripedness
from PIL import Image
from safetensors.torch import save_file

from x2i_app import load_pipeline
from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.limits import LIMITS
from x2i_app.loading import use_loras
from x2i_app.loading.lora import check_lora, find_lora, read_lora
from x2i_app.notes import LORA_USED, Note
from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.settings import ASSETS, Settings

SMALL = {"width": 64, "height": 64, "num_inference_steps": 1}
STRIPED = ASSETS / "examples/loras/striped.safetensors"
LAYERS = ("transformer_blocks.0.attn.to_q", "transformer_blocks.1.ff.net.2", "single_transformer_blocks.3.proj_out")


def matrices(pipeline, seed, layers=LAYERS, rank=4):
    """Low-rank matrices (down, up) for some layers of the transformer."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name in layers:
        layer = pipeline.transformer.get_submodule(name)
        layer = getattr(layer, "base_layer", layer)
        down = torch.randn(rank, layer.in_features, generator=generator) / rank
        found[name] = down, torch.randn(layer.out_features, rank, generator=generator) / rank
    return found


def as_diffusers(found):
    named = {f"transformer.{name}.lora_A.weight": down for name, (down, _) in found.items()}
    return named | {f"transformer.{name}.lora_B.weight": up for name, (_, up) in found.items()}


def expected(pipeline, draw, changes):
    """The latents when the weights themselves are changed. changes: what is added, by layer."""
    use_loras(pipeline, [])
    layers = {name: pipeline.transformer.get_submodule(name).weight for name in changes}
    before = {name: weight.clone() for name, weight in layers.items()}
    for name, weight in layers.items():
        weight.data += changes[name]
    drawn = draw()
    for name, weight in layers.items():
        weight.data.copy_(before[name])
    return drawn


def products(found, scale=1.0):
    return {name: scale * up @ down for name, (down, up) in found.items()}


def test_weight(pipeline, draw, tmp_path):
    """A LoRA adds weight * B @ A to each layer; with weight 0, or removed, nothing has changed."""
    bare, found = draw(), matrices(pipeline, 1)
    save_file(as_diffusers(found), tmp_path / "a.safetensors")
    for weight in (1.0, 0.5, -0.5):
        wanted = expected(pipeline, draw, products(found, weight))
        use_loras(pipeline, [(tmp_path / "a.safetensors", weight)])
        torch.testing.assert_close(draw(), wanted, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(wanted, bare, atol=1e-2)
    use_loras(pipeline, [(tmp_path / "a.safetensors", 0)])
    torch.testing.assert_close(draw(), bare)
    use_loras(pipeline, [])
    assert torch.equal(draw(), bare)
    assert not any(module._forward_hooks for module in pipeline.transformer.modules())


def test_mix(pipeline, draw, tmp_path):
    """Two LoRAs add up, and one of them can be removed."""
    found = [matrices(pipeline, 1), matrices(pipeline, 2, LAYERS[:2], rank=2)]
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for file, one in zip(files, found, strict=True):
        save_file(as_diffusers(one), file)
    changes = products(found[0], 0.5)
    for name, change in products(found[1], 0.8).items():
        changes[name] = changes[name] + change
    wanted = expected(pipeline, draw, changes)
    single = expected(pipeline, draw, products(found[1]))
    use_loras(pipeline, [(files[0], 0.5), (files[1], 0.8)])
    torch.testing.assert_close(draw(), wanted, atol=1e-4, rtol=1e-4)
    use_loras(pipeline, [(files[1], 1)])
    assert pipeline.lora_notes == (Note(LORA_USED, name="b.safetensors", count=2),)
    torch.testing.assert_close(draw(), single, atol=1e-4, rtol=1e-4)


def test_same_file_twice(pipeline, draw, tmp_path):
    """The weights of a file that comes twice add up, also if it is a copy with another name."""
    found = matrices(pipeline, 1)
    for name in "ab":
        save_file(as_diffusers(found), tmp_path / f"{name}.safetensors")
    wanted = expected(pipeline, draw, products(found, 0.3 + 0.4))
    for second in "ab":
        use_loras(pipeline, [(tmp_path / "a.safetensors", 0.3), (tmp_path / f"{second}.safetensors", 0.4)])
        torch.testing.assert_close(draw(), wanted, atol=1e-4, rtol=1e-4)


def test_loaded_once(pipeline, draw, tmp_path):
    """A file that acts already is not loaded again; its weight can change."""
    found = matrices(pipeline, 1)
    save_file(as_diffusers(found), tmp_path / "a.safetensors")
    use_loras(pipeline, [(tmp_path / "a.safetensors", 1)])
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr("x2i_app.loading.lora.read_lora")
        use_loras(pipeline, [(tmp_path / "a.safetensors", 0.5)])
    latents = draw()
    torch.testing.assert_close(latents, expected(pipeline, draw, products(found, 0.5)), atol=1e-4, rtol=1e-4)


def test_bundled_style(pipeline):
    """The bundled LoRA adds stripes, the more the larger its weight."""
    use_loras(pipeline, [])
    conditioning = pipeline.encode(prompt="a large red house in the middle, on grass by day")

    def stripes():
        generator = torch.Generator().manual_seed(1)
        given = {"width": 128, "height": 128, "num_inference_steps": 4}
        return stripedness(pipeline(conditioning=conditioning, **given, generator=generator).images[0])

    found = []
    for weight in (0, 0.5, 1):
        use_loras(pipeline, [(STRIPED, weight)])
        found.append(stripes())
    use_loras(pipeline, [])
    assert abs(found[0]) < 0.03 < 0.07 < found[1] < 0.25 < found[2]
    assert stripes() == found[0]


def test_kohya(pipeline, draw, tmp_path):
    """kohya's format has one matrix for query, key and value together, and an alpha: the scale is alpha / rank."""
    block = pipeline.transformer.transformer_blocks[0]
    width, rank, alpha = block.attn.to_q.weight.shape[0], 4, 2.0
    generator = torch.Generator().manual_seed(3)
    down, up = torch.randn(rank, width, generator=generator), torch.randn(3 * width, rank, generator=generator) / 8
    name = "lora_unet_double_blocks_0_img_attn_qkv"
    weights = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(alpha)}
    save_file(weights, tmp_path / "kohya.safetensors")
    parts = (alpha / rank * up @ down).chunk(3)
    layers = [f"transformer_blocks.0.attn.{part}" for part in ("to_q", "to_k", "to_v")]
    wanted = expected(pipeline, draw, dict(zip(layers, parts, strict=True)))
    use_loras(pipeline, [(tmp_path / "kohya.safetensors", 1)])
    torch.testing.assert_close(draw(), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("is_rslora", "divisor"), [(False, 4), (True, 2)])
def test_alpha_in_config(pipeline, draw, tmp_path, is_rslora, divisor):
    """The alphas of the file's own configuration: alpha / rank, or alpha / sqrt(rank) for rsLoRA, here of rank 4.

    Weights for a text encoder are left out.
    """
    found = matrices(pipeline, 4)
    layers = {key.removeprefix("transformer."): value for key, value in as_diffusers(found).items()}
    text = {"text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(2, 8)}
    config = {"r": 4, "lora_alpha": 3, "alpha_pattern": {LAYERS[0]: 1}, "use_rslora": is_rslora}
    FluxPipeline.save_lora_weights(tmp_path, layers, text, transformer_lora_adapter_metadata=config)
    changes = products(found, 3 / divisor)
    changes[LAYERS[0]] = products(found, 1 / divisor)[LAYERS[0]]
    wanted = expected(pipeline, draw, changes)
    use_loras(pipeline, [(tmp_path, 1)])
    torch.testing.assert_close(draw(), wanted, atol=1e-4, rtol=1e-4)


def edited(change):
    def write(path, pipeline):
        weights = as_diffusers(matrices(pipeline, 1))
        change(weights)
        save_file(weights, path)

    return write


NAME = f"transformer.{LAYERS[0]}"


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.bin", lambda path, _: torch.save({}, path), "is no .safetensors file; other files may hold code"),
        ("a.pt", lambda path, _: path.write_bytes(pickle.dumps(print)), "is no .safetensors file"),
        ("a.safetensors", lambda path, _: path.write_bytes(pickle.dumps(print)), "cut or damaged"),
        ("a.safetensors", lambda path, _: path.write_bytes(b""), "is empty"),
        ("a.safetensors", lambda path, _: None, "There is no LoRA"),
        ("a.safetensors", lambda path, _: save_file({"weight": torch.ones(1)}, path), "has .*weight|holds nothing"),
        ("a.safetensors", edited(lambda w: w.update({f"{NAME}.lora_A.weight": torch.ones(4, 7)})), r"shape \(192, 7\)"),
        ("a.safetensors", edited(lambda w: w.update({f"{NAME}.lora_B.weight": torch.ones(9, 4)})), r"shape \(9, 192\)"),
        ("a.safetensors", edited(lambda w: w.pop(f"{NAME}.lora_A.weight")), "lacks the other matrices"),
        (
            "a.safetensors",
            edited(lambda w: w.update({"transformer.x.lora_A.weight": torch.ones(2, 2)})),
            "fits no layer",
        ),
        (
            "a.safetensors",
            edited(lambda w: w.update({f"{NAME}.lora_A.weight": torch.full((4, 192), float("nan"))})),
            "not finite numbers",
        ),
        (
            "a.safetensors",
            # diffusers' conversion would double this alpha without end.
            lambda path, _: save_file(
                {
                    "lora_unet_double_blocks_0_img_attn_proj.lora_down.weight": torch.ones(2, 192),
                    "lora_unet_double_blocks_0_img_attn_proj.lora_up.weight": torch.ones(192, 2),
                    "lora_unet_double_blocks_0_img_attn_proj.alpha": torch.tensor(-1.0),
                },
                path,
            ),
            "must be one number above 0",
        ),
        (
            "a.safetensors",
            lambda path, pipeline: save_file(as_diffusers(matrices(pipeline, 1, LAYERS[:1], rank=513)), path),
            "has the rank 513 and 512 is allowed",
        ),
        (
            "a.safetensors",
            edited(lambda w: w.update({str(number): torch.ones(1) for number in range(4995)})),
            "has 5,001 tensors and 5,000 are allowed",
        ),
        ("a.safetensors", edited(lambda w: w.update({f"{NAME}.dora_scale": torch.ones(4)})), r"shape \(4,\)"),
        (
            "a.safetensors",
            lambda path, pipeline: save_file(
                as_diffusers(matrices(pipeline, 1)), path, metadata={"lora_adapter_metadata": "[1"}
            ),
            "metadata is damaged",
        ),
    ],
)
def test_bad_file(pipeline, draw, tmp_path, name, write, message):
    """A file that is no LoRA for this model is refused by its name alone, and nothing has changed."""
    save_file(as_diffusers(matrices(pipeline, 5)), tmp_path / "good.safetensors")
    use_loras(pipeline, [(tmp_path / "good.safetensors", 1)])
    before = draw()
    write(tmp_path / name, pipeline)
    with pytest.raises(CheckpointError, match=message) as raised:
        use_loras(pipeline, [(tmp_path / name, 1)])
    assert "\n" not in str(raised.value)
    assert str(tmp_path) not in str(raised.value)
    assert torch.equal(draw(), before)


def test_largest_rank(pipeline, tmp_path):
    save_file(as_diffusers(matrices(pipeline, 1, LAYERS[:1], rank=LIMITS.lora_rank)), tmp_path / "a.safetensors")
    lora = read_lora(tmp_path / "a.safetensors", pipeline.transformer)
    assert lora.changes[LAYERS[0]][0].down.shape[0] == LIMITS.lora_rank


def test_engine(pipeline, tmp_path):
    """Each request is drawn with its own LoRAs."""
    file = tmp_path / "a.safetensors"
    save_file(as_diffusers(matrices(pipeline, 1)), file)
    engine = Engine(Settings(profile="cpu"))
    engine.start()
    try:
        drawn = []
        for loras in ((), ((file, 1.0),), ((file, 0.3),), ()):
            request = GenerationRequest("a red house", seed=1, loras=loras, **SMALL)
            drawn.append(np.asarray(engine.submit(request).wait(300).images[0]))
        bad = GenerationRequest("a red house", seed=1, loras=((tmp_path / "none.safetensors", 1),), **SMALL)
        with pytest.raises(CheckpointError, match="There is no LoRA"):
            engine.submit(bad).wait(300)
    finally:
        engine.close()
    assert np.array_equal(drawn[0], drawn[3])
    assert not np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[1], drawn[2])
    assert Image.fromarray(drawn[0]).size == (64, 64)


@pytest.mark.parametrize(
    ("loras", "message"),
    [
        ("a.safetensors", "must be a list"),
        (("a.safetensors",), "each entry must be a file and a weight"),
        ((("a.safetensors", 3),), "weight of a LoRA is 3; it must be -2 to 2"),
        ((("a.safetensors", "1"),), "must be a number"),
        ((("a.safetensors", 1),) * 5, "5 loras were given; at most 4 are allowed"),
    ],
)
def test_bad_request(loras, message):
    with pytest.raises(InvalidRequestError, match=message):
        GenerationRequest("a house", loras=loras)


@pytest.mark.parametrize(("profile", "alike"), [("24gb", 0.95), ("8gb", 0.9)])
def test_quantized(pipeline, conditioning, tmp_path, profile, alike):
    """A LoRA acts on quantized weights as on others, and leaves them as they were."""
    save_file(as_diffusers(matrices(pipeline, seed=5)), tmp_path / "a.safetensors")

    def changed(pipe):
        drawn = []
        for loras in ([], [(tmp_path / "a.safetensors", 1.0)], []):
            use_loras(pipe, loras)
            generator = torch.Generator().manual_seed(0)
            given = {"conditioning": conditioning, "output_type": "latent", "generator": generator}
            drawn.append(pipe(**SMALL, **given).images)
        assert torch.equal(drawn[0], drawn[2])
        return (drawn[1] - drawn[0]).flatten()

    small = load_pipeline("x2i-tiny", profile=profile, device="cpu")
    assert torch.cosine_similarity(changed(small), changed(pipeline), dim=0) > alike


# ----- The check of an upload ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.pt", lambda path: path.write_bytes(STRIPED.read_bytes()), r"a\.pt is no \.safetensors file"),
        ("a.safetensors", lambda path: path.write_bytes(STRIPED.read_bytes()[:5000]), "is cut or damaged"),
        ("a.safetensors", lambda path: path.write_bytes(b"\x80\x04\x95" + bytes(40)), "is cut or damaged"),
        ("a.safetensors", lambda path: path.write_bytes(b""), "is empty"),
        (
            "a.safetensors",
            lambda path: save_file({str(n): torch.ones(1) for n in range(5001)}, path),
            "has 5,001 tensors and 5,000 are allowed",
        ),
        ("a.safetensors", lambda path: None, r"There is no LoRA 'a\.safetensors'"),
        ("a.safetensors", lambda path: path.mkdir(), "There is no LoRA"),
    ],
    ids=["pickle", "cut", "disguised", "empty", "crowded", "gone", "folder"],
)
def test_check_refuses(tmp_path, name, write, message):
    """The error names the file without its folder."""
    write(tmp_path / name)
    with pytest.raises(CheckpointError, match=message) as raised:
        check_lora(tmp_path / name)
    assert str(tmp_path) not in str(raised.value)


def test_check_accepts(tmp_path):
    """A complete file is accepted, and exactly as many tensors as are allowed."""
    check_lora(STRIPED)
    save_file({str(n): torch.ones(1) for n in range(LIMITS.lora_tensors)}, tmp_path / "a.safetensors")
    check_lora(tmp_path / "a.safetensors")


# ----- LoRAs of the hub ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["artist/style", "artist/style:pytorch_lora_weights.safetensors"])
def test_hub(hub, pipeline, name):
    """OWNER/NAME takes the file with a usual name, OWNER/NAME:FILE any other; the second time nothing is asked for."""
    hub.add("artist/style", files={"pytorch_lora_weights.safetensors": STRIPED.read_bytes(), "README.md": b"# Style"})
    use_loras(pipeline, [(name, 1)])
    assert pipeline.lora_notes == (Note(LORA_USED, name="pytorch_lora_weights.safetensors", count=40),)
    asked = len(hub.asked)
    assert find_lora("artist/style").read_bytes() == STRIPED.read_bytes()
    assert len(hub.asked) == asked
    use_loras(pipeline, [])


def test_hub_has_several(hub, tmp_path):
    """Which one is the user's choice; a folder with the repository's name in the models folder is taken first."""
    hub.add("artist/styles", files={f"{name}.safetensors": STRIPED.read_bytes() for name in ("ink", "oil")})
    with pytest.raises(CheckpointError, match=r"artist/styles has 2 .*\(ink.safetensors, oil.safetensors\)"):
        find_lora("artist/styles")
    assert find_lora("artist/styles:ink.safetensors").name == "ink.safetensors"
    (tmp_path / "models/styles").mkdir(parents=True)
    (tmp_path / "models/styles/wash.safetensors").write_bytes(STRIPED.read_bytes())
    assert find_lora("artist/styles", tmp_path / "models").name == "wash.safetensors"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("artist/none", "has no such repository"),
        ("artist/words", r"artist/words has 0 \.safetensors files"),
        ("artist/words:a.safetensors", "artist/words has no a.safetensors"),
        ("artist/words:../a.safetensors", r"no '\.\.' in it"),
        ("loras/style.safetensors", r"There is no LoRA 'style\.safetensors'"),
    ],
)
def test_hub_has_none(hub, name, message):
    hub.add("artist/words", files={"README.md": b"# Words"})
    with pytest.raises(CheckpointError, match=message):
        find_lora(name)

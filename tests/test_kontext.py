"""FLUX.1 Kontext: a reference image that the result keeps to, on x2i-tiny's transformer, which has Kontext's shape."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxKontextPipeline
from PIL import Image, ImageChops

from x2i_app import load_pipeline
from x2i_app.cli import main
from x2i_app.errors import InvalidRequestError
from x2i_app.media import Prepared, describe, read_recipe, save_image
from x2i_app.media.inpaint_source import extend_source
from x2i_app.models import cached_blocks, negative_rows
from x2i_app.presets import FLUX_MODELS, is_kontext
from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.settings import ASSETS, Settings

BOAT = ASSETS / "examples/images/boat-at-sunset.png"
QUICK = {"num_inference_steps": 2}


def generator():
    return torch.Generator().manual_seed(1)


@pytest.fixture(scope="module")
def pipe():
    return load_pipeline("x2i-tiny", profile="cpu", kontext=True)


@pytest.fixture(scope="module")
def photo():
    return Image.open(BOAT).convert("RGB").resize((300, 200))


@pytest.fixture(scope="module")
def conditioning(pipe):
    return pipe.encode("a red house")


@pytest.fixture(scope="module")
def engine():
    engine = Engine(Settings(profile="cpu", kontext=True))
    engine.start()
    yield engine
    engine.close()


class TestPipeline:
    def test_it_is_the_bare_pipeline(self, pipe, conditioning, photo):
        """Bitwise, at the size that suits the reference; the PIL output has the reference's own size."""
        given = QUICK | {"width": 144, "height": 96, "max_area": 144 * 96, "_auto_resize": False}
        small = photo.resize((144, 96), Image.Resampling.LANCZOS)
        bare = pipe.drawing_pipeline(FluxKontextPipeline)
        expected = bare(**conditioning.embeds, image=small, generator=generator(), output_type="latent", **given)
        given = QUICK | {"conditioning": conditioning, "reference": photo}
        got = pipe(**given, generator=generator(), output_type="latent")
        assert torch.equal(got.images, expected.images)
        without = pipe(conditioning=conditioning, width=144, height=96, **QUICK, generator=generator())
        image = pipe(**given, generator=generator()).images[0]
        assert image.size == (300, 200)
        assert ImageChops.difference(image.resize((144, 96)), without.images[0]).getextrema()[0][1] > 20
        assert pipe(**given, width=64, height=96, generator=generator()).images[0].size == (64, 96)

    def test_the_mllm_reads_it_too(self, pipe, photo):
        given = {"reference": photo, "width": 64, "height": 64, "num_inference_steps": 1, "output_type": "latent"}
        drawn, with_image, without_image = (
            pipe(**given, **conversation, generator=generator()).images
            for conversation in (
                {"prompt": "make it night"},
                {"conditioning": pipe.encode("make it night", images=[photo])},
                {"conditioning": pipe.encode("make it night")},
            )
        )
        assert torch.equal(drawn, with_image)
        assert not torch.equal(drawn, without_image)

    def test_only_masked_pixels_change(self, pipe, conditioning, photo):
        """What is drawn of the source is the reference then; another reference is read in its own shape."""
        mask = Image.new("L", photo.size)
        mask.paste(255, (100, 50, 150, 100))
        source = extend_source(photo, mask, (0, 0, 0, 0))
        given = QUICK | {"conditioning": conditioning, "inpaint_source": source}
        drawn = [
            pipe(**given, reference=reference, generator=generator()).images[0]
            for reference in (photo, photo.rotate(90, expand=True), None)
        ]
        for image in drawn:
            assert ImageChops.difference(image, photo).getbbox() == (100, 50, 150, 100)
        assert len({image.tobytes() for image in drawn}) == 3

    @pytest.mark.parametrize("count", [0, 2])
    def test_one_reference(self, pipe, photo, count):
        with pytest.raises(InvalidRequestError, match=f"^{count} reference images were given"):
            pipe("x", reference=[photo] * count)

    def test_other_models_have_no_reference(self, pipe, photo):
        pipe.register_to_config(takes_reference=False)
        try:
            with pytest.raises(InvalidRequestError, match="cannot keep to a reference image; load FLUX"):
                pipe("x", reference=photo)
        finally:
            pipe.register_to_config(takes_reference=True)


class TestNegativePrompt:
    def test_it_reads_its_own_rows(self, pipe, conditioning):
        """However long: neither prompt is padded. At a scale of almost 1 it changes almost nothing."""
        negative = pipe.encode("a green tree and a yellow house on grass")
        assert negative.prompt_embeds.shape[1] > conditioning.prompt_embeds.shape[1]
        given = QUICK | {"conditioning": conditioning, "width": 64, "height": 64, "output_type": "latent"}
        pipe.register_to_config(true_cfg=True)
        try:
            plain, faint, strong = (
                pipe(**given, generator=generator(), **guided).images
                for guided in (
                    {},
                    {"negative_conditioning": negative, "true_cfg_scale": 1.0001},
                    {"negative_prompt": "a green tree and a yellow house on grass", "true_cfg_scale": 3},
                )
            )
            same = pipe(**given, negative_conditioning=conditioning, true_cfg_scale=3, generator=generator()).images
        finally:
            pipe.register_to_config(true_cfg=False)
        assert torch.allclose(plain, faint, atol=5e-3)
        assert (plain - strong).abs().max() > 0.1
        assert torch.allclose(plain, same, atol=1e-3)

    def test_rows_of_one_shape_are_given_as_they_are(self, pipe, conditioning):
        rows = torch.ones_like(conditioning.prompt_embeds)
        with negative_rows(pipe.transformer, conditioning.prompt_embeds, rows) as given:
            assert given is rows

    def test_what_is_left_out_of_it_is_told(self, pipe):
        given = QUICK | {"width": 64, "height": 64, "output_type": "latent"}
        pipe.register_to_config(true_cfg=True)
        try:
            signs, plain, nothing, without = (
                pipe("a house", **given, **guided, generator=generator())
                for guided in (
                    {"negative_prompt": "(rain:1.2) {fog|fog}"},
                    {"negative_prompt": "rain fog"},
                    {"negative_prompt": "embedding:bad-hands", "true_cfg_scale": 3},
                    {},
                )
            )
        finally:
            pipe.register_to_config(true_cfg=False)
        assert torch.equal(signs.images, plain.images)
        assert torch.equal(nothing.images, without.images)
        told = {"(rain:1.2)": signs, "choices filled in: rain fog": signs, "embedding:bad-hands is left out": nothing}
        for part, told_by in told.items():
            for each in (signs, plain, nothing, without):
                found = [note for note in each.notes if part in note]
                assert len(found) == (each is told_by)
                assert all(note.startswith("Negative prompt: ") for note in found)

    def test_few_step_models_say_so(self, pipe, engine):
        with pytest.raises(InvalidRequestError, match="cannot follow a negative prompt"):
            pipe("x", negative_prompt="a tree")
        schnell = Engine(Settings(preset="qwen2.5-vl-3b", flux="flux.1-schnell"))
        with pytest.raises(InvalidRequestError, match=r"flux\.1-schnell cannot follow a negative prompt"):
            schnell.submit(GenerationRequest("x", negative_prompt="a tree"))
        assert {name for name, flux in FLUX_MODELS.items() if flux.true_cfg} >= {"flux.1-dev", "flux.1-krea-dev"}

    def test_a_scale_needs_one(self, pipe):
        for ask in (lambda **given: pipe("x", **given), lambda **given: GenerationRequest("x", **given)):
            with pytest.raises(InvalidRequestError, match="true_cfg_scale is 3, but there is no negative_prompt"):
                ask(true_cfg_scale=3)


@pytest.mark.parametrize("negative", [None, "a green tree"])
def test_fast_skips_blocks(pipe, conditioning, photo, negative):
    """Also with a reference and a negative prompt, whose pipelines have no cache of their own in diffusers."""
    passes = []
    hook = pipe.transformer.single_transformer_blocks[-1].attn.register_forward_pre_hook(lambda *_: passes.append(1))
    given = {"conditioning": conditioning, "num_inference_steps": 20, "width": 64, "height": 64}
    given |= {"negative_prompt": negative, "reference": photo} if negative else {}
    pipe.register_to_config(true_cfg=True)
    try:
        whole = pipe(**given, generator=generator()).images[0]
        needed = len(passes)
        fast = pipe(**given, fast=True, generator=generator()).images[0]
        assert len(passes) - needed < 0.75 * needed
        passes.clear()
        assert pipe(**given, generator=generator()).images[0].tobytes() == whole.tobytes()  # it is off again
        assert len(passes) == needed
    finally:
        pipe.register_to_config(true_cfg=False)
        hook.remove()
    assert np.abs(np.asarray(whole, dtype=int) - np.asarray(fast)).mean() < 6


def test_each_prompt_has_a_cache_of_its_own(pipe, conditioning):
    """A step like the one before takes its result, of the same prompt, whatever the other prompt's call was between.

    With one cache for both, the calls take turns in it: none is skipped, or one takes the other's result.
    """
    other = replace(conditioning, prompt_embeds=-3 * conditioning.prompt_embeds)
    calls, passes = [], []
    transformer = pipe.transformer
    hook = transformer.register_forward_pre_hook(lambda _module, _args, kwargs: calls.append(kwargs), with_kwargs=True)
    pipe(conditioning=conditioning, num_inference_steps=1, width=64, height=64, output_type="latent")
    hook.remove()
    hook = transformer.single_transformer_blocks[-1].attn.register_forward_pre_hook(lambda *_: passes.append(1))
    steps = [calls[0] | {"encoder_hidden_states": each.prompt_embeds} for each in (conditioning, other)]
    try:
        with torch.no_grad():
            uncached = [transformer(**step)[0] for step in steps]
            passes.clear()
            with cached_blocks(transformer, other.prompt_embeds):
                for _ in range(3):
                    for step, expected in zip(steps, uncached, strict=True):
                        torch.testing.assert_close(transformer(**step)[0], expected, atol=1e-5, rtol=1e-5)
    finally:
        hook.remove()
    assert not torch.allclose(*uncached, atol=0.1)
    assert len(passes) == len(steps), "one whole pass for each prompt, in the first step"


class TestWhichModelsAreKontext:
    @pytest.mark.parametrize(
        ("flux", "told", "expected"),
        [
            ("flux.1-kontext-dev", None, True),
            ("black-forest-labs/FLUX.1-Kontext-dev", None, True),
            ("owner/My-Kontext-Tune", None, True),
            ("models/flux1-kontext-dev-fp8.safetensors", None, True),
            ("flux.1-dev", None, False),
            ("flux.1-dev", True, True),
            ("flux.1-kontext-dev", False, False),
            ("owner/flux", None, False),
        ],
    )
    def test_by_name_or_by_the_user(self, flux, told, expected):
        assert is_kontext(flux, told) is expected

    def test_by_the_pipeline_of_a_folder(self, tmp_path):
        assert not is_kontext(tmp_path)
        (tmp_path / "model_index.json").write_text("[]", encoding="utf-8")
        assert not is_kontext(tmp_path)
        (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "FluxKontextPipeline"}), encoding="utf-8")
        assert is_kontext(tmp_path)


class TestRequest:
    def test_it_is_one_of_the_images(self):
        assert GenerationRequest(reference="a.png").images == ("a.png",)
        assert GenerationRequest(images=["a.png"], reference=Path("a.png")).images == ("a.png",)
        assert GenerationRequest(images=["b.png"], reference=["a.png"]).images == ("a.png", "b.png")
        assert GenerationRequest("x", reference="a.png", mask="m.png").source == "a.png"

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"reference": ["a.png", "b.png"]}, "2 reference images were given"),
            ({"reference": "a.png", "strength": 0.5}, "leave one of them out, or add a mask"),
            ({"negative_prompt": 5}, "negative_prompt is 5; it must be text"),
            ({"negative_prompt": "x", "true_cfg_scale": 11}, "true_cfg_scale is 11; it must be 1 to 10"),
            ({"fast": "yes"}, "fast is 'yes'; it must be true or false"),
        ],
    )
    def test_bad_input(self, fields, message):
        with pytest.raises(InvalidRequestError, match=message):
            GenerationRequest("x", **fields)

    def test_one_file_is_decoded_once(self, photo):
        mask = Image.new("L", photo.size, 255)
        request = GenerationRequest("x", images=[str(BOAT)], reference=BOAT, mask=mask)
        prepared = Prepared.of(request, FLUX_MODELS["x2i-tiny"], seed=0)
        assert prepared.reference is prepared.source is prepared.inpaint_source.original
        assert prepared.turns[-1].images[0] is prepared.reference

    def test_a_reference_of_60_megapixels_is_scaled_down(self, engine, tmp_path):
        """The result has the size to which it is scaled, and one note says so, also if it is edited."""
        Image.new("RGB", (8000, 7500), (200, 40, 40)).save(tmp_path / "large.jpg")
        request = GenerationRequest("make it night", reference=tmp_path / "large.jpg", seed=1, num_inference_steps=1)
        prepared = Prepared.of(request, engine.flux, seed=1)
        width, height = prepared.reference.size
        assert 10e6 < width * height <= 25e6
        expected = f"An image of 8,000 x 7,500 pixels was scaled down to {width:,} x {height:,}."
        assert prepared.notes == (expected,)
        edited = replace(request, outpaint=(0, 0, 16, 0))
        assert Prepared.of(edited, engine.flux, seed=1).notes == (expected,)

    def test_metadata(self, engine, photo, tmp_path):
        """The reference comes back as one of the images, also if the file was saved again."""
        photo.save(tmp_path / "photo.png")
        request = GenerationRequest("make it night", reference=tmp_path / "photo.png", seed=1, **QUICK)
        result = engine.submit(request).wait(300)
        assert result.images[0].size == (300, 200)
        save_image(result.images[0], tmp_path / "out.png", describe(result, engine.settings)[0])
        recipe = read_recipe(tmp_path / "out.png")
        assert recipe.with_known([tmp_path / "photo.png"]).reference == tmp_path / "photo.png"
        photo.save(tmp_path / "other.bmp")
        again = recipe.with_files(images=[tmp_path / "other.bmp"])
        assert again.reference == tmp_path / "other.bmp"
        assert engine.submit(again).wait(300).images[0].tobytes() == result.images[0].tobytes()


def test_other_models_refuse_it_before_they_draw():
    with pytest.raises(InvalidRequestError, match="cannot keep to a reference image"):
        Engine(Settings()).submit(GenerationRequest("x", reference=BOAT))


def test_cli_and_rows(photo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    photo.save("photo.png")
    flags = ["--kontext", "yes", "--steps", "2", "--seed", "1"]
    more = ["--prompt", "make it night", "--reference", "photo.png"]
    assert main(["generate", *flags, *more, "--output", "out.png"]) == 0
    row = {"id": "row", "prompt": "make it night", "reference": "photo.png"}
    Path("rows.jsonl").write_text(json.dumps(row), encoding="utf-8")
    assert main(["batch", *flags, "--input", "rows.jsonl", "--output", "out"]) == 0
    one, other = Image.open("out.png"), Image.open("out/row.png")
    assert one.size == (300, 200)
    assert one.tobytes() == other.tobytes()
    capsys.readouterr()
    assert main(["generate", *more, "--reference", "photo.png"]) == 2
    assert "2 reference images were given" in capsys.readouterr().err

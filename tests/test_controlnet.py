"""ControlNet with a tiny FluxControlNetModel: bare pipelines' results, edges of a photo, every way to ask for it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxControlNetImg2ImgPipeline, FluxControlNetInpaintPipeline, FluxControlNetModel
from diffusers import FluxControlNetPipeline as ControlNetPipeline
from factories import save_controlnet
from PIL import Image, ImageChops, ImageDraw

from x2i_app import load_pipeline
from x2i_app.cli import main
from x2i_app.controlnet import CONTROLNET_KINDS, ControlNetInput, kind_of
from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.loading.depth import DepthEstimator, find_depth_model, shows_depth
from x2i_app.loading.memory import plan_of
from x2i_app.loading.plan import Planner
from x2i_app.media import Prepared, describe, read_recipe, save_image
from x2i_app.media.canny import canny_edges
from x2i_app.media.inpaint_source import extend_source
from x2i_app.presets import FLUX_MODELS, MEMORY_PROFILES
from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.settings import ASSETS, Settings
from x2i_app.ui.http.openai_fields import FieldError, ImageCall

BOAT = ASSETS / "examples/images/boat-at-sunset.png"
QUICK = {"num_inference_steps": 2, "output_type": "latent"}


def generator():
    return torch.Generator().manual_seed(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    plain = load_pipeline("x2i-tiny", profile="cpu")
    return save_controlnet(plain.transformer, tmp_path_factory.mktemp("controlnet") / "tiny-canny")


@pytest.fixture(scope="module")
def pipe(folder):
    return load_pipeline("x2i-tiny", profile="cpu", controlnet=folder)


@pytest.fixture(scope="module")
def conditioning(pipe):
    return pipe.encode("a red house")


@pytest.fixture(scope="module")
def photo():
    return Image.open(BOAT).convert("RGB").resize((300, 200))


@pytest.fixture(scope="module")
def engine(folder):
    engine = Engine(Settings(profile="cpu", controlnet=str(folder)))
    engine.start()
    yield engine
    engine.close()


class TestPipeline:
    def test_it_is_the_bare_pipeline(self, pipe, conditioning, photo):
        given = QUICK | {"width": 96, "height": 64}
        edges = canny_edges(photo.resize((96, 64), Image.Resampling.LANCZOS))
        options = {"controlnet_conditioning_scale": 0.8, "control_guidance_start": 0.0, "control_guidance_end": 0.5}
        bare = pipe.drawing_pipeline(ControlNetPipeline, controlnet=pipe.controlnet)
        given["guidance_scale"] = pipe.config.guidance_scale
        expected = bare(
            **conditioning.embeds,
            control_image=edges,
            generator=generator(),
            **given,
            **options,
        )
        steered = ControlNetInput(photo, strength=0.8, end=0.5)
        got = pipe(conditioning=conditioning, controlnet=steered, generator=generator(), **given)
        assert torch.equal(got.images, expected.images)
        free = pipe(conditioning=conditioning, generator=generator(), **given).images
        assert not torch.equal(got.images, free)
        off = pipe(conditioning=conditioning, controlnet=replace(steered, strength=0), generator=generator(), **given)
        assert torch.equal(off.images, free)

    @pytest.mark.parametrize("is_inpainting", [True, False])
    def test_it_follows_the_part_that_is_drawn(self, pipe, conditioning, photo, is_inpainting):
        """The image is scaled to the source, and cut as the source is."""
        mask = None
        if is_inpainting:
            mask = Image.new("L", photo.size)
            mask.paste(255, (100, 50, 140, 90))
        source = extend_source(photo, mask, (0, 0, 0, 0)).with_area(pipe.resolution)
        size, (left, top, right, bottom) = source.area.size, source.area.box
        large = photo.resize((600, 400), Image.Resampling.LANCZOS)
        part = large.resize((300, 200), Image.Resampling.LANCZOS).crop((left, top, right, bottom))
        image, drawn_mask = source.drawn()
        cls = FluxControlNetInpaintPipeline if is_inpainting else FluxControlNetImg2ImgPipeline
        expected = pipe.drawing_pipeline(cls, controlnet=pipe.controlnet)(
            **conditioning.embeds,
            image=image,
            **({"mask_image": drawn_mask} if is_inpainting else {}),
            strength=0.9,
            control_image=part.resize(size, Image.Resampling.LANCZOS),
            controlnet_conditioning_scale=1.0,
            width=size[0],
            height=size[1],
            guidance_scale=pipe.config.guidance_scale,
            generator=generator(),
            **QUICK,
        )
        got = pipe(
            conditioning=conditioning,
            inpaint_source=source,
            strength=0.9,
            controlnet=ControlNetInput(large, "depth"),
            generator=generator(),
            **QUICK,
        )
        assert torch.equal(got.images, expected.images)

    def test_a_controlnet_for_several_kinds_is_told_which(self, pipe, conditioning, photo, tmp_path):
        union = save_controlnet(pipe.transformer, tmp_path / "union", num_mode=4)
        steered = load_pipeline("x2i-tiny", profile="cpu", controlnet=union)
        given = QUICK | {"conditioning": conditioning, "width": 64, "height": 64}
        with pytest.raises(InvalidRequestError, match="set controlnet_kind to one of canny, edges, tile, depth, blur"):
            steered(controlnet=ControlNetInput(photo), **given)
        drawn = [
            steered(controlnet=ControlNetInput(photo, kind), generator=generator(), **given).images
            for kind in ("depth", "tile")
        ]
        assert not torch.equal(*drawn)

    def test_what_cannot_be_combined(self, pipe, photo):
        steered = ControlNetInput(photo)
        with pytest.raises(InvalidRequestError, match="fast skips the parts of FLUX that a ControlNet acts on"):
            pipe("x", controlnet=steered, fast=True)
        bare = load_pipeline("x2i-tiny", profile="cpu", kontext=True)
        with pytest.raises(InvalidRequestError, match="No ControlNet is loaded"):
            bare("x", controlnet=steered)
        pipe.register_to_config(takes_reference=True, true_cfg=True)
        try:
            with pytest.raises(InvalidRequestError, match="keeps to a reference or follows a ControlNet, not both"):
                pipe("x", controlnet=steered, reference=photo, num_inference_steps=1)
            source = extend_source(photo, None, (0, 0, 0, 0))
            with pytest.raises(InvalidRequestError, match="cannot follow a negative prompt while an image is edited"):
                pipe("x", controlnet=steered, inpaint_source=source, negative_prompt="y")
        finally:
            pipe.register_to_config(takes_reference=False, true_cfg=False)

    def test_it_comes_back_from_a_folder(self, pipe, conditioning, photo, tmp_path):
        pipe.save_pretrained(tmp_path)
        again = type(pipe).from_pretrained(tmp_path)
        given = QUICK | {"conditioning": conditioning, "width": 64, "height": 64}
        drawn = [
            each(controlnet=ControlNetInput(photo), generator=generator(), **given).images for each in (pipe, again)
        ]
        assert torch.equal(*drawn)

    def test_the_memory_plan_counts_it(self, pipe):
        planner = plan_of(pipe)
        for offload in ("none", "model", "group"):
            plan = planner.plan(MEMORY_PROFILES["8gb"], offload)
            part = next(part for part in plan.parts if part.name == "controlnet")
            assert part.precision == "nf4"
            assert plan.peaks["encode"] >= part.bytes

    @pytest.mark.parametrize("sizes", [{}, {"num_mode": 4}, {"conditioning_embedding_channels": 16, "patch_size": 2}])
    def test_the_memory_plan_counts_what_it_does(self, pipe, tmp_path, sizes):
        """At one megapixel its residuals count. They are planned as they are measured on the meta device."""
        planner = plan_of(pipe, 1024, 1024)
        parts = planner.parts
        if sizes:
            other = save_controlnet(pipe.transformer, tmp_path / "other", **sizes)
            with torch.device("meta"):
                config = FluxControlNetModel.load_config(other)
                parts = parts._replace(controlnet=FluxControlNetModel.from_config(config).to(torch.float32))
        bare = Planner(parts._replace(controlnet=None, light_control=None), 1024, 1024)
        steered = Planner(parts._replace(light_control=None), 1024, 1024)
        plain, needed = (each.plan(MEMORY_PROFILES["full"], "none") for each in (bare, steered))
        controlnet = next(part for part in needed.parts if part.name == "controlnet")
        residual = 4 * 64 * 64 * pipe.transformer.inner_dim  # bytes of one block's, of 4096 tokens in 32 bit
        more = needed.peaks["denoise"] - plain.peaks["denoise"] - controlnet.bytes
        # One that shrinks its image itself has 16 channels of each pixel for a moment, twice.
        own = 2 * 4 * 16 * 1024**2 if "patch_size" in sizes else 4 * 3 * 1024**2
        assert 2 * residual <= more < 3 * residual + own
        assert needed.peaks["decode"] == plain.peaks["decode"] + controlnet.bytes


class TestLoading:
    def test_of_another_flux_model(self, pipe, tmp_path):
        other = save_controlnet(pipe.transformer, tmp_path / "other", joint_attention_dim=32)
        with pytest.raises(CheckpointError, match="ControlNet has 32 as its joint_attention_dim, but the FLUX model"):
            load_pipeline("x2i-tiny", profile="cpu", controlnet=other)

    def test_a_file_is_none(self, folder, tmp_path):
        file = shutil.copy(folder / "diffusion_pytorch_model.safetensors", tmp_path / "canny.safetensors")
        with pytest.raises(CheckpointError, match=r"canny\.safetensors is a file, and a ControlNet is a folder"):
            load_pipeline("x2i-tiny", profile="cpu", controlnet=file)

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("InstantX/FLUX.1-dev-Controlnet-Canny", "canny"),
            ("Shakker-Labs/FLUX.1-dev-ControlNet-Depth@main", "depth"),
            ("Shakker-Labs/FLUX.1-dev-ControlNet-Union-Pro", None),
            ("/canny/models/mine", None),
        ],
    )
    def test_kind_by_name(self, name, kind):
        assert kind_of(name) == kind


class TestEdges:
    def test_of_a_square(self):
        """One closed row of white pixels around it, wherever it is; none in a plain image."""
        image = Image.new("RGB", (64, 48), (40, 40, 160))
        ImageDraw.Draw(image).rectangle((20, 10, 40, 30), fill=(220, 200, 40))
        edges = np.asarray(canny_edges(image))
        rows, columns = np.nonzero(edges[..., 0])
        assert set(np.unique(edges)) == {0, 255}
        assert rows.min() in (9, 10)
        assert rows.max() in (30, 31)
        assert columns.min() in (19, 20)
        assert columns.max() in (40, 41)
        assert 60 < len(rows) < 120  # a thin one: the square has a circumference of 80
        assert not np.asarray(canny_edges(Image.new("RGB", (32, 32), "white"))).any()

    def test_a_weak_edge_goes_on_from_a_strong_one(self):
        levels = np.full((40, 60), 100, dtype=np.uint8)
        levels[20:, :30], levels[20:, 30:] = 140, 160  # gradients of 4 * 40 and 4 * 60: below and above 200
        found = np.asarray(canny_edges(Image.fromarray(levels).convert("RGB")))[..., 0]
        assert found[18:22, :25].any()
        levels[20:, 30:] = 140
        assert not np.asarray(canny_edges(Image.fromarray(levels).convert("RGB"))).any()

    def test_edges_stay_as_they_are(self, photo):
        edges = canny_edges(photo)
        assert canny_edges(edges) is edges


def save_depth_model(folder, **config):
    """A tiny Depth Anything with random weights."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=56,
        patch_size=14,
        out_features=["stage1", "stage2"],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    sizes = {"neck_hidden_sizes": [8, 8], "reassemble_factors": [2, 1], "fusion_hidden_size": 8, "head_hidden_size": 8}
    torch.manual_seed(0)
    config = DepthAnythingConfig(backbone_config=backbone, reassemble_hidden_size=16, patch_size=14, **sizes, **config)
    model = DepthAnythingForDepthEstimation(config)
    torch.nn.init.normal_(model.head.conv3.weight)
    torch.nn.init.constant_(model.head.conv3.bias, 1.0)  # what is below 0 would be cut off
    model.save_pretrained(folder)
    DPTImageProcessor(size={"height": 56, "width": 56}).save_pretrained(folder)
    return folder


class TestDepth:
    @pytest.fixture(scope="class")
    def models(self, tmp_path_factory):
        models = tmp_path_factory.mktemp("models")
        save_depth_model(models / "depth/tiny")
        return models

    def test_a_depth_map_is_made_of_a_photo(self, models, photo):
        """Gray, of the photo's size, and it is not made of itself again."""
        estimate = DepthEstimator(find_depth_model(models))
        depth = estimate(photo)
        assert (depth.size, depth.mode) == (photo.size, "RGB")
        assert shows_depth(depth)
        assert not shows_depth(photo)
        assert depth.convert("L").getextrema() == (0, 255)
        assert estimate(depth) is depth

    def test_what_measures_distance_is_turned_round(self, photo, tmp_path):
        """Near is white, whatever the model's numbers mean."""
        for name, config in (("relative", {}), ("metric", {"depth_estimation_type": "metric", "max_depth": 20})):
            estimate = DepthEstimator(save_depth_model(tmp_path / name, **config))
            depth = np.asarray(estimate(photo), int)[..., 0]
            processor, model = estimate._parts
            with torch.no_grad():
                raw = model(**processor(images=photo, return_tensors="pt")).predicted_depth[0]
            shrunk = np.asarray(Image.fromarray(depth.astype(np.uint8)).resize(raw.shape[::-1]), float)
            agreement = np.corrcoef(shrunk.ravel(), raw.numpy().ravel())[0, 1]
            assert agreement > 0.9 if name == "relative" else agreement < -0.9

    def test_a_depth_controlnet_gets_it(self, folder, models, photo):
        shutil.copytree(folder, models / "tiny-depth")
        steered = load_pipeline("x2i-tiny", profile="cpu", controlnet=models / "tiny-depth", models=models)
        given = QUICK | {"conditioning": steered.encode("a red house"), "width": 96, "height": 64}
        depth = DepthEstimator(models / "depth/tiny")(photo.resize((96, 64), Image.Resampling.LANCZOS))
        made, finished = (
            steered(controlnet=ControlNetInput(image), generator=generator(), **given).images
            for image in (photo, depth)
        )
        assert torch.equal(made, finished)
        steered.depth_of = None
        raw = steered(controlnet=ControlNetInput(photo), generator=generator(), **given).images
        assert not torch.equal(made, raw)

    def test_without_or_with_a_broken_one(self, photo, tmp_path):
        assert find_depth_model(tmp_path) is None
        (tmp_path / "depth").mkdir()
        (tmp_path / "depth/config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
        assert find_depth_model(tmp_path) == tmp_path / "depth"
        with pytest.raises(CheckpointError, match="depth holds no depth model that can be read; take one in"):
            DepthEstimator(tmp_path / "depth")(photo)


class TestRequest:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"controlnet_kind": "pencil"}, "controlnet_kind is 'pencil'; choose one of canny, edges"),
            ({"controlnet_kind": []}, r"controlnet_kind is \[\]; choose one of"),
            ({"controlnet_strength": 3}, "controlnet_strength is 3; it must be 0 to 2"),
            ({"controlnet_start": -1}, "controlnet_start is -1; it must be 0 to 1"),
            ({"controlnet_start": 0.6, "controlnet_end": 0.4}, "the start must be before the end"),
            ({"fast": True}, "fast skips the parts of FLUX that a ControlNet acts on"),
            ({"reference": "b.png"}, "keeps to a reference or follows a ControlNet, not both"),
            ({"source_image": "b.png", "strength": 0.5, "negative_prompt": "x"}, "while an image is edited"),
        ],
    )
    def test_bad_input(self, fields, message):
        with pytest.raises(InvalidRequestError, match=message):
            GenerationRequest("x", controlnet_image="a.png", **fields)

    @pytest.mark.parametrize("fields", [{"controlnet_strength": 0.5}, {"controlnet_kind": "depth"}])
    def test_it_needs_an_image(self, fields):
        with pytest.raises(InvalidRequestError, match="is set, but there is no controlnet_image"):
            GenerationRequest("x", **fields)

    def test_kinds_have_the_numbers_of_union_models(self):
        assert list(CONTROLNET_KINDS.items())[:4] == [("canny", 0), ("edges", 0), ("tile", 1), ("depth", 2)]

    def test_the_result_has_its_shape(self, photo):
        flux = FLUX_MODELS["x2i-tiny"]
        wide = Prepared.of(GenerationRequest("x", controlnet_image=photo), flux, seed=0)
        assert (wide.request.width, wide.request.height) == (144, 96)
        assert wide.notes == ()
        square = Prepared.of(GenerationRequest("x", controlnet_image=photo, width=128, height=128), flux, seed=0)
        assert (square.request.width, square.request.height) == (128, 128)
        assert "(300 x 200) has another shape than the result (128 x 128)" in square.notes[0]

    def test_other_models_refuse_it_before_they_draw(self):
        with pytest.raises(InvalidRequestError, match="No ControlNet is loaded"):
            Engine(Settings()).submit(GenerationRequest("x", controlnet_image=BOAT))


class TestSettingsInTheFile:
    def test_they_draw_it_again(self, engine, photo, tmp_path):
        photo.save(tmp_path / "photo.png")
        given = {"controlnet_strength": 0.7, "controlnet_kind": "depth", "controlnet_end": 0.75}
        request = GenerationRequest(
            "a house", controlnet_image=tmp_path / "photo.png", seed=1, num_inference_steps=2, **given
        )
        result = engine.submit(request).wait(300)
        save_image(result.images[0], tmp_path / "out.png", describe(result, engine.settings)[0])
        recipe = read_recipe(tmp_path / "out.png").for_flux(engine.flux, has_controlnet=True)
        assert recipe.missing([]) == {"controlnet_images": 1}
        again = recipe.with_known([tmp_path / "photo.png"])
        assert {name: getattr(again, name) for name in given} == given
        assert again.controlnet_image == tmp_path / "photo.png"
        drawn = engine.submit(again).wait(300).images[0]
        assert ImageChops.difference(drawn, result.images[0]).getbbox() is None

    def test_without_a_controlnet_they_are_left_out(self, engine, photo, tmp_path):
        request = GenerationRequest("x", controlnet_image=photo, controlnet_strength=0.5, num_inference_steps=1)
        result = engine.submit(request).wait(300)
        save_image(result.images[0], tmp_path / "out.png", describe(result, engine.settings)[0])
        recipe = read_recipe(tmp_path / "out.png").for_flux(engine.flux)
        assert recipe.notes == ("The image for a ControlNet is left out, as no ControlNet is loaded.",)
        assert recipe.request.controlnet_image is None
        assert recipe.request == replace(recipe.request)  # it is valid


def test_cli_and_rows(folder, photo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    photo.save("photo.png")
    flags = ["--controlnet", str(folder), "--steps", "2", "--seed", "1", "--controlnet-strength", "0.9"]
    more = ["--prompt", "a house", "--controlnet-image", "photo.png"]
    assert main(["generate", *flags, *more, "--output", "out.png"]) == 0
    row = {"id": "row", "prompt": "a house", "controlnet_image": "photo.png"}
    Path("rows.jsonl").write_text(json.dumps(row), encoding="utf-8")
    assert main(["batch", *flags, "--input", "rows.jsonl", "--output", "out"]) == 0
    one, other = Image.open("out.png"), Image.open("out/row.png")
    assert one.size == (144, 96)
    assert one.tobytes() == other.tobytes()
    assert main(["generate", "--from-image", "out.png", *flags[:2], *more[2:], "--output", "again.png"]) == 0
    assert Image.open("again.png").tobytes() == one.tobytes()
    capsys.readouterr()
    assert main(["generate", *more]) == 2
    assert "No ControlNet is loaded" in capsys.readouterr().err
    assert main(["generate", *flags, "--prompt", "x", "--controlnet-image", "none.png"]) == 2
    assert "none.png" in capsys.readouterr().err


class TestOpenAiApi:
    """Its fields are extras of this app; the image comes as a file of the form, with or without one to edit."""

    @staticmethod
    def files(photo, tmp_path, *names):
        for name in names:
            photo.save(tmp_path / f"{name}.png")
        return tuple((name, str(tmp_path / f"{name}.png")) for name in names)

    def test_its_image_needs_no_other(self, engine, photo, tmp_path):
        given = {"prompt": "a house", "steps": 1, "seed": 1, "controlnet_strength": 0.5, "controlnet_end": 0.75}
        files = self.files(photo, tmp_path, "controlnet_image")
        request = ImageCall(given, files, is_edit=True).request(engine)
        assert (request.images, request.controlnet_image) == ((), files[0][1])
        assert (request.controlnet_strength, request.controlnet_end) == (0.5, 0.75)
        assert engine.submit(request).wait(300).images[0].size == (144, 96)

    def test_beside_an_image(self, engine, photo, tmp_path):
        """LightControl, which would follow that image, is off unless it is asked for."""
        files = self.files(photo, tmp_path, "image", "controlnet_image")
        drawn = {"prompt": "a house", "steps": 1, "seed": 1}
        request = ImageCall(drawn, files, is_edit=True).request(engine)
        assert (request.images, request.control_strength) == ((files[0][1],), 0)
        faint = ImageCall(drawn | {"strength": 0.5}, files, is_edit=True).request(engine)
        assert (faint.source, faint.controlnet_image) == (files[0][1], files[1][1])
        assert engine.submit(faint).wait(300).images[0].size == photo.size

    @pytest.mark.parametrize(
        ("names", "given", "field", "sentence"),
        [
            (("controlnet_image", "controlnet_image"), {}, "controlnet_image", "2 images came as controlnet_image"),
            (("controlnet_image", "mask"), {}, "image", "image is missing"),
            (("controlnet_image",), {"controlnet_kind": "pencil"}, "controlnet_kind", "is 'pencil'; choose one of"),
            (("image",), {"controlnet_strength": 0.5}, "controlnet_strength", "there is no controlnet_image"),
        ],
    )
    def test_bad_fields_are_named(self, engine, photo, tmp_path, names, given, field, sentence):
        files = self.files(photo, tmp_path, *names)
        with pytest.raises(FieldError, match=sentence) as refused:
            ImageCall({"prompt": "x"} | given, files, is_edit=True).request(engine)
        assert refused.value.name == field

    def test_without_a_controlnet(self, photo, tmp_path):
        files = self.files(photo, tmp_path, "controlnet_image")
        with pytest.raises(FieldError, match="No ControlNet is loaded") as refused:
            ImageCall({"prompt": "x"}, files, is_edit=True).request(Engine(Settings()))
        assert refused.value.name == "controlnet_image"

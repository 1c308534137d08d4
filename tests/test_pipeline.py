"""X2IPipeline on real classes at tiny sizes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import FluxImg2ImgPipeline, FluxPipeline

from x2i_app import X2IPipeline, load_pipeline
from x2i_app.errors import CheckpointError, InvalidRequestError, UnknownPresetError
from x2i_app.limits import show_value
from x2i_app.loading.memory import offload
from x2i_app.miniature import models
from x2i_app.models import AlignNet, LightControl
from x2i_app.presets import FLUX_MODELS
from x2i_app.request import Turn
from x2i_app.settings import ASSETS

BUNDLE = ASSETS / "x2i-tiny"
SMALL = {"width": 64, "height": 96, "num_inference_steps": 2}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def conditioning(pipeline):
    return pipeline.encode(prompt="a red house on snow at night")


def test_every_input(pipeline, image, video, tone):
    for given in (
        {"prompt": "a red house"},
        {"images": [image, image]},
        {"images": [image], "prompt": "make it night"},
        {"videos": [video]},
        {"audios": [tone]},
        {"prompt": "all", "images": [image], "videos": [video], "audios": [tone]},
    ):
        output = pipeline(**given, **SMALL, generator=generator())
        assert [image.size for image in output.images] == [(64, 96)], given
        assert output.answer is not None  # x2i-tiny always answers first


def test_own_steps(pipeline, conditioning):
    """A call that names no steps takes the FLUX model's own number."""
    given = {"conditioning": conditioning, "width": 64, "height": 64, "output_type": "latent"}
    taken = []
    for asked in ({}, {"num_inference_steps": 2}):
        pipeline(**given, **asked, callback_on_step_end=lambda _, step, *__: taken.append(step) or {})
    assert taken == [*range(8), 0, 1]
    assert (pipeline.config.num_inference_steps, pipeline.config.guidance_scale) == (8, 3.5)
    again = X2IPipeline(**pipeline.components, family="qwen2.5-omni", encoding=pipeline.config.encoding)
    assert again.config.num_inference_steps == 4  # of FLUX.1-schnell: nothing says that this is x2i-tiny
    again.use_settings_of(FLUX_MODELS["flux.1-kontext-dev"])
    assert (again.config.num_inference_steps, again.config.guidance_scale) == (28, 2.5)


def test_conditioning(pipeline, conditioning):
    states = pipeline.encoder.encode(prompt="a red house on snow at night").hidden_states
    assert conditioning.prompt_embeds.shape == (1, states.shape[2], models.JOINT_DIM)
    assert conditioning.pooled_prompt_embeds.shape == (1, models.POOLED_DIM)
    expected, pooled = pipeline.align_net(states)
    assert torch.equal(conditioning.prompt_embeds, expected)
    assert torch.equal(conditioning.pooled_prompt_embeds, pooled)


def test_latents_equal_flux_pipeline(pipeline, conditioning):
    bare = FluxPipeline(
        scheduler=pipeline.scheduler,
        vae=pipeline.vae,
        transformer=pipeline.transformer,
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
    )
    embeds = {
        "prompt_embeds": conditioning.prompt_embeds,
        "pooled_prompt_embeds": conditioning.pooled_prompt_embeds,
    }
    expected = bare(**embeds, **SMALL, output_type="latent", generator=generator()).images
    got = pipeline(conditioning=conditioning, **SMALL, output_type="latent", generator=generator()).images
    assert torch.equal(got, expected)


def test_a_batch_equals_single_images(pipeline, conditioning):
    seeds = [3, 4, 5]
    batch = pipeline(
        conditioning=conditioning,
        **SMALL,
        num_images_per_prompt=3,
        generator=[generator(seed) for seed in seeds],
        output_type="latent",
    ).images
    single = [
        pipeline(conditioning=conditioning, **SMALL, generator=generator(seed), output_type="latent").images
        for seed in seeds
    ]
    torch.testing.assert_close(batch, torch.cat(single), atol=1e-4, rtol=1e-4)


def test_callbacks(pipeline, conditioning, monkeypatch):
    """A callback sees every step; if it raises, nothing is decoded."""
    steps = []

    def watch(pipe, step, timestep, tensors):
        steps.append((step, tuple(tensors["latents"].shape)))
        return {}

    pipeline(conditioning=conditioning, **SMALL, callback_on_step_end=watch)
    assert steps == [(0, (1, 24, 64)), (1, (1, 24, 64))]

    decoded = []
    original = pipeline.vae.decode
    monkeypatch.setattr(pipeline.vae, "decode", lambda *a, **k: decoded.append(1) or original(*a, **k))

    def stop(pipe, step, timestep, tensors):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline(conditioning=conditioning, **SMALL, callback_on_step_end=stop)
    assert not decoded
    pipeline(conditioning=conditioning, **SMALL)
    assert decoded


def test_an_offloaded_mllm_is_moved_before_it_encodes():
    """After an answer, a prompt runs the model without its head, a submodule that has no hook of its own."""
    pipeline = load_pipeline("x2i-tiny", profile="cpu")
    offload(pipeline, "model", torch.device("cpu"))
    pipeline.encode(prompt="a red house")  # adds the head
    pipeline.encoder.spec = replace(pipeline.encoder.spec, states="prompt")
    events, hook = [], pipeline.mllm._hf_hook
    move = hook.pre_forward
    hook.pre_forward = lambda *args, **kwargs: events.append("moved") or move(*args, **kwargs)
    pipeline.encoder.base.register_forward_pre_hook(lambda *_: events.append("runs"))
    pipeline.encode(prompt="a red house")
    assert events == ["moved", "runs"]


def test_hooks_are_freed(conditioning):
    """Diffusers moves all parts back by installing new hooks; also if a callback stops the run."""
    pipeline = load_pipeline("x2i-tiny", profile="cpu")
    offload(pipeline, "model", torch.device("cpu"))

    def stop(*_):
        raise KeyboardInterrupt

    hooks = pipeline._all_hooks
    pipeline(conditioning=conditioning, **SMALL)
    freed = pipeline._all_hooks
    assert not set(map(id, hooks)) & set(map(id, freed))
    with pytest.raises(KeyboardInterrupt):
        pipeline(conditioning=conditioning, **SMALL, callback_on_step_end=stop)
    assert not set(map(id, freed)) & set(map(id, pipeline._all_hooks))


def test_light_control_for_some_of_the_blocks(pipeline, conditioning, image):
    parts = {name: pipeline.components[name] for name in ("transformer", "vae", "scheduler", "align_net")}
    config = dict(pipeline.light_control.config) | {"num_blocks": 1}
    small = X2IPipeline.from_encoder(pipeline.encoder, **parts, light_control=LightControl.from_config(config))
    given = {"conditioning": conditioning, "output_type": "latent", **SMALL}
    free, untrained = (
        small(**given, **control, generator=generator()).images for control in ({}, {"control_image": image})
    )
    assert torch.equal(untrained, free)
    torch.nn.init.normal_(small.light_control.nets[0].mid_convs[1].weight)
    assert not torch.equal(small(**given, control_image=image, generator=generator()).images, free)


def test_save_and_load(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    loaded = X2IPipeline.from_pretrained(tmp_path)
    assert loaded.encoder.spec == pipeline.encoder.spec
    for name in ("mllm", "align_net", "transformer", "vae"):
        expected, got = pipeline.components[name].state_dict(), loaded.components[name].state_dict()
        assert expected.keys() == got.keys()
        assert all(torch.equal(expected[key], got[key]) for key in expected)
    given = {"prompt": "a red house", **SMALL, "output_type": "latent"}
    # Not to the bit: where in memory the weights lie decides in which order a CPU kernel adds.
    torch.testing.assert_close(
        loaded(**given, generator=generator()).images, pipeline(**given, generator=generator()).images
    )


def test_the_bundle_is_a_diffusers_pipeline(pipeline):
    bundled = X2IPipeline.from_pretrained(BUNDLE, dtype=torch.float32)
    given = {"prompt": "a red house", **SMALL, "output_type": "latent"}
    assert torch.equal(bundled(**given, generator=generator()).images, pipeline(**given, generator=generator()).images)


def test_t5_and_clip_are_not_loaded(monkeypatch):
    """The bundle contains the teacher's text encoders, which the pipeline does not need."""
    from transformers import CLIPTextModel, T5EncoderModel

    made = []
    for cls in (CLIPTextModel, T5EncoderModel):
        original = cls.__init__
        monkeypatch.setattr(
            cls, "__init__", lambda self, *a, _o=original, **k: made.append(type(self)) or _o(self, *a, **k)
        )
    load_pipeline("x2i-tiny", profile="cpu")(prompt="a red house", **SMALL)
    assert made == []
    CLIPTextModel.from_pretrained(BUNDLE / "text_encoder")
    T5EncoderModel.from_pretrained(BUNDLE / "text_encoder_2")
    assert len(made) == 2


def test_custom_parts(qwen_vl_directory, tmp_path, image):
    """A pipeline of local parts takes its sizes from the files."""
    align_net = AlignNet(4, 32, joint_dim=models.JOINT_DIM, pooled_dim=models.POOLED_DIM)
    align_net.save_pretrained(tmp_path)
    parts = {"mllm": qwen_vl_directory, "flux": "x2i-tiny", "alignnet": tmp_path}
    pipeline = load_pipeline("custom:qwen2.5-vl", **parts)
    conditioning = pipeline.encode(prompt="a red house", images=[image])
    assert conditioning.prompt_embeds.shape == (1, 512, models.JOINT_DIM)  # the reference pads this family
    assert conditioning.answer is None
    assert pipeline(conditioning=conditioning, **SMALL).images[0].size == (64, 96)

    AlignNet(5, 32, joint_dim=models.JOINT_DIM, pooled_dim=models.POOLED_DIM).save_pretrained(tmp_path / "deep")
    with pytest.raises(CheckpointError, match="expects 5 states of width 32, but the MLLM has 4 of width 32"):
        load_pipeline("custom:qwen2.5-vl", **parts | {"alignnet": tmp_path / "deep"})
    AlignNet(4, 32, joint_dim=64, pooled_dim=models.POOLED_DIM).save_pretrained(tmp_path / "narrow")
    with pytest.raises(CheckpointError, match="width 64 and 128, but the FLUX model expects 128 and 128"):
        load_pipeline("custom:qwen2.5-vl", **parts | {"alignnet": tmp_path / "narrow"})


def test_conditioning_works_in_other_flux_pipelines(pipeline, conditioning, image):
    img2img = pipeline.drawing_pipeline(FluxImg2ImgPipeline)
    output = img2img(
        prompt_embeds=conditioning.prompt_embeds,
        pooled_prompt_embeds=conditioning.pooled_prompt_embeds,
        image=image.resize((64, 96)),
        strength=0.5,
        **SMALL | {"num_inference_steps": 4},
    )
    assert output.images[0].size == (64, 96)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"preset": "x2i-huge"}, UnknownPresetError, "no preset called 'x2i-huge'"),
        ({"profile": "1gb"}, InvalidRequestError, "profile is '1gb'"),
        ({"device": "toaster"}, InvalidRequestError, "device is 'toaster', which does not work here"),
        ({"device": "meta"}, InvalidRequestError, "device is 'meta', which does not work here"),
        ({"device": "cuda:99"}, InvalidRequestError, "device is 'cuda:99', which does not work here"),
        ({"preset": "custom:gpt"}, UnknownPresetError, "no MLLM family called 'gpt'"),
        ({"preset": "custom:qwen2.5-vl"}, InvalidRequestError, "without mllm and flux and alignnet"),
        ({"mllm": "/no/such/folder"}, CheckpointError, "no folder '/no/such/folder'"),
        ({"flux": "owner/not-in-the-cache"}, CheckpointError, "not in the hub cache and cannot be downloaded"),
        ({"preset": "qwen2.5-vl-3b"}, CheckpointError, "X2I-Qwen2.5VL-3B.bin of OPPOer/X2I is not in the hub cache"),
    ],
)
def test_load_pipeline_errors(arguments, error, message):
    with pytest.raises(error, match=message) as raised:
        load_pipeline(**{"profile": "cpu"} | arguments)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "The request is empty"),
        ({"prompt": "a house", "width": 7}, "width is 7"),
        ({"prompt": "a house", "num_inference_steps": 0}, "num_inference_steps is 0"),
        ({"prompt": "a house", "num_images_per_prompt": 0}, "num_images_per_prompt is 0"),
        ({"images": "a.png"}, "images is 'a.png'; it must be a list"),
        ({"images": [None]}, "images contains an empty entry"),
        ({"prompt": "a house", "reason": "no"}, "reason is 'no'"),
        ({"prompt": "a house", "history": [{"text": "?"}]}, "each turn must be a Turn"),
        ({"prompt": "a house", "history": "before"}, "history contains 'b'"),
    ],
)
def test_invalid_arguments_are_refused(pipeline, given, message):
    with pytest.raises(InvalidRequestError, match=message):
        pipeline(**given)


@pytest.mark.parametrize("kind", [float, np.int64, np.float32], ids=lambda kind: kind.__name__)
def test_whole_numbers_of_any_type(pipeline, conditioning, kind):
    """As programs have them that compute a number, or read it from a table or from JSON."""
    numbers = {"width": 64, "height": 64, "num_inference_steps": 2, "num_images_per_prompt": 2}
    images = [
        pipeline(conditioning=conditioning, **given, output_type="latent", generator=generator()).images
        for given in (numbers, {name: kind(value) for name, value in numbers.items()})
    ]
    assert torch.equal(*images)


@pytest.mark.parametrize("name", ["width", "height", "num_inference_steps", "num_images_per_prompt", "guidance_scale"])
@pytest.mark.parametrize("value", [4.5, True, "4", float("nan")])
def test_what_is_no_whole_number(pipeline, conditioning, name, value):
    if (name, value) == ("guidance_scale", 4.5):
        value = -1
    with pytest.raises(InvalidRequestError, match=f"^{name} is {show_value(value)}; it must be"):
        pipeline(conditioning=conditioning, **{name: value})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strength": 0.5}, r"^strength is 0\.5, but there is no inpaint_source; give one, or leave strength out"),
        ({"control_strength": 1}, "^control_strength is 1, but there is no control_image; give one, or leave"),
        ({"strength": 0}, r"^strength is 0; it must be 0\.05 to 1"),
        ({"control_strength": 3}, "^control_strength is 3; it must be 0 to 2"),
        ({"control_image": ASSETS / "examples/images/boat-at-sunset.png", "fast": True}, "^fast skips the parts"),
    ],
)
def test_what_would_have_no_effect_is_refused(pipeline, conditioning, given, message):
    """As in a request; LightControl at 0 is off, with an image or without one."""
    with pytest.raises(InvalidRequestError, match=message):
        pipeline(conditioning=conditioning, **SMALL, **given)


def test_control_strength_0_needs_no_image(pipeline, conditioning):
    images = [
        pipeline(conditioning=conditioning, **SMALL, **given, output_type="latent", generator=generator()).images
        for given in ({}, {"control_strength": 0})
    ]
    assert torch.equal(*images)


def test_what_other_programs_accept(pipeline):
    """Sizes snap, choices follow the generator's seed, weights and LoRA tags go; the notes say so."""
    seed = torch.Generator().manual_seed(3)
    numbers = {"height": 64, "num_inference_steps": 1}
    asked = pipeline("a {red|red} (house:1.2) <lora:ink:1>", width=70, generator=seed, **numbers)
    plain = pipeline("a red house", width=64, generator=torch.Generator().manual_seed(3), **numbers)
    assert asked.images[0].tobytes() == plain.images[0].tobytes()
    for note in ("width 70 was changed to 64", "filled in: a red house", "(house:1.2)", "<lora:ink:1> is left out"):
        assert sum(note in each for each in asked.notes) == 1
        assert not any(note in each for each in plain.notes)


def test_a_turn_can_be_a_dictionary(pipeline):
    turn = {"prompt": "a house", "answer": "a red house"}
    as_dictionary = pipeline.encoder.encode(prompt="bigger", history=[turn])
    as_turn = pipeline.encoder.encode(prompt="bigger", history=[Turn(**turn)])
    assert torch.equal(as_dictionary.hidden_states, as_turn.hidden_states)


def test_an_mllm_of_another_size_is_refused(qwen_omni_directory):
    with pytest.raises(CheckpointError, match="8 layers of width 192; expected 36 of width 2048"):
        load_pipeline(
            "qwen2.5-omni-3b",
            profile="cpu",
            mllm=qwen_omni_directory,
            flux=BUNDLE,
            alignnet=BUNDLE / "align_net",
        )


def test_without_a_size_the_image_has_that_of_the_model():
    pipeline = load_pipeline("x2i-tiny", device="cpu")
    assert pipeline(prompt="a red house", num_inference_steps=1).images[0].size == (128, 128)
    assert pipeline(prompt="a red house", height=64, num_inference_steps=1).images[0].size == (128, 64)

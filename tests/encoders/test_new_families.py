"""Qwen3-VL, the thinker of Qwen3-Omni, InternVL3 and 3.5: what they read is what transformers' own generate reads."""

import pytest
import torch
from conftest import ROOT
from encoders.new_families_factory import save_internvl3, save_qwen3_omni, save_qwen3_vl

from x2i_app import encoders
from x2i_app.encoders import family_of, load_encoder, register_family
from x2i_app.encoders.qwen3 import Qwen3VLEncoder
from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.presets import FAMILIES, get_family
from x2i_app.request import Turn

SAVE = {
    "qwen3-vl": save_qwen3_vl,
    "qwen3-omni": save_qwen3_omni,
    "internvl3": save_internvl3,
    "internvl3 with a Qwen2.5": lambda directory: save_internvl3(directory, "qwen2"),
}


@pytest.fixture(scope="module", params=SAVE)
def encoder(request, tmp_path_factory):
    directory = SAVE[request.param](tmp_path_factory.mktemp("family"))
    family = request.param.partition(" ")[0]
    assert family_of(directory) == family
    return load_encoder(family, directory, dtype=torch.float32)


@pytest.fixture
def conversations(encoder, image, video, tone):
    mixed = {"prompt": "all of it", "images": [image, image.resize((40, 90))], "videos": [video]}
    found = {
        "text": {"prompt": "a red house"},
        "image": {"images": [image]},
        "video": {"videos": [video, (video[0][:1], 1.0)]},
        "mixed": mixed,
        "dialogue": {"prompt": "at night", "history": [Turn("a red house", images=(image,), answer="a house")]},
    }
    if encoder.spec.audio_rate:
        found |= {"audio": {"audios": [tone]}, "mixed": mixed | {"audios": [tone, tone]}}
    return found


def test_states_equal_generate(encoder, conversations):
    """The states of a prompt are those of the first step of `generate`, of all layers, for every modality."""
    encoder.add_head()
    for name, given in conversations.items():
        states = encoder.encode(**given, padding="compact").hidden_states
        given = dict(given)
        turns = [*given.pop("history", []), Turn(**{k: v if k == "prompt" else tuple(v) for k, v in given.items()})]
        inputs = encoder._tokenize(encoder._build_conversation(turns))
        output = encoder.model.generate(
            **inputs, max_new_tokens=1, do_sample=False, output_hidden_states=True, return_dict_in_generate=True
        )
        expected = torch.stack(output.hidden_states[0], dim=1)
        assert states.shape == (1, encoder.num_states, inputs["input_ids"].shape[1], encoder.hidden_size), name
        torch.testing.assert_close(states, expected, atol=1e-4, rtol=1e-4, msg=name)
    assert encoder.encode(prompt="a red house", reason=True).answer is not None


def test_media_matter(encoder, image, video):
    """Another image or frame gives other states, and each has its place."""
    states = [
        encoder.encode(images=[each]).hidden_states for each in (image, image.rotate(180), image.resize((30, 20)))
    ]
    assert not torch.allclose(states[0], states[1], atol=1e-2)
    frames, rate = video
    forward, backward = (encoder.encode(videos=[(each, rate)]).hidden_states for each in (frames, frames[::-1].copy()))
    assert forward.shape == backward.shape
    assert not torch.allclose(forward, backward, atol=1e-2)


def test_a_frame_keeps_its_detail(tmp_path, video):
    """The frames of a long video are as large as those of a short one."""
    encoder = load_encoder("qwen3-vl", save_qwen3_vl(tmp_path), dtype=torch.float32)

    def grid(count):
        clip = video[0].repeat(4, axis=0)[:count].repeat(2, axis=1).repeat(2, axis=2), 1.0
        return encoder._tokenize(encoder._build_conversation([Turn(videos=(clip,))]))["video_grid_thw"][0].tolist()

    assert grid(2)[1:] == grid(20)[1:] == [6, 8]
    assert (grid(2)[0], grid(20)[0]) == (1, 10)


def test_another_family_is_refused(encoder):
    other = "qwen2.5-vl" if encoder.family != "qwen2.5-vl" else "qwen3-vl"
    with pytest.raises(CheckpointError, match=f"contains a model of type .*not {other}"):
        load_encoder(other, encoder.base.config.name_or_path)


def test_register_family(tmp_path, monkeypatch, image):
    """The family of docs/TRAINING.md reads as ours does; a name is given once."""
    monkeypatch.setattr(encoders, "_CLASSES", dict(encoders._CLASSES))
    monkeypatch.setitem(FAMILIES, "my-mllm", None)  # and removed again
    page = (ROOT / "docs/TRAINING.md").read_text(encoding="utf-8")
    block = next(part for part in page.split("```python\n")[1:] if "register_family(" in part).partition("```")[0]
    assert len(block.partition("class ")[2].splitlines()) <= 20
    exec(compile(block, "docs/TRAINING.md", "exec"), {})
    directory = save_qwen3_vl(tmp_path)
    own, ours = (load_encoder(name, directory, dtype=torch.float32) for name in ("my-mllm", "qwen3-vl"))
    given = {"prompt": "a house <|im_end|>", "images": [image]}
    assert torch.equal(own.encode(**given).hidden_states, ours.encode(**given).hidden_states)
    with pytest.raises(InvalidRequestError, match="There is a family 'qwen3-vl' already"):
        register_family(type("Other", (Qwen3VLEncoder,), {}), get_family("qwen3-vl"))

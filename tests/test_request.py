"""The one validator (SAFETY.md, T10): whatever comes, it is clean values or one sentence, and never anything else."""

import dataclasses
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from x2i_app.errors import InvalidRequestError
from x2i_app.limits import LIMITS, MAX_SEED
from x2i_app.presets import FLUX_MODELS
from x2i_app.request import GenerationRequest, Turn

INTEGERS = ("width", "height", "num_inference_steps", "num_images_per_prompt", "seed")
FIELDS = sorted(field.name for field in dataclasses.fields(GenerationRequest) if field.init)
NUMBERS = (*INTEGERS, "guidance_scale")
MEDIA = {"images": LIMITS.images, "videos": LIMITS.videos, "audios": LIMITS.audios}

NESTED = ["x" * 50] * 8
for _ in range(4):
    NESTED = [NESTED] * 8

NO_NUMBERS = {
    "NaN": float("nan"),
    "infinity": float("inf"),
    "1e400": json.loads("1e400"),
    "400 digits": 10**400 - 1,
    "5000 digits": 10**5000 - 1,
    "true": True,
    "a digit as text": "5",
    "a digit as bytes": b"5",
    "a list": [],
    "a list of 5000 digits": [10**5000],
    "deep lists": NESTED,
    "an object": {},
    "a complex number": 64j,
    "a huge fraction": Fraction(10**400, 3),
    "an array": np.zeros((3, 3)),
    "-2": -2,
}

BAD_TEXTS = {
    "null": None,
    "a number": 5,
    "5000 digits": 10**5000,
    "bytes": b"a house",
    "an object": {"text": "a house"},
    "a lone surrogate": "a house \ud800",
    "U+0000": "a\0house",
    "an escape": "a \x1b[31mred house",
    "1 MB": "x" * 1_000_000,
    "8193 bytes": "x" * 8193,
    "8194 bytes in 4097 letters": "é" * 4097,
    "8193 bytes in 2731 letters": "猫" * 2731,
}

NO_LISTS = {
    "null": None,
    "a number": 5,
    "true": True,
    "a name": "a.png",
    "a path": Path("a.png"),
    "an object": {"path": "a.png"},
    "a set": {"a.png"},
    "a picture": Image.new("RGB", (8, 8)),
    "an array": np.arange(4).reshape(2, 2),
    "an iterator": iter(["a.png"]),
}


def refusal(**fields) -> str:
    """The message with which a request is refused, checked to be one short sentence that is safe to show and log."""
    with pytest.raises(InvalidRequestError) as caught:
        GenerationRequest(**fields)
    return check_sentence(str(caught.value))


def check_sentence(message: str) -> str:
    assert message.isprintable(), "no line breaks, no control characters"
    assert message.endswith(".")
    assert len(message) < 300
    return message


def cases(values: dict) -> list:
    """Parameters with ids of their own: pytest cannot print integers of 5,000 digits."""
    return [pytest.param(value, id=name) for name, value in values.items()]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", cases(NO_NUMBERS))
def test_not_a_number(name, value):
    assert refusal(prompt="a house", **{name: value}).startswith(f"{name} is ")


@pytest.mark.parametrize("name", NUMBERS)
def test_out_of_range(name):
    allowed = getattr(LIMITS, name)
    step = allowed.step or 2  # the seed -1 is a random one
    for value in (allowed.low - step, allowed.high + step):
        assert str(allowed) in refusal(prompt="a house", **{name: value})


@pytest.mark.parametrize("name", NUMBERS)
def test_ends_of_range(name):
    allowed = getattr(LIMITS, name)
    for value in (allowed.low, allowed.high):
        assert getattr(GenerationRequest(prompt="a house", **{name: value}), name) == value


@pytest.mark.parametrize("name", INTEGERS)
def test_fractions(name):
    assert "whole number" in refusal(prompt="a house", **{name: getattr(LIMITS, name).low + 2.5})


@pytest.mark.parametrize("name", ["width", "height"])
@pytest.mark.parametrize(("value", "used"), [(100, 96), (104, 112), (65, 64), (63, 64), (2047, 2048), (1000.0, 1008)])
def test_size_off_its_step(name, value, used):
    """It becomes the nearest multiple, and the request says so, also after other values were changed."""
    request = GenerationRequest(prompt="a house", **{name: value})
    note = f"{name} {value:g} was changed to {used}, the nearest multiple of 16."
    assert (getattr(request, name), request.notes) == (used, (note,))
    assert request.with_defaults(FLUX_MODELS["x2i-tiny"], 0).notes == (note,)
    assert GenerationRequest(prompt="a house", **{name: used}).notes == ()


@pytest.mark.parametrize("name", ["width", "height"])
@pytest.mark.parametrize("value", [127.5, 55, 2056, 10**30, -100])
def test_size_that_cannot_be_changed(name, value):
    assert "steps of 16" in refusal(prompt="a house", **{name: value})


@pytest.mark.parametrize("value", [-1, -1.0, np.int64(-1)])
def test_random_seed(value):
    """-1 as in other programs: the engine chooses one, and each time another."""
    assert GenerationRequest(prompt="a house", seed=value).seed is None
    assert "seed is " in refusal(prompt="a house", seed=True)


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("kind", [int, float, np.int64, np.float32], ids=lambda kind: kind.__name__)
def test_integers_of_any_type(name, kind):
    value = getattr(LIMITS, name).low
    stored = getattr(GenerationRequest(prompt="a house", **{name: kind(value)}), name)
    assert (stored, type(stored)) == (value, int)


def test_guidance():
    assert GenerationRequest(prompt="a house", guidance_scale=2.5).guidance_scale == 2.5
    assert type(GenerationRequest(prompt="a house", guidance_scale=4).guidance_scale) is float


def test_none():
    request = GenerationRequest(prompt="a house", **dict.fromkeys(set(NUMBERS) - {"num_images_per_prompt"}))
    assert {getattr(request, name) for name in NUMBERS} == {None, 1}
    assert refusal(prompt="a house", num_images_per_prompt=None).startswith("num_images_per_prompt is None")


@pytest.mark.parametrize("value", cases(BAD_TEXTS))
def test_bad_text(value):
    assert refusal(prompt=value).startswith("prompt ")
    assert refusal(prompt="a house", history=[{"prompt": value}]).startswith("prompt ")
    assert refusal(prompt="a house", history=[{"prompt": "hello", "answer": value}]).startswith("answer ")


@pytest.mark.parametrize(
    "text",
    ["x" * 8192, "é" * 4096, "猫" * 2730, "🏠" * 2048, "a\ttab,\na line and\r\nanother", "<img src=x onerror=a()>"],
    ids=["8192 letters", "é", "猫", "🏠", "white space", "HTML"],
)
def test_text(text):
    request = GenerationRequest(prompt=text, history=[Turn(text, answer=text)])
    assert (request.prompt, request.history[0].prompt, request.history[0].answer) == (text, text, text)


@pytest.mark.parametrize("name", MEDIA)
@pytest.mark.parametrize("value", cases(NO_LISTS))
def test_media_not_in_a_list(name, value):
    assert refusal(prompt="a house", **{name: value}).startswith(f"{name} is ")


@pytest.mark.parametrize(("name", "limit"), MEDIA.items())
def test_number_of_media(name, limit):
    files = [f"{i}" for i in range(limit + 1)]
    assert getattr(GenerationRequest(**{name: files[:limit]}), name) == tuple(files[:limit])
    assert refusal(**{name: files}) == f"{limit + 1} {name} were given; at most {limit} are allowed. Remove some."
    assert f"{limit} are allowed" in refusal(prompt="a house", history=[{name: files}])


@pytest.mark.parametrize("name", MEDIA)
def test_none_among_media(name):
    assert name in refusal(prompt="a house", **{name: ["a", None]})


def test_media_types():
    image, array, clip = Image.new("RGB", (8, 8)), np.zeros((8, 8, 3), np.uint8), (np.zeros(9), 16_000)
    request = GenerationRequest(images=[Path("a.png"), image, array], audios=[clip])
    assert (request.images[1] is image, request.images[2] is array, request.audios[0] is clip) == (True, True, True)


def test_lists_are_copied():
    images, history = ["a.png"], [{"prompt": "hello"}]
    request = GenerationRequest(images=images, history=history)
    images.append("b.png")
    history.clear()
    assert (request.images, request.history) == (("a.png",), (Turn("hello"),))


def test_history_types():
    turn = Turn("hello", images=("a.png",), answer="hi")
    as_dictionary = json.loads(json.dumps(dataclasses.asdict(turn)))
    assert GenerationRequest(prompt="a house", history=[turn, as_dictionary]).history == (turn, turn)


@pytest.mark.parametrize(
    "junk",
    cases(
        {
            "null": None,
            "text": "hello",
            "a number": 10**5000,
            "deep lists": NESTED,
            "an unknown field": {"prompt": "hello", "seed": 3},
            "chat form": {"role": "user", "content": "hello"},
            "keys that are no text": {3: "hello"},
            "media that are no list": {"images": "a.png"},
            "an array": np.zeros((2, 2)),
        }
    ),
)
def test_junk_in_history(junk):
    refusal(prompt="a house", history=[Turn("hello"), junk])


@pytest.mark.parametrize("history", cases({**NO_LISTS, "a turn": Turn("hello")}))
def test_history_not_a_list(history):
    assert refusal(prompt="a house", history=history).startswith("history is ")


def test_long_history():
    turns = [Turn("hello")] * (LIMITS.turns + 1)
    assert len(GenerationRequest(prompt="a house", history=turns[:-1]).history) == LIMITS.turns
    assert f"{LIMITS.turns} are allowed" in refusal(prompt="a house", history=turns)


@pytest.mark.parametrize("value", cases({"null": None, "1": 1, "text": "true", "a list": [], "numpy": np.True_}))
def test_reason(value):
    assert refusal(prompt="a house", reason=value).startswith("reason is ")


def test_part_of_a_video():
    """Empty ends are where the video starts and ends; without a video a part means nothing."""
    request = GenerationRequest(videos=["a.mp4"], video_start=1, video_end=2.5)
    assert request.video_part == (1.0, 2.5)
    assert GenerationRequest("a house", video_end=0.5).video_part == (None, 0.5)
    for start in (2.5, 3):
        assert refusal(videos=["a.mp4"], video_start=start, video_end=2.5) == (
            f"video_start is {start:g} and video_end is 2.5; the start must be before the end."
        )
    assert refusal(videos=["a.mp4"], video_start=-1) == "video_start is -1; it must be 0 to 3600."
    assert refusal(videos=["a.mp4"], video_end="2").startswith("video_end is '2'; it must be a number")


@pytest.mark.parametrize("prompt", ["", " ", "\n\t \r\n", "\u3000"], ids=["empty", "space", "lines", "wide space"])
def test_empty_request(prompt):
    assert "request is empty" in refusal(prompt=prompt, seed=1)
    assert "request is empty" in refusal(prompt=prompt, history=[Turn(prompt)])


@pytest.mark.parametrize(
    ("fields", "modalities"),
    [
        ({"prompt": "a house"}, ("text",)),
        ({"images": ["a"]}, ("image",)),
        ({"videos": ["a"]}, ("video",)),
        ({"audios": ["a"], "prompt": " "}, ("audio",)),
        ({"audios": ["a"], "images": ["b"], "prompt": "c", "videos": ["d"]}, ("text", "image", "video", "audio")),
        ({"history": [Turn(videos=("a",))], "prompt": "b"}, ("video", "text")),
        ({"history": [Turn("a"), Turn("b", images=("c",))], "prompt": "d"}, ("text", "image")),
        ({"history": [Turn("only the past", answer="hi")]}, ("text",)),
    ],
)
def test_modalities(fields, modalities):
    assert GenerationRequest(**fields).modalities == modalities


def test_turn():
    request = GenerationRequest("a house", ["i"], ["v"], ["a"], history=[Turn("hello", answer="hi")])
    assert request.turn == Turn("a house", ("i",), ("v",), ("a",), answer="")


@pytest.mark.parametrize("flux", FLUX_MODELS.values(), ids=FLUX_MODELS)
def test_defaults(flux):
    past = {"prompt": "a house", "history": [Turn("hello")], "reason": True}
    assert GenerationRequest(**past).with_defaults(flux, seed=7) == GenerationRequest(
        **past,
        width=flux.resolution,
        height=flux.resolution,
        num_inference_steps=flux.num_inference_steps,
        guidance_scale=flux.guidance_scale,
        seed=7,
    )


def test_defaults_keep_zero():
    request = GenerationRequest(
        prompt="a house", width=64, height=80, num_inference_steps=3, guidance_scale=0, seed=0, num_images_per_prompt=2
    )
    assert request.with_defaults(FLUX_MODELS["flux.1-dev"], seed=MAX_SEED) == request


def test_frozen():
    for value in (GenerationRequest(prompt="a house"), Turn("a house")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            value.prompt = "a castle"


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([64, 128, 10**400, -(10**4000), "a house", "x" * 8193])
    | st.floats()
    | st.text(st.characters(), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=9)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
        | st.dictionaries(st.sampled_from([field.name for field in dataclasses.fields(Turn)]), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES, max_size=4))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_json(fields):
    try:
        request = GenerationRequest(**{"prompt": "a house", **fields})
    except InvalidRequestError as error:
        check_sentence(str(error))
        return
    for name in NUMBERS:
        value, allowed = getattr(request, name), getattr(LIMITS, name)
        assert value is None or (type(value) in (int, float) and allowed.low <= value <= allowed.high)
    assert len(request.prompt.encode()) <= LIMITS.prompt_bytes
    assert all(isinstance(turn, Turn) for turn in request.history)
    assert request.with_defaults(FLUX_MODELS["flux.1-dev"], seed=1).modalities == request.modalities

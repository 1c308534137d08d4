"""Prompts of other programs: LoRA tags, choices and wildcards are used, and other signs go, with a note."""

from contextlib import suppress
from dataclasses import replace

import pytest

from x2i_app.errors import InvalidRequestError
from x2i_app.limits import LIMITS
from x2i_app.prompts import known_loras, resolve_prompt, resolve_request
from x2i_app.request import GenerationRequest
from x2i_app.settings import Settings


def plain(prompt):
    return resolve_prompt(prompt, 0)[0]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a (red:1.2) house", "a red house"),
        ("a (red house:0.8), (night:1.5)", "a red house, night"),
        ("((masterpiece)), a cat", "masterpiece, a cat"),
        ("(((a cat:1.1)))", "a cat"),
        ("(((a cat)))", "a cat"),
        ("((a cat:1.1)), ( (night) )", "a cat, night"),
        ("(portrait of a (young) woman:1.3)", "portrait of a young woman"),
        ("(((a (small) cat)))", "a small cat"),
        ("(((a, b), c), d:1.3)", "a, b, c, d"),
        (r"(miku \(vocaloid\):1.2)", "miku (vocaloid)"),
        ("a (cat (of (my:1.1) aunt", "a (cat (of my aunt"),
        ("a (cat (on a mat:1.2):1.1)", "a cat on a mat"),
        ("a [blurry] cat", "a blurry cat"),
        ("[[a]] cat", "a cat"),
        ("a [cat:dog:0.5]", "a dog"),
        ("a [cat::0.5] house", "a cat house"),
        ("a (cat (of my)1.3 aunt:1.1), (a (big) dog)++", "a cat of my aunt, a big dog"),
        ("a [cat:[dog:fox:0.3]:0.5]", "a fox"),
        ("a [hat:10] cat", "a hat cat"),
        ("[red|blue] car", "red car"),
        ("a cat BREAK a dog", "a cat, a dog"),
        ("a cat,\nBREAK\na dog", "a cat, a dog"),
        (r"miku \(vocaloid\), (blue hair:1.3)", "miku (vocaloid), blue hair"),
        ("(word:-0.5)", "word"),
        ("a (red house)1.3, (night)++ and (day)--", "a red house, night and day"),
        ("a cat AND a dog", "a cat and a dog"),
        ("a cat :1.2 AND a dog:0.5", "a cat and a dog"),
        ("a cat BREAK a dog AND (red:1.3)", "a cat, a dog and red"),
        ("a poster at 16:9 AND a cat", "a poster at 16:9 and a cat"),
        ("{{{masterpiece}}}, {{a red house}}, {b}", "masterpiece, a red house, {b}"),
        ("a red house::1.5 night::-0.5 snow::", "a red house, night, snow"),
        ("std::vector, 3:2", "std::vector, 3:2"),
        ("（红色:1.2）", "（红色:1.2）"),
        ("(红色:1.2)的房子", "红色的房子"),
    ],
)
def test_signs_go(prompt, expected):
    text, tags, notes = resolve_prompt(prompt, 0)
    assert (text, tags) == (expected, [])
    assert len(notes) == (prompt != expected)
    assert all("have no effect here" in note for note in notes)
    assert resolve_prompt(expected, 0) == (expected, [], [])


@pytest.mark.parametrize(
    ("prompt", "expected", "left_out"),
    [
        ("a cat --ar 16:9 --v 6.1 --tile", "a cat", "--ar 16:9 --v 6.1 --tile"),
        ("a cat --no dogs, birds --v6", "a cat", "--no dogs, birds --v6"),
        ("a cat —ar 16:9", "a cat", "—ar 16:9"),  # telephones make a dash of two
        ("/imagine prompt: a cat --niji 6", "a cat", "--niji 6"),
        ("a cat\nNegative prompt: dog,\nblurry\nSteps: 20, Seed: 5", "a cat", "Negative prompt: dog, blurry Steps: 20"),
        ("a cat, snow\nSteps: 20, Sampler: Euler, Seed: 5", "a cat, snow", "Steps: 20, Sampler: Euler, Seed: 5"),
        ("a face <segment:face> in snow", "a face in snow", "<segment:face>"),
        ("a cat <embed:easynegative>", "a cat", "<embed:easynegative>"),
    ],
)  # fmt: skip
def test_parameters_go(prompt, expected, left_out):
    """Of Midjourney, A1111 and SwarmUI."""
    text, tags, notes = resolve_prompt(prompt, 0)
    assert (text, tags) == (expected, [])
    assert notes[0].startswith(left_out)
    assert all("is left out of the prompt" in note for note in notes)


@pytest.mark.parametrize(
    "prompt",
    [
        "a house -- very old, -- and red",
        "a poster that says --draft version and more",
        'a sign "--ar 16:9"',
        "--ar 16:9",
        "a cat --ar 16:9 on a mat",
        "first\nSteps: 20 of stone",
        "Steps: 20, stone",
    ],
)
def test_what_only_looks_like_parameters_stays(prompt):
    assert resolve_prompt(prompt, 0) == (prompt, [], [])


def test_variables_and_swarmuis_choices():
    for seed in range(4):
        text = resolve_prompt("${season=!{summer|winter}} ${season} day, ${season} night", seed)[0]
        assert text in ("summer day, summer night", "winter day, winter night")
        assert resolve_prompt("<random:red,blue> house", seed)[0] in ("red house", "blue house")
        assert resolve_prompt("a <random:red|dark, blue> house", seed)[0] in ("a red house", "a dark, blue house")
    assert {resolve_prompt("${a={red|blue}}${a}", seed)[0] for seed in range(20)} == {"red", "blue"}
    assert plain("a ${color:green} house, ${other}") == "a green house, ${other}"


def test_a_lora_with_a_drive_letter():
    assert resolve_prompt(r"<lora:C:\models\ink.safetensors:0.5> a cat", 0)[:2] == (
        "a cat", [(r"C:\models\ink.safetensors", 0.5)]
    )  # fmt: skip


@pytest.mark.parametrize(
    "prompt",
    [
        "a house (red) on snow",
        "a poster, ratio (16:9), at (10:30)",
        "print(a[0]) on a screen",
        'a sign that says "(a:1.2) [b] BREAK"',
        "a sign “[open]”",
        "TAKE A BREAK",
        "ROCK AND ROLL",
        "a book about C++, f(x)++ and (a)--flag",
        '{"subject": "a cat", "style": {"name": "ink"}}',
        "f(x) = {x}",
        "a house (red (dark) or blue) on snow",
        '{"subject": "((a|b))", "colors": ["red", [1, 2]], "mood": {"one": "calm | quiet __x__"}}',
        "a snake_case_name and __",
        "a < b and <html> and <lora>",
        "C:\\Users\\me",
        "caf\u00e9 :) ;(",
        "",
    ],
)
def test_ordinary_prompts_stay(prompt):
    assert resolve_prompt(prompt, 0) == (prompt, [], [])


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (r"a \{b|c\} d", "a {b|c} d"),
        (r"{a\|b|a\|b}", "a|b"),
        (r"\(a\) \[b\] \{c\}", "(a) [b] {c}"),
        ("{a|{a|{a|a}}}", "a"),
        ("{{a|a}|{a|a}}", "a"),
        ("{2$$a|a} {~b|b} {@c|c}", "a, a b c"),
        ("__~sea-animal__ __@tree__", "sea animal tree"),
    ],
)
def test_nested_and_escaped_choices(prompt, expected):
    assert plain(prompt) == expected


@pytest.mark.parametrize(
    "prompt", ["a cat, embedding:bad-hands", "(embedding:style/x.pt:1.2), a cat", "a cat, embedding:a:0.5"]
)
def test_embeddings_of_text_encoders(prompt):
    """ComfyUI's form; the text encoders that know them are not here."""
    text, _, notes = resolve_prompt(prompt, 0)
    assert text == "a cat"
    assert len(notes) == 1
    assert "is left out of the prompt" in notes[0]


def test_choices_follow_the_seed():
    prompts = [resolve_prompt("a {red|green|blue} {cat|{big|small} dog}", seed)[0] for seed in range(60)]
    colors, animals = zip(*((text.split()[1], " ".join(text.split()[2:])) for text in prompts), strict=True)
    assert set(colors) == {"red", "green", "blue"}
    assert set(animals) == {"cat", "big dog", "small dog"}
    assert prompts == [resolve_prompt("a {red|green|blue} {cat|{big|small} dog}", seed)[0] for seed in range(60)]
    assert resolve_prompt("a {red|red} cat", 5)[2] == ["The prompt with its choices filled in: a red cat"]


def test_several_and_weighted_choices():
    texts = {resolve_prompt("{2$$a|b|c}", seed)[0] for seed in range(60)}
    assert texts == {"a, b", "b, a", "a, c", "c, a", "b, c", "c, b"}
    assert {resolve_prompt("{2$$ and $$a|b}", seed)[0] for seed in range(20)} == {"a and b", "b and a"}
    assert {len(resolve_prompt("{1-2$$ $$a|b}", seed)[0].split()) for seed in range(30)} == {1, 2}
    assert {resolve_prompt("{1::a|0::b}", seed)[0] for seed in range(30)} == {"a"}
    assert sum(resolve_prompt("{9::a|1::b}", seed)[0] == "a" for seed in range(200)) > 140
    assert plain("{9$$a}") == "a"


def test_wildcards(tmp_path):
    (tmp_path / "animal.txt").write_bytes("\ufeffcat\r\n# no\r\n\r\nsmall dog\r\n".encode())
    (tmp_path / "place").mkdir()
    (tmp_path / "place/in_town.txt").write_text("in a {narrow|wide} street of __animal__s\n")
    (tmp_path / "old.txt").write_bytes("caf\xe9".encode("latin-1"))
    found = {resolve_prompt("a __animal__", seed, tmp_path)[0] for seed in range(30)}
    assert found == {"a cat", "a small dog"}
    assert resolve_prompt("__ANIMAL__ __old__", 0, tmp_path)[0].endswith(" café")
    texts = {resolve_prompt("__place/in_town__", seed, tmp_path)[0] for seed in range(60)}
    assert len(texts) == 4
    assert "in a narrow street of cats" in texts
    assert "in a narrow street of cats" in {resolve_prompt("__in_town__", seed, tmp_path)[0] for seed in range(60)}
    assert {resolve_prompt("__place/*__", 0, tmp_path)[0].split()[0]} == {"in"}
    (tmp_path / "style.txt").write_text("<lora:my__ink__one:0.5> ink")
    assert resolve_prompt("__style__, a cat", 0, tmp_path)[:2] == ("ink, a cat", [("my__ink__one", 0.5)])


@pytest.mark.parametrize("folder", ["there", "nowhere", None])
def test_missing_wildcards(tmp_path, folder):
    """The name itself stands for what is missing, so that nothing of the prompt is lost."""
    (tmp_path / "there").mkdir()
    (tmp_path / "secret.txt").write_text("hidden")
    for prompt, text in (("a __sea-animal__", "a sea animal"), ("a __../secret__", "a __../secret__")):
        got, _, notes = resolve_prompt(prompt, 0, folder and tmp_path / folder)
        assert got == text
        assert len(notes) == 2 * (got != prompt)
    assert "There is no list sea-animal.txt" in resolve_prompt("a __sea-animal__", 0)[2][1]


def test_choices_without_end(tmp_path):
    (tmp_path / "loop.txt").write_text("__loop__")
    (tmp_path / "grow.txt").write_text("x" * 3000 + " __grow__")
    with pytest.raises(InvalidRequestError, match="more than 500 choices"):
        resolve_prompt("__loop__", 0, tmp_path)
    with pytest.raises(InvalidRequestError, match="more than 8,192 bytes once its choices"):
        resolve_prompt("__grow__", 0, tmp_path)


@pytest.mark.parametrize(
    ("prompt", "expected", "tags"),
    [
        ("a cat <lora:ink:0.8>", "a cat", [("ink", 0.8)]),
        ("<lora:ink>a cat", "a cat", [("ink", 1.0)]),
        ("a <lora:ink:0.8> cat, <LORA:two words:-1>, night", "a cat, night", [("ink", 0.8), ("two words", -1.0)]),
        ("a cat <lora:a/b.safetensors:0.2:0.7>", "a cat", [("a/b.safetensors", 0.7)]),
        ("a cat <lyco:ink:unet=0.4>", "a cat", [("ink", 0.4)]),
        ("a cat <lora:ink:0.8:lbw=INALL:stop=20>", "a cat", [("ink", 0.8)]),
        ("a cat <lora:ink:te=0:unet=0.6>", "a cat", [("ink", 0.6)]),
        ("a cat <lora:ink:strong>", "a cat", [("ink", 1.0)]),
        ("a cat <hypernet:x:1>", "a cat", []),
        ("a cat <lora:__ink__v2__:1>", "a cat", [("__ink__v2__", 1.0)]),
        ("a {cat <lora:ink:0.5>|cat <lora:ink:0.5>}", "a cat", [("ink", 0.5)]),
    ],
)
def test_tags(prompt, expected, tags):
    text, found, notes = resolve_prompt(prompt, 0)
    assert (text, found) == (expected, tags)
    assert len(notes) == (not tags or "{" in prompt)


@pytest.fixture
def settings(tmp_path):
    """A models folder with LoRAs; they are only named here."""
    folder = tmp_path / "models/loras"
    (folder / "styles").mkdir(parents=True)
    for name in (
        "Ink.safetensors",
        "styles/oil paint.safetensors",
        "three.safetensors",
        "four.safetensors",
        "five.safetensors",
    ):
        (folder / name).write_bytes(b"x")
    return Settings(models=str(tmp_path / "models"), wildcards=str(tmp_path / "none"))


def test_loras_of_a_request(settings):
    known = known_loras(settings)
    request = resolve_request(GenerationRequest("a cat <lora:ink:0.8> <lora:oil paint:5> <lora:gone:1>"), 0, settings)
    assert request.prompt == "a cat"
    assert request.loras == ((str(known["Ink"]), 0.8), (str(known["oil paint"]), 2.0))
    assert request.notes == (
        "The prompt's LoRA Ink is used with weight 0.8.",
        "The prompt's LoRA oil paint is used with weight 2.",
        "There is no LoRA 'gone' on this machine, so the prompt's tag for it is left out.",
    )
    assert resolve_request(request, 0, settings) is request


def test_a_negative_prompt(settings, tmp_path):
    """It is read by the same rules, and its notes say that they are about it."""
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/bad.txt").write_text("fog")
    given = {"negative_prompt": "(rain:1.2), {snow|snow}, __bad__ <lora:ink:0.8>", "true_cfg_scale": 3}
    listed = replace(settings, wildcards=str(tmp_path / "lists"))
    request = resolve_request(GenerationRequest("a cat", **given), 0, listed)
    assert (request.prompt, request.negative_prompt, request.true_cfg_scale) == ("a cat", "rain, snow, fog", 3)
    assert request.loras == ()
    assert request.notes == (
        "Negative prompt: The prompt with its choices filled in: rain, snow, fog",
        "Negative prompt: Weights and steps in the prompt have no effect here, so only their text is used: (rain:1.2)",
        "Negative prompt: <lora:ink:0.8> is left out of the prompt, as it means nothing here.",
    )
    assert resolve_request(request, 0, listed) is request
    chosen = {
        resolve_request(GenerationRequest("a", negative_prompt="{b|c}"), seed, settings).negative_prompt
        for seed in range(20)
    }
    assert chosen == {"b", "c"}


def test_a_negative_prompt_of_signs_only(settings):
    """Nothing is left to avoid, so its scale goes too."""
    asked = GenerationRequest("a cat", negative_prompt="embedding:bad-hands", true_cfg_scale=3)
    request = resolve_request(asked, 0, settings)
    assert (request.negative_prompt, request.true_cfg_scale) == ("", None)
    assert request.notes == (
        "Negative prompt: embedding:bad-hands is left out of the prompt, as it means nothing here.",
    )


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (r"\{red|blue\} house", "{red|blue} house"),
        (r"\(big:1.2\) cat, (small:1.2)", "(big:1.2) cat, small"),
        (r'\[a\] and {x\|y|x\|y}, "\{no\}"', '[a] and x|y, "{no}"'),
        ("{one} cat", "{one} cat"),
    ],
)
def test_a_sign_is_kept_however_often_a_prompt_is_resolved(settings, prompt, expected):
    """The engine resolves a request, the pipeline resolves its prompt, and an image restores it."""
    request = resolve_request(GenerationRequest(prompt), 0, settings)
    assert resolve_request(request, 0, settings) is request
    assert plain(request.prompt) == plain(prompt) == expected


def test_loras_that_are_chosen_already(settings):
    """They keep the weight that was chosen, and no more than allowed are used."""
    ink = str(known_loras(settings)["Ink"])
    request = GenerationRequest("a cat <lora:ink:0.8>", loras=[(ink, 0.3)])
    assert resolve_request(request, 0, settings).loras == ((ink, 0.3),)
    many = GenerationRequest("a cat <lora:ink><lora:oil paint><lora:three><lora:four><lora:five>")
    resolved = resolve_request(many, 0, settings)
    assert len(resolved.loras) == LIMITS.loras
    assert resolved.notes[-1] == "The prompt's LoRA five is left out; up to 4 are allowed."


def test_a_prompt_of_tags_only(settings):
    with pytest.raises(InvalidRequestError, match="The request is empty"):
        resolve_request(GenerationRequest("<lora:ink:1>"), 0, settings)
    assert resolve_request(GenerationRequest("<lora:ink:1>", images=["a.png"]), 0, settings).prompt == ""


LONG = LIMITS.prompt_bytes - 200


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "kind",
    [" ", "\n", "\t", "a", "1", ",", "(", "[", "<", ":", "_", "-", "{", " ,", "BREAK ", "(: 1", ":1 AND", "(a)+", "\\"],
)
@pytest.mark.parametrize("start", ["a", "<lora:", "(a:", "{", "__", "[", '"', "BREAK", "(a:1", "(embedding:"])
def test_t21_the_time_grows_with_the_length(start, kind):
    """No prompt of a stranger holds up the app: a search holds up all its threads, and here took up to hours."""
    with suppress(InvalidRequestError):
        resolve_prompt(start + kind * (LONG // len(kind)) + "b", 0)


def test_breaks_in_a_row():
    assert plain("a cat BREAK BREAK a dog") == "a cat, a dog"
    assert plain("a cat , BREAK, a dog") == "a cat, a dog"
    assert plain("<lora:ink :0.5> a cat") == "a cat"
    assert resolve_prompt("< lora : ink :0.5> a cat", 0)[1] == [("ink", 0.5)]

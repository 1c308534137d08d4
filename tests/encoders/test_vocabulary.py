"""What of a prompt x2i-tiny does not know: named words, languages, and what its results then say."""

import errno
import json
import random
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from x2i_app import load_pipeline
from x2i_app.encoders.base import HiddenStates
from x2i_app.encoders.vocabulary import Vocabulary
from x2i_app.miniature.everyday import everyday_prompt
from x2i_app.miniature.everyday.own_wordings import first_prompts, own_wordings
from x2i_app.miniature.foreign_media import foreign_image
from x2i_app.miniature.meaning import UNKNOWN as MARK
from x2i_app.miniature.world import audio, describe, draw_scene, random_scene
from x2i_app.notes import GUESS, UNKNOWN, UNKNOWN_LANGUAGE, UNKNOWN_MEDIA, UNKNOWN_TERMS
from x2i_app.request import Turn
from x2i_app.settings import ASSETS

CONFIG = json.loads((ASSETS / "x2i-tiny" / "processor" / "tokenizer_config.json").read_text(encoding="utf-8"))
BUNDLED = Vocabulary.from_dict(CONFIG["vocabulary"])
ROWS = [*own_wordings(), *first_prompts()]
SIX = ("en", "zh", "de", "fr", "ja", "vi")


def said(answer: str | None, confidence: float | None = None) -> HiddenStates:
    return HiddenStates(torch.empty(0), torch.empty(0), answer, confidence=confidence)


@pytest.fixture(scope="module")
def encoder():
    return load_pipeline("x2i-tiny", device="cpu").encoder


def test_a_full_temporary_folder(monkeypatch):
    """The library unpacks its model there; without it no language is named, and the image is still generated."""

    def fail(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("py3langid.langid.IDENTIFIER", None)
    monkeypatch.setattr("py3langid.langid._load_model_file", fail)
    assert BUNDLED.foreign_language("una casa roja en la nieve") is None


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("a dog riding a bicycle", ("dog", "riding", "bicycle")),
        ("A Dog, a DOG and a red house!", ("dog",)),
        ("ein Hund neben einem roten Haus", ("hund",)),
        ("un éléphant dans l’herbe", ("éléphant",)),
        ("con voi trên bãi biển", ("voi",)),
        ("沙滩上的大象", ("大象",)),
        ("骑自行车的狗", ("骑自行车", "狗")),
        ("熊猫和一棵树", ("熊猫",)),
        ("海辺の象", ("象",)),
        ("a red house at night", ()),
        ("a red hosue on the beach, yelllow", ()),
        ("两只猫和红色的球", ()),
        ("🐱 2 !!", ()),
        ("", ()),
    ],
)
def test_unknown_terms(text, terms):
    assert BUNDLED.unknown_terms(text) == terms


def test_a_text_of_unknown_terms_only():
    assert not BUNDLED.knows_any("lasagna bolognese")
    assert BUNDLED.knows_any("lasagna in a house")
    assert BUNDLED.knows_any("12 !?"), "there is no word in it"


def test_a_strange_term_counts_whatever_the_answer():
    for text in (
        "an elephant and a red house",
        "ein Elefant im Schnee",
        "con voi trên bãi biển",
        "沙滩上的大象",
        "海辺の象",
    ):
        assert BUNDLED.has_strange(text)
    for text in (
        "a red house",
        "an oak tree and a fir tree",
        "no elephant, just a house",
        "ein Haus ohne Hund",
        "两只猫",
    ):
        assert not BUNDLED.has_strange(text)
    known = [row for row in ROWS if not row.answer.endswith(MARK)]
    assert sum(BUNDLED.has_strange(row.text) for row in known) <= 0.01 * len(known)
    strange = [row for row in ROWS if row.answer.endswith(MARK) and row.language in SIX]
    assert sum(BUNDLED.has_strange(row.text) for row in strange) >= 0.7 * len(strange)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("una casa roja en la nieve de noche", "Spanish"),
        ("un gatto nero sulla spiaggia", "Italian"),
        ("uma casa vermelha na praia", "Portuguese"),
        ("een rood huis in de sneeuw", "Dutch"),
        ("красный дом на снегу ночью", "Russian"),
        ("눈 속의 빨간 집", "Korean"),
        ("بيت أحمر في الثلج", "Arabic"),
        ("แมวบนชายหาด", "Thai"),
        ("a red house", None),
        ("spaghetti", None),
        ("", None),
    ],
)
def test_foreign_languages(text, language):
    assert BUNDLED.foreign_language(text) == language


def test_a_known_prompt_needs_no_detector(monkeypatch):
    """It unpacks its model in a process that meets an unknown word, and in no other."""
    monkeypatch.setitem(sys.modules, "py3langid", None)
    for text in ("a red house on snow at night", "ein rotes Haus im Schnee", "雪地上的红房子"):
        assert BUNDLED.foreign_language(text) is None
    with pytest.raises(ImportError):
        BUNDLED.foreign_language("una casa roja en la nieve")


def test_hardly_any_known_prompt_is_called_foreign():
    rng = random.Random(3)
    texts = [everyday_prompt(rng, unknown=0.0, is_mixed=False).text for _ in range(300)]
    texts += [row.text for row in ROWS if row.language in SIX]
    assert sum(BUNDLED.foreign_language(text) is not None for text in texts) <= 0.005 * len(texts)
    foreign = [row.text for row in ROWS if row.language not in SIX]
    assert sum(BUNDLED.foreign_language(text) is not None for text in foreign) >= 0.95 * len(foreign)


def test_a_vocabulary_is_kept_in_a_tokenizer_config():
    assert Vocabulary.from_dict(BUNDLED.as_dict()) == BUNDLED
    assert BUNDLED.languages == SIX
    nothing = Vocabulary.from_dict(None)
    assert nothing.unknown_terms("a dog") == ()
    assert nothing.knows_any("a dog")
    assert nothing.foreign_language("una casa roja en la nieve") is None


@pytest.mark.parametrize(
    ("prompt", "answer", "template", "named"),
    [
        ("a dog and a house", "a large red house in the middle, on grass by day; ?", UNKNOWN_TERMS, "“dog”"),
        ("four cats", "on grass by day; ?", UNKNOWN, "or it cannot do it"),
        ("una casa roja en la nieve", "on snow by day", UNKNOWN_LANGUAGE, "Spanish"),
        ("lasagna", "a large red house in the middle, on grass by day", UNKNOWN_TERMS, "“lasagna”"),
        ("a lion", "a large orange cat in the middle, on grass by day", UNKNOWN_TERMS, "“lion”"),
        ("", "on grass by day; ?", UNKNOWN_MEDIA, "finds nothing that it knows"),
    ],
)
def test_notes(encoder, prompt, answer, template, named):
    (note,) = encoder._unknown_notes([Turn("a horse"), Turn(prompt)], said(answer))
    assert note.template == template
    assert named in note
    assert answer.removesuffix(MARK) not in note, "the answer itself is shown beside its notes"
    assert "It can draw houses" in note


def test_no_note_about_what_is_known(encoder):
    assert encoder._unknown_notes([Turn("a red house")], said("a large red house in the middle, on grass by day")) == ()
    assert encoder._unknown_notes([Turn("")], said("on grass by day")) == ()
    assert encoder._unknown_notes([Turn("lasagna")], said(None)) == ()


@pytest.mark.parametrize("prompt", ["", "make it night"])
def test_a_guess_is_told(encoder, prompt):
    answer, least = "a large brown balloon in the middle, on sand at night", encoder.spec.least_confidence
    shown = Turn(prompt, images=[Image.new("RGB", (8, 8))])
    (note,) = encoder._unknown_notes([shown], said(answer, least - 0.01))
    assert note.template == GUESS
    assert "its answer is a guess" in note
    assert encoder._unknown_notes([shown], said(answer, least)) == ()
    assert encoder._unknown_notes([shown, Turn("make it snow")], said(answer, least - 0.01)) == ()
    (note,) = encoder._unknown_notes([Turn("a lion")], said(answer, least - 1))
    assert note.template == UNKNOWN_TERMS


def test_an_answer_has_its_confidence(encoder):
    """The mean logarithm of the probabilities of its own tokens, whatever is encoded beside it."""
    prompts = ["a house", "a green boat and a small red ball on the sea at night", "lasagna house"]
    together = encoder.encode_batch([[Turn(prompt)] for prompt in prompts])
    for prompt, states in zip(prompts, together, strict=True):
        (single,) = encoder.encode_batch([[Turn(prompt)]])
        assert states.confidence == pytest.approx(single.confidence, abs=1e-4)
        assert -5 < states.confidence < 0
        # The last layer's states give the probabilities of all tokens but the first.
        ids = encoder.processor.tokenizer(states.answer)["input_ids"]
        scores = encoder.model.lm_head(single.hidden_states[:, -1]).log_softmax(-1)[0]
        followed = scores[: len(ids) - 1].gather(1, torch.tensor(ids[1:])[:, None]).sum()
        ended = scores[len(ids) - 1, encoder.model.generation_config.eos_token_id]
        assert (followed + ended).item() / (len(ids) + 1) >= states.confidence - 1e-3


def test_bars_silence_and_loudness_do_not_matter(encoder):
    """A letterboxed image, a pillarboxed video, and quiet audio that begins late, with the bundled weights."""
    scene = random_scene(random.Random(5))
    image = draw_scene(scene, 256, 0.0, 1)
    boxed = ImageOps.pad(image, (256, 384), color=(0, 0, 0))
    assert encoder.encode(images=[boxed]).answer == encoder.encode(images=[image]).answer == describe(scene)
    frames = np.stack([np.asarray(draw_scene(scene, 128, moment / 2, 1)) for moment in range(8)])
    wide = np.pad(frames, ((0, 0), (0, 0), (50, 50), (0, 0)))
    assert encoder.encode(videos=[(wide, 2.0)]).answer == encoder.encode(videos=[(frames, 2.0)]).answer
    samples = audio(scene, 4.0, 16_000, 1)
    late = np.pad(samples / 4, (16_000, 0)).astype(np.float32)
    assert encoder.encode(audios=[(late, 16_000)]).answer == encoder.encode(audios=[(samples, 16_000)]).answer


def test_an_image_of_nothing_known_is_told(encoder):
    """With an instruction, too, which alone is known."""
    rng = random.Random(3)
    for index in range(4):
        image = draw_scene(random_scene(rng), 128, 0.0, index)
        assert encoder.encode("make it night", images=[image]).notes == ()
    told = [encoder.encode("add a red ball", images=[foreign_image(128, 1000 + index)]).notes for index in range(8)]
    templates = [note.template for notes in told for note in notes]
    assert len(templates) >= 7
    assert set(templates) == {GUESS, UNKNOWN}


def test_many_unknown_terms_are_cut(encoder):
    (note,) = encoder._unknown_notes(
        [Turn("dog horse dragon unicorn bicycle wizard lamp guitar")], said("on grass by day; ?")
    )
    assert note.values["terms"] == "“dog”, “horse”, “dragon”, “unicorn”, “bicycle”, “wizard”, …"


def test_results_say_what_is_unknown(encoder):
    """From a prompt to the note, with the bundled weights."""
    states = encoder.encode("una casa roja en la nieve de noche")
    assert [note.template for note in states.notes] == [UNKNOWN_LANGUAGE]
    assert encoder.encode("a red house on snow at night").notes == ()

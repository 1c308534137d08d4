"""The cases of the evaluation: always the same, of the kind that their row says, and not trained on."""

import numpy as np
import pytest

from x2i_app.errors import InvalidRequestError
from x2i_app.miniature.evaluation.attributes import Tally, attributes, compare
from x2i_app.miniature.evaluation.cases import DEVICES, ROWS, SCENES, cases, find_rows
from x2i_app.miniature.evaluation.command import JUDGE
from x2i_app.miniature.evaluation.judge import Judge
from x2i_app.miniature.meaning import parse_answer
from x2i_app.miniature.pixels import to_tensor
from x2i_app.miniature.pool import pool_scene
from x2i_app.miniature.recipe import RECIPE
from x2i_app.miniature.world import HELD_OUT, Heard, Scene, describe, parse_canonical, sounding

LANGUAGES = {"english": "en", "chinese": "zh", "german": "de", "french": "fr", "japanese": "ja", "vietnamese": "vi"}
EDITS = ("instruction", "image+audio", "video+text", "image+text+audio", "dialogue")
OWN = ("own", "first", "unknown")
ON_DEVICES = {name: tuple(name.split("-")) for name in ROWS if "-" in name}  # medium, and how it is delivered


def same(one, other) -> bool:
    """Whether two media are equal: images, arrays, or tuples of these."""
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return np.array_equal(np.asarray(one), np.asarray(other))


def test_rows_and_goals():
    factors = {name: row.factor for name, row in ROWS.items()}
    languages = dict.fromkeys(LANGUAGES, 0.98) | {"english": 0.99}
    media = {"image": 0.97, "images": 0.95, "video": 0.95, "audio": 0.95, "screenshot": 0.95}
    own = dict.fromkeys(OWN, 0.9)
    assert factors == languages | media | dict.fromkeys(EDITS, 0.93) | own | dict.fromkeys(ON_DEVICES, 0.92)
    assert len(ON_DEVICES) == 9
    assert SCENES == 500


@pytest.mark.parametrize("name", ROWS)
def test_cases_are_reproducible(name):
    row = ROWS[name]
    assert cases(row, 12) == cases(row, 12)
    assert cases(row, 12) == cases(row, 30)[:12], "a longer list starts with the shorter one"
    assert len({case.dialogue for case in cases(row, 30)}) == 30
    once, again = cases(row, 1)[0].turns(), cases(row, 1)[0].turns()
    for one, other in zip(once, again, strict=True):
        assert one.prompt == other.prompt
        assert all(same(getattr(one, media), getattr(other, media)) for media in ("images", "videos", "audios"))


@pytest.mark.parametrize("name", ROWS)
def test_modalities_of_a_row(name):
    given = {modality for case in cases(ROWS[name], 20) for turn in case.turns() for modality in turn.modalities}
    assert given == set(ROWS[name].modalities)


@pytest.mark.parametrize("name", ROWS)
def test_answers_are_canonical(name):
    for case in cases(ROWS[name], 60):
        if name in OWN:
            meaning = parse_answer(case.answer)
            assert meaning.is_partial == (name == "unknown")
            assert case.wanted == (meaning.scene or Heard(meaning.sky, meaning.ground, ()))
        elif isinstance(case.wanted, Scene):
            assert parse_canonical(case.answer) == case.wanted
        else:
            assert name.split("-")[0] == "audio"
            assert case.wanted == sounding(case.dialogue[0].shown[0].scene)


def test_rows_share_their_scenes():
    """Case i is the same scene in six languages, as an image and as a video."""
    rows = [cases(ROWS[name], 40) for name in (*LANGUAGES, "image", "video")]
    for asked in zip(*rows, strict=True):
        assert len({case.wanted for case in asked}) == 1
        assert len({case.dialogue[0].text for case in asked[:6]}) == 6
        assert all(case.dialogue[0].shown[0].scene == asked[0].wanted for case in asked[6:])


def test_descriptions_vary():
    asked = cases(ROWS["german"], 60)
    assert sum(case.dialogue[0].text == describe(case.wanted, "de") for case in asked) < 20


def test_every_third_scene_has_an_untrained_pair():
    for name in ("english", "image", "screenshot", "images"):
        asked = cases(ROWS[name], SCENES)
        assert all(case.untrained for case in asked[::3])
    for case in asked:
        pairs = {(thing.kind, thing.colour) for thing in case.wanted.things} & HELD_OUT
        assert bool(pairs) == bool(case.untrained)
        assert all(name in ("kind", "colour") for name, _ in case.untrained)


@pytest.mark.parametrize("name", EDITS)
def test_unchanged_attributes_of_an_edit(name):
    for case in cases(ROWS[name], 60):
        shown, wanted = attributes(case.shown), attributes(case.wanted)
        assert all(shown[key] == wanted[key] for key in case.unchanged)
        assert all(shown.get(key) != value for key, value in wanted.items() if key not in case.unchanged)


def test_only_edits_have_unchanged_attributes():
    assert not any(case.unchanged for name in set(ROWS) - set(EDITS) for case in cases(ROWS[name], 5))


def test_an_instruction_about_the_sky_changes_only_the_sky():
    changed = [case for case in cases(ROWS["instruction"], 200) if case.shown.sky != case.wanted.sky]
    assert changed
    assert all(attributes(case.wanted).keys() - case.unchanged == {("sky", None)} for case in changed)


def test_an_audio_wants_only_what_is_heard():
    asked = cases(ROWS["audio"], 100)
    assert all(isinstance(case.wanted, Heard) for case in asked)
    assert 60 < sum(bool(case.wanted.kinds) for case in asked) < 95, "some have only a sky and a ground"


def test_a_dialogue():
    for case in cases(ROWS["dialogue"], 20):
        turns = case.turns()
        assert len(turns) == 3
        assert not any(turn.answer for turn in turns)
        assert case.shown == case.dialogue[1].wanted


def test_types_and_sizes_of_media():
    image = cases(ROWS["image"], 1)[0].turns()[0].images[0]
    assert (image.size, image.mode) == ((256, 256), "RGB")
    frames, fps = cases(ROWS["video"], 1)[0].turns()[0].videos[0]
    assert (frames.shape, frames.dtype, fps) == ((8, 128, 128, 3), np.uint8, 2)
    samples, rate = cases(ROWS["audio"], 1)[0].turns()[0].audios[0]
    assert (samples.shape, samples.dtype, rate) == ((64_000,), np.float32, 16_000)


def test_scenes_of_three_things_were_not_trained_on():
    """Scenes of one or two things are too few for that."""
    trained = {pool_scene(index, "train", 0)[0] for index in range(RECIPE.scenes)}
    asked = {case.wanted for case in cases(ROWS["image"], SCENES) if len(case.wanted.things) == 3}
    assert len(asked) > 100
    assert not trained & asked


@pytest.mark.parametrize("name", ON_DEVICES)
def test_media_of_devices(name):
    """The same scenes as made, each medium changed as the row says, and of the same types."""
    medium, device = ON_DEVICES[name]
    for made, delivered in zip(cases(ROWS[medium], 3), cases(ROWS[name], 3), strict=True):
        assert made.wanted == delivered.wanted
        (one,), (other,) = (getattr(case.turns()[0], f"{medium}s") for case in (made, delivered))
        assert not same(one, other)
        if medium == "image":
            assert same(other, DEVICES[device](one))
        elif medium == "video":
            assert other[0].dtype == np.uint8
            assert other[1] == one[1]
            assert len(other[0]) == len(one[0])
        else:
            assert other[0].dtype == np.float32
            assert np.abs(other[0]).max() <= 1


def test_devices():
    image = cases(ROWS["image"], 1)[0].turns()[0].images[0]
    samples = cases(ROWS["audio"], 1)[0].turns()[0].audios[0][0]
    black = np.zeros(3)
    assert DEVICES["letterboxed"](image).size == (256, 341)
    assert np.array_equal(np.asarray(DEVICES["letterboxed"](image))[0, 100], black)
    assert DEVICES["pillarboxed"](image).size == (455, 256)
    assert np.array_equal(np.asarray(DEVICES["pillarboxed"](image))[100, 0], black)
    assert np.allclose(np.asarray(DEVICES["darker"](image)), np.asarray(image) * 0.75, atol=1)
    corner = np.asarray(image.resize((256, 256), box=(20.48, 20.48, 235.52, 235.52)), float)
    assert np.abs(np.asarray(DEVICES["cropped"](image)) - corner).mean() < 3
    assert np.allclose(DEVICES["quiet"](samples), samples * 0.2512, atol=1e-4)
    assert 20 * np.log10(np.std(DEVICES["noisy"](np.zeros(64_000)))) == pytest.approx(-26, abs=0.1)
    late = DEVICES["late"](samples)
    assert not late[:16_000].any()
    assert np.array_equal(late[16_000:], samples)


def test_the_judge_reads_images_and_videos():
    judge = Judge.load(JUDGE)
    drawn, filmed = cases(ROWS["image"], 40), cases(ROWS["video"], 40)
    images = to_tensor([case.turns()[0].images[0] for case in drawn])
    frames = to_tensor([case.turns()[0].videos[0][0][5] for case in filmed])
    for asked, pixels in ((drawn, images), (filmed, frames)):
        tallies = [compare(reading, case.wanted) for reading, case in zip(judge.read(pixels), asked, strict=True)]
        assert sum(tallies, Tally()).accuracy > 0.99


def test_find_rows():
    assert find_rows([]) == list(ROWS.values())
    assert [row.name for row in find_rows(["image", "english"])] == ["english", "image"]
    assert [row.name for row in find_rows(["film+text", "sound"])] == ["audio", "video+text"], "former names"
    with pytest.raises(InvalidRequestError, match="no row called 'smell'; choose from english"):
        find_rows(["smell"])

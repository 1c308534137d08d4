"""What the evaluation asks is always the same, is what it says, and is not what was learnt."""

import numpy as np
import pytest

from x2i_app.errors import InvalidRequestError
from x2i_app.miniature.evaluation.attributes import Tally, attributes, compare
from x2i_app.miniature.evaluation.cases import ROWS, SCENES, cases, find_rows
from x2i_app.miniature.evaluation.command import JUDGE
from x2i_app.miniature.evaluation.judge import Judge
from x2i_app.miniature.pixels import to_tensor
from x2i_app.miniature.pool import pool_scene
from x2i_app.miniature.recipe import RECIPE
from x2i_app.miniature.world import HELD_OUT, Heard, Scene, describe, parse_canonical, sounding

LANGUAGES = {"english": "en", "chinese": "zh", "german": "de", "french": "fr", "japanese": "ja", "vietnamese": "vi"}
EDITS = ("instruction", "picture+sound", "film+text", "picture+text+sound", "dialogue")


def same(one, other) -> bool:
    """Whether two media are equal, whatever they are made of."""
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return np.array_equal(np.asarray(one), np.asarray(other))


def test_there_is_a_row_for_every_line_of_the_table_with_its_goal():
    factors = {name: row.factor for name, row in ROWS.items()}
    languages = dict.fromkeys(LANGUAGES, 0.98) | {"english": 0.99}
    media = {"picture": 0.97, "pictures": 0.95, "film": 0.95, "sound": 0.95, "screenshot": 0.95}
    assert factors == languages | media | dict.fromkeys(EDITS, 0.93)
    assert SCENES == 500


@pytest.mark.parametrize("name", ROWS)
def test_cases_are_the_same_every_time_down_to_the_pixels(name):
    row = ROWS[name]
    assert cases(row, 12) == cases(row, 12)
    assert cases(row, 12) == cases(row, 30)[:12], "more scenes begin with the same ones"
    assert len({case.dialogue for case in cases(row, 30)}) == 30
    once, again = cases(row, 1)[0].turns(), cases(row, 1)[0].turns()
    for one, other in zip(once, again, strict=True):
        assert one.prompt == other.prompt
        assert all(same(getattr(one, media), getattr(other, media)) for media in ("images", "videos", "audios"))


@pytest.mark.parametrize("name", ROWS)
def test_a_row_gives_the_modalities_that_it_says(name):
    given = {modality for case in cases(ROWS[name], 20) for turn in case.turns() for modality in turn.modalities}
    assert given == set(ROWS[name].modalities)


@pytest.mark.parametrize("name", ROWS)
def test_the_answer_is_the_canonical_sentence_of_what_is_wanted(name):
    for case in cases(ROWS[name], 60):
        if isinstance(case.wanted, Scene):
            assert parse_canonical(case.answer) == case.wanted
        else:
            assert name == "sound"
            assert case.wanted == sounding(case.dialogue[0].shown[0].scene)


def test_one_scene_is_said_in_six_languages_drawn_and_filmed():
    rows = [cases(ROWS[name], 40) for name in (*LANGUAGES, "picture", "film")]
    for asked in zip(*rows, strict=True):
        assert len({case.wanted for case in asked}) == 1
        assert len({case.dialogue[0].words for case in asked[:6]}) == 6
        assert all(case.dialogue[0].shown[0].scene == asked[0].wanted for case in asked[6:])


def test_words_are_worded_freely():
    asked = cases(ROWS["german"], 60)
    assert sum(case.dialogue[0].words == describe(case.wanted, "de") for case in asked) < 20


def test_a_third_of_the_scenes_has_a_pair_that_is_never_trained():
    for name in ("english", "picture", "screenshot", "pictures"):
        asked = cases(ROWS[name], SCENES)
        assert sum(bool(case.untrained) for case in asked) >= SCENES / 3
    for case in asked:
        pairs = {(thing.kind, thing.colour) for thing in case.wanted.things} & HELD_OUT
        assert bool(pairs) == bool(case.untrained)
        assert all(name in ("kind", "colour") for name, _ in case.untrained)


@pytest.mark.parametrize("name", EDITS)
def test_what_an_edit_leaves_is_counted_and_what_it_changes_is_not(name):
    for case in cases(ROWS[name], 60):
        before, after = attributes(case.shown), attributes(case.wanted)
        assert all(before[key] == after[key] for key in case.unchanged)
        assert all(before.get(key) != value for key, value in after.items() if key not in case.unchanged)


def test_only_an_edit_leaves_something():
    assert not any(case.unchanged for name in set(ROWS) - set(EDITS) for case in cases(ROWS[name], 5))


def test_an_instruction_about_the_sky_leaves_all_but_the_sky():
    changed = [case for case in cases(ROWS["instruction"], 200) if case.shown.sky != case.wanted.sky]
    assert changed
    assert all(attributes(case.wanted).keys() - case.unchanged == {("sky", None)} for case in changed)


def test_a_audio_wants_only_what_it_tells():
    asked = cases(ROWS["sound"], 100)
    assert all(isinstance(case.wanted, Heard) for case in asked)
    assert 60 < sum(bool(case.wanted.kinds) for case in asked) < 95, "some are of a setting alone"


def test_a_dialogue_has_three_turns_and_its_answers_are_left_to_the_mllm():
    for case in cases(ROWS["dialogue"], 20):
        turns = case.turns()
        assert len(turns) == 3
        assert not any(turn.answer for turn in turns)
        assert case.shown == case.dialogue[1].wanted


def test_media_are_what_the_front_door_takes():
    image = cases(ROWS["picture"], 1)[0].turns()[0].images[0]
    assert (image.size, image.mode) == ((256, 256), "RGB")
    frames, fps = cases(ROWS["film"], 1)[0].turns()[0].videos[0]
    assert (frames.shape, frames.dtype, fps) == ((8, 128, 128, 3), np.uint8, 2)
    samples, rate = cases(ROWS["sound"], 1)[0].turns()[0].audios[0]
    assert (samples.shape, samples.dtype, rate) == ((64_000,), np.float32, 16_000)


def test_scenes_of_three_things_are_not_those_that_the_teacher_learnt():
    """Of one thing there are too few for that."""
    trained = {pool_scene(index, "train", 0)[0] for index in range(RECIPE.scenes)}
    asked = {case.wanted for case in cases(ROWS["picture"], SCENES) if len(case.wanted.things) == 3}
    assert len(asked) > 100
    assert not trained & asked


def test_the_judge_finds_in_drawings_and_videos_what_is_wanted():
    judge = Judge.load(JUDGE)
    drawn, filmed = cases(ROWS["picture"], 40), cases(ROWS["film"], 40)
    images = to_tensor([case.turns()[0].images[0] for case in drawn])
    frames = to_tensor([case.turns()[0].videos[0][0][5] for case in filmed])
    for asked, shown in ((drawn, images), (filmed, frames)):
        tallies = [compare(seen, case.wanted) for seen, case in zip(judge.read(shown), asked, strict=True)]
        assert sum(tallies, Tally()).accuracy > 0.99


def test_rows_are_found_by_name_and_only_by_name():
    assert find_rows([]) == list(ROWS.values())
    assert [row.name for row in find_rows(["picture", "english"])] == ["english", "picture"]
    with pytest.raises(InvalidRequestError, match="no row called 'smell'; choose from english"):
        find_rows(["smell"])

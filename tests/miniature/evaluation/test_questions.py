"""The cartoon world's judge answers questions in text."""

import pytest

from x2i_app.evaluation.judges import Sample
from x2i_app.evaluation.prompts import Question
from x2i_app.miniature.evaluation.questions import AttributeJudge, answer, ask_about, known_samples
from x2i_app.miniature.world import draw_scene, parse_canonical
from x2i_app.settings import ASSETS

SCENE = parse_canonical("a large red house on the left and a small green tree on the right, on snow at night")


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("Is there a house?", True),
        ("Is there a small red house?", False),
        ("is there a big red cottage on the left side?", True),
        ("Is there a green house?", False),
        ("Is there a red tree?", False),
        ("Is there still a tree?", True),
        ("Is there an umbrella?", False),
        ("Is the tree small?", True),
        ("Is the house on the right?", False),
        ("Is the car red?", False),
        ("Is it night?", True),
        ("Is it raining?", False),
        ("Is the scene on the snow?", True),
        ("Is the scene on grass?", False),
        ("Are there exactly two objects?", True),
        ("Is there exactly one object?", False),
        ("Is there a dragon?", None),
        ("How many trees are there?", None),
    ],
)
def test_answers(question, said):
    assert answer(question, SCENE) is said


def test_every_question_about_a_scene_is_answered_with_yes():
    questions = list(ask_about(SCENE))
    assert len(questions) == 8
    assert all(answer(question.text, SCENE) for question in questions)


def test_the_judge_answers_from_the_image():
    judge = AttributeJudge.load(ASSETS / "judge")
    questions = (Question("Is there a red house on the left?"), Question("Is it raining?"), Question("Is it art?"))
    assert judge.judge(Sample(draw_scene(SCENE), questions)).answers == (1.0, 0.0, None)


def test_samples_for_self_checks_are_always_the_same():
    first, second = (known_samples(2, 64) for _ in range(2))
    assert [each.text for each in first] == [each.text for each in second]
    assert first[0].image.tobytes() == second[0].image.tobytes()

"""The evaluation from the command line to its files, on the bundled model."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from x2i_app.cli import main
from x2i_app.evaluation.goals import missed_goals
from x2i_app.loading import load_pipeline
from x2i_app.miniature.evaluation.attributes import Tally
from x2i_app.miniature.evaluation.cases import ROWS, cases, find_rows
from x2i_app.miniature.evaluation.evaluate import Models, evaluate, fresh_images, judge_bounds
from x2i_app.miniature.evaluation.judge import Judge
from x2i_app.miniature.evaluation.likeness import Likeness
from x2i_app.miniature.evaluation.results import Results, RowResult
from x2i_app.miniature.evaluation.sampling import Embeds, Sampling, draw, encode
from x2i_app.pipeline import X2IPipeline
from x2i_app.request import Turn
from x2i_app.settings import ASSETS

ROWS_DRAWN = ("english", "images", "audio", "video+text", "dialogue")


def ignore(count: int) -> None:
    """Shows no progress."""


@pytest.fixture(scope="module")
def pipeline() -> X2IPipeline:
    return load_pipeline("x2i-tiny", device="cpu")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The output folder of an evaluation of four scenes."""
    output = tmp_path_factory.mktemp("evaluation") / "new" / "folder"
    arguments = ["evaluate", "--device", "cpu", "--scenes", "4", "--steps", "2", "--rows", ",".join(ROWS_DRAWN)]
    assert main([*arguments, "--output", str(output)]) == 0
    return output


def test_report_json(report):
    results = json.loads((report / "report.json").read_text(encoding="utf-8"))
    assert (results["preset"], results["scenes"], results["steps"], results["size"]) == ("x2i-tiny", 4, 2, 128)
    assert 0 < results["vae_psnr_db"] < 60
    assert results["teacher"]["goal"] == 0.97
    assert [row["name"] for row in results["rows"]] == list(ROWS_DRAWN)
    for row in results["rows"]:
        assert row["accuracy"] == pytest.approx(sum(row["right"].values()) / sum(row["total"].values()))
        low, high = row["interval_95"]
        assert 0 <= low <= row["accuracy"] <= high <= 1
        assert low < high
        assert row["goal"] == pytest.approx(ROWS[row["name"]].factor * results["teacher"]["accuracy"])
        assert row["reached"] == (row["accuracy"] >= row["goal"])
        assert 0 <= row["exact_answers"] <= 1
        assert (row["likeness"] is None) == (row["name"] == "audio")
        assert (row["unchanged_attributes"] is not None) == (row["name"] in ("video+text", "dialogue"))
    assert results["rows"][0]["untrained_pairs"] is not None
    assert results["rows"][2]["total"]["colour"] == 0, "an audio has no colours"


def test_table_and_contact_sheet(report):
    table = (report / "report.md").read_text(encoding="utf-8")
    assert table.startswith("# x2i-tiny: 4 fresh scenes a row, 2 steps, 128 px\n")
    for title in ("teacher, English", *(ROWS[name].title for name in ROWS_DRAWN)):
        assert f"\n| {title} |" in table
    sheet = Image.open(report / "contact-sheet.png")
    assert sheet.mode == "RGB"
    assert sheet.width > 3 * 500
    assert sheet.height > len(ROWS_DRAWN) * 200
    assert {path.name for path in report.iterdir()} == {"report.json", "report.md", "contact-sheet.png"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scenes", "0"], "scenes is 0"),
        (["--scenes", "2.5"], "--scenes: '2.5' is not a whole number"),
        (["--scenes", "many"], "'many' is not a whole number"),
        (["--steps", "1000"], "steps is 1000"),
        (["--rows", "english,smell"], "no row called 'smell'"),
        (["--preset", "gpt-9"], "no preset called 'gpt-9'"),
        (["--light-control", "nowhere.bin"], "nowhere.bin"),
        (["--output", "taken.txt"], "is a file or lies below one"),
        (["--output", "taken.txt/below"], "is a file or lies below one"),
    ],
    ids=" ".join,
)
def test_bad_input(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.txt").write_text("here already\n", encoding="utf-8")
    status = main(["evaluate", *arguments])
    printed = capsys.readouterr()
    assert (status, printed.out, printed.err.count("\n")) == (2, "", 1)
    assert said in printed.err
    assert [path.name for path in tmp_path.iterdir()] == ["taken.txt"]


def test_goals_and_json(tmp_path, capsys):
    arguments = ["evaluate", "--device", "cpu", "--limit", "1", "--steps", "1", "--rows", "english", "--json"]
    status = main([*arguments, "--output", str(tmp_path), "--at-least", "english=0", "--teacher", "none"])
    results = json.loads(capsys.readouterr().out)
    assert (status, results["scenes"], results["rows"][0]["name"]) == (0, 1, "english")
    assert missed_goals({"english": 0.9}, {"english": 0.8}) == ["english is 0.8000, which is below 0.9."]
    assert main([*arguments, "--at-least", "smell=0.5"]) == 2


def test_rows_that_a_model_does_not_accept(tmp_path, capsys):
    deaf = load_pipeline("x2i-tiny", device="cpu")
    deaf.encoder.spec = replace(deaf.encoder.spec, modalities=("text", "image", "video"))
    models, rows = Models(deaf, None, Judge.load(ASSETS / "judge")), find_rows(["english", "audio", "image+audio"])
    results = evaluate(models, tmp_path, scenes=1, rows=rows, sampling=Sampling(steps=1))
    assert [row.name for row in results.rows] == ["english"]
    said = " ".join(capsys.readouterr().err.split())
    assert "x2i-tiny accepts text, image, video; rows left out: audio, image+audio." in said


def test_batches_give_the_same_images_as_single_runs(pipeline):
    generator = torch.Generator().manual_seed(0)
    config = pipeline.transformer.config
    embeds = [
        Embeds(
            torch.randn(1, length, config.joint_attention_dim, generator=generator),
            torch.randn(1, config.pooled_projection_dim, generator=generator),
        )
        for length in (5, 9, 5)
    ]
    sampling = Sampling(steps=2, size=64)
    together, _ = draw(pipeline, embeds, (1, 2, 3), sampling, ignore)
    assert together.shape == (3, 3, 128, 128)
    assert together.abs().max() <= 1
    for index in range(3):
        single, _ = draw(pipeline, embeds[index : index + 1], (index + 1,), sampling, ignore)
        assert torch.allclose(single[0], together[index], atol=0.02)


def test_answers_become_the_history_of_a_dialogue(pipeline):
    case = cases(ROWS["dialogue"], 1)[0]
    ((embeds, answer, _),) = encode(pipeline, [case], ignore)
    history = []
    for turn in case.turns():
        states = pipeline.encoder.encode(turn.prompt, turn.images, turn.videos, turn.audios, history)
        history.append(Turn(turn.prompt, turn.images, turn.videos, turn.audios, states.answer))
    assert answer == states.answer
    assert torch.allclose(embeds.prompt_embeds, pipeline.align_net(states.hidden_states)[0], atol=1e-4)


def test_cases_encoded_together(pipeline):
    asked = cases(ROWS["english"], 5)
    done = []
    encoded = encode(pipeline, asked, done.append)
    assert sum(done) == 5
    for case, (embeds, answer, is_told) in zip(asked, encoded, strict=True):
        conditioning = pipeline.encode(case.dialogue[0].text)
        assert answer == conditioning.answer
        assert not is_told
        assert torch.allclose(embeds.pooled_prompt_embeds, conditioning.pooled_prompt_embeds, atol=1e-4)


def test_what_is_told_to_be_unknown_is_counted(pipeline):
    asked = [case for case in cases(ROWS["unknown"], 96) if "casa" in case.dialogue[0].text]
    assert len(asked) > 2
    assert all(each.is_told for each in encode(pipeline, asked, ignore)), "Spanish and Italian"


def result(accuracy: float, **values) -> RowResult:
    """A row of 20 kinds and one sky, with about the given accuracy."""
    right = {"kind": round(accuracy * 20 * 21 / 20) - 1, "sky": 1}
    defaults = {
        "scenes": 4,
        "between": (0.7812, 1.0),
        "unchanged": Tally(),
        "untrained": Tally(),
        "likeness": Likeness({"cat": 1.5, "car": 4.0}, {"cat": 2.0, "car": 4.0}),
        "exact": None,
        "told": None,
        "goal": None,
        "seconds": 1.0,
    }
    return RowResult(tally=Tally(right, {"kind": 20, "sky": 1}), **defaults | values)


def test_goals_and_misses():
    teacher = result(1.0, name="teacher", title="teacher, English", goal=0.97)
    row = result(
        0.9,
        name="image",
        title="image",
        goal=0.97 * teacher.tally.accuracy,
        untrained=Tally({"kind": 1}, {"kind": 2}),
        exact=0.75,
        told=0.25,
    )
    assert teacher.reached
    assert not row.reached
    table = Results("x2i-tiny", 4, 8, 128, 31.9, 0.999, 0.4, teacher, [row]).as_markdown()
    shares = "78.1-100.0 | 0.905 | 97.0% | no | 100.0% |  | 90.0% |  |  | 50.0% |  | 87.5% | 75.0% | 75.0% | 25.0%"
    assert f"| image | 90.5% | {shares} |" in table
    assert "31.9 dB (goal 32 dB: missed)" in table
    assert "in renders of the wanted scene: 99.9%, of another scene: 40.0%" in table


def test_bounds_of_the_judge():
    own, other = judge_bounds(Judge.load(ASSETS / "judge"), *fresh_images(100, 128))
    assert own > 0.99
    assert 0.1 < other < 0.3


def test_without_a_teacher_there_are_no_goals():
    results = Results("qwen2.5-vl-7b", 4, 4, 1024, 40.0, 1.0, 0.4, None, [result(0.9, name="image", title="image")])
    assert "| image | 90.5% | 78.1-100.0 |  |  |  | 100.0% |" in results.as_markdown()
    assert results.as_dict()["rows"][0]["reached"] is None
    assert results.as_dict()["teacher"] is None

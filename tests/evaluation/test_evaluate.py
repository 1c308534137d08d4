"""`x2i evaluate --prompts`: from rows to the report, on x2i-tiny; killed and resumed, in parts, and two compared."""

import contextlib
import gc
import io
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import factories
import pytest
from diffusers import FluxTransformer2DModel
from evaluation.test_judges import save_clip, save_dino
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, T5EncoderModel
from waiting import wait_until

from x2i_app.cli import main
from x2i_app.evaluation import html_report, images
from x2i_app.evaluation.prompts import Question
from x2i_app.evaluation.report import _count, conclusion, summarize
from x2i_app.evaluation.similarity import DINO_KEPT, DINO_SIMILARITY
from x2i_app.scale.batch import RowActor
from x2i_app.scale.cluster import working_folder
from x2i_app.settings import ASSETS

ROOT = Path(__file__).resolve().parents[2]
HOUSE = "a large red house in the middle, on grass by day"
BLUE_HOUSE = "a large blue house in the middle, on grass by day"
HOSTILE = '<script>alert(1)</script><img src="https://x.example/a.png" onerror="alert(2)">'
ROWS = [
    {"id": "house", "category": "text", "prompt": HOUSE, "questions": ["Is there a house?", "Is it daytime?"]},
    {
        "id": HOSTILE,
        "category": '"><b>odd',
        "language": "'><i>x",
        "prompt": f"a red house {HOSTILE}",
        "questions": ["Is there a house?", {"question": f"Is it {HOSTILE}?", "answer": "no"}],
    },
    "{",
    {"prompt": "a house", "questions": ["Is there a house?"], "images": ["gone.png"]},
    {
        "id": "edit",
        "category": "edit",
        "instruction": "make the house blue",
        "images": [{"scene": HOUSE, "seed": 3}],
        "changed": {"scene": HOUSE, "to": BLUE_HOUSE, "seed": 3},
        "caption": BLUE_HOUSE,
        "questions": [
            {"question": "Is the house blue?", "kind": "change"},
            {"question": "Is there a house?", "kind": "kept"},
        ],
    },
    {"id": "wide", "category": "text", "prompt": "a house", "width": 1, "questions": ["Is there a house?"]},
    {"id": "unasked", "category": "text", "prompt": "a green tree"},
]


def evaluate(*arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of the command on the CPU with one step."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = main(["evaluate", *map(str, arguments)])
    return status, output.getvalue(), errors.getvalue()


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "rows.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in ROWS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def options(rows):
    return ("--prompts", rows, "--device", "cpu", "--steps", 1, "--size", 128, "--seeds", 2)


@pytest.fixture(scope="module")
def loads():
    """What `whole` loaded, with the models of other phases that were in memory then."""
    return []


@pytest.fixture(scope="module")
def whole(tmp_path_factory, options, loads):
    """The folder of an evaluation, and what it printed."""
    output = tmp_path_factory.mktemp("evaluation") / "whole"
    kinds = {FluxTransformer2DModel: "FLUX", T5EncoderModel: "T5", CLIPTextModel: "CLIP"}
    before = {id(each) for each in gc.get_objects() if type(each) in kinds}

    def recorded(name, load):
        def run(*arguments, **named):
            loads.append((name, {kinds[type(o)] for o in gc.get_objects() if type(o) in kinds and id(o) not in before}))
            return load(*arguments, **named)

        return run

    with pytest.MonkeyPatch.context() as patch:
        for name in ("load_teacher", "load_pipeline"):
            patch.setattr(images, name, recorded(name, getattr(images, name)))
        return output, evaluate(*options, "--output", output, "--json")


def read(folder: Path) -> dict:
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return {name: value for name, value in report.items() if name != "phases"}


def test_a_report(whole):
    output, (status, printed, errors) = whole
    assert status == 0, errors
    summary = json.loads(printed)
    assert "rows" not in summary
    report = read(output)
    assert [entry["name"] for entry in report["table"]] == ["text", '"><b>odd', "edit", "all"]
    assert {entry["name"]: (entry["prompts"], entry["images"]) for entry in report["table"]}["all"] == (5, 8)
    assert [(each["place"], sample["seed"]) for each in report["rows"][:1] for sample in each["samples"]] == [
        ("line 1", 0),
        ("line 1", 1),
        ("line 1", 0),
        ("line 1", 1),
    ]
    for row in report["rows"]:
        for sample in row["samples"]:
            assert (output / sample["file"]).is_file()
            asked = [answer for answer in sample["answers"].get("attributes", []) if answer is not None]
            assert sample["total"] == len(asked)
    text = report["table"][0]
    scores = [
        sum(s["right"] / s["total"] for s in row["samples"] if s["side"] == "student" and s["total"]) / 2
        for row in report["rows"][:1]
    ]
    assert text["score"]["mean"] == pytest.approx(sum(scores) / len(scores))
    assert text["compared"]["less_than_1_percent"] == "open"
    assert report["judges"][0]["self_check"]["right"] > 0.97
    assert {kind["kind"] for kind in report["questions"]} == {"content", "change", "kept"}
    assert "PSNR of what stays (dB)" in report["table"][2]["scores"]
    assert all(len(digest) == 64 for digest in report["weights"].values())


def test_the_teacher_is_in_memory_for_its_phase_only(whole, loads):
    """The student's FLUX is gone before T5 and CLIP come, and they are before FLUX comes again."""
    assert loads == [("load_teacher", set()), ("load_pipeline", set())]
    phases = json.loads(whole[1][1])["phases"]
    assert list(phases) == [
        "student",
        "teacher: T5 and CLIP",
        "teacher: images",
        "judge: attributes",
        "judge: pixels",
    ]
    assert all(phase["peak_gib"] >= phase["memory_gib"] > 0 for phase in phases.values())


def test_what_cannot_be_used_is_named_and_the_rest_goes_on(whole):
    output, (_, _, errors) = whole
    said = {each["place"]: each["sentence"] for each in read(output)["problems"]}
    assert list(said) == ["line 3", "line 4", "line 6", "line 7"]
    assert "this is not JSON" in said["line 3"]
    assert "gone.png" in said["line 4"]
    assert "width is 1" in said["line 6"]
    assert "it has no questions" in said["line 7"]
    assert all(f"x2i: {place}: " in errors for place in said)


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_the_page_is_self_contained_and_a_prompt_cannot_change_it(whole):
    output, _ = whole
    page = (output / "report.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    names = [tag for tag, _ in tags.found]
    assert names.count("script") == 1
    assert {"b", "i"}.isdisjoint(names)
    assert not [name for _, attrs in tags.found for name in attrs if name.startswith("on")]
    sources = [attrs["src"] for tag, attrs in tags.found if "src" in attrs]
    assert len(sources) == 16
    assert all(source.startswith("data:image/webp;base64,") for source in sources)
    described = [attrs["alt"] for tag, attrs in tags.found if tag == "img"]
    assert {f"student, seed 1: {HOUSE}", f"teacher, seed 0: a red house {HOSTILE}"} <= set(described)
    assert all(described)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    policy = next(attrs["content"] for tag, attrs in tags.found if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "<script>" not in re.sub(r"\\<", "", (output / "report.md").read_text(encoding="utf-8"))


def by_actors(batch, rows, bar):
    """As on Ray, without its cluster: rows are pickled, and an actor with a model of its own draws them."""
    actor = RowActor(batch, working_folder())
    try:
        for row in rows:
            yield json.loads(actor({"row": pickle.dumps(row)})["record"])
    finally:
        actor.engine.close()


def test_killed_and_resumed_it_finds_the_same(whole, options, tmp_path, monkeypatch):
    """Resumed with --ray, whose actors draw what is missing."""
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "x2i_app", "evaluate", *map(str, options), "--output", str(folder)]
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    results = folder / "student" / "results.jsonl"
    wait_until(lambda: results.is_file() and results.stat().st_size, process=run, pause=0.005)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert not (folder / "report.json").exists(), "it ended before it was killed"
    drawn = {path: path.stat().st_mtime_ns for path in (folder / "student").glob("*.png")}
    done = {(folder / "student" / name) for name in re.findall(r"\d{5}-\d\.png", results.read_text(encoding="utf-8"))}
    monkeypatch.setattr("x2i_app.scale.batch.draw_on", lambda *flags: by_actors)
    status, _, errors = evaluate(*options, "--output", folder, "--ray", "auto")
    assert status == 0, errors
    assert read(folder) == read(whole[0])
    assert all(path.stat().st_mtime_ns == drawn[path] for path in done if path in drawn)


def test_half_an_answer_of_a_killed_run_is_asked_again(whole, options, tmp_path):
    folder = Path(shutil.copytree(whole[0], tmp_path / "copy"))
    answers = folder / "answers.jsonl"
    kept = answers.read_bytes()[:-40]
    answers.write_bytes(kept)
    status, _, errors = evaluate(*options, "--output", folder)
    assert status == 0, errors
    assert read(folder) == read(whole[0])
    fresh = [json.loads(each) for each in answers.read_bytes()[len(kept) :].split(b"\n")[1:] if each]
    assert len(fresh) == 1


def test_other_settings_need_another_folder(whole, options):
    status, _, errors = evaluate(*options, "--steps", 2, "--output", whole[0])
    assert (status, errors.count("\n")) == (2, errors.count("x2i: "))
    assert "holds a run with other steps; choose another folder" in errors


def test_more_judges_are_asked_later_and_agreement_is_told(whole, options, tmp_path):
    qwen, clip = factories.save_qwen_vl(tmp_path / "qwen"), save_clip(tmp_path / "clip")
    dino = save_dino(tmp_path / "dino")
    folder = Path(shutil.copytree(whole[0], tmp_path / "copy"))
    judges = ("--judge", "attributes", "--judge", qwen, "--clip", clip, "--dino", dino)
    status, printed, errors = evaluate(*options, "--output", folder, *judges)
    assert status == 0, errors
    report = read(folder)
    assert [judge["name"] for judge in report["judges"]] == ["attributes", "qwen", "clip", "dino", "pixels"]
    assert report["agreement"][0]["judges"] == ["attributes", "qwen"]
    answers = report["agreement"][0]["answers"]
    assert answers == sum(sample["total"] for row in report["rows"] for sample in row["samples"])
    assert f"attributes and qwen agree on {100 * report['agreement'][0]['share']:.1f} % of {answers}" in " ".join(
        printed.split()
    )
    assert report["table"][0]["score"] == read(whole[0])["table"][0]["score"], "the first judge gives the score"
    assert {DINO_SIMILARITY, DINO_KEPT} <= report["table"][2]["scores"].keys()
    unasked = report["rows"][-1]
    assert all("CLIP score" in sample["scores"] for sample in unasked["samples"])
    images = {path.name: path.stat().st_mtime_ns for path in whole[0].glob("student/*.png")}
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("student/*.png")} == images


def test_parts_are_put_together(whole, options, tmp_path):
    """What a part has drawn and judged is used by the whole run, which does the rest."""
    status, _, errors = evaluate(*options, "--output", tmp_path, "--shard", "1/2")
    assert status == 0, errors
    images = {path.name: path.stat().st_ino for path in tmp_path.glob("shard-1-of-2/student/*.png")}
    assert {row["id"] for row in read(tmp_path / "shard-1-of-2")["rows"]} == {"house", "edit", "unasked"}
    status, _, errors = evaluate(*options, "--output", tmp_path)
    assert status == 0, errors
    assert read(tmp_path) == read(whole[0])
    assert {name: (tmp_path / "student" / name).stat().st_ino for name in images} == images


def test_a_question_depends_on_another():
    """As in DPG-Bench: what a thing that is not there looks like is wrong, whatever the judge says."""
    questions = (Question("Is there a house?"), Question("Is it red?", depends=(0,)), Question("Is it day?", False))
    assert _count(questions, (0.2, 0.9, 0.1)) == (1, 3)
    assert _count(questions, (0.8, 0.9, 0.9)) == (2, 3)
    assert _count(questions, (0.8, None, 0.1)) == (2, 2)
    assert _count(questions, (None, 0.9, 0.1)) == (2, 2), "nobody knows whether the house is there"
    later = (Question("Is it red?", depends=(1,)), Question("Is there a house?"))
    assert _count(later, (0.9, 0.2)) == (0, 2)
    chain = (*questions[:2], Question("Is the red of it dark?", depends=(1,)))
    assert _count(chain, (0.2, None, 0.9)) == (0, 2)
    assert _count(questions, ()) == (0, 0)


def test_goals(whole, options):
    score = read(whole[0])["table"][2]["score"]["mean"]
    rerun = (*options, "--output", whole[0])
    assert evaluate(*rerun, "--at-least", f"edit={score}", "--at-least", "all=0")[0] == 1, "all has a missing image"
    assert evaluate(*rerun, "--at-least", "edit=0", "--at-least", f"edit={score}")[0] == 0
    status, _, errors = evaluate(*rerun, "--at-least", "edit=1.0", "--at-least", "text=0")
    assert status == 1
    assert ("edit is" in errors) == (score < 1)
    assert "text has no score" in errors, "one of its prompts could not be drawn"


def test_an_image_that_cannot_be_judged(whole, options, tmp_path):
    """It is named, the others are judged, and no goal is reached without it."""
    folder = Path(shutil.copytree(whole[0], tmp_path / "copy"))
    name = next(row for row in read(folder)["rows"] if row["id"] == "edit")["samples"][1]["file"]
    (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    left = folder / "teacher" / "embeds" / "00001.safetensors"
    left.parent.mkdir()
    left.touch()
    status, _, errors = evaluate(*options, "--output", folder, "--at-least", "edit=0")
    assert status == 1
    assert "line 5: attributes cannot judge it" in errors
    assert "edit has no score to compare with 0" in errors
    (entry,) = [each for each in read(folder)["table"] if each["name"] == "edit"]
    assert (entry["images"], entry["unjudged"], entry["missing"]) == (2, 1, 0)
    assert not left.parent.exists(), "what a killed run had left"


def test_two_alignnets_of_different_quality(whole, options, tmp_path):
    weights = load_file(ASSETS / "x2i-tiny" / "align_net" / "diffusion_pytorch_model.safetensors")
    worse = Path(shutil.copytree(ASSETS / "x2i-tiny" / "align_net", tmp_path / "align_net"))
    noisy = {name: value * (0.2 if value.ndim > 1 else 1) for name, value in weights.items()}
    save_file(noisy, worse / "diffusion_pytorch_model.safetensors")
    other, output = tmp_path / "worse", tmp_path / "comparison"
    status, _, errors = evaluate(*options, "--output", other, "--alignnet", worse, "--teacher", "no", "--limit", 2)
    assert status == 0, errors
    status, printed, errors = evaluate("--compare", whole[0], other, "--output", output)
    assert status == 0, errors
    report = read(output)
    assert report["problems"] == [{"place": "rows", "sentence": "3 are in only one of the reports."}]
    (entry,) = [each for each in report["table"] if each["name"] == "all"]
    assert entry["score"]["mean"] > entry["compared"]["score"]["mean"]
    assert entry["compared"]["difference"]["mean"] > 0.2
    assert "A, right" in printed
    written = ((output / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    for text in (printed, *written):
        assert "Neither is shown to be better: A minus B is +" in " ".join(text.split()), "two prompts are too few"
    assert (output / "report.html").read_text(encoding="utf-8").count("<img ") == 8
    status, printed, _ = evaluate("--compare", other, whole[0], "--json", "--at-least", "all=1")
    assert status == 1
    assert json.loads(printed)["sides"] == ["A", "B"]


def shares(sides, first, other):
    """A report of prompts with four questions, of which each side has so many right."""
    rows = [
        {
            "category": "all",
            "questions": ["Is it?"] * 4,
            "samples": [
                {"side": side, "right": right, "total": 4, "answers": {}, "scores": {}}
                for side, right in zip(sides, pair, strict=True)
            ],
        }
        for pair in zip(first, other, strict=True)
    ]
    return {"sides": sides, "table": summarize(rows, sides)}


@pytest.mark.parametrize(
    ("first", "other", "compared", "taught"),
    [
        ([4, 3, 4, 2] * 20, [2, 3, 3, 1] * 20, "A is better than B: +25.0 points (1", "is less than 1 % worse"),
        ([2, 3, 3, 1] * 20, [4, 3, 4, 2] * 20, "A is worse than B: -25.0 points (-2", "is 1 % or more worse"),
        ([4, 3] * 20, [3, 4] * 20, "Neither is shown to be better: A minus B is +0.0 points (-7.", "not sure yet"),
        ([4] * 400, [4] * 400, "Neither is shown to be better: A minus B is +0.0 points (-0.8", "is less than 1 %"),
        ([4], [0], "Neither is shown to be better: A minus B is +100.0 points", "unknown, as the teacher has none"),
    ],
    ids=["better", "worse", "mixed", "equal", "one prompt"],
)
def test_what_a_report_concludes(first, other, compared, taught):
    assert conclusion(shares(("A", "B"), first, other)).startswith(compared)
    assert taught in conclusion(shares(("student", "teacher"), first, other))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--prompts", "gone.jsonl"), "cannot be read"),
        (("--prompts", "own", "--seeds", "none"), "--seeds is 'none'"),
        (("--prompts", "own", "--seeds", "1000"), "--seeds is 1000; it must be 1 to 100"),
        (("--prompts", "own", "--shard", "3/2"), "its first number must be 1 to 2"),
        (("--prompts", "own", "--shard", "a"), "write 2/4 for the second"),
        (("--prompts", "own", "--limit", "0"), "limit is 0"),
        (("--prompts", "own", "--size", "63"), "size is 63"),
        (("--prompts", "own", "--at-least", "text"), "write ROW=SHARE"),
        (("--prompts", "own", "--at-least", "text=nan"), "write ROW=SHARE"),
        (("--prompts", "own", "--at-least", "=0.5"), "write ROW=SHARE"),
        (("--prompts", "own", "--at-least", "text=0.5", "--at-least", "all=1.5"), "--at-least is 'all=1.5'"),
        (("--prompts", "own", "--at-least", "txt=0.5"), "--at-least names 'txt'; the rows are text, screenshot"),
        (("--prompts", "own", "--scenes", "3"), "--scenes and --rows are for x2i-tiny without --prompts"),
        (("--prompts", "own", "--output", "taken.txt"), "is a file or lies below one"),
        (("--prompts", "own", "--judge", "nowhere"), "There is no folder 'nowhere'"),
        (("--prompts", "own", "--judge", str(ASSETS / "judge")), "no config.json of a known MLLM"),
        (("--prompts", "own", "--clip", str(ASSETS / "x2i-tiny" / "mllm")), "not a CLIP"),
        (("--prompts", "own", "--dino", str(ASSETS / "x2i-tiny" / "mllm")), "not a DINOv2"),
        (("--seeds", "2"), "--seeds needs --prompts"),
        (("--judge", "own"), "--judge needs --prompts"),
        (("--dino", "x"), "--dino needs --prompts"),
        (("--teacher", "no"), "--teacher needs --prompts"),
        (("--teacher", "yes"), "--teacher needs --prompts"),
        (("--ray",), "--ray needs --prompts"),
        (("--limit", "2", "--scenes", "3"), "--limit and --scenes mean the same"),
        (("--compare", "a", "b", "--steps", "2"), "--compare reads two folders and measures"),
        (("--compare", "a", "b", "--teacher", "no"), "leave out --teacher"),
        (("--compare", "a", "b", "--preset", "qwen2.5-vl-3b"), "leave out --preset"),
        (("--compare", "a", "b"), "--compare 'a' has no report.json"),
        (("--compare", "a"), "compare"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_options(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    Path("taken.txt").write_text("here already\n", encoding="utf-8")
    status, printed, errors = evaluate(*arguments)
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert said in errors
    assert os.listdir() == ["taken.txt"]  # noqa: PTH208 (names)


def test_reports_that_cannot_be_compared(whole, tmp_path):
    other = json.loads((whole[0] / "report.json").read_text(encoding="utf-8"))
    changes = {
        "which differ; compare two runs of the same prompts": {"prompts": other["prompts"] | {"sha256": "0"}},
        "by different judges (attributes and none)": {"judges": []},
        "is no report of x2i evaluate": {"format": 9},
        "no prompt in common": {"rows": [row | {"id": "other"} for row in other["rows"][:1]]},
    }
    for said, change in changes.items():
        (tmp_path / "report.json").write_text(json.dumps(other | change), encoding="utf-8")
        status, _, errors = evaluate("--compare", whole[0], tmp_path)
        assert (status, errors.count("\n")) == (2, 1)
        assert said in errors


@pytest.mark.parametrize(("categories", "seeds", "most"), [(1, 1, 12), (12, 2, 120), (300, 100, 120)])
def test_a_page_stays_small(categories, seeds, most):
    """However many rows and seeds there are, it has the worst and the best of them."""
    rows = [
        {
            "category": f"{number % categories}",
            "samples": [
                {"side": "student", "seed": seed, "right": (number + seed) % 7, "total": 6, "scores": {}}
                for seed in range(seeds)
            ],
        }
        for number in range(1200)
    ]
    chosen = html_report._choose(rows)
    assert (len(chosen), chosen[0][1], chosen[-1][1]) == (most, "worst", "best")
    assert [key for *_, key in chosen] == sorted(key for *_, key in chosen)
    shown = html_report._some_samples(rows[0])
    assert len(shown) == min(seeds, 4)
    assert {0, min(seeds - 1, 6)} <= {each["right"] for each in shown}


def test_images_outside_of_a_report_are_not_shown(tmp_path):
    """A report of a stranger names any file of this machine; a damaged one is missing too."""
    report = tmp_path / "report"
    (report / "images").mkdir(parents=True)
    for path in (tmp_path / "private.png", report / "images/own.png"):
        Image.new("RGB", (8, 8)).save(path)
    (report / "images/damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert html_report._embedded(report, "images/own.png").startswith("data:image/webp;base64,")
    for name in ("../private.png", str(tmp_path / "private.png"), "images/damaged.png", "none.png"):
        assert html_report._embedded(report, name) is None

"""Prompt sets in the forms in which they are published, own rows, and what is said about rows that cannot be used."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from x2i_app.errors import InvalidRequestError
from x2i_app.evaluation.prompt_sets import OWN, read_prompts
from x2i_app.evaluation.prompts import PromptSet, Question
from x2i_app.miniature.evaluation.questions import answer
from x2i_app.miniature.world import parse_canonical

GENEVAL = [
    {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"},
    {
        "tag": "counting",
        "include": [{"class": "clock", "count": 2}],
        "exclude": [{"class": "clock", "count": 3}],
        "prompt": "a photo of two clocks",
    },
    {"tag": "colors", "include": [{"class": "car", "count": 1, "color": "pink"}], "prompt": "a photo of a pink car"},
    {
        "tag": "position",
        "include": [{"class": "cow", "count": 1}, {"class": "dog", "count": 1, "position": ["right of", 0]}],
        "prompt": "a photo of a dog right of a cow",
    },
]
DPG_COLUMNS = (
    "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language\n"
)


def write(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def read_own(folder: Path, *rows) -> PromptSet:
    """Own rows from JSONL; text is written as it is."""
    content = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    return read_prompts(write(folder, "rows.jsonl", content))


def test_geneval(tmp_path):
    found = read_prompts(write(tmp_path, "evaluation_metadata.jsonl", "\n".join(map(json.dumps, GENEVAL))))
    assert (found.form, found.problems) == ("GenEval", ())
    assert [row.category for row in found.rows] == ["single_object", "counting", "colors", "position"]
    asked = [[(question.text, question.expected) for question in row.questions] for row in found.rows]
    assert asked == [
        [("Is there a bench in this image?", True)],
        [
            ("Are there exactly 2 clocks in this image?", True),
            ("Are there 3 or more clocks in this image?", False),
        ],
        [("Is there a car in this image?", True), ("Is the car pink?", True)],
        [
            ("Is there a cow in this image?", True),
            ("Is there a dog in this image?", True),
            ("Is the dog right of the cow?", True),
        ],
    ]
    assert [question.depends for row in found.rows[2:] for question in row.questions] == [
        *((), (0,)),
        *((), (), (1, 0)),
    ]


def test_objects_of_geneval_in_plain_english(tmp_path):
    """What GenEval calls its objects is not always the word that a question needs."""
    rows = [
        {"tag": "a", "include": [{"class": name, "count": count, "color": "red"}], "prompt": name}
        for name, count in (
            *(("person", 3), ("toothbrush", 2), ("broccoli", 4), ("wine glass", 2), ("computer mouse", 2)),
            ("skis", 1),
        )
    ]
    found = read_prompts(write(tmp_path, "evaluation_metadata.jsonl", "\n".join(map(json.dumps, rows))))
    assert [row.questions[0].text for row in found.rows] == [
        "Are there at least 3 people in this image?",
        "Are there at least 2 toothbrushes in this image?",
        "Are there at least 4 broccoli in this image?",
        "Are there at least 2 wine glasses in this image?",
        "Are there at least 2 computer mice in this image?",
        "Are there skis in this image?",
    ]
    assert found.rows[-1].questions[1].text == "Are the skis red?"


def test_dpg_bench(tmp_path):
    content = DPG_COLUMNS + (
        '0,"A red barn, with a hill.",,1,0,entity,whole,entity - whole (barn),Is there a barn?\n'
        '0,"A red barn, with a hill.",,2,1,attribute,color,attribute - color (barn),Is the barn red?\n'
        'a b,"Two\nlines",,1,0,entity,whole,entity - whole (line),Is there a line?\n'
    )
    found = read_prompts(write(tmp_path, "dpg_bench.csv", content))
    assert (found.form, found.problems) == ("DPG-Bench", ())
    first, second = found.rows
    assert (first.id, first.prompt) == ("0", "A red barn, with a hill.")
    assert first.questions == (
        Question("Is there a barn?", True, "entity"),
        Question("Is the barn red?", True, "attribute", (0,)),
    )
    assert (second.id, second.prompt) == ("a b", "Two\nlines")


def test_folders_of_dpg_bench(tmp_path):
    """Its folder, and its folder of prompts, mean the table; without the table, each prompt has its file's name."""
    (tmp_path / "prompts").mkdir()
    for name in ("10", "9"):
        write(tmp_path / "prompts", f"{name}.txt", f"A barn\nof {name}.\n")
    prompts = read_prompts(tmp_path / "prompts")
    assert (prompts.form, prompts.categories) == ("one prompt a file", ("all",))
    assert [(row.id, row.prompt, row.place) for row in prompts.rows] == [
        ("10", "A barn\nof 10.", "10.txt"),
        ("9", "A barn\nof 9.", "9.txt"),
    ]
    table = DPG_COLUMNS + (
        "9,A barn of 9.,,1,2,entity,whole,t,Is it red?\n9,A barn of 9.,,2,0,entity,whole,t,Is there a barn?\n"
        "10,A barn,,1,0,entity,whole,t,Is it?\n"
        "10,A barn,,2,0,entity,whole,t,\n"
        "11,A barn,,1,0,entity,whole,t,Is it?,one cell too many\n"
        ",A barn,,1,0,entity,whole,t,Is it?\n"
    )
    write(tmp_path, "dpg_bench.csv", table)
    for folder in (tmp_path, tmp_path / "prompts"):
        found = read_prompts(folder)
        assert (found.form, len(found.rows)) == ("DPG-Bench", 1)
        assert [question.depends for question in found.rows[0].questions] == [(1,), ()], "a parent may come later"
        assert list(map(str, found.problems)) == [
            "line 4: a question of '10' is empty, in line 5; fill the cell in.",
            "line 6: this row has more cells than there are columns; put cells with commas in quotation marks.",
            "line 7: item_id is empty; fill the cell in.",
        ]


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.encode("cp1252"),
        lambda text: text.encode("utf-16"),
    ],
    ids=["BOM", "CRLF", "cp1252", "UTF-16"],
)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", '{"id": "a", "prompt": "une maison à côté"}\n{"id": "a"}\n{"id": "b", "prompt": "été"}\n'),
        ("rows.csv", 'id,prompt\na,une maison à côté\na,"deux\n"\nb,été\n'),
        ("PartiPrompts.tsv", "Prompt\tCategory\nune maison à côté\tx\n\ty\nété\tz\n"),
        ("color_val.txt", "une maison à côté\n\nété\n"),
        ("meta_data.json", '{"a": {"prompt": "une maison à côté"}, "x": {"prompt": 5}, "b": {"prompt": "été"}}'),
        ("rows.json", '[{"prompt": "une maison à côté"}, 5, {"prompt": "été"}]'),
        (
            "g.jsonl",
            '{"tag": "a", "include": [], "prompt": "une maison à côté"}\n{}\n'
            '{"tag": "b", "include": [], "prompt": "été"}',
        ),
    ],
    ids=lambda value: value if "." in value[:17] else "",
)
def test_files_of_any_editor(tmp_path, name, content, encode):
    """Texts and places are the same in every encoding, and what is bad between two rows stops neither."""
    (tmp_path / name).write_bytes(encode(content))
    found = read_prompts(tmp_path / name)
    assert [row.prompt for row in found.rows] == ["une maison à côté", "été"]
    write(tmp_path, name, content)
    plain = read_prompts(tmp_path / name)
    assert [row.place for row in found.rows] == [row.place for row in plain.rows]
    assert found.problems == plain.problems
    assert len(found.problems) == (name != "color_val.txt")


def test_lists_without_questions_ask_whether_the_image_shows_the_prompt(tmp_path):
    parti = 'Prompt\tCategory\tChallenge\tNote\n"quoted" sign\tSigns\tBasic\t\nbond\tAbstract\tBasic\tnote\n'
    mjhq = {"2a8f": {"category": "animals", "prompt": "a cat"}, "77": {"category": "food", "prompt": "soup"}}
    (tmp_path / "dataset").mkdir()
    write(tmp_path / "dataset", "color_val.txt", "a red ball\n\na blue cup\n")
    write(tmp_path / "dataset", "3d_spatial_val.txt", "a cup behind a ball\n")
    sets = {
        "PartiPrompts": (write(tmp_path, "PartiPrompts.tsv", parti), ['"quoted" sign', "bond"], ["Signs", "Abstract"]),
        "MJHQ-30K": (write(tmp_path, "meta_data.json", json.dumps(mjhq)), ["a cat", "soup"], ["animals", "food"]),
        "one prompt a line": (
            tmp_path / "dataset",
            ["a cup behind a ball", "a red ball", "a blue cup"],
            ["3d_spatial", "color", "color"],
        ),
    }
    for form, (path, prompts, categories) in sets.items():
        found = read_prompts(path)
        assert (found.form, found.problems) == (form, ())
        assert [row.prompt for row in found.rows] == prompts
        assert [row.category for row in found.rows] == categories
        assert found.rows[0].questions == (Question(f"Does this image show “{prompts[0]}”?"),)
        assert found.rows[0].text == prompts[0]


GENEVAL_TEXT = "\n".join(map(json.dumps, GENEVAL))
PARTI = "Prompt\tCategory\tChallenge\tNote\na cat\tAnimals\tBasic\t\n"


@pytest.mark.parametrize(
    ("name", "content", "form", "rows"),
    [
        ("a.jsonl", f"{{\n{GENEVAL_TEXT}", "GenEval", 4),
        ("a.json", GENEVAL_TEXT, "GenEval", 4),
        ("a.json", json.dumps(GENEVAL, indent=1), "GenEval", 4),
        ("a.jsonl", json.dumps([{"prompt": "a"}, {"prompt": "b"}], indent=1), "own rows", 2),
        ("a.json", '{"prompt": "a",\n "questions": ["Is it?"]}', "own rows", 1),
        ("a.ndjson", '{"prompt": "a"}\n\n{"prompt": "b"}', "own rows", 2),
        ("a.json", '["a house", "a tree"]', "one prompt an entry", 2),
        ("a.tsv", PARTI, "PartiPrompts", 1),
        ("a.csv", PARTI.replace("\t", ","), "PartiPrompts", 1),
        ("a.csv", PARTI.lower(), "PartiPrompts", 1),
        ("a.csv", "Prompt,Category,Questions\na cat,x,Is it?\n", "own rows", 1),
        ("a.txt", "a house\ra tree\r", "one prompt a line", 2),
        ("a.csv", "prompt\ra house\ra tree\r", "own rows", 2),
        ("a.csv", (DPG_COLUMNS + '0,"a, b",,1,0,entity,w,t,Is it?\n').replace(",", ";"), "DPG-Bench", 1),
    ],
    ids=lambda value: str(value)[:12],
)
def test_variants_of_the_forms(tmp_path, name, content, form, rows):
    """A form is known by what is in the file, whatever program has written it and however it is named."""
    found = read_prompts(write(tmp_path, name, content))
    assert (found.form, len(found.rows)) == (form, rows)
    assert len(found.problems) == content.startswith("{\n")
    if form == "GenEval":
        assert found.rows[1].questions[1] == Question("Are there 3 or more clocks in this image?", False, "counting")


def test_lists_of_t2i_compbench_without_a_split(tmp_path):
    for name, content in (("color.txt", "a red ball\na blue cup\n"), ("shape.txt", "a round box\n")):
        write(tmp_path, name, content)
    write(tmp_path.parent, "dpg_bench.csv", DPG_COLUMNS)
    found = read_prompts(tmp_path)
    assert [(row.category, row.place) for row in found.rows] == [
        ("color", "color.txt, line 1"),
        ("color", "color.txt, line 2"),
        ("shape", "shape.txt, line 1"),
    ]


def test_own_rows(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    scene = "a large red house in the middle, on grass by day"
    found = read_own(
        tmp_path,
        "\ufeff"
        + json.dumps({"prompt": "a \u2028 house", "questions": ["Is it?", {"question": "No?", "answer": "no"}]}),
        "",
        {"id": "edit", "instruction": "blue", "images": ["a.png"], "caption": "a blue house", "width": 64},
        {
            "prompt": "blue",
            "images": [{"scene": scene, "seed": 3}],
            "changed": {"scene": scene, "to": scene},
            "language": "fr",
        },
    )
    assert found.problems == ()
    first, edit, drawn = found.rows
    assert first.questions == (Question("Is it?"), Question("No?", False))
    assert (edit.id, edit.place, edit.text) == ("edit", "line 3", "a blue house")
    assert edit.request == {"prompt": "blue", "images": [str(tmp_path / "a.png")], "width": 64}
    assert drawn.text is None, "the teacher cannot read an image"
    assert drawn.changed.kind == "changed"


def test_own_rows_from_a_table(tmp_path):
    content = "id,prompt,category,questions,width\nx,a house,text,Is it?|Is it red?,64\ny,a,b,c,1,2\n"
    found = read_prompts(write(tmp_path, "rows.csv", content))
    (row,) = found.rows
    assert [question.text for question in row.questions] == ["Is it?", "Is it red?"]
    assert row.request == {"prompt": "a house", "width": 64}
    assert str(found.problems[0]).startswith("line 3: this row has more cells")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
def test_tables_of_spreadsheets(tmp_path, delimiter):
    """Excel writes semicolons in half of Europe, pandas a column of row numbers, people a space after a comma."""
    questions = ["Is it | or not?", {"question": "No?", "answer": "no"}]
    rows = [
        ["", "Prompt", " questions", "width", "reason", "negative_prompt", ""],
        ["0", 'a "red" house\r\nby day', " Is it, or not?\nWhy?", "64", "TRUE", "7", ""],
        [],
        ["", "", ""],
        ["1", "a tree", json.dumps(questions)],
        ["2", "a lake", "", "wide"],
        ["3", "a hill", "", "", "", "", "odd"],
    ]
    with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    found = read_prompts(tmp_path / "rows.csv")
    first, second, third = found.rows
    assert first.request == {
        "prompt": 'a "red" house\nby day',
        "width": 64,
        "reason": True,
        "negative_prompt": "7",
    }
    assert (first.id, first.place) == ("0", "line 2")
    assert [question.text for question in first.questions] == ["Is it, or not?", "Why?"]
    assert second.questions == (Question("Is it | or not?"), Question("No?", False))
    assert third.request["width"] == "wide", "it is refused when it is drawn, with its line"
    assert list(map(str, found.problems)) == [
        "line 9: this row has a cell in a column without a name; name it in the first line."
    ]


def test_a_quotation_mark_without_a_partner_costs_one_row(tmp_path):
    content = 'id,prompt\na,a house\nb,"a tree\nc,a lake\nd,"Hi" sign\ne,a sign with "Hi"\nf,"a hill'
    found = read_prompts(write(tmp_path, "rows.csv", content))
    assert [row.prompt for row in found.rows] == ["a house", "a lake", 'a sign with "Hi"']
    assert [each.place for each in found.problems] == ["line 3", "line 5", "line 7"]
    assert all("quotation mark" in each.sentence for each in found.problems)
    quoted = 'Prompt\tCategory\n"a ""red"" house"\tx\n'
    assert read_prompts(write(tmp_path, "a.tsv", quoted)).rows[0].prompt == 'a "red" house'
    plain = read_prompts(write(tmp_path, "b.tsv", quoted + '"Hi" sign\tx\n'))
    assert [row.prompt for row in plain.rows] == ['"a ""red"" house"', '"Hi" sign'], "marks are text in this file"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{", "this is not JSON"),
        ("[1]", "this is [1]; write one object"),
        ({"prompt": "a", "promt": "b"}, "there is no field 'promt'; choose from id, category"),
        ({"prompt": "a", "instruction": "b"}, "both prompt and instruction"),
        ({"category": "a"}, "it has no prompt and no images, videos or audios"),
        ({"prompt": 7}, "prompt is 7; it must be text"),
        ({"prompt": "a", "images": ["gone.png"]}, "gone.png"),
        ({"prompt": "a", "images": ["rows.jsonl"]}, "rows.jsonl"),
        ({"prompt": "a", "images": "b.png"}, "images is 'b.png'; it must be a list"),
        ({"images": [{"scene": "a dragon"}]}, "is no canonical sentence"),
        ({"images": [{"scene": "x", "text": "y"}]}, "is no image that can be drawn"),
        ({"images": [{"text": "雪"}]}, "A screenshot cannot show"),
        ({"prompt": "a", "questions": "Is it?"}, "questions is 'Is it?'; it must be a list"),
        ({"prompt": "a", "questions": [{"ask": "Is it?"}]}, "write text, or an object with question"),
        ({"prompt": "a", "questions": [" "]}, "a question is empty"),
        ({"prompt": "a", "questions": [{"question": "b", "answer": "maybe"}]}, "the answer is 'maybe'"),
        ({"prompt": "a", "questions": [{"question": "b", "depends": [0]}]}, "question 0 depends on a later one"),
        ({"prompt": "a", "id": "good"}, "the id 'good' is that of line 1 too"),
        ({"prompt": "a", "history": [{"answers": "b"}]}, "a turn has prompt, answer"),
        ({"prompt": "a", "history": [{"prompt": 5}]}, "prompt is 5; it must be text"),
        ({"prompt": "a", "id": ["b"]}, "id is ['b']; it must be text"),
        ({"prompt": "a", "id": True}, "id is True; it must be text"),
        ({"prompt": "a", "id": " "}, "the id is empty"),
    ],
    ids=str,
)
def test_a_row_that_cannot_be_used_is_named_and_the_others_go_on(tmp_path, row, said):
    found = read_own(tmp_path, {"id": "good", "prompt": "a"}, row, {"prompt": "b"})
    assert [each.place for each in found.rows] == ["line 1", "line 3"]
    (problem,) = found.problems
    assert problem.place == "line 2"
    assert said in problem.sentence


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gone.jsonl", None, "cannot be read (No such file"),
        ("rows.jsonl", "", "has no row that can be used"),
        ("rows.jsonl", '{"promt": "a"}', "no row that can be used; the first: line 1: there is no field 'promt'"),
        ("rows.docx", "a", "must end in .jsonl"),
        ("rows.csv", "a,b\n1,2\n", "has no column prompt"),
        ("rows.json", "7", "is not JSON of rows"),
        ("rows.json", '[\n{"prompt": "a"},\n{"prompt": "b"\n]', "is not JSON of rows (Expecting ',' delimiter: line 4"),
        ("rows.jsonl", '[{"prompt": "a"},\n{"prompt": "b"},]', "is not JSON of rows ("),
        ("rows.csv", "a house\na tree\n", "its first line has ['a house']. Name the columns there"),
        ("rows.csv", "prompt,Prompt\na,b\n", "two columns 'prompt'"),
        ("rows.parquet", "PAR1", "unpack or convert it"),
        ("bench.csv", DPG_COLUMNS + "0,a,,1,9,entity,whole,t,Is it?\n", "dependency '9' is no proposition_id of '0'"),
        ("g.jsonl", '{"tag": "counting", "include": [{}], "prompt": "a"}', "not as GenEval writes it"),
        ("g.jsonl", '{"tag": "a", "include": [{"class": 5}], "prompt": "a"}', "not as GenEval writes it"),
        ("g.jsonl", '{"tag": "a", "include": [{"class": "a", "position": ["b", 9]}], "prompt": "a"}', "not as GenEval"),
        ("g.jsonl", '{"tag": "a", "include": [{"class": "a", "count": NaN}], "prompt": "a"}', "not as GenEval"),
        ("g.jsonl", '{"tag": "a", "include": [{"class": "a", "color": 5}], "prompt": "a"}', "not as GenEval writes it"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_file_that_cannot_be_used(tmp_path, name, content, said):
    if content is not None:
        write(tmp_path, name, content)
    with pytest.raises(InvalidRequestError) as error:
        read_prompts(tmp_path / name)
    assert said in str(error.value)


def test_a_limit_takes_rows_of_every_category(tmp_path):
    rows = [{"prompt": str(n), "category": "many" if n < 8 else "few"} for n in range(10)]
    found = read_own(tmp_path, *rows)
    assert [row.prompt for row in found.spread(4)] == ["0", "1", "8", "9"]
    assert [row.prompt for row in found.spread(5)] == ["0", "1", "2", "8", "9"]
    assert found.spread(None) == found.rows


def test_the_bundled_set():
    """160 rows: ten kinds in six languages. What its questions expect is what the wanted scene shows."""
    found = read_prompts(OWN)
    assert (len(found.rows), len(found.categories), found.problems) == (160, 10, ())
    assert {row.language for row in found.rows} == {"", "en", "zh", "de", "fr", "ja", "vi"}
    for row in found.rows:
        assert 3 <= len(row.questions) <= 8, row.id
        assert row.text, row.id
        if row.caption:
            scene = parse_canonical(row.caption)
            answers = [(question.text, answer(question.text, scene)) for question in row.questions]
            assert answers == [(question.text, question.expected) for question in row.questions], row.id

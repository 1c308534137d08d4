"""The conversation of the tab Image + Text: as JSON, as HTML, and restored from an image that was made in it."""

import gradio as gr
from PIL import Image

from x2i_app.request import GenerationRequest, GenerationResult, Turn
from x2i_app.ui.conversation import choose_result, show, undo_turn
from x2i_app.ui.history import HistoryItem
from x2i_app.ui.restore import values_of
from x2i_app.ui.tabs import IMAGE_TEXT
from x2i_app.ui.turns import as_file, as_json, extend, read_json

NO_INPAINTING = (None, 1, 0, 0, 0, 0)
TURNS = [(Turn("make it night", ("boat.png",), answer="a boat at night"), "night.png"), (Turn("add a fish"), None)]
ENGLISH = gr.Request(headers={})


def test_json():
    assert read_json(as_json(TURNS)) == TURNS
    assert read_json(None) == []


def test_json_of_earlier_versions():
    """They called the result of a turn its picture."""
    (turn, result), *_ = read_json([{"prompt": "make it night", "picture": as_file("night.png")}])
    assert (turn, result) == (Turn("make it night"), "night.png")


def test_extend():
    history = tuple(turn for turn, _ in TURNS)
    result = GenerationResult((), (), GenerationRequest(prompt="by day", history=history), answer="a boat by day")
    last = (Turn("by day", answer="a boat by day"), "day.png")
    assert extend(TURNS, result, "day.png") == [*TURNS, last]
    assert extend([], result, "day.png") == [*((turn, None) for turn in history), last], "of an unknown conversation"


def test_what_a_turn_edits():
    """Without an image, a turn edits the last result; with an image, it edits that image."""
    history = as_json(TURNS[:1])
    fields = IMAGE_TEXT.fill(None, "on", 1, history, *NO_INPAINTING)
    assert (fields["source_image"], fields["control_strength"]) == ("night.png", 1)
    assert "source_image" not in IMAGE_TEXT.fill("new.png", "on", 1, history, *NO_INPAINTING)
    assert "control_strength" not in IMAGE_TEXT.fill(None, "on", 1, as_json(TURNS), *NO_INPAINTING), (
        "there is no result"
    )


def test_html_is_escaped():
    history = as_json([(Turn("<b>1</b>", answer="<script>"), "gone.png")])
    assert "<li><span><b>&lt;b&gt;1&lt;/b&gt;</b><br>&lt;script&gt;</span></li>" in show(ENGLISH, True, history)


def test_hint():
    """An empty conversation shows what it is for, once it is switched on."""
    assert "describe what to change" in show(ENGLISH, True, [])
    assert show(ENGLISH, False, []) == ""


def test_undo(tmp_path):
    """The last turn goes, and so does its result: the result before it is shown again, with its own facts."""
    history, image, prompt, *shown = undo_turn(ENGLISH, as_json(TURNS[:1]), [])
    assert (history, image, prompt) == ([], "boat.png", "make it night")
    assert shown == [[], "", "", None, "", ""]
    path = tmp_path / "night.png"
    Image.new("RGB", (128, 128)).save(path)
    turns = [(TURNS[0][0], str(path)), TURNS[1]]
    made = GenerationRequest("make it night", seed=5, width=128, height=128, num_inference_steps=4)
    items = [HistoryItem(str(path), made, {}, "job", "a boat at night", report={"seeds": [5]})]
    history, image, prompt, *shown = undo_turn(ENGLISH, as_json(turns), items)
    assert (read_json(history), image, prompt) == (turns[:1], None, "add a fish")
    assert shown == [[str(path)], "<p>Seed 5, 128 x 128, 4 steps</p>", "a boat at night", {"seeds": [5]}, "job", ""]
    assert undo_turn(ENGLISH, [], []) == (gr.skip(),) * 9


def test_choose_result():
    """Of several results, the conversation continues with the selected one; images of another job change nothing."""
    history, images = as_json(TURNS[:1]), [("day.png", None), ("night.png", None)]
    chosen = choose_result(True, history, images, gr.SelectData(None, {"index": 0, "value": None}))
    assert read_json(chosen) == [(TURNS[0][0], "day.png")]
    for is_on, value, shown in ((False, history, images), (True, [], images), (True, history, images[:1])):
        event = gr.SelectData(None, {"index": 0, "value": None})
        assert choose_result(is_on, value, shown, event) == gr.skip()


def test_restore():
    """A conversation comes back without files of which only the hash is known."""
    history = (Turn("make it night", ("sha256:" + "0" * 64, "boat.png"), answer="a boat"),)
    request = GenerationRequest(prompt="on", history=history, source_image="night.png")
    value = values_of(request)["image_text"][IMAGE_TEXT.parameters.index("history")]
    assert read_json(value) == [(Turn("make it night", ("boat.png",), answer="a boat"), "night.png")]

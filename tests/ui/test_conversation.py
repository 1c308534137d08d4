"""The conversation of the tab Image + Text: as JSON, as HTML, and put back from a picture that was made in it."""

import gradio as gr

from x2i_app.request import GenerationRequest, GenerationResult, Turn
from x2i_app.ui.conversation import as_thread, extend, read_thread, show
from x2i_app.ui.restore import values_of
from x2i_app.ui.tabs import IMAGE_TEXT

NO_INPAINTING = (None, 1, 0, 0, 0, 0)
TURNS = [(Turn("make it night", ("boat.png",), answer="a boat at night"), "night.png"), (Turn("add a fish"), None)]


def test_it_comes_back_from_json_as_it_was():
    assert read_thread(as_thread(TURNS)) == TURNS
    assert read_thread(None) == []


def test_a_result_ends_the_thread_that_it_came_from():
    history = tuple(turn for turn, _ in TURNS)
    result = GenerationResult((), (), GenerationRequest(prompt="by day", history=history), answer="a boat by day")
    last = (Turn("by day", answer="a boat by day"), "day.png")
    assert extend(TURNS, result, "day.png") == [*TURNS, last]
    assert extend([], result, "day.png") == [*((turn, None) for turn in history), last], "also one that is not known"


def test_words_alone_are_about_the_last_image_and_a_new_image_is_about_itself():
    thread = as_thread(TURNS[:1])
    assert IMAGE_TEXT.fill(None, "on", 1, thread, *NO_INPAINTING)["source_image"] == "night.png"
    assert IMAGE_TEXT.fill(None, "on", 1, thread, *NO_INPAINTING)["control_strength"] == 1
    assert "source_image" not in IMAGE_TEXT.fill("new.png", "on", 1, thread, *NO_INPAINTING)
    assert "control_strength" not in IMAGE_TEXT.fill(None, "on", 1, as_thread(TURNS), *NO_INPAINTING)


def test_what_people_and_models_say_is_text_in_it():
    thread = as_thread([(Turn("<b>1</b>", answer="<script>"), "gone.png")])
    assert "<li><span><b>&lt;b&gt;1&lt;/b&gt;</b><br>&lt;script&gt;</span></li>" in show(
        gr.Request(headers={}), True, thread
    )


def test_it_is_put_back_but_for_files_that_are_known_by_their_hash_alone():
    history = (Turn("make it night", ("sha256:" + "0" * 64, "boat.png"), answer="a boat"),)
    request = GenerationRequest(prompt="on", history=history, source_image="night.png")
    values = values_of(request, [])["image_text"]
    thread = values[IMAGE_TEXT.parameters.index("history")]
    assert read_thread(thread) == [(Turn("make it night", ("boat.png",), answer="a boat"), "night.png")]

"""Every tab in a real Chromium, with real uploads, wide and on a phone, in the light and in the dark."""

import re
from pathlib import Path

import pytest
from browser.conftest import ARTIFACTS
from browser.test_looks import findings
from playwright.sync_api import Locator, Page, expect

from x2i_app.media import read_recipe
from x2i_app.media.hashing import path_hash
from x2i_app.settings import ASSETS
from x2i_app.ui.i18n import conversation as texts_thread
from x2i_app.ui.i18n.texts import MAKE, TABS, USED

EXAMPLES = ASSETS / "examples"
DRAWING = EXAMPLES / "images/boat-at-sunset.png"
OTHER = EXAMPLES / "images/cat-and-umbrella.png"
THIRD = EXAMPLES / "images/balloon-over-meadow.png"
VIDEO = EXAMPLES / "videos/rocket-at-night.mp4"
AUDIO = EXAMPLES / "audios/rain-at-sea.wav"


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=TABS[name].en, exact=True).first.click()
    expect(page.locator(f"#make-{name}")).to_be_visible()


def settle(page: Page, **settings: int) -> None:
    page.locator("#settings button", has_text="Settings").first.click()
    expect(page.get_by_label("Seed")).to_have_value("")  # a new one each time, unless the user says otherwise
    for label, value in settings.items():
        write(page.get_by_label(f"number input for {label}", exact=True), value)


def write(field: Locator, value: int) -> None:
    """Fill in a field of a section that was just unfolded: a script types faster than the field comes to life, which
    then shows its old value."""
    for _ in range(10):
        field.fill(str(value))
        field.press("Tab")
        field.page.wait_for_timeout(200)
        if field.input_value() == str(value):
            break
    expect(field).to_have_value(str(value))


def upload(page: Page, name: str, *files) -> None:
    chooser = page.locator(f"[role=tabpanel]:has(#make-{name}) input[type=file]").first
    chooser.set_input_files([str(file) for file in files])
    page.wait_for_timeout(300)
    expect(page.locator(f"#make-{name}")).to_be_enabled()


def images(page: Page):
    return page.locator("#pictures img")


def draw(page: Page, name: str) -> None:
    """Click, and wait until a new picture is there."""
    before = images(page).first.get_attribute("src") if images(page).count() else None
    page.locator(f"#make-{name}").click()
    if before:
        expect(images(page).first).not_to_have_attribute("src", before)
    expect(page.locator("#progress")).to_contain_text("Done")
    expect(images(page).first).to_be_visible()


LOADING = """async image => {
  const {status} = await fetch(image.src);
  const {top, width, height} = image.getBoundingClientRect();
  return `the server says ${status}; complete ${image.complete}; ${width} x ${height} at ${top}, page at ${scrollY}`;
}"""


def size(page: Page) -> list[int]:
    image = images(page).first
    image.scroll_into_view_if_needed()  # Gradio's images are lazy
    # "complete" is also an image whose address is not there yet.
    expect(image, f"It is not loaded: {image.evaluate(LOADING)}").not_to_have_js_property("naturalWidth", 0)
    return image.evaluate("image => [image.naturalWidth, image.naturalHeight]")


GIVEN = {
    "text": (),
    "image": (DRAWING, OTHER),
    "image_text": (DRAWING,),
    "video": (VIDEO,),
    "audio": (AUDIO,),
    "fusion": (DRAWING, VIDEO, AUDIO),
}


# What is said of them before the picture is made.
SEEN = {
    "video": ["the model sees 4 picture(s)", "0.0 s", "1.0 s", "2.0 s", "3.0 s", "Its sound is left out"],
    "audio": ["The model hears the sound itself: 4.0 s."],
    "fusion": ["Picture 1: seen, 256 x 256", "Film 1: 4 of its pictures seen", "Sound 1: 4.0 s, heard as it is"],
}


@pytest.mark.parametrize("name", TABS)
def test_a_tab_turns_a_real_input_into_a_image_of_the_size_asked_for(page, name):
    open_tab(page, name)
    if name == "text":
        page.get_by_label("What should it show?").fill("ein rotes Haus im Schnee bei Nacht")
    else:
        upload(page, name, *GIVEN[name])
        for words in SEEN.get(name, ()):
            expect(page.locator(f"#seen-{name}")).to_contain_text(words)
    if name == "image_text":
        page.get_by_label("What should change or happen?").fill("make it night")
    if name == "video":
        assert findings(page) == []
    settle(page, Width=96, Height=160)
    draw(page, name)
    assert size(page) == [96, 160]


@pytest.mark.parametrize("name", TABS)
def test_an_example_is_one_click(page, name):
    open_tab(page, name)
    example = page.locator(f"#examples-{name}").locator(".gallery-item, tr.tr-body").first
    example.click()  # wherever: also on a player
    assert "translation_metadata" not in page.inner_text("body")
    if name == "text":
        expect(page.get_by_label("What should it show?")).not_to_have_value("")
    elif name in SEEN:
        expect(page.locator(f"#seen-{name}")).not_to_be_empty()
    else:
        expect(page.locator(f"[role=tabpanel]:has(#make-{name}) img:visible").first).to_be_visible()
    page.wait_for_timeout(500)  # all values of an example are there at once, but for what the page makes of them
    draw(page, name)
    assert size(page) == [128, 128]


def test_images_are_put_in_order_by_hand(page, tmp_path):
    open_tab(page, "image")
    given = page.locator("#images .thumbnail-item")
    press = page.get_by_role("button", name="Move left", exact=True)
    upload(page, "image", DRAWING)
    expect(press).to_be_hidden()  # nothing is chosen
    for file in (OTHER, THIRD):
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Add pictures").click()
        chooser.value.set_files(file)
        expect(given.locator(f"img[src*={file.stem}]")).to_be_visible()
    assert order(page) == [DRAWING.stem, OTHER.stem, THIRD.stem], "what comes is added at the end"
    given.nth(2).focus()
    page.keyboard.press("Enter")
    press.focus()
    for _ in range(3):  # one more than there is room for
        page.keyboard.press("Enter")
        page.wait_for_timeout(200)
    expect(given.first).to_have_class(re.compile("selected"))
    assert order(page) == [THIRD.stem, DRAWING.stem, OTHER.stem]
    page.get_by_role("button", name="Move right", exact=True).click()
    page.wait_for_timeout(200)
    assert order(page) == [DRAWING.stem, THIRD.stem, OTHER.stem]
    page.get_by_role("button", name="Remove", exact=True).first.click()
    expect(given).to_have_count(2)
    page.wait_for_timeout(200)
    page.get_by_role("button", name="Move left", exact=True).click()  # of the one that took its place
    settle(page, Width=64, Height=64, Steps=1)
    draw(page, "image")
    path = tmp_path / "picture.png"
    path.write_bytes(page.request.get(images(page).first.get_attribute("src")).body())
    assert read_recipe(path).request.images == (path_hash(OTHER), path_hash(DRAWING)), "the model sees them so"


def order(page: Page) -> list[str]:
    """The names of the given pictures, from left to right."""
    files = page.locator("#images .thumbnail-item img").evaluate_all("images => images.map(image => image.src)")
    return [Path(file).stem for file in files]


def test_a_conversation_goes_on_with_the_last_image_and_its_last_turn_is_undone(page):
    open_tab(page, "image_text")
    turns, words = page.locator("#thread li"), page.get_by_label("What should change or happen?")
    upload(page, "image_text", DRAWING)
    page.locator("#go-on input").check()
    expect(page.locator("#thread")).to_contain_text(texts_thread.HINT.en)
    expect(page.locator("#heading")).to_contain_text("x2i-tiny")  # it comes a moment after the page
    examples, top = page.locator("#examples-image_text"), "scrollTo(0, 0)"
    page.evaluate(top)
    before = examples.bounding_box()["y"]
    first = "make it night <img src=x onerror=window.p=1>"
    for count, said in enumerate((first, "make it day"), 1):
        words.fill(said)
        page.locator("#make-image_text").click()
        expect(turns).to_have_count(count)
        expect(words).to_have_value("")
    page.evaluate(top)
    assert examples.bounding_box()["y"] == pytest.approx(before, abs=2), "nothing moves"
    expect(turns.first).to_contain_text(first)
    expect(turns.first.locator("img")).to_have_count(2)  # what was given, what was drawn
    expect(turns.last).to_contain_text("by day")
    assert page.evaluate("window.p") is None
    page.screenshot(path=ARTIFACTS / f"conversation-{page.kind}.png", full_page=True)
    assert findings(page) == []
    for count, said in ((1, "make it day"), (0, first)):
        page.locator("#undo-turn").click()
        expect(turns).to_have_count(count)
        expect(words).to_have_value(said)
    page.locator("#go-on input").uncheck()
    expect(page.locator("#thread")).to_be_hidden()
    page.locator("#go-on input").check()  # with the picture that is there, and all that led to it
    expect(turns).to_have_count(2)
    page.locator("#new-thread").click()
    expect(turns).to_have_count(0)


def test_several_images_with_seeds_that_can_be_used_again(page):
    page.get_by_label("What should it show?").fill("a yellow balloon")
    settle(page, **{"How many": 3, "Width": 64, "Height": 64})
    write(page.get_by_label("Seed"), 41)
    draw(page, "text")
    expect(images(page)).to_have_count(3)
    page.locator("button", has_text="How it was made").click()
    report = page.locator("#report")
    for seed in ("41", "42", "43"):
        expect(report).to_contain_text(seed)


def test_of_several_images_a_conversation_goes_on_with_the_one_that_is_picked(page):
    page.get_by_label("What should it show?").fill("a yellow balloon")
    settle(page, **{"How many": 3, "Width": 64, "Height": 64})
    draw(page, "text")
    expect(images(page)).to_have_count(3)
    images(page).nth(1).click()
    page.wait_for_timeout(500)
    open_tab(page, "image_text")
    page.locator("#go-on input").check()
    shown, seen = page.locator("#thread li img"), []
    expect(shown).to_have_count(1)
    for place in (0, 2, 1):
        seen.append(shown.get_attribute("src"))
        page.locator("#pictures .thumbnail-small").nth(place).click()
        expect(shown).not_to_have_attribute("src", seen[-1])
    expect(shown).to_have_attribute("src", seen[0])
    assert len(set(seen)) == 3


def test_stop_stops(page):
    page.get_by_label("What should it show?").fill("a rocket")
    settle(page, Steps=100, Width=512, Height=512)
    expect(page.locator("#stop")).to_be_hidden()
    page.locator("#make-text").click()
    expect(page.locator("#progress")).to_contain_text(re.compile(r"step [1-9]"))
    page.locator("#stop").click()
    expect(page.locator("#progress")).to_contain_text("Stopped")
    expect(page.locator("#stop")).to_be_hidden()
    expect(images(page)).to_have_count(0)


def test_a_mistake_is_one_sentence_and_nothing_is_lost(page, tmp_path):
    page.locator("#make-text").click()
    toast = page.locator(".toast-body")
    expect(toast).to_contain_text("There is nothing to draw from; write a prompt")
    page.locator(".toast-close").first.click()

    page.get_by_label("What should it show?").fill("stop <|im_end|> here")
    page.locator("#make-text").click()
    expect(page.locator(".toast-body")).to_contain_text("<|im_end|>, which the MLLM reserves")
    expect(page.get_by_label("What should it show?")).to_have_value("stop <|im_end|> here")
    page.locator(".toast-close").first.click()

    script = "<img src=x onerror=window.p=1>"
    for name in ("image_text", "video", "fusion"):
        hostile = tmp_path / f"{script}.{'mp4' if name == 'video' else 'png'}"
        hostile.write_bytes(b"neither a picture nor a film")
        open_tab(page, name)
        upload(page, name, hostile)
        if name != "image_text":
            expect(page.locator(f"#seen-{name} .unused")).to_contain_text("img-src")  # said at once
        page.locator(f"#make-{name}").click()
        expect(page.locator(".toast-body")).to_contain_text("img-src")  # its name, as far as that may be shown
        page.locator(".toast-close").first.click()

    open_tab(page, "text")
    page.get_by_label("What should it show?").fill(f"a house, after all that {script}")
    draw(page, "text")
    page.locator("button", has_text=USED.en).first.click()
    expect(page.locator("#report")).to_contain_text("seeds")
    assert page.evaluate("window.p") is None


def test_the_page_fits_its_screen_and_its_light(page):
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0
    image, button = page.locator("#pictures").bounding_box(), page.locator("#make-text").bounding_box()
    brightness = page.evaluate("getComputedStyle(document.querySelector('gradio-app, body')).backgroundColor")
    level = sum(int(part) for part in re.findall(r"\d+", brightness)[:3]) / 3
    if page.kind == "phone-dark":
        assert image["y"] < button["y"]  # the picture comes first
        assert level < 60
    else:
        assert image["x"] > button["x"]
        assert level > 200
    expect(page.get_by_role("button", name=MAKE.en).first).to_be_visible()


def test_it_says_what_the_model_is_and_what_it_knows(page):
    expect(page.locator("#heading")).to_contain_text("x2i-tiny")
    expect(page.locator("#heading")).to_contain_text("It knows one cartoon world: houses, trees, cars")

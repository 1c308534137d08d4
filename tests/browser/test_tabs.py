"""Every tab in a real Chromium, with real uploads, wide and on a phone, light and dark."""

import re
import subprocess
from pathlib import Path

import pytest
from browser.actions import generate, images, open_tab, panel, prompt_box, set_settings, upload, write
from browser.test_looks import findings
from imageio_ffmpeg import get_ffmpeg_exe
from playwright.sync_api import Page, expect

from x2i_app.media import read_recipe
from x2i_app.media.hashing import path_hash
from x2i_app.settings import ASSETS
from x2i_app.ui.i18n import Text
from x2i_app.ui.tabs import TABS

EXAMPLES = ASSETS / "examples"
BOAT = EXAMPLES / "images/boat-at-sunset.png"
CAT = EXAMPLES / "images/cat-and-umbrella.png"
BALLOON = EXAMPLES / "images/balloon-over-meadow.png"
VIDEO = EXAMPLES / "videos/rocket-at-night.mp4"
AUDIO = EXAMPLES / "audios/rain-at-sea.wav"
NAMES = [tab.name for tab in TABS]

INPUTS = {
    "text": (),
    "image": (BOAT, CAT),
    "image_text": (BOAT,),
    "video": (VIDEO,),
    "audio": (AUDIO,),
    "fusion": (BOAT, VIDEO, AUDIO),
}

# What the preview of the input shows of them.
PREVIEWS = {
    "video": ["The model sees 4 frames", "0.0 s", "1.0 s", "2.0 s", "3.0 s", "The video's sound is not used"],
    "audio": ["The model hears the audio directly: 4.0 s."],
    "fusion": ["Image 1: 256 x 256", "Video 1: 4 frames", "Audio 1: 4.0 s, heard directly"],
}

LOADING = """async image => {
  const {status} = await fetch(image.src);
  const {top, width, height} = image.getBoundingClientRect();
  return `the server says ${status}; complete ${image.complete}; ${width} x ${height} at ${top}, page at ${scrollY}`;
}"""


def size(page: Page) -> list[int]:
    """(width, height) of the result's first image."""
    image = images(page).first
    image.scroll_into_view_if_needed()  # Gradio's images are lazy
    # "complete" is also true of an image that has no address yet.
    expect(image, f"It is not loaded: {image.evaluate(LOADING)}").not_to_have_js_property("naturalWidth", 0)
    return image.evaluate("image => [image.naturalWidth, image.naturalHeight]")


@pytest.mark.parametrize("name", NAMES)
def test_tab(page, name):
    """A tab turns a real input into an image of the chosen size, and previews the input before."""
    open_tab(page, name)
    if name == "text":
        prompt_box(page).fill("ein rotes Haus im Schnee bei Nacht")
    else:
        upload(page, name, *INPUTS[name])
        for text in PREVIEWS.get(name, ()):
            expect(page.locator(f"#input-preview-{name}")).to_contain_text(text)
    if name == "image_text":
        prompt_box(page, name).fill("make it night")
    if name == "video":
        assert findings(page) == []
    set_settings(page, Width=96, Height=160)
    generate(page, name)
    assert size(page) == [96, 160]


@pytest.mark.parametrize("name", NAMES)
def test_example(page, name):
    """One click fills in an example and generates its image."""
    tab = open_tab(page, name)
    example = page.locator(f"#examples-{name}").locator(".gallery-item, tr.tr-body").first
    example.click()  # anywhere, also on a player
    assert "translation_metadata" not in page.inner_text("body")
    if name == "text":
        expect(prompt_box(page)).not_to_have_value("")
    elif name in PREVIEWS:
        expect(page.locator(f"#input-preview-{name}")).not_to_be_empty()
    else:
        expect(tab.locator("img:visible").first).to_be_visible()
    expect(page.locator("#progress")).to_contain_text("Done")
    assert size(page) == [128, 128]
    expect(images(page).first).to_have_attribute("alt", page.locator("#answer textarea").input_value().strip())


def expect_order(page: Page, *files: Path):
    """The images of the tab Image are soon these, in this order."""
    wanted = [file.stem for file in files]
    for _ in range(600):
        if order(page) == wanted:
            return
        page.wait_for_timeout(100)
    assert order(page) == wanted


def test_image_order(page, tmp_path):
    """Images are added, selected, moved and removed; the model gets them in that order."""
    tab = open_tab(page, "image")
    given = page.locator("#input-images .thumbnail-item")
    left = tab.get_by_role("button", name="Move left", exact=True)
    upload(page, "image", BOAT)
    expect(left).to_be_hidden()  # nothing is selected
    for file in (CAT, BALLOON):
        with page.expect_file_chooser() as chooser:
            tab.get_by_role("button", name="Add images").click()
        chooser.value.set_files(file)
        expect(given.locator(f"img[src*={file.stem}]")).to_be_visible()
    assert order(page) == [BOAT.stem, CAT.stem, BALLOON.stem], "new images are added at the end"
    given.nth(2).focus()
    page.keyboard.press("Enter")
    left.focus()
    for place in (1, 0, 0):  # the third time there is no room
        page.keyboard.press("Enter")
        expect(given.nth(place)).to_have_class(re.compile("selected"))
    expect_order(page, BALLOON, BOAT, CAT)
    tab.get_by_role("button", name="Move right", exact=True).click()
    expect_order(page, BOAT, BALLOON, CAT)
    tab.get_by_role("button", name="Remove", exact=True).first.click()
    expect(given).to_have_count(2)
    expect(given.nth(1)).to_have_class(re.compile("selected"))
    page.wait_for_timeout(200)
    left.click()  # moves the image that took the removed one's place
    set_settings(page, Width=64, Height=64, Steps=1)
    address = generate(page, "image")
    path = tmp_path / "result.png"
    path.write_bytes(page.request.get(address).body())
    assert read_recipe(path).request.images == (path_hash(CAT), path_hash(BOAT))


def order(page: Page) -> list[str]:
    """The names of the input images, from left to right."""
    files = page.locator("#input-images .thumbnail-item img").evaluate_all("images => images.map(image => image.src)")
    return [Path(file).stem for file in files]


def test_part_of_a_video(page, tmp_path):
    """Once there is a video, a start and an end can be set: the frames shown are those that are used."""
    tab = open_tab(page, "video")
    start, end = (tab.locator(".video-part input").nth(place) for place in (0, 1))
    expect(start).to_be_hidden()
    upload(page, "video", VIDEO)
    frames = page.locator("#input-preview-video .frames li")
    expect(frames).to_have_count(4)
    expect(start).to_have_value("")
    write(start, 2)
    expect(frames).to_have_text(["2.0 s", "3.0 s"])
    write(end, 3)
    expect(page.locator("#input-preview-video")).to_contain_text("of this video of 1.0 s")
    address = generate(page, "video")
    path = tmp_path / "result.png"
    path.write_bytes(page.request.get(address).body())
    assert read_recipe(path).request.video_part == (2.0, 3.0)
    write(end, 1)
    sentence = "video_start is 2 and video_end is 1; the start must be before the end."
    expect(page.locator("#input-preview-video .unused")).to_have_text(sentence)
    expect(end).to_be_visible()


def test_seeds(page):
    """Several images have consecutive seeds, which the report lists."""
    prompt_box(page).fill("a yellow balloon")
    set_settings(page, **{"Number of images": 3, "Width": 64, "Height": 64})
    write(page.get_by_label("Seed", exact=True), 41)
    generate(page)
    expect(images(page)).to_have_count(3)
    page.locator("button", has_text=Text("report").en).click()
    expect(page.locator("#details")).to_contain_text("41, 42, 43")
    images(page).nth(2).click()
    page.locator("#keep-seed").click()
    expect(page.get_by_label("Seed", exact=True)).to_have_value("43")


def test_stop(page):
    prompt_box(page).fill("a rocket")
    set_settings(page, Steps=100, Width=256, Height=256)
    expect(page.locator("#stop")).to_be_hidden()
    page.locator("#generate-text").click()
    expect(page.locator("#progress")).to_contain_text(re.compile(r"step [1-9]"))
    page.locator("#stop").dispatch_event("click")  # without waiting for a frame of a busy page
    expect(page.locator("#progress")).to_contain_text("Stopped")
    expect(page.locator("#stop")).to_be_hidden()
    expect(images(page)).to_have_count(0)


def test_mistakes(page, tmp_path):
    """A mistake is answered in one sentence; nothing is lost, and no file name runs as HTML.

    On a phone no toast repeats the sentence and covers other text; what only a toast says is at the bottom.
    """
    toast, failure = page.locator(".toast-body"), page.locator("#progress .failed")
    is_phone = page.kind == "phone-dark"
    answer = failure if is_phone else toast
    page.locator("#generate-text").click()
    expect(failure).to_have_text("Type a prompt first.")
    expect(answer).to_contain_text("Type a prompt first.")
    expect(toast).to_have_count(0 if is_phone else 1)

    prompt_box(page).fill(long := "house " * 2000)
    page.locator("#generate-text").click()
    expect(answer).to_contain_text("12,000 bytes long")
    expect(toast).to_have_count(0 if is_phone else 1)  # the first is gone
    expect(prompt_box(page)).to_have_value(long)
    open_tab(page, "image_text")
    prompt_box(page, "image_text").fill("make it night")
    page.locator("#generate-image_text").click()
    expect(answer).to_contain_text("Add an image and type an instruction first.")

    script = "<img src=x onerror=window.p=1>"
    for name in ("image_text", "video", "fusion"):
        hostile = tmp_path / f"{script}.{'mp4' if name == 'video' else 'png'}"
        hostile.write_bytes(b"neither an image nor a video")
        open_tab(page, name)
        upload(page, name, hostile)
        if name != "image_text":
            expect(page.locator(f"#input-preview-{name} .unused")).to_contain_text("img-src")
        page.locator(f"#generate-{name}").click()
        expect(answer).to_contain_text("img-src")  # the cleaned file name

    open_tab(page, "text")
    prompt_box(page).fill(f"a house, after all that {script}")
    generate(page)
    expect(toast).to_have_count(0)
    page.locator("button", has_text=Text("report").en).first.click()
    expect(page.locator("#details")).to_contain_text(script)
    assert page.evaluate("window.p") is None
    page.locator("#settings button").first.click()
    page.locator("#match").click()  # finds the file in Image + Text
    expect(toast).to_contain_text("img-src")
    box = toast.bounding_box()
    assert box["y"] > page.viewport_size["height"] / 2, "at the bottom, where it covers least"


def test_a_video_that_the_browser_cannot_play(page, tmp_path):
    """No alarm: one sentence, the frames that the model sees, and Generate works; a playable video plays again."""
    path = tmp_path / "phone.mp4"
    source = ("-f", "lavfi", "-i", "color=red:s=64x48:r=10:d=2")
    coding = ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le", "-tag:v", "hvc1")
    subprocess.run([get_ffmpeg_exe(), "-v", "error", *source, *coding, path], check=True, timeout=60)
    open_tab(page, "video")
    upload(page, "video", path)
    notice = panel(page, "video").locator(".cannot-play")
    expect(notice).to_have_text(Text("input.unplayable").en)
    expect(page.locator("#input-preview-video .frames img")).to_have_count(2)
    expect(page.locator(".toast-body")).to_have_count(0)
    generate(page, "video")
    expect(page.locator(".toast-body")).to_have_count(0)
    panel(page, "video").get_by_label("Clear").first.click()
    upload(page, "video", VIDEO)
    expect(page.locator("#input-preview-video .frames img")).to_have_count(4)
    expect(notice).to_have_count(0)
    expect(panel(page, "video").locator("video").first).to_be_visible()


def test_screen(page):
    """The page fits a phone and a wide screen, and follows the browser's light or dark theme."""
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0
    button = page.locator("#generate-text").bounding_box()
    assert button["y"] + button["height"] < 844, "the prompt and the button are on the first screen"
    prompt_box(page).fill("a red house")
    generate(page)
    result, button = page.locator("#result-images").bounding_box(), page.locator("#generate-text").bounding_box()
    background = page.evaluate("getComputedStyle(document.querySelector('gradio-app, body')).backgroundColor")
    brightness = sum(int(part) for part in re.findall(r"\d+", background)[:3]) / 3
    if page.kind == "phone-dark":
        assert result["y"] < button["y"]  # the result comes first
        assert brightness < 60
    else:
        assert result["x"] > button["x"]
        assert brightness > 200
    expect(page.get_by_role("button", name=Text("generate").en).first).to_be_visible()


def test_model_description(page):
    expect(page.locator("#model-description")).to_contain_text("x2i-tiny")
    expect(page.locator("#model-description")).to_contain_text("It can only draw: houses, trees, cars")

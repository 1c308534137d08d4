"""After a picture is there: its seed, its file dropped back in, and the pictures of the visit, in a real Chromium."""

import json
import re
import zipfile

import pytest
from browser.conftest import ARTIFACTS
from playwright.sync_api import expect

from x2i_app.media import read_recipe
from x2i_app.settings import ASSETS
from x2i_app.ui.i18n import texts

BOAT = ASSETS / "examples/images/boat-at-sunset.png"


@pytest.fixture
def session(browser, server):
    """A visit of its own, on a wide page, with its settings unfolded."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(server)
    page.locator("#make-text").wait_for()
    page.locator("#settings button").first.click()
    expect(page.get_by_label("Seed", exact=True)).to_have_value("")
    page.wait_for_timeout(500)
    yield page
    context.close()


def draw(page, prompt, tab="text"):
    count = thumbnails(page).count()
    page.locator(f"[role=tabpanel]:has(#make-{tab}) textarea").first.fill(prompt)
    page.locator(f"#make-{tab}").click()
    expect(thumbnails(page)).to_have_count(count + 1)
    return re.search(r"Seed (\d+)", page.locator("#progress").inner_text())[1]


def thumbnails(page):
    return page.locator("#strip .thumbnail-item")


def field(page, label):
    return page.get_by_label(f"number input for {label}", exact=True)


def test_a_seed_is_kept_or_new(session):
    first = draw(session, "a red house")
    session.locator("#keep-seed").click()
    expect(session.get_by_label("Seed", exact=True)).to_have_value(first)
    assert draw(session, "a red house at night") == first
    session.locator("#new-seed").click()
    expect(session.get_by_label("Seed", exact=True)).to_have_value("")
    assert draw(session, "a red house") != first


def test_four_more_like_it_are_one_click(session):
    seed = draw(session, "a red house")
    session.get_by_label("What should it show?").fill("something else, not sent yet")
    session.locator("#more").click()
    expect(thumbnails(session)).to_have_count(5)
    expect(session.get_by_label("What should it show?")).to_have_value("a red house")
    said = session.locator("#progress").inner_text()
    seeds = re.findall(r"\d{3,}", said)
    assert len(seeds) == 4
    assert seed not in seeds


def test_the_images_of_a_session_are_shown_again_compared_reused_and_taken_away(session, browser, server, tmp_path):
    first, second = draw(session, "a red house"), draw(session, "a green boat")
    shown = session.locator("#pictures img").first
    boat = shown.get_attribute("src")
    thumbnails(session).nth(1).click()  # the newest is the first
    expect(shown).not_to_have_attribute("src", boat)
    expect(session.locator("#progress")).to_have_text(f"Seed {first}, 128 x 128, 8 steps")
    session.locator("#reuse").click()
    expect(session.get_by_label("What should it show?")).to_have_value("a red house")
    expect(session.get_by_label("Seed", exact=True)).to_have_value(first)
    thumbnails(session).nth(0).click()
    session.locator("#compare button").first.click()
    expect(session.locator("#compare img")).to_have_count(2)
    with session.expect_download() as download:
        session.locator("#pack").click()
    download.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert sorted(archive.namelist()) == [f"001-seed-{first}.png", f"002-seed-{second}.png", "settings.json"]
        assert json.loads(archive.read("settings.json"))[f"001-seed-{first}.png"]["prompt"] == "a red house"
    other = browser.new_context()
    page = other.new_page()
    page.goto(server)
    page.locator("#make-text").wait_for()
    assert thumbnails(page).count() == 0, "nobody sees the pictures of another visit"
    other.close()


def test_a_image_is_held_against_what_it_was_made_from_and_is_the_next_ones_beginning(page):
    tab = page.locator("[role=tabpanel]:has(#make-image_text)")
    page.get_by_role("tab", name="Image + Text", exact=True).first.click()
    tab.locator("input[type=file]").first.set_input_files(str(BOAT))
    page.locator("#before-after button").first.click()
    expect(page.locator("#before-after")).to_contain_text(texts.BEFORE_AFTER_HINT.en)
    expect(page.locator("#heading")).to_contain_text("x2i-tiny")  # it comes a moment after the page
    page.wait_for_timeout(500)
    places = [page.locator(name) for name in ("#pictures", "#make-image_text", "#before-after", "#settings")]
    page.evaluate("scrollTo(0, 0)")
    before = [place.bounding_box()["y"] for place in places]
    draw(page, "make it night", "image_text")
    halves = page.locator("#before-after img")
    expect(halves).to_have_count(2)
    assert [pixels(half) for half in halves.all()] == [[128, 128]] * 2, "both as large as the picture"
    page.evaluate("scrollTo(0, 0)")
    assert [place.bounding_box()["y"] for place in places] == pytest.approx(before, abs=2)
    page.screenshot(path=ARTIFACTS / f"before-after-{page.kind}.png", full_page=True)

    made = shown_file(page.locator("#pictures img").first)
    page.locator("#use-image_text").click()
    expect(tab.locator("img[src*='/file=']").first).to_have_attribute("src", re.compile(re.escape(made)))
    page.locator("#use-image").click()
    expect(page.locator("#make-image")).to_be_visible()
    expect(page.locator(f"[role=tabpanel]:has(#make-image) img[src*='{made}']").first).to_be_visible()
    page.locator("#use-fusion").click()
    expect(page.locator(f"[role=tabpanel]:has(#make-fusion) img[src*='{made}']").first).to_be_visible()
    expect(page.locator("#seen-fusion")).to_contain_text("Picture 1: seen, 128 x 128")
    page.locator("#make-fusion").click()
    expect(thumbnails(page)).to_have_count(2)
    expect(halves.first).to_be_visible()


def shown_file(image):
    """The folder and name of a picture's file on the server."""
    return "/".join(image.get_attribute("src").rsplit("/", 2)[1:])


def pixels(image):
    expect(image).not_to_have_js_property("naturalWidth", 0)
    return image.evaluate("image => [image.naturalWidth, image.naturalHeight]")


def test_a_file_brings_its_words_and_settings_back_and_says_which_files_to_add(session, tmp_path):
    session.get_by_role("tab", name="Image + Text", exact=True).first.click()
    session.locator("[role=tabpanel]:has(#make-image_text) input[type=file]").first.set_input_files(str(BOAT))
    session.wait_for_timeout(500)
    field(session, "Steps").fill("3")
    field(session, "Steps").press("Tab")
    seed = draw(session, "make it night", "image_text")
    path = tmp_path / "night.png"
    path.write_bytes(session.request.get(session.locator("#pictures img").first.get_attribute("src")).body())
    assert read_recipe(path).values["steps"] == 3

    session.reload()
    session.locator("#make-text").wait_for()
    session.locator("#restore button").first.click()
    session.locator("#restore input[type=file]").set_input_files(str(path))
    expect(session.locator("#restored")).to_contain_text("Add the same files again: 1 picture(s).")
    panel = session.locator("[role=tabpanel]:has(#make-image_text)")
    expect(panel.locator("textarea").first).to_have_value("make it night")
    session.locator("#settings button").first.click()
    expect(session.get_by_label("Seed", exact=True)).to_have_value(seed)
    expect(field(session, "Steps")).to_have_value("3")
    panel.locator("input[type=file]").first.set_input_files(str(BOAT))
    expect(session.locator("#restored p")).to_have_text(texts.restored({}))


def test_whoever_wants_gets_files_that_say_nothing(session, tmp_path):
    session.get_by_label(texts.METADATA.en).uncheck()
    session.wait_for_timeout(500)
    draw(session, "a secret garden")
    body = session.request.get(session.locator("#pictures img").first.get_attribute("src")).body()
    assert body.startswith(b"\x89PNG")
    assert b"secret" not in body


def test_a_shape_is_a_size_and_can_be_turned(session):
    session.get_by_label(texts.SHAPE.en).click()
    session.get_by_role("option", name="16:9").click()
    expect(field(session, "Width")).to_have_value("176")
    expect(field(session, "Height")).to_have_value("96")
    session.locator("#swap").click()
    expect(field(session, "Width")).to_have_value("96")
    session.locator("#match").click()
    expect(session.locator(".toast-body")).to_contain_text("There is no picture in a tab yet")

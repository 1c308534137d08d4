"""After a result in a real Chromium: its seed, more like it, this session's images, settings restored from its file."""

import json
import re
import zipfile

import pytest
from browser.actions import images, number_field, open_tab, panel, prompt_box, wait_until_ready, write
from browser.conftest import ARTIFACTS
from playwright.sync_api import expect

from x2i_app.media import read_recipe
from x2i_app.settings import ASSETS
from x2i_app.ui.i18n import Text
from x2i_app.ui.restore import restored_text

BOAT = ASSETS / "examples/images/boat-at-sunset.png"


@pytest.fixture
def session(browser, server):
    """A wide page with a session of its own and its settings open."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(server)
    wait_until_ready(page)
    page.locator("#settings button").first.click()
    expect(seed(page)).to_have_value("")
    page.wait_for_timeout(500)
    yield page
    context.close()


def generate(page, prompt, tab="text"):
    """Generate one image; returns its seed."""
    count = thumbnails(page).count()
    prompt_box(page, tab).fill(prompt)
    page.locator(f"#generate-{tab}").click()
    expect(thumbnails(page)).to_have_count(count + 1)
    expect(page.locator("#progress")).to_contain_text(re.compile(r"Done.*Seed \d"))
    return re.search(r"Seed (\d+)", page.locator("#progress").inner_text())[1]


def thumbnails(page):
    return page.locator("#history-images .thumbnail-item")


def seed(page):
    return page.get_by_label("Seed", exact=True)


def test_seed(session):
    """The seed of the result is kept, or random again."""
    expect(session.locator("#keep-seed")).to_be_hidden()  # there is no result yet
    first = generate(session, "a red house")
    expect(session.locator("#new-seed")).to_be_disabled()
    session.locator("#keep-seed").click()
    expect(seed(session)).to_have_value(first)
    expect(session.locator("#new-seed")).to_have_text(f"Random seed again (now {first})")
    assert generate(session, "a red house at night") == first
    session.locator("#new-seed").click()
    expect(seed(session)).to_have_value("")
    assert generate(session, "a red house") != first


def test_four_more(session):
    """One click generates four more of the result's prompt, with other seeds; what is typed stays."""
    first = generate(session, "a red house")
    prompt_box(session).fill("something else, not sent yet")
    session.locator("#more").click()
    expect(thumbnails(session)).to_have_count(5)
    expect(prompt_box(session)).to_have_value("something else, not sent yet")
    expect(number_field(session, "Number of images")).to_have_value("1")
    expect(session.locator("#progress")).to_contain_text(re.compile(r"Done.*Seeds \d"))
    seeds = re.findall(r"\d+", session.locator("#progress").inner_text().partition("Seeds")[2])
    assert len(seeds) == 4
    assert first not in seeds


def test_history(session, browser, server, tmp_path):
    """The session's images are shown again, compared, reused and downloaded; other sessions do not see them."""
    first, second = generate(session, "a red house"), generate(session, "a green boat")
    shown = images(session).first
    boat = shown.get_attribute("src")
    thumbnails(session).nth(1).click()  # the newest is first
    expect(shown).not_to_have_attribute("src", boat)
    expect(session.locator("#progress")).to_have_text(f"Seed {first}, 128 x 128, 8 steps")
    expect(session.locator("#answer textarea")).to_have_value(re.compile("red house"))
    with session.expect_download() as download:
        session.locator("#download").click()
    assert "a red house" in read_recipe(download.value.path()).request.prompt
    session.locator("#reuse").click()
    expect(prompt_box(session)).to_have_value("a red house")
    expect(seed(session)).to_have_value(first)
    thumbnails(session).nth(0).click()
    session.locator("#compare-history button").first.click()
    expect(session.locator("#compare-history img")).to_have_count(2)
    with session.expect_download() as download:
        session.locator("#download-all").click()
    download.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert sorted(archive.namelist()) == [f"001-seed-{first}.png", f"002-seed-{second}.png", "settings.json"]
        assert json.loads(archive.read("settings.json"))[f"001-seed-{first}.png"]["prompt"] == "a red house"
    other = browser.new_context()
    page = other.new_page()
    page.goto(server)
    wait_until_ready(page)
    assert thumbnails(page).count() == 0
    other.close()


def test_use_as_input(page):
    """A result is compared with its original, and used as the input of another tab."""
    generate(page, "a red house")
    tab = open_tab(page, "image_text")
    tab.locator("input[type=file]").first.set_input_files(str(BOAT))
    page.locator("#compare-original button").first.click()
    expect(page.locator("#compare-original")).to_contain_text(Text("original.hint").en)
    page.wait_for_timeout(500)
    places = [
        page.locator(f"#{name}") for name in ("result-images", "generate-image_text", "compare-original", "settings")
    ]
    page.evaluate("scrollTo(0, 0)")
    before = [place.bounding_box()["y"] for place in places]
    generate(page, "make it night", "image_text")
    pair = page.locator("#compare-original img")
    expect(pair).to_have_count(2)
    assert [size(image) for image in pair.all()] == [[128, 128]] * 2, "both have the size of the result"
    page.evaluate("scrollTo(0, 0)")
    assert [place.bounding_box()["y"] for place in places] == pytest.approx(before, abs=2)
    page.screenshot(path=ARTIFACTS / f"compare-original-{page.kind}.png", full_page=True)

    file = server_path(images(page).first)
    page.locator("#use-image_text").click()
    expect(tab.locator("img[src*='/file=']").first).to_have_attribute("src", re.compile(re.escape(file)))
    for name in ("image", "fusion"):
        page.locator(f"#use-{name}").click()
        expect(page.locator(f"#generate-{name}")).to_be_visible()
        expect(panel(page, name).locator(f"img[src*='{file}']").first).to_be_visible()
    expect(page.locator("#input-preview-fusion")).to_contain_text("Image 1: 128 x 128")
    page.locator("#generate-fusion").click()
    expect(thumbnails(page)).to_have_count(3)
    expect(pair.first).to_be_visible()


def test_second_of_several(session):
    """Of several images, the one that is shown is compared with the original and used as input."""
    tab = open_tab(session, "image_text")
    tab.locator("input[type=file]").first.set_input_files(str(BOAT))
    session.locator("#compare-original button").first.click()
    write(number_field(session, "Number of images"), 2)
    write(number_field(session, "Steps"), 3)
    prompt_box(session, "image_text").fill("make it night")
    session.locator("#generate-image_text").click()
    expect(thumbnails(session)).to_have_count(2)
    result = session.locator("#compare-original img").last
    expect(result).to_have_attribute("src", re.compile(re.escape(server_path(images(session).first))))
    second = server_path(images(session).nth(1))  # the open image is one more
    images(session).nth(1).click()
    expect(result).to_have_attribute("src", re.compile(re.escape(second)))
    session.locator("#use-image_text").click()
    expect(tab.locator("img[src*='/file=']").first).to_have_attribute("src", re.compile(re.escape(second)))
    session.locator("#use-image").click()
    expect(panel(session, "image").locator(f"img[src*='{second}']").first).to_be_visible()


def server_path(image):
    """The folder and name of an image's file on the server."""
    return "/".join(image.get_attribute("src").rsplit("/", 2)[1:])


def size(image):
    expect(image).not_to_have_js_property("naturalWidth", 0)
    return image.evaluate("image => [image.naturalWidth, image.naturalHeight]")


def test_restore(session, tmp_path):
    """A dropped PNG file restores prompt and settings, and asks for the input files until they are added."""
    tab = open_tab(session, "image_text")
    tab.locator("input[type=file]").first.set_input_files(str(BOAT))
    session.wait_for_timeout(500)
    write(number_field(session, "Steps"), 3)
    used = generate(session, "make it night", "image_text")
    path = tmp_path / "night.png"
    path.write_bytes(session.request.get(images(session).first.get_attribute("src")).body())
    assert read_recipe(path).request.num_inference_steps == 3

    session.evaluate("localStorage.clear()")  # as in another browser
    session.reload()
    wait_until_ready(session)
    session.locator("#restore button").first.click()
    session.locator("#restore input[type=file]").set_input_files(str(path))
    expect(session.locator("#restored")).to_contain_text("Add the same files again: 1 image.")
    expect(prompt_box(session, "image_text")).to_have_value("make it night")
    session.locator("#settings button").first.click()
    expect(seed(session)).to_have_value(used)
    expect(number_field(session, "Steps")).to_have_value("3")
    panel(session, "image_text").locator("input[type=file]").first.set_input_files(str(BOAT))
    expect(session.locator("#restored p")).to_have_text(restored_text({}))


def test_no_metadata(session):
    """A user can opt out of settings in the image files."""
    session.get_by_label(Text("metadata").en).uncheck()
    session.wait_for_timeout(500)
    generate(session, "a secret garden")
    body = session.request.get(images(session).first.get_attribute("src")).body()
    assert body.startswith(b"\x89PNG")
    assert b"secret" not in body


def test_size(session):
    """An aspect ratio sets the size; width and height are swapped; without an input image there is none to match."""
    session.get_by_label(Text("size.shape").en).click()
    session.get_by_role("option", name="16:9").click()
    expect(number_field(session, "Width")).to_have_value("176")
    expect(number_field(session, "Height")).to_have_value("96")
    session.locator("#swap").click()
    expect(number_field(session, "Width")).to_have_value("96")
    session.locator("#match").click()
    expect(session.locator(".toast-body")).to_contain_text(Text("error.no_image_in_tab").en)


def test_reload(session):
    """After a reload, images, prompt and settings are there again; images are found by prompt, and deleted for good."""
    generate(session, "a red house")
    generate(session, "a green boat")
    prompt_box(session).fill("a yellow car, not sent yet")
    write(number_field(session, "Steps"), 3)
    session.reload()
    expect(thumbnails(session)).to_have_count(2)
    expect(prompt_box(session)).to_have_value("a yellow car, not sent yet")
    session.locator("#settings button").first.click()
    expect(number_field(session, "Steps")).to_have_value("3")
    expect(seed(session)).to_have_value("")
    session.locator("#history-search textarea, #history-search input").first.fill("HOUSE")
    expect(thumbnails(session)).to_have_count(1)
    thumbnails(session).first.click()
    expect(session.locator("#answer textarea")).to_have_value(re.compile("red house"))
    session.locator("#delete").click()
    expect(images(session)).to_have_count(0)
    expect(thumbnails(session)).to_have_count(0)
    session.locator("#history-search textarea, #history-search input").first.fill("")
    expect(thumbnails(session)).to_have_count(1)
    session.once("dialog", lambda dialog: dialog.dismiss())
    session.locator("#delete-all").click()
    session.wait_for_timeout(500)
    expect(thumbnails(session)).to_have_count(1)
    session.once("dialog", lambda dialog: dialog.accept())
    session.locator("#delete-all").click()
    expect(thumbnails(session)).to_have_count(0)
    session.reload()
    wait_until_ready(session)
    session.wait_for_timeout(1000)
    expect(thumbnails(session)).to_have_count(0)


def test_opt_out(session):
    """A browser that wants nothing kept finds nothing again."""
    generate(session, "a red house")
    session.locator("#keep-images input").uncheck()
    expect(session.locator("#history")).to_contain_text(Text("history.hint").en)
    session.reload()
    wait_until_ready(session)
    expect(session.locator("#keep-images input")).not_to_be_checked()
    expect(thumbnails(session)).to_have_count(0)

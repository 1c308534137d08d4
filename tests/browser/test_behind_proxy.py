"""The app under a path of a web server, with the nginx configuration of docs/SERVING.md, from a real browser."""

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser.actions import open_tab, prompt_box, upload
from conftest import free_port, run_app
from gradio_client import Client
from PIL import Image
from playwright.sync_api import expect
from waiting import wait_until

from x2i_app.settings import ASSETS

ROOT = Path(__file__).resolve().parents[2]
BOAT = ASSETS / "examples/images/boat-at-sunset.png"
LOCATION = re.search(r"```nginx\n(.+?)```", (ROOT / "docs/SERVING.md").read_text(encoding="utf-8"), re.DOTALL)[1]

# nginx writes only into its folder.
CONFIGURATION = """
user root;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        {location}
    }}
}}
"""

# A step is too short for a test that looks from time to time.
RECORD_PROGRESS = """() => {
    const progress = document.querySelector("#progress");
    window.updates = [];
    new MutationObserver(() => window.updates.push(progress.innerText))
        .observe(progress, {subtree: true, childList: true, characterData: true});
}"""


def find_nginx() -> str:
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not found:
        pytest.fail("The test of the reverse proxy needs nginx; install it (on Debian: apt-get install nginx-light).")
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[str]:
    """The port of an nginx that serves the app under /studio."""
    folder = tmp_path_factory.mktemp("nginx")
    with run_app(folder, "--root-path", "/studio", "--hosts", "x2i.localhost") as app:
        port = free_port()
        location = LOCATION.replace("http://127.0.0.1:7860", app.url)
        assert app.url in location
        (folder / "nginx.conf").write_text(CONFIGURATION.format(folder=folder, port=port, location=location))
        command = [find_nginx(), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
        nginx = subprocess.Popen(command)
        try:
            wait_until(lambda: answers(port), process=nginx)
            yield port
        finally:
            nginx.terminate()
            nginx.wait(30)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_page(browser, site):
    """Everything that the page asks for is under the path."""
    url = f"http://x2i.localhost:{site}/studio/"
    context = browser.new_context()
    page = context.new_page()
    elsewhere, complaints = [], []
    page.on("request", lambda r: None if r.url.startswith((url, "data:", "blob:")) else elsewhere.append(r.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(url)
    open_tab(page, "image_text")
    upload(page, "image_text", BOAT)
    prompt_box(page, "image_text").fill("make it night")
    page.wait_for_timeout(500)
    page.evaluate(RECORD_PROGRESS)
    page.locator("#generate-image_text").click()
    expect(page.locator("#progress")).to_contain_text("Done")
    assert re.search(r"step \d of 8", page.evaluate("window.updates.join()")), "updates arrive while it runs"
    image = page.locator("#result-images img").first
    expect(image).to_be_visible()
    expect(image).to_have_js_property("naturalWidth", 128)
    assert image.get_attribute("src").startswith(url)
    context.close()
    assert not elsewhere
    assert not complaints


def test_client(site, tmp_path):
    """A client reaches the endpoints under the path."""
    client = Client(f"http://127.0.0.1:{site}/studio", verbose=False, download_files=tmp_path)
    images, *_ = client.predict(prompt="a red house", steps=1, width=64, height=64, api_name="/text")
    with Image.open(images[0]["image"]) as image:
        assert image.size == (64, 64)

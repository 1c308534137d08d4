"""docs/API.md is up to date, and every example in it works as it is."""

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from x2i_app.settings import ASSETS
from x2i_app.ui.http.api_docs import write_docs
from x2i_app.ui.tabs import TABS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "API.md"
SECTIONS = re.findall(r"^## (.+?)\n(.+?)(?=^## |\Z)", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
LANGUAGES = ("python", "bash")
HELPERS = ("status and cancel", "Assistants (MCP)", "OpenAI's images API")


def test_the_document_is_up_to_date():
    advice = "The endpoints have changed; run python -m x2i_app.ui.http.api_docs docs/API.md"
    assert DOCUMENT.read_text(encoding="utf-8") == write_docs(), advice


def test_every_tab_has_an_example_in_both_languages():
    assert [name for name, _ in SECTIONS] == [*(tab.name for tab in TABS), *HELPERS]
    assert all(f"```{language}\n" in text for name, text in SECTIONS if name != HELPERS[1] for language in LANGUAGES)


@pytest.mark.parametrize(
    ("name", "text", "language"),
    [(*section, language) for section in SECTIONS for language in LANGUAGES if f"```{language}\n" in section[1]],
    ids=lambda value: value if len(value) < 20 else "",
)
def test_the_example_works(server, tmp_path, monkeypatch, capfd, name, text, language):
    (example,) = re.findall(rf"```{language}\n(.+?)```", text, re.DOTALL)
    example = example.replace("http://127.0.0.1:7860", server)
    assert server in example
    (tmp_path / "assets").symlink_to(ASSETS)
    monkeypatch.chdir(tmp_path)
    if language == "python":
        with ThreadPoolExecutor(1) as elsewhere:  # in this thread the browser's event loop may be running
            elsewhere.submit(exec, compile(example, name, "exec"), {}).result()
    else:
        subprocess.run(["bash", "-euo", "pipefail", "-c", example], timeout=240, check=True)
    printed = capfd.readouterr().out
    if name == "Assistants (MCP)":
        assert "image/png" in printed
        return
    if name == "status and cancel":
        assert "x2i-tiny" in printed
        return
    file = tmp_path / "image.png" if language == "bash" else re.search(r"^\S+\.png", printed, re.MULTILINE)[0]
    with Image.open(file) as image:
        assert (image.format, image.size) == ("PNG", (128, 128))

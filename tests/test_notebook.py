"""docs/notebook.ipynb runs from top to bottom, and its results show themselves."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

from x2i_app.notebook import as_html, as_png
from x2i_app.request import GenerationRequest, GenerationResult

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs/notebook.ipynb"


@pytest.fixture(scope="module")
def cells():
    """The cells after they have run."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # they would grow with every commit
    folder = {"metadata": {"path": NOTEBOOK.parent}}
    NotebookClient(notebook, timeout=500, kernel_name="python3", resources=folder).execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_each_call_of_the_pipeline_shows_its_images(cells):
    shown = [cell for cell in cells if "pipe(" in cell.source]
    assert len(shown) >= 7
    for cell in shown:
        (result,) = [output.data for output in cell.outputs if output.output_type == "execute_result"]
        count = 4 if "num_images_per_prompt=4" in cell.source else 1
        assert result["text/html"].count("<img src") == count
        assert ("image/png" in result) == (count == 1)
    (answered,) = [cell for cell in shown if "reason=True" in cell.source]
    assert "boat" in str(answered.outputs)


def test_the_steps_are_a_bar_of_the_notebook(cells):
    bars = [output for cell in cells for output in cell.outputs if "widget" in str(output.get("data", ""))]
    assert len(bars) >= 7
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "stream"]


def test_a_result_of_the_engine_shows_itself():
    image = Image.new("RGB", (8, 8))
    result = GenerationResult((image, image), (1, 2), GenerationRequest(prompt="a"), "<b>", ("a note",))
    html = result._repr_html_()
    assert (html.count("<img src"), "<p>&lt;b&gt;</p><p>a note</p>" in html) == (2, True)
    assert result._repr_png_() is None
    assert as_png([image])[:4] == b"\x89PNG"
    assert as_html([[0.5]], None, ()) is None

"""How results show themselves in a notebook."""

import base64
import html
import io
import sys
from collections.abc import Sequence
from typing import Any

from x2i_app.notes import readable_answer


def is_notebook() -> bool:
    """Whether the program runs in a Jupyter kernel."""
    return "ipykernel" in sys.modules


def as_png(images: Sequence[Any]) -> bytes | None:
    """The only image as a PNG file; None for several, and for what is no PIL image."""
    if len(images) != 1 or not hasattr(images[0], "save"):
        return None
    buffer = io.BytesIO()
    images[0].save(buffer, "PNG")
    return buffer.getvalue()


def as_html(images: Sequence[Any], answer: str | None, notes: Sequence[str]) -> str | None:
    """All images, the MLLM's answer and the notes; None for what are no PIL images."""
    files = [as_png([image]) for image in images]
    if not all(files):
        return None
    shown = "".join(f'<img src="data:image/png;base64,{base64.b64encode(file).decode()}" alt=""> ' for file in files)
    return shown + "".join(f"<p>{html.escape(text)}</p>" for text in (readable_answer(answer or ""), *notes) if text)

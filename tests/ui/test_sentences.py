"""What the layers below the page say reaches a Chinese page in Chinese: every error, with its values."""

import ast
from pathlib import Path

import pytest

import x2i_app
from x2i_app import errors, notes
from x2i_app.errors import MediaError
from x2i_app.limits import LIMITS, validate_integer
from x2i_app.media import load_image
from x2i_app.request import GenerationRequest
from x2i_app.ui.i18n import error_text, translate, zh
from x2i_app.ui.page import as_gradio_error
from x2i_app.ui.progress import note_text

ROOT = Path(x2i_app.__file__).parent
ERRORS = {name for name, value in vars(errors).items() if isinstance(value, type)}
# What runs beside the page, or before it is there: its errors are read in a terminal or by programs.
ELSEWHERE = (
    *("training", "evaluation", "miniature", "scale", "comfyui", "ui/http/mcp", "ui/server.py", "hosting.py"),
    *("__main__.py", "cli.py", "commands", "batch.py", "caption_files.py", "options.py", "settings.py", "workspace.py"),
    *("notebook", "openai", "ui/http/openai", "output_names.py"),
)
TERMINAL_ONLY = ("--input", "--output")


class Module:
    """The texts that the names of a module stand for, without importing it: some need torch."""

    def __init__(self, code: ast.Module):
        self.code = code
        self.named = {
            target.id: node.value
            for node in code.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        } | {
            node.name: next((part.value for part in node.body if isinstance(part, ast.Return)), None)
            for node in code.body
            if isinstance(node, ast.FunctionDef)
        }


def templates(node: ast.expr | None, own: Module, imported: dict[str, ast.expr]) -> list[str]:
    """The texts that an expression can be, with its values numbered; none if it only passes on another text."""
    if isinstance(node, ast.IfExp):
        return [*templates(node.body, own, imported), *templates(node.orelse, own, imported)]
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        texts = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
        numbers = iter(range(len(texts)))
        text = "".join(f"{{{next(numbers)}}}" if part is None else part for part in texts)
        return [text] if any(part and any(map(str.isalpha, part)) for part in texts) else []
    name = node.func if isinstance(node, ast.Call) else node
    if isinstance(name, ast.Name):
        return templates(own.named.get(name.id, imported.get(name.id)), own, imported)
    return []


def all_templates() -> dict[str, str]:
    """Every text with which an error is made that can reach the page, and where."""
    names = (path.relative_to(ROOT).as_posix() for path in sorted(ROOT.rglob("*.py")))
    modules = {
        name: Module(ast.parse((ROOT / name).read_text(encoding="utf-8")))
        for name in names
        if not name.startswith(ELSEWHERE)
    }
    imported = {name: value for each in modules.values() for name, value in each.named.items() if name[0] != "_"}
    found = {}
    for name, module in modules.items():
        for node in ast.walk(module.code):
            is_error = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS
            if is_error and node.args:
                found |= dict.fromkeys(templates(node.args[0], module, imported), f"{name}:{node.lineno}")
    return {text: where for text, where in found.items() if not any(flag in text for flag in TERMINAL_ONLY)}


def test_every_error_is_translated():
    found = all_templates()
    assert len(found) > 250, "the search finds the errors"
    missing = {text: where for text, where in found.items() if text not in zh.SENTENCES}
    assert missing == {}, "add each with its translation to SENTENCES in x2i_app/ui/i18n/zh.py"


def test_values_stay():
    """Each translation has the values of its template, and nothing else in braces."""
    for texts in (zh.SENTENCES, zh.PHRASES):
        for template, text in texts.items():
            count = template.count("{")
            values = [f"<{number}>" for number in range(count)]
            assert all(text.format(*values).count(value) == 1 for value in values), template
            assert text.count("{") == count, template


def said(function, *arguments) -> str:
    with pytest.raises(errors.X2IError) as caught:
        function(*arguments)
    return error_text(caught.value, "zh")


def test_translated(tmp_path):
    """Values and names are as they came, also where a name reads like a sentence; phrases are Chinese."""
    document = tmp_path / "is it a text file.png"
    document.write_bytes(b"%PDF-1.4")
    assert said(load_image, document) == (
        "'is it a text file.png' 是 PDF 文档；请改用 PNG、JPEG、WebP、HEIC、AVIF、GIF、BMP 或 TIFF 图片。"
    )
    assert (
        translate("'a.mp4' is an MP4 video; use a text file instead.", "zh") == "'a.mp4' 是 MP4 视频；请改用文本文件。"
    )
    assert said(validate_integer, "width", 64.5, LIMITS.width) == "宽度 为 64.5；它必须是整数，64 到 2048，步长 16。"
    assert said(GenerationRequest, 5) == "提示词 为 5；它必须是文字。"
    assert translate("'a: b.png' is a folder; choose one file.", "zh") == "'a: b.png' 是文件夹；请选择一个文件。"
    unknown = MediaError("Nobody has translated this.")
    assert error_text(unknown, "zh") == translate(str(unknown), "en") == "Nobody has translated this."
    assert str(as_gradio_error(MediaError("There is no file called '{0}'; check its path."), "zh").message) == (
        "没有名为 &#x27;{0}&#x27; 的文件；请检查路径。"
    )


def test_kept_note():
    """A note that was kept on disk is only text."""
    note = notes.Note(notes.CUT_AUDIO, seconds=90, heard=30)
    assert note_text(note, "zh") == note_text(str(note), "zh") == "这段音频有 90 秒，这个模型只听前 30 秒。"
    assert note_text(str(note), "en") == str(note)

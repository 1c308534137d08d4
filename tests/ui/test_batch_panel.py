"""Many prompts from the page: what a row may say, and what becomes of it."""

import asyncio
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import pytest

from x2i_app.request import LATER_SETTINGS, SETTINGS
from x2i_app.ui.batch_panel import MAX_ROWS, read_rows
from x2i_app.ui.i18n import PageError
from x2i_app.ui.layout import build_page

PAGE = gr.Request(headers={"origin": "http://127.0.0.1", "accept-language": "zh"}, session_hash="mine")


def write(tmp_path, name, text, encoding="utf-8"):
    (tmp_path / name).write_text(text, encoding=encoding)
    return str(tmp_path / name)


def test_rows(tmp_path):
    """Typed prompts first, then those of the file; empty lines are none."""
    text = write(tmp_path, "a.txt", "\ufeffein Haus\n\n 一只猫 \n")
    rows = write(tmp_path, "a.jsonl", '{"prompt": "a car", "seed": 3}\n\n')
    assert read_rows(" a house\n\n", text) == [{"prompt": p} for p in ("a house", "ein Haus", "一只猫")]
    assert read_rows(None, rows) == [{"prompt": "a car", "seed": 3}]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.txt", " \n", "Type at least one prompt"),
        ("a.txt", "a\n" * (MAX_ROWS + 1), f"{MAX_ROWS + 1} prompts and {MAX_ROWS} are allowed"),
        ("a.jsonl", '{"prompt": "a"}\n5', "Line 2 of the file must be a JSON object"),
        ("a.jsonl", '{"seed": 1}', 'such as {"prompt": "a house", "seed": 1}'),
        ("a.jsonl", '{"prompt": "a", "image": "/etc/passwd"}', "Line 1 has the field image. Allowed are prompt, width"),
        ("a.jsonl", '{"prompt": "a", "\\ud800": 1}', r"Line 1 has the field \?\."),
        ("a.txt", "x" * 1_000_001, "larger than 1 MB"),
    ],
)
def test_wrong_rows(tmp_path, name, content, sentence):
    with pytest.raises(PageError, match="^.*" + sentence.replace("{", "\\{")):
        read_rows("", write(tmp_path, name, content))


def test_not_text(tmp_path):
    with pytest.raises(PageError, match="not UTF-8"):
        read_rows("", write(tmp_path, "a.txt", "é", "latin-1"))


def test_batch(engine, tmp_path, monkeypatch):
    """Each row is drawn with the page's settings and its own; a wrong one is named, and the rest is in one ZIP file."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    page = build_page(engine)
    panel = next(fn.fn.__self__ for fn in page.fns.values() if fn.name == "generate_all")
    rows = (
        '{"prompt": "a red house", "seed": 7}\n{"prompt": "a", "steps": 0}\n{"prompt": "a boat", "width": 80}\n'
        '{"prompt": "a \\ud800"}\n{"prompt": ' + "[" * 900 + "]" * 900 + '}\n{"prompt": "a <b>horse</b>"}'
    )
    given = {"width": 64, "height": 64, "steps": 1, "seed": None, "count": 1, "true_cfg_scale": 4}
    settings = [given.get(name) for name in (*SETTINGS, *LATER_SETTINGS)]

    async def draw():
        updates = panel.generate_all(PAGE, "", write(tmp_path, "a.jsonl", rows), None, None, *settings)
        return [update async for update in updates]

    with ThreadPoolExecutor(1) as pool:
        updates = pool.submit(asyncio.run, draw()).result()
    *_, progress, download = updates[-1]
    assert "已完成 6 个提示词中的 3 个，共 3 张图片。 其中 1 个有说明：" in progress
    assert '<ul class="noted"><li>第 6 个：这个模型不认识 “' in progress
    assert "第 2 个：步数 为 0；它必须是 1 到 100。" in progress
    assert "第 4 个：" in progress
    assert "第 5 个：" in progress
    json.dumps(updates[-1][-2], ensure_ascii=False).encode()  # can be sent
    for update in updates:
        str(update).encode()
    with zipfile.ZipFile(download.value["path"]) as archive:
        house, boat, horse = json.loads(archive.read("settings.json")).values()
    assert horse["notes"]
    assert (house["prompt"], house["seed"], house["width"]) == ("a red house", 7, 64)
    panel.stop_all(PAGE)
    assert not panel._running, "nothing of a page stays in the memory"
    assert not panel._stopped
    assert (boat["prompt"], boat["width"], boat["height"]) == ("a boat", 80, 64)

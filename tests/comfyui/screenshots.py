"""Draw each example workflow as ComfyUI's page shows it: python tests/comfyui/screenshots.py --url http://127.0.0.1:8188

Start ComfyUI with the nodes and ComfyUI-GGUF first. The images lie beside the workflows, in assets/comfyui.
"""

import argparse
import json
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).resolve().parents[2] / "assets/comfyui"
_LOAD = "workflow => window.app.loadGraphData(workflow)"
# Afterwards: the page moves the view itself while it loads a workflow.
_FIT = """() => {
    const canvas = window.app.canvas, nodes = window.app.graph._nodes;
    const left = Math.min(...nodes.map(node => node.pos[0])) - 20;
    const top = Math.min(...nodes.map(node => node.pos[1])) - 60;
    const right = Math.max(...nodes.map(node => node.pos[0] + node.size[0])) + 20;
    const bottom = Math.max(...nodes.map(node => node.pos[1] + node.size[1])) + 20;
    const scale = Math.min(window.innerWidth / (right - left), window.innerHeight / (bottom - top));
    canvas.show_info = false;
    canvas.ds.scale = scale;
    canvas.ds.offset = [-left, -top];
    canvas.setDirty(true, true);
    return [Math.round((right - left) * scale), Math.round((bottom - top) * scale)];
}"""
_HIDDEN = (
    ".comfyui-body-top",
    ".side-tool-bar-container",
    ".p-toast",
    ".graph-canvas-menu",
    ".p-dialog-mask",
    ".minimap-main-container",
)
_HIDDEN += ("[class*=workflow-tabs]", "[class*=minimap]", "[class*=canvas-menu]", ".p-buttongroup")
_HIDE = f"{', '.join(_HIDDEN)} {{ display: none !important; }}"


def main() -> None:
    """Write NAME.png for each NAME.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8188")
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        page.goto(arguments.url, timeout=120_000)
        page.wait_for_function(
            "!!(window.app?.graph && window.LiteGraph?.registered_node_types?.X2IEncode)", timeout=120_000
        )
        page.wait_for_timeout(3000)
        page.add_style_tag(content=_HIDE)
        for file in sorted(FOLDER.glob("*.json")):
            page.evaluate(_LOAD, json.loads(file.read_text(encoding="utf-8")))
            page.wait_for_timeout(2500)
            width, height = page.evaluate(_FIT)
            page.wait_for_timeout(1000)
            image = file.with_suffix(".png")
            page.screenshot(path=image, clip={"x": 0, "y": 0, "width": width, "height": height})
            Image.open(image).convert("RGB").quantize(256).save(image, optimize=True)  # a third of the bytes
        browser.close()


if __name__ == "__main__":
    main()

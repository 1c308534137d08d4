"""Run every example workflow in a real ComfyUI with tiny weights, and compare its pixels with those of our pipeline.

    python tests/comfyui/tiny_files.py FILES
    python main.py --cpu --extra-model-paths-config FILES/extra_model_paths.yaml    # in ComfyUI's folder
    python tests/comfyui/run.py --folder COMFYUI --files FILES --pid PID --output RESULTS [--only text]

ComfyUI has the nodes (`x2i comfyui COMFYUI`) and ComfyUI-GGUF, and PID is its process, whose memory is printed and, for
one check, limited (Linux only). By hand, not in CI: ComfyUI is no requirement of this project. It prints tables, and
exits with 1 if an image differs by more than two of 255 levels, or a check fails.
"""

import argparse
import io
import json
import resource
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from subprocess import run
from typing import Any

import numpy as np
import psutil
import torch
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from media.test_images import ADOBE, P3, rgb_profile

from tests.comfyui.tiny_files import GGUF, MLLM, PROJ, VAE, WIDE
from tests.comfyui.workflows import Graph, Node, as_prompt, graphs, with_tiny_gguf, with_tiny_weights
from x2i_app import load_pipeline
from x2i_app.media import load_image
from x2i_app.settings import ASSETS

_EXAMPLES = ASSETS / "examples"
_MOST = 2  # of 255 levels: two libraries add the same numbers in another order
_SECONDS = 600


class ComfyUI:
    """A running ComfyUI. inputs: its folder of inputs."""

    def __init__(self, url: str, inputs: Path):
        self.url, self.inputs = url.rstrip("/"), inputs

    def get(self, path: str) -> Any:
        """The JSON, or the bytes of anything else, at a path."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            body = answer.read()
            return json.loads(body) if "json" in answer.headers["Content-Type"] else body

    def post(self, path: str, body: Any) -> Any:
        """The JSON that a POST returns. Raises RuntimeError with what ComfyUI says."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            raise RuntimeError(error.read().decode()[:1000]) from error

    def start(self, prompt: dict[str, Any]) -> str:
        """Queue a workflow. Returns its id."""
        return self.post("/prompt", {"prompt": prompt, "client_id": uuid.uuid4().hex})["prompt_id"]

    def wait(self, number: str) -> dict[str, Any]:
        """The entry of ComfyUI's history once the workflow has ended."""
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            history = self.get(f"/history/{number}")
            if number in history and history[number]["status"]["status_str"] in ("success", "error"):
                return history[number]
            time.sleep(0.2)
        raise TimeoutError(f"The workflow did not end within {_SECONDS} s.")

    def image(self, entry: dict[str, Any]) -> Image.Image:
        """The image that a workflow has saved. Raises RuntimeError if it failed."""
        if entry["status"]["status_str"] != "success":
            raise RuntimeError(error_of(entry))
        (saved,) = next(output["images"] for name, output in entry["outputs"].items() if name == "save")
        return Image.open(io.BytesIO(self.get(f"/view?{urllib.parse.urlencode(saved)}"))).convert("RGB")


def error_of(entry: dict[str, Any]) -> str:
    """What the red node says; empty if there is none."""
    messages = dict(entry["status"]["messages"])
    failed = messages.get("execution_error", {})
    return failed.get("exception_message", "").strip() or ("interrupted" * ("execution_interrupted" in messages))


def drawn_by_us(pipeline: Any, name: str, nodes: Graph) -> np.ndarray:
    """The pixels of our own pipeline for the same values, cut off to whole levels as ComfyUI does."""
    prompt, values = nodes["encode"].values["prompt"], nodes["sample"].values
    given: dict[str, Any] = {}
    if "images" in nodes:
        given["images"] = [_EXAMPLES / "images" / nodes["images"].values["image"]]
    if "video" in nodes:
        given["videos"] = [_EXAMPLES / "videos" / nodes["video"].values["file"]]
    if "audio" in nodes:
        given["audios"] = [_EXAMPLES / "audios" / nodes["audio"].values["audio"]]
    conditioning = pipeline.encode(prompt, **given)
    options: dict[str, Any] = {}
    if name == "light_control":
        options["control_image"] = given["images"][0]
    if name == "kontext_edit":
        pipeline.register_to_config(takes_reference=True)  # of x2i-tiny too, for this comparison
        options["reference"] = given["images"][0]
    size = nodes["size"].values
    image = pipeline(
        conditioning=conditioning,
        width=size["width"],
        height=size["height"],
        num_inference_steps=values["steps"],
        guidance_scale=nodes["encode"].values["guidance"],
        generator=torch.Generator().manual_seed(values["seed"]),
        output_type="np",
        **options,
    ).images[0]
    return (255 * image).astype(np.uint8)


class Failed(Exception):
    """A check has another result than it must have."""


def main() -> int:
    """Run the workflows, then what goes wrong. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8188")
    parser.add_argument("--folder", type=Path, required=True, help="ComfyUI's folder, for its folder `input`")
    parser.add_argument("--files", type=Path, required=True, help="the folder that tiny_files.py wrote")
    parser.add_argument("--pid", type=int, required=True, help="ComfyUI's process")
    parser.add_argument("--output", type=Path, required=True, help="folder for the images")
    parser.add_argument("--only", action="append", help="a workflow or a check; may be repeated")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    comfyui, failed = ComfyUI(arguments.url, arguments.folder / "input"), 0
    process = psutil.Process(arguments.pid)
    print("| workflow | seconds | largest difference of 255 | mean difference | memory |\n|---|---|---|---|---|")
    for name, nodes in graphs().items():
        if not arguments.only or name in arguments.only:
            failed += _compare(comfyui, name, nodes, arguments, process)
    for name, check in _CHECKS.items():
        if not arguments.only or name in arguments.only:
            try:
                print(f"{name}: {check(comfyui, process)}", flush=True)
            except (Failed, RuntimeError) as error:
                failed += 1
                print(f"{name}: FAILED: {error}", flush=True)
    return int(failed > 0)


def _compare(comfyui: ComfyUI, name: str, nodes: Graph, arguments: argparse.Namespace, process: psutil.Process) -> bool:
    """Print a row of the table. Returns whether the workflow failed or its pixels differ."""
    files = arguments.files.resolve()
    is_gguf = name == "gguf_flux"
    nodes = with_tiny_gguf(nodes, GGUF, WIDE, str(files / VAE)) if is_gguf else with_tiny_weights(nodes)
    start = time.monotonic()
    try:
        theirs = comfyui.image(comfyui.wait(comfyui.start(as_prompt(nodes))))
    except RuntimeError as error:
        print(f"| {name} | failed: {error} |", flush=True)
        return True
    seconds = time.monotonic() - start
    ours = drawn_by_us(_gguf_pipeline(files) if is_gguf else load_pipeline("x2i-tiny", device="cpu"), name, nodes)
    theirs.save(arguments.output / f"{name}.png")
    difference = np.abs(np.asarray(theirs, int) - ours)
    print(f"| {name} | {seconds:.1f} | {difference.max()} | {difference.mean():.4f} | {_memory(process)} |", flush=True)
    return bool(difference.max() > _MOST) or np.asarray(theirs).std() == 0


def _gguf_pipeline(files: Path) -> Any:
    own = {"mllm": ASSETS / "x2i-tiny/mllm", "alignnet": files / "x2i" / WIDE, "models": files / "models"}
    return load_pipeline("custom:qwen2.5-omni", device="cpu", flux=files / "diffusion_models" / GGUF, **own)


def _memory(process: psutil.Process) -> str:
    return f"{process.memory_info().rss / 1e6:,.0f} MB"


# ----- What goes wrong, and what comes after it ----------------------------------------------------------------------


def _run(comfyui: ComfyUI, nodes: Graph) -> str:
    """What the red node says; empty if the workflow has run."""
    return error_of(comfyui.wait(comfyui.start(as_prompt(nodes))))


def _red(comfyui: ComfyUI, nodes: Graph, sentence: str) -> str:
    says = _run(comfyui, nodes)
    if sentence not in says:
        raise Failed(f"the node says {says!r}")
    return f"{says.splitlines()[0]!r}; {_next(comfyui)}"


def _next(comfyui: ComfyUI) -> str:
    nodes = with_tiny_weights(graphs()["text"])
    nodes["sample"].values["seed"] = int(time.monotonic())
    if says := _run(comfyui, nodes):
        raise Failed(f"the next workflow says {says!r}")
    return "the next workflow runs"


def _cached(comfyui: ComfyUI, process: psutil.Process) -> str:
    nodes = with_tiny_weights(graphs()["text"])
    _run(comfyui, nodes)
    nodes["sample"].values["seed"] = 77
    entry = comfyui.wait(comfyui.start(as_prompt(nodes)))
    cached = set(dict(entry["status"]["messages"])["execution_cached"]["nodes"])
    if not {"mllm", "alignnet", "encode", "flux"} <= cached:
        raise Failed(f"only {sorted(cached)} are cached")
    return f"with another seed, ComfyUI runs none of {sorted(cached)} again"


def _presets(comfyui: ComfyUI, process: psutil.Process) -> str:
    """x2i-tiny and a repacked Qwen2.5-VL, which ComfyUI finds by extra_model_paths.yaml, in turns."""
    rows = []
    for turn in range(6):
        nodes = with_tiny_weights(graphs()["text"])
        nodes["encode"].values["prompt"] = f"a red house, {turn}"
        if turn % 2:
            nodes["mllm"].values["mllm"] = MLLM
            nodes["alignnet"].values["alignnet"] = PROJ
        if says := _run(comfyui, nodes):
            raise Failed(says)
        rows.append(f"{MLLM if turn % 2 else 'x2i-tiny'} {_memory(process)}")
    return ", then ".join(rows)


def _cancel(comfyui: ComfyUI, nodes: Graph, node: str) -> str:
    """Cancel while this node runs, which a listener of ComfyUI's socket sees."""
    from websockets.sync.client import connect

    client = uuid.uuid4().hex
    with connect(f"{comfyui.url.replace('http', 'ws')}/ws?clientId={client}", max_size=None, close_timeout=1) as socket:
        number = comfyui.post("/prompt", {"prompt": as_prompt(nodes), "client_id": client})["prompt_id"]
        while True:
            message = socket.recv(timeout=_SECONDS)
            event = json.loads(message) if isinstance(message, str) else {}
            if event.get("type") == "executing" and event["data"].get("node") == node:
                break
        time.sleep(1)  # so that it is in the middle of its work
        start = time.monotonic()
        comfyui.post("/interrupt", {})
        entry = comfyui.wait(number)
        seconds = time.monotonic() - start
    stopped = dict(entry["status"]["messages"]).get("execution_interrupted", {}).get("node_id")
    if stopped != node:
        raise Failed(f"{node} was not interrupted, but {stopped}: {error_of(entry)!r}")
    return f"{node} stopped after {seconds:.1f} s; {_next(comfyui)}"


def _cancel_encode(comfyui: ComfyUI, process: psutil.Process) -> str:
    nodes = _with_big_mllm("cancel the encoder")
    nodes["encode"].values["reason"] = True  # an answer of 128 tokens
    return _cancel(comfyui, nodes, "encode")


def _cancel_load(comfyui: ComfyUI, process: psutil.Process) -> str:
    _next(comfyui)  # x2i-tiny, so that the other MLLM is not kept
    nodes = _with_big_mllm("cancel the loader")
    nodes["mllm"].values["precision"] = "4 bit"  # which takes some seconds
    return _cancel(comfyui, nodes, "mllm")


def _cancel_sampling(comfyui: ComfyUI, process: psutil.Process) -> str:
    nodes = with_tiny_weights(graphs()["text"])
    nodes["sample"].values |= {"steps": 2000, "seed": 5}
    return _cancel(comfyui, nodes, "sample")


def _with_big_mllm(prompt: str) -> Graph:
    nodes = with_tiny_weights(graphs()["text"])
    nodes["mllm"].values["mllm"], nodes["alignnet"].values["alignnet"] = MLLM, PROJ
    nodes["encode"].values["prompt"] = prompt
    return nodes


def _no_memory(comfyui: ComfyUI, process: psutil.Process) -> str:
    """The system really refuses the memory: ComfyUI's process gets a limit for the time of one node."""
    nodes = with_tiny_weights(graphs()["text"])
    nodes["frames"] = Node("EmptyImage", 0, 0, {"width": 1024, "height": 1024, "batch_size": 24, "color": 255})
    nodes["encode"].links["video_frames"] = ("frames", 0)
    if says := _run(comfyui, nodes):
        raise Failed(says)
    nodes["encode"].values["prompt"] = "now without memory"
    old = resource.prlimit(process.pid, resource.RLIMIT_AS)
    resource.prlimit(process.pid, resource.RLIMIT_AS, (process.memory_info().vms + 100 * 2**20, old[1]))
    try:
        says = _run(comfyui, nodes)
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_AS, old)
    if "There is not enough memory; choose 4 bit in X2I Load MLLM" not in says:
        raise Failed(f"the node says {says!r}")
    return f"{says.splitlines()[0]!r}; {_next(comfyui)}; {_memory(process)}"


def _images(comfyui: ComfyUI, process: psutil.Process) -> str:
    """X2I Load Image gives the app's pixels: upright, in sRGB, on white; HEIC too."""
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = np.random.default_rng(1).integers(0, 256, (32, 48, 4), np.uint8)
    clear, turned, gray = Image.fromarray(noise), {"exif": exif, "quality": 95}, noise[..., 0].astype(np.uint16) * 200
    files = {"a clear.png": {}, "b camera.jpg": turned | {"icc_profile": rgb_profile(ADOBE)}, "c 16 bits.png": {}}
    files["d phone.heic"] = turned | {"icc_profile": rgb_profile(P3), "format": "HEIF"}
    for name, options in files.items():
        made = {"a clear.png": clear, "c 16 bits.png": Image.fromarray(gray)}.get(name, clear.convert("RGB"))
        made.save(comfyui.inputs / name, **options)
    for name in files:
        shown = {
            "read": Node("X2ILoadImage", 0, 0, {"image": name}),
            "save": Node("SaveImage", 0, 0, {"filename_prefix": "x2i"}, {"images": ("read", 0)}),
        }
        theirs = comfyui.image(comfyui.wait(comfyui.start(as_prompt(shown))))
        ours = load_image(comfyui.inputs / name)
        (comfyui.inputs / name).unlink()
        if theirs.size != ours.size or theirs.tobytes() != ours.tobytes():
            raise Failed(f"{name} differs")
    return f"{len(files)} files, the app's pixels bit for bit"


def _linked(comfyui: ComfyUI, process: psutil.Process) -> str:
    """Paths from other nodes: nothing is loaded again."""
    nodes = with_tiny_weights(graphs()["text"])
    for name, folder in (("mllm", "mllm"), ("alignnet", "align_net")):
        nodes[f"{name} path"] = Node("PrimitiveString", 0, 0, {"value": str(ASSETS / "x2i-tiny" / folder)})
        nodes[name].values.pop("path")
        nodes[name].links["path"] = (f"{name} path", 0)
    if says := _run(comfyui, nodes):
        raise Failed(says)
    nodes["sample"].values["seed"] = 78
    entry = comfyui.wait(comfyui.start(as_prompt(nodes)))
    cached = set(dict(entry["status"]["messages"])["execution_cached"]["nodes"])
    if not {"mllm", "alignnet", "encode"} <= cached:
        raise Failed(f"only {sorted(cached)} are cached")
    return "loaded once"


def _two_controls(comfyui: ComfyUI, process: psutil.Process) -> str:
    """Two LightControls at half the strength draw what one draws at the whole; the image has transparency."""
    noise = np.random.default_rng(1).integers(0, 256, (128, 128, 4), np.uint8)
    Image.fromarray(noise).save(file := comfyui.inputs / "clear.png")
    drawn = []
    for strengths in ((1.0,), (0.5, 0.5)):
        nodes = with_tiny_weights(graphs()["text"])
        nodes["loaded"] = Node("LoadImage", 0, 0, {"image": "clear.png"})
        links = {"image": ("loaded", 0), "alpha": ("loaded", 1)}
        nodes["clear"] = Node("JoinImageWithAlpha", 0, 0, {}, links)
        for number, strength in enumerate(strengths):
            values = {"light_control": "x2i-tiny", "strength": strength, "start": 0.0, "end": 1.0}
            links = {"model": nodes["sample"].links["model"], "image": ("clear", 0)}
            nodes[f"control_{number}"] = Node("X2ILightControl", 0, 0, values, links)
            nodes["sample"].links["model"] = (f"control_{number}", 0)
        drawn.append(np.asarray(comfyui.image(comfyui.wait(comfyui.start(as_prompt(nodes)))), int))
    file.unlink()
    if (difference := np.abs(drawn[0] - drawn[1]).max()) > _MOST:
        raise Failed(f"they differ by {difference}")
    return f"largest difference {difference} of 255"


def _long_video(comfyui: ComfyUI, process: psutil.Process) -> str:
    """A phone's video of 20 s; as ComfyUI's own floats it would be 15 GB."""
    options = ["-f", "lavfi", "-i", "testsrc=size=1920x1080:rate=30:duration=20", "-preset", "ultrafast"]
    run([get_ffmpeg_exe(), "-y", *options, comfyui.inputs / "long.mp4"], capture_output=True, check=True)
    nodes = with_tiny_weights(graphs()["video"])
    nodes["video"].values["file"] = "long.mp4"
    most, number = 0, comfyui.start(as_prompt(nodes))
    while number not in comfyui.get(f"/history/{number}"):
        most = max(most, process.memory_info().rss)
        time.sleep(0.1)
    (comfyui.inputs / "long.mp4").unlink()
    if says := error_of(comfyui.wait(number)):
        raise Failed(says)
    return f"at most {most / 1e6:,.0f} MB"


def _wrong_alignnet(comfyui: ComfyUI, process: psutil.Process) -> str:
    nodes = with_tiny_weights(graphs()["text"])
    nodes["alignnet"].values["alignnet"] = PROJ
    return _red(comfyui, nodes, "use the AlignNet trained for this MLLM")


def _missing_file(comfyui: ComfyUI, process: psutil.Process) -> str:
    nodes = with_tiny_weights(graphs()["text"])
    nodes["mllm"].values["path"] = "/nowhere/at/all"
    return _red(comfyui, nodes, "is not there any more; ComfyUI looks in")


def _no_whisper(comfyui: ComfyUI, process: psutil.Process) -> str:
    nodes = with_tiny_weights(graphs()["audio"])
    nodes["mllm"].values["mllm"], nodes["alignnet"].values["alignnet"] = MLLM, PROJ
    return _red(comfyui, nodes, "cannot")


def _missing_modality(comfyui: ComfyUI, process: psutil.Process) -> str:
    nodes = with_tiny_weights(graphs()["audio"])
    nodes["audio"] = Node("EmptyAudio", 0, 0, {"duration": 1.0, "sample_rate": 16_000, "channels": 1})
    nodes["mllm"].values["mllm"], nodes["alignnet"].values["alignnet"] = MLLM, PROJ
    return _red(comfyui, nodes, "No speech was found in the audio")


_CHECKS: dict[str, Callable[[ComfyUI, psutil.Process], str]] = {
    "cached": _cached,
    "X2I Load Image": _images,
    "inputs from other nodes": _linked,
    "two LightControls": _two_controls,
    "a long video": _long_video,
    "two MLLMs in turns": _presets,
    "cancel while it encodes": _cancel_encode,
    "cancel while it loads": _cancel_load,
    "cancel while it samples": _cancel_sampling,
    "no memory": _no_memory,
    "an AlignNet of another MLLM": _wrong_alignnet,
    "a missing folder": _missing_file,
    "speech without Whisper": _no_whisper,
    "a modality that the MLLM lacks": _missing_modality,
}


if __name__ == "__main__":
    sys.exit(main())

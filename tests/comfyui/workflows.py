"""Writes the example workflows: python tests/comfyui/workflows.py

Each is described by its nodes below. `as_workflow` lays them out for ComfyUI's page, and `as_prompt` is the form of its
HTTP API. The page keeps values by position, so the inputs of ComfyUI's own nodes are listed here too.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "assets/comfyui"
# Of ComfyUI's nodes: the inputs that are values, in the order of the page; a seed is followed by what happens to it.
WIDGETS = {
    "EmptySD3LatentImage": ("width", "height", "batch_size"),
    "KSampler": ("seed", "control_after_generate", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "ModelSamplingFlux": ("max_shift", "base_shift", "width", "height"),
    "LoadAudio": ("audio", "audioUI", "upload"),
    "LoadVideo": ("file", "upload"),
    "SaveImage": ("filename_prefix",),
    "UNETLoader": ("unet_name", "weight_dtype"),
    "UnetLoaderGGUF": ("unet_name",),
    "VAELoader": ("vae_name",),
    "X2ILoadFlux": ("flux", "path"),
    "X2ILoadImage": ("image", "upload"),
    "X2ILoadMLLM": ("mllm", "precision", "device", "family", "path"),
    "X2ILoadAlignNet": ("alignnet", "path"),
    "X2IEncode": ("prompt", "guidance", "reason", "video_fps"),
    "X2ILightControl": ("light_control", "strength", "start", "end"),
    "MarkdownNote": ("text",),
}
OUTPUTS = {
    "EmptySD3LatentImage": ("LATENT",),
    "KSampler": ("LATENT",),
    "ModelSamplingFlux": ("MODEL",),
    "FluxKontextImageScale": ("IMAGE",),
    "LoadAudio": ("AUDIO",),
    "LoadVideo": ("VIDEO",),
    "PreviewAny": (),
    "ReferenceLatent": ("CONDITIONING",),
    "SaveImage": (),
    "UNETLoader": ("MODEL",),
    "UnetLoaderGGUF": ("MODEL",),
    "VAEDecode": ("IMAGE",),
    "VAEEncode": ("LATENT",),
    "VAELoader": ("VAE",),
    "X2ILoadFlux": ("MODEL", "VAE"),
    "X2ILoadMLLM": ("X2I_MLLM",),
    "X2ILoadAlignNet": ("X2I_ALIGNNET",),
    "X2ILoadImage": ("IMAGE", "STRING", "MASK"),
    "X2IEncode": ("CONDITIONING", "STRING", "STRING", "X2I_HISTORY"),
    "X2ILightControl": ("MODEL",),
    "MarkdownNote": (),
}
_WIDTH, _GAP = 300, 60
_TINY, _RELEASED = "x2i-tiny", "qwen2.5-vl-3b"


@dataclass
class Node:
    """values: of its widgets. links: input -> (name of a node, number of its output). column, row: its place."""

    kind: str
    column: int
    row: int
    values: dict[str, Any] = field(default_factory=dict)
    links: dict[str, tuple[str, int]] = field(default_factory=dict)
    height: int = 120


Graph = dict[str, Node]


def graph(
    prompt: str,
    inputs: dict[str, Node] | None = None,
    *,
    preset: str = _TINY,
    size: int = 128,
    steps: int = 8,
    seed: int = 1,
    flux: Node | None = None,
    note: str = "",
) -> Graph:
    """The nodes that every workflow has. inputs: nodes of media, by the input of X2I Encode that each fills."""
    loader = flux or Node("X2ILoadFlux", 0, 0, {"flux": preset, "path": ""})
    vae = ("flux", 1) if flux is None else ("vae", 0)
    nodes = {
        "flux": loader,
        "mllm": Node(
            "X2ILoadMLLM",
            0,
            1,
            {"mllm": preset, "precision": "full", "device": "default", "family": "auto", "path": ""},
            height=190,
        ),
        "alignnet": Node("X2ILoadAlignNet", 0, 2, {"alignnet": preset, "path": ""}),
        "encode": Node(
            "X2IEncode",
            1,
            1,
            {"prompt": prompt, "guidance": 3.5, "reason": False, "video_fps": 24.0},
            {"mllm": ("mllm", 0), "alignnet": ("alignnet", 0)},
            height=370,
        ),
        "answer": Node("PreviewAny", 2, 2, {}, {"source": ("encode", 2)}, height=150),
        "shift": Node(
            "ModelSamplingFlux",
            1,
            0,
            {"max_shift": 1.15, "base_shift": 0.5, "width": size, "height": size},
            {"model": ("flux", 0)},
            height=180,
        ),
        "size": Node("EmptySD3LatentImage", 2, 0, {"width": size, "height": size, "batch_size": 1}),
        "sample": Node(
            "KSampler",
            2,
            1,
            {
                "seed": seed,
                "control_after_generate": "fixed",
                "steps": steps,
                "cfg": 1.0,
                "sampler_name": "euler",
                "scheduler": "simple",
                "denoise": 1.0,
            },
            {
                "model": ("shift", 0),
                "positive": ("encode", 0),
                "negative": ("encode", 0),
                "latent_image": ("size", 0),
            },
            height=290,
        ),
        "decode": Node("VAEDecode", 3, 0, {}, {"samples": ("sample", 0), "vae": vae}, height=60),
        "save": Node("SaveImage", 3, 1, {"filename_prefix": "x2i"}, {"images": ("decode", 0)}, height=330),
    }
    if flux is not None:
        nodes["vae"] = Node("VAELoader", 2, 3, {"vae_name": "ae.safetensors"}, height=70)
    for number, (name, node) in enumerate((inputs or {}).items()):
        node.column, node.row = -1, number
        nodes[name] = node
        nodes["encode"].links[name] = (name, 0)
    if note:
        nodes["note"] = Node("MarkdownNote", 3, 2, {"text": note}, height=190)
    return nodes


def _image(file: str) -> Node:
    return Node("X2ILoadImage", 0, 0, {"image": file, "upload": "image"}, height=370)


def _audio(file: str) -> Node:
    return Node("LoadAudio", 0, 0, {"audio": file, "audioUI": "", "upload": "audio"}, height=150)


def _video(file: str) -> Node:
    return Node("LoadVideo", 0, 0, {"file": file, "upload": "image"}, height=390)


_NOTE = (
    "It runs at once with **x2i-tiny**. For your FLUX.1: replace *X2I Load FLUX* by *Load Diffusion Model* and *Load "
    "VAE*, choose a preset in *X2I Load MLLM* and *X2I Load AlignNet*, and set the size to 1024."
)
_BOAT, _ROCKET, _RAIN = "boat-at-sunset.png", "rocket-at-night.mp4", "rain-at-sea.wav"


def _light_control() -> Graph:
    nodes = graph("make it night", {"images": _image(_BOAT)}, note=_NOTE)
    nodes["control"] = Node(
        "X2ILightControl",
        1,
        2,
        {"light_control": _TINY, "strength": 1.0, "start": 0.0, "end": 1.0},
        {"model": ("shift", 0), "image": ("images", 0)},
        height=170,
    )
    nodes["sample"].links["model"] = ("control", 0)
    return nodes


def _kontext() -> Graph:
    loader = Node(
        "UNETLoader", 0, 0, {"unet_name": "flux1-dev-kontext_fp8_scaled.safetensors", "weight_dtype": "default"}
    )
    nodes = graph("make it night", {"images": _image(_BOAT)}, preset=_RELEASED, size=1024, steps=20, flux=loader)
    nodes["scale"] = Node("FluxKontextImageScale", 0, 3, {}, {"image": ("images", 0)}, height=60)
    nodes["pixels"] = Node("VAEEncode", 1, 2, {}, {"pixels": ("scale", 0), "vae": ("vae", 0)}, height=60)
    links = {"conditioning": ("encode", 0), "latent": ("pixels", 0)}
    nodes["reference"] = Node("ReferenceLatent", 1, 3, {}, links, height=60)
    nodes["sample"].links["positive"] = ("reference", 0)
    return nodes


def graphs() -> dict[str, Graph]:
    """All example workflows by name."""
    media = {"images": _image(_BOAT), "video": _video(_ROCKET), "audio": _audio(_RAIN)}
    gguf = Node("UnetLoaderGGUF", 0, 0, {"unet_name": "flux1-dev-Q4_K_S.gguf"})
    return {
        "text": graph("a red house on snow at night", note=_NOTE),
        "image_instruction": graph("make it night", {"images": _image(_BOAT)}, note=_NOTE),
        "video": graph("", {"video": _video(_ROCKET)}, note=_NOTE),
        "audio": graph("with a boat", {"audio": _audio(_RAIN)}, note=_NOTE),
        "fusion": graph("all of it", media, note=_NOTE),
        "light_control": _light_control(),
        "kontext_edit": _kontext(),
        "gguf_flux": graph("a red house on snow at night", preset=_RELEASED, size=1024, steps=20, flux=gguf),
    }


def with_tiny_weights(nodes: Graph) -> Graph:
    """The same workflow with x2i-tiny in place of released weights."""
    swapped = {name: node for name, node in nodes.items() if name != "vae"}
    swapped["flux"] = Node("X2ILoadFlux", 0, 0, {"flux": _TINY, "path": ""})
    for name in ("mllm", "alignnet"):
        swapped[name].values[name] = _TINY
    for name in ("size", "shift"):
        swapped[name].values |= {"width": 128, "height": 128}
    swapped["sample"].values["steps"] = 8
    if "scale" in swapped:  # Kontext's sizes are about 1024 x 1024
        size = {"upscale_method": "lanczos", "width": 128, "height": 128, "crop": "disabled"}
        swapped["scale"] = Node("ImageScale", 0, 3, size, swapped["scale"].links)
    for node in swapped.values():
        node.links = {key: ("flux", 1) if source == ("vae", 0) else source for key, source in node.links.items()}
    return swapped


def with_tiny_gguf(nodes: Graph, gguf: str, alignnet: str, vae: str) -> Graph:
    """The same workflow with a small FLUX.1 in GGUF. alignnet: for its widths. vae: a folder in diffusers' form."""
    swapped = with_tiny_weights(nodes)
    swapped["flux"] = Node("UnetLoaderGGUF", 0, 0, {"unet_name": gguf})
    swapped["alignnet"].values["alignnet"] = alignnet
    swapped["vae"] = Node("X2ILoadFlux", 0, 0, {"flux": _TINY, "path": vae})
    swapped["decode"].links["vae"] = ("vae", 1)
    return swapped


def as_prompt(nodes: Graph) -> dict[str, Any]:
    """The form of ComfyUI's HTTP API."""
    return {
        name: {
            "class_type": node.kind,
            "inputs": {key: value for key, value in node.values.items() if key not in PAGE_ONLY}
            | {key: list(source) for key, source in node.links.items()},
        }
        for name, node in nodes.items()
        if node.kind != "MarkdownNote"
    }


PAGE_ONLY = ("control_after_generate", "upload", "audioUI")


def as_workflow(nodes: Graph) -> dict[str, Any]:
    """The form that ComfyUI's page saves and loads."""
    numbers = {name: number for number, name in enumerate(nodes, 1)}
    least = min(node.column for node in nodes.values())
    links: list[list[Any]] = []
    drawn = []
    columns: dict[int, int] = {}
    for name, node in sorted(nodes.items(), key=lambda item: (item[1].column, item[1].row)):
        top = columns.get(node.column, 0)
        columns[node.column] = top + node.height + _GAP
        drawn.append(
            {
                "id": numbers[name],
                "type": node.kind,
                "pos": [(node.column - least) * (_WIDTH + _GAP), top],
                "size": [_WIDTH, node.height],
                "flags": {},
                "order": len(drawn),
                "mode": 0,
                "inputs": [],
                "outputs": [
                    {"name": kind, "type": kind, "links": [], "slot_index": slot}
                    for slot, kind in enumerate(OUTPUTS[node.kind])
                ],
                "properties": {"Node name for S&R": node.kind},
                "widgets_values": [node.values[key] for key in WIDGETS.get(node.kind, ())],
            }
        )
    by_number = {each["id"]: each for each in drawn}
    for name, node in nodes.items():
        target = by_number[numbers[name]]
        for key, (source, slot) in node.links.items():
            kind = OUTPUTS[nodes[source].kind][slot]
            link = len(links) + 1
            links.append([link, numbers[source], slot, numbers[name], len(target["inputs"]), kind])
            target["inputs"].append({"name": key, "type": kind, "link": link})
            by_number[numbers[source]]["outputs"][slot]["links"].append(link)
    return {
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": drawn,
        "links": links,
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def write(folder: Path = FOLDER) -> None:
    """Write every workflow as NAME.json."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, nodes in graphs().items():
        text = json.dumps(as_workflow(nodes), indent=1, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()

"""Settings that other programs write into their images: A1111 and its relatives, ComfyUI, InvokeAI, Fooocus and more.

Each reader turns texts of an untrusted file into a Foreign: prompt, seed, steps, size, guidance, LoRAs by their names,
and the names of everything that means nothing to X2I. The formats are those that the programs' own readers accept.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from x2i_app.media.comfyui import lora_name, read_graph
from x2i_app.media.image_texts import COMMENT, PARAMETERS

_MAX_LEFT_OUT = 12  # names in a note


@dataclass
class Foreign:
    """What another program's image says. values: seed, steps, width, height, guidance as they are there, unchecked.

    loras: names without a folder or a suffix, and weights. left_out: what was not read, as the program calls it.
    """

    program: str
    prompt: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    loras: list[tuple[str, float]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    negative_prompt: str = ""

    @property
    def names_left_out(self) -> str:
        """The names for a note, each once; a few of many."""
        names = list(dict.fromkeys(self.left_out))
        return ", ".join(names[:_MAX_LEFT_OUT] + (["..."] if len(names) > _MAX_LEFT_OUT else []))


def read_foreign(texts: Mapping[str, str]) -> Foreign | None:
    """The settings in an image's texts (as `image_texts.read_texts` returns them); None if no program is known."""
    for reader in (_comfyui, _invokeai, _old_invokeai, _dream, _json_parameters, _a1111, _novelai):
        try:
            found = reader(texts)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
            continue  # damaged, or of another program that uses the same name
        if found:
            return found
    return None


# A1111, Forge, SD.Next, Fooocus' scheme "a1111", and X2I itself: text with a last row of "Name: value" pairs.

# A name begins after a comma: of a long run of letters, not every part is tried.
# A value in quotation marks or, of Civitai, in brackets has commas and names of its own.
_PAIR = re.compile(r'(?<![\w\s\-/])\s*+(\w[\w \-/]*+):\s*+("(?:\\.|[^\\"])*"|\[[^\[\]]*+\]|[^,]*)(?:,|$)')
_A1111 = {
    "steps": "steps",
    "seed": "seed",
    "distilled cfg scale": "guidance",
    "guidance": "guidance",  # of stable-diffusion.cpp
    "width": "width",  # of Civitai's generator, and the next
    "height": "height",
}
_LORA_WEIGHT = re.compile(r"([^\s,:\"][^,:\"]*):\s?(-?\d{1,3}(?:\.\d{1,6})?)(?=[,\"])")
_NAMED_ROW = re.compile(r"\s*+(\w[\w \-/]{0,40}):")
_SIZE = re.compile(r"(\d{1,9})\s{0,9}[x×, ]\s{0,9}(\d{1,9})")
_NEGATIVE = "Negative prompt:"
_UNIMPORTANT = {"version", "created date", "user"}


def _a1111(texts: Mapping[str, str]) -> Foreign | None:
    text = (texts.get(PARAMETERS) or texts.get("description") or "").strip()
    prompt, pairs, others = _split_pairs(text.split("\n"))
    if not pairs:
        # A PNG text may be a prompt alone. Phones also write comments: that of a screenshot is "Screenshot".
        is_prompt = PARAMETERS in texts and COMMENT not in texts and _json_object(text) is None
        if not text or not is_prompt:
            return None
    positive, negative = _split_negative(prompt)
    named = {name.lower(): value.strip().strip('"') for name, value in pairs}
    version = named.get("version", "")
    said = f"{named.get('app', '')} {version}".lower()
    program = next((name for name in ("Fooocus", "X2I", "Forge", "SD.Next") if name.lower() in said), "A1111")
    if re.match(r"f\d", version):
        program = "Forge"
    # With a scale of 1, as Forge has it for FLUX.1, the negative prompt has no effect.
    found = Foreign(program, positive, negative_prompt="" if named.get("cfg scale") in ("1", "1.0") else negative)
    for name, value in pairs:
        name = name.strip()
        key = name.lower()
        if key in _A1111:
            found.values[_A1111[key]] = value.strip().strip('"')
        elif key == "size" and (size := _SIZE.search(value)):
            found.values["width"], found.values["height"] = size.groups()
        elif key == "lora weights":  # of Fooocus, whose prompt has no tags
            found.loras = [_lora(*lora) for lora in _LORA_WEIGHT.findall(value)]
        elif program != "X2I" and key not in _UNIMPORTANT and not key.startswith("lora hash"):
            found.left_out.append(name)
    found.left_out += others
    return found


def _split_pairs(rows: list[str]) -> tuple[list[str], list[tuple[str, str]], list[str]]:
    """The rows of a prompt, the pairs below it, and the names of rows that extensions have added below these."""
    for place in reversed(range(len(rows))):
        pairs = _PAIR.findall(rows[place])
        is_first = rows[place].lstrip().lower().startswith("steps:")
        if len(pairs) >= 3 and (is_first or (place == len(rows) - 1 and any(n.lower() == "steps" for n, _ in pairs))):
            names = (_NAMED_ROW.match(row) for row in rows[place + 1 :])
            return rows[:place], pairs, [name[1] for name in names if name]
    return rows, [], []


def _split_negative(rows: list[str]) -> tuple[str, str]:
    start = next((i for i, row in enumerate(rows) if row.strip().startswith(_NEGATIVE)), len(rows))
    negative = "\n".join(rows[start:]).strip().removeprefix(_NEGATIVE).strip()
    return "\n".join(rows[:start]).strip(), negative


# ComfyUI: a graph of nodes as JSON, in PNG texts or behind "prompt:" in EXIF.


def _comfyui(texts: Mapping[str, str]) -> Foreign | None:
    graph = _json_object(texts.get("prompt"))
    for name in ("make", "model", "description", PARAMETERS):
        value = texts.get(name, "")
        if graph is None and (match := re.match(r"\s*+(?:prompt\s*+:)?+\s*+(?=\{)", value, re.IGNORECASE)):
            graph = _json_object(value[match.end() :])
            graph = graph.get("prompt", graph) if graph else None
    if not graph or not any(isinstance(node, dict) and "class_type" in node for node in graph.values()):
        return None
    read = read_graph(graph)
    return Foreign("ComfyUI", read.prompt, read.values, read.loras, read.left_out, read.negative_prompt)


# InvokeAI, from 3.0 on; 2.x; and 1.x, which wrote its command line.

_INVOKEAI = {
    "seed": "seed",
    "steps": "steps",
    "width": "width",
    "height": "height",
    "guidance": "guidance",
}
_INVOKEAI_LEFT = {
    "positive_style_prompt": "style prompt",
    "cfg_scale": "CFG scale",
    "scheduler": "scheduler",
    "model": "model",
    "vae": "VAE",
    "clip_skip": "CLIP skip",
    "controlnets": "ControlNet",
    "ipAdapters": "IP adapter",
    "t2iAdapters": "T2I adapter",
    "strength": "strength",
    "init_image": "initial image",
    "refiner_model": "refiner",
    "hrf_enabled": "high resolution fix",
    "canvas_v2_metadata": "canvas",
    "ref_images": "reference images",
    "regions": "regions",
}


def _invokeai(texts: Mapping[str, str]) -> Foreign | None:
    stored = _json_object(texts.get("invokeai_metadata"))
    if stored is None:
        return None
    found = _from_json("InvokeAI", stored, "positive_prompt", _INVOKEAI, _INVOKEAI_LEFT)
    for lora in stored.get("loras") or ():
        model = lora.get("model") or lora.get("lora") or {}
        found.loras.append(_lora(model.get("name") or model.get("model_name"), lora.get("weight", 1)))
    return found


def _old_invokeai(texts: Mapping[str, str]) -> Foreign | None:
    stored = _json_object(texts.get("sd-metadata"))
    image = stored.get("image") if stored else None
    if not isinstance(image, dict):
        return None
    prompt = image["prompt"]
    if isinstance(prompt, list):
        prompt = prompt[0]["prompt"]
    left = {"cfg_scale": "CFG scale", "sampler": "sampler"}
    found = _from_json("InvokeAI", image | {"prompt": prompt}, "prompt", _INVOKEAI, left)
    return found if not stored.get("model") else _with_left_out(found, "model")


_DREAM = {"-s": "steps", "-S": "seed", "-W": "width", "-H": "height"}


def _dream(texts: Mapping[str, str]) -> Foreign | None:
    match = re.match(r'"((?:\\.|[^"\\])*)"\s*(.*)', texts.get("Dream") or "", re.DOTALL)
    if not match:
        return None
    found = Foreign("InvokeAI", match[1].replace('\\"', '"'))
    for flag, value in re.findall(r"(-\w)\s*(\S+)", match[2]):
        if flag in _DREAM:
            found.values[_DREAM[flag]] = value
        else:
            found.left_out.append({"-C": "CFG scale", "-A": "sampler"}.get(flag, flag))
    return found


# Fooocus' own scheme, SwarmUI, mflux and Draw Things: JSON under `parameters`. NovelAI: JSON under `Comment`.

_FOOOCUS = {"seed": "seed", "steps": "steps"}
_FOOOCUS_LEFT = {
    "styles": "styles",
    "guidance_scale": "guidance scale",
    "sharpness": "sharpness",
    "performance": "performance",
    "base_model": "base model",
    "refiner_model": "refiner",
    "sampler": "sampler",
    "scheduler": "scheduler",
    "vae": "VAE",
    "adm_guidance": "ADM guidance",
    "clip_skip": "CLIP skip",
}
_SWARM = {"seed": "seed", "steps": "steps", "width": "width", "height": "height", "fluxguidancescale": "guidance"}
_SWARM_LEFT = {
    "cfgscale": "CFG scale",
    "sampler": "sampler",
    "scheduler": "scheduler",
    "model": "model",
    "vae": "VAE",
    "initimage": "initial image",
    "initimagecreativity": "strength",
    "variationseed": "variation seed",
    "refinermodel": "refiner",
    "refinerupscale": "upscaling",
    "controlnetmodel": "ControlNet",
}
_MFLUX = {"seed": "seed", "steps": "steps", "width": "width", "height": "height", "guidance": "guidance"}
_MFLUX_LEFT = {"model": "model", "quantize": "quantization", "init_image_path": "initial image"}
_DRAW_THINGS_LEFT = {"scale": "scale", "sampler": "sampler", "model": "model", "strength": "strength"}
_SCALES = ("cfg_scale", "cfgscale", "guidance_scale")  # of 1: then the negative prompt had no effect
_NEGATIVES = ("negative_prompt", "negativeprompt", "uc")
_NOVELAI_LEFT = {"scale": "prompt guidance", "sampler": "sampler"}


def _json_parameters(texts: Mapping[str, str]) -> Foreign | None:
    stored = _json_object(texts.get(PARAMETERS))
    if stored is None:
        return None
    if isinstance(stored.get("sui_image_params"), dict):
        return _swarm(stored["sui_image_params"])
    if "mflux_version" in stored:
        found = _from_json("mflux", stored, "prompt", _MFLUX, _MFLUX_LEFT)
        names, weights = stored.get("lora_paths") or [], stored.get("lora_scales") or []
        found.loras = [_lora(*lora) for lora in zip(names, [*weights, *[1] * len(names)], strict=False)]
        return found
    if isinstance(stored.get("c"), str) and "seed" in stored:
        found = _from_json("Draw Things", stored, "c", _FOOOCUS, _DRAW_THINGS_LEFT)
        if size := _SIZE.search(str(stored.get("size", ""))):
            found.values["width"], found.values["height"] = size.groups()
        loras = (stored.get("v2") or {}).get("loras") or stored.get("lora") or ()
        names = (str(lora.get("file") or lora["model"]).removesuffix(".ckpt") for lora in loras)
        found.loras = [_lora(name, lora.get("weight", 1)) for name, lora in zip(names, loras, strict=True)]
        return found
    if not {"prompt", "full_prompt"} & stored.keys():
        return None
    prompt = stored.get("prompt")
    if not prompt and isinstance(stored.get("full_prompt"), list):
        prompt = next(iter(stored["full_prompt"]), "")
    found = _from_json("Fooocus", stored | {"prompt": prompt or ""}, "prompt", _FOOOCUS, _FOOOCUS_LEFT)
    if size := _SIZE.search(str(stored.get("resolution", ""))):
        found.values["width"], found.values["height"] = size.groups()
    for name, value in stored.items():
        if name.startswith("lora_combined_") and isinstance(value, str):
            file, _, weight = value.rpartition(" : ")
            found.loras.append(_lora(file, weight))
    if not found.loras:
        found.loras = [_lora(lora[0], lora[1]) for lora in stored.get("loras") or ()]
    return found


def _swarm(stored: Mapping[str, Any]) -> Foreign:
    found = _from_json("SwarmUI", stored, "prompt", _SWARM, _SWARM_LEFT)
    names, weights = (_texts(stored.get(key)) for key in ("loras", "loraweights"))
    weights += ["1"] * (len(names) - len(weights))
    found.loras = [_lora(name, weight) for name, weight in zip(names, weights, strict=False)]
    return found


def _texts(value: Any) -> list[str]:
    """The texts of a list, which earlier versions wrote as one text with commas."""
    values = value.split(",") if isinstance(value, str) else value or ()
    return [each.strip() for each in values if isinstance(each, str)]


def _novelai(texts: Mapping[str, str]) -> Foreign | None:
    stored = _json_object(texts.get("Comment"))
    if stored is None or not isinstance(stored.get("prompt"), str) or "seed" not in stored:
        return None
    return _from_json("NovelAI", stored, "prompt", _INVOKEAI, _NOVELAI_LEFT)


def _from_json(
    program: str, stored: Mapping[str, Any], prompt: str, names: Mapping[str, str], left_out: Mapping[str, str]
) -> Foreign:
    text = stored.get(prompt) or ""
    is_guided = not any(stored.get(name) == 1 for name in _SCALES)
    negative = next((stored[name] for name in _NEGATIVES if stored.get(name) and is_guided), "")
    if not (isinstance(text, str) and isinstance(negative, str)):
        raise TypeError("a prompt that is no text")
    values = {names[name]: value for name, value in stored.items() if name in names and value is not None}
    left = [said for name, said in left_out.items() if stored.get(name) not in (None, "", [], {}, False, "None", "[]")]
    return Foreign(program, text, values, left_out=left, negative_prompt=negative)


def _with_left_out(found: Foreign, *names: str) -> Foreign:
    found.left_out += names
    return found


def _lora(name: Any, weight: Any) -> tuple[str, float]:
    return lora_name(str(name)), float(weight)


def _json_object(text: str | None) -> dict[str, Any] | None:
    """The JSON object in a text; None for anything else. ComfyUI writes NaN, which Python reads."""
    if not text or not text.lstrip().startswith("{"):
        return None
    try:
        stored = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return stored if isinstance(stored, dict) else None

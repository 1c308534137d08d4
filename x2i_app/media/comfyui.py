"""The settings in a graph of ComfyUI: the nodes that lead to the saved image, followed link by link.

A graph is an object of nodes by their ids, each {"class_type": ..., "inputs": {...}}. An input is a value, or a link
[id, number of an output]. Nodes of extensions are understood as far as their inputs have the usual names.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_MAX_NODES = 2000
_MAX_DEPTH = 200  # links in a row
_MAX_LOOKUPS = 20_000  # of values and texts; nodes that share others have very many ways between them
_MAX_DELIMITER = 100
_MAX_TEXT = 65_536  # characters of one text
# Inputs with a prompt, the best first: FLUX.1 reads "t5xxl" and SDXL "text_g" before their other encoder's text.
_TEXTS = (
    "text",
    "t5xxl",
    "text_g",
    "clip_l",
    "text_l",
    "prompt",
    "positive_prompt",
    "populated_text",  # what the next one became
    "wildcard_text",
    "string",
    "value",
)
_STYLED = ("text_positive", "text_negative")  # of nodes with two outputs, in this order
_PARTS = (
    "text1",
    "text2",
    "text3",
    "text4",
    "text_a",
    "text_b",
    "text_c",
    "string_a",
    "string_b",
    "string1",
    "string2",
)
_NO_CONDITIONING = ("clip", "model", "vae", "image", "pixels", "control_net")
_ZEROES = "ConditioningZeroOut"  # its output has nothing of its text
_LATENTS = ("latent_image", "latent", "samples")
_SIZES = (("width", "height"), ("empty_latent_width", "empty_latent_height"))
_SEEDS = ("seed", "noise_seed")
_HELD = ("value", "int", "float", "number", "Number", "seed", "noise_seed")  # inputs of nodes that hold a number
_LEFT_OUT = {
    "cfg": "CFG",
    "sampler_name": "sampler",
    "scheduler": "scheduler",
    "denoise": "denoise",
}
_CLASSES_LEFT_OUT = {
    "ControlNet": "ControlNet",
    "LoadImage": "input images",
    "Upscale": "upscaling",
    "IPAdapter": "IP adapter",
}
_MODELS = ("ckpt_name", "unet_name", "control_net_name", "upscale_model", "vae_name")


@dataclass
class GraphSettings:
    """prompt, negative_prompt: the texts of the sampler's conditionings.

    values: seed, steps, width, height, guidance, as they are there. loras: files' names without folder and suffix, and
    weights. left_out: names of what was not read.
    """

    prompt: str = ""
    negative_prompt: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    loras: list[tuple[str, float]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def read_graph(graph: Mapping[str, Any]) -> GraphSettings:
    """The settings of the sampler that began the saved image. Raises ValueError for a graph without a sampler."""
    nodes = {str(key): node for key, node in list(graph.items())[:_MAX_NODES] if _is_node(node)}
    reader = _Reader(nodes)
    sampler = reader.find_sampler()
    if sampler is None:
        raise ValueError("a graph without a sampler")
    return reader.read(sampler)


def _is_node(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)


class _Reader:
    def __init__(self, nodes: Mapping[str, dict[str, Any]]):
        self.nodes = nodes
        self._lookups = 0

    def find_sampler(self) -> dict[str, Any] | None:
        """The first sampler of the chain that ends at a node which saves; any sampler if nothing is saved."""
        savers = [node for node in self.nodes.values() if node["class_type"].lower().startswith(("save", "preview"))]
        visited: set[int] = set()
        for start in (*savers, *filter(_is_sampler, self.nodes.values())):
            found = next((node for node in self.upstream(start, visited) if _is_sampler(node)), None)
            if found:
                return self._first_of_chain(found)
        return None

    def _first_of_chain(self, sampler: dict[str, Any]) -> dict[str, Any]:
        """A second pass begins with the latents of a first one, which has the size and the seed."""
        for _ in range(_MAX_DEPTH):
            latents = self.linked(sampler, *_LATENTS)
            earlier = latents and next((node for node in self.upstream(latents) if _is_sampler(node)), None)
            if not earlier or earlier is sampler:
                return sampler
            sampler = earlier
        return sampler

    def read(self, sampler: dict[str, Any]) -> GraphSettings:
        found = GraphSettings()
        values = {
            "seed": self.number(sampler, _SEEDS, "noise"),
            "steps": self.number(sampler, ("steps",), "sigmas"),
            "guidance": self.number_upstream(sampler, "guidance", ("positive", "guider", "conditioning")),
        }
        latents = self.linked(sampler, *_LATENTS)
        if latents:
            for node, names in ((node, names) for node in self.upstream(latents) for names in _SIZES):
                sides = [self.value(node["inputs"].get(side), side) for side in names]
                if all(isinstance(side, (int, float)) for side in sides):
                    values["width"], values["height"] = sides
                    break
        found.values = {name: value for name, value in values.items() if value is not None}
        found.prompt = self._prompt(sampler, "positive", "conditioning", "cond")
        found.negative_prompt = self._negative_prompt(sampler, found.prompt)
        model = self.linked(sampler, "model") or self.linked(self.linked(sampler, "guider"), "model")
        found.loras = list(self._loras(model))
        found.left_out = self._left_out(sampler, found.values)
        return found

    # Links

    def follow(self, value: Any) -> dict[str, Any] | None:
        """The node that an input's link names."""
        return self.nodes.get(str(value[0])) if isinstance(value, list) and len(value) == 2 else None

    def linked(self, node: dict[str, Any] | None, *names: str) -> dict[str, Any] | None:
        """The node behind the first of these inputs that is a link."""
        found = (self.follow(node["inputs"].get(name)) for name in names) if node else ()
        return next(filter(None, found), None)

    def upstream(self, start: dict[str, Any], visited: set[int] | None = None) -> Iterator[dict[str, Any]]:
        """`start` and every node that leads to it, the nearest first, each once. visited: ids of nodes to leave out."""
        visited = set() if visited is None else visited
        level = [] if id(start) in visited else [start]
        visited.add(id(start))
        while level:
            yield from level
            following = []
            for node in level:
                for value in node["inputs"].values():
                    other = self.follow(value)
                    if other and id(other) not in visited:
                        visited.add(id(other))
                        following.append(other)
            level = following

    def value(self, value: Any, name: str, depth: int = 0) -> Any:
        """The value of an input of this name; of a link, that of a node that holds one, such as a primitive."""
        self._count()
        node = self.follow(value)
        if node is None or depth > _MAX_DEPTH:
            return None if isinstance(value, (list, dict, bool)) else value
        names = (name, *_HELD)
        held = (self.value(node["inputs"][held], name, depth + 1) for held in names if held in node["inputs"])
        return next((one for one in held if one is not None), None)

    def _count(self) -> None:
        self._lookups += 1
        if self._lookups > _MAX_LOOKUPS:
            raise ValueError("a graph with too many ways between its nodes")

    def number(self, node: dict[str, Any], names: tuple[str, ...], behind: str) -> Any:
        """An input of a sampler, or of the nodes behind one of its inputs."""
        for place in (node, *(self.upstream(other) if (other := self.linked(node, behind)) else ())):
            for name in names:
                if name in place["inputs"] and (value := self.value(place["inputs"][name], name)) is not None:
                    return value
        return None

    def number_upstream(self, node: dict[str, Any], name: str, behind: tuple[str, ...]) -> Any:
        start = self.linked(node, *behind)
        places = self.upstream(start) if start else ()
        return next((self.value(place["inputs"][name], name) for place in places if name in place["inputs"]), None)

    # Texts

    def _prompt(self, sampler: dict[str, Any], *names: str) -> str:
        """The texts of the conditioning that comes in by one of these names, in order, each once."""
        for node in filter(None, (sampler, self.linked(sampler, "guider"))):
            for name in names:
                if link := node["inputs"].get(name):
                    side = "negative" if name == "negative" else "positive"
                    texts = list(self._conditioning(link, side, set(), 0))
                    if any(texts):
                        return "\n".join(dict.fromkeys(filter(None, texts)))
        return ""

    def _negative_prompt(self, sampler: dict[str, Any], prompt: str) -> str:
        """Empty if it had no effect: with a CFG of 1, or if it is only there because an input must not be open."""
        if self.number(sampler, ("cfg",), "guider") == 1:
            return ""
        negative = self._prompt(sampler, "negative")
        return "" if negative == prompt else negative

    def _conditioning(self, link: Any, side: str, visited: set[int], depth: int) -> Iterator[str]:
        """The texts behind a link. side: "positive" or "negative", for nodes that hold both texts."""
        node = self.follow(link)
        if node is None or id(node) in visited or depth > _MAX_DEPTH or node["class_type"] == _ZEROES:
            return
        visited.add(id(node))
        inputs = node["inputs"]
        own = inputs[side] if isinstance(inputs.get(side), str) else None
        named = [own, *(inputs[name] for name in _TEXTS if name in inputs)]
        if text := next(filter(None, (self._text(value, 0) for value in named)), ""):
            yield text
            return
        # A node that changes both conditionings, as ControlNet's does, has the negative one behind its second output.
        is_pair = "positive" in inputs and "negative" in inputs
        wanted = inputs if not is_pair else ("negative",) if link[1] == 1 else ("positive",)
        for name in wanted:
            if isinstance(inputs[name], list) and name not in _NO_CONDITIONING:
                yield from self._conditioning(inputs[name], side, visited, depth + 1)

    def _text(self, value: Any, depth: int) -> str:
        """A text, or what the nodes behind a link put together; the end of a very long one is left out."""
        self._count()
        if isinstance(value, str):
            return value[:_MAX_TEXT].strip()
        node = self.follow(value)
        if node is None or depth > _MAX_DEPTH:
            return ""
        inputs = node["inputs"]
        if all(name in inputs for name in _STYLED):
            return self._text(inputs[_STYLED[value[1] == 1]], depth + 1)
        parts = [text for name in _PARTS if name in inputs and (text := self._text(inputs[name], depth + 1))]
        if parts:
            delimiter = inputs.get("delimiter", inputs.get("separator", " "))
            return (delimiter[:_MAX_DELIMITER] if isinstance(delimiter, str) else " ").join(parts)[:_MAX_TEXT]
        found = (self._text(inputs[name], depth + 1) for name in _TEXTS if name in inputs)
        return next(filter(None, found), "")

    # The rest

    def _loras(self, model: dict[str, Any] | None) -> Iterator[tuple[str, float]]:
        for node in self.upstream(model) if model else ():
            inputs = node["inputs"]
            if isinstance(inputs.get("lora_name"), str):
                yield _lora(inputs["lora_name"], self.value(inputs.get("strength_model", 1), "strength_model"))
            for value in inputs.values():  # the rows of rgthree's "Power Lora Loader"
                if isinstance(value, dict) and isinstance(value.get("lora"), str) and value.get("on", True):
                    yield _lora(value["lora"], value.get("strength", 1))

    def _left_out(self, sampler: dict[str, Any], values: Mapping[str, Any]) -> list[str]:
        parts = [sampler, *filter(None, (self.linked(sampler, name) for name in ("guider", "sigmas")))]
        names = [said for name, said in _LEFT_OUT.items() if any(name in node["inputs"] for node in parts)]
        nodes = self.nodes.values()
        if "width" not in values:
            names.append("size")
        if any(name in node["inputs"] for node in nodes for name in _MODELS):
            names.append("models")
        names += [said for part, said in _CLASSES_LEFT_OUT.items() if any(part in node["class_type"] for node in nodes)]
        return [*names, "further samplers"] if sum(map(_is_sampler, nodes)) > 1 else names


def _is_sampler(node: dict[str, Any]) -> bool:
    """Whether a node draws: it has latents, and a conditioning or a guider."""
    inputs = node["inputs"]
    is_latent = any(name in inputs for name in _LATENTS)
    is_told = any(name in inputs for name in ("positive", "guider", "conditioning"))
    return is_latent and is_told and "sampler" in node["class_type"].lower()


def lora_name(file: str) -> str:
    """A LoRA's name as a tag has it: without folder and suffix."""
    return file.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".safetensors")


def _lora(file: str, weight: Any) -> tuple[str, float]:
    return lora_name(file), float(weight) if isinstance(weight, (int, float)) else 1.0

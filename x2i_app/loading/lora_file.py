"""LoRA files of FLUX.1's trainers: kohya, OneTrainer, XLabs, AI-toolkit, PEFT, diffusers, DiffSynth, LyCORIS, ComfyUI.

The files differ in two ways: what they call a layer, and how they write its change. `_Layers` knows the names, whatever
prefix stands in front and whether dots or underscores separate them, and `_KINDS` the ways. diffusers' own converters
are not used: they take FLUX's published sizes for granted and refuse a file that lacks one layer. No pickle is opened,
every weight must fit a layer, and what is not used is told.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import FluxTransformer2DModel
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY, LORA_WEIGHT_NAME_SAFE
from safetensors import SafetensorError, safe_open
from torch import nn

from x2i_app.errors import CheckpointError
from x2i_app.limits import LIMITS
from x2i_app.loading.files import SAFETENSORS, check_file
from x2i_app.loading.flux_names import BLOCKS, GUIDANCE, SWAPPED, TOP
from x2i_app.loading.lora_changes import (
    BiasDifference,
    Change,
    Difference,
    Hadamard,
    Kronecker,
    LowRank,
    MatrixChange,
    NormDifference,
    Rows,
    with_magnitude,
)
from x2i_app.loading.quantization import dense_weight
from x2i_app.notes import LORA_EMBEDDINGS, LORA_GUIDANCE, LORA_TEXT_ENCODERS, LORA_USED, Note

_MOST_TRIGGERS, _LONGEST_TRIGGER = 8, 60  # trigger words of a file; characters of one
# The names that diffusers, PEFT and `train lora` give to the file in a folder.
_FILE_NAMES = (LORA_WEIGHT_NAME_SAFE, "adapter_model.safetensors", "lora.safetensors")


@dataclass(frozen=True)
class LoRA:
    """What a file changes in a transformer, at weight 1.

    changes: of each layer, by its name in the transformer. notes: what is used of the file and what is not.
    """

    changes: dict[str, tuple[Change, ...]]
    notes: tuple[Note, ...]


def read_lora(path: str | Path, transformer: FluxTransformer2DModel) -> LoRA:
    """Read a LoRA for this transformer from a file, or a folder that diffusers, PEFT or `train lora` wrote.

    Raises CheckpointError, which names the file and the weight that fits no layer, has another shape than its layer, a
    rank above LIMITS.lora_rank, or numbers that are not finite.
    """
    path = lora_file(path)
    metadata = _read_header(path)
    scales = _Scales.read(path, metadata)
    with _opened(path) as file:
        return _Reader(path, file, transformer, scales).read()


def check_lora(source: str | Path) -> None:
    """Check a LoRA's header, before a job uses the file. Raises CheckpointError, which names no folder.

    Whether it fits a FLUX model is checked when it is read for that model.
    """
    _read_header(lora_file(source))


def triggers(source: str | Path) -> tuple[str, ...]:
    """The words that a LoRA was trained with, the most important first; none if its file does not say.

    `modelspec.trigger_phrase` (ModelSpec, also written by `train lora`) says them; else the most frequent tags in
    kohya's `ss_tag_frequency`, which has a JSON object of counts for each training folder. Raises CheckpointError.
    """
    metadata = _read_header(lora_file(source))
    triggers = [each.strip() for each in metadata.get("modelspec.trigger_phrase", "").split(",")]
    if not any(triggers):
        triggers = _frequent_tags(metadata.get("ss_tag_frequency", ""))
    triggers = ["".join(c for c in each if c.isprintable()) for each in triggers]
    return tuple(dict.fromkeys(each for each in triggers if 0 < len(each) <= _LONGEST_TRIGGER))[:_MOST_TRIGGERS]


def _frequent_tags(text: str) -> list[str]:
    """The tags, those of most images first, without those of fewer than half as many."""
    try:
        folders = json.loads(text)
    except (ValueError, RecursionError):
        return []
    counts: Counter[str] = Counter()
    for folder in folders.values() if isinstance(folders, dict) else ():
        for tag, count in folder.items() if isinstance(folder, dict) else ():
            if type(count) is int and 0 < count < 10**9:
                counts[tag.strip()] += count
    most = max(counts.values(), default=0)
    return [tag for tag, count in counts.most_common(_MOST_TRIGGERS) if 2 * count >= most]


def lora_file(source: str | Path) -> Path:
    """The file, or the one in a folder. Raises CheckpointError if there is none."""
    path = Path(source)
    if path.is_dir():
        there = {each.name: each for each in sorted(path.iterdir()) if each.suffix.lower() in SAFETENSORS}
        path = choose_lora(path.name, there) if there else path / _FILE_NAMES[0]
    if not path.is_file():
        raise CheckpointError(f"There is no LoRA {path.name!r}; check its path.")
    return path


def choose_lora(name: str, files: dict[str, Any]) -> Any:
    """The LoRA among a folder's or a repository's files: the only one, or one of a usual name.

    Raises CheckpointError, which lists them.
    """
    usual = [files[each] for each in _FILE_NAMES if each in files]
    if not usual and len(files) != 1:
        some = ", ".join(sorted(files)[:8]) or "none"
        raise CheckpointError(
            f"{name} has {len(files)} .safetensors files ({some}); name the one to use, as in {name}:FILE."
        )
    return (usual or list(files.values()))[0]


def _read_header(path: Path) -> dict[str, str]:
    """The metadata of a file of the right kind and size."""
    if path.suffix.lower() not in SAFETENSORS:
        raise CheckpointError(f"{path.name} is no .safetensors file; other files may hold code; convert it first.")
    try:
        check_file(path)
    except OSError as error:  # its own message contains the whole path
        raise CheckpointError(f"{path.name} cannot be opened; check its permissions.") from error
    with _opened(path) as file:
        count, metadata = len(file.keys()), file.metadata() or {}
    if count > LIMITS.lora_tensors:
        raise CheckpointError(
            f"{path.name} has {count:,} tensors and {LIMITS.lora_tensors:,} are allowed; use a LoRA for FLUX.1."
        )
    return metadata


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise CheckpointError(f"{path.name} is cut or damaged ({error}); download it again.") from error
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be opened; check its permissions.") from error


# ----- How a change is written ---------------------------------------------------------------------------------------

_ADAPTER = r"(?:\.\w+)?"  # PEFT's name of the adapter, as in lora_A.default.weight
_FACTORS = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
_FACTORS += ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")
# What stands after a layer's name, for each tensor that belongs to it.
_KINDS = {
    "down": rf"lora_A{_ADAPTER}\.weight|lora_A|lora[._]down\.weight|lora_linear_layer\.down\.weight|down\.weight",
    "up": rf"lora_B{_ADAPTER}\.weight|lora_B|lora[._]up\.weight|lora_linear_layer\.up\.weight|up\.weight",
    "up_bias": rf"lora_B{_ADAPTER}\.bias|lora[._]up\.bias",
    "alpha": r"alpha",
    "magnitude": r"dora_scale|lora_magnitude_vector(?:\.\w+){0,2}",
    "difference": r"diff|w_norm",
    "bias_difference": r"diff_b|b_norm",
} | {name: rf"{name}{_ADAPTER}" for name in _FACTORS}
_KEY = re.compile(rf"(?P<layer>.+?)\.(?:{'|'.join(f'(?P<{kind}>{end})' for kind, end in _KINDS.items())})")
_WAYS = (  # the tensors of which a matrix is made; each way may come with alpha and magnitude
    {"down", "up"},
    {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"},
    {"lokr_w1", "lokr_w2"},
    {"lokr_w1_a", "lokr_w1_b", "lokr_w2"},
    {"lokr_w1", "lokr_w2_a", "lokr_w2_b"},
    {"lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b"},
    {"difference"},
)
# Ways of other kinds of adapter that are not read, by a part of a key.
_REFUSED = {
    "oft_": "OFT",
    "boft_": "BOFT",
    ".a1.weight": "GLoRA",
    ".on_input": "IA3",
    "vera_lambda": "VeRA",
    "hada_t": "a LoHa of convolutions",
    "lokr_t": "a LoKr of convolutions",
    "lora_mid": "a LoRA of convolutions",
    "ip_adapter": "an IP-Adapter",
    "ref_conv": "an IP-Adapter",
}

# ----- What a layer is called ----------------------------------------------------------------------------------------

_PREFIX = re.compile(r"(base_model|model|diffusion_model|transformer|module|_orig_mod|lora|lycoris|unet)[._]")
_GENERAL = r"(?:(?:base_model|model|lora|lycoris)[._])*"
_TEXT_ENCODERS = re.compile(_GENERAL + r"(?:te\d?[._]|text_encoders?|text_model|clip_|t5)")
_EMBEDDINGS = re.compile(r"bundle_emb|emb_params")
# XLabs' names for layers of a double block and of a single block.
_XLABS = {
    "double_blocks": {
        "processor.qkv_lora1": "img_attn.qkv",
        "processor.qkv_lora2": "txt_attn.qkv",
        "processor.proj_lora1": "img_attn.proj",
        "processor.proj_lora2": "txt_attn.proj",
    },
    "single_blocks": {"processor.proj_lora": "linear2"},
}
_FUSED = {  # diffusers' own names for projections that were joined
    "attn.to_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "attn.to_added_qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
_SINGLE_QKV = "processor.qkv_lora"


class _Target(NamedTuple):
    """The modules of the transformer whose rows, one module after the other, are the rows of a file's layer."""

    modules: tuple[str, ...]
    is_swapped: bool = False


class _Layers:
    """All names by which files may call a transformer's layers."""

    def __init__(self, transformer: FluxTransformer2DModel):
        self.modules = {
            name: module
            for name, module in transformer.named_modules()
            if isinstance(module, nn.Linear) or type(module).__name__ == "RMSNorm"
        }
        self._targets: dict[str, _Target] = {}
        for name in self.modules:
            self._add(name, (name,))
        for theirs, ours in TOP.items():
            self._add(theirs, ours, theirs == SWAPPED)
        for theirs, (ours, table) in BLOCKS.items():
            for number in range(len(getattr(transformer, ours))):
                add = partial(self._add_in_block, f"{theirs}.{number}.", f"{ours}.{number}.")
                for name, parts in table.items():
                    add(name, parts)
                    if len(parts) > 1:  # OneTrainer's names for the parts of a joined layer
                        for index, part in enumerate(parts):
                            add(f"{name}.{index}", (part,))
                for name, same in _XLABS[theirs].items():
                    add(name, table[same])
                if theirs == "single_blocks":
                    add(_SINGLE_QKV, table["linear1"][:3])
                for name, parts in _FUSED.items():
                    self._add(f"{ours}.{number}.{name}", tuple(f"{ours}.{number}.{part}" for part in parts))

    def _add_in_block(self, theirs: str, ours: str, name: str, parts: tuple[str, ...]) -> None:
        self._add(theirs + name, tuple(ours + part for part in parts))

    def _add(self, name: str, modules: tuple[str, ...], is_swapped: bool = False) -> None:
        if all(module in self.modules for module in modules):
            self._targets.setdefault(name.replace(".", "_"), _Target(modules, is_swapped))

    def find(self, name: str) -> _Target | None:
        """The layer of a file's name, without the prefixes that trainers put in front."""
        for each in _without_prefixes(name):
            for bare in (each, each.removesuffix(".scale").removesuffix(".weight")):
                if target := self._targets.get(bare.replace(".", "_")):
                    return target
        return None


def _without_prefixes(name: str) -> list[str]:
    names = [name]
    while match := _PREFIX.match(names[-1]):
        names.append(names[-1][match.end() :])
    return names


def _is_guidance(name: str) -> bool:
    flat = tuple(each.replace(".", "_") for each in GUIDANCE)
    return any(each.replace(".", "_").startswith(flat) for each in _without_prefixes(name))


# ----- Reading -------------------------------------------------------------------------------------------------------


class _Reader:
    """Reads one open file for one transformer, layer by layer, so that little is in memory at full precision."""

    def __init__(self, path: Path, file: safe_open, transformer: FluxTransformer2DModel, scales: "_Scales"):
        self.path, self.file, self.scales = path, file, scales
        self.dtype, self.layers = transformer.dtype, _Layers(transformer)

    def read(self) -> LoRA:
        """Read all of the file. Raises CheckpointError."""
        groups: dict[str, dict[str, str]] = defaultdict(dict)  # file's layer -> kind -> key
        unused = Counter()
        for key in self.file.keys():  # noqa: SIM118 (not a dict)
            layer, kind = self._sort(key)
            if layer is None:
                unused[kind] += 1
            elif kind in groups[layer]:
                raise CheckpointError(f"{self.path.name} has {groups[layer][kind]} and {key} for one layer; keep one.")
            else:
                groups[layer][kind] = key
        for layer in [each for each in groups if self.layers.find(each) is None]:
            unused[LORA_GUIDANCE] += len(groups.pop(layer))
        changes: dict[str, tuple[Change, ...]] = defaultdict(tuple)
        for layer, keys in groups.items():
            for module, found in self._read_layer(layer, keys):
                changes[module] += (found.to(torch.device("cpu"), self.dtype),)
        if not changes:
            raise CheckpointError(f"{self.path.name} holds nothing for FLUX's transformer; use a LoRA for FLUX.1.")
        notes = [Note(LORA_USED, name=self.path.name, count=len(changes))]
        notes += [Note(template, name=self.path.name, count=count) for template, count in unused.items()]
        return LoRA(dict(changes), tuple(notes))

    def _sort(self, key: str) -> tuple[str | None, str]:
        """(the file's layer, the kind of tensor), or (None, the note of what it is instead). Raises CheckpointError."""
        if _EMBEDDINGS.match(key):
            return None, LORA_EMBEDDINGS
        if _TEXT_ENCODERS.match(key):
            return None, LORA_TEXT_ENCODERS
        match = _KEY.fullmatch(key)
        if match and (self.layers.find(match["layer"]) or _is_guidance(match["layer"])):
            return match["layer"], match.lastgroup
        target = self.layers.find(key)
        if target and key.endswith((".scale", ".weight")) and self._is_norm(target):
            return key, "value"
        for part, name in _REFUSED.items():
            if part in key:
                raise CheckpointError(
                    f"{self.path.name} is {name} (it has {key}), which cannot be read; use a LoRA, LoKr, LoHa or DoRA."
                )
        raise CheckpointError(
            f"{self.path.name} has {key}, which fits no layer of this FLUX model; use a LoRA made for it."
        )

    def _is_norm(self, target: _Target) -> bool:
        return not isinstance(self.layers.modules[target.modules[0]], nn.Linear)

    def _read_layer(self, layer: str, keys: dict[str, str]) -> list[tuple[str, Change]]:
        """(module, change) of one layer of the file."""
        target = self.layers.find(layer)
        modules = [self.layers.modules[name] for name in target.modules]
        tensors = {kind: self._tensor(key) for kind, key in keys.items()}
        matrix = tensors.keys() - {"alpha", "magnitude", "bias_difference", "up_bias", "value"}
        if self._is_norm(target):
            return self._read_norm(target, modules[0], keys, tensors)
        if matrix and matrix not in _WAYS:
            key = keys[min(matrix)]
            raise CheckpointError(f"{self.path.name}: {key} lacks the other matrices of its layer; download it again.")
        if not matrix and "bias_difference" not in tensors:
            raise CheckpointError(f"{self.path.name} has {next(iter(keys.values()))} without a matrix; train it again.")
        split = partial(_split, rows=self._rows(target, modules))
        found: list[Change] = []
        if matrix:
            change, scale = self._matrix(target.modules[0], keys, tensors)
            self._check_shape(keys[min(matrix)], tuple(_shape(change)), _size(modules))
            if (magnitude := tensors.get("magnitude")) is not None:
                parts = self._with_magnitude(keys["magnitude"], change, magnitude, target, modules, split)
            else:
                parts = split(change)
            found += zip(target.modules, parts, strict=True)
            if "up_bias" in tensors:
                tensors["bias_difference"] = tensors["up_bias"] * scale
                keys["bias_difference"] = keys["up_bias"]
        if "bias_difference" in tensors:
            bias = tensors["bias_difference"]
            self._check_shape(keys["bias_difference"], tuple(bias.shape), _size(modules)[:1])
            found += zip(target.modules, split(BiasDifference(bias)), strict=True)
        return found

    def _rows(self, target: _Target, modules: list[nn.Linear]) -> list[Rows]:
        """For each module, which rows of the file's layer are its own."""
        if target.is_swapped:
            half = modules[0].out_features // 2
            return [(slice(half, None), slice(0, half))]
        rows, start = [], 0
        for module in modules:
            rows.append((slice(start, start + module.out_features),))
            start += module.out_features
        return rows

    def _with_magnitude(
        self,
        key: str,
        change: MatrixChange,
        magnitude: torch.Tensor,
        target: _Target,
        modules: list[nn.Linear],
        split: Callable[[Change], list[Change]],
    ) -> list[Change]:
        out, width = _size(modules)
        if tuple(magnitude.shape) not in {(out,), (out, 1), (1, width)}:
            self._check_shape(key, tuple(magnitude.shape), (out, 1))
        weight = torch.cat([dense_weight(module) for module in modules])
        if target.is_swapped:
            weight = weight.roll(len(weight) // 2, dims=0)  # in the file's order
        return [each.to(torch.device("cpu")) for each in with_magnitude(change, magnitude, weight, split)]

    def _read_norm(
        self, target: _Target, norm: nn.Module, keys: dict[str, str], tensors: dict[str, torch.Tensor]
    ) -> list[tuple[str, Change]]:
        found = []
        for kind, value in tensors.items():
            self._check_shape(keys[kind], tuple(value.shape), tuple(norm.weight.shape))
            if kind == "bias_difference":
                found.append(BiasDifference(value))
            elif kind in ("difference", "value"):
                found.append(NormDifference(value - norm.weight.float().cpu() if kind == "value" else value))
            else:
                raise CheckpointError(f"{self.path.name} has {keys[kind]} for a norm, which cannot be used; remove it.")
        return [(target.modules[0], change) for change in found]

    def _matrix(
        self, module: str, keys: dict[str, str], tensors: dict[str, torch.Tensor]
    ) -> tuple[MatrixChange, float]:
        """The change of a whole matrix, with its scale in it, and the scale."""
        for kind in ("down", "up", *_FACTORS):
            if kind in tensors:
                tensors[kind] = self._two_dimensions(keys[kind], tensors[kind])
        alpha = tensors.get("alpha")
        if "difference" in tensors:
            return Difference(tensors["difference"]), 1.0
        if "down" in tensors:
            down, up = tensors["down"], tensors["up"]
            rank = self._rank(keys["down"], down.shape[0], keys["up"], up.shape[1])
            scale = self.scales.of(module, rank, alpha)
            return LowRank(down, up * scale), scale
        if "hada_w1_a" in tensors:
            factors = [tensors[kind] for kind in _FACTORS[:4]]
            rank = 1
            for up, down, kind in ((*factors[:2], "hada_w1"), (*factors[2:], "hada_w2")):
                rank = self._rank(keys[f"{kind}_b"], down.shape[0], keys[f"{kind}_a"], up.shape[1])
            self._check_shape(keys["hada_w2_a"], (len(factors[2]), factors[3].shape[1]), _outer(factors[:2]))
            scale = self.scales.of(module, rank, alpha)
            return Hadamard(factors[0] * scale, *factors[1:]), scale
        parts, ranks = [], []
        for kind in ("lokr_w1", "lokr_w2"):
            if kind in tensors:
                parts.append(tensors[kind])
                continue
            up, down = tensors[f"{kind}_a"], tensors[f"{kind}_b"]
            ranks.append(self._rank(keys[f"{kind}_b"], down.shape[0], keys[f"{kind}_a"], up.shape[1]))
            parts.append(up @ down)
        # Without a rank alpha has no meaning: LyCORIS stores one, and does not scale.
        scale = self.scales.of(module, ranks[-1], alpha) if ranks else 1.0
        return Kronecker(parts[0] * scale, parts[1]), scale

    def _two_dimensions(self, key: str, value: torch.Tensor) -> torch.Tensor:
        if value.ndim == 4 and value.shape[2:] == (1, 1):  # a 1x1 convolution
            value = value.flatten(1)
        if value.ndim != 2:
            raise CheckpointError(
                f"{self.path.name}: {key} has the shape {tuple(value.shape)}, expected two sizes; use a LoRA for FLUX."
            )
        return value

    def _rank(self, key: str, rank: int, other_key: str, other: int) -> int:
        if rank > LIMITS.lora_rank:
            raise CheckpointError(
                f"{self.path.name}: {key} has the rank {rank:,} and {LIMITS.lora_rank} is allowed; train it again with "
                "a smaller rank."
            )
        if rank != other or not rank:
            raise CheckpointError(
                f"{self.path.name}: {key} has the rank {rank} and {other_key} the rank {other}; they must be equal; "
                "use a LoRA made for this FLUX model."
            )
        return rank

    def _check_shape(self, key: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
        if shape != expected:
            raise CheckpointError(
                f"{self.path.name}: {key} changes a layer of the shape {shape}, and this FLUX model's has {expected}; "
                "use a LoRA made for this FLUX model."
            )

    def _tensor(self, key: str) -> torch.Tensor:
        """A tensor of any floating point type, 8 bit too, as float32."""
        value = self.file.get_tensor(key)
        if not value.is_floating_point() and not key.endswith("alpha"):
            raise CheckpointError(
                f"{self.path.name}: {key} has numbers of the type {str(value.dtype).removeprefix('torch.')}; floating "
                "point numbers of 32, 16 or 8 bit can be read."
            )
        value = value.float()
        if key.endswith("alpha") and not (value.numel() == 1 and 0 < value.item() < float("inf")):
            raise CheckpointError(f"{self.path.name}: {key} must be one number above 0; train it again.")
        if not value.isfinite().all():
            raise CheckpointError(f"{self.path.name}: {key} has values that are not finite numbers; train it again.")
        return value


def _split(change: Change, rows: list[Rows]) -> list[Change]:
    if len(rows) == 1 and len(rows[0]) == 1:
        return [change]
    return [change.rows(each) for each in rows]


def _size(modules: list[nn.Linear]) -> tuple[int, int]:
    return sum(module.out_features for module in modules), modules[0].in_features


def _outer(factors: list[torch.Tensor]) -> tuple[int, int]:
    return factors[0].shape[0], factors[1].shape[1]


def _shape(change: MatrixChange) -> tuple[int, int]:
    """The shape of the matrix of a change, which is not made."""
    match change:
        case LowRank(down, up) | Hadamard(up, down):
            return up.shape[0], down.shape[1]
        case Kronecker(first, second):
            return first.shape[0] * second.shape[0], first.shape[1] * second.shape[1]
    return change.difference.shape


# ----- Scales --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scales:
    """alpha / rank, or alpha / sqrt(rank) for rsLoRA (arXiv 2312.03732); 1 without an alpha.

    alpha, pattern, is_rslora: of the configuration in a file's metadata (diffusers) or in adapter_config.json beside it
    (PEFT). Only these values are read from it.
    """

    alpha: float | None = None
    pattern: tuple[tuple[str, float], ...] = ()
    is_rslora: bool = False

    @classmethod
    def read(cls, path: Path, metadata: dict[str, str]) -> "_Scales":
        """Those of a file. Raises CheckpointError for a damaged configuration."""
        sidecar, prefix, text = path.with_name("adapter_config.json"), "transformer.", ""
        if LORA_ADAPTER_METADATA_KEY in metadata:
            text = metadata[LORA_ADAPTER_METADATA_KEY]
        elif path.name == _FILE_NAMES[1] and sidecar.is_file():
            prefix, text = "", sidecar.read_text(encoding="utf-8", errors="replace")
        try:
            config = json.loads(text or "{}")
            alpha = config.get(f"{prefix}lora_alpha")
            pattern = config.get(f"{prefix}alpha_pattern") or {}
            return cls(
                None if alpha is None else float(alpha),
                tuple((name.removeprefix("^"), float(value)) for name, value in pattern.items()),
                bool(config.get(f"{prefix}use_rslora")),
            )
        except (AttributeError, TypeError, ValueError, RecursionError) as error:
            raise CheckpointError(
                f"The configuration in the LoRA's metadata is damaged ({error}); save it again."
            ) from error

    def of(self, module: str, rank: int, own: torch.Tensor | None) -> float:
        """The scale of a layer. own: its alpha in the file."""
        named = [alpha for name, alpha in self.pattern if module == name or module.endswith(f".{name}")]
        alpha = own.item() if own is not None else named[0] if named else self.alpha
        return 1.0 if alpha is None else alpha / (rank**0.5 if self.is_rslora and own is None else rank)

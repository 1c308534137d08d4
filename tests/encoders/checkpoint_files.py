"""The files of a checkpoint in several parts, as transformers reads them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(values, ensure_ascii=False, indent=2), encoding="utf-8")


def save_shards(weights: Mapping[str, np.ndarray], directory: Path, shards: int) -> None:
    """Write the weights in so many files, every so many keys in one, and their index."""
    keys = list(weights)
    weight_map = {}
    for shard in range(shards):
        name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {key: weights[key] for key in keys[shard::shards]}
        save_file(part, directory / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, name)
    write_json(directory / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})

"""What tests and benchmarks measure of modules and images."""

import numpy as np
import torch
from PIL import Image
from torch import nn

from x2i_app.miniature.striped import stripe


def held_bytes(module: nn.Module) -> int:
    """Bytes that a loaded module holds: weights, buffers, and the scales that bitsandbytes keeps beside them."""
    held = {id(tensor): tensor.nbytes for tensor in (*module.parameters(), *module.buffers())}
    for child in module.modules():
        for tensor in _scales(child):
            held[id(tensor)] = tensor.nbytes
    return sum(held.values())


def _scales(layer: nn.Module) -> list[torch.Tensor]:
    weight = getattr(layer, "weight", None)
    kept = [getattr(owner, "SCB", None) for owner in (weight, getattr(layer, "state", None))]  # 8 bit
    state = getattr(weight, "quant_state", None)  # 4 bit; on a CPU the first pass makes its scales full numbers
    for part in (state, getattr(state, "state2", None)):
        kept += [getattr(part, name, None) for name in ("absmax", "code", "offset")]
    return [tensor for tensor in kept if isinstance(tensor, torch.Tensor)]


def stripedness(image: Image.Image) -> float:
    """How much darker the places of `stripe`'s stripes are, as a share of the brightness between them: 0 for none."""
    is_dark = np.asarray(stripe(Image.new("L", image.size, 255).convert("RGB"))).max(axis=2) < 255
    pixels = np.asarray(image, float).mean(axis=2)
    return float(1 - pixels[is_dark].mean() / pixels[~is_dark].mean())

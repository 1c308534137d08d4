"""MiniCPM-o's eyes: SigLIP over patch grids of any shape, and a resampler that makes a fixed number of tokens of each.

Positions are NaViT's (arXiv 2307.06304) in the form of SigLIP-NaViT: where a patch lies, as a fraction of its image,
picks one of the learned positions of a square grid. The resampler is a perceiver (arXiv 2204.14198) with sin-cos keys.
"""

from functools import lru_cache

import torch
from torch import nn
from transformers import SiglipVisionConfig
from transformers.models.siglip.modeling_siglip import SiglipEncoder

_RESAMPLER_HEAD = 128  # channels an attention head of the resampler
_RESAMPLER_EPS = 1e-6
_LONGEST_PERIOD = 10_000  # of the sin-cos positions, divided by 2 pi


class VisionTower(nn.Module):
    """SigLIP without its pooling head. num_layers: of config.num_hidden_layers, those that are built."""

    def __init__(self, config: SiglipVisionConfig, num_layers: int):
        super().__init__()
        self.embeddings = PatchEmbeddings(config)
        self.encoder = SiglipEncoder(config)
        self.encoder.layers = self.encoder.layers[:num_layers]
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(B, 3, rows * patch, columns * patch), normalised, to (B, rows * columns, hidden), row by row."""
        return self.post_layernorm(self.encoder(self.embeddings(pixel_values)).last_hidden_state)


class PatchEmbeddings(nn.Module):
    """Patches to vectors, each with the learned position that is nearest to its place in the image."""

    def __init__(self, config: SiglipVisionConfig):
        super().__init__()
        self.side = config.image_size // config.patch_size
        patch = config.patch_size
        self.patch_embedding = nn.Conv2d(config.num_channels, config.hidden_size, patch, stride=patch)
        self.position_embedding = nn.Embedding(self.side**2, config.hidden_size)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """As VisionTower's."""
        patches = self.patch_embedding(pixel_values)
        positions = bucket_positions(*patches.shape[-2:], self.side).to(patches.device)
        return patches.flatten(2).transpose(1, 2) + self.position_embedding(positions)


class Resampler(nn.Module):
    """Learned queries read an image's patches.

    num_queries: tokens an image becomes. hidden_size: their width, a multiple of 128. vision_size: of the patches.
    """

    def __init__(self, num_queries: int, hidden_size: int, vision_size: int):
        super().__init__()
        self.query = nn.Parameter(torch.zeros(num_queries, hidden_size))
        self.proj = nn.Parameter(torch.zeros(hidden_size, hidden_size))
        same = vision_size == hidden_size
        self.kv_proj = nn.Identity() if same else nn.Linear(vision_size, hidden_size, bias=False)
        self.attn = CrossAttention(hidden_size)
        self.ln_q = nn.LayerNorm(hidden_size, eps=_RESAMPLER_EPS)
        self.ln_kv = nn.LayerNorm(hidden_size, eps=_RESAMPLER_EPS)
        self.ln_post = nn.LayerNorm(hidden_size, eps=_RESAMPLER_EPS)

    def forward(self, patches: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """(B, rows * columns, vision_size) to (B, num_queries, hidden_size)."""
        values = self.ln_kv(self.kv_proj(patches))
        places = sin_cos_positions(rows, columns, values.shape[-1]).to(values)
        query = self.ln_q(self.query).expand(len(values), -1, -1)
        return self.ln_post(self.attn(query, values + places, values)) @ self.proj


class CrossAttention(nn.Module):
    """torch's MultiheadAttention in its own names of weights, of layers that can be quantised and offloaded."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * hidden_size, hidden_size))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * hidden_size))
        self.out_proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """(B, Q, hidden_size), (B, K, hidden_size) and (B, K, hidden_size) to (B, Q, hidden_size)."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        projected = (
            nn.functional.linear(states, weight, bias).unflatten(2, (-1, _RESAMPLER_HEAD)).transpose(1, 2)
            for states, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        read = nn.functional.scaled_dot_product_attention(*projected)
        return self.out_proj(read.transpose(1, 2).flatten(2))


@lru_cache(maxsize=64)
def bucket_positions(rows: int, columns: int, side: int) -> torch.Tensor:
    """(rows * columns,) indices into a learned grid of `side` x `side`, for patches row by row."""
    edges = torch.arange(1 / side, 1.0, 1 / side, dtype=torch.float32)

    def buckets(count):
        # A fraction may fall exactly on an edge (33 patches' 11th on a third), where only the original's rounding,
        # a step in single precision, gives the original's bucket.
        step = 1 / torch.tensor(count, dtype=torch.int32)
        return torch.bucketize(torch.arange(0, 1 - 1e-6, step, dtype=torch.float32), edges, right=True)

    return (buckets(rows)[:, None] * side + buckets(columns)).flatten()


@lru_cache(maxsize=8)
def sin_cos_positions(rows: int, columns: int, size: int) -> torch.Tensor:
    """(rows * columns, size) float32: sines and cosines of the column in the first half, of the row in the second."""
    frequencies = 1 / _LONGEST_PERIOD ** (torch.arange(size // 4, dtype=torch.float32) / (size / 4))

    def waves(count):
        angles = torch.arange(count, dtype=torch.float32)[:, None] * frequencies
        return torch.cat((angles.sin(), angles.cos()), dim=1)

    across = waves(columns)[None].expand(rows, -1, -1)
    down = waves(rows)[:, None].expand(-1, columns, -1)
    return torch.cat((across, down), dim=2).flatten(0, 1)

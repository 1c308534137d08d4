"""MiniCPM-o's vision: SigLIP for images of any aspect ratio, and a resampler to a fixed number of tokens.

Positions follow SigLIP-NaViT (arXiv 2307.06304): the relative position of a patch in its image selects one of the
learned positions of a square grid. The resampler is a perceiver (arXiv 2204.14198) with sine-cosine keys.
"""

from functools import lru_cache

import torch
from torch import nn
from transformers import SiglipVisionConfig
from transformers.models.siglip.modeling_siglip import SiglipEncoder

_RESAMPLER_HEAD = 128  # channels per attention head of the resampler
_RESAMPLER_EPS = 1e-6
_LONGEST_PERIOD = 10_000  # of the sine-cosine positions, divided by 2 pi


class VisionTower(nn.Module):
    """SigLIP without its pooling head. num_layers: number of layers that are built, from the first."""

    def __init__(self, config: SiglipVisionConfig, num_layers: int):
        super().__init__()
        self.embeddings = PatchEmbeddings(config)
        self.encoder = SiglipEncoder(config)
        self.encoder.layers = self.encoder.layers[:num_layers]
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Encode normalized (B, 3, rows * patch, columns * patch) to (B, rows * columns, hidden), row by row."""
        return self.post_layernorm(self.encoder(self.embeddings(pixel_values)).last_hidden_state)


class PatchEmbeddings(nn.Module):
    """Patch embeddings plus the learned position nearest to each patch's relative position."""

    def __init__(self, config: SiglipVisionConfig):
        super().__init__()
        self.side = config.image_size // config.patch_size
        patch = config.patch_size
        self.patch_embedding = nn.Conv2d(config.num_channels, config.hidden_size, patch, stride=patch)
        self.position_embedding = nn.Embedding(self.side**2, config.hidden_size)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """pixel_values (B, 3, H, W) -> (B, patches, hidden_size), with the positions added."""
        patches = self.patch_embedding(pixel_values)
        positions = bucket_positions(*patches.shape[-2:], self.side).to(patches.device)
        return patches.flatten(2).transpose(1, 2) + self.position_embedding(positions)


class Resampler(nn.Module):
    """Learned queries that attend to an image's patches.

    num_queries: tokens per image. hidden_size: their width, a multiple of 128. vision_size: width of the patches.
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
        """Resample (B, rows * columns, vision_size) to (B, num_queries, hidden_size)."""
        values = self.ln_kv(self.kv_proj(patches))
        positions = sin_cos_positions(rows, columns, values.shape[-1]).to(values)
        query = self.ln_q(self.query).expand(len(values), -1, -1)
        return self.ln_post(self.attn(query, values + positions, values)) @ self.proj


class CrossAttention(nn.Module):
    """torch.nn.MultiheadAttention with the same keys, built from layers that can be quantized and offloaded."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * hidden_size, hidden_size))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * hidden_size))
        self.out_proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attend from query (B, Q, hidden_size) to key and value (B, K, hidden_size); returns (B, Q, hidden_size)."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        projected = (
            nn.functional.linear(states, weight, bias).unflatten(2, (-1, _RESAMPLER_HEAD)).transpose(1, 2)
            for states, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        attended = nn.functional.scaled_dot_product_attention(*projected)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


@lru_cache(maxsize=64)
def bucket_positions(rows: int, columns: int, side: int) -> torch.Tensor:
    """Indices (rows * columns,) into a learned grid of `side` x `side` positions, for patches row by row."""
    edges = torch.arange(1 / side, 1.0, 1 / side, dtype=torch.float32)

    def buckets(count):
        # A fraction can be exactly at an edge (patch 11 of 33 at one third). There, only the original's rounding in
        # single precision gives the original's bucket.
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

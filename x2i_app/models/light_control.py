"""LightControl: feeds details of a source image into FLUX.1, with a small convolutional net per double block.

`control_hook.py` adds its residuals to FLUX's blocks while an image is generated.

Source: arXiv 2503.06134, section 3.3, and its public training code (lightcontrol/lightcontrol_flux.py). Keys, numbers
of groups and activations are the same, so that weights trained with that code load unchanged.
"""

from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import Downsample2D, ResnetBlock2D
from torch import nn

TOKEN_SIDE = 16  # pixels; FLUX has one token per 16 x 16 pixels
_TIME_CHANNELS = 128
_STEM_GROUPS, _DOWN_GROUPS, _LAST_GROUPS = 2, (4, 8), 8


class LightControl(ModelMixin, ConfigMixin):
    """One net for each of the DiT's first `num_blocks` double blocks; its output is added to the image stream.

    dim: width of the image stream. widths: channels of the stem, of the first and of the second residual block; the
    defaults are the published ones, for FLUX.1's 19 double blocks. time_embed_dim: width of the timestep embedding.

    An untrained LightControl has no effect: its last convolutions are zero.
    """

    @register_to_config
    def __init__(
        self,
        num_blocks: int = 19,
        dim: int = 3072,
        widths: Sequence[int] = (64, 128, 256),
        time_embed_dim: int = 256,
    ):
        super().__init__()
        for block in range(num_blocks):  # keys start with the number of the block
            self.add_module(str(block), BlockControl(dim, widths, time_embed_dim))

    @property
    def nets(self) -> list["BlockControl"]:
        """The nets, in the order of the blocks."""
        return list(self.children())

    def stems(self, image: torch.Tensor) -> list[torch.Tensor]:
        """The part of each net that does not depend on the timestep: compute it once per image.

        image: (B, 3, H, W) in [-1, 1]. Returns (B, widths[1], H/2, W/2) for each net.
        Raises ValueError for another shape, or sides that are not multiples of 16.
        """
        if image.ndim != 4 or image.shape[1] != 3 or any(side % TOKEN_SIDE or not side for side in image.shape[2:]):
            raise ValueError(
                f"image has shape {tuple(image.shape)}; expected (B, 3, H, W) with H and W multiples of {TOKEN_SIDE}."
            )
        return [net.embedding(image) for net in self.nets]

    def residuals(self, stems: Sequence[torch.Tensor], timestep: torch.Tensor) -> list[torch.Tensor]:
        """The residuals to add after each block, (B, H/16 * W/16, dim). timestep: (B,) in 0..1000."""
        return [net(stem, timestep) for net, stem in zip(self.nets, stems, strict=True)]

    def forward(self, image: torch.Tensor, timestep: torch.Tensor) -> list[torch.Tensor]:
        """image (B, 3, H, W) in [-1, 1], timestep (B,) in 0..1000 -> for each block (B, H/16 * W/16, dim)."""
        return self.residuals(self.stems(image), timestep)


class BlockControl(nn.Module):
    """The net of one block: a stem at half the image's size, two residual blocks with downsampling, three convolutions.

    Arguments as in LightControl.
    """

    def __init__(self, dim: int, widths: Sequence[int], time_embed_dim: int):
        super().__init__()
        first, middle, last = widths
        self.time_proj = Timesteps(_TIME_CHANNELS, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(_TIME_CHANNELS, time_embed_dim)
        self.embedding = nn.Sequential(
            *_stem_layer(3, first, stride=2), *_stem_layer(first, first), *_stem_layer(first, middle)
        )
        self.down_res, self.down_sample = nn.ModuleList(), nn.ModuleList()
        for width, out, groups in zip((middle, middle), (middle, last), _DOWN_GROUPS, strict=True):
            block = ResnetBlock2D(in_channels=width, out_channels=out, temb_channels=time_embed_dim, groups=groups)
            self.down_res.append(block)
            self.down_sample.append(Downsample2D(out, use_conv=True, out_channels=out, padding=1, name="op"))
        pair = nn.Sequential(
            nn.Conv2d(last, last, 3, padding=1),
            nn.ReLU(),
            nn.GroupNorm(_LAST_GROUPS, last),
            nn.Conv2d(last, last, 3, padding=1),
            nn.GroupNorm(_LAST_GROUPS, last),
        )
        to_tokens = nn.Conv2d(last, dim, kernel_size=2, stride=2)
        nn.init.zeros_(to_tokens.weight)
        nn.init.zeros_(to_tokens.bias)
        self.mid_convs = nn.ModuleList((pair, to_tokens))

    def forward(self, stem: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """stem (B, widths[1], H/2, W/2) from `embedding`, timestep (B,) in 0..1000 -> (B, H/16 * W/16, dim)."""
        pair, to_tokens = self.mid_convs
        time = self.time_embedding(self.time_proj(timestep).to(stem.dtype))
        features = stem
        for block, downsample in zip(self.down_res, self.down_sample, strict=True):
            features = downsample(block(features, time))
        features = features + pair(features)
        return to_tokens(features).flatten(2).transpose(1, 2)


def _stem_layer(width_in: int, width_out: int, stride: int = 1) -> tuple[nn.Module, ...]:
    return nn.Conv2d(width_in, width_out, 3, stride, padding=1), nn.GroupNorm(_STEM_GROUPS, width_out), nn.ReLU()

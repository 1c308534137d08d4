"""AlignNet: projects the hidden states of all layers of an MLLM to FLUX.1's two text embeddings.

Source: arXiv 2503.06134, section 3, and the released weights. Parameters have the same keys, so that a released file
loads unchanged.
"""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

_LAYER_NORM_EPS = 1e-6  # of the released weights


class AlignNet(ModelMixin, ConfigMixin):
    """Fuses the MLLM's layers, then projects every token.

    num_states: L, hidden states per token (the MLLM's layers + 1). hidden_size: H, the MLLM's width.
    fusion: how the L states are fused: "conv", a convolution over the (tokens, channels) map with the states as input
    channels; "scale", the mean over the states, each times a learned weight.
    kernel_size: odd side of the convolution. joint_dim: width of `prompt_embeds`. pooled_dim: of the pooled embedding.

    Raises ValueError for another fusion or an even kernel size.
    """

    @register_to_config
    def __init__(
        self,
        num_states: int,
        hidden_size: int,
        fusion: str = "conv",
        kernel_size: int = 5,
        joint_dim: int = 4096,
        pooled_dim: int = 768,
    ):
        super().__init__()
        if fusion == "conv":
            if kernel_size % 2 == 0:
                raise ValueError(f"kernel_size is {kernel_size}; it must be odd, to keep the number of tokens.")
            self.conv = nn.Conv2d(num_states, 1, kernel_size, padding=kernel_size // 2)
        elif fusion == "scale":
            self.cha_scale = nn.Parameter(torch.empty(1, num_states, 1, 1))
            nn.init.xavier_normal_(self.cha_scale)
        else:
            raise ValueError(f"fusion is {fusion!r}; it must be 'conv' or 'scale'.")
        self.mlp = TokenProjector(hidden_size, joint_dim, pooled_dim)

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """hidden_states (B, L, S, H) -> prompt_embeds (B, S, joint_dim), pooled_prompt_embeds (B, pooled_dim).

        Raises ValueError if L or H differ from the configuration.
        """
        expected = (self.config.num_states, self.config.hidden_size)
        if hidden_states.ndim != 4 or (hidden_states.shape[1], hidden_states.shape[3]) != expected:
            raise ValueError(
                f"hidden_states has shape {tuple(hidden_states.shape)}; expected (B, {expected[0]}, S, {expected[1]})."
            )
        if self.config.fusion == "conv":
            fused = self.conv(hidden_states).squeeze(1)
        else:
            fused = (hidden_states * self.cha_scale).mean(dim=1)
        return self.mlp(fused)


class TokenProjector(nn.Module):
    """LayerNorm and a two-layer projection of every token; the pooled embedding is the mean of a third projection."""

    def __init__(self, hidden_size: int, joint_dim: int, pooled_dim: int):
        super().__init__()
        self.layernorm = nn.LayerNorm(hidden_size, eps=_LAYER_NORM_EPS)
        self.projector = nn.Sequential(
            nn.Linear(hidden_size, joint_dim, bias=False), nn.GELU(), nn.Linear(joint_dim, joint_dim, bias=False)
        )
        self.fc = nn.Sequential(nn.GELU(), nn.Linear(joint_dim, pooled_dim))

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, S, hidden_size) -> (B, S, joint_dim), (B, pooled_dim)."""
        prompt_embeds = self.projector(self.layernorm(tokens))
        return prompt_embeds, self.fc(prompt_embeds).mean(dim=1)

"""AlignNet, the bridge from all hidden states of an MLLM to the two embeddings that FLUX.1 reads.

Source: arXiv 2503.06134, section 3, and the released weights, whose state-dict keys the parameters here keep, so that a
released file loads as it is.
"""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

_LAYER_NORM_EPS = 1e-6  # of the released weights


class AlignNet(ModelMixin, ConfigMixin):
    """Merge an MLLM's layers, then project every token.

    num_states: L, hidden states a token (the MLLM's layers + 1). hidden_size: H, the MLLM's width.
    fusion: how the L states become one: "conv", a convolution over the (tokens, channels) map with the states as its
    input channels; "scale", the mean of the states times a learned weight each.
    kernel_size: odd side of that convolution. joint_dim: width of `prompt_embeds`. pooled_dim: of the pooled embedding.

    Raises ValueError for another fusion or an even kernel.
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
                raise ValueError(f"kernel_size is {kernel_size}; it must be odd, so that every token keeps its place.")
            self.conv = nn.Conv2d(num_states, 1, kernel_size, padding=kernel_size // 2)
        elif fusion == "scale":
            self.cha_scale = nn.Parameter(torch.empty(1, num_states, 1, 1))
            nn.init.xavier_normal_(self.cha_scale)
        else:
            raise ValueError(f"fusion is {fusion!r}; it must be 'conv' or 'scale'.")
        self.mlp = TokenProjector(hidden_size, joint_dim, pooled_dim)

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, L, S, H) -> prompt_embeds (B, S, joint_dim), pooled_prompt_embeds (B, pooled_dim).

        Raises ValueError if L or H are not those of the configuration.
        """
        expected = (self.config.num_states, self.config.hidden_size)
        if hidden_states.ndim != 4 or (hidden_states.shape[1], hidden_states.shape[3]) != expected:
            raise ValueError(
                f"hidden_states have the shape {tuple(hidden_states.shape)}; "
                f"expected (B, {expected[0]}, S, {expected[1]})."
            )
        if self.config.fusion == "conv":
            merged = self.conv(hidden_states).squeeze(1)
        else:
            merged = (hidden_states * self.cha_scale).mean(dim=1)
        return self.mlp(merged)


class TokenProjector(nn.Module):
    """LayerNorm and a two-layer projection of every token, and the mean over tokens of a third one."""

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

"""MiniCPM-o's audio tower: a Whisper encoder with chunk-wise causal attention, and a projector."""

import torch
from torch import nn
from transformers.models.whisper.modeling_whisper import WhisperConfig, WhisperEncoder

_FRAMES_PER_SECOND = 50  # after Whisper's two convolutions


class AudioTower(WhisperEncoder):
    """Whisper's encoder with an attention mask, for mel spectrograms of up to its own length.

    chunk_length: seconds; a frame attends to its own chunk and earlier ones; 0 or less turns chunks off.
    """

    def __init__(self, config: WhisperConfig, chunk_length: float):
        super().__init__(config)
        self.chunk_frames = int(chunk_length * _FRAMES_PER_SECOND)

    def forward(self, input_features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Encode (N, mels, T), padded with zeros after `lengths` (N,) mel frames, to (N, (T + 1) // 2, width)."""
        hidden_states = nn.functional.gelu(self.conv1(input_features))
        hidden_states = nn.functional.gelu(self.conv2(hidden_states)).transpose(1, 2)
        count = hidden_states.shape[1]
        frames = torch.arange(count, device=hidden_states.device)
        hidden_states = hidden_states + self.embed_positions(frames)
        chunks = frames // self.chunk_frames if self.chunk_frames > 0 else torch.zeros_like(frames)
        earlier = chunks[:, None] >= chunks
        lowest = torch.finfo(hidden_states.dtype).min
        encoded = []
        # One by one: the masks of a whole batch would need more memory than the encoder.
        for states, length in zip(hidden_states.split(1), lengths.tolist(), strict=True):
            # The original compares encoder frames with lengths in mel frames, which are twice as many, so audio that
            # ends within a chunk attends to padding. The language model was trained that way.
            hidden = ~(earlier & (frames < length))
            mask = torch.zeros_like(hidden, dtype=states.dtype).masked_fill(hidden, lowest)[None, None]
            for layer in self.layers:
                states = layer(states, mask)
            encoded.append(self.layer_norm(states))
        return torch.cat(encoded)


class AudioProjector(nn.Module):
    """Two layers from Whisper's width to the language model's."""

    def __init__(self, audio_size: int, hidden_size: int):
        super().__init__()
        self.linear1 = nn.Linear(audio_size, hidden_size)
        self.linear2 = nn.Linear(hidden_size, hidden_size)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Project (N, frames, audio_size) to (N, frames, hidden_size)."""
        return self.linear2(nn.functional.relu(self.linear1(frames)))


def count_tokens(mel_frames: int, pool_step: int) -> int:
    """Tokens for audio of `mel_frames` frames: encoded to half as many, then pooled without an incomplete step."""
    return (mel_frames + 1) // 2 // pool_step

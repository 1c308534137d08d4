"""MiniCPM-o's ears: a Whisper encoder whose frames hear nothing of later chunks, a projector and a pool over time."""

import torch
from torch import nn
from transformers.models.whisper.modeling_whisper import WhisperConfig, WhisperEncoder

_FRAMES_A_SECOND = 50  # after Whisper's two convolutions


class AudioTower(WhisperEncoder):
    """Whisper's encoder for mel spectrograms of any length up to its own, with a mask.

    chunk_length: seconds; a frame sees its own chunk and earlier ones; 0 or less lets it see everything.
    """

    def __init__(self, config: WhisperConfig, chunk_length: float):
        super().__init__(config)
        self.chunk_frames = int(chunk_length * _FRAMES_A_SECOND)

    def forward(self, input_features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(N, mels, T) padded with zeros, and the T of each that is sound (N,), to (N, (T + 1) // 2, width)."""
        hidden_states = nn.functional.gelu(self.conv1(input_features))
        hidden_states = nn.functional.gelu(self.conv2(hidden_states)).transpose(1, 2)
        count = hidden_states.shape[1]
        frames = torch.arange(count, device=hidden_states.device)
        hidden_states = hidden_states + self.embed_positions(frames)
        chunks = frames // self.chunk_frames if self.chunk_frames > 0 else torch.zeros_like(frames)
        earlier = chunks[:, None] >= chunks
        least = torch.finfo(hidden_states.dtype).min
        encoded = []
        # One by one: the masks of a whole batch would take more memory than the encoder.
        for states, length in zip(hidden_states.split(1), lengths.tolist(), strict=True):
            # The original compares frames with lengths in mel frames, twice as many, so that padding is seen where a
            # sound ends within a chunk. The language model learned from that.
            hidden = ~(earlier & (frames < length))
            mask = torch.zeros_like(hidden, dtype=states.dtype).masked_fill(hidden, least)[None, None]
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
        """(N, frames, audio_size) to (N, frames, hidden_size)."""
        return self.linear2(nn.functional.relu(self.linear1(frames)))


def count_tokens(mel_frames: int, pool_step: int) -> int:
    """Tokens that a sound of so many mel frames becomes: half as many frames, pooled, the rest dropped."""
    return (mel_frames + 1) // 2 // pool_step

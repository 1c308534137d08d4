"""Conversations of which the original code's answers are kept in fixtures/minicpm_o_reference.safetensors."""

import numpy as np
from PIL import Image


def make_image(width: int, height: int, seed: int) -> Image.Image:
    """RGB blocks of ten pixels, no two images alike."""
    blocks = np.random.RandomState(seed).randint(0, 256, (-(-height // 10), -(-width // 10), 3))
    return Image.fromarray(blocks.repeat(10, 0).repeat(10, 1)[:height, :width].astype(np.uint8))


def audio(seconds: float, seed: int) -> np.ndarray:
    """(N,) float32 at 16 kHz: a tone over noise, at levels of 16 bits."""
    random = np.random.RandomState(seed)
    time = np.arange(round(seconds * 16_000)) / 16_000
    wave = 0.4 * np.sin(2 * np.pi * random.randint(200, 2000) * time) + 0.05 * random.standard_normal(len(time))
    return (np.round(wave * 32_767) / 32_768).astype(np.float32)


_WIDE, _TALL, _LARGE = make_image(200, 90, 1), make_image(90, 150, 2), make_image(900, 700, 3)
_SHORT, _LONGER = audio(0.35, 4), audio(1.3, 5)

# name -> turns: prompt, images, videos (lists of frames), audios, answer.
CASES = {
    "text": [{"prompt": "a red house 雪夜"}],
    "image": [{"prompt": "make it night", "images": [_WIDE]}],
    "two images": [{"prompt": "both", "images": [_TALL, _LARGE]}],
    "audio": [{"audios": [_LONGER]}],
    # The short clip ends within its second, where the original attends to padding.
    "two audios": [{"prompt": "both", "audios": [_SHORT, _LONGER]}],
    "half a minute": [{"prompt": "loud", "audios": [audio(30.7, 6)]}],
    "all": [
        {
            "prompt": "a house",
            "images": [_WIDE],
            "videos": [[make_image(160, 120, i) for i in (7, 8)]],
            "audios": [_SHORT],
        }
    ],
    "dialogue": [
        {"prompt": "a red house", "images": [_TALL], "answer": "a red house"},
        {"prompt": "make it night"},
    ],
}
# Of this one only every 40th row is kept.
LONG = ("half a minute",)
STRIDE = 40

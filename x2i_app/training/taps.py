"""What leaves the attention of every block of a FLUX transformer, told while the transformer runs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch
from diffusers import FluxTransformer2DModel

Stream = Literal["image", "text"]
Receive = Callable[[str, Stream, torch.Tensor], None]


@contextmanager
def tap_attention(
    transformer: FluxTransformer2DModel, receive: Receive, streams: Sequence[Stream] = ("image",)
) -> Iterator[None]:
    """While the context lasts, call `receive(name, stream, tensor)` for every attention output, as it appears.

    name: module and stream, e.g. "transformer_blocks.0.attn/image" or "single_transformer_blocks.3.attn/text".
    tensor: (B, tokens, C), part of the running graph. A double block gives an image and a text stream; a single block's
    output, text in front, is parted at the text's length. streams: which of them to tell of, image before text.
    """
    text_length = 0

    def measure(_, args, kwargs):
        nonlocal text_length
        text = kwargs["encoder_hidden_states"] if "encoder_hidden_states" in kwargs else args[1]
        text_length = text.shape[1]

    def tell(name: str, image: torch.Tensor, text: torch.Tensor) -> None:
        parts = {"image": image, "text": text}
        for stream in ("image", "text"):
            if stream in streams:
                receive(f"{name}/{stream}", stream, parts[stream])

    def on_double(name: str):
        return lambda _, args, output: tell(name, output[0], output[1])

    def on_single(name: str):
        return lambda _, args, output: tell(name, output[:, text_length:], output[:, :text_length])

    with ExitStack() as hooks:
        handles = [transformer.register_forward_pre_hook(measure, with_kwargs=True)]
        for kind, make in (("transformer_blocks", on_double), ("single_transformer_blocks", on_single)):
            for place, block in enumerate(getattr(transformer, kind)):
                handles.append(block.attn.register_forward_hook(make(f"{kind}.{place}.attn")))
        for handle in handles:
            hooks.callback(handle.remove)
        yield

"""True classifier-free guidance with two prompts of different lengths, and the cache that skips blocks of a step.

diffusers' FLUX pipelines call the transformer twice in a step: with the embeddings of the prompt, then with those of
the negative prompt. They want both to have one shape. FLUX reads every row of its prompt, so padding would change the
image; a hook puts the negative prompt's own rows in their place instead.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import FirstBlockCacheConfig, FluxTransformer2DModel

# Of the first block's change between two steps. Measured: 28 steps become 13 whole passes, 0.57/255 mean difference.
CACHE_THRESHOLD = 0.1


@contextmanager
def negative_rows(
    transformer: FluxTransformer2DModel, prompt_embeds: torch.Tensor, negative_embeds: torch.Tensor
) -> Iterator[torch.Tensor]:
    """Gives a stand-in for `negative_embeds` of the shape of `prompt_embeds`; inside the block, the transformer that is
    called with it reads `negative_embeds`.

    prompt_embeds: (B, S, joint_dim); negative_embeds: (B, any S, joint_dim).
    """
    if prompt_embeds.shape == negative_embeds.shape:
        yield negative_embeds
        return
    stand_in = torch.empty_like(prompt_embeds)

    def replace_rows(_module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]):
        if kwargs["encoder_hidden_states"] is not stand_in:
            return None
        ids = kwargs["txt_ids"].new_zeros(negative_embeds.shape[1], kwargs["txt_ids"].shape[-1])
        return args, kwargs | {"encoder_hidden_states": negative_embeds, "txt_ids": ids}

    handle = transformer.register_forward_pre_hook(replace_rows, with_kwargs=True)
    try:
        yield stand_in
    finally:
        handle.remove()


@contextmanager
def cached_blocks(transformer: FluxTransformer2DModel, negative_embeds: torch.Tensor | None) -> Iterator[None]:
    """Inside the block, a step whose first block changes little takes the other blocks' result of the step before.

    negative_embeds: (B, S, joint_dim), the same tensor that the pipeline passes for the negative prompt, whose calls
    have a cache of their own; None without a negative prompt.
    """
    transformer.enable_cache(FirstBlockCacheConfig(threshold=CACHE_THRESHOLD))
    contexts: list[Any] = []

    # Of diffusers' FLUX pipelines only FluxPipeline names the cache of each call.
    def enter(_module: torch.nn.Module, _args: tuple, kwargs: dict[str, Any]) -> None:
        is_negative = negative_embeds is not None and kwargs["encoder_hidden_states"] is negative_embeds
        contexts.append(transformer.cache_context("uncond" if is_negative else "cond"))
        contexts[-1].__enter__()

    def leave(*_: Any) -> None:
        contexts.pop().__exit__(None, None, None)

    handles = (
        transformer.register_forward_pre_hook(enter, with_kwargs=True, prepend=True),
        transformer.register_forward_hook(leave, always_call=True),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        transformer.disable_cache()

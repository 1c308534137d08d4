"""The names of a FLUX.1 transformer's layers: Black Forest Labs', which most single files use, and diffusers'."""

QKV = ("to_q", "to_k", "to_v")
ADDED_QKV = ("add_q_proj", "add_k_proj", "add_v_proj")
# Black Forest Labs' module -> diffusers' modules: several where one matrix holds what diffusers has in several.
TOP = {
    "img_in": ("x_embedder",),
    "txt_in": ("context_embedder",),
    "final_layer.linear": ("proj_out",),
    "final_layer.adaLN_modulation.1": ("norm_out.linear",),
} | {
    f"{theirs}.{layer}": (f"time_text_embed.{ours}.linear_{number}",)
    for theirs, ours in (
        ("time_in", "timestep_embedder"),
        ("vector_in", "text_embedder"),
        ("guidance_in", "guidance_embedder"),
    )
    for layer, number in (("in_layer", 1), ("out_layer", 2))
}
DOUBLE = {
    "img_mod.lin": ("norm1.linear",),
    "txt_mod.lin": ("norm1_context.linear",),
    "img_attn.qkv": tuple(f"attn.{name}" for name in QKV),
    "txt_attn.qkv": tuple(f"attn.{name}" for name in ADDED_QKV),
    "img_attn.norm.query_norm": ("attn.norm_q",),
    "img_attn.norm.key_norm": ("attn.norm_k",),
    "txt_attn.norm.query_norm": ("attn.norm_added_q",),
    "txt_attn.norm.key_norm": ("attn.norm_added_k",),
    "img_attn.proj": ("attn.to_out.0",),
    "txt_attn.proj": ("attn.to_add_out",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
}
SINGLE = {
    "modulation.lin": ("norm.linear",),
    "linear1": (*(f"attn.{name}" for name in QKV), "proj_mlp"),
    "linear2": ("proj_out",),
    "norm.query_norm": ("attn.norm_q",),
    "norm.key_norm": ("attn.norm_k",),
}
BLOCKS = {"double_blocks": ("transformer_blocks", DOUBLE), "single_blocks": ("single_transformer_blocks", SINGLE)}

# The one layer whose output Black Forest Labs orders as (shift, scale) and diffusers as (scale, shift).
SWAPPED = "final_layer.adaLN_modulation.1"
# Only FLUX.1-dev and models derived from it have these.
GUIDANCE = ("guidance_in.", "time_text_embed.guidance_embedder.")

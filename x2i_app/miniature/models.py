"""The parts of x2i-tiny: transformers and diffusers classes at sizes for a CPU, freshly initialised.

Sizes follow a trial on two cores (about 11 million parameters in all). Token names and the kinds of positions are those
of the full-size models, so that the same encoder and pipeline code runs.
"""

from collections.abc import Iterable

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedTokenizerBase,
    Qwen2_5OmniProcessor,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    T5Config,
    T5EncoderModel,
    WhisperFeatureExtractor,
)

from x2i_app.models import AlignNet

VOCAB_SIZE = 2048
HIDDEN_SIZE = 192  # of the MLLM and of the DiT
NUM_LAYERS = 8
JOINT_DIM = 128  # of the teacher's T5, which prompt_embeds imitate
POOLED_DIM = 128  # of the teacher's CLIP
LATENT_CHANNELS = 8  # that are learned: of 16, 13 were nearly white noise over the image
FLUX_CHANNELS = 16  # of the files, which ComfyUI and others expect of every FLUX.1
IMAGE_SIZES = (128, 256)  # px, that the teacher learns
PATCH_SIZE = 8  # small enough to read a screenshot
AUDIO_SECONDS = 30

# Names as in Qwen2.5-Omni's tokenizer; Qwen2.5-VL writes its vision tokens differently.
MEDIA_TOKENS = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
_CHAT_TOKENS = ["<|im_start|>", "<|im_end|>"]

# ChatML, as in all Qwen models, without a system turn. A prompt begins with a space, so that its first word has the
# same tokens as within a sentence: without it, of 253 hand-written prompts 191 were answered right, with it 204.
CHAT_TEMPLATE = """{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% for part in message.content -%}
{%- if part.type == 'image' -%}<|vision_bos|><|IMAGE|><|vision_eos|>
{%- elif part.type == 'video' -%}<|vision_bos|><|VIDEO|><|vision_eos|>
{%- elif part.type == 'audio' -%}<|audio_bos|><|AUDIO|><|audio_eos|>
{%- elif message.role == 'user' -%}{{ ' ' + part.text }}
{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}"""


def train_tokenizer(corpus: Iterable[str], vocab_size: int = VOCAB_SIZE, **special: str) -> Qwen2Tokenizer:
    """A byte-level BPE tokenizer with Qwen's splitting rules and chat tokens, trained on `corpus`.

    special: names of further special tokens, e.g. image_token="<|IMAGE|>".
    """
    untrained = Qwen2Tokenizer(eos_token="<|im_end|>", **special)
    return untrained.train_new_from_iterator(corpus, vocab_size, new_special_tokens=[*_CHAT_TOKENS, *special.values()])


def build_processor(tokenizer: PreTrainedTokenizerBase) -> Qwen2_5OmniProcessor:
    """The ordinary Omni processor: an image of 128 px becomes 64 tokens, audio of up to 30 s 25 tokens/s."""
    size = {"shortest_edge": (2 * PATCH_SIZE) ** 2, "longest_edge": 256 * 256}
    return Qwen2_5OmniProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=PATCH_SIZE, size=size),
        video_processor=Qwen2VLVideoProcessor(patch_size=PATCH_SIZE, size=size, cap_pixels_per_frame=False),
        feature_extractor=WhisperFeatureExtractor(feature_size=80, chunk_length=AUDIO_SECONDS),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
    )


def build_mllm(tokenizer: PreTrainedTokenizerBase) -> Qwen2_5OmniThinkerForConditionalGeneration:
    """A Qwen2.5-Omni thinker of 8 layers and width 192; its vision (3 layers) and audio (2 layers) have width 128."""
    ids = tokenizer.convert_tokens_to_ids
    config = Qwen2_5OmniThinkerConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": HIDDEN_SIZE,
            "intermediate_size": 512,
            "num_hidden_layers": NUM_LAYERS,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]},
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": ids("<|im_end|>"),
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 3,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_heads": 4,
            "patch_size": PATCH_SIZE,
            "window_size": 4 * PATCH_SIZE,
            "fullatt_block_indexes": [0, 1, 2],  # images this small need no windows
            "out_hidden_size": HIDDEN_SIZE,
        },
        audio_config={
            "num_mel_bins": 80,
            "encoder_layers": 2,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 256,
            "d_model": 128,
            "output_dim": HIDDEN_SIZE,
        },
        image_token_id=ids(MEDIA_TOKENS["image_token"]),
        video_token_id=ids(MEDIA_TOKENS["video_token"]),
        audio_token_id=ids(MEDIA_TOKENS["audio_token"]),
        vision_start_token_id=ids(MEDIA_TOKENS["vision_bos_token"]),
        vision_end_token_id=ids(MEDIA_TOKENS["vision_eos_token"]),
        audio_start_token_id=ids(MEDIA_TOKENS["audio_bos_token"]),
        audio_end_token_id=ids(MEDIA_TOKENS["audio_eos_token"]),
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    model = Qwen2_5OmniThinkerForConditionalGeneration(config)
    model.generation_config.eos_token_id = ids("<|im_end|>")
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def build_align_net() -> AlignNet:
    """The AlignNet between this MLLM and this FLUX.1."""
    return AlignNet(NUM_LAYERS + 1, HIDDEN_SIZE, joint_dim=JOINT_DIM, pooled_dim=POOLED_DIM)


def build_transformer(latent_channels: int = LATENT_CHANNELS) -> FluxTransformer2DModel:
    """A FLUX.1 DiT of 2 double and 4 single blocks, width 192."""
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=4 * latent_channels,
        num_layers=2,
        num_single_layers=4,
        attention_head_dim=48,
        num_attention_heads=4,
        joint_attention_dim=JOINT_DIM,
        pooled_projection_dim=POOLED_DIM,
        guidance_embeds=False,
        axes_dims_rope=(8, 20, 20),
    )


def build_vae(latent_channels: int = LATENT_CHANNELS) -> AutoencoderKL:
    """An autoencoder with latents at an eighth of the width and height; 0.88 million parameters."""
    widths = (16, 32, 48, 64)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=8,
        sample_size=128,
        scaling_factor=1.0,
        shift_factor=0.0,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


@torch.no_grad()
def with_flux_channels(
    transformer: FluxTransformer2DModel, vae: AutoencoderKL
) -> tuple[FluxTransformer2DModel, AutoencoderKL]:
    """Both models with the 16 latent channels of every FLUX.1; they draw what the given ones with fewer channels draw.

    The encoder sets the further channels to 0. The transformer does not read them and predicts 0 for them, so their
    noise stays, and the decoder does not read them either.
    """
    wide_vae, wide_transformer = build_vae(FLUX_CHANNELS), build_transformer(FLUX_CHANNELS)
    wide_vae.register_to_config(shift_factor=vae.config.shift_factor, scaling_factor=vae.config.scaling_factor)
    weights = vae.state_dict()
    for name in ("weight", "bias"):
        mean, log_variance = weights[f"encoder.conv_out.{name}"].chunk(2)
        no_mean, no_variance = (mean.new_zeros(FLUX_CHANNELS - len(mean), *mean.shape[1:]) for _ in range(2))
        if name == "bias":
            no_mean += vae.config.shift_factor  # which the pipeline subtracts
            no_variance -= 30  # diffusers' lowest logarithm of a variance
        weights[f"encoder.conv_out.{name}"] = torch.cat([mean, no_mean, log_variance, no_variance])
    weights["decoder.conv_in.weight"] = _padded(weights["decoder.conv_in.weight"], 1, FLUX_CHANNELS)
    wide_vae.load_state_dict(weights)

    weights = transformer.state_dict()  # the four values of a channel are neighbors in a token
    weights["x_embedder.weight"] = _padded(weights["x_embedder.weight"], 1, 4 * FLUX_CHANNELS)
    for name in ("weight", "bias"):
        weights[f"proj_out.{name}"] = _padded(weights[f"proj_out.{name}"], 0, 4 * FLUX_CHANNELS)
    wide_transformer.load_state_dict(weights)
    return wide_transformer, wide_vae


def _padded(weight: torch.Tensor, dim: int, size: int) -> torch.Tensor:
    shape = list(weight.shape)
    shape[dim] = size - shape[dim]
    return torch.cat([weight, weight.new_zeros(shape)], dim)


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """FLUX.1's own schedule, shifted for small images."""
    return FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15)


def build_teacher_encoders(
    clip_tokenizer: PreTrainedTokenizerBase, t5_tokenizer: PreTrainedTokenizerBase
) -> tuple[CLIPTextModel, T5EncoderModel]:
    """FLUX.1's own text encoders: CLIP for the pooled embedding, T5 for the tokens. Only training needs them."""
    clip = CLIPTextConfig(
        vocab_size=len(clip_tokenizer),
        hidden_size=POOLED_DIM,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=clip_tokenizer.model_max_length,
        projection_dim=POOLED_DIM,
        bos_token_id=clip_tokenizer.bos_token_id,
        eos_token_id=clip_tokenizer.eos_token_id,
        pad_token_id=clip_tokenizer.pad_token_id,
    )
    t5 = T5Config(
        vocab_size=len(t5_tokenizer),
        d_model=JOINT_DIM,
        d_kv=32,
        d_ff=256,
        num_layers=3,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        pad_token_id=t5_tokenizer.pad_token_id,
        eos_token_id=t5_tokenizer.eos_token_id,
    )
    return CLIPTextModel(clip), T5EncoderModel(t5)

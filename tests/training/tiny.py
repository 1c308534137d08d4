"""A pipeline and its teacher at a size that a test can train."""

from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from factories import randomize
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

from x2i_app.encoders import load_encoder
from x2i_app.models import AlignNet
from x2i_app.pipeline import X2IPipeline
from x2i_app.presets import get_family
from x2i_app.training import DistillOptions, LoopOptions
from x2i_app.training.batches import CaptionBatches
from x2i_app.training.distill import distill
from x2i_app.training.encoding import encode_states, encode_teacher
from x2i_app.training.frozen import FluxParts, check_teacher

JOINT, POOLED = 24, 16
OPTIONS = DistillOptions(batch_size=4, resolution=64, max_sequence_length=12, num_inference_steps=3)
LOOP = LoopOptions(
    steps=4, warmup_steps=0, ema_decay=None, mixed_precision="no", checkpoint_every=2, workers=0, weight_decay=0.0
)
CAPTIONS = [
    "a red house",
    "a red tree",
    "a green tree",
    "a red house on snow",
    "a green tree on snow",
    "a green house and a red tree at night",
    "a red house and a green tree at night",
    "snow",
]


def build_transformer(guidance: bool = False, layers: int = 2, single_layers: int = 2) -> FluxTransformer2DModel:
    torch.manual_seed(1)
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=layers,
        num_single_layers=single_layers,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=JOINT,
        pooled_projection_dim=POOLED,
        guidance_embeds=guidance,
        axes_dims_rope=(4, 6, 6),
    ).eval()
    randomize(transformer)
    return transformer


def build_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4,) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        scaling_factor=1.0,
        shift_factor=0.0,
    )


def build_pipeline(mllm: Path, guidance: bool = False, **encoding) -> X2IPipeline:
    """Over a tiny Qwen2.5-VL's folder. encoding: fields of its EncodingSpec."""
    spec = replace(get_family("qwen2.5-vl"), **{"padding": "compact", **encoding})
    encoder = load_encoder("qwen2.5-vl", mllm, spec=spec, dtype=torch.float32)
    torch.manual_seed(2)
    return X2IPipeline.from_encoder(
        encoder,
        AlignNet(encoder.num_states, encoder.hidden_size, joint_dim=JOINT, pooled_dim=POOLED),
        build_transformer(guidance),
        build_vae(),
        FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    )


def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's, a token for each letter. Training one would number equal counts differently in every process."""
    letters = sorted({letter for caption in CAPTIONS for letter in caption if letter != " "})
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    return CLIPTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=[])


def t5_tokenizer() -> T5TokenizerFast:
    """T5's, a token for each word."""
    known = sorted({word for caption in CAPTIONS for word in caption.split()})
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), *((f"\u2581{word}", -1.0) for word in known)]
    return T5TokenizerFast(vocab=pieces, extra_ids=0)


def save_teacher(directory: Path, pooled: int = POOLED) -> Path:
    """T5 and CLIP with their tokenizers, as in a FLUX.1 model's folder."""
    torch.manual_seed(3)
    clip_tokens, t5_tokens = clip_tokenizer(), t5_tokenizer()
    clip_tokens.model_max_length = 77
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(clip_tokens),
            hidden_size=pooled,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            projection_dim=pooled,
            bos_token_id=clip_tokens.bos_token_id,
            eos_token_id=clip_tokens.eos_token_id,
            pad_token_id=clip_tokens.pad_token_id,
        )
    )
    t5 = T5EncoderModel(
        T5Config(vocab_size=len(t5_tokens), d_model=JOINT, d_kv=8, d_ff=32, num_layers=1, num_heads=2, pad_token_id=0)
    )
    for model, name in ((clip, "text_encoder"), (t5, "text_encoder_2")):
        randomize(model)
        model.save_pretrained(directory / name)
    clip_tokens.save_pretrained(directory / "tokenizer")
    t5_tokens.save_pretrained(directory / "tokenizer_2")
    return directory


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(module, before):
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def flux_parts(pipeline):
    return FluxParts(pipeline.transformer, pipeline.vae, pipeline.scheduler)


def encode_captions(pipeline, teacher, directory, dtype=torch.float32, options=OPTIONS):
    """What MLLM and teacher make of CAPTIONS."""
    check_teacher(teacher, pipeline.transformer.config)
    states = encode_states(pipeline.encoder, CAPTIONS, directory, dtype)
    return states, encode_teacher(teacher, CAPTIONS, directory, options.max_sequence_length, dtype)


def batches(pipeline, teacher, directory):
    return CaptionBatches(*encode_captions(pipeline, teacher, directory), OPTIONS.batch_size, seed=0)


def distill_pipeline(pipeline, teacher, directory, options=OPTIONS, loop=LOOP):
    """Train the AlignNet of a pipeline on CAPTIONS."""
    dtype = torch.bfloat16 if loop.mixed_precision == "bf16" else torch.float32
    encoded = encode_captions(pipeline, teacher, directory, dtype, options)
    distill(pipeline.align_net, flux_parts(pipeline), *encoded, directory, options, loop)

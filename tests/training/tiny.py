"""A pipeline and its teacher at a size that a test can train."""

from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from factories import randomise
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

from x2i_app.encoders import load_encoder
from x2i_app.models import AlignNet
from x2i_app.pipeline import X2IPipeline
from x2i_app.presets import get_family
from x2i_app.training.captions import CaptionBatches, encode_captions
from x2i_app.training.distill_options import DistillOptions
from x2i_app.training.loop_options import LoopOptions

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
    randomise(transformer)
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


def spell_captions() -> CLIPTokenizer:
    """CLIP's, letter by letter. Trained ones number their tokens otherwise in every process: equal counts tie."""
    letters = sorted({letter for caption in CAPTIONS for letter in caption if letter != " "})
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    return CLIPTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=[])


def read_captions() -> T5TokenizerFast:
    """T5's, word by word."""
    words = sorted({word for caption in CAPTIONS for word in caption.split()})
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), *((f"\u2581{word}", -1.0) for word in words)]
    return T5TokenizerFast(vocab=pieces, extra_ids=0)


def save_teacher(directory: Path, pooled: int = POOLED) -> Path:
    """T5 and CLIP with their tokenizers, as in a FLUX.1 model's folder."""
    torch.manual_seed(3)
    clip_tokenizer, t5_tokenizer = spell_captions(), read_captions()
    clip_tokenizer.model_max_length = 77
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(clip_tokenizer),
            hidden_size=pooled,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            projection_dim=pooled,
            bos_token_id=clip_tokenizer.bos_token_id,
            eos_token_id=clip_tokenizer.eos_token_id,
            pad_token_id=clip_tokenizer.pad_token_id,
        )
    )
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=len(t5_tokenizer), d_model=JOINT, d_kv=8, d_ff=32, num_layers=1, num_heads=2, pad_token_id=0
        )
    )
    for model, name in ((clip, "text_encoder"), (t5, "text_encoder_2")):
        randomise(model)
        model.save_pretrained(directory / name)
    clip_tokenizer.save_pretrained(directory / "tokenizer")
    t5_tokenizer.save_pretrained(directory / "tokenizer_2")
    return directory


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(module, before):
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def batches(pipeline, teacher, directory, options=OPTIONS, captions=CAPTIONS):
    encoded = encode_captions(
        pipeline.encoder, teacher, captions, directory, options.max_sequence_length, torch.float32
    )
    return CaptionBatches(*encoded, options.batch_size, seed=0)

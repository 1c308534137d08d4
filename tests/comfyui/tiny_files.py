"""Files in the forms that people own, small and random: python tests/comfyui/tiny_files.py FOLDER

Start ComfyUI with `--extra-model-paths-config FOLDER/extra_model_paths.yaml`; then run.py uses them.
"""

import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.factories import save_qwen_vl
from x2i_app.comfyui.flux import original_names
from x2i_app.models import AlignNet
from x2i_app.settings import ASSETS

MLLM, PROJ = "qwen2.5-vl-tiny-instruct.pt", "qwen2.5-vl-tiny_proj.pt"
GGUF, WIDE = "flux1-tiny-Q8_0.gguf", "X2I-wide.safetensors"
BASE, VAE = "models/shuttle-3-diffusion", "vae"  # `load_pipeline` takes the VAE of a single file from BASE
_FLUX = {"num_layers": 1, "num_single_layers": 1, "guidance_embeds": False}  # at FLUX.1's widths, which ComfyUI wants
_YAML = """x2i_tests:
    base_path: {}
    text_encoders: text_encoders
    diffusion_models: diffusion_models
    unet_gguf: diffusion_models
    x2i: x2i
"""


def write(folder: Path) -> None:
    """Write all files, and the extra_model_paths.yaml that names their folders."""
    torch.manual_seed(0)
    for name in ("text_encoders", "diffusion_models", "x2i"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "extra_model_paths.yaml").write_text(_YAML.format(folder), encoding="utf-8")
    _write_mllm(folder)
    tiny = AlignNet.from_pretrained(ASSETS / "x2i-tiny/align_net").config
    wide = AlignNet(tiny.num_states, tiny.hidden_size)
    wide.save_pretrained(folder / "wide")
    (folder / "wide/diffusion_pytorch_model.safetensors").rename(folder / "x2i" / WIDE)
    _write_gguf(folder / "diffusion_models" / GGUF)
    _write_vae(folder)


def _write_mllm(folder: Path) -> None:
    """A repacked Qwen2.5-VL of 0.4 GB in 32 bit, and its AlignNet for x2i-tiny's FLUX: the reference's own forms."""
    sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [8, 12, 12]}
    directory = save_qwen_vl(folder / "vl", rope_parameters=rope, **sizes)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(directory, dtype=torch.bfloat16)
    content = {"config": model.config, "state_dict": model.state_dict()}
    content["processor"] = Qwen2_5_VLProcessor.from_pretrained(directory)
    torch.save(content, folder / "text_encoders" / MLLM)
    net = AlignNet(13, 768, joint_dim=128, pooled_dim=128)
    torch.save({"config": {"in_channels": 13}, "state_dict": net.state_dict()}, folder / "text_encoders" / PROJ)


def _write_gguf(path: Path) -> None:
    transformer = FluxTransformer2DModel(**_FLUX)
    writer = gguf.GGUFWriter(path, "flux")
    for name, value in original_names(transformer.state_dict()).items():
        numbers = value.float().numpy().astype(np.float32)
        kind = gguf.GGMLQuantizationType.Q8_0 if numbers.ndim == 2 else gguf.GGMLQuantizationType.F32
        if kind == gguf.GGMLQuantizationType.Q8_0:
            numbers = gguf.quants.quantize(numbers, kind)
        writer.add_tensor(name, numbers, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_vae(folder: Path) -> None:
    """A VAE of 16 channels with FLUX.1's scaling: in BASE, beside the configuration of the file in GGUF; and in VAE."""
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 16, 16, 16),
        norm_num_groups=8,
        layers_per_block=1,
        latent_channels=16,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    for name in (BASE, VAE):
        vae.save_pretrained(folder / name / "vae")
        scheduler.save_pretrained(folder / name / "scheduler")
    with torch.device("meta"):
        FluxTransformer2DModel(**_FLUX).save_config(folder / BASE / "transformer")
    heads = {"attention_head_dim": 16, "num_attention_heads": 2, "axes_dims_rope": (4, 6, 6)}
    widths = {"joint_attention_dim": 128, "pooled_projection_dim": 128}  # X2I Load FLUX loads it, nothing uses it
    FluxTransformer2DModel(**_FLUX, **heads, **widths).save_pretrained(folder / VAE / "transformer")


if __name__ == "__main__":
    write(Path(sys.argv[1]).resolve())

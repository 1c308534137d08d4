"""`train distill`: from names of models and files of captions to a trained AlignNet, one large model at a time."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from accelerate import PartialState

from x2i_app.loading import load_alignnet
from x2i_app.loading.flux import load_flux
from x2i_app.loading.hub import resolve_file
from x2i_app.models import AlignNet
from x2i_app.training.cache import CaptionCache
from x2i_app.training.captions import encode_states, encode_teacher
from x2i_app.training.data import Broken, read_captions
from x2i_app.training.distill import DistillOptions, FluxParts, cache_dtype, check_teacher, distill_cached
from x2i_app.training.loop import LoopOptions
from x2i_app.training.options import option
from x2i_app.training.parts import default_flux, load_mllm, load_teacher, read_flux_config


@dataclass(frozen=True, kw_only=True)
class DistillJob:
    """Train an AlignNet for an MLLM and a FLUX.1 model, from English captions alone.

    The models come one after another: the MLLM and the teacher's text encoders read all captions, what they make of
    them is kept in `output`, and only FLUX's transformer is in memory while AlignNet learns.
    """

    output: Path = option(help="folder of checkpoints, caches, history and the trained align_net")
    captions: tuple[str, ...] = option(
        help="English captions: .txt, .jsonl or .tar files, folders, patterns; commas between"
    )
    caption_field: str = option("caption", help="field of a caption in JSON")
    max_broken: int = option(100, help="samples that may be broken before the run stops")
    preset: str = option("x2i-tiny", help="whose MLLM and FLUX model, or custom:FAMILY")
    mllm: str | None = option(None, help="MLLM: a folder or hub id instead of the preset's")
    flux: str | None = option(None, help="FLUX.1 model with its text encoders, instead of the preset's")
    alignnet: str | None = option(None, help="AlignNet to start from instead of a fresh one")
    fusion: Literal["conv", "scale"] = option("conv", help="how a fresh AlignNet merges the MLLM's layers")
    kernel_size: int = option(5, help="of that convolution")
    gradient_checkpointing: bool = option(True, help="compute FLUX's blocks twice instead of keeping them")
    distill: DistillOptions = option(DistillOptions(), help="what teacher and student are compared on")
    loop: LoopOptions = option(LoopOptions(steps=12_500, learning_rate=1e-4), help="how to train")

    def run(self) -> Path:
        """Train, or go on; the folder of the trained AlignNet, which `--alignnet` takes."""
        device = PartialState().device
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
        flux_source = self.flux or default_flux(self.preset)
        captions = read_captions(self.captions, self.caption_field, Broken(self.max_broken))
        config = read_flux_config(flux_source)
        # 1. What the frozen models make of the captions, each gone before the next one comes
        states, align_net = self._read_states(captions, config, dtype, device)
        embeddings = self._read_teacher(captions, config, flux_source, dtype, device)
        # 2. FLUX and AlignNet
        flux = FluxParts(*load_flux(flux_source, dtype))
        if self.gradient_checkpointing:
            flux.transformer.enable_gradient_checkpointing()
        # 3. Train
        distill_cached(align_net, flux, states, embeddings, self.output, self.distill, self.loop)
        directory = self.output / "align_net"
        if PartialState().is_main_process:
            align_net.to(torch.bfloat16).save_pretrained(directory)
        PartialState().wait_for_everyone()
        return directory

    def _read_states(self, captions, config, dtype, device) -> tuple[CaptionCache, AlignNet]:
        """The MLLM's states, and an AlignNet that fits them."""
        encoder = load_mllm(self.preset, self.mllm, dtype)
        sizes = {"num_states": encoder.num_states, "hidden_size": encoder.hidden_size}
        if self.alignnet:
            align_net = load_alignnet(resolve_file(self.alignnet), **sizes, dtype=torch.float32)
        else:
            torch.manual_seed(self.loop.seed)
            widths = {"joint_dim": config["joint_attention_dim"], "pooled_dim": config["pooled_projection_dim"]}
            align_net = AlignNet(**sizes, fusion=self.fusion, kernel_size=self.kernel_size, **widths)
        encoder.model.to(device)
        return encode_states(encoder, captions, self.output, cache_dtype(self.loop)), align_net

    def _read_teacher(self, captions, config, flux_source, dtype, device) -> CaptionCache:
        teacher = load_teacher(flux_source, dtype)
        check_teacher(teacher, config)
        for part in (teacher.text_encoder, teacher.text_encoder_2):
            part.to(device)
        length = self.distill.max_sequence_length
        return encode_teacher(teacher, captions, self.output, length, cache_dtype(self.loop))

"""`train distill`: from names of models and files of captions to a trained AlignNet, one large model at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState

from x2i_app.errors import InvalidRequestError, TrainingError
from x2i_app.loading import load_alignnet
from x2i_app.loading.flux import load_flux
from x2i_app.loading.hub import find_file
from x2i_app.loading.quantization import quantize
from x2i_app.models import AlignNet
from x2i_app.specs import Precision
from x2i_app.training.cache import CaptionCache
from x2i_app.training.captions import LiveStates, LiveTeacher, encode_states, encode_teacher
from x2i_app.training.comparison import FluxParts
from x2i_app.training.data import Broken, Captioned, read_captions
from x2i_app.training.distill import cache_dtype, check_teacher, distill_cached
from x2i_app.training.distill_options import DistillOptions
from x2i_app.training.images import encode_images, open_image
from x2i_app.training.loop_options import LoopOptions
from x2i_app.training.parts import default_flux, load_mllm, load_teacher, read_flux_config
from x2i_app.training.precision import training_device
from x2i_app.training.sharding import check_sharding, shard_frozen


@dataclass(frozen=True, kw_only=True)
class DistillJob:
    """Train an AlignNet for an MLLM and a FLUX.1 model, from English captions alone.

    The models come one after another: the MLLM and the teacher's text encoders read all captions, what they make of
    them is kept in `output`, and only FLUX's transformer is in memory while AlignNet learns; unless `cache_states` or
    `cache_teacher` is off, for a corpus that no disk can hold so.
    """

    config: Path | None = None
    """YAML file of the options below; flags win over it"""
    output: Path
    """folder of checkpoints, caches, history and the trained align_net"""
    captions: tuple[str, ...]
    """English captions: .txt, .jsonl or .tar files, folders, patterns; commas between"""
    caption_field: str = "caption"
    """field of a caption in JSON"""
    taught_field: str | None = None
    """field of what the teacher reads, where that is something else"""
    max_broken: int = 100
    """samples that may be broken before the run stops"""
    preset: str = "x2i-tiny"
    """whose MLLM and FLUX model, or custom:FAMILY"""
    mllm: str | None = None
    """MLLM: a folder or hub id instead of the preset's"""
    flux: str | None = None
    """FLUX.1 model with its text encoders, instead of the preset's"""
    alignnet: str | None = None
    """AlignNet to start from instead of a fresh one"""
    fusion: Literal["conv", "scale"] = "conv"
    """how a fresh AlignNet merges the MLLM's layers"""
    kernel_size: int = 5
    """of that convolution"""
    cache_states: bool = True
    """keep the MLLM's states on the disk, not the MLLM in memory"""
    cache_teacher: bool = True
    """keep T5's and CLIP's output on the disk, not them in memory"""
    precision: Precision = "full"
    """of FLUX's frozen weights; nf4 takes a quarter of the memory"""
    gradient_checkpointing: bool = True
    """compute FLUX's blocks twice instead of keeping them"""
    shard: bool = False
    """FLUX in parts over all processes, for cards that cannot hold it whole"""
    distill: DistillOptions = field(default_factory=lambda: DistillOptions())
    """what teacher and student are compared on"""
    loop: LoopOptions = field(default_factory=lambda: LoopOptions(steps=12_500, learning_rate=1e-4))
    """how to train"""

    def run(self) -> Path:
        """Train, or go on; the folder of the trained AlignNet, which `--alignnet` takes."""
        if self.shard:
            check_sharding(self.precision)
        device = training_device()
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
        flux_source = self.flux or default_flux(self.preset)
        data = read_captions(self.captions, self.caption_field, Broken(self.max_broken), self.taught_field)
        config = read_flux_config(flux_source)
        # 1. What the frozen models make of the captions, each gone before the next one comes
        states, align_net = self._read_states([each.caption for each in data], config, dtype, device)
        embeddings = self._read_teacher([each.taught for each in data], config, flux_source, dtype, device)
        # 2. FLUX
        flux = FluxParts(*load_flux(flux_source, dtype))
        quantize(flux.transformer, self.precision, device)
        latents = self._read_images(flux, data, device) if self.distill.sigmas == "logit_normal" else None
        if self.gradient_checkpointing:
            flux.transformer.enable_gradient_checkpointing()
        if self.shard:
            blocks = (*flux.transformer.transformer_blocks, *flux.transformer.single_transformer_blocks)
            shard_frozen(flux.transformer.requires_grad_(False), blocks, device)
        # 3. AlignNet
        distill_cached(align_net, flux, states, embeddings, self.output, self.distill, self.loop, latents)
        directory = self.output / "align_net"
        if PartialState().is_main_process:
            align_net.bfloat16().save_pretrained(directory)
        PartialState().wait_for_everyone()
        return directory

    def _read_states(
        self, captions: Sequence[str], config: Mapping[str, Any], dtype: torch.dtype, device: torch.device
    ) -> tuple[CaptionCache | LiveStates, AlignNet]:
        """The MLLM's states, and an AlignNet that fits them."""
        encoder = load_mllm(self.preset, self.mllm, dtype)
        sizes = {"num_states": encoder.num_states, "hidden_size": encoder.hidden_size}
        if self.alignnet:
            align_net = load_alignnet(find_file(self.alignnet).path, **sizes, dtype=torch.float32)
        else:
            align_net = self._fresh_align_net(**sizes, config=config)
        encoder.model.to(device)
        if not self.cache_states:
            return LiveStates(encoder, captions), align_net
        return encode_states(encoder, captions, self.output, cache_dtype(self.loop)), align_net

    def _fresh_align_net(self, num_states: int, hidden_size: int, config: Mapping[str, Any]) -> AlignNet:
        torch.manual_seed(self.loop.seed)
        widths = config["joint_attention_dim"], config["pooled_projection_dim"]
        try:
            return AlignNet(num_states, hidden_size, self.fusion, self.kernel_size, *widths)
        except ValueError as error:
            raise InvalidRequestError(str(error)) from error

    def _read_teacher(
        self,
        captions: Sequence[str],
        config: Mapping[str, Any],
        flux_source: str,
        dtype: torch.dtype,
        device: torch.device,
    ) -> CaptionCache | LiveTeacher:
        teacher = load_teacher(flux_source, dtype)
        check_teacher(teacher, config)
        for part in (teacher.text_encoder, teacher.text_encoder_2):
            part.to(device)
        length = self.distill.max_sequence_length
        if not self.cache_teacher:
            return LiveTeacher(teacher, captions, length)
        return encode_teacher(teacher, captions, self.output, length, cache_dtype(self.loop))

    def _read_images(self, flux: FluxParts, data: Sequence[Captioned], device: torch.device) -> CaptionCache:
        places = [each.image for each in data if each.image]
        if len(places) < len(data):
            raise TrainingError(
                f"{len(data) - len(places)} of {len(data)} captions have no picture beside them, which sigmas: "
                "logit_normal needs; use shards or a folder with a .jpg, .png or .webp of every caption."
            )
        flux.vae.to(device)
        named = {str(place): place for place in places}
        return encode_images(
            flux.vae,
            list(map(str, places)),
            lambda name: open_image(named[name].read()),
            self.output / "latents",
            self.distill.resolution,
            cache_dtype(self.loop),
        )

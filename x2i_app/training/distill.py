"""`train distill`: AlignNet learns to speak to a FLUX transformer as T5 and CLIP do, from English captions alone.

Teacher and student are one transformer, run twice on the same noisy latents: first with T5's and CLIP's embeddings of a
caption, then with AlignNet's of the MLLM's hidden states. The loss is the distance of the outputs of every attention
layer. Training needs neither images nor the MLLM: the states and embeddings of all captions are computed first and kept
on the disk. Source: arXiv 2503.06134, section 3, and its public training code.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate.utils import reduce
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from diffusers.pipelines.flux.pipeline_flux import retrieve_timesteps
from torch.distributed.fsdp import FSDPModule
from torch.nn.attention import SDPBackend, sdpa_kernel

from x2i_app.errors import InvalidRequestError, TrainingError
from x2i_app.limits import Range, clean_numbers
from x2i_app.loading import load_alignnet
from x2i_app.loading.flux import load_flux
from x2i_app.loading.hub import find_file
from x2i_app.loading.sizes import build_skeleton
from x2i_app.models import AlignNet
from x2i_app.specs import Precision
from x2i_app.training.batches import CaptionBatches
from x2i_app.training.caption_data import TrainingCaption, read_captions
from x2i_app.training.checkpoints import check_disk, check_disk_for_checkpoints
from x2i_app.training.encoding import (
    TYPICAL_TOKENS,
    LiveStates,
    LiveTeacher,
    TensorCache,
    encode_latents,
    encode_states,
    encode_teacher,
)
from x2i_app.training.frozen import (
    FluxParts,
    check_sharding,
    check_teacher,
    check_teacher_files,
    default_flux,
    let_gradients_through,
    load_mllm,
    load_teacher,
    preset_of,
    quantize_frozen,
    read_flux_config,
    read_mllm_sizes,
    shard_flux,
)
from x2i_app.training.image_data import leave_out_broken_images, open_image
from x2i_app.training.job import Job, save_trained
from x2i_app.training.loop import LoopOptions, train, training_device
from x2i_app.training.losses import attention_kl, flow_shift, shift_sigmas, tap_attention
from x2i_app.training.preflight import check_drawing_model, check_mllm, check_widths, trained_bytes
from x2i_app.training.reports import Sampler, write_sheet
from x2i_app.training.samples import Broken

_INTEGERS = {
    "batch_size": Range(1, 65536),
    "resolution": Range(16, 8192, 16),
    "num_inference_steps": Range(1, 1000),
    "max_sequence_length": Range(1, 512),
    "samples": Range(1, 64),
}
_NUMBERS = {
    "path_share": Range(0, 1),
    "temperature": Range(1e-6, 1e6),
    "output_weight": Range(0, 1e6),
    "state_noise": Range(0, 10),
}


@dataclass(frozen=True)
class DistillOptions:
    """What teacher and student are compared on. The defaults are the public training code's, except `match_text`."""

    batch_size: int = 1
    """captions for each batch; fewer if fewer have states of one length"""
    resolution: int = 1024
    """side of the noisy latents, in pixels of an image"""
    max_sequence_length: int = 512
    """tokens of T5"""
    temperature: float = 3.0
    """temperature of the distributions that are compared, as in attention_kl"""
    sigmas: Literal["first", "path", "logit_normal"] = "first"
    """noise levels: first, pure noise; path, along the teacher's own way to an image; logit_normal, of images"""
    path_share: float = 1.0
    """with sigmas path: share of the captions that go some steps along it; the others stay at pure noise"""
    num_inference_steps: int = 4
    """steps of the teacher's way, and of sample images"""
    samples: int = 4
    """captions that teacher and student draw at every evaluation"""
    guidance_scale: float = 3.5
    """guidance scale, for transformers that take one"""
    output_weight: float = 0.0
    """weight of the mean squared difference of the predicted velocities, added to the loss"""
    state_noise: float = 0.0
    """noise added to the MLLM's states, as a share of their size; helps with inputs that are unlike any caption"""
    match_text: bool = False
    """compare text rows too; AlignNet and T5 must then give the same number of rows"""

    def __post_init__(self):
        """Raises InvalidRequestError for a value that is not allowed."""
        clean_numbers(self, _INTEGERS, _NUMBERS)
        if self.path_share != 1 and self.sigmas != "path":
            raise InvalidRequestError(
                f"path_share is {self.path_share} and sigmas is {self.sigmas}; path_share needs sigmas: path."
            )


@dataclass(frozen=True, kw_only=True)
class DistillJob(Job):
    """Train an AlignNet for an MLLM and a FLUX.1 model, from English captions alone.

    First the MLLM and the teacher's text encoders encode all captions, one model after the other, and the encodings are
    stored in `output`. Then AlignNet learns, with only FLUX in memory. If the encodings are too large for the disk, set
    `cache_states` or `cache_teacher` to false.
    """

    captions: tuple[str, ...]
    """English captions: .txt, .jsonl or .tar files, folders, patterns; separated by commas"""
    caption_field: str = "caption"
    """field of a caption in JSON"""
    taught_field: str | None = None
    """field of the text for the teacher, if it reads another one"""
    max_broken: int = 100
    """broken samples that are left out before the run stops"""
    preset: str = "x2i-tiny"
    """preset whose MLLM and FLUX model are used, or custom:FAMILY"""
    mllm: str | None = None
    """MLLM: a folder or a hub id instead of the preset's, of any family"""
    flux: str | None = None
    """FLUX.1 model with its text encoders, instead of the preset's"""
    alignnet: str | None = None
    """AlignNet to start from; none: a new one"""
    fusion: Literal["conv", "scale"] = "conv"
    """how a new AlignNet merges the MLLM's layers"""
    kernel_size: int = 5
    """kernel size of that convolution"""
    cache_states: bool = True
    """keep the MLLM's states on the disk; else the MLLM stays in memory"""
    cache_teacher: bool = True
    """keep T5's and CLIP's output on the disk; else they stay in memory"""
    precision: Precision = "full"
    """precision of FLUX's frozen weights; nf4 takes a quarter of the memory"""
    gradient_checkpointing: bool = True
    """compute FLUX's blocks twice instead of keeping their activations"""
    shard: bool = False
    """split FLUX over all processes, for cards that cannot hold it"""
    distill: DistillOptions = field(default_factory=DistillOptions)
    """what teacher and student are compared on"""
    loop: LoopOptions = field(default_factory=lambda: LoopOptions(steps=12_500, learning_rate=1e-4))
    """how to train"""

    def show_plan(self) -> str:
        """What a step needs, for two precisions of FLUX's weights."""
        from x2i_app.training.plan import plan_distillation, show_distillation

        parts = build_skeleton(self.preset, self.mllm, self.flux)
        return show_distillation(plan_distillation(parts, self.distill, self.gradient_checkpointing))

    def run(self) -> Path:
        """Train, or continue a run; the folder of the trained AlignNet, which `--alignnet` takes."""
        if self.shard:
            check_sharding(self.precision)
        device = training_device()
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
        cached_dtype = torch.bfloat16 if self.loop.precision(device) == "bf16" else torch.float32

        # 1. Captions
        broken = Broken(self.max_broken)
        data = read_captions(self.captions, self.caption_field, broken, self.taught_field)
        if self.distill.sigmas == "logit_normal":
            data = self._with_images(data, broken)
        captions, taught = [each.caption for each in data], [each.taught for each in data]
        flux_source = self.flux or default_flux(self.preset)
        flux_config = read_flux_config(flux_source)

        # 2. What is wrong with the models or the disk is said before a large model is read; then a new AlignNet
        align_net = self._check_models(flux_source, flux_config)
        self._check_disk(len(data), flux_config, cached_dtype, align_net)

        # 3. The MLLM's hidden states of the captions
        encoder = load_mllm(preset_of(self.preset, self.mllm), self.mllm, dtype)
        encoder.model.to(device)
        if self.cache_states:
            states = encode_states(encoder, captions, self.output, cached_dtype)
        else:
            states = LiveStates(encoder, captions)
        del encoder  # one large model at a time

        # 4. T5's and CLIP's embeddings of the captions
        teacher = load_teacher(flux_source, dtype).to(device)
        length = self.distill.max_sequence_length
        if self.cache_teacher:
            embeddings = encode_teacher(teacher, taught, self.output, length, cached_dtype)
        else:
            embeddings = LiveTeacher(teacher, taught, length)
        del teacher

        # 5. FLUX
        flux = FluxParts(*load_flux(flux_source, dtype))
        quantize_frozen(flux.transformer, self.precision, device)
        latents = None
        if self.distill.sigmas == "logit_normal":
            flux.vae.to(device)
            latents = self._encode_images(flux, data, cached_dtype)
        if self.gradient_checkpointing:
            flux.transformer.enable_gradient_checkpointing()
        if self.shard:
            shard_flux(flux.transformer, device)

        # 6. Train AlignNet and save it
        distill(align_net, flux, states, embeddings, self.output, self.distill, self.loop, latents)
        return save_trained(align_net, self.output / "align_net")

    def _check_models(self, flux_source: str, flux_config: Mapping[str, Any]) -> AlignNet:
        """The AlignNet to train, on the CPU, after the files of all models were checked. Raises X2IError's kinds."""
        preset = preset_of(self.preset, self.mllm)
        align_net = self._align_net(*read_mllm_sizes(preset, self.mllm), flux_config)
        check_drawing_model(flux_source)
        check_mllm(preset, self.mllm)
        check_teacher(check_teacher_files(flux_source), flux_config)
        return align_net

    def _check_disk(self, count: int, flux_config: Mapping[str, Any], dtype: torch.dtype, align_net: AlignNet) -> None:
        """Raise TrainingError if what is kept of the captions or the checkpoints do not fit the disk."""
        check_disk_for_checkpoints(self.output, trained_bytes(align_net), self.loop.keep)
        states, width = read_mllm_sizes(preset_of(self.preset, self.mllm), self.mllm)
        needed = 0
        if self.cache_states:
            needed += states * width * TYPICAL_TOKENS
        if self.cache_teacher:
            needed += self.distill.max_sequence_length * flux_config["joint_attention_dim"]
        kept = sum(file.stat().st_size for name in ("states", "teacher") for file in self.output.glob(f"{name}/*"))
        needed = count * needed * dtype.itemsize - kept
        check_disk(self.output, needed, "The encoded captions (cache_states and cache_teacher: false keep none)")

    def _align_net(self, num_states: int, hidden_size: int, flux_config: Mapping[str, Any]) -> AlignNet:
        """The AlignNet to start from, or a new one."""
        widths = flux_config["joint_attention_dim"], flux_config["pooled_projection_dim"]
        if self.alignnet:
            path = find_file(self.alignnet).path
            align_net = load_alignnet(path, num_states=num_states, hidden_size=hidden_size, dtype=torch.float32)
            check_widths(path, align_net, widths)
            return align_net.requires_grad_(True)
        torch.manual_seed(self.loop.seed)
        try:
            return AlignNet(num_states, hidden_size, self.fusion, self.kernel_size, *widths)
        except ValueError as error:
            raise InvalidRequestError(str(error)) from error

    def _with_images(self, data: Sequence[TrainingCaption], broken: Broken) -> list[TrainingCaption]:
        """The captions whose images can be opened. Raises TrainingError if one has no image, or too many are broken."""
        without = sum(each.image is None for each in data)
        if without:
            raise TrainingError(
                f"{without} of {len(data)} captions have no image beside them, which sigmas: logit_normal needs; use "
                "shards or a folder with a .jpg, .png or .webp for every caption."
            )
        return leave_out_broken_images(data, broken)

    def _encode_images(self, flux: FluxParts, data: Sequence[TrainingCaption], dtype: torch.dtype) -> TensorCache:
        spans = [each.image for each in data]
        named = {str(span): span for span in spans}
        names = list(map(str, spans))
        resolution = self.distill.resolution
        return encode_latents(
            flux.vae, names, lambda name: open_image(named[name].read()), self.output, resolution, dtype
        )


def distill(
    align_net: AlignNet,
    flux: FluxParts,
    states: TensorCache | LiveStates,
    embeddings: TensorCache | LiveTeacher,
    directory: Path,
    options: DistillOptions,
    loop_options: LoopOptions,
    latents: TensorCache | None = None,
) -> None:
    """Train an AlignNet in place, resumably, from what the MLLM and the teacher made of the same captions.

    flux: its transformer is frozen and moved to accelerate's device, in its own dtype. latents: of images beside the
    captions, which `sigmas: logit_normal` needs. directory: for checkpoints, history and, if there are evaluations,
    sheets of what teacher and student draw.
    Raises TrainingError as `train` does, and for text lengths that differ under `match_text`.
    """
    if (latents is None) == (options.sigmas == "logit_normal"):
        raise TrainingError("sigmas: logit_normal needs images beside the captions, and nothing else takes them.")
    device = training_device()
    batches = CaptionBatches(states, embeddings, options.batch_size, loop_options.seed, latents)
    flux.transformer.requires_grad_(False).eval()
    if flux.transformer.device != device:
        flux.transformer.to(device)
    loss = DistillationLoss(flux, options, device)

    def compute_loss(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return loss(model, batches.complete(batch))

    evaluate = DistillSamples(flux, batches, options, directory, device) if loop_options.evaluate_every else None
    own_dtype = align_net.dtype
    align_net.float().requires_grad_(True)  # small steps vanish in bfloat16
    try:
        train(align_net, batches, compute_loss, directory, loop_options, title="AlignNet", evaluate=evaluate)
    finally:
        align_net.requires_grad_(False).eval()
        if own_dtype != align_net.dtype:
            align_net.to(own_dtype)


class DistillationLoss:
    """The loss of a batch of captions: the distance of teacher and student, one transformer run twice."""

    def __init__(self, flux: FluxParts, options: DistillOptions, device: torch.device):
        self.transformer = flux.transformer
        self.options = options
        self.device = device
        self.scheduler = FlowMatchEulerDiscreteScheduler.from_config(flux.scheduler.config)
        # FLUX packs two by two latents into a token; each latent is `scale` pixels wide.
        scale = 2 ** (len(flux.vae.config.block_out_channels) - 1)
        side = options.resolution // (2 * scale)
        dtype = self.transformer.dtype
        self.img_ids = FluxPipeline._prepare_latent_image_ids(1, side, side, device, dtype)
        self.streams = ("image", "text") if options.match_text else ("image",)
        let_gradients_through(self.transformer)

    def __call__(self, align_net: torch.nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Terms of the loss. batch: of CaptionBatches, complete."""
        device, dtype = self.device, self.transformer.dtype
        prompt_embeds, pooled = batch["prompt_embeds"].to(device, dtype), batch["pooled"].to(device, dtype)
        hidden_states = batch["hidden_states"].to(device, torch.float32)
        self._check_lengths(hidden_states.shape[2], prompt_embeds.shape[1])

        # 1. The teacher's run. Its attention outputs wait here until the student's run has its own.
        waiting: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            latents, timestep = self._noisy_latents(batch.get("latents"), prompt_embeds, pooled)
            with tap_attention(self.transformer, lambda name, _, output: waiting.update({name: output}), self.streams):
                teacher_velocity = self._predict(latents, timestep, prompt_embeds, pooled)

        # 2. The student's run: every attention output is compared as it appears.
        layers: dict[str, torch.Tensor] = {}

        def compare(name: str, _: str, output: torch.Tensor) -> None:
            layers[name] = attention_kl(waiting.pop(name), output, self.options.temperature)

        prompt_embeds, pooled = align_net(self._with_noise(hidden_states))
        with tap_attention(self.transformer, compare, self.streams), self._fast_backward():
            velocity = self._predict(latents, timestep, prompt_embeds.to(dtype), pooled.to(dtype))

        # 3. The sum over the layers, unless one is not finite: the loop then needs its name.
        losses = torch.stack(list(layers.values()))
        terms = {"attention": losses.sum()} if losses.isfinite().all() else layers
        if self.options.output_weight:
            error = torch.nn.functional.mse_loss(velocity.float(), teacher_velocity.float())
            terms["output"] = self.options.output_weight * error
        return terms

    def _with_noise(self, states: torch.Tensor) -> torch.Tensor:
        """The MLLM's states (B, L, S, H), with noise in proportion to the size of each layer.

        There are fewer captions than inputs later, and none with images or audio: what is near a caption's states must
        mean nearly the same.
        """
        if not self.options.state_noise:
            return states
        size = states.square().mean(dim=(2, 3), keepdim=True).sqrt()
        return states + self.options.state_noise * size * torch.randn_like(states)

    def _check_lengths(self, ours: int, theirs: int) -> None:
        if self.options.match_text and ours != theirs:
            raise TrainingError(
                f"AlignNet gives {ours} text rows and T5 {theirs}, but match_text compares each with each; pad the "
                "MLLM's tokens to max_sequence_length, or leave match_text off."
            )

    def _noisy_latents(
        self, images: torch.Tensor | None, prompt_embeds: torch.Tensor, pooled: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents (B, tokens, channels) and the timestep (B,), 0-1000, of each."""
        if self.options.sigmas != "logit_normal":
            return self._along_path(prompt_embeds, pooled)
        images = FluxPipeline._pack_latents(images.to(self.device), *images.shape)
        sigmas = torch.sigmoid(torch.randn(len(images), 1, 1, device=self.device))
        sigmas = shift_sigmas(sigmas, images.shape[1], self.scheduler.config)
        noisy = (1 - sigmas) * images + sigmas * torch.randn_like(images)
        return noisy.to(self.transformer.dtype), 1000 * sigmas.flatten()

    def _along_path(self, prompt_embeds: torch.Tensor, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents (B, tokens, channels) on the teacher's way from noise to an image, and the timestep (B,) of each."""
        count, tokens, options = len(pooled), len(self.img_ids), self.options
        channels = self.transformer.config.in_channels
        latents = torch.randn(count, tokens, channels, device=self.device).to(self.transformer.dtype)
        timesteps = self._timesteps(tokens)
        on_path = torch.rand(count) < (options.path_share if options.sigmas == "path" else 0)
        # Most steps first, so that the latents that have steps left are in front.
        steps = (torch.randint(options.num_inference_steps, (count,)) * on_path).sort(descending=True).values
        for step, time in enumerate(timesteps[: self._most_steps(steps[0])]):
            moving = slice(max(1, int((steps > step).sum())))
            velocity = self._predict(latents[moving], time.expand(moving.stop), prompt_embeds[moving], pooled[moving])
            if step < steps[0]:
                latents[moving] = self.scheduler.step(velocity, time, latents[moving], return_dict=False)[0]
        return latents, timesteps[steps.to(timesteps.device)]

    def _most_steps(self, steps: torch.Tensor) -> int:
        """Of all processes if FLUX is sharded: it then runs in all of them or in none."""
        if isinstance(self.transformer, FSDPModule):
            steps = reduce(steps.to(self.device), "max")
        return int(steps)

    def _timesteps(self, tokens: int) -> torch.Tensor:
        """The timesteps (0-1000) at which FluxPipeline would call the transformer; resets the scheduler."""
        config, steps = self.scheduler.config, self.options.num_inference_steps
        mu = flow_shift(config, tokens)
        sigmas = None if config.get("use_flow_sigmas") else np.linspace(1.0, 1 / steps, steps)
        timesteps, _ = retrieve_timesteps(self.scheduler, steps, self.device, sigmas=sigmas, mu=mu)
        self.scheduler.set_begin_index(0)
        return timesteps

    def _predict(
        self, latents: torch.Tensor, timestep: torch.Tensor, prompt_embeds: torch.Tensor, pooled: torch.Tensor
    ) -> torch.Tensor:
        """The velocity (B, tokens, channels), as FluxPipeline calls the transformer."""
        guidance = None
        if self.transformer.config.guidance_embeds:
            guidance = torch.full((len(latents),), self.options.guidance_scale, device=self.device)
        return self.transformer(
            hidden_states=latents,
            timestep=timestep.to(latents.dtype) / 1000,
            guidance=guidance,
            pooled_projections=pooled,
            encoder_hidden_states=prompt_embeds,
            txt_ids=self.img_ids.new_zeros(prompt_embeds.shape[1], 3),
            img_ids=self.img_ids,
            return_dict=False,
        )[0]

    def _fast_backward(self) -> AbstractContextManager:
        """On a CPU, the backward pass of PyTorch's flash attention takes twice as long as plain attention's."""
        # Checkpointing runs blocks again outside of this context, and must then use the same kernel.
        plain = self.device.type == "cpu" and not self.transformer.gradient_checkpointing
        return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()


class DistillSamples:
    """Writes a sheet of what teacher and student draw of the first captions, each from the noise of its own seed."""

    def __init__(
        self, flux: FluxParts, batches: CaptionBatches, options: DistillOptions, directory: Path, device: torch.device
    ):
        self.batches, self.directory, self.device = batches, directory, device
        self.draw = Sampler(flux, device, options.resolution, options.num_inference_steps, options.guidance_scale)
        self.captions = batches.states.keys[: options.samples]
        self._teacher_images: list = []

    def __call__(self, align_net: torch.nn.Module, step: int) -> dict[str, Any]:
        """`evaluate` of the loop."""
        batches = [self.batches.complete(self.batches.read([index])) for index in range(len(self.captions))]
        if not self._teacher_images:
            self._teacher_images = [self.draw(i, b["prompt_embeds"], b["pooled"]) for i, b in enumerate(batches)]
        states = (batch["hidden_states"].to(self.device, torch.float32) for batch in batches)
        student = [self.draw(index, *align_net(each)) for index, each in enumerate(states)]
        rows = {"teacher": self._teacher_images, f"student, step {step}": student}
        return {"samples": write_sheet(self.directory, step, self.captions, rows)}

"""X2IPipeline: text, images, videos and audio in, images out, with one of diffusers' FLUX pipelines."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from accelerate.hooks import CpuOffload, add_hook_to_module, remove_hook_from_module
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from diffusers.utils import BaseOutput
from PIL import Image
from transformers import PreTrainedModel, ProcessorMixin

from x2i_app.encoders import HiddenStates, MLLMEncoder, encoder_class
from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.inpainting import choose_flux_pipeline, restore_unmasked
from x2i_app.limits import LIMITS, Range, validate_integer, validate_number
from x2i_app.media import InpaintSource, load_image
from x2i_app.models import AlignNet, LightControl, controlled
from x2i_app.presets import get_family
from x2i_app.request import NO_LIGHT_CONTROL, Turn
from x2i_app.specs import EncodingSpec

# Checked here, because diffusers would round sizes silently, or fail late.
_ALLOWED = {
    "width": Range(16, 8192, 16),
    "height": Range(16, 8192, 16),
    "num_inference_steps": Range(1, 1000),
    "num_images_per_prompt": Range(1, 1000),
}


@dataclass(frozen=True)
class Conditioning:
    """The embeddings that FLUX.1 reads instead of the outputs of T5 and CLIP.

    prompt_embeds: (B, S, joint_dim). pooled_prompt_embeds: (B, pooled_dim). answer: what the MLLM answered, None if it
    was not asked. notes: sentences to show to the user.
    """

    prompt_embeds: torch.Tensor
    pooled_prompt_embeds: torch.Tensor
    answer: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def embeds(self) -> dict[str, torch.Tensor]:
        """The two embeddings as keyword arguments of diffusers' FLUX pipelines."""
        return {"prompt_embeds": self.prompt_embeds, "pooled_prompt_embeds": self.pooled_prompt_embeds}


@dataclass
class X2IPipelineOutput(BaseOutput):
    """images: PIL images, or the type given by `output_type`. answer, notes: as in Conditioning."""

    images: list[Image.Image]
    answer: str | None = None
    notes: tuple[str, ...] = ()


class X2IPipeline(DiffusionPipeline):
    """FLUX.1 with a multimodal LLM as its text encoder, so that it reads text, images, videos and audio.

    transformer, vae, scheduler: of any FLUX.1 model. align_net: trained for `mllm`. mllm, processor: a transformers
    model of `family` and its processor. encoding: fields of an EncodingSpec; None uses the family's.
    light_control: keeps generated images close to a source image; None if none was trained for this FLUX model.

    T5 and CLIP are not used. Raises CheckpointError if AlignNet or LightControl do not match the MLLM or FLUX.
    """

    model_cpu_offload_seq = "mllm->align_net->transformer->vae"
    _optional_components = ["light_control"]  # noqa: RUF012 (diffusers' own name and kind)
    _exclude_from_cpu_offload = ["light_control"]  # noqa: RUF012 (small, and used in every step)

    def __init__(
        self,
        transformer: FluxTransformer2DModel,
        vae: AutoencoderKL,
        scheduler: FlowMatchEulerDiscreteScheduler,
        align_net: AlignNet,
        mllm: PreTrainedModel,
        processor: ProcessorMixin,
        family: str = "qwen2.5-vl",
        encoding: dict[str, Any] | None = None,
        light_control: LightControl | None = None,
    ):
        super().__init__()
        self.register_modules(
            transformer=transformer,
            vae=vae,
            scheduler=scheduler,
            align_net=align_net,
            mllm=mllm,
            processor=processor,
            light_control=light_control,
        )
        spec = EncodingSpec.from_dict(encoding) if encoding else get_family(family)
        self.register_to_config(family=family, encoding=asdict(spec))
        self._encoder = encoder_class(family)(mllm, processor, spec)
        self._check_sizes()

    @classmethod
    def from_encoder(
        cls,
        encoder: MLLMEncoder,
        align_net: AlignNet,
        transformer: FluxTransformer2DModel,
        vae: AutoencoderKL,
        scheduler: FlowMatchEulerDiscreteScheduler,
        light_control: LightControl | None = None,
    ) -> "X2IPipeline":
        """Build a pipeline from an encoder and the other components."""
        return cls(
            transformer=transformer,
            vae=vae,
            scheduler=scheduler,
            align_net=align_net,
            mllm=encoder.model,
            processor=encoder.processor,
            family=encoder.family,
            encoding=asdict(encoder.spec),
            light_control=light_control,
        )

    @property
    def encoder(self) -> MLLMEncoder:
        """The MLLM as an encoder."""
        return self._encoder

    def drawing_pipeline(self, cls: type[DiffusionPipeline] = FluxPipeline, **components: Any) -> DiffusionPipeline:
        """One of diffusers' FLUX pipelines with the same transformer, VAE and scheduler, without text encoders.

        cls: FluxPipeline, FluxImg2ImgPipeline, FluxInpaintPipeline, FluxFillPipeline, FluxControlNetPipeline ...
        components: further components (controlnet=...), or replacements (transformer=... of FLUX.1 Fill).
        All of them accept a Conditioning: `fill(**conditioning.embeds, image=image, mask_image=mask)`.
        """
        shared = {"transformer": self.transformer, "vae": self.vae, "scheduler": self.scheduler}
        text_encoders = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
        pipeline = cls(**shared | text_encoders | components)
        pipeline.set_progress_bar_config(**getattr(self, "_progress_bar_config", {}))
        return pipeline

    @torch.no_grad()
    def encode(
        self,
        prompt: str = "",
        images: Sequence[Any] = (),
        videos: Sequence[Any] = (),
        audios: Sequence[Any] = (),
        history: Sequence[Turn] = (),
        reason: bool = False,
    ) -> Conditioning:
        """Encode a conversation for FLUX.1 (B = 1). Inputs as in GenerationRequest, errors as in MLLMEncoder.encode."""
        if isinstance(hook := getattr(self.mllm, "_hf_hook", None), CpuOffload):
            hook.pre_forward(self.mllm)  # the encoder may call submodules, which have no hooks of their own
        states = self._encoder.encode(prompt, images, videos, audios, history, reason=reason)
        if self._encoder.model is not self.mllm:
            self._replace_mllm()
        return self.align(states)

    @torch.no_grad()
    def align(self, states: HiddenStates) -> Conditioning:
        """Project the MLLM's hidden states (B, L, S, H) to FLUX.1's embeddings with AlignNet."""
        hidden_states = states.hidden_states.to(self._execution_device, self.align_net.dtype)
        prompt_embeds, pooled_prompt_embeds = self.align_net(hidden_states)
        dtype = self.transformer.dtype
        return Conditioning(prompt_embeds.to(dtype), pooled_prompt_embeds.to(dtype), states.answer, states.notes)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str = "",
        images: Sequence[Any] = (),
        videos: Sequence[Any] = (),
        audios: Sequence[Any] = (),
        history: Sequence[Turn] = (),
        reason: bool = False,
        width: int | None = None,
        height: int | None = None,
        num_inference_steps: int = 4,
        guidance_scale: float = 3.5,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        callback_on_step_end: Callable[..., dict] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        conditioning: Conditioning | None = None,
        control_image: Any = None,
        control_strength: float = 1.0,
        control_start: float = 0.0,
        control_end: float = 1.0,
        inpaint_source: InpaintSource | None = None,
        strength: float | None = None,
    ) -> X2IPipelineOutput:
        """Generate images.

        prompt, images, videos, audios, history, reason: the conversation, as in GenerationRequest.
        conditioning: result of an earlier `encode`; the conversation is then ignored.
        width, height: pixels, multiples of 16; None uses the FLUX model's own size, or that of `inpaint_source`.
        num_images_per_prompt: images generated as one batch.
        control_image: the image that LightControl stays close to; control_strength, control_start, control_end: as
        `strength`, `start` and `end` of `control`.
        inpaint_source: an image to change, cropped to the aspect ratio of width and height; pixels where its mask is 0
        stay exactly as they are if the output is PIL. strength: how much it changes, 0 to 1; None means 1.
        The other arguments are as in diffusers' FluxPipeline. If a callback raises, denoising stops after that step
        and nothing is decoded.
        Raises InvalidRequestError for a number that is not allowed, and what `encode` raises.
        """
        # 1. Check the arguments
        numbers = (width, height, num_inference_steps, num_images_per_prompt)
        for (name, allowed), value in zip(_ALLOWED.items(), numbers, strict=True):
            if value is not None:
                validate_integer(name, value, allowed)
        control = nullcontext()
        if control_image is not None:
            control = self.control(control_image, control_strength, control_start, control_end)
        # 2. Encode the conversation
        if conditioning is None:
            conditioning = self.encode(prompt, images, videos, audios, history, reason)
        prompt_embeds, pooled_prompt_embeds = (
            embeds.repeat_interleave(num_images_per_prompt, dim=0) for embeds in conditioning.embeds.values()
        )
        # 3. Choose the FLUX pipeline
        if inpaint_source:
            width, height = width or inpaint_source.image.width, height or inpaint_source.image.height
            inpaint_source = inpaint_source.fitted(width, height)
        flux_class, image_arguments = choose_flux_pipeline(self.transformer, inpaint_source, strength)
        # 4. Denoise and decode
        try:
            with control:
                output = self.drawing_pipeline(flux_class)(
                    **image_arguments,
                    prompt_embeds=prompt_embeds,
                    pooled_prompt_embeds=pooled_prompt_embeds,
                    width=width,
                    height=height,
                    num_inference_steps=num_inference_steps,
                    guidance_scale=guidance_scale,
                    generator=generator,
                    latents=latents,
                    output_type=output_type,
                    callback_on_step_end=callback_on_step_end,
                    callback_on_step_end_tensor_inputs=list(callback_on_step_end_tensor_inputs),
                )
        finally:
            self.maybe_free_model_hooks()
        # 5. Restore the pixels outside the mask
        if inpaint_source and inpaint_source.mask and output_type == "pil":
            output.images = [restore_unmasked(image, inpaint_source) for image in output.images]
        return X2IPipelineOutput(images=output.images, answer=conditioning.answer, notes=conditioning.notes)

    def control(
        self, image: Any, strength: float = 1.0, start: float = 0.0, end: float = 1.0
    ) -> AbstractContextManager[None]:
        """Context manager in which LightControl keeps every pipeline with this transformer close to an image.

        image: as in GenerationRequest; center-cropped to the aspect ratio of the output. strength: 0 to 2; 0 has no
        effect, 1 is as trained. start, end: the part of the steps, 0 to 1, in which it is active.
        Raises InvalidRequestError for a number that is not allowed, or if the pipeline has no LightControl.
        """
        if self.light_control is None:
            raise InvalidRequestError(NO_LIGHT_CONTROL)
        validate_number("control_strength", strength, LIMITS.control_strength)
        for name, value in (("control_start", start), ("control_end", end)):
            validate_number(name, value, Range(0, 1))
        return controlled(self.transformer, self.scheduler, self.light_control, load_image(image), strength, start, end)

    def _replace_mllm(self):
        """Register the encoder's new model, which got a head for its first answer, and move the offload hook to it."""
        hook = getattr(self.mllm, "_hf_hook", None)
        if hook:
            remove_hook_from_module(self.mllm)
            add_hook_to_module(self._encoder.model, hook)
            self.align_net._hf_hook.prev_module_hook.model = self._encoder.model
        self.register_modules(mllm=self._encoder.model)

    def _check_sizes(self):
        align_net, encoder, flux = self.align_net.config, self._encoder, self.transformer.config
        if (align_net.num_states, align_net.hidden_size) != (encoder.num_states, encoder.hidden_size):
            raise CheckpointError(
                f"This AlignNet expects {align_net.num_states} states of width {align_net.hidden_size}, but the MLLM "
                f"has {encoder.num_states} of width {encoder.hidden_size}; use the AlignNet trained for this MLLM."
            )
        if (align_net.joint_dim, align_net.pooled_dim) != (flux.joint_attention_dim, flux.pooled_projection_dim):
            raise CheckpointError(
                f"This AlignNet outputs embeddings of width {align_net.joint_dim} and {align_net.pooled_dim}, but the "
                f"FLUX model expects {flux.joint_attention_dim} and {flux.pooled_projection_dim}; use matching parts."
            )
        control, blocks = self.light_control and self.light_control.config, len(self.transformer.transformer_blocks)
        if control and (control.dim != self.transformer.inner_dim or control.num_blocks > blocks):
            raise CheckpointError(
                f"This LightControl is for {control.num_blocks} double blocks of width {control.dim}, but the FLUX "
                f"model has {blocks} of width {self.transformer.inner_dim}; use the LightControl trained for it."
            )

"""X2IPipeline: anything in, a picture out. Encode, align, denoise with diffusers' own FLUX pipeline."""

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
from x2i_app.inpainting import choose_pipeline, keep_the_rest
from x2i_app.limits import LIMITS, Range, validate_integer, validate_number
from x2i_app.media import Painting, load_image
from x2i_app.models import AlignNet, LightControl, controlled
from x2i_app.presets import get_family
from x2i_app.request import NO_LIGHT_CONTROL, Turn
from x2i_app.specs import EncodingSpec

# What diffusers would round, or fail on, without a word.
_ALLOWED = {
    "width": Range(16, 8192, 16),
    "height": Range(16, 8192, 16),
    "num_inference_steps": Range(1, 1000),
    "num_images_per_prompt": Range(1, 1000),
}


@dataclass(frozen=True)
class Conditioning:
    """What FLUX.1 reads instead of T5's and CLIP's output.

    prompt_embeds: (B, S, joint). pooled_prompt_embeds: (B, pooled). answer: what the MLLM said, if it was asked.
    notes: sentences that the user should read.
    """

    prompt_embeds: torch.Tensor
    pooled_prompt_embeds: torch.Tensor
    answer: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def embeds(self) -> dict[str, torch.Tensor]:
        """The two embeddings under the names by which every FLUX pipeline of diffusers takes them."""
        return {"prompt_embeds": self.prompt_embeds, "pooled_prompt_embeds": self.pooled_prompt_embeds}


@dataclass
class X2IPipelineOutput(BaseOutput):
    """images: list of PIL images (or what `output_type` asked for). answer, notes: as in Conditioning."""

    images: list[Image.Image]
    answer: str | None = None
    notes: tuple[str, ...] = ()


class X2IPipeline(DiffusionPipeline):
    """A text-to-image FLUX.1 that reads text, images, video and sound through a multimodal LLM.

    transformer, vae, scheduler: of any FLUX.1 model. align_net: trained for `mllm`. mllm, processor: a transformers
    model of `family` and its processor. encoding: how it is fed, an EncodingSpec's fields; None takes the family's.
    light_control: keeps what an instruction leaves alone of a picture; None where none is trained for this FLUX.

    T5 and CLIP have no place here. Raises CheckpointError if AlignNet or LightControl do not fit the MLLM or FLUX.
    """

    model_cpu_offload_seq = "mllm->align_net->transformer->vae"
    _optional_components = ["light_control"]  # noqa: RUF012 (diffusers' own name and kind)
    _exclude_from_cpu_offload = ["light_control"]  # noqa: RUF012 (small, and every step needs it)

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
        self._check_fit()

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
        """From parts as they are loaded one by one."""
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
        """One of diffusers' FLUX pipelines over the same transformer, VAE and scheduler, without text encoders.

        cls: FluxPipeline, FluxImg2ImgPipeline, FluxInpaintPipeline, FluxFillPipeline, FluxControlNetPipeline ...
        components: what else it needs (controlnet=...), or has of its own (Fill's transformer=...).
        Conditioning goes into any of them: `fill(**conditioning.embeds, image=picture, mask_image=mask)`.
        """
        shared = {"transformer": self.transformer, "vae": self.vae, "scheduler": self.scheduler}
        nothing = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
        pipeline = cls(**shared | nothing | components)
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
        """What FLUX.1 will read of a conversation (B = 1). Inputs as in GenerationRequest; errors as in MLLMEncoder."""
        if isinstance(hook := getattr(self.mllm, "_hf_hook", None), CpuOffload):
            hook.pre_forward(self.mllm)  # whole: an encoder calls parts of it, which have no hooks
        states = self._encoder.encode(prompt, images, videos, audios, history, reason=reason)
        if self._encoder.model is not self.mllm:
            self._follow_head()
        return self.align(states)

    @torch.no_grad()
    def align(self, states: HiddenStates) -> Conditioning:
        """What FLUX.1 will read of the MLLM's states (B, L, S, H)."""
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
        painting: Painting | None = None,
        strength: float | None = None,
    ) -> X2IPipelineOutput:
        """Draw.

        conditioning: of an earlier `encode`; the conversation is then not looked at again.
        width, height: pixels, multiples of 16; None takes the model's own. num_images_per_prompt: pictures drawn as one
        batch. control_image: what LightControl keeps to; the other three as in `control`.
        painting: a picture to paint on, cut to width and height; what its mask leaves alone stays as it is to the pixel
        where PIL images come out. strength: how much of it is drawn anew, 0 to 1; None: all that is painted.
        The rest is as in diffusers' FluxPipeline; a callback that raises stops within the step, undecoded.
        Raises InvalidRequestError for a number that is not allowed, and what `encode` raises.
        """
        # 1. Check
        numbers = (width, height, num_inference_steps, num_images_per_prompt)
        for (name, allowed), value in zip(_ALLOWED.items(), numbers, strict=True):
            if value is not None:
                validate_integer(name, value, allowed)
        control = nullcontext()
        if control_image is not None:
            control = self.control(control_image, control_strength, control_start, control_end)
        # 2. Understand
        if conditioning is None:
            conditioning = self.encode(prompt, images, videos, audios, history, reason)
        # 3. Denoise and decode
        if painting:
            width, height = width or painting.image.width, height or painting.image.height
            painting = painting.fitted(width, height)
        pipeline_class, more = choose_pipeline(self.transformer, painting, strength)
        with control:
            output = self.drawing_pipeline(pipeline_class)(
                **more,
                prompt_embeds=conditioning.prompt_embeds.repeat_interleave(num_images_per_prompt, dim=0),
                pooled_prompt_embeds=conditioning.pooled_prompt_embeds.repeat_interleave(num_images_per_prompt, dim=0),
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
        self.maybe_free_model_hooks()
        if painting and painting.mask and output_type == "pil":
            output.images = [keep_the_rest(image, painting) for image in output.images]
        return X2IPipelineOutput(images=output.images, answer=conditioning.answer, notes=conditioning.notes)

    def control(
        self, image: Any, strength: float = 1.0, start: float = 0.0, end: float = 1.0
    ) -> AbstractContextManager[None]:
        """A `with` block in which LightControl keeps any pipeline over this transformer to a picture.

        image: as in GenerationRequest; cut around its middle to the shape of what is drawn. strength: 0 to 2; 0 changes
        nothing, 1 is as trained. start, end: the part of the steps, 0 to 1, in which it speaks.
        Raises InvalidRequestError for a number that is not allowed, and where there is no LightControl.
        """
        if self.light_control is None:
            raise InvalidRequestError(NO_LIGHT_CONTROL)
        validate_number("control_strength", strength, LIMITS.control_strength)
        part = [validate_number(name, value, Range(0, 1)) for name, value in (("start", start), ("end", end))]
        return controlled(self.transformer, self.scheduler, self.light_control, load_image(image), strength, *part)

    def _follow_head(self):
        """The encoder puts a head on the MLLM when an answer is first asked for; the component follows.

        So does what brings it to the card and takes it away.
        """
        hook = getattr(self.mllm, "_hf_hook", None)
        if hook:
            remove_hook_from_module(self.mllm)
            add_hook_to_module(self._encoder.model, hook)
            self.align_net._hf_hook.prev_module_hook.model = self._encoder.model
        self.register_modules(mllm=self._encoder.model)

    def _check_fit(self):
        align_net, encoder, flux = self.align_net.config, self._encoder, self.transformer.config
        if (align_net.num_states, align_net.hidden_size) != (encoder.num_states, encoder.hidden_size):
            raise CheckpointError(
                f"This AlignNet reads {align_net.num_states} states of width {align_net.hidden_size}, but the MLLM "
                f"gives {encoder.num_states} of width {encoder.hidden_size}; use the AlignNet trained for it."
            )
        if (align_net.joint_dim, align_net.pooled_dim) != (flux.joint_attention_dim, flux.pooled_projection_dim):
            raise CheckpointError(
                f"This AlignNet writes embeddings of width {align_net.joint_dim} and {align_net.pooled_dim}, but FLUX "
                f"reads {flux.joint_attention_dim} and {flux.pooled_projection_dim}; use parts of one size."
            )
        control, blocks = self.light_control and self.light_control.config, len(self.transformer.transformer_blocks)
        if control and (control.dim != self.transformer.inner_dim or control.num_blocks > blocks):
            raise CheckpointError(
                f"This LightControl is for {control.num_blocks} double blocks of width {control.dim}, but FLUX has "
                f"{blocks} of width {self.transformer.inner_dim}; use the one trained for it."
            )

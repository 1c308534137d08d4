"""X2IPipeline: text, images, videos and audio in, images out, with one of diffusers' FLUX pipelines."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from accelerate.hooks import CpuOffload, add_hook_to_module, remove_hook_from_module
from PIL import Image
from transformers import PreTrainedModel, ProcessorMixin

from x2i_app.quiet import quiet_import

with quiet_import():  # diffusers imports bitsandbytes
    from diffusers import (
        AutoencoderKL,
        DiffusionPipeline,
        FlowMatchEulerDiscreteScheduler,
        FluxControlNetModel,
        FluxPipeline,
        FluxTransformer2DModel,
    )
    from diffusers.utils import BaseOutput

from x2i_app.controlnet import (
    FAST_AND_CONTROLNET,
    NEGATIVE_AND_CONTROLNET,
    NO_CONTROLNET,
    ControlNetInput,
)
from x2i_app.encoders import HiddenStates, MLLMEncoder, encoder_class
from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.inpainting import add_controlnet, check_controlnet, choose_flux_pipeline, needs_mask
from x2i_app.limits import LIMITS, Range, validate_integer, validate_number
from x2i_app.media import InpaintSource, load_image
from x2i_app.media.inpaint_source import drawing_size
from x2i_app.models import AlignNet, LightControl, cached_blocks, controlled, negative_rows
from x2i_app.notebook import as_html, as_png
from x2i_app.notes import of_negative
from x2i_app.presets import get_family, similar_flux
from x2i_app.prompts import plain_prompt
from x2i_app.request import (
    FAST_AND_CONTROL,
    NO_LIGHT_CONTROL,
    NO_REFERENCE,
    TRUE_CFG_SCALE,
    Turn,
    needs_negative_prompt,
    no_negative_prompt,
    several_references,
    snap_sizes,
)
from x2i_app.specs import EncodingSpec, FluxSpec

# Checked here, because diffusers would round sizes silently, or fail late.
_ALLOWED = {
    "width": Range(16, 8192, 16),
    "height": Range(16, 8192, 16),
    "num_inference_steps": Range(1, 1000),
    "num_images_per_prompt": Range(1, 1000),
    "guidance_scale": Range(0, 1000),
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

    def _repr_html_(self) -> str | None:
        return as_html(self.images, self.answer, self.notes)

    def _repr_png_(self) -> bytes | None:
        return as_png(self.images)


def check_align_net(align_net: AlignNet, encoder: MLLMEncoder) -> None:
    """Raise CheckpointError if an AlignNet is not for this MLLM."""
    config = align_net.config
    if (config.num_states, config.hidden_size) != (encoder.num_states, encoder.hidden_size):
        raise CheckpointError(
            f"This AlignNet expects {config.num_states} states of width {config.hidden_size}, but the MLLM has "
            f"{encoder.num_states} of width {encoder.hidden_size}; use the AlignNet trained for this MLLM."
        )


def _needing(image: str, given: Any, name: str, value: Any, allowed: Range) -> float | None:
    """The number `name` of an image; None if it is None. Raises InvalidRequestError if it has no image to act on."""
    if value is None:
        return None
    value = validate_number(name, value, allowed)
    if given is None and value:
        raise InvalidRequestError(f"{name} is {value:g}, but there is no {image}; give one, or leave {name} out.")
    return value


class X2IPipeline(DiffusionPipeline):
    """FLUX.1 with a multimodal LLM as its text encoder, so that it reads text, images, videos and audio.

    transformer, vae, scheduler: of any FLUX.1 model. align_net: trained for `mllm`. mllm, processor: a transformers
    model of `family` and its processor. encoding: fields of an EncodingSpec; None uses the family's.
    light_control: keeps generated images close to a source image; None if none was trained for this FLUX model.
    controlnet: any FLUX.1 ControlNet for this FLUX model. controlnet_kind: what it is for, of CONTROLNET_KINDS.
    takes_reference: whether the FLUX model is a FLUX.1 Kontext, which no weights tell. true_cfg: whether it can follow
    a negative prompt; None asks its configuration. num_inference_steps, guidance_scale: of a call that names none; None
    takes those of the most similar FLUX.1 model.

    T5 and CLIP are not used. Raises CheckpointError if AlignNet or LightControl do not match the MLLM or FLUX.
    """

    model_cpu_offload_seq = "mllm->align_net->transformer"
    _optional_components = ["light_control", "controlnet"]  # noqa: RUF012 (diffusers' own name and kind)
    # Small, and used in every step or beside a transformer that stays for the next image.
    _exclude_from_cpu_offload = ["light_control", "controlnet", "vae"]  # noqa: RUF012 (diffusers' own name and kind)

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
        takes_reference: bool = False,
        true_cfg: bool | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        controlnet: FluxControlNetModel | None = None,
        controlnet_kind: str | None = None,
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
            controlnet=controlnet,
        )
        self.register_to_config(controlnet_kind=controlnet_kind)
        spec = EncodingSpec.from_dict(encoding) if encoding else get_family(family)
        self.register_to_config(family=family, encoding=asdict(spec), takes_reference=takes_reference)
        # Models that are distilled to few steps have no guidance embedding, and cannot follow two prompts either.
        self.register_to_config(true_cfg=transformer.config.guidance_embeds if true_cfg is None else true_cfg)
        similar = similar_flux(transformer.config.guidance_embeds, self.needs_mask)
        self.register_to_config(
            num_inference_steps=num_inference_steps or similar.num_inference_steps,
            guidance_scale=similar.guidance_scale if guidance_scale is None else guidance_scale,
        )
        self._encoder = encoder_class(family)(mllm, processor, spec)
        self._keeps_parts = False
        self.lora_notes: tuple[str, ...] = ()  # what is used of each LoRA that acts; set by loading.use_loras
        self.depth_of: Callable[[Image.Image], Image.Image] | None = None  # makes depth maps; set by build_pipeline
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
        takes_reference: bool = False,
        true_cfg: bool | None = None,
        controlnet: FluxControlNetModel | None = None,
        controlnet_kind: str | None = None,
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
            takes_reference=takes_reference,
            true_cfg=true_cfg,
            controlnet=controlnet,
            controlnet_kind=controlnet_kind,
        )

    def use_settings_of(self, flux: FluxSpec) -> None:
        """Let calls that name no steps or guidance use those that suit this FLUX model."""
        self.register_to_config(num_inference_steps=flux.num_inference_steps, guidance_scale=flux.guidance_scale)

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

    @contextmanager
    def kept_parts(self) -> Iterator[None]:
        """Context manager in which, with offload, FLUX stays on the device from one image to the next."""
        self._keeps_parts = True
        try:
            yield
        finally:
            self._keeps_parts = False
            self.maybe_free_model_hooks()

    def maybe_free_model_hooks(self) -> None:
        """With offload, send all parts to the computer's memory, unless `kept_parts` keeps them."""
        if not self._keeps_parts:
            super().maybe_free_model_hooks()

    @torch.no_grad()
    def encode(
        self,
        prompt: str = "",
        images: Sequence[Any] = (),
        videos: Sequence[Any] = (),
        audios: Sequence[Any] = (),
        history: Sequence[Turn] = (),
        reason: bool = False,
        seed: int = 0,
    ) -> Conditioning:
        """Encode a conversation for FLUX.1 (B = 1). Inputs as in GenerationRequest, errors as in MLLMEncoder.encode.

        seed: decides choices in the prompt, such as {a|b}. Signs of other programs are left out, which the notes say.
        """
        prompt, notes = plain_prompt(prompt, seed)
        if isinstance(hook := getattr(self.mllm, "_hf_hook", None), CpuOffload):
            hook.pre_forward(self.mllm)  # the encoder may call submodules, which have no hooks of their own
        states = self._encoder.encode(prompt, images, videos, audios, history, reason=reason)
        if self._encoder.model is not self.mllm:
            self._replace_mllm()
        return self.align(replace(states, notes=(*notes, *states.notes)))

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
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        callback_on_step_end: Callable[..., dict] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        conditioning: Conditioning | None = None,
        control_image: Any = None,
        control_strength: float | None = None,
        control_start: float = 0.0,
        control_end: float = 1.0,
        inpaint_source: InpaintSource | None = None,
        strength: float | None = None,
        reference: Any = None,
        negative_prompt: str = "",
        true_cfg_scale: float | None = None,
        negative_conditioning: Conditioning | None = None,
        fast: bool = False,
        controlnet: ControlNetInput | None = None,
    ) -> X2IPipelineOutput:
        """Generate images.

        prompt, images, videos, audios, history, reason: the conversation, as in GenerationRequest.
        conditioning: result of an earlier `encode`; the conversation is then ignored.
        width, height: pixels, changed to the nearest multiples of 16; None uses the FLUX model's own size, or that of
        `inpaint_source`, which may be any.
        num_inference_steps, guidance_scale: None takes the FLUX model's own.
        num_images_per_prompt: images generated as one batch.
        control_image: the image that LightControl stays close to; control_strength (None means 1), control_start,
        control_end: as `strength`, `start` and `end` of `control`.
        inpaint_source: an image to change. It is drawn at the model's resolution and, if the output is PIL, scaled back
        to its own size, where all pixels at which its mask is 0 are exactly the original's. With width and height, it
        is first cropped to their aspect ratio, and they are the size of the result. strength: how much it changes, 0.05
        to 1; None means 1.
        reference: an image, as in GenerationRequest, which the result keeps to; for FLUX.1 Kontext. The MLLM reads it
        too, before `images`. Without width and height, a PIL output has its size.
        negative_prompt, true_cfg_scale: as in GenerationRequest. negative_conditioning: result of an earlier `encode`
        of the negative prompt.
        fast: skip most of the transformer in steps that change little.
        controlnet: what the pipeline's ControlNet follows.
        The other arguments are as in diffusers' FluxPipeline. If a callback raises, denoising stops after that step
        and nothing is decoded.
        Raises InvalidRequestError for a number that is not allowed, and what `encode` raises.
        """
        # 1. Check the arguments
        width, height, size_notes = snap_sizes(width, height, _ALLOWED)
        num_inference_steps = validate_integer(
            "num_inference_steps",
            self.config.num_inference_steps if num_inference_steps is None else num_inference_steps,
            _ALLOWED["num_inference_steps"],
        )
        num_images_per_prompt = validate_integer(
            "num_images_per_prompt",
            1 if num_images_per_prompt is None else num_images_per_prompt,
            _ALLOWED["num_images_per_prompt"],
        )
        guidance_scale = validate_number(
            "guidance_scale",
            self.config.guidance_scale if guidance_scale is None else guidance_scale,
            _ALLOWED["guidance_scale"],
        )
        given_reference = reference
        if reference is not None:
            reference = self._check_reference(reference)
        is_guided = self._check_true_cfg(negative_prompt, negative_conditioning, true_cfg_scale)
        seed = generator.initial_seed() if isinstance(generator, torch.Generator) else 0
        strength = _needing("inpaint_source", inpaint_source, "strength", strength, LIMITS.strength)
        control_strength = _needing(
            "control_image", control_image, "control_strength", control_strength, LIMITS.control_strength
        )
        control = nullcontext()
        if control_image is not None:
            if fast and control_strength != 0:
                raise InvalidRequestError(FAST_AND_CONTROL)
            control = self.control(
                control_image, 1.0 if control_strength is None else control_strength, control_start, control_end
            )
        if controlnet and not controlnet.strength:
            controlnet = None
        self._check_controlnet(controlnet, fast, is_guided and inpaint_source is not None)
        # 2. Encode the conversation
        if conditioning is None:
            all_images = images if reference is None else (reference, *images)
            conditioning = self.encode(prompt, all_images, videos, audios, history, reason, seed)
        negative_notes: tuple[str, ...] = ()
        if is_guided and negative_conditioning is None:
            text, negative_notes = plain_prompt(negative_prompt, seed)
            is_guided = bool(text)  # of signs alone, nothing is left to avoid
            if is_guided:
                negative_conditioning = self.encode(negative_prompt, seed=seed)
                negative_notes = negative_conditioning.notes
        prompt_embeds, pooled_prompt_embeds = (
            embeds.repeat_interleave(num_images_per_prompt, dim=0) for embeds in conditioning.embeds.values()
        )
        # 3. Choose the FLUX pipeline
        if inpaint_source:
            inpaint_source = self._drawn_source(inpaint_source, width, height)
            width, height = inpaint_source.area.size
        returned_size, is_kept = None, reference is not None
        if is_kept:
            own_size = drawing_size(*reference.size, self.resolution)
            if not (width or height):
                returned_size = reference.size
            width, height = width or own_size[0], height or own_size[1]
            is_source = inpaint_source is not None and given_reference is inpaint_source.original
            reference = None if is_source else reference.resize(own_size, Image.Resampling.LANCZOS)
        # diffusers' own default is that of FLUX.1, whatever the sizes of this model.
        width, height = width or self.resolution, height or self.resolution
        flux_class, image_arguments = choose_flux_pipeline(
            self.transformer, inpaint_source, strength, reference, (width, height) if is_kept else None
        )
        parts = {}
        if controlnet:
            parts["controlnet"] = self.controlnet
            flux_class, more = add_controlnet(
                flux_class,
                self.controlnet,
                self.config.controlnet_kind,
                controlnet,
                (width, height),
                inpaint_source,
                self.depth_of,
            )
            image_arguments |= more
        # 4. Denoise and decode
        with ExitStack() as stack:
            stack.callback(self.maybe_free_model_hooks)
            stack.enter_context(self._uncompiled(fast))
            if is_guided:
                image_arguments |= stack.enter_context(
                    self._true_cfg(prompt_embeds, negative_conditioning, true_cfg_scale, num_images_per_prompt)
                )
            if fast:
                negative_embeds = image_arguments.get("negative_prompt_embeds")
                stack.enter_context(cached_blocks(self.transformer, negative_embeds))
            stack.enter_context(control)
            output = self.drawing_pipeline(flux_class, **parts)(
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
        # 5. Put what was drawn into the original
        if inpaint_source and output_type == "pil":
            output.images = [inpaint_source.restored(image) for image in output.images]
        elif returned_size and output_type == "pil":
            output.images = [image.resize(returned_size, Image.Resampling.LANCZOS) for image in output.images]
        notes = (*size_notes, *conditioning.notes, *of_negative(negative_notes), *self.lora_notes)
        return X2IPipelineOutput(images=output.images, answer=conditioning.answer, notes=notes)

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

    def _check_reference(self, reference: Any) -> Image.Image:
        if isinstance(reference, (list, tuple)):
            if len(reference) != 1:
                raise InvalidRequestError(several_references(len(reference)))
            (reference,) = reference
        if not self.config.takes_reference:
            raise InvalidRequestError(NO_REFERENCE)
        return load_image(reference)

    def _check_controlnet(self, given: ControlNetInput | None, fast: bool, is_guided_edit: bool) -> None:
        if given is None:
            return
        for is_wrong, sentence in (
            (self.controlnet is None, NO_CONTROLNET),
            (fast, FAST_AND_CONTROLNET),
            (is_guided_edit, NEGATIVE_AND_CONTROLNET),
        ):
            if is_wrong:
                raise InvalidRequestError(sentence)

    def _uncompiled(self, fast: bool) -> AbstractContextManager[None]:
        """Context manager in which blocks that were compiled run as they were written, if something acts inside them.

        torch.compile does not look for hooks that came later, so it would leave out LoRAs and the cache of `fast`.
        """
        blocks = (*self.transformer.transformer_blocks, *self.transformer.single_transformer_blocks)
        if getattr(blocks[0], "_compiled_call_impl", None) is None:
            return nullcontext()
        has_hooks = any(part._forward_hooks or part._forward_pre_hooks for block in blocks for part in block.modules())
        return torch.compiler.set_stance("force_eager") if fast or has_hooks else nullcontext()

    def _check_true_cfg(self, prompt: str, conditioning: Conditioning | None, scale: float | None) -> bool:
        """Whether there is a negative prompt. Raises InvalidRequestError if there cannot be one."""
        if scale is not None:
            validate_number("true_cfg_scale", scale, LIMITS.true_cfg_scale)
        if not prompt and conditioning is None:
            if scale is not None and scale > 1:
                raise InvalidRequestError(needs_negative_prompt(scale))
            return False
        if self.needs_mask or not self.config.true_cfg:
            raise InvalidRequestError(no_negative_prompt("This FLUX model"))
        return True

    @contextmanager
    def _true_cfg(
        self, prompt_embeds: torch.Tensor, negative: Conditioning, scale: float | None, count: int
    ) -> Iterator[dict[str, Any]]:
        """The arguments of a FLUX pipeline for a negative prompt."""
        rows, pooled = (embeds.repeat_interleave(count, dim=0) for embeds in negative.embeds.values())
        with negative_rows(self.transformer, prompt_embeds, rows) as stand_in:
            yield {
                "negative_prompt_embeds": stand_in,
                "negative_pooled_prompt_embeds": pooled,
                "true_cfg_scale": TRUE_CFG_SCALE if scale is None else scale,
            }

    @property
    def needs_mask(self) -> bool:
        """Whether the FLUX model is FLUX.1 Fill, which only fills the masked part of an image."""
        return needs_mask(self.transformer)

    @property
    def resolution(self) -> int:
        """Side in pixels of the square image that the FLUX model draws best."""
        return self.vae.config.sample_size

    def _drawn_source(self, source: InpaintSource, width: int | None, height: int | None) -> InpaintSource:
        """The source with the part of it that is drawn, in the given size or its own."""
        if width or height:
            own_width, own_height = drawing_size(*source.image.size, self.resolution)
            return source.fitted(width or own_width, height or own_height)
        return source if source.area else source.with_area(self.resolution)

    def _replace_mllm(self):
        """Register the encoder's new model, which got a head for its first answer, and move the offload hook to it."""
        hook = getattr(self.mllm, "_hf_hook", None)
        if hook:
            remove_hook_from_module(self.mllm)
            add_hook_to_module(self._encoder.model, hook)
            self.align_net._hf_hook.prev_module_hook.model = self._encoder.model
        self.register_modules(mllm=self._encoder.model)

    def _check_sizes(self):
        check_align_net(self.align_net, self._encoder)
        align_net, flux = self.align_net.config, self.transformer.config
        if (align_net.joint_dim, align_net.pooled_dim) != (flux.joint_attention_dim, flux.pooled_projection_dim):
            raise CheckpointError(
                f"This AlignNet outputs embeddings of width {align_net.joint_dim} and {align_net.pooled_dim}, but the "
                f"FLUX model expects {flux.joint_attention_dim} and {flux.pooled_projection_dim}; use matching parts."
            )
        if self.controlnet is not None:
            check_controlnet(self.controlnet, self.transformer)
        control, blocks = self.light_control and self.light_control.config, len(self.transformer.transformer_blocks)
        if control and (control.dim != self.transformer.inner_dim or control.num_blocks > blocks):
            raise CheckpointError(
                f"This LightControl is for {control.num_blocks} double blocks of width {control.dim}, but the FLUX "
                f"model has {blocks} of width {self.transformer.inner_dim}; use the LightControl trained for it."
            )

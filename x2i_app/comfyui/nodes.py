"""The nodes. Their inputs and outputs have ComfyUI's own types, so that its samplers and loaders take them.

https://docs.comfy.org/custom-nodes. CONDITIONING is [[prompt_embeds, {"pooled_output": ..., "guidance": ...}]], IMAGE
is (B, H, W, C) in [0, 1], AUDIO is {"waveform": (B, C, T), "sample_rate": Hz}.
An input is (type, options); a list of choices is a type too.
"""

from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch

from x2i_app.comfyui import files, host
from x2i_app.comfyui.flux import load_flux_for_comfyui
from x2i_app.comfyui.light_control import follow
from x2i_app.encoders import MLLMEncoder, load_encoder
from x2i_app.encoders.weights import watch_weights
from x2i_app.errors import InvalidRequestError, OutOfMemoryError, forget_frames
from x2i_app.loading.checkpoints import load_alignnet, load_light_control
from x2i_app.loading.memory import is_out_of_memory
from x2i_app.loading.quantization import linear_bytes, quantize
from x2i_app.media import load_image
from x2i_app.media.images import scaled_note
from x2i_app.media.transcription import Transcriber
from x2i_app.models import AlignNet
from x2i_app.notes import SILENT_VIDEO, Note
from x2i_app.pipeline import check_align_net
from x2i_app.presets import FAMILIES, PRESETS
from x2i_app.prompts import plain_prompt
from x2i_app.quiet import quiet
from x2i_app.request import Turn
from x2i_app.specs import Preset

_PRECISIONS = {"full": "full", "8 bit": "int8", "4 bit": "nf4"}
_REWRITE = (
    "Rewrite this as a prompt for an image generator, in English, with what can be seen: subject, place, light and "
    "style. Answer with the prompt only: "
)


# ----- What all nodes share ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mllm:
    """What *X2I Load MLLM* returns. preset: its name; None for the user's own folder."""

    encoder: MLLMEncoder
    managed: host.Managed
    preset: str | None


@dataclass(frozen=True)
class Aligner:
    """What *X2I Load AlignNet* returns."""

    align_net: AlignNet
    managed: host.Managed


class _OutOfMemory(OutOfMemoryError, torch.OutOfMemoryError):
    """For the user it is our sentence; ComfyUI recognizes torch's class, and unloads all models."""


def _explained(run):
    """A decorator for what a node runs: what runs out of memory says what to do, and keeps nothing in memory."""

    @wraps(run)
    def explained(self, *args, **kwargs):
        try:
            with quiet(), torch.inference_mode():
                return run(self, *args, **kwargs)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            forget_frames(error)
        raise _OutOfMemory(f"There is not enough memory; {self.SMALLER}.")

    return explained


class _Node:
    """What ComfyUI reads of every node; a node's docstring is its description. SMALLER: what needs less memory."""

    CATEGORY = "X2I"
    SEARCH_ALIASES: tuple[str, ...] = ()
    SMALLER = "close other programs, or choose smaller models"

    def __init_subclass__(cls):
        cls.DESCRIPTION = cls.__doc__


Input = tuple[Any, dict[str, Any]]


def _input(kind: str | list[str], tooltip: str, **options: Any) -> Input:
    return kind, {"tooltip": tooltip, **options}


def _prompt(tooltip: str, default: str = "") -> Input:
    return _input("STRING", tooltip, multiline=True, default=default, dynamicPrompts=True)


def _path(tooltip: str) -> Input:
    return _input("STRING", tooltip, default="")


def _number(tooltip: str, default: float, least: float, most: float, step: float = 0.1) -> Input:
    return _input("FLOAT", tooltip, default=default, min=least, max=most, step=step)


# ----- The nodes -----------------------------------------------------------------------------------------------------


class LoadMLLM(_Node):
    """Load the MLLM that reads text, images, video and audio."""

    FUNCTION = "load"
    RETURN_TYPES, RETURN_NAMES = ("X2I_MLLM",), ("mllm",)
    OUTPUT_TOOLTIPS = ("for X2I Encode and X2I Rewrite prompt",)
    SEARCH_ALIASES = ("qwen", "internvl", "minicpm", "multimodal", "vision language model", "text encoder")
    SMALLER = "choose 4 bit, or a smaller MLLM"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "mllm": _input(
                    files.mllm_names(),
                    "a preset, which is downloaded if it is not there; or a folder or repacked .pt file in models/x2i, "
                    "models/LLM or models/text_encoders",
                ),
                "precision": _input(list(_PRECISIONS), "4 bit needs about a third of the memory"),
                "device": _input(["default", "cpu"], "default: where ComfyUI runs text encoders"),
            },
            "optional": {
                "family": _input([files.AUTO, *FAMILIES], "auto: what the model's config.json says"),
                "path": _path("a folder or a repacked .pt file anywhere; used instead of the choice above"),
            },
        }

    @classmethod
    def IS_CHANGED(cls, mllm: str, path: str = "", **_: Any) -> str:
        return files.mllm_fingerprint(path or mllm)

    @_explained
    def load(self, mllm: str, precision: str, device: str, family: str = files.AUTO, path: str = "") -> tuple[Mllm]:
        progress = host.Progress()
        folder = files.find_mllm(path or mllm, progress.report)
        preset = None if path or mllm not in PRESETS else PRESETS[mllm]
        chosen = None if device == "default" else device
        runs_on = host.compute_device(chosen)
        dtype = torch.float32 if runs_on.type == "cpu" else torch.bfloat16
        progress.set(0)
        with watch_weights(progress.add):
            encoder = _load_encoder(preset, folder, family, dtype)
        if "audio" not in encoder.spec.modalities:
            encoder.transcriber = Transcriber("base")
        if is_quantized := precision != "full":
            progress.set(0)
            weights = max(1, linear_bytes(encoder.model))

            def watch(count: int) -> None:
                progress.add(count / weights)

            quantize(encoder.model, _PRECISIONS[precision], runs_on, stays=True, watch=watch)
            encoder.model.to(runs_on)
        return (Mllm(encoder, host.Managed(encoder.model, chosen, is_fixed=is_quantized), preset and preset.name),)


class LoadAlignNet(_Node):
    """Load the AlignNet that was trained for the MLLM."""

    FUNCTION = "load"
    RETURN_TYPES, RETURN_NAMES = ("X2I_ALIGNNET",), ("alignnet",)
    OUTPUT_TOOLTIPS = ("for X2I Encode",)
    SEARCH_ALIASES = ("proj", "projector", "align", "bridge")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "alignnet": _input(
                    files.file_names(),
                    "a preset's, which is downloaded if it is not there; or a file in models/x2i, or *_proj.pt in "
                    "models/text_encoders",
                )
            },
            "optional": {"path": _path("a file anywhere; used instead of the choice above")},
        }

    @classmethod
    def IS_CHANGED(cls, alignnet: str, path: str = "") -> str:
        return files.file_fingerprint(path or alignnet, "alignnet")

    @_explained
    def load(self, alignnet: str, path: str = "") -> tuple[Aligner]:
        file = files.find_file(path or alignnet, "alignnet", host.Progress().report)
        align_net = load_alignnet(file, dtype=torch.float32)
        return (Aligner(align_net, host.Managed(align_net)),)


_LESS_INPUT = "choose 4 bit in X2I Load MLLM, a smaller MLLM, or fewer and smaller inputs"


class Encode(_Node):
    """Read text in any language, images, video and audio, for ComfyUI's FLUX samplers."""

    FUNCTION = "encode"
    RETURN_TYPES = ("CONDITIONING", "STRING", "STRING", "X2I_HISTORY")
    RETURN_NAMES = ("conditioning", "answer", "notes", "history")
    OUTPUT_TOOLTIPS = (
        "for KSampler, at cfg 1 also as negative",
        "what the MLLM answered; empty without reason",
        "what was scaled down, cut or not known",
        "for the next X2I Encode of a conversation",
    )
    SEARCH_ALIASES = ("clip text encode", "image to prompt", "audio to image", "video to image", "conditioning")
    SMALLER = _LESS_INPUT

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "mllm": _input("X2I_MLLM", "from X2I Load MLLM"),
                "alignnet": _input("X2I_ALIGNNET", "from X2I Load AlignNet, trained for this MLLM"),
                "prompt": _prompt("text in any language: what to draw, or what to change in the images"),
                "guidance": _number("of FLUX.1 dev and Kontext; schnell has none", 3.5, 0.0, 100.0),
                "reason": _input("BOOLEAN", "the MLLM answers first, and FLUX draws its answer", default=False),
            },
            "optional": {
                "images": _input("IMAGE", "each image of the batch is one input"),
                "video": _input("VIDEO", "from Load Video"),
                "video_frames": _input("IMAGE", "a batch of frames is one video"),
                "video_fps": _number("frames a second of video_frames", 24.0, 0.1, 240.0),
                "audio": _input("AUDIO", "speech, music or sounds"),
                "history": _input("X2I_HISTORY", "of another X2I Encode: its turn comes before this one"),
            },
        }

    @_explained
    def encode(
        self,
        mllm: Mllm,
        alignnet: Aligner,
        prompt: str,
        guidance: float,
        reason: bool,
        images: torch.Tensor | None = None,
        video: Any = None,
        video_frames: torch.Tensor | None = None,
        video_fps: float = 24.0,
        audio: dict[str, Any] | None = None,
        history: tuple[Turn, ...] = (),
    ) -> tuple[list, str, str, tuple[Turn, ...]]:
        check_align_net(alignnet.align_net, mllm.encoder)
        text, notes = plain_prompt(prompt, 0)
        videos = [] if video_frames is None else [(_as_pixels(video_frames), video_fps)]
        if video is not None:
            parts = video.get_components()
            videos.append((_as_pixels(parts.images), float(parts.frame_rate)))
            if getattr(parts, "audio", None) is not None:
                notes = (*notes, Note(SILENT_VIDEO))
        turn = Turn(text, [] if images is None else list(_as_pixels(images)), videos, _as_recordings(audio))
        mllm.encoder.check_modalities([*history, turn])  # before ComfyUI makes room for the models
        host.load(mllm.managed, alignnet.managed)
        states = _read(mllm, [*history, turn], reason)
        align_net = alignnet.align_net
        prompt_embeds, pooled = align_net(states.hidden_states.to(align_net.device, align_net.dtype))
        values = {"pooled_output": host.to_output(pooled), "guidance": guidance}
        answered = Turn(turn.prompt, turn.images, turn.videos, turn.audios, states.answer or "")
        shown = "\n".join([*notes, *states.notes])
        return [[host.to_output(prompt_embeds), values]], states.answer or "", shown, (*history, answered)


class ReadImage(_Node):
    """Load an image as X2I does everywhere: upright, in sRGB, transparent pixels on white; HEIC and AVIF files too."""

    FUNCTION = "load"
    RETURN_TYPES, RETURN_NAMES = ("IMAGE", "STRING"), ("image", "notes")
    OUTPUT_TOOLTIPS = ("for X2I Encode and X2I LightControl", "whether it was scaled down")
    SEARCH_ALIASES = ("load image", "heic", "avif", "color profile", "photo")
    SMALLER = "choose a smaller image"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image": _input(files.image_names(), "in ComfyUI's folder of inputs", image_upload=True)}}

    @classmethod
    def IS_CHANGED(cls, image: str) -> str:
        return files.image_fingerprint(image)

    @classmethod
    def VALIDATE_INPUTS(cls, image: str) -> bool | str:
        """ComfyUI asks before it runs a workflow. The page may name images that are not in its list."""
        try:
            files.find_image(image)
        except InvalidRequestError as error:
            return str(error)
        return True

    @_explained
    def load(self, image: str) -> tuple[torch.Tensor, str]:
        path = files.find_image(image)
        pixels = torch.from_numpy(np.asarray(load_image(path), np.float32) / 255)
        return pixels[None], str(scaled_note(path) or "")


class RewritePrompt(_Node):
    """Let the MLLM write a longer prompt, from text and images."""

    FUNCTION = "rewrite"
    RETURN_TYPES, RETURN_NAMES = ("STRING",), ("prompt",)
    OUTPUT_TOOLTIPS = ("the MLLM's own prompt",)
    SEARCH_ALIASES = ("enhance prompt", "caption", "describe image", "interrogate", "llm")
    SMALLER = _LESS_INPUT

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "mllm": _input("X2I_MLLM", "from X2I Load MLLM"),
                "prompt": _prompt("what to draw, in any language"),
                "instruction": _prompt("comes before the prompt", _REWRITE),
            },
            "optional": {"images": _input("IMAGE", "to describe; each image of the batch is one input")},
        }

    @_explained
    def rewrite(self, mllm: Mllm, prompt: str, instruction: str, images: torch.Tensor | None = None) -> tuple[str]:
        host.load(mllm.managed)
        # x2i-tiny describes whatever it reads, and knows no instructions.
        asked = prompt if mllm.preset and PRESETS[mllm.preset].directory else instruction + prompt
        turn = Turn(asked, [] if images is None else list(_as_pixels(images)))
        return (_read(mllm, [turn], reason=True).answer or prompt,)


class FollowImage(_Node):
    """Keep what the model draws close to an image, with LightControl."""

    FUNCTION = "apply"
    RETURN_TYPES, RETURN_NAMES = ("MODEL",), ("model",)
    OUTPUT_TOOLTIPS = ("the model with LightControl, for KSampler",)
    SEARCH_ALIASES = ("controlnet", "light control", "edit", "image to image")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": _input("MODEL", "the FLUX model for which the LightControl was trained"),
                "light_control": _input(files.file_names(), "a preset's, or a file in models/x2i"),
                "image": _input("IMAGE", "the image to keep to; not needed with strength 0", lazy=True),
                "strength": _number("0 is without LightControl", 1.0, 0.0, 2.0, 0.05),
                "start": _number("share of the steps after which it begins", 0.0, 0.0, 1.0, 0.01),
                "end": _number("share of the steps after which it ends", 1.0, 0.0, 1.0, 0.01),
            }
        }

    def check_lazy_status(self, strength: float, image: Any = None, **_: Any) -> list[str]:
        """ComfyUI asks which lazy inputs are needed."""
        return ["image"] if strength and image is None else []

    @classmethod
    def IS_CHANGED(cls, light_control: str, **_: Any) -> str:
        return files.file_fingerprint(light_control, "light_control")

    @_explained
    def apply(
        self, model: Any, light_control: str, image: torch.Tensor | None, strength: float, start: float, end: float
    ) -> tuple[Any]:
        if not strength:
            return (model,)
        if len(image) != 1:
            raise InvalidRequestError(f"{len(image)} images came, and LightControl follows one; choose one of them.")
        file = files.find_file(light_control, "light_control", host.Progress().report)
        net = load_light_control(file, dtype=torch.float32)
        return (follow(model, net, _as_pixels(image)[0], strength, start, end),)


class LoadFlux(_Node):
    """Load the FLUX model and VAE of x2i-tiny, or of a folder in diffusers' form, whatever its sizes."""

    FUNCTION = "load"
    RETURN_TYPES, RETURN_NAMES = ("MODEL", "VAE"), ("model", "vae")
    OUTPUT_TOOLTIPS = ("for KSampler", "for VAE Decode and VAE Encode")
    SEARCH_ALIASES = ("x2i-tiny", "diffusers", "load diffusion model")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        bundled = [name for name, preset in PRESETS.items() if preset.directory]
        return {
            "required": {"flux": _input(bundled, "for FLUX.1 itself, use Load Diffusion Model and Load VAE")},
            "optional": {"path": _path("a folder in diffusers' form; used instead of the choice above")},
        }

    @classmethod
    def IS_CHANGED(cls, flux: str, path: str = "") -> str:
        return files.folder_fingerprint(path) if path else flux

    @_explained
    def load(self, flux: str, path: str = "") -> tuple[Any, Any]:
        return load_flux_for_comfyui(flux, path or None)


# ----- Values --------------------------------------------------------------------------------------------------------


def _load_encoder(preset: Preset | None, folder: Path, family: str, dtype: torch.dtype) -> MLLMEncoder:
    if preset:
        expected = preset.mllm
        return load_encoder(expected.family, folder, spec=preset.encoding, expected=expected, dtype=dtype)
    return load_encoder(files.family_of(folder) if family == files.AUTO else family, folder, dtype=dtype)


def _read(mllm: Mllm, turns: list[Turn], reason: bool):
    encoder = mllm.encoder
    with host.watched(encoder.model, encoder.num_states - 1):
        (states,) = encoder.encode_batch([turns], reason=reason)
    mllm.managed.holder.model = encoder.model  # the first answer gives it a head
    return states


def _as_pixels(images: torch.Tensor) -> np.ndarray:
    """(B, H, W, C) in [0, 1] -> uint8. ComfyUI has divided the levels of files by 255, so this is exact."""
    return (images.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def _as_recordings(audio: dict[str, Any] | None) -> list[tuple[np.ndarray, int]]:
    """Each of a batch as samples (T, C) and Hz."""
    if audio is None:
        return []
    return [(each.T.float().cpu().numpy(), int(audio["sample_rate"])) for each in audio["waveform"]]


NODE_CLASS_MAPPINGS: dict[str, type] = {
    "X2ILoadMLLM": LoadMLLM,
    "X2ILoadAlignNet": LoadAlignNet,
    "X2ILoadImage": ReadImage,
    "X2IEncode": Encode,
    "X2ILightControl": FollowImage,
    "X2IRewritePrompt": RewritePrompt,
    "X2ILoadFlux": LoadFlux,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "X2ILoadMLLM": "X2I Load MLLM",
    "X2ILoadAlignNet": "X2I Load AlignNet",
    "X2ILoadImage": "X2I Load Image",
    "X2IEncode": "X2I Encode",
    "X2ILightControl": "X2I LightControl",
    "X2IRewritePrompt": "X2I Rewrite prompt",
    "X2ILoadFlux": "X2I Load FLUX",
}

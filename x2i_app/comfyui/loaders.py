"""The nodes that load MLLMs, AlignNets, images and FLUX models."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from x2i_app.comfyui import files, host
from x2i_app.comfyui.flux import load_flux_for_comfyui
from x2i_app.comfyui.node_base import Aligner, Mllm, Node, explained, node_input, path_input
from x2i_app.encoders import MLLMEncoder, load_encoder
from x2i_app.encoders.weights import watch_weights
from x2i_app.errors import InvalidRequestError, MediaError
from x2i_app.loading.checkpoints import load_alignnet
from x2i_app.loading.quantization import linear_bytes, quantize
from x2i_app.media import load_image
from x2i_app.media.images import load_opaque, load_transparency, scaled_note
from x2i_app.media.transcription import Transcriber
from x2i_app.presets import FAMILIES, PRESETS
from x2i_app.specs import Preset

_PRECISIONS = {"full": "full", "8 bit": "int8", "4 bit": "nf4"}


class LoadMLLM(Node):
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
                "mllm": node_input(
                    files.mllm_names(),
                    "a preset, which is downloaded if it is not there; or a folder or repacked .pt file in models/x2i, "
                    "models/LLM or models/text_encoders",
                ),
                "precision": node_input(list(_PRECISIONS), "4 bit needs about a third of the memory"),
                "device": node_input(["default", "cpu"], "default: where ComfyUI runs text encoders"),
            },
            "optional": {
                "family": node_input([files.AUTO, *FAMILIES], "auto: what the model's config.json says"),
                "path": path_input("a folder or a repacked .pt file anywhere; used instead of the choice above"),
            },
        }

    @classmethod
    def IS_CHANGED(cls, mllm: str | None, path: str | None = "", **_: Any) -> str:
        return files.mllm_fingerprint(path or mllm)

    @explained
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


class LoadAlignNet(Node):
    """Load the AlignNet that was trained for the MLLM."""

    FUNCTION = "load"
    RETURN_TYPES, RETURN_NAMES = ("X2I_ALIGNNET",), ("alignnet",)
    OUTPUT_TOOLTIPS = ("for X2I Encode",)
    SEARCH_ALIASES = ("proj", "projector", "align", "bridge")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "alignnet": node_input(
                    files.file_names(),
                    "a preset's, which is downloaded if it is not there; or a file in models/x2i, or *_proj.pt in "
                    "models/text_encoders",
                )
            },
            "optional": {"path": path_input("a file anywhere; used instead of the choice above")},
        }

    @classmethod
    def IS_CHANGED(cls, alignnet: str | None, path: str | None = "") -> str:
        return files.file_fingerprint(path or alignnet, "alignnet")

    @explained
    def load(self, alignnet: str, path: str = "") -> tuple[Aligner]:
        file = files.find_file(path or alignnet, "alignnet", host.Progress().report)
        align_net = load_alignnet(file, dtype=torch.float32)
        return (Aligner(align_net, host.Managed(align_net)),)


class ReadImage(Node):
    """Load an image as X2I does everywhere: upright, in sRGB, transparent pixels on white; HEIC and AVIF files too."""

    FUNCTION = "load"
    RETURN_TYPES, RETURN_NAMES = ("IMAGE", "STRING", "MASK"), ("image", "notes", "mask")
    OUTPUT_TOOLTIPS = ("for X2I Encode and X2I LightControl", "whether it was scaled down", "what is transparent")
    SEARCH_ALIASES = ("load image", "heic", "avif", "color profile", "photo")
    SMALLER = "choose a smaller image"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        names = files.image_names()
        return {"required": {"image": node_input(names, "in ComfyUI's folder of inputs", image_upload=True)}}

    @classmethod
    def IS_CHANGED(cls, image: str | None) -> str:
        return files.image_fingerprint(image)

    @classmethod
    def VALIDATE_INPUTS(cls, image: str | None) -> bool | str:
        """ComfyUI asks before it runs a workflow. The page may name images that are not in its list.

        image: None where another node makes the name.
        """
        try:
            if image is not None:
                files.find_image(image)
        except InvalidRequestError as error:
            return str(error)
        return True

    @explained
    def load(self, image: str) -> tuple[torch.Tensor, str, torch.Tensor]:
        path = files.find_image(image)
        found = load_opaque(path) if files.is_painted(image) else load_image(path)
        notes = [scaled_note(path)]
        try:
            mask = load_transparency(path).resize(found.size)
        except MediaError as error:  # a large image, whose pixels above have been read in parts
            mask = Image.new("L", found.size)
            notes.append(str(error))
        return _as_levels(found), "\n".join(filter(None, notes)), _as_levels(mask)


class LoadFlux(Node):
    """Load the FLUX model and VAE of x2i-tiny, or of a folder in diffusers' form, whatever its sizes."""

    FUNCTION = "load"
    RETURN_TYPES, RETURN_NAMES = ("MODEL", "VAE"), ("model", "vae")
    OUTPUT_TOOLTIPS = ("for KSampler", "for VAE Decode and VAE Encode")
    SEARCH_ALIASES = ("x2i-tiny", "diffusers", "load diffusion model")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        bundled = [name for name, preset in PRESETS.items() if preset.directory]
        return {
            "required": {"flux": node_input(bundled, "for FLUX.1 itself, use Load Diffusion Model and Load VAE")},
            "optional": {"path": path_input("a folder in diffusers' form; used instead of the choice above")},
        }

    @classmethod
    def IS_CHANGED(cls, flux: str | None, path: str | None = "") -> str:
        return files.folder_fingerprint(path) if path else flux or ""

    @explained
    def load(self, flux: str, path: str = "") -> tuple[Any, Any]:
        return load_flux_for_comfyui(flux, path or None)


def _load_encoder(preset: Preset | None, folder: Path, family: str, dtype: torch.dtype) -> MLLMEncoder:
    if preset:
        expected = preset.mllm
        return load_encoder(expected.family, folder, spec=preset.encoding, expected=expected, dtype=dtype)
    return load_encoder(files.family_of(folder) if family == files.AUTO else family, folder, dtype=dtype)


def _as_levels(image: Image.Image) -> torch.Tensor:
    """IMAGE (1, H, W, 3) or MASK (1, H, W), in [0, 1]."""
    return torch.from_numpy(np.asarray(image, np.float32) / 255)[None]

"""The nodes that read prompts and images, and the list of all nodes.

Their inputs and outputs have ComfyUI's own types, so that its samplers and loaders take them: CONDITIONING is
[[prompt_embeds, {"pooled_output": ..., "guidance": ...}]], IMAGE is (B, H, W, C) in [0, 1], AUDIO is
{"waveform": (B, C, T), "sample_rate": Hz}.
"""

from typing import Any

import torch

from x2i_app.comfyui import files, host
from x2i_app.comfyui.light_control import follow
from x2i_app.comfyui.loaders import LoadAlignNet, LoadFlux, LoadMLLM, ReadImage
from x2i_app.comfyui.node_base import Aligner, Mllm, Node, explained, node_input, number_input, prompt_input
from x2i_app.comfyui.values import as_images, as_pixels, as_recordings, as_video
from x2i_app.errors import InvalidRequestError
from x2i_app.loading.checkpoints import load_light_control
from x2i_app.media import load_image
from x2i_app.notes import SILENT_VIDEO, Note, readable_answer
from x2i_app.pipeline import check_align_net
from x2i_app.presets import PRESETS
from x2i_app.prompts import plain_prompt
from x2i_app.request import Turn

_REWRITE = (
    "Rewrite this as a prompt for an image generator, in English, with what can be seen: subject, place, light and "
    "style. Answer with the prompt only: "
)
_LESS_INPUT = "choose 4 bit in X2I Load MLLM, a smaller MLLM, or fewer and smaller inputs"


class Encode(Node):
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
                "mllm": node_input("X2I_MLLM", "from X2I Load MLLM"),
                "alignnet": node_input("X2I_ALIGNNET", "from X2I Load AlignNet, trained for this MLLM"),
                "prompt": prompt_input("text in any language: what to draw, or what to change in the images"),
                "guidance": number_input("of FLUX.1 dev and Kontext; schnell has none", 3.5, 0.0, 100.0),
                "reason": node_input("BOOLEAN", "the MLLM answers first, and FLUX draws its answer", default=False),
            },
            "optional": {
                "images": node_input("IMAGE", "each image of the batch is one input"),
                "images_2": node_input("IMAGE", "further images, which may have another size than those before"),
                "images_3": node_input("IMAGE", "further images, which may have another size than those before"),
                "video": node_input("VIDEO", "from Load Video"),
                "video_frames": node_input("IMAGE", "a batch of frames is one video"),
                "video_fps": number_input("frames a second of video_frames", 24.0, 0.1, 240.0),
                "audio": node_input("AUDIO", "speech, music or sounds"),
                "history": node_input("X2I_HISTORY", "of another X2I Encode: its turn comes before this one"),
            },
        }

    @explained
    def encode(
        self,
        mllm: Mllm,
        alignnet: Aligner,
        prompt: str,
        guidance: float,
        reason: bool,
        images: torch.Tensor | None = None,
        images_2: torch.Tensor | None = None,
        images_3: torch.Tensor | None = None,
        video: Any = None,
        video_frames: torch.Tensor | None = None,
        video_fps: float = 24.0,
        audio: dict[str, Any] | None = None,
        history: tuple[Turn, ...] = (),
    ) -> tuple[list, str, str, tuple[Turn, ...]]:
        check_align_net(alignnet.align_net, mllm.encoder)
        text, notes = plain_prompt(prompt, 0)
        videos: list[Any] = [] if video_frames is None else [(list(as_pixels(video_frames)), video_fps)]
        if video is not None:
            source, is_silenced = as_video(video)
            videos.append(source)
            if is_silenced:
                notes = (*notes, Note(SILENT_VIDEO))
        turn = Turn(text, as_images(images, images_2, images_3), videos, as_recordings(audio))
        mllm.encoder.check_modalities([*history, turn])  # before ComfyUI makes room for the models
        host.load(mllm.managed, alignnet.managed)
        states = _read(mllm, [*history, turn], reason)
        align_net = alignnet.align_net
        prompt_embeds, pooled = align_net(states.hidden_states.to(align_net.device, align_net.dtype))
        values = {"pooled_output": host.to_output(pooled), "guidance": guidance}
        answered = Turn(turn.prompt, turn.images, turn.videos, turn.audios, states.answer or "")
        shown = "\n".join([*notes, *states.notes])
        said = readable_answer(answered.answer)
        return [[host.to_output(prompt_embeds), values]], said, shown, (*history, answered)


class RewritePrompt(Node):
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
                "mllm": node_input("X2I_MLLM", "from X2I Load MLLM"),
                "prompt": prompt_input("what to draw, in any language"),
                "instruction": prompt_input("comes before the prompt", _REWRITE),
            },
            "optional": {"images": node_input("IMAGE", "to describe; each image of the batch is one input")},
        }

    @explained
    def rewrite(self, mllm: Mllm, prompt: str, instruction: str, images: torch.Tensor | None = None) -> tuple[str]:
        host.load(mllm.managed)
        # x2i-tiny describes whatever it reads, and knows no instructions.
        asked = prompt if mllm.preset and PRESETS[mllm.preset].directory else instruction + prompt
        turn = Turn(asked, as_images(images))
        return (_read(mllm, [turn], reason=True).answer or prompt,)


class FollowImage(Node):
    """Keep what the model draws close to an image, with LightControl."""

    FUNCTION = "apply"
    RETURN_TYPES, RETURN_NAMES = ("MODEL",), ("model",)
    OUTPUT_TOOLTIPS = ("the model with LightControl, for KSampler",)
    SEARCH_ALIASES = ("controlnet", "light control", "edit", "image to image")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": node_input("MODEL", "the FLUX model for which the LightControl was trained"),
                "light_control": node_input(files.file_names(), "a preset's, or a file in models/x2i"),
                "image": node_input("IMAGE", "the image to keep to; not needed with strength 0", lazy=True),
                "strength": number_input("0 is without LightControl", 1.0, 0.0, 2.0, 0.05),
                "start": number_input("share of the steps after which it begins", 0.0, 0.0, 1.0, 0.01),
                "end": number_input("share of the steps after which it ends", 1.0, 0.0, 1.0, 0.01),
            }
        }

    def check_lazy_status(self, strength: float, image: Any = None, **_: Any) -> list[str]:
        """ComfyUI asks which lazy inputs are needed."""
        return ["image"] if strength and image is None else []

    @classmethod
    def IS_CHANGED(cls, light_control: str | None, **_: Any) -> str:
        return files.file_fingerprint(light_control, "light_control")

    @explained
    def apply(
        self, model: Any, light_control: str, image: torch.Tensor | None, strength: float, start: float, end: float
    ) -> tuple[Any]:
        if not strength:
            return (model,)
        if len(image) != 1:
            raise InvalidRequestError(f"{len(image)} images came, and LightControl follows one; choose one of them.")
        file = files.find_file(light_control, "light_control", host.Progress().report)
        net = load_light_control(file, dtype=torch.float32)
        return (follow(model, net, load_image(as_pixels(image)[0]), strength, start, end),)


def _read(mllm: Mllm, turns: list[Turn], reason: bool):
    encoder = mllm.encoder
    with host.watched(encoder.model, encoder.num_states - 1):
        (states,) = encoder.encode_batch([turns], reason=reason)
    mllm.managed.holder.model = encoder.model  # the first answer gives it a head
    return states


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

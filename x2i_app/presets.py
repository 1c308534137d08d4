"""The registry: every MLLM, AlignNet, FLUX model and memory profile that X2I knows.

Layer counts, widths, kinds of fusion and file names are those of the release (arXiv 2503.06134, weights at OPPOer/X2I).
An encoder checks `num_layers` and `hidden_size` against the model that it loads, so that a wrong entry is noticed.
"""

import json
from dataclasses import replace
from pathlib import Path

from x2i_app.errors import UnknownPresetError
from x2i_app.specs import (
    MODALITIES,
    UNKNOWN_MARK,
    AlignNetSpec,
    EncodingSpec,
    FluxSpec,
    Fusion,
    MemoryProfile,
    MLLMSpec,
    Modality,
    Preset,
)

# What each MLLM family takes, and how the reference encodes it (infer/inference_*.py of the public code).
FAMILIES: dict[str, EncodingSpec] = {
    "qwen2.5-vl": EncodingSpec(modalities=("text", "image", "video"), padding="padded"),
    "qwen2.5-omni": EncodingSpec(modalities=MODALITIES, audio_rate=16_000),
    # For the families with "compact" prompts below no AlignNet is released, so no weights depend on their padding.
    "qwen3-vl": EncodingSpec(modalities=("text", "image", "video")),
    "qwen3-omni": EncodingSpec(modalities=MODALITIES, audio_rate=16_000),
    "internvl3": EncodingSpec(("text", "image", "video"), max_video_frames=8),
    # The reference's template has no "image input"; eight frames are the number in InternVL's own example.
    "internvl2.5": EncodingSpec(
        ("text", "image", "video"), template="short-instruction", padding="padded", max_video_frames=8
    ),
    "minicpm-o": EncodingSpec(
        modalities=MODALITIES,
        image_size=None,
        max_image_pixels=448 * 448,
        max_video_frames=32,  # the reference takes 64; the app's limit for untrusted videos is lower
        max_video_pixels=448 * 448,
        audio_rate=16_000,
    ),
}

_DEV_LICENSE = "FLUX.1 [dev] Non-Commercial License"

FLUX_MODELS: dict[str, FluxSpec] = {
    spec.name: spec
    for spec in (
        FluxSpec(
            name="shuttle-3-diffusion",
            repo_id="shuttleai/shuttle-3-diffusion",
            revision="refs/pr/1",  # which has the diffusers layout
            num_inference_steps=4,
            guidance_scale=3.5,
            resolution=1024,
            license="Apache-2.0",
            guidance_embeds=False,
        ),
        FluxSpec(
            name="flux.1-schnell",
            repo_id="black-forest-labs/FLUX.1-schnell",
            revision="741f7c3ce8b383c54771c7003378a50191e9efe9",
            num_inference_steps=4,
            guidance_scale=3.5,
            resolution=1024,
            license="Apache-2.0",
            guidance_embeds=False,
            gated=True,
        ),
        FluxSpec(
            name="flux.1-dev",
            repo_id="black-forest-labs/FLUX.1-dev",
            revision="3de623fc3c33e44ffbe2bad470d0f45bccf2eb21",
            num_inference_steps=28,
            guidance_scale=3.5,
            resolution=1024,
            license=_DEV_LICENSE,
            guidance_embeds=True,
            gated=True,
            true_cfg=True,
        ),
        FluxSpec(  # a photographic variant of dev; its model card asks for this guidance
            name="flux.1-krea-dev",
            repo_id="black-forest-labs/FLUX.1-Krea-dev",
            revision=None,  # no commit of it is known to this project
            num_inference_steps=28,
            guidance_scale=4.5,
            resolution=1024,
            license=_DEV_LICENSE,
            guidance_embeds=True,
            gated=True,
            true_cfg=True,
        ),
        FluxSpec(  # edits an image by an instruction and keeps the rest of it
            name="flux.1-kontext-dev",
            repo_id="black-forest-labs/FLUX.1-Kontext-dev",
            revision="af58063aa431f4d2bbc11ae46f57451d4416a170",
            num_inference_steps=28,
            guidance_scale=2.5,
            resolution=1024,
            license=_DEV_LICENSE,
            guidance_embeds=True,
            gated=True,
            takes_reference=True,
            true_cfg=True,
        ),
        FluxSpec(  # fills masked parts of an image
            name="flux.1-fill-dev",
            repo_id="black-forest-labs/FLUX.1-Fill-dev",
            revision="358293da0354175698b67ec8299acf928313a78a",
            num_inference_steps=50,
            guidance_scale=30.0,
            resolution=1024,
            license=_DEV_LICENSE,
            guidance_embeds=True,
            gated=True,
            needs_mask=True,
        ),
        FluxSpec(
            name="x2i-tiny",
            repo_id="",
            revision=None,
            num_inference_steps=8,
            guidance_scale=3.5,
            resolution=128,
            license="Apache-2.0",
            guidance_embeds=False,
            directory="x2i-tiny",
        ),
    )
}

# From the best quality to the least memory; "auto" tries those for a card in this order.
MEMORY_PROFILES: dict[str, MemoryProfile] = {
    profile.name: profile
    for profile in (
        MemoryProfile("full", None, "full", "full", ("none",), 1024, "16-bit weights, all on the card"),
        # The scales that bitsandbytes keeps beside 8-bit weights do not move with them, so there is no offload.
        MemoryProfile("24gb", 24, "nf4", "int8", ("none",), 1024, "8-bit FLUX, 4-bit MLLM, all on the card"),
        MemoryProfile("16gb", 16, "nf4", "nf4", ("none", "model", "group"), 512, "4 bit, all on the card"),
        MemoryProfile(
            "12gb", 12, "nf4", "nf4", ("none", "model", "group"), 512, "4 bit; parts are swapped for a 7B MLLM"
        ),
        MemoryProfile("8gb", 8, "nf4", "nf4", ("model", "group"), 512, "4 bit, one part on the card at a time"),
        MemoryProfile("cpu", None, "full", "full", ("none",), 1024, "no card: 32-bit weights in the computer's memory"),
    )
}

_X2I_WEIGHTS = "OPPOer/X2I"
_NOT_RELEASED = AlignNetSpec(repo_id=None, filenames=(), fusion="conv")
_BRING_YOUR_OWN = (
    "Text, images, video and audio; no AlignNet is released for it: train your own "
    "(`python -m x2i_app train distill`), and give it as `alignnet`."
)


def _released(*filenames: str, fusion: Fusion = "conv") -> AlignNetSpec:
    return AlignNetSpec(_X2I_WEIGHTS, filenames, fusion)


def _preset(name: str, mllm: MLLMSpec, align_net: AlignNetSpec, about: str) -> Preset:
    return Preset(name, mllm, align_net, FAMILIES[mllm.family], flux="shuttle-3-diffusion", about=about)


_TINY = Preset(
    name="x2i-tiny",
    mllm=MLLMSpec("qwen2.5-omni", "x2i-tiny", "bundled", 8, 192),
    align_net=AlignNetSpec(
        None, ("align_net/diffusion_pytorch_model.safetensors",), fusion="conv", joint_dim=128, pooled_dim=128
    ),
    # Its AlignNet reads the states of the MLLM's answer, a sentence that describes any input.
    encoding=replace(
        FAMILIES["qwen2.5-omni"],
        states="answer",
        max_new_tokens=64,
        max_video_frames=8,
        max_video_pixels=96 * 96,
        trims_media=True,
        unknown_mark=UNKNOWN_MARK,
        # Answers below it: of 600 to media of its world, none; of 41 to photos without the mark, 38.
        least_confidence=-0.12,
    ),
    flux="x2i-tiny",
    about="A tiny demo model that runs on any CPU. It can only draw: houses, trees, cars, boats, balloons, flowers, "
    "cats, fish, stars, balls, rockets and umbrellas, in ten colors and under five skies.",
    directory="x2i-tiny",
    light_control="light_control",
)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        _TINY,
        _preset(
            "qwen2.5-vl-3b",
            MLLMSpec(
                "qwen2.5-vl",
                "Qwen/Qwen2.5-VL-3B-Instruct",
                "66285546d2b821cf421d4f5eb2576359d3770cd3",
                num_layers=36,
                hidden_size=2048,
            ),
            # The first name is published (README of X2I's ComfyUI nodes), the second follows the other presets' names.
            _released("qwen2.5-vl-3b_proj.pt", "X2I-Qwen2.5VL-3B.bin"),
            "Text, images and video; the lighter Qwen.",
        ),
        _preset(
            "qwen2.5-vl-7b",
            MLLMSpec(
                "qwen2.5-vl",
                "Qwen/Qwen2.5-VL-7B-Instruct",
                "cc594898137f460bfe9f0759e9844b3ce807cfb5",
                num_layers=28,
                hidden_size=3584,
            ),
            _released("qwen2.5-vl-7b_proj.pt", "X2I-Qwen2.5VL-7B.bin"),
            "Text, images and video.",
        ),
        _preset(
            "internvl2.5-1b",
            MLLMSpec(
                "internvl2.5",
                "OpenGVLab/InternVL2_5-1B",
                "9d423ea1ae9f893897ee3f7493141073f5afcf22",
                num_layers=24,
                hidden_size=896,
            ),
            _released("X2I-InternVL2.5-1B.bin", fusion="scale"),
            "Text, images and video; the smallest of the released variants.",
        ),
        _preset(
            "internvl2.5-4b",
            MLLMSpec(
                "internvl2.5",
                "OpenGVLab/InternVL2_5-4B",
                "2cf4a8158bbc40d35015e7c63b527890de4d27b3",
                num_layers=36,
                hidden_size=2048,
            ),
            _released("X2I-InternVL2.5-4B.bin"),
            "Text, images and video.",
        ),
        _preset(
            "minicpm-o-2.6",
            MLLMSpec(
                "minicpm-o",
                "openbmb/MiniCPM-o-2_6",
                "509805e84db1c84f154034d71a21c4f2331e6e11",
                num_layers=28,
                hidden_size=3584,
            ),
            _released("X2I-MiniCPM2-o-2.6.bin"),
            "Text, images, video and audio.",
        ),
        _preset(
            "qwen2.5-omni-3b",
            MLLMSpec(
                "qwen2.5-omni",
                "Qwen/Qwen2.5-Omni-3B",
                "f75b40e3da2003cdd6e1829b1f420ca70797c34e",
                num_layers=36,
                hidden_size=2048,
            ),
            _NOT_RELEASED,
            _BRING_YOUR_OWN,
        ),
        _preset(
            "qwen2.5-omni-7b",
            MLLMSpec(
                "qwen2.5-omni",
                "Qwen/Qwen2.5-Omni-7B",
                "ae9e1690543ffd5c0221dc27f79834d0294cba00",
                num_layers=28,
                hidden_size=3584,
            ),
            _NOT_RELEASED,
            _BRING_YOUR_OWN,
        ),
    )
}


def get_preset(name: str) -> Preset:
    """The preset of that name. Raises UnknownPresetError, which lists the known names."""
    return _look_up(PRESETS, name, "preset")


def known_flux(source: object) -> FluxSpec | None:
    """The FLUX model with that name or hub id, whatever its revision; None if the registry has none."""
    name = str(source).partition("@")[0]
    return next((spec for spec in FLUX_MODELS.values() if name in (spec.name, spec.repo_id)), None)


def similar_flux(guidance_embeds: bool, needs_mask: bool = False) -> FluxSpec:
    """The FLUX.1 model whose settings suit one that the registry lacks. guidance_embeds: of its configuration."""
    if needs_mask:
        return FLUX_MODELS["flux.1-fill-dev"]
    return FLUX_MODELS["flux.1-dev" if guidance_embeds else "flux.1-schnell"]  # only dev and its kin have them


def is_kontext(flux: str | Path, told: bool | None = None) -> bool:
    """Whether a FLUX model is a FLUX.1 Kontext; its weights have the names and shapes of FLUX.1-dev's.

    flux: a name of the registry, a folder, a file or a hub id. told: what the user says, None if nothing: the registry
    decides, then `model_index.json` of a folder in diffusers layout, then the name.
    """
    if told is not None:
        return told
    if spec := known_flux(flux):
        return spec.takes_reference
    return _pipeline_class(Path(flux)).startswith("FluxKontext") or "kontext" in Path(flux).name.lower()


def get_family(name: str) -> EncodingSpec:
    """How an MLLM family is used. Raises UnknownPresetError, which lists the known names."""
    return _look_up(FAMILIES, name, "MLLM family")


def presets_that_take(modality: Modality) -> list[str]:
    """Names of the presets whose MLLM takes that modality, in the registry's order."""
    return [preset.name for preset in PRESETS.values() if modality in preset.encoding.modalities]


def _look_up(registry, name, kind):
    try:
        return registry[name]
    except (KeyError, TypeError):
        raise UnknownPresetError(
            f"There is no {kind} called {str(name)[:80]!r}; choose one of {', '.join(registry)}."
        ) from None


def _pipeline_class(folder: Path) -> str:
    try:
        return str(json.loads((folder / "model_index.json").read_text(encoding="utf-8"))["_class_name"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""

"""upscale, caption, align convert and comfyui: what is done with files, without drawing."""

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from x2i_app.commands.flags import Number, Switch, first_given
from x2i_app.errors import EngineError, InvalidRequestError
from x2i_app.limits import LIMITS, validate_number
from x2i_app.quiet import quiet
from x2i_app.settings import ModelSettings, Settings

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Upscale:
    """Enlarge an image 2 or 4 times, and let the model redraw it faintly if you want."""

    image: str
    """image to enlarge; may also be given without the flag"""
    scale: int = 2
    """2 or 4"""
    upscaler: str | None = None
    """a file, or a name in the folder upscalers of --models; lanczos: resample only; none: the first in that folder"""
    redraw: Number = None
    """strength of a faint redraw by the model, such as 0.25; none: no redraw"""
    prompt: str | None = None
    """with --redraw: what the image shows; none: the model looks at the image"""
    steps: int | None = None
    """with --redraw: denoising steps, of which the strength's share is run"""
    seed: int | None = None
    """with --redraw: seed of the first part"""
    output: Path = Path("upscaled.png")
    """PNG file"""
    settings: ModelSettings = field(default_factory=ModelSettings)

    def run(self) -> int:
        """Enlarge the image, and keep its settings with what was done to it."""
        from x2i_app.media import load_image, save_image
        from x2i_app.media.metadata import with_redraw, with_upscale

        if self.output.suffix.lower() != ".png" or self.output.is_dir() or not self.output.parent.is_dir():
            raise InvalidRequestError(
                f"--output is {str(self.output)!r}; give a file that ends in .png, in a folder that exists."
            )
        if self.redraw is None and (flag := first_given(self, "prompt", "steps", "seed")):
            raise InvalidRequestError(f"{flag} needs --redraw, which lets the model draw; add it, or leave {flag} out.")
        if self.redraw is not None:
            validate_number("redraw", self.redraw, LIMITS.strength)
        image, models = load_image(self.image), self.settings.models
        with quiet():
            from x2i_app.devices import best_device
            from x2i_app.loading.upscaling import LANCZOS, find_upscalers, load_upscaler, upscale

            name = self.upscaler or next(iter(find_upscalers(models)), LANCZOS)
            upscaler = None if name == LANCZOS else load_upscaler(name, models)
            if upscaler:
                upscaler.to(self.settings.device or best_device())
            enlarged = upscale(image, self.scale, upscaler)
            del upscaler  # the model needs the card
        texts, how = with_upscale(self.image, self.scale, Path(name).name), Path(name).name
        if self.redraw is not None:
            enlarged = self._redrawn(enlarged)
            texts = with_redraw(texts, self.redraw, seed=self.seed or 0, steps=self.steps, prompt=self.prompt)
            how += f", redrawn with strength {self.redraw:g}"
        try:
            save_image(enlarged, self.output, texts)
        except OSError as error:
            raise EngineError(f"{str(self.output)!r} cannot be written ({error.strerror}).") from error
        print(f"{self.output}: {enlarged.width} x {enlarged.height}, {how}")
        return 0

    def _redrawn(self, enlarged: "Image.Image") -> "Image.Image":
        from x2i_app.serving.engine import Engine
        from x2i_app.serving.redraw import redraw

        engine = Engine(Settings(**asdict(self.settings)))
        engine.start()
        try:
            return redraw(
                engine,
                enlarged,
                self.redraw,
                shown=self.image,
                prompt=self.prompt or "",
                steps=self.steps,
                seed=self.seed or 0,
                on_part=lambda number, count: print(f"Redrawing part {number} of {count}", file=sys.stderr),
            )
        finally:
            engine.close()


@dataclass(frozen=True, kw_only=True)
class Caption:
    """Describe the images of a folder in text files beside them, for training."""

    folder: Path
    """folder of images; may also be given without the flag"""
    preset: str = "x2i-tiny"
    """preset whose MLLM looks at the images, or custom:FAMILY"""
    mllm: str | None = None
    """MLLM: a folder, a hub id or a repacked .pt file instead of the preset's"""
    prompt: str | None = None
    """what the MLLM is asked; none: for one or two plain sentences"""
    max_broken: int = 10
    """images that cannot be described before the command stops"""
    device: str | None = None
    """torch device, e.g. cuda or cpu; none: the fastest"""

    @quiet()
    def run(self) -> int:
        """Write what is missing; no file is ever replaced."""
        import torch

        from x2i_app.devices import best_device
        from x2i_app.training.image_captions import caption_folder

        if not self.folder.is_dir():
            raise InvalidRequestError(f"There is no folder {str(self.folder)!r}; give one with images.")
        device = torch.device(self.device or best_device())
        written, kept = caption_folder(self.folder, self.preset, self.mllm, self.prompt, self.max_broken, device)
        print(f"{written:,} captions written, {kept:,} images had one")
        return 0


@dataclass(frozen=True, kw_only=True)
class AlignConvert:
    """Write an AlignNet as a .pt file for the reference's ComfyUI nodes, as .safetensors, or as a folder."""

    input: str
    """a .bin, .pt or .safetensors file of any form, or a folder that training wrote"""
    output: Path
    """a new .pt file, .safetensors file, or folder"""

    @quiet()
    def run(self) -> int:
        """Convert it, and say what it is."""
        from x2i_app.loading.alignnet_forms import convert_alignnet

        sizes = convert_alignnet(self.input, self.output).config
        print(f"{self.output}: {sizes.num_states} states of width {sizes.hidden_size}, fused by {sizes.fusion}")
        return 0


@dataclass(frozen=True, kw_only=True)
class ComfyUI:
    """Put X2I's nodes into a ComfyUI, or remove them."""

    path: Path
    """ComfyUI's folder; may also be given without the flag"""
    remove: Switch = False
    """remove the nodes again"""

    def run(self) -> int:
        """Write or remove a folder in custom_nodes, and say so."""
        from x2i_app.comfyui.install import install, remove

        print(*(remove if self.remove else install)(self.path), sep="\n")
        return 0

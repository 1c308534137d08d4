"""From files to working parts: safe, strict, and with the reason said when it fails."""

from x2i_app.loading.build import load_pipeline
from x2i_app.loading.checkpoints import load_alignnet
from x2i_app.loading.control import load_light_control
from x2i_app.loading.flux import load_controlnet, load_transformer
from x2i_app.loading.lora import use_loras

__all__ = [
    "load_alignnet",
    "load_controlnet",
    "load_light_control",
    "load_pipeline",
    "load_transformer",
    "use_loras",
]

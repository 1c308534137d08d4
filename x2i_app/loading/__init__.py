"""From files of every common form to working parts: loading is safe and strict, and errors name file and cause."""

from x2i_app.quiet import quiet_import

with quiet_import():  # diffusers imports bitsandbytes
    from x2i_app.loading.build import load_pipeline
    from x2i_app.loading.checkpoints import load_alignnet, load_light_control
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

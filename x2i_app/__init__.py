"""X2I: anything to image. A multimodal LLM reads text, images, video and audio; FLUX.1 generates the image.

The public names are imported when first used, so that `import x2i_app` is instant and imports no torch.
"""

import importlib

_PUBLIC = {
    "load_pipeline": "x2i_app.loading",
    "X2IPipeline": "x2i_app.pipeline",
    "GenerationRequest": "x2i_app.request",
    "GenerationResult": "x2i_app.request",
    "Turn": "x2i_app.request",
    "X2IError": "x2i_app.errors",
}

__all__ = list(_PUBLIC)
__version__ = "0.1.0"


def __getattr__(name):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

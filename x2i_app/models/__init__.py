"""What X2I adds to FLUX.1 and the MLLM."""

from x2i_app.models.alignnet import AlignNet

__all__ = ["AlignNet"]

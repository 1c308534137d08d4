"""MiniCPM-o 2.6 without speech output, built from modules of transformers."""

from x2i_app.encoders.minicpm_o.encoder import MiniCPMOEncoder

__all__ = ["MiniCPMOEncoder"]

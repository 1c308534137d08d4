"""MiniCPM-o 2.6, the MLLM that hears: the understanding half, from transformers' own parts."""

from x2i_app.encoders.minicpm_o.encoder import MiniCPMOEncoder

__all__ = ["MiniCPMOEncoder"]

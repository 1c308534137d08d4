"""From files to working parts: safe, strict, and with the reason said when it fails."""

from x2i_app.loading.build import load_pipeline
from x2i_app.loading.checkpoints import load_alignnet

__all__ = ["load_alignnet", "load_pipeline"]

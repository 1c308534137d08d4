"""The modules that X2I trains: AlignNet and LightControl."""

from x2i_app.quiet import quiet_import

with quiet_import():  # diffusers imports bitsandbytes
    from x2i_app.models.alignnet import AlignNet
    from x2i_app.models.control_hook import controlled
    from x2i_app.models.light_control import LightControl
    from x2i_app.models.two_prompts import cached_blocks, negative_rows

__all__ = ["AlignNet", "LightControl", "cached_blocks", "controlled", "negative_rows"]

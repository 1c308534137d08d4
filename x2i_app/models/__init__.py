"""The modules that X2I trains: AlignNet and LightControl."""

from x2i_app.models.alignnet import AlignNet
from x2i_app.models.control_hook import controlled
from x2i_app.models.light_control import LightControl

__all__ = ["AlignNet", "LightControl", "controlled"]

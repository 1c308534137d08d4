"""ComfyUI imports this file if the repository is cloned into its custom_nodes; see docs/COMFYUI.md."""

import sys
from pathlib import Path

if "folder_paths" in sys.modules:  # of ComfyUI; tools that import this folder for another reason need no nodes
    sys.path.append(str(Path(__file__).resolve().parent))
    from x2i_app.comfyui.nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

    __all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]

"""Nodes for ComfyUI: the same encoders, AlignNets and LightControls as everywhere else. `nodes` lists them."""

"""What stands before Gradio's routes: who may ask for what, how much of it, and uploads."""

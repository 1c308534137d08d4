"""The page in the browser and its HTTP endpoints. The only place that knows Gradio."""

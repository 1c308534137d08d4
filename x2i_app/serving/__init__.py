"""How jobs become images: an engine with a queue drives a worker that holds the model."""

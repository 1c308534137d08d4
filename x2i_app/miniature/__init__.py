"""The miniature: a cartoon world, and the training of x2i-tiny on it. Nothing that serves a picture imports this."""

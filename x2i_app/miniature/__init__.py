"""The miniature: a cartoon world, and the training of x2i-tiny on it. The app does not import this package."""

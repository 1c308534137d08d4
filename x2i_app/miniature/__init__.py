"""The miniature: a cartoon world, and the training of x2i-tiny on it. The app does not import this package."""

import sys

from x2i_app.hosting import wait_passively

if sys.argv[:1] == ["-m"]:  # Python sets this while it looks for the module of `python -m x2i_app.miniature.build`
    wait_passively()

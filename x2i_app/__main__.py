"""python -m x2i_app app | generate | batch | evaluate | train | plan; --help lists them."""

import sys

from x2i_app.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""python -m x2i_app app | generate | batch | evaluate; --help says more."""

import sys

from x2i_app.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

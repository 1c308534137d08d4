"""`python -m x2i_app COMMAND`; --help lists the commands of `cli.py`."""

import sys

from x2i_app.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

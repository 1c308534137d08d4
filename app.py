"""X2I Studio: python app.py [--preset x2i-tiny] [--port 7860] ...; --help lists every setting.

The same as `python -m x2i_app app`, and what a Hugging Face Space runs; it sets X2I_* variables instead of flags.
"""

import sys

from x2i_app.cli import main

if __name__ == "__main__":
    sys.exit(main(["app", *sys.argv[1:]]))

"""Files that are safe once they are written, whatever ends the program or the machine."""

import os
from typing import IO


def flush(file: IO) -> None:
    """Have what was written to a file on the disk itself, not only in the memory of the system."""
    file.flush()
    os.fsync(file.fileno())

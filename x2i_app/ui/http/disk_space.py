"""A check for free disk space before anything is written on behalf of a user."""

import shutil
from pathlib import Path

from x2i_app.errors import EngineError

SPARE_BYTES = 2**30  # kept free for the rest of the machine


def check_disk_space(folder: Path, size: int = 0) -> None:
    """Raise EngineError unless `size` bytes fit into `folder` with SPARE_BYTES left. The folder need not exist yet."""
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    if shutil.disk_usage(existing).free < SPARE_BYTES + size:
        raise EngineError("The disk is nearly full; try again later, or tell the owner of this app.")

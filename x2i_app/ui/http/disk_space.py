"""Room on the disk: what strangers make is written only where much is left for the machine itself."""

import shutil
from pathlib import Path

from x2i_app.errors import EngineError

SPARE_BYTES = 2**30


def check_room(folder: Path, size: int = 0) -> None:
    """Raise EngineError unless `folder`, which may not be there yet, can take `size` bytes with SPARE_BYTES left."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if shutil.disk_usage(there).free < SPARE_BYTES + size:
        raise EngineError("The disk is nearly full; try again later, or tell whoever runs this app.")

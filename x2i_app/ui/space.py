"""Room on the disk: what strangers make is written only where much is left for the machine itself."""

import shutil
from pathlib import Path

from x2i_app.errors import EngineError

SPARE_BYTES = 2**30


def check_room(folder: Path, size: int) -> None:
    """Raise EngineError unless `size` bytes can be written in `folder` with SPARE_BYTES left."""
    if shutil.disk_usage(folder).free < SPARE_BYTES + size:
        raise EngineError("The disk is nearly full; try again later, or tell whoever runs this app.")

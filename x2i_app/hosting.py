"""Support for hosting on a Hugging Face Space: set up before other libraries read their environment variables."""

import os
from collections.abc import MutableMapping
from pathlib import Path

_PERSISTENT = Path("/data")  # where a Space mounts storage that survives a restart, if it has any


def use_persistent_storage(
    environment: MutableMapping[str, str] = os.environ, storage: Path = _PERSISTENT
) -> Path | None:
    """On a Space with persistent storage, keep downloaded weights there. Returns the folder, or None elsewhere.

    Call it before huggingface_hub or whisper are imported, because they read these variables only once. A variable
    that is set already is not changed.
    """
    if "SPACE_ID" not in environment or not os.access(storage, os.W_OK):
        return None
    environment.setdefault("HF_HOME", str(storage / ".huggingface"))
    environment.setdefault("XDG_CACHE_HOME", str(storage / ".cache"))  # Whisper's
    return storage

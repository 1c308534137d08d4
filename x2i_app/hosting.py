"""Where the app runs: what a Hugging Face Space offers, taken before any library looks for it."""

import os
from collections.abc import MutableMapping
from pathlib import Path

_PERSISTENT = Path("/data")  # where a Space mounts storage that outlives a restart, if it has any


def use_persistent_storage(
    environment: MutableMapping[str, str] = os.environ, storage: Path = _PERSISTENT
) -> Path | None:
    """On a Space with persistent storage, keep downloaded weights there; gives back the folder, None elsewhere.

    Call it before huggingface_hub or whisper are imported: both read the variables that it sets only then. A variable
    that is set already stays as it is.
    """
    if "SPACE_ID" not in environment or not os.access(storage, os.W_OK):
        return None
    environment.setdefault("HF_HOME", str(storage / ".huggingface"))
    environment.setdefault("XDG_CACHE_HOME", str(storage / ".cache"))  # Whisper's
    return storage

"""Support for hosting on a Hugging Face Space: set up before other libraries read their environment variables."""

import os
from collections.abc import MutableMapping
from pathlib import Path

_PERSISTENT = Path("/data")  # where a Space mounts storage that survives a restart, if it has any


def wait_passively(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let idle threads of OpenMP sleep instead of spin; a policy that the user set stays.

    torch's threads wait for each other after each operation. Spinning takes their cores from other processes: eight
    images on two cores beside a busy process took 10.6 s, and 7.6 s with this; on a quiet machine 5.5 s and 5.7 s.
    For entry points only, before torch is imported: a library leaves the variables of its process alone.
    """
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")


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

"""How much one request may send, and for how long. `x2i_app.limits` says what a generation request may ask for."""

from dataclasses import dataclass

from x2i_app.media import CAPS


@dataclass(frozen=True)
class HttpLimits:
    """Sizes are in bytes, times in seconds.

    uploads: how many the app receives at once. watchers: how many clients follow the progress of an upload at once.
    watch_seconds: how long they wait for it to start.
    logins: wrong ones within `login_seconds`, counted over all clients.
    """

    path_length: int = 2000
    json_bytes: int = 2**20
    json_depth: int = 32
    json_seconds: float = 30
    upload_bytes: int = CAPS.file_bytes
    upload_files: int = 32
    upload_seconds: float = 600
    uploads: int = 8
    watchers: int = 32
    watch_seconds: float = 3
    logins: int = 10
    login_seconds: float = 60


HTTP_LIMITS = HttpLimits()

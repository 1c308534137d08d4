"""The places where the program runs: proxies, terminals, Spaces. Set up before libraries read their variables."""

import io
import os
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from urllib.request import getproxies

from x2i_app.errors import InvalidRequestError

_PERSISTENT = Path("/data")  # where a Space mounts storage that survives a restart, if it has any

_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def wait_passively(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let idle threads of OpenMP sleep instead of spin; a policy that the user set stays.

    torch's threads wait for each other after each operation. Spinning takes their cores from other processes: eight
    images on two cores beside a busy process took 10.6 s, and 7.6 s with this; on a quiet machine 5.5 s and 5.7 s.
    For entry points only, before torch is imported: a library leaves the variables of its process alone.
    """
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def use_proxies(environment: MutableMapping[str, str] = os.environ, system: Mapping[str, str] | None = None) -> None:
    """Let downloads use the proxies of the environment or the system, and never what this machine asks itself.

    Gradio asks the page whether it is up before it shows the address; a proxy cannot answer that. httpx reads the
    proxies of Windows and macOS, but not their exceptions, and does not know GNOME's `socks://`.
    system: proxies by their scheme; None asks the system. Raises InvalidRequestError for a proxy of an unknown kind.
    """
    proxies = dict(getproxies() if system is None else system)
    excepted = proxies.pop("no", "")
    if not any(proxies.get(scheme) for scheme in ("http", "https", "all")):
        return
    for scheme in ("http", "https", "all"):
        if address := proxies.get(scheme):
            kind, mark, rest = address.partition("://")
            kind = {"socks": "socks5"}.get(kind.lower(), kind.lower())
            if mark and kind not in ("http", "https", "socks5", "socks5h"):
                raise InvalidRequestError(
                    f"The variable {scheme}_proxy names a {kind} proxy; use http://, https:// or socks5://."
                )
            for name in (f"{scheme}_proxy", f"{scheme}_PROXY".upper()):
                environment[name] = f"{kind}{mark}{rest}" if mark else address
    names = [name.strip() for name in excepted.split(",") if name.strip()]
    own = [name for name in _THIS_MACHINE if name not in names]
    for name in ("no_proxy", "NO_PROXY"):
        environment[name] = ",".join((*names, *own))


def ask_directly(host: str, environment: MutableMapping[str, str] = os.environ) -> None:
    """Let no proxy be asked for this address of this machine, on which the page listens; for after `use_proxies`."""
    for name in ("no_proxy", "NO_PROXY"):
        known = environment.get(name)
        if known is not None and host not in known.split(","):
            environment[name] = f"{known},{host}"


def print_any_text() -> None:
    """Let `print` write what the terminal's code page lacks as escapes, as \\u7ea2, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


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

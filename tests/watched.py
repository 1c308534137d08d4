"""Run a program and write down whom its process tries to reach: python tests/watched.py LOG app.py ARGUMENTS

Every name that it wants resolved, and every address that it connects or sends to, is a line of LOG, unless it is this
machine's own.
"""

import ipaddress
import runpy
import sys
from pathlib import Path

_PLACES = {"socket.connect": 1, "socket.sendto": 1, "socket.getaddrinfo": 0, "socket.gethostbyname": 0}


def is_here(place: object) -> bool:
    """Whether an address, or a name, is this machine's own."""
    host = place[0] if isinstance(place, tuple) else place
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    if host in (None, "", "localhost") or (isinstance(place, str) and place.startswith(("/", "\0"))):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def main() -> None:
    """Listen, then become the program."""
    log = Path(sys.argv[1])
    log.touch()

    def listen(event, arguments):
        if event in _PLACES and not is_here(arguments[_PLACES[event]]):
            with log.open("a") as file:
                file.write(f"{event} {arguments[_PLACES[event]]!r}\n")

    sys.addaudithook(listen)
    del sys.argv[:2]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()

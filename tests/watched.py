"""Run a program and log which other machines it tries to reach: python tests/watched.py LOG app.py ARGUMENTS

Each name that it resolves and each address that it connects or sends to is a row of LOG, except this machine's own.
"""

import ipaddress
import runpy
import sys
from pathlib import Path

_ARGUMENT = {"socket.connect": 1, "socket.sendto": 1, "socket.getaddrinfo": 0, "socket.gethostbyname": 0}


def is_here(address: object) -> bool:
    """Whether an address or a name belongs to this machine."""
    host = address[0] if isinstance(address, tuple) else address
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    if host in (None, "", "localhost") or (isinstance(address, str) and address.startswith(("/", "\0"))):
        return True
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return False
    return number.is_loopback or number.is_unspecified


def main() -> None:
    """Install the hook, then run the program in this process."""
    log = Path(sys.argv[1])
    log.touch()

    def listen(event, arguments):
        if event in _ARGUMENT and not is_here(arguments[_ARGUMENT[event]]):
            with log.open("a") as file:
                file.write(f"{event} {arguments[_ARGUMENT[event]]!r}\n")

    sys.addaudithook(listen)
    del sys.argv[:2]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()

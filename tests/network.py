"""A network for the tests that is the loopback alone, where Linux lets us have one; whoever tries to leave is counted.

In a container without the right to it, or on another system, the app's own process is still watched, by `watched.py`.
"""

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1


def isolate() -> bool:
    """Move this process, and all that it will start, into a namespace of its own; whether that was possible.

    To be called before there is a second thread.
    """
    if not hasattr(os, "fork"):
        return False
    # Tried in a child first: some systems grant the namespace and then refuse to bring its loopback up.
    child = os.fork()
    if child == 0:
        os._exit(0 if _move() else 1)
    return os.waitpid(child, 0)[1] == 0 and _move()


def attempts() -> int:
    """How often any process in the namespace found no way to an address since it was made; the kernel counts."""
    names, values = (line.split() for line in Path("/proc/net/snmp").read_text().splitlines()[:2])
    second = (line.split() for line in Path("/proc/net/snmp6").read_text().splitlines())
    return int(values[names.index("OutNoRoutes")]) + sum(int(n) for name, n in second if name == "Ip6OutNoRoutes")


def _move() -> bool:
    user, group = os.getuid(), os.getgid()
    try:
        unshare = ctypes.CDLL(None).unshare
        if unshare(_NEW_NETWORK):  # only root may; everybody else becomes one in a namespace of users
            if unshare(_NEW_USER | _NEW_NETWORK):
                return False
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            flags = struct.unpack("16sh", fcntl.ioctl(any_socket, _GET_FLAGS, struct.pack("16sh", b"lo", 0)))[1]
            fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh", b"lo", flags | _UP))
        attempts()
        return True
    except (AttributeError, OSError, ValueError):
        return False

"""A network for the tests that is only the loopback, where Linux allows one; the kernel counts attempts to leave it.

In a container without the right to it, or on another system, only the app's own process is watched, by `watched.py`.
"""

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1
_VARIABLE = "X2I_TESTS_NETWORK"  # tells child processes, such as pytest-xdist's workers, in which network they are
_ISOLATED, _SHARED = "isolated", "shared"


def isolate() -> bool:
    """Move this process, and all that it will start, into a namespace of its own; return whether that was possible.

    A child of a process that has called this stays in its parent's namespace. Call this before a second thread exists.
    """
    if _VARIABLE not in os.environ:
        os.environ[_VARIABLE] = _ISOLATED if _can_move() and _move() else _SHARED
    return is_isolated()


def is_isolated() -> bool:
    """Whether this process is in a network that is only the loopback."""
    return os.environ.get(_VARIABLE) == _ISOLATED


def renew() -> None:
    """Give an isolated process, and all that it will start from now on, another network.

    Processes that it has started before keep theirs.
    """
    if is_isolated() and not _move():
        raise OSError("The system allowed one network of the tests' own, and then refused another one.")


def attempts() -> int:
    """How often any process of this network found no route to an address. The kernel counts this."""
    names, values = (row.split() for row in Path("/proc/net/snmp").read_text().splitlines()[:2])
    second = (row.split() for row in Path("/proc/net/snmp6").read_text().splitlines())
    return int(values[names.index("OutNoRoutes")]) + sum(int(n) for name, n in second if name == "Ip6OutNoRoutes")


def _can_move() -> bool:
    """Tried in a child first: some systems grant the namespace and then refuse to start its loopback."""
    if not hasattr(os, "fork"):
        return False
    child = os.fork()
    if child == 0:
        os._exit(0 if _move() else 1)
    return os.waitpid(child, 0)[1] == 0


def _move() -> bool:
    user, group = os.getuid(), os.getgid()
    try:
        unshare = ctypes.CDLL(None).unshare
        if unshare(_NEW_NETWORK):  # only root may do that; other users need a user namespace first
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

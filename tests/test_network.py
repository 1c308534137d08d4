"""Whoever tries to leave the machine is found out: by the kernel, which counts, and by a hook in the app's process."""

import socket
import subprocess
import sys
from pathlib import Path

import network
import pytest

LEAVING = """
import socket
for attempt in (
    lambda: socket.create_connection(("192.0.2.1", 80), 1),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)),
    lambda: socket.getaddrinfo("example.invalid", 80),
    lambda: socket.create_connection(("127.0.0.1", 9), 1),
    lambda: socket.getaddrinfo("localhost", 80),
):
    try:
        attempt()
    except OSError:
        pass
"""


def leave(tmp_path) -> list[str]:
    """What the hook hears of a program that tries to leave in three ways, and asks this machine in two."""
    program, log = tmp_path / "program.py", tmp_path / "contacts.log"
    program.write_text(LEAVING)
    watched = Path(__file__).with_name("watched.py")
    subprocess.run([sys.executable, str(watched), str(log), str(program)], check=True, timeout=60)
    return log.read_text().splitlines()


def test_the_hook_hears_of_names_and_addresses_outside_and_of_no_others(tmp_path):
    heard = leave(tmp_path)
    events = [line.split()[0].removeprefix("socket.") for line in heard]
    assert events == ["getaddrinfo", "connect", "sendto", "getaddrinfo"]
    assert ["192.0.2.1" in line for line in heard] == [True, True, True, False]


def test_the_kernel_counts_what_children_try_and_nobody_gets_out(tmp_path):
    if not network.is_isolated():
        pytest.skip("the system allows no network of our own; the hook alone watches")
    before = network.attempts()
    leave(tmp_path)
    assert network.attempts() >= before + 2
    with pytest.raises(OSError, match="unreachable"):
        socket.create_connection(("192.0.2.1", 80), 1)

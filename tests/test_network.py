"""Attempts to leave the machine are found by the kernel's counters and by a hook in the app's process."""

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
    """What the hook writes about a program that tries to leave in three ways and contacts this machine in two."""
    program, log = tmp_path / "program.py", tmp_path / "contacts.log"
    program.write_text(LEAVING)
    watched = Path(__file__).with_name("watched.py")
    subprocess.run([sys.executable, str(watched), str(log), str(program)], check=True, timeout=300)
    return log.read_text().splitlines()


def test_the_hook_reports_other_machines_only(tmp_path):
    rows = leave(tmp_path)
    events = [row.split()[0].removeprefix("socket.") for row in rows]
    assert events == ["getaddrinfo", "connect", "sendto", "getaddrinfo"]
    assert ["192.0.2.1" in row for row in rows] == [True, True, True, False]


def test_the_kernel_counts_attempts_of_children(tmp_path):
    """And none of them succeeds."""
    before = network.attempts()
    leave(tmp_path)
    if network.is_isolated():  # else the hook is the only witness, and the first row of pytest's output says so
        assert network.attempts() >= before + 2
    with pytest.raises(OSError, match="unreachable" if network.is_isolated() else ""):
        socket.create_connection(("192.0.2.1", 80), 1)

"""Waits for the end of the program that started it, then removes what a killed program could not remove itself.

A process of its own: `python janitor.py FOLDER`. It imports only the standard library, until there is a process to end.
Standard input has a row for each thing to clean up, and ends when the program ends, however that happens:

    kill PID STARTED     end this process, unless another process has that id by now (STARTED: seconds, as psutil says)
    forget PID           it has ended
    remove PATH          remove this folder too
"""

import os
import shutil
import signal
import sys
import time

_SECONDS = 5  # processes that are about to end still write files


def main(folder: str, site: str) -> None:
    """Read what to clean up, and do it. site: the folder with the package psutil."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # sent to all processes of a terminal or a service
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    processes, folders = {}, [folder]
    for row in sys.stdin.buffer:
        order, _, rest = row.decode("utf-8", "surrogateescape").rstrip("\n").partition(" ")
        if order == "kill":
            pid, _, started = rest.partition(" ")
            processes[int(pid)] = float(started)
        elif order == "forget":
            processes.pop(int(rest), None)
        elif order == "remove":
            folders.append(rest)
    if processes:
        sys.path.append(site)
        _kill(processes)
    deadline = time.monotonic() + _SECONDS
    while any(map(os.path.lexists, folders)) and time.monotonic() < deadline:
        for each in folders:
            shutil.rmtree(each, ignore_errors=True)
        time.sleep(0.1)


def _kill(processes: dict[int, float]) -> None:
    import psutil

    for pid, started in processes.items():
        try:
            process = psutil.Process(pid)
            if process.create_time() == started:
                process.kill()
        except psutil.Error:
            pass  # it has ended


if __name__ == "__main__":
    main(*sys.argv[1:])

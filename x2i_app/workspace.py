"""Removes all temporary files of a run, however it ends.

All temporary files of a run (uploads, images for the page, decoded media) lie in one folder. It is removed

- at the end of the run, also after SIGTERM, SIGHUP or Ctrl-C, which end it in an orderly way within STOP_SECONDS;
- by a second process, janitor.py, if the run was killed;
- by the next run, if that process was killed too, or the machine went down. A run holds a lock in its folder, so only
  the folders of ended runs are removed.

The entry points call `workspace`. Used as a library, X2I handles no signals and writes to the usual temporary folder.
"""

import faulthandler
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from x2i_app.errors import EngineError

STOP_SECONDS = 8  # Docker kills a container 10 s after SIGTERM
_JANITOR_SECONDS = 2  # how long to wait for the janitor to end
OWN_SECRETS = ("X2I_LOGIN", "X2I_OPENAI_KEY")
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|KEY|LOGIN", re.IGNORECASE)  # in the name of a variable
_PREFIX, _LOCK = "x2i-run-", ".lock"
_VARIABLES = ("GRADIO_TEMP_DIR", "TMPDIR", "TEMP", "TMP")  # where libraries and child processes write temporary files
_POLL_SECONDS, _PARENT_THREAD = 0.5, "x2i-parent"
_SAME_SECONDS = 1  # Ctrl-C reaches a process twice if its parent passes it on


class Stopped(KeyboardInterrupt):
    """The process got SIGTERM or SIGHUP. What handles Ctrl-C handles these too."""

    def __init__(self, number: int):
        super().__init__()
        self.status = 128 + number


class _Workspace:
    """The folder of this run, and the process that watches over it. system_folder: the one for temporary files."""

    def __init__(self, folder: Path, system_folder: str):
        self.folder, self.system_folder = folder, system_folder
        self.pid = os.getpid()
        self.stopped_at = 0.0  # on the monotonic clock
        self.janitor = self._start_janitor()

    def _start_janitor(self) -> subprocess.Popen | None:
        import psutil

        script = Path(__file__).with_name("janitor.py")
        site = Path(psutil.__file__).parents[1]
        own_group = {"creationflags": 0x0000_0208} if os.name == "nt" else {"start_new_session": True}  # without Ctrl-C
        with suppress(OSError):  # where no process may be started, the next run cleans up
            return subprocess.Popen(
                [sys.executable, "-I", "-S", script, self.folder, site],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=self.folder.anchor,
                **own_group,
            )

    def tell(self, *parts: object) -> None:
        """Send the janitor a row."""
        if self.janitor:
            with suppress(OSError):
                self.janitor.stdin.write(os.fsencode(" ".join(map(str, parts)) + "\n"))

    def close(self) -> None:
        """Remove the folder, then let the janitor end.

        After a signal the janitor keeps running until this process has ended: threads that still run may make the
        folder again.
        """
        if os.getpid() != self.pid:
            return  # a forked child process
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.janitor and not self.stopped_at:
            self.janitor.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self.janitor.wait(_JANITOR_SECONDS)


_current: _Workspace | None = None


@contextmanager
def workspace() -> Iterator[None]:
    """Keep all temporary files of the block in one folder that is removed afterwards, and stop it in an orderly way.

    Inside, SIGTERM and SIGHUP raise Stopped in the main thread, and Ctrl-C KeyboardInterrupt; then the process has
    STOP_SECONDS to end. Raises EngineError if no temporary files can be written.
    """
    global _current
    if _current:
        yield
        return
    with ExitStack() as stack:
        try:
            system_folder = tempfile.gettempdir()
        except OSError as error:
            raise EngineError("There is no folder for temporary files; set TMPDIR to one.") from error
        parent = Path(os.environ.get("GRADIO_TEMP_DIR") or system_folder)
        try:
            folder = _new_folder(parent, stack)
        except (OSError, NotImplementedError) as error:
            raise EngineError(
                f"No temporary files can be written to {str(parent)!r} ({error}); set TMPDIR to another folder."
            ) from error
        before = {name: os.environ.get(name) for name in _VARIABLES}
        stack.callback(_restore, before)
        os.environ |= dict.fromkeys(_VARIABLES, str(folder))
        tempfile.tempdir = None  # to be read from the variables again
        _current = _Workspace(folder, system_folder)
        stack.callback(_close)
        stack.enter_context(_signals())
        yield


def _restore(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    tempfile.tempdir = None


def _close() -> None:
    global _current
    _current.close()
    _current = None


def _new_folder(parent: Path, stack: ExitStack) -> Path:
    """A locked folder for this run. The folders of this user's ended runs are removed."""
    from filelock import FileLock, Timeout  # takes 0.1 s to import

    parent.mkdir(parents=True, exist_ok=True)
    for old in parent.glob(f"{_PREFIX}*"):
        with suppress(Timeout, OSError):
            if (old / _LOCK).is_file() and _is_own(old):
                with FileLock(old / _LOCK, timeout=0):
                    shutil.rmtree(old, ignore_errors=True)
                old.rmdir()  # Windows does not remove a lock that is held
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent.absolute()))
        lock = FileLock(folder / _LOCK)
        lock.acquire()
        if (folder / _LOCK).exists():  # if not, another run took this folder for an old one and removed it
            stack.callback(lock.release)
            return folder
        lock.release()


def _is_own(folder: Path) -> bool:
    return not folder.is_symlink() and (not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid())


def system_folder() -> str:
    """The system's folder for temporary files, also inside `workspace`."""
    return _current.system_folder if _current else tempfile.gettempdir()


# Processes and folders


def kill_with_program(pid: int) -> None:
    """Have a child process ended if this program is killed. One that ends before must be passed to `forget`."""
    if _current:
        import psutil

        with suppress(psutil.Error):
            _current.tell("kill", pid, repr(psutil.Process(pid).create_time()))


def forget(pid: int) -> None:
    """The opposite of `kill_with_program`."""
    if _current:
        _current.tell("forget", pid)


def remove_with_program(folder: str | Path) -> None:
    """Have a folder outside the workspace removed if this program is killed."""
    if _current:
        _current.tell("remove", folder)


def without_secrets(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for processes that decode files of strangers: none of its variables lets anybody in."""
    return {name: value for name, value in environment.items() if not _SECRET.search(name)}


def exit_with_parent() -> None:
    """End this child process, at once and without cleaning up, soon after its parent process has ended."""
    if any(thread.name == _PARENT_THREAD for thread in threading.enumerate()):
        return
    import psutil

    parent, is_running = os.getppid(), None
    with suppress(psutil.Error):
        is_running = psutil.Process(parent).is_running

    def watch() -> None:
        # On Windows, the number of the parent stays the same after its end.
        while os.getppid() == parent and (is_running is None or is_running()):
            time.sleep(_POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name=_PARENT_THREAD, daemon=True).start()


def _forget_in_child() -> None:
    """In a forked child: close its copy of the janitor's pipe, and restore the usual signal handlers."""
    global _current
    if not _current:
        return
    if _current.janitor:
        _current.janitor.stdin.close()
    _current = None
    for number in _stop_signals():
        if signal.getsignal(number) is _stop:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


# Signals


def handle_signals() -> None:
    """Install the handlers of `workspace` again, after a library has installed its own."""
    if _current and threading.current_thread() is threading.main_thread():
        for number in _stop_signals():
            signal.signal(number, _stop)


@contextmanager
def _signals() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _stop_signals()}
    handle_signals()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_signals() -> list[int]:
    """Those that are not ignored, as `nohup` ignores SIGHUP."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGINT") if hasattr(signal, name)]
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


def _stop(number: int, frame: object) -> None:
    """Stop in an orderly way; at the second signal, at once. The janitor then cleans up."""
    now = time.monotonic()
    if _current.stopped_at:
        if now - _current.stopped_at > _SAME_SECONDS:
            os._exit(128 + number)
        return
    _current.stopped_at = now
    # A thread in C, which also ends a process whose interpreter hangs.
    nowhere = Path(os.devnull).open("w")  # noqa: SIM115 - faulthandler keeps it
    faulthandler.dump_traceback_later(STOP_SECONDS, exit=True, file=nowhere)
    raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)

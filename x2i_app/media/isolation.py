"""Decodes files of strangers in child processes with limits on time and memory, which can be killed at any moment.

Pillow and libsndfile have no such limits, and a file of a few kilobytes can keep them busy for minutes or fill the
memory. The server calls `isolate_decoding`; then every function with `@in_child` runs in a child process, which is kept
for the next file. The library and the command line do not: their files belong to the person who runs them, and a child
process would only make them slower and harder to debug.

A function with `@in_child` takes the path or the bytes of a file first; its other arguments can be pickled. It returns
plain values, PIL images, arrays, or tuples, lists and dicts of them. Nothing that a child sends is unpickled, so a
decoder that a file has taken over cannot run code in the server. Its X2IErrors are raised in the server.
"""

import functools
import importlib
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import psutil
from PIL import Image

from x2i_app import errors
from x2i_app.errors import MediaError, X2IError
from x2i_app.media.budget import InputBudget, current_budget
from x2i_app.media.guard import CAPS, MediaCaps, is_path, show_name
from x2i_app.workspace import exit_with_parent, without_secrets

_PAGE_CHILDREN = 2  # at once, for the page's functions; a job has its own
_PAGE_SECONDS, _PAGE_CPU_SECONDS = 20, 8  # for a file that the page reads
_PAGE_WAIT = 30  # seconds until a function of the page gives up
_PAGE_NICE = 5  # jobs come first
_TASKS, _KEPT_BYTES = 500, 300 * 2**20  # of one child before another one takes its place, so that memory comes back
_RECENT_BYTES = 64 * 2**20  # of images that are remembered
_LENGTH = 8  # bytes of a length in the protocol
_MODES = {"1": 1, "L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
_DTYPES = ("uint8", "int64", "float32", "float64")

F = TypeVar("F", bound=Callable[..., Any])


def in_child(function: F) -> F:
    """A decorator: run the function in a child process once `isolate_decoding` was called. See the module."""

    @functools.wraps(function)
    def run(*args, **kwargs):
        if _children is None:
            return function(*args, **kwargs)
        return _children.call(f"{function.__module__}:{function.__qualname__}", args, kwargs)

    return run


def isolate_decoding(is_isolated: bool = True) -> bool:
    """Decode files in child processes from now on; False ends the children and decodes in this process again.

    Returns whether files were decoded in child processes before.
    """
    global _children
    was_isolated = _children is not None
    if is_isolated != was_isolated:
        former, _children = _children, _Children() if is_isolated else None
        if former:
            former.close()
    return was_isolated


def is_isolated() -> bool:
    """Whether files are decoded in child processes now."""
    return _children is not None


@contextmanager
def reading() -> Iterator[None]:
    """Inside the block, one of the few places of the page is taken, if the files are isolated. See `_Children.place`.

    For what takes long outside of `in_child`, such as ffmpeg.
    """
    if _children is None:
        yield
        return
    with _children.place(current_budget()):
        yield


def warm_up() -> None:
    """Start the child of jobs now, in the background, so that the first image does not wait for it."""
    if children := _children:
        threading.Thread(target=children.warm_up, name="x2i-decoder", daemon=True).start()


def recently_read(read: Callable[..., Image.Image], path: Any, *args: Any) -> Image.Image:
    """`read(path, *args)`, or a copy of what it returned before, if that is not long ago.

    A request's images are read when it arrives and again by its job. Only isolated files are remembered.
    """
    if _children is None or not is_path(path):
        return read(path, *args)
    try:
        status = Path(os.fsdecode(path)).stat()
    except (OSError, ValueError):
        return read(path, *args)
    key = (read, os.fsdecode(path), status.st_mtime_ns, status.st_size, *args)
    image = _recent.get(key)
    if image is None:
        image = read(path, *args)
        _recent.add(key, image)
    return image.copy()


class _RecentImages:
    """A few images that were read last, up to `size` bytes."""

    def __init__(self, size: int):
        self._size = size
        self._images: OrderedDict[tuple, Image.Image] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple) -> Image.Image | None:
        with self._lock:
            if key in self._images:
                self._images.move_to_end(key)
            return self._images.get(key)

    def add(self, key: tuple, image: Image.Image) -> None:
        with self._lock:
            self._images[key] = image
            while sum(map(_bytes_of, self._images.values())) > self._size:
                self._images.popitem(last=False)


def _bytes_of(image: Image.Image) -> int:
    return image.width * image.height * len(image.getbands())


class _Child:
    """A process that decodes one file at a time."""

    def __init__(self, nice: int):
        root = str(Path(__file__).parents[2])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX"), "1")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "x2i_app.media.isolation", str(nice)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # decoders write a line for each oddity of a file
            env=without_secrets() | single | {"PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # Ctrl+C is for the server, whose end closes the child's input
        )

    def ask(self, task: bytes) -> tuple[dict[str, Any], list[bytearray]]:
        """Send a task; returns the answer and its buffers. Raises EOFError if the child has ended."""
        try:
            _write(self.process.stdin, task)
            answer = json.loads(_read(self.process.stdout))
            return answer, [_read(self.process.stdout) for _ in range(answer["buffers"])]
        except (OSError, ValueError) as error:  # a broken pipe, or a file that was closed by `end`
            raise EOFError from error

    def kill(self) -> None:
        self.process.kill()

    def end(self) -> None:
        """Kill it and release its pipes."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                pipe.close()


class _Children:
    """The children that wait for work, and the places of those that read files for the page."""

    def __init__(self):
        self._idle: dict[int, list[_Child]] = {0: [], _PAGE_NICE: []}
        self._running: Counter[str] = Counter()
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()
        self._is_closed = False

    def call(self, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The result of the function with this name, run in a child. Raises MediaError and other X2IErrors."""
        budget, caps = current_budget(), _caps_of(args, kwargs)
        budget.check()
        allowed = cpu = caps.child_seconds
        nice = 0 if budget.is_job else _PAGE_NICE
        if not budget.is_job:
            allowed, cpu = min(allowed, _PAGE_SECONDS), min(cpu, _PAGE_CPU_SECONDS)
        shown = show_name(args[0]) if is_path(args[0]) else "The file"
        task = pickle.dumps((name, (_absolute(args[0]), *args[1:]), kwargs, caps.child_bytes, cpu))
        with self.place(budget):
            return self._run(task, shown, budget, caps, allowed, nice)

    def _run(self, task: bytes, shown: str, budget: InputBudget, caps: MediaCaps, allowed: float, nice: int) -> Any:
        child = self._take(nice)
        is_late = threading.Event()
        try:
            with budget.process(child.kill, allowed) as seconds:
                timer = threading.Timer(seconds, lambda: (is_late.set(), child.kill()))
                timer.daemon = True
                timer.start()
                try:
                    answer, buffers = child.ask(task)
                finally:
                    timer.cancel()
        except EOFError:
            child.end()
            budget.check()
            if is_late.is_set():
                raise MediaError(
                    f"{shown} takes longer than {seconds:g} s to read; use a shorter or smaller one."
                ) from None
            raise MediaError(
                f"{shown} needs more than {caps.child_bytes / 2**30:.2g} GB or {allowed:g} s to read, or is damaged; "
                "use another file."
            ) from None
        except BaseException:
            child.end()
            raise
        self._give_back(child, nice, answer)
        if "error" in answer:
            raise _error(answer["error"], str(answer.get("message")))
        return _decode(answer["result"], buffers)

    def _take(self, nice: int) -> _Child:
        with self._changed:
            while self._idle[nice]:
                child = self._idle[nice].pop()
                if child.process.poll() is None:
                    return child
                child.end()
        try:
            return _Child(nice)
        except OSError as error:
            raise MediaError(f"The file cannot be read now ({error.strerror}); try again later.") from None

    def _give_back(self, child: _Child, nice: int, answer: dict[str, Any]) -> None:
        with self._changed:
            if not (answer["is_worn"] or self._is_closed):
                self._idle[nice].append(child)
                return
        child.end()

    @contextmanager
    def place(self, budget: InputBudget) -> Iterator[None]:
        """One of the places of the page inside the block, first come, first served: one for each owner.

        A job needs none, and neither does a block inside such a block.
        """
        if budget.is_job or _has_place.get():
            yield
            return
        token = _has_place.set(True)
        try:
            with self._wait_for_place(budget.owner):
                yield
        finally:
            _has_place.reset(token)

    @contextmanager
    def _wait_for_place(self, owner: str) -> Iterator[None]:
        ticket = (owner, object())
        deadline = time.monotonic() + _PAGE_WAIT
        with self._changed:
            self._waiting.append(ticket)
            try:
                while not self._is_next(ticket):
                    if not self._changed.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                        raise MediaError("The app is busy with other files; try again in a moment.")
                self._running[owner] += 1
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._running[owner] -= 1
                self._running += Counter()  # drops zeros
                self._changed.notify_all()

    def _is_next(self, ticket: tuple[str, object]) -> bool:
        if self._running.total() >= _PAGE_CHILDREN:
            return False
        return ticket is next((each for each in self._waiting if not self._running[each[0]]), None)

    def warm_up(self) -> None:
        with suppress(MediaError):
            self._give_back(self._take(0), 0, {"is_worn": False})

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            children = [child for idle in self._idle.values() for child in idle]
            self._idle = {nice: [] for nice in self._idle}
        for child in children:
            child.end()


_children: _Children | None = None
_recent = _RecentImages(_RECENT_BYTES)
_has_place: ContextVar[bool] = ContextVar("x2i_has_place", default=False)


def _absolute(source: Any) -> Any:
    """A file's path in full: this process may have changed its folder since a child began."""
    return Path(source).absolute() if is_path(source) and os.fspath(source) else source


def _caps_of(args: tuple, kwargs: dict[str, Any]) -> MediaCaps:
    values = (getattr(value, "caps", value) for value in (*args, *kwargs.values()))
    return next((value for value in values if isinstance(value, MediaCaps)), CAPS)


def _error(name: Any, message: str) -> X2IError:
    kind = getattr(errors, str(name), None)
    return (kind if isinstance(kind, type) and issubclass(kind, X2IError) else MediaError)(message)


def _renew_children() -> None:
    """A forked process (ZeroGPU's) starts children of its own: two processes cannot share the pipes to one."""
    global _children
    if _children is not None:
        _children = _Children()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_children)


# The protocol: lengths and contents. A task is pickled by the server; an answer is JSON with buffers.


def _write(pipe: BinaryIO, *parts: bytes | memoryview) -> None:
    for part in parts:
        pipe.write(len(part).to_bytes(_LENGTH, "big"))
        pipe.write(part)
    pipe.flush()


def _read(pipe: BinaryIO) -> bytearray:
    size = pipe.read(_LENGTH)
    if len(size) < _LENGTH:
        raise EOFError
    content = bytearray(int.from_bytes(size, "big"))
    if pipe.readinto(content) < len(content):
        raise EOFError
    return content


def _encode(value: Any, buffers: list[bytes | memoryview]) -> Any:
    if isinstance(value, Image.Image):
        buffers.append(value.tobytes())
        return {"image": value.mode, "size": value.size, "buffer": len(buffers) - 1}
    if isinstance(value, np.ndarray):
        buffers.append(memoryview(np.ascontiguousarray(value)).cast("B") if value.size else b"")
        return {"array": value.dtype.name, "shape": value.shape, "buffer": len(buffers) - 1}
    if isinstance(value, (tuple, list)):
        return {type(value).__name__: [_encode(each, buffers) for each in value]}
    if isinstance(value, dict):
        return {"dict": {key: _encode(each, buffers) for key, each in value.items()}}
    return value.item() if isinstance(value, np.generic) else value


def _decode(value: Any, buffers: list[bytearray]) -> Any:
    if not isinstance(value, dict):
        return value
    if "image" in value and value["image"] in _MODES:
        return Image.frombytes(value["image"], tuple(value["size"]), buffers[value["buffer"]])
    if "array" in value and value["array"] in _DTYPES:
        return np.frombuffer(buffers[value["buffer"]], value["array"]).reshape(value["shape"])
    if "tuple" in value:
        return tuple(_decode(each, buffers) for each in value["tuple"])
    if "list" in value:
        return [_decode(each, buffers) for each in value["list"]]
    return {key: _decode(each, buffers) for key, each in value["dict"].items()}


# The child


def _serve(nice: int) -> None:
    tasks, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    sys.stdout = sys.stderr  # nothing that a library prints gets among the answers
    if nice and hasattr(os, "nice"):
        os.nice(nice)
    exit_with_parent()  # also in the middle of a file
    importlib.import_module("x2i_app.media")
    own, done = psutil.Process(), 0
    while True:
        try:
            task = _read(tasks)
        except EOFError:
            return
        name, args, kwargs, memory, seconds = pickle.loads(task)  # noqa: S301 - from the server, not from a stranger
        limit_process(memory, seconds)
        buffers: list[bytes | memoryview] = []
        done += 1
        try:
            module, _, function = name.partition(":")
            result = getattr(importlib.import_module(module), function)(*args, **kwargs)
            answer = {"result": _encode(result, buffers)}
        except X2IError as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        except MemoryError:
            return  # the server says so
        except Exception:  # noqa: BLE001 - decoders raise anything
            shown = show_name(args[0]) if is_path(args[0]) else "The file"
            answer = {"error": "MediaError", "message": f"{shown} is damaged or incomplete; choose an undamaged copy."}
        answer |= {"buffers": len(buffers), "is_worn": done >= _TASKS or own.memory_info().rss > _KEPT_BYTES}
        _write(answers, json.dumps(answer).encode(), *buffers)
        result = buffers = task = args = kwargs = None


def limit_process(memory: int, seconds: float) -> None:
    """Limit this process: address space in bytes, further CPU seconds, no files written, no core dump.

    Windows has no such limits; there the server's own time limit remains.
    """
    try:
        import resource
    except ImportError:
        return
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = int(usage.ru_utime + usage.ru_stime + seconds) + 2
    for name, value in (("RLIMIT_AS", memory), ("RLIMIT_CPU", cpu), ("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0)):
        with suppress(AttributeError, ValueError, OSError):  # macOS has no limit for memory
            kind = getattr(resource, name)
            _, hard = resource.getrlimit(kind)
            resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


if __name__ == "__main__":
    _serve(int(sys.argv[1]))

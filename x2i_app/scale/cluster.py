"""A Ray cluster: one that runs already, or a local one that ends with the program."""

import atexit
import importlib.util
import logging
import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from x2i_app.errors import EngineError, InvalidRequestError
from x2i_app.limits import Range, show_value, validate_integer, validate_number
from x2i_app.workspace import OWN_SECRETS, handle_signals, remove_with_program, system_folder

HERE = "here"  # instead of an address: a local cluster
_REPLICAS = Range(1, 1000)
_GPUS = Range(0, 16)
_OBJECT_STORE = 512 * 2**20  # bytes of shared memory, for images and rows
_CONNECT_SECONDS = 10
_LONGEST_FOLDER, _SHORT_FOLDER = 40, "/tmp"  # the sockets in it have paths of 65 more, and the system allows 107
_OUR_ERROR = re.compile(r"x2i_app\.errors\.\w+: (.+)")


@dataclass(frozen=True)
class Cluster:
    """Which cluster to use, and how much of it.

    address: HERE, "auto" for the cluster that this machine belongs to, or HOST:PORT.
    least, most: models in memory at once; their number follows the number of jobs.
    gpus: GPUs for each model, also a fraction of one; None takes one if the cluster has any.
    Raises InvalidRequestError for a value that is not allowed.
    """

    address: str = HERE
    least: int = 1
    most: int = 1
    gpus: float | None = None

    @classmethod
    def parse(cls, address: str, replicas: str, gpus: float | None) -> "Cluster":
        """From flags. replicas: a number, or a range such as 1:8. Raises InvalidRequestError."""
        least, _, most = replicas.partition(":")
        if not (least.isdecimal() and (most or least).isdecimal()):
            raise InvalidRequestError(f"replicas is {show_value(replicas)}; write a number, or a range such as 1:8.")
        return cls(address, int(least), int(most or least), gpus)

    def __post_init__(self):
        for name in ("least", "most"):
            validate_integer("replicas", getattr(self, name), _REPLICAS)
        if self.least > self.most:
            raise InvalidRequestError(f"replicas is {self.least}:{self.most}; the first number must not be larger.")
        if self.gpus is not None:
            validate_number("gpus", self.gpus, _GPUS)

    def join(self) -> None:
        """Connect this process. Raises EngineError if Ray is missing, or the cluster is down or refuses the token."""
        if importlib.util.find_spec("ray") is None:
            raise EngineError("--ray needs Ray, which is not installed; install it with: pip install '.[scale]'")
        for name in OWN_SECRETS:  # they have been read; processes of a local cluster would inherit them
            os.environ.pop(name, None)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # send no usage data
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        # The default of Ray's next release; without it Ray prints a warning. A replica without GPUs does not hide them.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if self.address == HERE:  # only for this program: a token of its own, and only the loopback network
            if "RAY_AUTH_MODE" not in os.environ:
                os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
            os.environ.setdefault("RAY_worker_niceness", "0")  # by default, other processes come first
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # on every system, in spite of its name
        self._check_address()
        os.environ.setdefault("RAY_TMPDIR", system_folder())  # where "auto" looks for the cluster of this machine
        import ray

        options: dict[str, Any] = {"address": self.address}
        if self.address == HERE:
            cores = max(os.cpu_count() or 1, self.most)
            options = {"address": "local", "num_cpus": cores, "object_store_memory": _OBJECT_STORE}
            options |= {"include_dashboard": False, "_temp_dir": str(_new_folder())}
        try:
            ray.init(**options, logging_level=logging.ERROR, log_to_driver=False)
        except Exception as error:  # Ray raises many types, also Exception itself
            if self.address == HERE:
                why = f"Ray did not start on this machine; try again, or run without --ray. Ray says: {_reason(error)}"
            else:  # Ray writes only to its log that a token is wrong
                why = (
                    f"The Ray cluster at {show_value(self.address)} cannot be joined; start it (ray start --head). "
                    "If it asks for a token, set RAY_AUTH_MODE=token, and copy ~/.ray/auth_token from it or set "
                    f"RAY_AUTH_TOKEN. Ray says: {_reason(error)}"
                )
            raise EngineError(why) from error
        handle_signals()  # Ray's own handler ends the program at once

    def _check_address(self) -> None:
        """Raise EngineError if nobody listens there. Ray itself would wait for minutes, then end the program."""
        host, _, port = self.address.rpartition(":")
        if port.isdecimal():
            try:
                socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
            except (OSError, OverflowError) as error:
                raise EngineError(
                    f"There is no Ray cluster at {show_value(self.address)}; start one: ray start --head. "
                    f"The system says: {_reason(error)}"
                ) from error

    def share(self) -> Mapping[str, float]:
        """What one replica asks for: `num_cpus` and `num_gpus`. Call it after `join`."""
        import ray

        resources = ray.cluster_resources()
        gpus = float(resources.get("GPU", 0) >= 1) if self.gpus is None else self.gpus
        cores = 1 if gpus else max(1, int(resources.get("CPU", 1)) // self.most)
        return {"num_cpus": cores, "num_gpus": gpus}


def _new_folder() -> Path:
    """A folder for the files of a local cluster. It is removed with the program."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    if len(str(folder)) > _LONGEST_FOLDER:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="x2i-ray-", dir=_SHORT_FOLDER))
        remove_with_program(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def enter_folder(folder: str) -> None:
    """Make relative paths mean the same as in the process that gave the work, if this machine has that folder."""
    with suppress(OSError):
        os.chdir(folder)


def working_folder() -> str:
    """The folder for `enter_folder` in another process."""
    return str(Path.cwd())


def _reason(error):
    return own_message(str(error)) or type(error).__name__


def own_message(text: str) -> str:
    """The message of an X2IError in a traceback from another process; else the last line of the text."""
    found = _OUR_ERROR.findall(text) or text.strip().splitlines()
    return found[-1].strip() if found else ""

"""A Ray cluster: one that runs already, or one of this machine alone that lives as long as the program."""

import importlib.util
import logging
import os
import re
import secrets
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from x2i_app.errors import EngineError, InvalidRequestError
from x2i_app.limits import Range, show_value, validate_integer, validate_number

HERE = "here"  # instead of an address: a cluster of this machine alone
_REPLICAS = Range(1, 1000)
_GPUS = Range(0, 16)
_OBJECT_STORE = 512 * 2**20  # bytes of shared memory; what travels are pictures and rows
_KNOCK_SECONDS = 10
_OUR_ERROR = re.compile(r"x2i_app\.errors\.\w+: (.+)")


@dataclass(frozen=True)
class Cluster:
    """Which cluster, and how much of it.

    address: HERE, "auto" for the cluster of this machine, or HOST:PORT. replicas: models in memory at once, from
    `least` to `most`, as many as the work asks for. gpus: cards for each, or a part of one; None takes one where the
    cluster has any. Raises InvalidRequestError for anything else.
    """

    address: str = HERE
    least: int = 1
    most: int = 1
    gpus: float | None = None

    @classmethod
    def parse(cls, address: str, replicas: str, gpus: float | None) -> "Cluster":
        """From flags: `replicas` is a number, or two with a colon between them, as in 1:8."""
        least, _, most = replicas.partition(":")
        if not (least.isdecimal() and (most or least).isdecimal()):
            raise InvalidRequestError(f"replicas is {show_value(replicas)}; write a number, or as 1:8 from and to.")
        return cls(address, int(least), int(most or least), gpus)

    def __post_init__(self):
        for name in ("least", "most"):
            validate_integer("replicas", getattr(self, name), _REPLICAS)
        if self.least > self.most:
            raise InvalidRequestError(f"replicas is {self.least}:{self.most}; the first must not be above the second.")
        if self.gpus is not None:
            validate_number("gpus", self.gpus, _GPUS)

    def join(self) -> None:
        """Connect this process. Raises EngineError if there is no Ray, no such cluster, or it wants another token."""
        if importlib.util.find_spec("ray") is None:
            raise EngineError("--ray needs Ray, which is not installed; install it with: pip install '.[scale]'")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        # Its next release's way, and today's warning about it: a replica without GPUs does not hide them.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if self.address == HERE:  # for this program alone: a token of its own, and no network but the loopback
            if "RAY_AUTH_MODE" not in os.environ:
                os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
            os.environ.setdefault("RAY_worker_niceness", "0")  # or whatever else runs here comes first
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # wherever it is, in spite of its name
        self._knock()
        import ray

        options: dict[str, Any] = {"address": self.address}
        if self.address == HERE:
            cores = max(os.cpu_count() or 1, self.most)
            options = {"address": "local", "num_cpus": cores, "object_store_memory": _OBJECT_STORE}
            options |= {"include_dashboard": False}
        try:
            ray.init(**options, logging_level=logging.ERROR, log_to_driver=False)
        except Exception as error:  # Ray raises many kinds, Exception itself among them
            if self.address == HERE:
                why = f"Ray did not start on this machine; try again, or leave --ray out. It says: {_reason(error)}"
            else:  # of a token that is wrong Ray tells its log alone
                why = (
                    f"No Ray cluster at {show_value(self.address)} lets this machine in; start one (ray start --head), "
                    "or, if it asks for a token, set RAY_AUTH_MODE=token, and copy ~/.ray/auth_token from it or set "
                    f"RAY_AUTH_TOKEN. What came back: {_reason(error)}"
                )
            raise EngineError(why) from error

    def _knock(self) -> None:
        """Ray itself waits for minutes, and then ends the program."""
        host, _, port = self.address.rpartition(":")
        if port.isdecimal():
            try:
                socket.create_connection((host, int(port)), _KNOCK_SECONDS).close()
            except (OSError, OverflowError) as error:
                raise EngineError(
                    f"There is no Ray cluster at {show_value(self.address)}; start one: ray start --head. "
                    f"What came back: {_reason(error)}"
                ) from error

    def share(self) -> Mapping[str, float]:
        """What a replica asks the cluster for: `num_cpus` and `num_gpus`. The cluster must be joined."""
        import ray

        there = ray.cluster_resources()
        gpus = float(there.get("GPU", 0) >= 1) if self.gpus is None else self.gpus
        cores = 1 if gpus else max(1, int(there.get("CPU", 1)) // self.most)
        return {"num_cpus": cores, "num_gpus": gpus}


def enter_folder(folder: str) -> None:
    """Let relative names mean what they mean to whoever gave the work, where the machine has that folder too."""
    with suppress(OSError):
        os.chdir(folder)


def working_folder() -> str:
    """For `enter_folder`."""
    return str(Path.cwd())


def _reason(error):
    return own_message(str(error)) or type(error).__name__


def own_message(text: str) -> str:
    """What one of our own errors said, found in a traceback that came from another process; else its last line."""
    found = _OUR_ERROR.findall(text) or text.strip().splitlines()
    return found[-1].strip() if found else ""

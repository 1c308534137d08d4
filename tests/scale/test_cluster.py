"""The app and an evaluation on a Ray cluster that runs already; the number of replicas follows the number of jobs."""

import json
import os
import secrets
import socket
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tests.conftest import ROOT, free_port, run_app
from tests.scale.conftest import ACTOR, ENDLESS, REPLICA, SECONDS, health, new_client, ray_processes, submit, wait_until
from x2i_app.cli import main


class Head(NamedTuple):
    """The first node of a cluster: the port and the process that `ray start` is."""

    port: int
    pid: int


def answers(port: int) -> bool:
    with socket.socket() as knocking:
        return knocking.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def token():
    """The token of the cluster, as environment variables."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@pytest.fixture(scope="module")
def cluster(token):
    """A cluster on this machine, started with `ray start --head`."""
    port = free_port()
    # In a folder of its own, apart from any other cluster here. Paths of sockets in it must be short.
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        command = [Path(sysconfig.get_path("scripts")) / "ray", "start", "--head", "--block", "--port", str(port)]
        command += ["--node-ip-address", "127.0.0.1", "--num-cpus", "2", "--include-dashboard", "false"]
        command += ["--disable-usage-stats", "--object-store-memory", str(200 * 2**20), "--temp-dir", folder]
        # By default, all other processes come first: beside other tests, a model would load for minutes.
        environment = os.environ | token | {"RAY_worker_niceness": "0"}
        log = Path(folder) / "start.log"
        with log.open("w") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            wait_until(lambda: answers(port), log.read_text, process=process, pause=0.2)
            yield Head(port, process.pid)
        finally:
            for part in [*psutil.Process(process.pid).children(recursive=True), process]:
                part.kill()
            process.wait(SECONDS)


def holds(process: psutil.Process, secret: str) -> bool:
    """Whether a secret is in the memory of a process."""
    maps = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
    with Path(f"/proc/{process.pid}/mem").open("rb", buffering=0) as memory:
        for row in maps:
            start, end = (int(address, 16) for address in row.split()[0].split("-"))
            if row.split()[1].startswith("rw"):
                memory.seek(start)
                with suppress(OSError):  # a part that the process has reserved, and not yet used
                    if secret.encode() in memory.read(end - start):
                        return True
    return False


@pytest.mark.timeout(1800)  # two replicas are loaded one after the other, on a machine that other tests use too
def test_autoscaling(cluster, token, tmp_path):
    """The number of replicas follows the number of jobs. No process of the cluster learns the page's password."""
    login = ("owner", secrets.token_hex(16))
    flags = ("--ray", f"127.0.0.1:{cluster.port}", "--replicas", "1:2")
    with run_app(tmp_path, *flags, X2I_LOGIN=":".join(login), **token) as app:
        wait_until(lambda: health(app) == (200, "ready", "Replicas running: 1."), "one is there")
        endless = [submit(app, seed, tmp_path, login, **ENDLESS) for seed in (1, 2)]
        wait_until(lambda: health(app) == (200, "ready", "Replicas running: 2."), "there are two")
        wait_until(lambda: all(job.outputs() and 'max="800"' in job.outputs()[-1][1] for job in endless), "both draw")
        assert len(ray_processes(REPLICA)) == 2
        for job in endless:
            new_client(app, tmp_path, login).predict(job.outputs()[-1][4], api_name="/cancel")
        for seed, job in [(seed, submit(app, seed, tmp_path, login)) for seed in (10, 20)]:
            assert job.result(SECONDS)[3]["seeds"] == [seed]
        others = psutil.Process(cluster.pid).children(recursive=True)
        assert len(ray_processes(REPLICA)) == 2
        assert not [process.name() for process in others if holds(process, login[1])]
        assert holds(psutil.Process(app.process.pid), login[1])
        app.process.terminate()
        assert app.process.wait(SECONDS) == 143
    wait_until(lambda: not ray_processes(REPLICA), "the replicas are gone")
    assert answers(cluster.port)


@pytest.mark.timeout(1800)  # two actors load a model each, and one of them again
def test_an_evaluation_with_a_killed_actor(cluster, token, tmp_path):
    """Two actors draw its prompts, and one is killed: the report is that of a run in one process."""
    command = [sys.executable, "-m", "x2i_app", "evaluate", "--prompts", "own", "--limit", "6", "--steps", "30"]
    command += ["--size", "128", "--teacher", "no", "--device", "cpu", "--output"]
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    # Ray gives each actor of one CPU one thread; sums in another order differ in their last digits.
    single = subprocess.run([*command, str(whole)], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert single.returncode == 0
    flags = [str(shared), "--ray", f"127.0.0.1:{cluster.port}", "--replicas", "2"]
    run = subprocess.Popen([*command, *flags], cwd=ROOT, env=os.environ | token, stderr=subprocess.PIPE, text=True)
    results = shared / "student" / "results.jsonl"

    def records():
        assert run.poll() is None, run.stderr.read()
        return results.read_bytes().count(b"\n") if results.exists() else 0

    try:
        wait_until(lambda: records() and len(ray_processes(ACTOR)) == 2, "the first image is drawn, by one of two")
        actors = ray_processes(ACTOR)
        assert records() < 6
        actors[0].kill()
        complaints = run.communicate(timeout=SECONDS)[1]
    finally:
        run.kill()
    assert run.returncode == 0, complaints
    reports = [json.loads((folder / "report.json").read_text(encoding="utf-8")) for folder in (whole, shared)]
    for report in reports:
        assert len(report["rows"]) == 6
        del report["phases"]
    assert reports[0] == reports[1]
    wait_until(lambda: not ray_processes(ACTOR), "the actors are gone")
    assert answers(cluster.port)


def test_wrong_token(cluster, monkeypatch, capsys):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    assert main(["app", "--ray", f"127.0.0.1:{cluster.port}"]) == 1
    assert "If it asks for a token, set RAY_AUTH_MODE=token" in capsys.readouterr().err


def test_login_as_a_flag(monkeypatch, capsys):
    """Ray shows the command line of each program to all users of a cluster."""
    command = ["app", "--ray", "127.0.0.1:1", "--login", "owner:a secret password"]
    monkeypatch.setattr(sys, "argv", ["x2i", *command])
    assert main(command) == 2
    assert "set X2I_LOGIN instead" in capsys.readouterr().err

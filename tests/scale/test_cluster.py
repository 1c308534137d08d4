"""The app on a Ray cluster that runs already; the number of replicas follows the number of jobs."""

import os
import secrets
import socket
import subprocess
import sysconfig
import tempfile
from pathlib import Path

import psutil
import pytest

from tests.conftest import free_port, run_app
from tests.scale.conftest import ENDLESS, REPLICA, SECONDS, health, new_client, ray_processes, submit, wait_until
from x2i_app.cli import main


def answers(port: int) -> bool:
    with socket.socket() as knocking:
        return knocking.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def token():
    """The token of the cluster, as environment variables."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@pytest.fixture(scope="module")
def cluster(token):
    """The port of a cluster on this machine, started with `ray start --head`."""
    port = free_port()
    # In a folder of its own, apart from any other cluster here. Paths of sockets in it must be short.
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        command = [Path(sysconfig.get_path("scripts")) / "ray", "start", "--head", "--block", "--port", str(port)]
        command += ["--node-ip-address", "127.0.0.1", "--num-cpus", "2", "--include-dashboard", "false"]
        command += ["--disable-usage-stats", "--object-store-memory", str(200 * 2**20), "--temp-dir", folder]
        log = Path(folder) / "start.log"
        with log.open("w") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | token)
        try:
            wait_until(lambda: answers(port) or process.poll() is not None, "the cluster answers", pause=0.2)
            assert process.poll() is None, log.read_text()
            yield port
        finally:
            for part in [*psutil.Process(process.pid).children(recursive=True), process]:
                part.kill()
            process.wait(SECONDS)


def test_autoscaling(cluster, token, tmp_path):
    with run_app(tmp_path, "--ray", f"127.0.0.1:{cluster}", "--replicas", "1:2", **token) as app:
        wait_until(lambda: health(app) == (200, "ready", "Replicas running: 1."), "one is there")
        endless = [submit(app, seed, tmp_path, **ENDLESS) for seed in (1, 2)]
        wait_until(lambda: health(app) == (200, "ready", "Replicas running: 2."), "there are two")
        wait_until(lambda: all(job.outputs() and 'max="800"' in job.outputs()[-1][1] for job in endless), "both draw")
        assert len(ray_processes(REPLICA)) == 2
        for job in endless:
            new_client(app, tmp_path).predict(job.outputs()[-1][4], api_name="/cancel")
        for seed, job in [(seed, submit(app, seed, tmp_path)) for seed in (10, 20)]:
            assert job.result(SECONDS)[3]["seeds"] == [seed]
        app.process.terminate()
        assert app.process.wait(SECONDS) == 143
    wait_until(lambda: not ray_processes(REPLICA), "the replicas are gone")
    assert answers(cluster)


def test_wrong_token(cluster, monkeypatch, capsys):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    assert main(["app", "--ray", f"127.0.0.1:{cluster}"]) == 1
    assert "If it asks for a token, set RAY_AUTH_MODE=token" in capsys.readouterr().err

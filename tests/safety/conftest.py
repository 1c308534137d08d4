"""Checks around each file of attacks on the running app."""

import network
import pytest
from safety.client import ask, canary


@pytest.fixture(scope="module")
def unharmed(app):
    """After the module's tests, the same process completes a job, and logged no traceback; nothing used the network."""
    assert canary(app.url) == "complete"
    before = len(app.log.read_text())
    attempts = network.attempts() if network.is_isolated() else 0
    yield
    assert canary(app.url) == "complete"
    assert app.process.poll() is None
    assert "Traceback" not in app.log.read_text()[before:]
    assert app.contacts.read_text() == ""  # of the app's own process
    assert not network.is_isolated() or network.attempts() == attempts  # of all processes


@pytest.fixture(scope="session")
def fuzz_rounds(request) -> int:
    """How often a good file is corrupted; ten times as often with --fuzz-long."""
    return 1000 if request.config.getoption("--fuzz-long") else 100


@pytest.fixture(scope="session")
def functions(server) -> list[dict]:
    """Every function of the page that runs on the server, also those that only the page calls."""
    return [function for function in ask(server, "GET", "/config").json()["dependencies"] if function["backend_fn"]]

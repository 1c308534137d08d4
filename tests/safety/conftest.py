"""One running app for all attacks, which has to be unharmed after each file of them."""

import network
import pytest
from safety.client import canary


@pytest.fixture(scope="module")
def unharmed(app):
    """The model is loaded before, and the same process still draws after all of this; nothing tried to leave."""
    assert canary(app.url) == "complete"
    before = len(app.log.read_text())
    left = network.attempts() if network.is_isolated() else 0
    yield
    assert canary(app.url) == "complete"
    assert app.process.poll() is None
    assert "Traceback" not in app.log.read_text()[before:]
    assert app.contacts.read_text() == ""  # the app tried to reach nobody outside,
    assert not network.is_isolated() or network.attempts() == left  # nor did anything that it started


@pytest.fixture(scope="session")
def fuzz_rounds(request) -> int:
    """How often a good file is bent; ten times as often with --fuzz-long."""
    return 1000 if request.config.getoption("--fuzz-long") else 100

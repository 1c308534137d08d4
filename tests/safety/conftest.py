"""One running app for all attacks, which has to be unharmed after each file of them."""

import pytest
from safety.wire import canary


@pytest.fixture(scope="module")
def unharmed(app):
    """The model is loaded before, and the same process still draws after all of this."""
    assert canary(app.url) == "complete"
    before = len(app.log.read_text())
    yield
    assert canary(app.url) == "complete"
    assert app.process.poll() is None
    assert "Traceback" not in app.log.read_text()[before:]


@pytest.fixture(scope="session")
def fuzz_rounds(request) -> int:
    """How often a good file is bent; ten times as often with --fuzz-long."""
    return 1000 if request.config.getoption("--fuzz-long") else 100

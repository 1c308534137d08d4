"""Who listens: the notes about sessions do not grow with what strangers send."""

from types import SimpleNamespace

from x2i_app.ui.http import listeners
from x2i_app.ui.http.listeners import Listeners


def listen(heard: Listeners, session: str) -> None:
    queue = SimpleNamespace(_queue=SimpleNamespace())
    app = SimpleNamespace(get_blocks=lambda: queue)
    scope = {"app": app, "query_string": f"session_hash={session}".encode()}
    with heard.listening(scope, "/gradio_api/queue/data"):
        pass


def test_r13_streams_of_invented_sessions(monkeypatch):
    """Names that no job can have are not kept, and of many others only the newest."""
    monkeypatch.setattr(listeners, "_MOST_SESSIONS", 100)
    heard = Listeners(30)
    for number in range(300):
        listen(heard, f"s{number}")
        listen(heard, f"{number}" + "x" * 30_000)
    assert list(heard._heard_at) == [f"s{number}" for number in range(200, 300)]

"""R2 and R3 of SECURITY.md: which requests for a job are admitted while others are on their way to the queue."""

from contextlib import ExitStack
from types import SimpleNamespace

import gradio as gr
import pytest
from starlette.requests import Request

from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.settings import Settings
from x2i_app.ui.http.admission import Admission, mark_submitted
from x2i_app.ui.http.refusal import Refusal
from x2i_app.ui.layout import build_page

PLACES = 4


class Door:
    """An admission to a queue of four places, whose engine has not started."""

    def __init__(self):
        self.engine = Engine(Settings(queue_size=PLACES))
        self.page = build_page(self.engine)
        self.admission = Admission(self.engine)

    def admit(self, session: str | None = None, name: str = "text", scope: dict | None = None):
        """The context of one request."""
        scope = {} if scope is None else scope
        scope["app"] = SimpleNamespace(get_blocks=lambda: self.page)
        function = next(function for function in self.page.fns.values() if function.api_name == name)
        return self.admission.admit(function, session, scope)

    def is_full(self) -> bool:
        """Whether a request of one more user is refused."""
        refusal = None
        try:
            with self.admit():
                pass
        except Refusal as error:
            refusal = error
        if refusal:
            assert (refusal.status, refusal.sentence[:37]) == (429, "The queue is full: 4 jobs are waiting")
        return refusal is not None


@pytest.fixture
def door():
    door = Door()
    yield door
    door.engine.close()


def test_r2_requests_on_their_way_count(door):
    with ExitStack() as stack:
        for _ in range(PLACES):
            assert not door.is_full()
            stack.enter_context(door.admit())
        assert door.is_full()
        with door.admit(name="status"):
            pass  # which is not for a job
    assert not door.is_full()


def test_r2_waiting_jobs_count(door):
    door.engine.submit(GenerationRequest(prompt="a house"), "ann")
    with ExitStack() as stack:
        for _ in range(PLACES - 1):
            stack.enter_context(door.admit())
        assert door.is_full()


def test_r2_a_failed_request_gives_its_place_back(door):
    for _ in range(PLACES + 1):
        with pytest.raises(KeyError), door.admit():
            raise KeyError
    assert not door.is_full()


def test_r2_a_submitted_job_counts_once(door):
    """It is in the engine's queue while its request goes on."""
    with ExitStack() as stack:
        for number in range(PLACES - 1):
            scope = {"type": "http", "headers": []}
            stack.enter_context(door.admit(scope=scope))
            mark_submitted(gr.Request(Request(scope)))
            door.engine.submit(GenerationRequest(prompt="a house"), str(number))
        assert not door.is_full()


def test_r3_one_session_counts_for_three_places(door):
    """More of its jobs cannot wait, so its other requests must not keep other users out."""
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(door.admit("greedy"))
        assert not door.is_full()
        stack.enter_context(door.admit("another"))
        assert door.is_full()

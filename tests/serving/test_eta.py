"""Measured times of phases, and estimates for the next job."""

import time

import pytest

from x2i_app.request import GenerationRequest
from x2i_app.serving.eta import EtaEstimator, Stopwatch, Work


def test_stopwatch():
    """`sleep` may take longer than asked, never less; what lies outside the phases is not counted."""
    clock, begin = Stopwatch(), time.perf_counter()
    for phase in ("encode", "denoise", "decode", "denoise", "decode"):
        clock.start(phase)
        time.sleep(0.01)
    clock.stop()
    whole = time.perf_counter() - begin
    assert list(clock.seconds) == ["encode", "denoise", "decode"]
    assert clock.seconds["encode"] >= 0.0099
    assert min(clock.seconds["denoise"], clock.seconds["decode"]) >= 0.0198
    assert sum(clock.seconds.values()) <= whole


def test_stop_without_start():
    clock = Stopwatch()
    clock.stop()
    assert clock.seconds == {}


def test_median_of_recent_jobs():
    request = GenerationRequest(prompt="x", width=64, height=64, num_inference_steps=4, num_images_per_prompt=2)
    eta, whole = EtaEstimator(), Work.of(request)
    assert whole == (1, 64 * 64 * 8, 64 * 64 * 2)
    for more, calls in (({"negative_prompt": "y"}, 2), ({"reference": "z", "negative_prompt": "y"}, 4)):
        assert Work.of(request.with_values(**more)) == (1, calls * 64 * 64 * 8, 64 * 64 * 2)
    assert eta.seconds(whole) is None
    for seconds in (100, 1):  # the first job warms up
        eta.learn(whole, {"encode": seconds, "denoise": 8 * seconds, "decode": 2 * seconds})
    assert eta.seconds(whole) == pytest.approx(11)
    for seconds in (200, 1, 1):  # one of them waited for the disk
        eta.learn(whole, {"encode": seconds, "denoise": 8 * seconds, "decode": 2 * seconds})
    assert eta.seconds(whole) == pytest.approx(11)
    assert eta.seconds(Work.of(request, image=1, step=3)) == pytest.approx(5 + 2)
    assert eta.seconds(Work.of(request, image=2, step=4)) == pytest.approx(1)
    eta.forget()
    assert eta.seconds(whole) is None

"""The faint redraw of a large image: its parts, how they are joined, and what x2i-tiny makes of one."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from x2i_app.errors import GenerationCancelledError, InvalidRequestError
from x2i_app.serving.engine import Engine
from x2i_app.serving.redraw import join_parts, parts_of_image, redraw
from x2i_app.settings import ASSETS, Settings

BOAT = ASSETS / "examples/images/boat-at-sunset.png"


@pytest.fixture(scope="module")
def engine():
    engine = Engine(Settings(profile="cpu"))
    engine.start()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def photo():
    """Larger than what x2i-tiny draws in one direction, and not a multiple of 16."""
    return Image.open(BOAT).convert("RGB").resize((200, 100), Image.Resampling.LANCZOS)


@pytest.mark.parametrize(
    ("size", "side", "count"),
    [((128, 128), 128, 1), ((150, 100), 128, 1), ((200, 100), 128, 2), ((256, 256), 128, 9), ((2048, 1344), 1024, 6)],
)
def test_parts_cover_the_image_and_overlap(size, side, count):
    boxes = parts_of_image(*size, side)
    assert len(boxes) == count
    covered = np.zeros(size[::-1], int)
    for left, top, right, bottom in boxes:
        covered[top:bottom, left:right] += 1
        assert (right - left) * (bottom - top) <= side**2
    assert covered.min() == 1
    for first, second in pairwise(boxes):
        if first[1] == second[1]:
            assert first[2] - second[0] >= (first[2] - first[0]) // 4


class TestJoining:
    def test_parts_of_an_image_are_that_image(self):
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (190, 300, 3), dtype=np.uint8))
        parts = ((box, noise.crop(box)) for box in parts_of_image(*noise.size, 128))
        assert join_parts(noise.size, parts).tobytes() == noise.tobytes()

    def test_there_is_no_seam(self):
        """Two parts of other brightness fade into each other: no step is larger than the overlap makes it."""
        boxes = parts_of_image(224, 128, 128)
        grays = [Image.new("RGB", (128, 128), (level,) * 3) for level in (100, 164)]
        joined = np.asarray(join_parts((224, 128), zip(boxes, grays, strict=True)), int)[64, :, 0]
        assert (joined[0], joined[-1]) == (100, 164)
        steps = np.diff(joined)
        assert steps.min() >= 0
        assert steps.max() <= 3, "64 levels over 32 pixels"


class TestRedraw:
    def test_it_is_near_the_image_in_its_own_size(self, engine, photo):
        told = []
        drawn = redraw(engine, photo, steps=8, seed=3, on_part=lambda *place: told.append(place))
        assert drawn.size == photo.size
        assert told == [(1, 2), (2, 2)]
        assert drawn.tobytes() != photo.tobytes()
        assert psnr(drawn, photo) > 18
        again = redraw(engine, photo, steps=8, seed=3)
        assert again.tobytes() == drawn.tobytes()
        assert redraw(engine, photo, steps=8, seed=4).tobytes() != drawn.tobytes()
        assert psnr(redraw(engine, photo, 0.9, steps=8, seed=3), photo) < psnr(drawn, photo) - 2

    def test_the_mllm_reads_the_prompt_or_an_image(self, engine, photo):
        given = {"strength": 0.9, "steps": 2}
        whole = redraw(engine, photo, **given)
        assert redraw(engine, photo, shown=photo, **given).tobytes() == whole.tobytes()
        assert redraw(engine, photo, shown=Image.new("RGB", (64, 64), "red"), **given).tobytes() != whole.tobytes()
        assert redraw(engine, photo, prompt="a red house", **given).tobytes() != whole.tobytes()

    def test_the_mllm_reads_a_file_once(self, engine, photo):
        """However many parts there are."""
        known = list(engine._worker.conditionings)
        redraw(engine, photo, shown=BOAT, steps=1)
        assert len(set(engine._worker.conditionings) - set(known)) == 1

    def test_what_stops_it(self, engine, photo):
        """Between two parts; nothing is left in the queue."""
        told = []

        def stop(number, count):
            told.append(number)
            if number == 2:
                raise GenerationCancelledError("Nobody waits.")

        with pytest.raises(GenerationCancelledError):
            redraw(engine, photo, steps=1, on_part=stop, session="one")
        assert told == [1, 2]
        assert engine.jobs_of("one") == []

    def test_bad_strength(self, engine, photo):
        with pytest.raises(InvalidRequestError, match="strength is 2; it must be"):
            redraw(engine, photo, 2)


def psnr(one, other):
    return 10 * np.log10(255**2 / np.square(np.asarray(one, float) - np.asarray(other, float)).mean())

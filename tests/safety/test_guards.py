"""Take a guard away, and the attack that it stops succeeds: shown for five here, for all by `guards.py`."""

import pytest
from safety.guards import QUICK, succeeds_without


@pytest.mark.parametrize("guard", QUICK, ids=lambda guard: guard.what)
def test_without_its_guard_an_attack_succeeds(guard, tmp_path):
    assert succeeds_without(guard, tmp_path)

"""The conformance check against the real simulators: one contract for all."""

import pytest

from sims.check_world import FAIL, SKIP, check_world
from sims.worlds import WORLDS


@pytest.mark.worlds
@pytest.mark.parametrize("name", ["mujoco", "torcs", "donkey"])
def test_world_keeps_the_contract(name):
    spec = WORLDS[name]
    if (lacking := spec.missing()) is not None:
        pytest.skip(lacking)
    findings = check_world(spec, WORLDS.home(name))
    assert {f.name: f.detail for f in findings if f.outcome == FAIL} == {}
    assert len([f for f in findings if f.outcome == SKIP]) <= 4

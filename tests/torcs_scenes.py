"""What the tests of the world `torcs` share: a world that is closed afterwards, scenarios on its tracks, some steps."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from sims.scenarios import make_scenario
from sims.torcs.spec import PROFILE, SPEC

LACKING = SPEC.missing()
NEEDS_TORCS = [pytest.mark.worlds, pytest.mark.skipif(LACKING is not None, reason=f"TORCS: {LACKING}")]


@contextmanager
def worlds():
    """A function that makes worlds (without camera by default); they are closed afterwards."""
    from sims.torcs.world import TorcsWorld

    made = []

    def begin(**settings):
        made.append(TorcsWorld(**{"camera_size": None, **settings}))
        return made[-1]

    try:
        yield begin
    finally:
        for world in made:
            world.close()


def scenario_on(track, name="follow_lane", seed=1, **changes):
    """A scenario of this name on a TORCS track, with fields replaced."""
    return replace(make_scenario(name, SPEC.road(track, 0), seed, profile=PROFILE), **changes)


def drive(world, steps, action=(0.0, 0.2)):
    """Truths of some steps under one action."""
    return [world.step(np.array(action, np.float32))[4]["truth"] for _ in range(steps)]

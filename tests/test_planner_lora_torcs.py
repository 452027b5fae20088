"""Scenes of expert driving in TORCS are at the scale that planners think at."""

import numpy as np

from sims.worlds import find_world
from tests.torcs_scenes import NEEDS_TORCS
from training.planner.elsewhere import ElsewhereSource

pytestmark = NEEDS_TORCS


def test_scenes_of_torcs_are_at_model_scale():
    source = ElsewhereSource(find_world("torcs"), 3)
    try:
        scenes = source.take("e-track-1", 12)
    finally:
        source.close()
    assert len(scenes) >= 12
    assert all(s.frames.shape == (2, 112, 168, 3) and s.frames.std() > 10 for s in scenes)
    assert 0.4 < scenes[0].truth.lane_width_m < 0.9  # 7.5 m
    assert max(s.truth.speed_mps for s in scenes) < 3.0
    assert all(s.task.cruise_mps < 3.0 for s in scenes)
    assert np.median([s.truth.speed_mps for s in scenes]) < 2.0

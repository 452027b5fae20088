"""What counts as visible: size in the picture, angle, order; and which image token is told that it shows an actor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kinematic_world import PROFILE, oval, truth_at

from planner.frames import IMAGE_TOKENS
from sims.facts import in_sight, visible_facts, without_specks
from training.planner.scenes import SceneSource
from training.planner.seeing import KINDS, cell_targets

ROAD = oval(2)
NOSE_M = PROFILE.length_m - PROFILE.rear_overhang_m


def truth_with(*actors):
    return truth_at(ROAD, 2.0, -0.4, 0.0, 1.0, list(actors))


@pytest.mark.parametrize(("kind", "seen_m", "unseen_m"), [("car", 3.8, 4.2), ("cone", 2.3, 2.6), ("box", 4.9, 5.3)])
def test_an_actor_is_seen_from_four_pixels_on(kind, seen_m, unseen_m):
    for gap_m, count in ((seen_m, 1), (unseen_m, 0)):
        truth = truth_with((kind, gap_m + NOSE_M, -0.4, 0.0))
        near_side = truth.actors[0].length_m / 2
        truth = replace(truth, actors=(replace(truth.actors[0], x_m=truth.actors[0].x_m + near_side),))
        assert len(in_sight(truth, PROFILE)) == count


def test_a_finer_camera_sees_farther():
    truth = truth_with(("car", 5.5, -0.4, 0.0))
    fine = PROFILE.model_copy(update={"camera": PROFILE.camera.model_copy(update={"width_px": 320})})
    assert not in_sight(truth, PROFILE)
    assert in_sight(truth, fine)


def test_nearest_first_and_two_at_most_are_said():
    truth = truth_with(("car", 3.0, -0.4, 0.0), ("box", 1.5, 0.4, 0.0), ("cone", 2.0, -0.4, 0.0))
    assert [a["kind"] for a in visible_facts(truth, PROFILE)["actors"]] == ["box", "cone"]


def test_specks_go_and_what_is_beside_or_behind_stays():
    speck, beside, behind, seen = (
        ("car", 5.8, -0.4, 0.0),
        ("car", 0.1, 0.4, 0.0),
        ("car", -2.0, -0.4, 0.0),
        ("car", 2.0, -0.4, 0.0),
    )
    kept = without_specks(truth_with(speck, beside, behind, seen), PROFILE)
    assert [round(a.s_ahead_m, 1) for a in kept.actors] == [0.1, -2.0, 2.0]


def test_tokens_are_told_only_of_actors_that_are_in_sight():
    scenes = [s for _ in range(2) for s in SCENES.scenes()]
    told = 0
    for scene in scenes:
        cells = cell_targets(scene.truth, PROFILE, scene.dense)
        assert cells.shape == (IMAGE_TOKENS, 5)
        sights = in_sight(scene.truth, PROFILE)
        for kind, lane, distance, speed, _ in cells[cells[:, 0] > 0]:
            told += 1
            assert any(
                KINDS[int(kind) - 1] == s.actor.kind
                and int(lane) == s.actor.lane
                and abs(3.0 * distance - s.distance_m) < 1e-3
                and abs(speed - s.actor.speed_mps) < 1e-3
                for s in sights
            )
    # Some are hidden or out of the picture's edge; most are not.
    assert told >= 0.7 * sum(len(in_sight(s.truth, PROFILE)) for s in scenes)


SCENES = SceneSource(3, 16, PROFILE)


def test_an_empty_road_has_no_actor_in_any_token():
    scene = SCENES.scenes()[0]
    assert not np.any(cell_targets(replace(scene.truth, actors=()), PROFILE, scene.dense))

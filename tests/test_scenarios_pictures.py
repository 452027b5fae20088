"""Bird's-eye view and plan drawing: right places in the picture; built-in commands are understood."""

from __future__ import annotations

import numpy as np
import pytest
from kinematic_world import PROFILE, oval, truth_at

from bridge.messages import CameraModel
from planner.phrasebook import understand
from sims.birdseye import CAR, EGO, PLAN, draw_birdseye, draw_plan_on_camera, project_ground
from sims.expert import expert_answer
from sims.sayings import SAYINGS


def near(image: np.ndarray, colour) -> np.ndarray:
    """(rows, columns) of the pixels of a colour."""
    return np.argwhere(np.abs(image.astype(int) - colour).max(axis=2) < 12)


def test_birdseye_shows_the_car_ahead_above_the_ego_and_the_plan():
    truth = truth_at(oval(2), 2.0, -0.4, 0.0, 1.0, [("car", 2.0, 0.4, 0.5)])
    image = draw_birdseye(truth, None, 240, 8.0)
    assert image.shape == (240, 240, 3)
    assert image.dtype == np.uint8
    ego, car = near(image, EGO).mean(axis=0), near(image, CAR).mean(axis=0)
    assert ego[0] - car[0] == pytest.approx((2.0 - 0.13) * 30, abs=2)
    assert ego[1] - car[1] == pytest.approx(0.8 * 30, abs=2)
    assert len(near(draw_birdseye(truth, np.array([[truth.x_m + 1, truth.y_m]]), 240, 8.0), PLAN)) > 4


@pytest.mark.parametrize("lens", ["pinhole", "fisheye"])
def test_projection_puts_left_on_the_left_and_far_higher(lens):
    camera = CameraModel(lens=lens)
    near_left, far, right = (project_ground(camera, *p) for p in ((1.0, 0.3), (3.0, 0.0), (1.0, -0.3)))
    assert near_left[0] < far[0] < right[0]
    assert far[0] == pytest.approx(79.5)
    assert far[1] < near_left[1]
    assert project_ground(camera, -1.0, 0.0) is None


def test_projection_agrees_with_the_world_camera():
    from sims.track import rays
    from sims.track.look import CAMERA

    camera = CameraModel()
    row = np.zeros(1, CAMERA)[0]
    row["x"], row["y"], row["z"] = camera.x_m, camera.y_m, camera.z_m
    row["pitch"], row["hfov"], row["fisheye"] = camera.pitch_rad, camera.hfov_rad, camera.lens == "fisheye"
    focal = rays.focal_px(row, camera.width_px)
    for x, y in [(0.8, 0.1), (1.5, -0.6), (4.0, 1.0)]:
        theirs = rays.project(row, rays.rotation(row), focal, x, y, 0.0, camera.width_px, camera.height_px)
        assert project_ground(camera, x, y) == pytest.approx(theirs, abs=0.75)


def test_plan_is_drawn_into_the_enlarged_picture():
    answer = expert_answer(truth_at(oval(2), 2.0, -0.4), PROFILE, None, 1.2)
    image = draw_plan_on_camera(np.zeros((120, 160, 3), np.uint8), answer.waypoints, PROFILE.camera, 3)
    assert image.shape == (360, 480, 3)
    columns = near(image, PLAN)[:, 1]
    assert len(columns) > 10
    assert abs(columns.mean() - 240) < 10


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("kind", sorted(SAYINGS))
def test_built_in_commands_are_understood(kind, language):
    for text in SAYINGS[kind][language]:
        understood = understand(text.format(speed=1.5))
        assert understood is not None, text
        assert understood.kind == kind, text
        assert understood.speed_mps == (1.5 if kind == "target_speed" else None)

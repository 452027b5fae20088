"""Pose ring, re-projection, paths and the tracker: properties that must hold for any motion."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.vehicle import pedals_from_acceleration
from controller.observation import image_input, make_observation
from controller.pose_ring import Pose, PoseRing, arc
from controller.reprojection import absurdity, plan_array, reproject
from controller.settings import TrackerSettings
from controller.tracker import Path, Tracker, shifted
from tests.kinematic_car import PROFILE, TICK_NS, plan, straight

number = st.floats(-5.0, 5.0)
pose = st.builds(Pose, number, number, st.floats(-3.0, 3.0))
motion = st.tuples(st.floats(-1.0, 4.0), st.floats(-4.0, 4.0))  # speed, yaw rate
motions = st.lists(motion, min_size=2, max_size=60)


def filled(samples) -> tuple[PoseRing, list[int]]:
    ring, stamps = PoseRing(), []
    for k, (speed, yaw_rate) in enumerate(samples):
        stamps.append(10**9 + k * TICK_NS)
        ring.push(stamps[-1], speed, yaw_rate)
    return ring, stamps


def near(a: Pose, b: Pose, tolerance: float = 1e-9) -> bool:
    turned = math.remainder(a.yaw_rad - b.yaw_rad, 2 * math.pi)
    return math.hypot(a.x_m - b.x_m, a.y_m - b.y_m) < tolerance and abs(turned) < tolerance


@given(pose, pose)
def test_compose_with_inverse_is_identity(a, b):
    assert near(a.compose(a.inverse()), Pose(0, 0, 0))
    assert near(a.compose(b).compose(b.inverse()), a, 1e-8)


@given(pose, st.lists(st.tuples(number, number), min_size=1, max_size=5))
def test_apply_keeps_distances_and_agrees_with_compose(a, points):
    moved = a.apply(np.array(points))
    for (x, y), (mx, my) in zip(points, moved):
        by_compose = a.compose(Pose(x, y, 0.0))
        assert math.hypot(mx - by_compose.x_m, my - by_compose.y_m) < 1e-9
        assert math.isclose(math.hypot(mx - a.x_m, my - a.y_m), math.hypot(x, y), abs_tol=1e-9)


@given(motion, st.floats(0.0, 2.0), st.floats(0.0, 2.0))
def test_arcs_of_one_motion_add_up(m, first_s, second_s):
    assert near(arc(*m, first_s).compose(arc(*m, second_s)), arc(*m, first_s + second_s), 1e-8)


@given(motions, st.data())
def test_ring_moves_are_consistent(samples, data):
    """Through any third stamp on the way, or there and back, the motion is the same."""
    ring, stamps = filled(samples)
    a, b, c = (data.draw(st.integers(stamps[0], stamps[-1] + 10**8)) for _ in range(3))
    direct = ring.ego_now_from_ego_at(a, c)
    assert near(ring.ego_now_from_ego_at(b, c).compose(ring.ego_now_from_ego_at(a, b)), direct, 1e-8)
    assert near(direct.inverse(), ring.ego_now_from_ego_at(c, a), 1e-8)


@given(motions, st.data())
def test_ring_never_jumps(samples, data):
    ring, stamps = filled(samples)
    t = data.draw(st.integers(stamps[0], stamps[-1]))
    moved = ring.ego_now_from_ego_at(t, t + 1_000_000)
    assert math.hypot(moved.x_m, moved.y_m) <= 4.0 * 1e-3 + 1e-9
    assert abs(moved.yaw_rad) <= 4.0 * 1e-3 + 1e-9


@given(motion, st.integers(2, 60))
def test_ring_is_exact_on_a_steady_arc(m, count):
    ring, stamps = filled([m] * count)
    driven = arc(*m, (stamps[-1] - stamps[0]) * 1e-9)
    assert near(ring.ego_now_from_ego_at(stamps[0], stamps[-1]).inverse(), driven, 1e-7)


def test_ring_forgets_and_refuses():
    ring, stamps = filled([(1.0, 0.0)] * 1000)
    assert not ring.covers(stamps[0]) and ring.covers(stamps[-1])
    assert ring.covers(stamps[-1] - 11 * 10**9), "a plan's whole life must fit"
    with pytest.raises(LookupError):
        ring.pose_at(stamps[0])
    assert not ring.push(stamps[-1], 1.0, 0.0), "the same stamp twice"
    assert not ring.push(stamps[-1] + TICK_NS, math.nan, 0.0)
    assert ring.push(stamps[-1] + 2 * 10**9, 1.0, 0.0), "a gap starts it afresh"
    assert not ring.covers(stamps[-1])


@given(motions, st.floats(0.3, 4.0), st.floats(-1.0, 1.0))
def test_reprojected_points_stay_where_they_are_in_the_world(samples, x, y):
    ring, stamps = filled(samples)
    path = np.array([[0.0, 0.0, 1.0], [x, y, 1.0]])
    moved = reproject(path, ring.ego_now_from_ego_at(stamps[0], stamps[-1]))
    start, end = ring.pose_at(stamps[0]), ring.pose_at(stamps[-1])
    assert np.allclose(end.apply(moved[:, :2]), start.apply(path[:, :2]), atol=1e-9)
    assert np.array_equal(moved[:, 2], path[:, 2])


def test_plan_array_puts_the_car_in_front_and_drops_repetitions():
    path = plan_array(plan([(0.0, 0.0), (1.0, 0.0), (1.0, 0.0), (2.0, 0.0)], 0))
    assert path[:, 0].tolist() == [0.0, 1.0, 2.0]
    assert len(plan_array(plan([(0.0, 0.0), (0.0, 0.0)], 0, v_mps=0.0))) == 2


def test_absurd_plans_are_named():
    assert absurdity(straight(0), PROFILE, 100.0) is None
    assert "starts behind" in absurdity(plan([(-1.0, 0.0), (-2.0, 0.0)], 0), PROFILE, 100.0)
    assert "doubles back" in absurdity(plan([(1.0, 0.0), (0.2, 0.1)], 0), PROFILE, 100.0)
    assert "further away" in absurdity(plan([(1.0, 0.0), (300.0, 0.0)], 0), PROFILE, 100.0)
    assert "speed" in absurdity(straight(0, v_mps=9.0), PROFILE, 100.0)
    forged = straight(0).model_copy(
        update={"waypoints": tuple(w.model_copy(update={"x_m": math.nan}) for w in straight(0).waypoints)}
    )
    assert "not finite" in absurdity(forged, PROFILE, 100.0)


@given(st.floats(-0.3, 5.0), st.floats(-1.0, 1.0))
def test_projection_on_a_straight_path(x, y):
    path = Path(plan_array(straight(0)))
    station, distance = path.project(np.array([[x, y]]))
    assert math.isclose(station[0], max(x, 0.0), abs_tol=1e-6), "beyond the end the path goes on straight"
    assert math.isclose(distance[0], math.hypot(min(x, 0.0), y), abs_tol=1e-6)


@settings(max_examples=50)
@given(st.floats(-0.9, 0.9), st.floats(-0.5, 0.5), st.floats(0.0, 3.0))
def test_tracker_is_symmetric_and_bounded(bend, offset, speed):
    tracker = Tracker(PROFILE, TrackerSettings(), 1 / 30)
    points = [(0.5 * k, offset + bend * 0.1 * k * k) for k in range(1, 9)]
    left = tracker.steering(Path(plan_array(plan(points, 0))), speed)
    right = tracker.steering(Path(plan_array(plan([(x, -y) for x, y in points], 0))), speed)
    assert -1.0 <= left <= 1.0 and math.isclose(left, -right, abs_tol=1e-9)


def test_tracker_signs():
    tracker = Tracker(PROFILE, TrackerSettings(), 1 / 30)
    to_the_left = Path(plan_array(plan([(0.5 * k, 0.1 * k) for k in range(1, 9)], 0)))
    assert tracker.steering(to_the_left, 1.0) > 0.0
    path = Path(plan_array(straight(0, v_mps=1.2)))
    assert tracker.acceleration(path, 0.5) > 0.0 > tracker.acceleration(path, 2.5)
    standing = Path(plan_array(straight(0, v_mps=0.0)))
    assert tracker.acceleration(standing, 0.0) < 0.0 and tracker.acceleration(standing, 1.0) < -0.5


def test_shifted_is_the_inverse_motion():
    path = plan_array(straight(0))
    assert np.allclose(shifted(path, 0.5, 0.0, 0.0)[:, 0], path[:, 0] - 0.5)
    assert shifted(path, 0.0, 0.0, 0.5)[-1, 1] < 0.0, "turning left moves what is ahead to the right"


def test_observation_is_scaled_by_the_profile():
    from bridge.messages import EgoState

    ego = EgoState(speed_mps=1.5, yaw_rate_radps=0.5, steering=-0.2)
    seen = make_observation(None, ego, PROFILE, plan_array(straight(0, v_mps=1.5)), path_valid=True)
    assert seen.path.shape == (8, 3) and seen.path.dtype == np.float32
    assert np.allclose(seen.path[0], [2.0, 0.0, 1.0]) and np.allclose(seen.ego, [1.0, 0.5, -0.2])
    other_count = make_observation(None, ego, PROFILE, plan_array(plan([(2.0, 0), (4.0, 0)], 0)), path_valid=True)
    assert np.allclose(other_count.path[:, 0], np.arange(1, 9) * 2.0)
    blind = make_observation(None, ego, PROFILE, None, path_valid=True)
    assert blind.path_valid == 0.0 and not blind.path.any()


def test_images_are_resized_or_refused():
    assert image_input(np.zeros((240, 320, 3), np.uint8)).shape == (120, 160, 3)
    with pytest.raises(ValueError, match="uint8"):
        image_input(np.zeros((120, 160, 3), np.float32))


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_pedals(acceleration):
    throttle, brake = pedals_from_acceleration(acceleration)
    assert 0.0 <= throttle <= 1.0 and 0.0 <= brake <= 1.0 and throttle * brake == 0.0
    if not math.isfinite(acceleration):
        assert brake == 1.0

"""The world `torcs` with the real game: start, truth, pictures, determinism, traffic, scenarios."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from bridge.messages import CameraModel
from sims.actors import ActorSpec
from sims.judge import Judge
from sims.road import RoadError
from sims.scenarios import make_scenario
from sims.torcs.spec import PROFILE, SPEC
from sims.torcs.tracks import CATEGORIES
from sims.track import rays
from sims.track.look import CAMERA
from sims.world import WorldError
from tests.torcs_scenes import NEEDS_TORCS, drive, scenario_on, worlds

pytestmark = NEEDS_TORCS


@pytest.fixture
def make():
    """make(**settings): a world, closed afterwards."""
    with worlds() as begin:
        yield begin


def keep_lane(world, truth, speed):
    """An action that follows the middle of the present lane: enough of a driver for these tests."""
    ahead = truth.ahead[np.searchsorted(truth.ahead[:, 0], 8.0)]
    d = truth.lane_center_d_m(truth.lane)
    dx, dy = ahead[1] - d * math.sin(ahead[3]) - truth.x_m, ahead[2] + d * math.cos(ahead[3]) - truth.y_m
    across = dy * math.cos(truth.yaw_rad) - dx * math.sin(truth.yaw_rad)
    steering = math.atan(PROFILE.wheelbase_m * 2 * across / (dx * dx + dy * dy)) / PROFILE.steering_limit_rad
    return np.array([np.clip(steering, -1, 1), np.clip(0.3 * (speed - truth.speed_mps), -1, 1)], np.float32)


def test_gymnasium_is_content(make):
    check_env(make(camera_size=(64, 48), track="g-track-1"))


def test_it_starts_where_the_scenario_says(make):
    world = make()
    for track, name, seed in (
        ("g-track-1", "overtake_left", 3),
        ("aalborg", "follow_vehicle", 5),
        ("dirt-1", "stop", 1),
    ):
        scenario = scenario_on(track, name, seed)
        observation, info = world.start(scenario, seed)
        truth = info["truth"]
        assert truth.t_s == 0.0 and truth.progress_m == 0.0 and not truth.collision and not truth.off_road
        assert truth.s_m == pytest.approx(scenario.start_s_m, abs=0.5)
        assert truth.d_m == pytest.approx(scenario.start_d_m, abs=0.2)
        assert truth.speed_mps == pytest.approx(scenario.start_speed_mps, rel=0.05, abs=0.1)
        assert observation["speed"] == pytest.approx(truth.speed_mps)
        assert len(truth.actors) == len(scenario.actors)
        for told, asked in zip(truth.actors, scenario.actors, strict=True):
            assert told.s_ahead_m == pytest.approx(asked.s_m - scenario.start_s_m, abs=0.6)
            assert told.d_m == pytest.approx(asked.d_m, abs=0.2)
            assert told.speed_mps == pytest.approx(asked.speed_mps, rel=0.05, abs=0.1)


def test_time_is_right_in_the_mean_and_truth_fits_motion(make):
    world = make()
    world.start(scenario_on("e-track-5"), 1)
    truths = drive(world, 90)
    times = np.array([t.t_s for t in truths])
    assert times[-1] == pytest.approx(3.0, abs=1e-6)
    assert np.abs(times - (np.arange(90) + 1) / 30).max() < 0.0068
    way = np.hypot(truths[-1].x_m - truths[0].x_m, truths[-1].y_m - truths[0].y_m)
    assert truths[-1].progress_m - truths[0].progress_m == pytest.approx(way, rel=0.03)
    mean = np.mean([t.speed_mps for t in truths])
    assert way / (times[-1] - times[0]) == pytest.approx(mean, rel=0.03)
    turned = truths[-1].yaw_rad - truths[0].yaw_rad
    assert turned == pytest.approx(np.mean([t.yaw_rate_radps for t in truths]) * (times[-1] - times[0]), abs=0.03)


def test_the_road_is_where_torcs_says(make):
    """TORCS's own distance from the middle line, and its count of metres, against those of our road."""
    world = make()
    _, info = world.start(scenario_on("aalborg"), 2)
    for _ in range(300):
        _, _, _, _, info = world.step(keep_lane(world, info["truth"], 10.0))
    own = world._snapshot.cars[0]
    ratio = world.road.meta["torcs_length_m"] / world.road.length_m
    names = {name: k for k, name in enumerate(world._snapshot.cars.dtype.names or ())}
    assert not names  # a plain table
    from sims.torcs.protocol import CAR_STATE

    s, d = world.road.to_frenet(float(own[CAR_STATE.index("x")]), float(own[CAR_STATE.index("y")]))
    assert d == pytest.approx(float(own[CAR_STATE.index("to_middle")]), abs=0.05)
    assert s * ratio == pytest.approx(float(own[CAR_STATE.index("distance")]), abs=1.0)


def test_actions_mean_shares_of_the_profile(make):
    world = make()
    for share, full in ((1.0, PROFILE.max_accel_mps2), (0.5, PROFILE.max_accel_mps2), (-0.5, PROFILE.max_brake_mps2)):
        _, info = world.start(scenario_on("e-track-5", start_speed_mps=13.0, cruise_mps=13.0), 1)
        before, after = info["truth"], drive(world, 24, (0.0, share))[-1]
        reached = (after.speed_mps - before.speed_mps) / (after.t_s - before.t_s)
        assert reached == pytest.approx(share * full, rel=0.2)
    _, info = world.start(scenario_on("e-track-5", start_speed_mps=10.0, cruise_mps=10.0), 1)
    stood = drive(world, 60, (0.0, -1.0))[-1]
    assert abs(stood.speed_mps) < 0.05
    left = drive(world, 15, (0.3, 0.4))[-1]
    assert left.yaw_rate_radps > 0.02 and left.steering == pytest.approx(0.3)


def test_episodes_repeat_to_the_bit(make):
    scenario, rng = scenario_on("wheel-2", "overtake_left", 4), np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (40, 2)) * [0.05, 0.3] + [0.0, 0.3]

    def run(world, seed):
        seen = [world.start(scenario, seed)[0]]
        truths = []
        for action in actions:
            observation, _, _, _, info = world.step(action)
            seen.append(observation)
            truths.append(info["truth"])
        return seen, truths

    one, other = make(camera_size=(64, 48)), make(camera_size=(64, 48))
    first, second = run(one, 1), run(other, 1)
    one.start(scenario_on("wheel-2", "stop", 9), 3)
    drive(one, 20)
    third = run(one, 1)
    for again in (second, third):
        assert first[1] == again[1]
        assert all(np.array_equal(a[name], b[name]) for a, b in zip(first[0], again[0], strict=True) for name in a)


def test_what_is_not_needed_does_not_matter(make, monkeypatch):
    """Spare cars beyond the scenario's own change nothing, not even in a collision."""
    import sims.torcs.world as module

    ends = []
    for spare in (1, 5):
        monkeypatch.setattr(module, "SPARE_TRAFFIC", spare)
        world = make()
        _, info = world.start(scenario_on("e-track-5", "overtake_left", 3), 1)
        for _ in range(150):
            _, _, _, _, info = world.step(keep_lane(world, info["truth"], 18.0))
        ends.append(info["truth"])
    assert ends[0] == ends[1] and ends[0].collision and math.isfinite(ends[0].x_m)


def test_leaving_the_road_and_touching_are_told(make):
    world = make()
    world.start(scenario_on("g-track-1"), 1)
    truths = drive(world, 150, (0.4, 0.2))
    off = next(t for t in truths if t.off_road)
    assert truths[-1].off_road and not truths[0].off_road
    assert abs(off.d_m) > off.left_edge_d_m - PROFILE.wheelbase_m - PROFILE.width_m
    _, info = world.start(scenario_on("g-track-1"), 1)
    assert not info["truth"].off_road and not info["truth"].collision


def test_traffic_keeps_its_speed_follows_and_changes(make):
    road = SPEC.road("e-track-5", 0)
    s, d = 300.0, float(road.lane_center_d(300.0, 1))
    actors = (
        ActorSpec("car", s + 60.0, d, 9.0, follow=False),
        ActorSpec("car", s + 30.0, d, 14.0),
        ActorSpec("car", s + 40.0, float(road.lane_center_d(s, 2)), 8.0, ((3.0, 4.0),), follow=False),
        ActorSpec("cone", s + 100.0, float(road.lane_center_d(s, 0))),
    )
    world = make()
    world.start(scenario_on("e-track-5", start_s_m=s, start_d_m=d, start_speed_mps=0.0, actors=actors), 1)
    early = drive(world, 60, (0.0, -1.0))[-1].actors
    truth = drive(world, 300, (0.0, -1.0))[-1]
    lead, follower, changing, standing = truth.actors
    assert lead.speed_mps == pytest.approx(9.0, abs=0.15) and lead.d_m == pytest.approx(d, abs=0.3)
    assert early[1].speed_mps > 9.5 and follower.speed_mps == pytest.approx(9.0, abs=0.5)
    gap = lead.s_ahead_m - follower.s_ahead_m - 0.5 * (lead.length_m + follower.length_m)
    assert 4.0 < gap < 20.0, "it closed up and keeps its distance"
    assert early[2].speed_mps == pytest.approx(8.0, abs=0.2) and changing.speed_mps == pytest.approx(4.0, abs=0.2)
    assert standing.kind == "car" and abs(standing.speed_mps) < 0.05, "TORCS has no cones: a parked car"
    assert standing.s_ahead_m == pytest.approx(100.0, abs=0.5)


def project(camera, truth, x, y, z, size):
    """Pixel of a point of the world."""
    pose = np.zeros(1, CAMERA).view(np.recarray)[0]
    for name, value in camera.items():
        pose[name] = value
    c, s = math.cos(truth.yaw_rad), math.sin(truth.yaw_rad)
    dx, dy = x - truth.x_m, y - truth.y_m
    focal = rays.focal_px(pose, size[0])
    return rays.project(pose, rays.rotation(pose), focal, dx * c + dy * s, dy * c - dx * s, z, *size)


@pytest.mark.parametrize("lens", [PROFILE.camera, CameraModel(lens="pinhole", hfov_rad=1.3, x_m=2.0, z_m=1.4)])
def test_another_car_is_seen_where_the_truth_says(make, lens):
    """With the car and without it: the pixels that differ lie where it is projected."""
    size = (320, 240)
    world = make(camera_size=size, profile=PROFILE.model_copy(update={"camera": lens}))
    road = SPEC.road("e-track-5", 0)
    s, d = 300.0, float(road.lane_center_d(300.0, 1))
    empty = scenario_on("e-track-5", start_s_m=s, start_d_m=d, start_speed_mps=0.0, actors=())
    without = world.start(empty, 1)[0]["image"].astype(int)
    for ahead, side in ((14.0, 0.0), (18.0, 5.0), (12.0, -3.5)):
        actors = (ActorSpec("car", s + ahead, d + side),)
        observation, info = world.start(replace(empty, actors=actors), 1)
        changed = np.abs(observation["image"].astype(int) - without).sum(axis=2) > 60
        rows, columns = np.nonzero(changed)
        other, truth = info["truth"].actors[0], info["truth"]
        c, w = 0.5 * other.length_m, 0.5 * other.width_m
        yaw = other.yaw_rad
        corners = [
            (other.x_m + u * math.cos(yaw) - v * math.sin(yaw), other.y_m + u * math.sin(yaw) + v * math.cos(yaw), z)
            for u in (-c, c) for v in (-w, w) for z in (0.0, 1.15)
        ]  # fmt: skip
        box = np.array([project(world.camera(), truth, *corner, size) for corner in corners])
        (left, top), (right, bottom) = box.min(axis=0), box.max(axis=0)
        inside = (columns > left - 4) & (columns < right + 4) & (rows > top - 4) & (rows < bottom + 4)
        assert inside.mean() > 0.95, "what has changed is the car"
        assert np.ptp(columns[inside]) > 0.6 * (right - left) and np.ptp(rows[inside]) > 0.5 * (bottom - top)


def test_the_picture_is_of_a_road_and_changes(make):
    world = make(camera_size=(160, 120))
    observation, _ = world.start(scenario_on("forza"), 1)
    first = observation["image"]
    assert first.shape == (120, 160, 3) and first.dtype == np.uint8 and first.std() > 20
    assert first[:30].mean() > first[80:].mean(), "sky above asphalt"
    later, *_ = world.step([0.0, 0.5])
    assert np.abs(later["image"].astype(int) - first).mean() > 0.3
    assert np.array_equal(world.render(), later["image"])


def test_randomisation_moves_the_camera_with_the_seed(make):
    world = make(camera_size=(64, 48), randomize=1.0)
    scenario = scenario_on("forza")
    poses = [world.start(scenario, seed) and world.camera() for seed in (1, 2, 1)]
    assert poses[0] != poses[1] and poses[0] == poses[2]


def test_every_track_of_the_game_loads():
    """All 38, by their names and categories; the roads close and are as long as the game says."""
    for name in CATEGORIES:
        road = SPEC.road(name, 0)
        assert road.length_m == pytest.approx(road.meta["torcs_length_m"], rel=1e-3)
        assert 0.9 < np.abs(np.diff(road.x_m) ** 2 + np.diff(road.y_m) ** 2).mean() ** 0.5 / road.step_m < 1.1
        turns = (road.yaw_rad[-1] - road.yaw_rad[0]) / (2 * math.pi)
        assert turns == pytest.approx(round(turns), abs=0.01), f"{name} turns round {turns:.3f} times"
    with pytest.raises(RoadError, match="did you mean"):
        SPEC.road("forzza", 0)


def test_torcs_own_robots_race(make):
    world = make(track="g-track-1", robots=("bt/3",))
    world.reset(seed=2)
    robot = drive(world, 150, (0.0, -1.0))[-1].actors[-1]
    assert robot.speed_mps > 15.0 and robot.s_ahead_m > 60.0
    world.reset(seed=2)
    assert drive(world, 150, (0.0, -1.0))[-1].actors[-1].speed_mps > 15.0
    with pytest.raises(WorldError, match="robot could not be loaded"):
        make(robots=("nobody/1",), track="g-track-1").reset(seed=0)
    with pytest.raises(ValueError, match="bt/3"):
        make(robots=("bt",))


def test_refusals(make):
    world = make()
    with pytest.raises(WorldError, match="start or reset"):
        world.step([0.0, 0.0])
    with pytest.raises(WorldError, match="own tracks"):
        from sims.random_road import random_road

        road = replace(random_road(1), meta={})
        world.start(make_scenario("follow_lane", road, 1), 1)
    with pytest.raises(WorldError, match="at most 9 actors"):
        world.start(scenario_on("forza", actors=(ActorSpec("car", 10.0, 0.0),) * 10), 1)
    world.start(scenario_on("forza"), 1)
    for wrong in ([0.0], [math.nan, 0.0], [[0.0, 0.0]]):
        with pytest.raises(ValueError, match="two finite numbers"):
            world.step(wrong)
    with pytest.raises(ValueError, match="unknown option"):
        world.reset(options={"trak": "forza"})
    with pytest.raises(WorldError, match="its profile says"):
        make(profile=PROFILE.model_copy(update={"wheelbase_m": 2.0})).start(scenario_on("forza"), 1)


# ---- scenarios -------------------------------------------------------------------------------------------------------


def test_the_judge_works_at_full_size(make):
    world, scenario = make(), scenario_on("g-track-1", "follow_lane", 2, actors=())
    judge = Judge(scenario, PROFILE)
    _, info = world.start(scenario, 1)
    judge.observe(info["truth"])
    while not judge.finished:
        _, _, _, _, info = world.step(keep_lane(world, info["truth"], scenario.cruise_mps))
        judge.observe(info["truth"])
    result = judge.result()
    assert result.success and result.route_completion == 1.0, result.reason


def test_expert_and_pursuit_do_what_they_are_told():
    from training.backends import load_backend
    from training.evaluate import EvaluateSettings, evaluate

    suite = "overtake_left,overtake_right,follow_vehicle,stop"
    settings = EvaluateSettings(world="torcs", suite=suite, episodes=12, seed=3)
    report = evaluate(settings, load_backend("expert"))
    failed = [(e["scenario"], e["track"], e["reason"]) for e in report["episodes"] if not e["success"]]
    assert report["summary"]["success_rate"] >= 0.9, failed


def test_the_conformance_check_is_content():
    from sims.check_world import FAIL, check_world

    findings = check_world(SPEC, "sims.torcs.spec")
    assert len(findings) > 10
    assert not [f for f in findings if f.outcome == FAIL]

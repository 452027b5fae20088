"""How cars move, collide and leave the road, and what the truth says of it."""

import numpy as np
import pytest

from bridge.messages import VehicleProfile
from sims.actors import ActorSpec
from sims.random_road import random_road
from sims.road import RoadError, road_from_points
from sims.track import Randomization, TrackVectorEnv
from sims.truth import Truth

PROFILE = VehicleProfile()


def oval(lanes=2, width=1.0, straight=30.0, radius=5.0):
    t = np.linspace(-np.pi / 2, np.pi / 2, 40)
    bend = radius * np.column_stack([np.cos(t), np.sin(t)])
    gap = np.linspace(0, straight, 60)[1:-1]
    points = np.vstack(
        [
            bend + [straight, 0],
            np.column_stack([gap[::-1], np.full_like(gap, radius)]),
            -bend,
            np.column_stack([gap, np.full_like(gap, -radius)]),
        ]
    )
    side = np.full(len(points), lanes * width / 2)
    return road_from_points("oval", *points.T, side, side, lanes)


OVAL = oval()
ON_STRAIGHT_S = float(OVAL.to_frenet(3.0, -5.0)[0])


def world(count=1, road=OVAL, **settings):
    settings = {"camera_size": None, "randomize": 0.0, "parallel": False} | settings
    env = TrackVectorEnv(count, [road], **settings)
    for i in range(count):
        env.place(i, 0, ON_STRAIGHT_S, 0.0, 0.0, 0.0)
    return env


def drive(env, action, steps):
    for _ in range(steps):
        env.step(np.tile(action, (env.num_envs, 1)))


def test_a_standing_car_stands_and_braking_never_reverses():
    env = world()
    drive(env, [0.0, 0.0], 30)
    assert env.state.speed_mps[0] == 0 and env.truth(0).progress_m == 0
    drive(env, [0.0, 0.5], 30)
    drive(env, [0.0, -1.0], 60)
    assert env.state.speed_mps[0] == 0
    stood = env.truth(0).progress_m
    drive(env, [0.3, -1.0], 30)
    assert env.truth(0).progress_m == stood > 0.2


def test_top_speed_is_kept():
    env = world()
    drive(env, [0.0, 1.0], 200)
    assert 0.85 * PROFILE.max_speed_mps < env.state.speed_mps[0] <= PROFILE.max_speed_mps


def test_acceleration_is_what_was_asked_for():
    env = world()
    drive(env, [0.0, 0.5], 30)
    assert env.state.speed_mps[0] == pytest.approx(0.5 * PROFILE.max_accel_mps2, rel=0.2)


def test_positive_steering_turns_left_with_the_radius_of_the_wheels():
    env = world()
    env.place(0, 0, ON_STRAIGHT_S, 0.0, 0.0, 0.45)
    drive(env, [0.5, 0.03], 20)
    e = env.state[0]
    wanted = e.speed_mps * np.tan(0.5 * PROFILE.steering_limit_rad) / PROFILE.wheelbase_m
    assert e.yaw_rate_radps == pytest.approx(wanted, rel=0.03)
    assert env.truth(0).d_m > 0


def test_tyres_give_way_at_speed():
    env = world()
    env.place(0, 0, ON_STRAIGHT_S, 0.0, 0.0, 2.8)
    drive(env, [1.0, 0.2], 20)
    e = env.state[0]
    assert e.speed_mps * abs(e.yaw_rate_radps) < 1.15 * env.physics["friction"][0] * 9.81
    assert abs(e.yaw_rate_radps) < 0.6 * e.speed_mps * np.tan(PROFILE.steering_limit_rad) / PROFILE.wheelbase_m


def test_steering_comes_after_its_delay():
    env = world()
    env.physics["delay_s"] = 0.15
    drive(env, [1.0, 0.0], 4)
    assert env.state.wheel_rad[0] == 0.0
    drive(env, [1.0, 0.0], 1)
    assert env.state.wheel_rad[0] > 0.0
    assert env.step(np.array([[1.0, 0.0]]))[0]["steering"][0] == 1.0


def test_frenet_position_follows_the_car_around_the_lap():
    env = world()
    env.place(0, 0, OVAL.length_m - 0.5, 0.2, 0.1, 1.0)
    for _ in range(40):
        env.step(np.array([[0.0, 0.05]]))
        truth = env.truth(0)
        s, d = OVAL.to_frenet(truth.x_m, truth.y_m)
        assert truth.d_m == pytest.approx(d, abs=0.005)
        assert abs((truth.s_m - s + 5) % OVAL.length_m - 5) < 0.02
    assert 1.0 < truth.progress_m < 2.0 and truth.s_m < 2.0


def test_truth_is_complete_and_travels():
    env = world()
    env.place(0, 0, ON_STRAIGHT_S, -0.5, 0.0, 1.0)
    env.set_actors(0, [ActorSpec("car", ON_STRAIGHT_S + 2.0, 0.5, 1.0), ActorSpec("cone", ON_STRAIGHT_S - 1.0, 0.0)])
    truth = env.truth(0)
    assert (truth.lane, truth.lane_count, truth.lane_width_m) == (0, 2, pytest.approx(1.0))
    assert truth.ahead[0, 0] == pytest.approx(-0.5) and truth.ahead[-1, 0] >= 8.0
    assert truth.actors[0].s_ahead_m == pytest.approx(2.0) and truth.actors[0].lane == 1
    assert truth.actors[1].s_ahead_m == pytest.approx(-1.0) and truth.actors[1].kind == "cone"
    again = Truth.from_dict(truth.to_dict())
    assert again.actors == truth.actors and again.d_m == truth.d_m


def test_collision_needs_contact_of_bodies():
    front = PROFILE.length_m - PROFILE.rear_overhang_m
    for gap, hit in ((0.02, False), (-0.02, True)):
        env = world()
        env.set_actors(0, [ActorSpec("box", ON_STRAIGHT_S + front + 0.125 + gap, 0.0)])
        env.step(np.zeros((1, 2)))
        assert env.truth(0).collision is hit
    env = world()
    env.set_actors(0, [ActorSpec("car", ON_STRAIGHT_S, 0.19)])
    env.step(np.zeros((1, 2)))
    assert env.truth(0).collision


def test_off_road_is_a_wheel_beyond_the_edge():
    for d, off in ((0.88, False), (0.92, True), (-0.88, False), (-0.92, True)):
        env = world()
        env.place(0, 0, ON_STRAIGHT_S, d)
        assert env.truth(0).off_road is off
    env.place(0, 0, ON_STRAIGHT_S, 0.0)
    assert env.truth(0).off_road is False


def test_infractions_cost_once_and_end_the_episode_only_on_wish():
    for ends in (False, True):
        env = world(terminate_on_infraction=ends)
        env.set_actors(0, [ActorSpec("box", ON_STRAIGHT_S, 0.0)])
        _, reward, terminated, _, _ = env.step(np.zeros((1, 2)))
        assert reward[0] == -1 and terminated[0] == ends
        assert env.step(np.zeros((1, 2)))[1][0] == 0


def test_traffic_keeps_its_speed_and_its_timetable():
    env = world()
    env.place(0, 0, ON_STRAIGHT_S, -0.5)
    env.set_actors(
        0, [ActorSpec("car", ON_STRAIGHT_S + 2, 0.5, 1.0, ((1.0, 0.0), (2.0, 0.6))), ActorSpec("box", 0.0, -0.5)]
    )
    drive(env, [0.0, 0.0], 29)
    assert env.truth(0).actors[0].speed_mps == pytest.approx(1.0, abs=0.01)
    drive(env, [0.0, 0.0], 30)
    assert env.truth(0).actors[0].speed_mps == 0.0
    drive(env, [0.0, 0.0], 90)
    actor = env.truth(0).actors[0]
    assert actor.speed_mps == pytest.approx(0.6, abs=0.06)
    x, y, yaw = OVAL.to_world(ON_STRAIGHT_S + actor.s_ahead_m, 0.5)
    assert np.hypot(actor.x_m - x, actor.y_m - y) < 1e-6 and actor.d_m == 0.5


def test_following_traffic_brakes_for_the_ego_and_for_obstacles():
    env = world()
    env.set_actors(0, [ActorSpec("car", ON_STRAIGHT_S - 2.0, 0.0, 1.2)])
    drive(env, [0.0, 0.0], 200)
    truth = env.truth(0)
    assert truth.actors[0].speed_mps < 0.05 and not truth.collision
    env.set_actors(0, [ActorSpec("car", ON_STRAIGHT_S - 2.0, 0.0, 1.2, follow=False)])
    drive(env, [0.0, 0.0], 60)
    assert env.truth(0).collision


def _run(count, parallel, seed=3):
    roads = [random_road(1), random_road(2)]
    env = TrackVectorEnv(count, roads, camera_size=(32, 24), randomize=1.0, seed=seed, parallel=parallel)
    env._threads = 3 if parallel else 1
    rng = np.random.default_rng(0)
    for _ in range(25):
        action = rng.uniform(-1, 1, 2)
        observation, reward, *_ = env.step(np.tile(action, (count, 1)))
    assert (env._pool is not None) == parallel
    env.close()
    return env.state.copy(), observation["image"], reward


def test_exact_to_the_seed_whatever_the_number_of_worlds_and_threads(monkeypatch):
    state_a, image_a, reward_a = _run(3, False)
    monkeypatch.setattr("sims.track.env.SHARE_FROM_US", 0.0)
    state_b, image_b, reward_b = _run(12, True)
    assert np.array_equal(state_a, state_b[:3])
    assert np.array_equal(image_a, image_b[:3])
    assert np.array_equal(reward_a, reward_b[:3])
    assert not np.array_equal(image_a[0], image_a[1])


def test_strength_zero_is_nominal_and_full_strength_varies():
    calm = TrackVectorEnv(4, [OVAL], camera_size=None, randomize=0.0)
    assert np.ptp(calm.physics["friction"]) == 0 and calm.physics["delay_s"][0] == PROFILE.actuator_delay_s
    wild = TrackVectorEnv(4, [OVAL], camera_size=None, randomize=Randomization())
    assert np.ptp(wild.physics["friction"]) > 0.01
    with pytest.raises(ValueError):
        Randomization(colour=1.0)
    with pytest.raises(ValueError):
        Randomization(light=2.0)


def test_bad_input_says_what_is_wrong():
    env = world(2)
    with pytest.raises(ValueError, match="shape"):
        env.step(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="finite"):
        env.step(np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match="camera"):
        env.render()
    with pytest.raises(RoadError, match="road_index"):
        env.place(0, 1, 0.0, 0.0)
    with pytest.raises(ValueError, match="at most"):
        env.set_actors(0, [ActorSpec("cone", 0.0, 0.0)] * 13)
    with pytest.raises(ValueError, match="num_envs"):
        TrackVectorEnv(0, [OVAL])
    with pytest.raises(ValueError, match="unknown option"):
        env.reset(options={"mask": None})
    with pytest.raises(ValueError, match="kind"):
        ActorSpec("truck", 0.0, 0.0)
    with pytest.raises(ValueError, match="rising"):
        ActorSpec("car", 0.0, 0.0, speed_changes=((2.0, 1.0), (1.0, 1.0)))

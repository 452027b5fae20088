"""World `donkey`: against our own server it is the world behind it; against others it is clear and never hangs."""

import json
import math
import warnings

import numpy as np
import pytest
from donkey_peers import STEADY, Wire, serving, write_oval
from donkey_tape import LIDAR
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from sims.donkey import protocol, spec, wire
from sims.donkey.world import DonkeyWorld
from sims.random_road import random_road
from sims.road import RoadError
from sims.scenarios import make_scenario
from sims.track import TrackEnv
from sims.world import WorldError
from sims.worlds import WORLDS

ROAD = random_road(11, lanes=2)


@pytest.fixture(scope="module")
def address():
    with serving() as where:
        yield where


def world_at(where, **options):
    return DonkeyWorld(*where, **({"camera_size": (48, 36), "patience": STEADY} | options))


# ---- our own server: the same as the world behind it -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["overtake_left", "follow_lane"])
def test_it_is_the_world_behind_the_server_to_the_bit(address, name):
    scenario = make_scenario(name, ROAD, 5)
    there = world_at(address, randomize=0.5)
    here = TrackEnv([random_road(1)], camera_size=(48, 36), randomize=0.5)
    actions = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 2)) + [0.0, 0.4]
    for _ in range(2):  # a second episode on the same connection begins as the first
        far, far_info = there.start(scenario, 7)
        near, near_info = here.start(scenario, 7)
        for action in actions:
            assert np.array_equal(far["image"], near["image"])
            assert all(float(far[k]) == float(near[k]) for k in ("speed", "yaw_rate", "steering"))
            assert far_info["truth"] == near_info["truth"]
            assert np.allclose(far_info["truth"].ahead, near_info["truth"].ahead, atol=1e-5)
            far, *_, far_info = there.step(action.astype(np.float32))
            near, *_, near_info = here.step(action.astype(np.float32))
    there.close()


def test_gymnasium_accepts_it(address):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(world_at(address, render_mode="rgb_array"), skip_render_check=True)


def test_same_seed_same_episode_and_other_seed_another_road(address):
    world = world_at(address, camera_size=None)
    first, again, other = (world.reset(seed=s)[1]["truth"] for s in (4, 4, 5))
    assert first == again and first.road_length_m != other.road_length_m
    world.close()


def test_every_field_is_there(address):
    lidar = {**LIDAR, "degPerSweepInc": 1.0}
    car = {"body_style": "donkey", "body_r": 9, "body_g": 9, "body_b": 9, "car_name": "me", "font_size": 9}
    world = world_at(address, lidar=lidar, car=car, camera={"rot_x": 10.0})
    world.start(make_scenario("overtake_left", ROAD, 5), 1)
    *_, info = world.step([0.0, 0.5])
    told = info["donkey"]
    assert told["lidar"] and {"d", "rx", "ry"} == set(told["lidar"][0])
    assert {"gyro_x", "accel_z", "cte", "hit", "activeNode", "events"} <= set(told) and told["server"] == "pacenote"
    assert "image" not in told and not [k for k in told if k.startswith("pacenote_")]
    world.close()


def test_running_into_an_obstacle_is_a_hit_by_name(address):
    scenario = make_scenario("avoid_obstacle", ROAD, 2)
    world = world_at(address, camera_size=None)
    world.start(scenario, 1)
    hits = set()
    *_, info = world.step([0.0, 0.5])
    for _ in range(240):
        *_, info = world.step([_steer(info), 0.5])
        hits.add(info["donkey"]["hit"])
        if info["truth"].collision:
            break
    assert info["truth"].collision and f"{scenario.actors[0].kind}-0" in hits
    world.close()


def _steer(info):
    truth = info["truth"]
    return float(np.clip(-1.5 * truth.heading_error_rad - 2.0 * (truth.d_m - truth.actors[0].d_m), -1.0, 1.0))


def test_on_their_clock_a_step_takes_its_time_in_the_mean(address):
    world = world_at(address, camera_size=None, lockstep=False)
    _, info = world.reset(seed=1)
    start_s = info["donkey"]["time"]
    for _ in range(20):
        *_, info = world.step([0.0, 0.2])
    assert info["donkey"]["time"] - start_s >= 20 / 30 - 0.04
    world.close()


def test_roads_come_from_the_other_end(address, monkeypatch, tmp_path):
    monkeypatch.setenv(spec.ADDRESS, f"{address[0]}:{address[1]}")
    assert spec.SPEC.missing() is None
    assert np.array_equal(spec.SPEC.road("random", 3).x_m, random_road(1_000_003).x_m)
    assert spec.SPEC.road("warren", 0).length_m > 10.0
    assert spec.SPEC.road(write_oval(tmp_path / "oval.csv"), 0).name == "oval"
    with pytest.raises(RoadError, match="did you mean 'warehouse'"):
        spec.SPEC.road("warehous", 0)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 40))
def test_roads_and_scenarios_survive_the_wire(seed):
    road = random_road(seed)
    scenario = make_scenario("follow_lane", road, seed)
    back = wire.scenario_from_wire(json.loads(json.dumps(wire.scenario_to_wire(scenario))))
    assert all(np.array_equal(getattr(back.road, k), getattr(road, k)) for k in wire.ARRAYS)
    assert back.actors == scenario.actors and back.start_s_m == scenario.start_s_m and back.road.meta == road.meta


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: p.pop("road"),
        lambda p: p["road"].update(x_m=[1.0]),
        lambda p: p["road"].update(left_m="wide"),
        lambda p: p["road"].update(step_m=-1.0),
        lambda p: p["road"].update(lane_count=10**400),
        lambda p: p.update(actors=[{"kind": "ufo"}]),
        lambda p: p.update(start_s_m="here"),
    ],
)
def test_a_spoiled_scenario_is_refused(spoil):
    plain = json.loads(json.dumps(wire.scenario_to_wire(make_scenario("overtake_left", ROAD, 5))))
    spoil(plain)
    with pytest.raises(protocol.MalformedMessage):
        wire.scenario_from_wire(plain)


def test_a_scenario_that_the_world_cannot_show_is_the_servers_words(address):
    scenario = make_scenario("overtake_left", ROAD, 5)
    crowd = type(scenario)(**{**vars(scenario), "actors": scenario.actors * 20})
    world = world_at(address)
    with pytest.raises(WorldError, match="at most 12 actors"):
        world.start(crowd, 1)
    world.start(scenario, 1)  # and it goes on
    world.close()


# ---- other worlds, and the conformance of this one -------------------------------------------------------------------


@pytest.mark.worlds
def test_it_conforms_against_our_server(address, monkeypatch):
    from sims.check_world import FAIL, check_world

    monkeypatch.setenv(spec.ADDRESS, f"{address[0]}:{address[1]}")
    findings = check_world(spec.SPEC, home="sims.donkey.spec")
    assert len(findings) > 10 and [f for f in findings if f.outcome == FAIL] == []


@pytest.mark.worlds
@pytest.mark.parametrize("name", ["mujoco", "torcs", "carracing"])
def test_other_worlds_drive_behind_the_protocol_at_the_scale_of_a_model_car(name):
    if (lacking := WORLDS[name].missing()) is not None:
        pytest.skip(lacking)
    with serving(world=name, lockstep=True) as where:
        client = Wire(where).load()
        first = client.receive("telemetry")
        for _ in range(60):
            seen = client.step(throttle="0.6")
        client.close()
    way = math.hypot(seen["pos_x"] - first["pos_x"], seen["pos_z"] - first["pos_z"])
    assert 0.3 < seen["speed"] < 3.0 and 0.2 < way < 4.0 and abs(seen["cte"]) < 8.0
    assert len(seen["image"]) > 1000


# ---- gym-donkeycar, where it is installed ----------------------------------------------------------------------------


def test_gym_donkeycar_drives_on_our_server():
    pytest.importorskip("gym_donkeycar", reason="gym-donkeycar is not installed (it is not on PyPI)")
    import gymnasium as gym

    with serving(lockstep=True) as (host, port):
        conf = {"exe_path": "remote", "host": host, "port": port, "start_delay": 0.0, "max_cte": 50.0,
                "cam_config": {"img_w": 160, "img_h": 120, "img_d": 3, "img_enc": "JPG"}}  # fmt: skip
        env = gym.make("donkey-generated-track-v0", conf=conf).unwrapped
        observation, info = env.reset()
        for _ in range(20):
            observation, reward, terminated, truncated, info = env.step(np.array([0.0, 0.5]))
        env.close()
    assert observation.shape == (120, 160, 3) and info["speed"] > 0.2 and not terminated and reward != 0.0

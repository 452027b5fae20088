"""World `donkey`: against our own server it is the world behind it; against others it is clear and never hangs."""

import json
import math
import socket
import time
import warnings

import numpy as np
import pytest
from donkey_peers import QUICK, STEADY, FakeUnity, Wire, picture, say, scripted, serving, write_oval
from donkey_tape import LIDAR, STEPS, drive_tape, play, read_tape
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from sims.donkey import protocol, spec, unity, wire
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


@pytest.fixture(autouse=True)
def _forget_roads(monkeypatch):
    monkeypatch.setattr(unity, "_learned", {})


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


# ---- the recorded conversation ---------------------------------------------------------------------------------------


def test_the_recorded_conversation_replays():
    with scripted(play) as where:
        world = DonkeyWorld(*where, camera_size=(32, 24), lidar=LIDAR, patience=STEADY)
        seen = drive_tape(world)
        world.close()
    assert len(seen) == 1 + len(STEPS)
    told = [line["message"] for line in read_tape() if line["message"]["msg_type"] == "telemetry"]
    observation, info = seen[-1]
    match = [m for m in told if m["time"] == info["donkey"]["time"]][0]
    truth = info["truth"]
    assert (truth.x_m, truth.y_m) == (match["pos_x"], match["pos_z"]) and truth.lane_count == 1
    assert truth.road_length_m == pytest.approx(10.3, abs=0.2)  # learned from its nodes
    assert abs(match["cte"] / 8.0 + truth.d_m) < 0.05  # cte is positive to the right
    assert observation["image"].shape == (24, 32, 3) and info["donkey"]["lidar"] == []


# ---- a simulator that is not ours ------------------------------------------------------------------------------------


def test_unity_is_driven_as_it_wants_to_be():
    sim = FakeUnity()
    with scripted(sim) as where:
        world = world_at(where, camera_size=(160, 120))
        observation, info = world.reset(seed=1)
        begin_s = info["donkey"]["time"]
        for _ in range(9):
            observation, *_, info = world.step([0.3, -0.25])
        assert 9 / 30 <= info["donkey"]["time"] - begin_s + 1e-6 <= 9 / 30 + 0.05 * sim.LEAD
        world.close()
    assert sim.faults == []
    kinds = [m["msg_type"] for m in sim.seen]
    assert kinds[:4] == ["get_protocol_version", "get_scene_names", "load_scene", "control"]
    assert not [k for k in kinds if k.startswith("pacenote")]  # what is ours stays at home
    last = sim.seen[-1]
    full_lock = 0.45 / math.radians(16.0)
    assert float(last["steering"]) == pytest.approx(-0.3 * full_lock) and float(last["brake"]) == 0.25
    assert observation["steering"] == pytest.approx(-0.25 / full_lock)
    assert observation["yaw_rate"] == pytest.approx(0.5) and observation["speed"] == 1.5
    assert observation["image"].shape == (120, 160, 3)
    truth = info["truth"]
    assert truth.yaw_rad == pytest.approx(math.pi / 2) and (truth.x_m, truth.y_m) == (5.0, 0.0)
    assert truth.road_length_m == pytest.approx(10 * math.pi, rel=0.01)
    assert abs(truth.d_m) < 0.02 and truth.ahead[10, 4] == pytest.approx(0.2, abs=0.01)
    assert info["donkey"]["server"] == "unity" and info["donkey"]["lidar"] == [{"d": 12.5, "rx": 90, "ry": 0}]


def test_unity_is_reset_and_put_where_the_scenario_begins():
    sim = FakeUnity()
    with scripted(sim) as where:
        world = world_at(where, camera_size=None)
        road = world.road("generated_track", 0)
        scenario = make_scenario("follow_lane", road, 3)
        _, info = world.start(scenario, 1)
        assert info["truth"].s_m == pytest.approx(scenario.start_s_m, abs=0.01)
        assert info["truth"].heading_error_rad == pytest.approx(0.0, abs=0.01)
        with pytest.raises(WorldError, match="can place no other cars"):
            world.start(make_scenario("follow_vehicle", road, 3), 1)
        with pytest.raises(WorldError, match="choose one of its scenes"):
            world.start(make_scenario("follow_lane", ROAD, 3), 1)
        world.start(scenario, 1)  # and neither ends the connection
        world.close()
    assert sim.faults == [] and [m["msg_type"] for m in sim.seen].count("load_scene") == 1


def test_a_hit_in_unity_is_a_collision():
    sim = FakeUnity()
    with scripted(sim) as where:
        world = world_at(where, camera_size=None)
        world.reset(seed=1)
        sim.hit = "col1"
        collided = [world.step([0.0, 0.0])[-1]["truth"].collision for _ in range(8)]
        assert collided[-1]
        world.close()


def test_a_path_that_is_no_loop_gives_free_driving_but_no_tasks():
    sim = FakeUnity(closed=False)
    with scripted(sim) as where:
        world = world_at(where, camera_size=None)
        _, info = world.reset(options={"scene": "generated_road"})
        truth = info["truth"]
        assert truth.road_length_m == math.inf and len(truth.ahead) == 0 and (truth.x_m, truth.y_m) == (5.0, 0.0)
        with pytest.raises(RoadError, match="is no loop"):
            world.road("generated_road", 0)
        world.close()


def test_lock_step_cannot_be_had_from_unity():
    with scripted(FakeUnity()) as where:
        with pytest.raises(WorldError, match="cannot be driven in lock-step"):
            world_at(where, lockstep=True).reset()


def test_an_unknown_scene_is_named_with_the_known_ones():
    with scripted(FakeUnity()) as where:
        world = world_at(where)
        with pytest.raises(WorldError, match="no scene 'moon'; it has generated_road, generated_track"):
            world.reset(options={"scene": "moon"})
        world.reset()
        world.close()


# ---- what goes wrong: a clear error, in time, and the next reset begins anew -----------------------------------------


def hello(sock):
    say(sock, msg_type="scene_selection_ready", loaded="1")


def to_the_car(sock):
    """As far as a loaded car."""
    hello(sock)
    sock.recv(4096)
    say(sock, msg_type="protocol_version", version="2")
    sock.recv(4096)
    say(sock, msg_type="scene_names", scene_names=["generated_track"])
    sock.recv(4096)
    say(sock, msg_type="car_loaded")
    sock.recv(4096)


def then(*acts):
    def script(sock):
        for act in acts:
            act(sock)

    return script


def drop(sock):
    sock.shutdown(socket.SHUT_RDWR)


def half(sock):
    sock.sendall(b'{"msg_type":"telemetry","image":"')


def silence(sock):
    while sock.recv(4096):
        pass


def endless(sock):
    while True:
        sock.sendall(b"a" * 65536)


def blind_telemetry(sock):
    while True:
        say(sock, msg_type="telemetry", time=0.1)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (silence, "did not greet within 0.4 s"),
        (then(hello, silence), "did not answer get_protocol_version within 0.4 s"),
        (then(hello, lambda s: say(s, msg_type="protocol_version", version="1"), silence), "protocol version '1'"),
        (lambda s: say(s, msg_type="scene_selection_ready", pacenote="99"), "version '99' of our additions"),
        (then(half, silence), "33 bytes of an unfinished message"),
        (then(half, drop), "in the middle of a message"),
        (drop, "closed the connection"),
        (lambda s: s.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "no message of this protocol"),
        (lambda s: s.sendall(b"\xff\xfe{}\n"), "no message of this protocol"),
        (lambda s: s.sendall(b"[1,2]\n"), "no msg_type"),
        (endless, "a line of more than"),
        (then(to_the_car, silence), "did not send telemetry within 0.4 s"),
        (then(to_the_car, drop), "closed the connection"),
        (then(to_the_car, blind_telemetry), "did not let its time pass"),
        (lambda s: say(s, msg_type="pacenote_error", message="all 8 cars are taken"), "all 8 cars are taken"),
    ],
)
def test_what_goes_wrong_is_said_in_time(script, words, monkeypatch):
    monkeypatch.setattr(protocol, "TELEMETRY_CAP", 1 << 20)
    with scripted(script) as where:
        world = world_at(where, patience=QUICK)
        begin = time.monotonic()
        with pytest.raises(WorldError, match=words):
            world.reset(seed=1)
        assert time.monotonic() - begin < 5.0
        with pytest.raises(WorldError, match="call start or reset"):
            world.step([0.0, 0.0])
        world.close()


def test_nobody_there_says_how_to_start_one(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = listener.getsockname()
    with pytest.raises(WorldError, match="connection refused.*pacenote donkey-server"):
        world_at(where, patience=QUICK).reset()
    monkeypatch.setenv(spec.ADDRESS, f"{where[0]}:{where[1]}")
    assert "start the Donkey simulator" in spec.SPEC.missing()
    monkeypatch.setenv(spec.ADDRESS, "nowhere")
    assert "must be host:port" in spec.SPEC.missing()


def test_a_crash_in_mid_episode_and_a_new_simulator_at_the_same_place():
    with serving() as where:
        world = world_at(where, camera_size=None, patience=QUICK)
        world.client.patience = STEADY
        world.reset(seed=1)
        world.step([0.0, 0.5])
    with pytest.raises(WorldError, match="connection|went away"):
        for _ in range(3):
            world.step([0.0, 0.5])
    with pytest.raises(WorldError, match="connection refused"):
        world.reset(seed=1)
    with serving(port=where[1]):
        _, info = world.reset(seed=1)
        *_, info = world.step([0.0, 0.5])
        assert info["truth"].t_s == pytest.approx(1 / 30)
        world.close()


def test_a_simulator_that_came_back_between_two_episodes_is_not_noticed():
    with serving() as where:
        world = world_at(where, camera_size=None)
        world.reset(seed=1)
    with serving(port=where[1]):
        world.reset(seed=1)
        world.close()


def test_a_car_of_another_size_behind_the_server_is_refused(address):
    from bridge.messages import VehicleProfile

    with pytest.raises(WorldError, match="use --world track"):
        world_at(address, profile=VehicleProfile(wheelbase_m=2.5)).reset()


def test_actions_are_checked(address):
    world = world_at(address, camera_size=None)
    world.reset(seed=1)
    for bad in ([0.0], [0.0, math.nan], [[0.0, 0.0]]):
        with pytest.raises(ValueError, match="two finite numbers"):
            world.step(bad)
    world.close()


# ---- numbers and pictures --------------------------------------------------------------------------------------------


def test_numbers_of_a_localised_unity_are_read():
    raw = b'{"msg_type":"telemetry","speed":1,5,"cte":-0,25,"time":12}'
    assert protocol.parse(raw) == {"msg_type": "telemetry", "speed": 1.5, "cte": -0.25, "time": 12}


@given(st.lists(st.binary(max_size=40).filter(lambda b: b"\n" not in b and b.strip()), max_size=8), st.data())
def test_lines_are_found_however_they_are_cut(lines, data):
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    splitter, found = protocol.LineSplitter(), []
    for first, last in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += splitter.feed(stream[first:last])
    assert found == lines and splitter.pending == 0


@pytest.mark.parametrize("text", [None, 7, "", "!!!", "aGVsbG8="])
def test_a_broken_picture_is_said(text):
    from sims.donkey.pictures import decode_picture

    with pytest.raises(protocol.MalformedMessage, match="picture"):
        decode_picture(text)


def test_a_picture_is_rgb():
    from sims.donkey.pictures import CameraSettings, decode_picture, encode_picture

    red = np.zeros((16, 20, 3), np.uint8)
    red[..., 0] = 250
    assert np.array_equal(decode_picture(encode_picture(red, CameraSettings((20, 16), 3, "PNG"))), red)
    assert decode_picture(picture(20, 16, 90)).shape == (16, 20, 3)


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

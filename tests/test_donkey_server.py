"""The donkey server: what any client of the Donkey simulator may expect, and what a bad one cannot do."""

import base64
import io
import json
import logging
import math
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from donkey_peers import Wire, serving, write_oval
from PIL import Image

from sims.donkey import connection, protocol
from sims.donkey.server import is_loopback
from sims.random_road import random_road
from sims.road import road_from_csv

HERE = Path(__file__).parent
CAMERA = {"img_w": "0", "img_h": "0", "img_d": "0", "img_enc": "0", "fov": "0", "fish_eye_x": "0", "fish_eye_y": "0",
          "offset_x": "0", "offset_y": "0", "offset_z": "0", "rot_x": "0", "rot_y": "0", "rot_z": "0"}  # fmt: skip


@pytest.fixture(scope="module")
def oval(tmp_path_factory):
    return write_oval(tmp_path_factory.mktemp("tracks") / "oval.csv")


@pytest.fixture(scope="module")
def address(oval):
    with serving([oval], lockstep=True) as where:
        yield where


@pytest.fixture
def wire(address):
    client = Wire(address)
    yield client
    client.close()


def opened(message, name="image"):
    return Image.open(io.BytesIO(base64.b64decode(message[name])))


def test_a_student_drives_a_lap(oval):
    with serving([oval], lockstep=True) as (_, port):
        script = [sys.executable, str(HERE / "donkey_student.py"), str(port)]
        done = subprocess.run(script, capture_output=True, text=True, timeout=120, check=True)
    report = json.loads(done.stdout)
    assert report["laps"] == 1 and report["hits"] == 0
    assert report["worst_cte"] < 8.0 * 0.5  # within half a metre of the middle
    length = road_from_csv(oval).length_m
    assert 0.8 * length / 1.2 < report["lap_s"] < 1.3 * length / 1.2  # throttle 0.5 settles at about 1.2 m/s
    assert report["pictures"] > 0.9 * 30 * report["lap_s"]


def test_greeting_scenes_and_version(wire, oval):
    first = wire.receive()
    assert first["msg_type"] == "scene_selection_ready" and first["loaded"] == "1"
    wire.send("get_protocol_version")
    assert wire.receive() == {"msg_type": "protocol_version", "version": "2"}
    wire.send("get_scene_names")
    assert wire.receive()["scene_names"] == [*protocol.SCENES, oval]
    wire.send("load_scene", scene_name="warehouse")
    assert wire.receive() == {"msg_type": "car_loaded"}
    seen = wire.receive()
    fields = {"image", "steering_angle", "throttle", "speed", "hit", "time", "pitch", "yaw", "roll", "cte"}
    fields |= {"activeNode", "totalNodes", *(f"{k}_{a}" for k in ("accel", "gyro", "pos", "vel") for a in "xyz")}
    assert seen["msg_type"] == "telemetry" and fields <= set(seen)
    assert not [k for k in seen if k.startswith("pacenote")]  # nobody asked
    assert opened(seen).size == (160, 120) and opened(seen).format == "JPEG"
    wire.send("exit_scene")
    assert wire.receive()["msg_type"] == "scene_selection_ready"


def test_every_scene_of_the_simulator_is_a_road_of_its_own():
    from sims.donkey.server import hosting
    from sims.worlds import WORLDS

    place = hosting(WORLDS["track"])
    lengths = {place.road(scene).length_m for scene in place.scenes}
    assert len(lengths) == len(protocol.SCENES)
    assert place.road("warren").length_m == hosting(WORLDS["track"]).road("warren").length_m


@pytest.mark.parametrize("numbers", [{"steering": "0.5", "throttle": "0.25", "brake": "0.0"},
                                     {"steering": 0.5, "throttle": 0.25, "brake": 0}])  # fmt: skip
def test_numbers_as_strings_and_as_numbers(wire, numbers):
    wire.load().receive("telemetry")
    wire.send("control", **numbers)
    seen = wire.receive("telemetry")
    assert seen["steering_angle"] == 0.5 and seen["throttle"] == 0.25


def test_objects_need_no_terminator_and_no_segment_of_their_own(wire):
    wire.load().receive("telemetry")
    one = json.dumps(
        {"msg_type": "control", "steering": "0", "throttle": "0", "brake": "1", "note": '} \\" {'}
    ).encode()
    wire.sock.sendall(one + b"\n \n" + one + one[:20])
    assert wire.receive("telemetry") and wire.receive("telemetry")
    for k in range(20, len(one)):
        wire.sock.sendall(one[k : k + 1])
    assert wire.receive("telemetry")


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b'{"msg_type":"control","steering":"left","throttle":"0","brake":"0"}', "steering must be a number"),
        (b'{"msg_type":"control","steering":"nan","throttle":"0","brake":"0"}', "steering must be a number"),
        (b'{"msg_type":"control","steering":"0","throttle":"0"}', "brake is missing"),
        (b'{"steering":"0"}', "no msg_type"),
        (b'{"msg_type":"fly"}', "unknown msg_type 'fly'"),
        (b'{"msg_type":"load_scene","scene_name":"moon"}', "no scene 'moon'"),
        (b'{"msg_type":"x","a":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "not a JSON object"),
        (b'{"msg_type":"control","steering":"' + b"9" * 5000 + b'"}', "steering must be a number"),
        (b'{"msg_type": broken}', "not a JSON object"),
        (b'{"msg_type":"cam_config","img_w":"100000","img_h":"100000"}', "img_w and img_h must be"),
        (b'{"msg_type":"lidar_config","degPerSweepInc":"0.0001","numSweepsLevels":"1"}', "degPerSweepInc must be"),
        (b'{"msg_type":"node_position","index":"100000"}', "no node"),
        (b'{"msg_type":"pacenote_road","track":"/etc/passwd"}', "no track"),
    ],
)
def test_malformed_messages_are_named_and_change_nothing(wire, caplog, raw, complaint):
    wire.load().receive("telemetry")
    with caplog.at_level(logging.WARNING):
        wire.sock.sendall(raw)
        assert wire.step() is not None  # in lock-step the answer comes after the complaint
    assert complaint in caplog.text


def test_complaints_do_not_flood_the_log(wire, caplog):
    wire.load().receive("telemetry")
    for _ in range(50):
        wire.send("fly")
    wire.step()
    assert len([r for r in caplog.records if "ignored" in r.message]) == connection.COMPLAINTS


def test_too_many_bytes_end_that_client_only(address, caplog):
    caplog.set_level(logging.INFO)
    for flood in (b'{"msg_type":"' + b"a" * 200_000, b"#" * 200_000):
        client = Wire(address)
        client.receive()
        try:
            client.sock.sendall(flood)
            assert client.receive() is None
        except ConnectionError:
            pass  # closed before it had read all of it
        client.close()
    assert Wire(address).receive()["msg_type"] == "scene_selection_ready"


def test_camera_size_encoding_and_depth(wire):
    wire.load().receive("telemetry")
    for encoding, form in (("PNG", "PNG"), ("JPG", "JPEG"), ("TGA", "TGA")):
        wire.send("cam_config", **(CAMERA | {"img_w": "64", "img_h": "48", "img_enc": encoding}))
        image = opened(wire.step())
        assert (image.size, image.format, image.mode) == ((64, 48), form, "RGB")
    wire.send("cam_config", **(CAMERA | {"img_d": "1"}))  # zeros keep size and encoding
    image = opened(wire.step())
    assert (image.size, image.format, image.mode) == ((64, 48), "TGA", "L")


def test_field_of_view_and_second_camera(wire):
    wire.load().receive("telemetry")
    wire.send("cam_config", **(CAMERA | {"img_enc": "PNG", "fov": "60"}))
    narrow = np.asarray(opened(wire.step()), float)
    wire.send("cam_config_b", **(CAMERA | {"img_w": "40", "img_h": "30", "img_enc": "PNG", "rot_x": "60"}))
    both = wire.step()
    assert both["imageb"] == both["image_b"] and opened(both, "imageb").size == (40, 30)
    assert np.abs(np.asarray(opened(both), float) - narrow).mean() < 12.0  # the first camera looks where it looked
    wire.send("cam_config", **(CAMERA | {"img_enc": "PNG", "fov": "120"}))
    assert np.abs(np.asarray(opened(wire.step()), float) - narrow).mean() > 8.0


def test_frames_units_and_signs(wire, oval):
    """On the lower straight of the oval: our yaw 0 (east) is Unity's 90 degrees, cte is positive to the right."""
    road = road_from_csv(oval)
    wire.load().receive("telemetry")
    wire.send("set_position", pos_x=str(8 * 0.5), pos_y="0.6", pos_z=str(8 * (-1.6 - 0.2)))
    wire.step()
    seen = wire.step(throttle="1.0")
    assert seen["cte"] == pytest.approx(8 * 0.2, abs=0.1)
    assert seen["yaw"] == pytest.approx(90.0, abs=0.5)
    assert (seen["pos_x"], seen["pos_z"]) == pytest.approx((0.5, -1.8), abs=0.05)
    for _ in range(20):
        seen = wire.step(steering="0.6", throttle="1.0")
    assert seen["vel_x"] > 0.3 and seen["speed"] == pytest.approx(math.hypot(seen["vel_x"], seen["vel_z"]))
    assert seen["yaw"] > 92.0 and seen["gyro_y"] > 0.05  # right is clockwise is growing
    assert seen["accel_x"] > 0.3
    assert seen["totalNodes"] == round(road.length_m / 0.5)
    assert seen["activeNode"] == int(
        road.to_frenet(seen["pos_x"], seen["pos_z"])[0] / road.length_m * seen["totalNodes"]
    )


def test_nodes_follow_the_middle_of_the_road(wire, oval):
    road = road_from_csv(oval)
    wire.load()
    total = wire.receive("telemetry")["totalNodes"]
    wire.send("node_position", index=str(total // 4))
    node = wire.receive("node_position")
    s, d = road.to_frenet(node["pos_x"] / 8, node["pos_z"] / 8)
    assert s == pytest.approx(road.length_m * (total // 4) / total, abs=0.06) and abs(d) < 0.02
    heading = protocol.yaw_from_quaternion(*(node[k] for k in ("Qx", "Qy", "Qz", "Qw")))
    assert heading == pytest.approx(float(road.yaw_at(s)), abs=0.05)


def test_reset_car_goes_back_to_the_start_with_the_brake_on(wire):
    wire.load()
    start = wire.receive("telemetry")
    for _ in range(30):
        moved = wire.step(throttle="1.0")
    assert moved["speed"] > 0.5
    wire.send("reset_car")
    again = wire.receive("telemetry")
    assert [again[k] for k in ("pos_x", "pos_z", "yaw", "speed")] == [
        start[k] for k in ("pos_x", "pos_z", "yaw", "speed")
    ]
    assert again["time"] >= moved["time"]  # since the scene was loaded


def test_throttle_settles_at_a_speed_and_negative_throttle_brakes(wire):
    wire.load().receive("telemetry")
    speeds = [wire.step(throttle="0.3")["speed"] for _ in range(150)]
    assert speeds[-1] == pytest.approx(0.75, abs=0.1) and abs(speeds[-1] - speeds[-30]) < 0.05  # of at most 3 m/s
    for _ in range(40):
        seen = wire.step(throttle="-1.0")
    assert seen["speed"] == 0.0


def test_wall_clock_telemetry_is_twenty_a_second_of_simulated_time(oval):
    with serving([oval]) as where:
        client = Wire(where).load()
        times = [client.receive("telemetry")["time"] for _ in range(13)]
        client.send("step_mode", step_mode="synchronous", time_step="0.05")
        client.send("control", steering="0", throttle="0.3", brake="0")
        last = None
        while last is None or last["throttle"] != 0.3:
            last = client.receive("telemetry")
        assert client.step()["time"] == pytest.approx(last["time"] + 1 / 30, abs=1e-4)  # lock-step from here on
        client.close()
    assert times[-1] - times[0] == pytest.approx(12 / 20, abs=0.04)


def test_regen_road_changes_the_generated_road_only(caplog):
    with serving(lockstep=True) as where:
        client = Wire(where).load("generated_road")
        before = client.receive("telemetry")["totalNodes"]
        client.send("regen_road", road_style="0", rand_seed="5", turn_increment="0.0")
        after = client.step()["totalNodes"]
        expected = round(random_road(1_000_005).length_m / 0.5)
        assert after == expected != before
        client.close()
        client = Wire(where).load("warehouse")
        client.receive("telemetry")
        client.send("regen_road", road_style="0", rand_seed="5", turn_increment="0.0")
        client.step()
        assert "has a fixed road" in caplog.text
        client.close()


def test_lidar_sees_other_cars():
    with serving(lockstep=True, traffic=6) as where:
        client = Wire(where).load()
        client.receive("telemetry")
        client.send("lidar_config", degPerSweepInc="2.0", degAngDown="0", degAngDelta="-1", numSweepsLevels="1",
                    maxRange="400", noise="0", offset_x="0", offset_y="0.5", offset_z="0.5", rot_x="0")  # fmt: skip
        hits = client.step()["lidar"]
        client.close()
    assert hits and all(0 < h["d"] <= 400 and 0 <= h["rx"] < 360 and h["ry"] == 0 for h in hits)


def test_clients_have_cars_of_their_own_and_one_too_many_is_refused(oval):
    with serving([oval], lockstep=True, max_cars=2) as where:
        one, two = Wire(where).load(), Wire(where).load()
        for client in (one, two):
            client.receive("telemetry")
        for _ in range(20):
            moved = one.step(throttle="1")
        assert moved["speed"] > 0.3 and two.step()["speed"] == 0.0
        third = Wire(where)
        assert "2 cars are taken" in third.receive()["message"] and third.receive() is None
        # one vanishes without a word; its place becomes free
        one.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()
        assert two.step() is not None
        for _ in range(200):
            client = Wire(where)
            first = client.receive()
            client.close()
            if first["msg_type"] == "scene_selection_ready":
                break
        assert first["msg_type"] == "scene_selection_ready"
        two.close()


def test_who_never_reads_is_let_go(oval, monkeypatch, caplog):
    monkeypatch.setattr(connection, "WRITE_TIMEOUT_S", 0.2)
    caplog.set_level(logging.INFO)
    with serving([oval], lockstep=True) as where:
        deaf = Wire(where).load()
        deaf.send("cam_config", **(CAMERA | {"img_w": "640", "img_h": "480", "img_enc": "TGA"}))
        control = json.dumps({"msg_type": "control", "steering": "0", "throttle": "0", "brake": "1"}).encode()
        deaf.sock.sendall(control * 40)
        deaf.sock.settimeout(20.0)
        while "did not read" not in caplog.text:
            assert Wire(where).receive()["msg_type"] == "scene_selection_ready"  # others are served meanwhile
        deaf.close()


def test_the_command_serves_and_ends(oval):
    command = [sys.executable, "-m", "pacenote", "donkey-server", "--port", "0", "--track", oval, "--lockstep"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HERE.parent)
    try:
        line = server.stdout.readline()
        assert "listening on 127.0.0.1:" in line and "lock-step" in line
        client = Wire(("127.0.0.1", int(line.split(":")[-1].split(",")[0])))
        client.load().receive("telemetry")
        server.send_signal(signal.SIGTERM)
        assert server.wait(20.0) == 0
        assert client.receive() is None
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
        server.stderr.close()


def test_loopback_is_told_from_the_rest():
    assert [is_loopback(h) for h in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "192.168.1.7", "somewhere")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_a_taken_port_is_said(oval):
    from sims.world import WorldError

    with serving([oval]) as (_, port):
        with pytest.raises(WorldError, match="is a simulator running there already"):
            with serving([oval], port=port):
                pass

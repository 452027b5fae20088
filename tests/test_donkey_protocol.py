"""The protocol's facts: cutting streams into messages, numbers, frames, pictures, lidar."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from donkey_peers import picture
from hypothesis import given
from hypothesis import strategies as st

from bridge.messages import VehicleProfile
from sims.donkey import protocol
from sims.donkey.lidar import LidarSettings, scan
from sims.donkey.pictures import CameraSettings, decode_picture, encode_picture
from sims.random_road import random_road
from sims.track import TrackEnv
from sims.truth import ActorTruth


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=12), max_size=4), max_size=6), st.data())
def test_splitter_finds_every_object_however_it_is_cut(objects, data):
    stream = b" \n".join(json.dumps(o).encode() for o in objects)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    splitter, found = protocol.ObjectSplitter(), []
    for first, last in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += splitter.feed(stream[first:last])
    assert [json.loads(f) for f in found] == objects and splitter.noise == 0


@given(st.binary(max_size=300))
def test_splitter_and_parser_survive_anything(data):
    for raw in protocol.ObjectSplitter().feed(data):
        try:
            protocol.parse(raw)
        except protocol.MalformedMessage:
            pass


@given(st.floats(-10.0, 10.0))
def test_yaw_there_and_back(yaw):
    there = protocol.unity_yaw_deg(yaw)
    assert 0.0 <= there <= 360.0
    for back in (protocol.yaw_from_unity(there), protocol.yaw_from_quaternion(*protocol.unity_quaternion(yaw))):
        assert math.cos(back - yaw) == pytest.approx(1.0, abs=1e-9) and -math.pi <= back <= math.pi


def test_lidar_distances():
    """A box a metre to the right of the sensor, seen at 90 degrees; nothing at the other side; nothing above it."""
    env = TrackEnv([random_road(3)], camera_size=None, randomize=0.0)
    _, info = env.reset(seed=1)
    profile = VehicleProfile()
    reach = 0.5 * profile.length_m - profile.rear_overhang_m
    box = ActorTruth("box", reach, -1.125, 0.0, 0.0, 0.0, 0.0, 0, 0.25, 0.25)
    truth = replace(info["truth"], x_m=0.0, y_m=0.0, yaw_rad=0.0, actors=(box,))
    settings = LidarSettings(1.0, 0.0, -20.0, 2, 50.0, 0.0, (0.0, 0.5, 0.0), 0.0)
    hits = scan(settings, truth, profile, np.random.default_rng(0))
    assert {h["ry"] for h in hits} == {0.0}  # 20 degrees upwards passes over it
    assert {"d": 8.0, "rx": 90.0, "ry": 0.0} in hits and min(h["d"] for h in hits) == 8.0
    assert all(80.0 < h["rx"] < 100.0 for h in hits)
    far = LidarSettings(1.0, 0.0, 0.0, 1, 7.0, 0.0, (0.0, 0.5, 0.0), 0.0)
    assert scan(far, truth, profile, np.random.default_rng(0)) == []


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
    with pytest.raises(protocol.MalformedMessage, match="picture"):
        decode_picture(text)


def test_a_picture_is_rgb():
    red = np.zeros((16, 20, 3), np.uint8)
    red[..., 0] = 250
    assert np.array_equal(decode_picture(encode_picture(red, CameraSettings((20, 16), 3, "PNG"))), red)
    assert decode_picture(picture(20, 16, 90)).shape == (16, 20, 3)

"""Drivers against fake buses and ports, and car settings: calibration, signs, protocol, clear errors."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.clock import VirtualClock
from car.camera import LatestFrame, open_camera
from car.donkey import DonkeyVehicle
from car.f1tenth import F1tenthVehicle, packet, take_packets
from car.gamepad import Gamepad
from car.settings import CameraSettings, CarConfigError, DonkeyCarSettings, F1tenthCarSettings, load_car_settings
from car.vehicle import VehicleError

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "car"


class FakeCamera:
    def read(self):
        return np.zeros((120, 160, 3), np.uint8), 5

    def close(self): ...


class FakeBus:
    """Keeps the last pulse of each channel."""

    def __init__(self):
        self.registers, self.pulses, self.closed = [], {}, False

    def write_byte_data(self, address, register, value):
        self.registers.append((address, register, value))

    def write_i2c_block_data(self, address, register, data):
        self.pulses[(register - 6) // 4] = data[2] | data[3] << 8

    def close(self):
        self.closed = True


class FakePort:
    """A VESC that answers with a set motor speed."""

    def __init__(self, erpm: int = 4614):
        self.sent, self.erpm, self.answer = [], erpm, b""

    def write(self, data):
        for payload in take_packets(bytearray(data)):
            self.sent.append(payload)
            if payload[0] == 4:
                values = bytes([4]) + bytes(22) + struct.pack(">i", self.erpm) + bytes(20)
                self.answer += packet(values)

    def read(self, size):
        taken, self.answer = self.answer[:size], self.answer[size:]
        return taken

    def close(self): ...


def donkey():
    clock, bus = VirtualClock(), FakeBus()
    return DonkeyVehicle(DonkeyCarSettings(car_id="d"), bus, FakeCamera(), clock), bus, clock


def test_donkey_pulses_follow_calibration():
    vehicle, bus, clock = donkey()
    assert bus.registers[1] == (0x40, 0xFE, 101), "60 Hz"
    assert bus.pulses[0] == 370, "neutral before anything else"
    for steering, pulse in ((1.0, 460), (-1.0, 290), (0.0, 375)):
        vehicle.actuate(steering, 0.0, 0.0)
        assert bus.pulses[1] == pulse
    vehicle.actuate(0.0, 1.0, 0.0)
    assert bus.pulses[0] == 500
    vehicle.stop()
    assert bus.pulses[0] == 370
    vehicle.close()
    assert bus.closed


def test_donkey_brakes_only_while_it_moves():
    vehicle, bus, clock = donkey()
    vehicle.actuate(0.0, 0.0, 1.0)
    assert bus.pulses[0] == 370, "an ESC would take it for reverse"
    vehicle.actuate(0.0, 1.0, 0.0)
    clock.advance_s(1.0)
    vehicle.actuate(0.0, 0.0, 1.0)
    assert bus.pulses[0] == 220
    clock.advance_s(1.0)
    vehicle.actuate(0.0, 0.0, 1.0)
    assert bus.pulses[0] == 370


def test_donkey_guesses_its_motion():
    vehicle, _, clock = donkey()
    vehicle.actuate(0.5, 0.5, 0.0)
    clock.advance_s(5.0)
    ego = vehicle.read().ego
    assert ego.speed_mps == pytest.approx(1.5, abs=0.01) and ego.yaw_rate_radps > 1.0 and ego.steering == 0.5
    vehicle.stop()
    clock.advance_s(5.0)
    assert vehicle.read().ego.speed_mps < 0.01


def test_f1tenth_commands_and_speed():
    port = FakePort()
    vehicle = F1tenthVehicle(F1tenthCarSettings(car_id="f"), port, FakeCamera())
    port.sent.clear()
    vehicle.actuate(1.0, 0.5, 0.0)
    assert struct.unpack(">Bh", port.sent[0]) == (12, 110), "left lowers the servo position"
    assert struct.unpack(">Bi", port.sent[1]) == (6, 10_000)
    vehicle.actuate(0.0, 0.0, 1.0)
    assert struct.unpack(">Bi", port.sent[3]) == (7, 20_000)
    vehicle.read()
    sensors = vehicle.read()
    assert sensors.ego.speed_mps == pytest.approx(1.0) and sensors.t_capture_ns == 5
    vehicle.stop()
    assert struct.unpack(">Bi", port.sent[-1]) == (6, 0)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.binary(max_size=20))
def test_vesc_packets_survive_noise(payloads, noise):
    stream = bytearray(b"".join(packet(p) for p in payloads))
    assert take_packets(bytearray(stream)) == payloads
    clean = bytes(b for b in noise if b != 2)
    assert take_packets(bytearray(clean) + stream) == payloads
    take_packets(bytearray(noise) + stream)


def test_camera_thread_keeps_the_newest_and_survives_failures():
    import threading

    frames = iter([np.full((2, 2, 3), k, np.uint8) for k in (1, 2)])
    seen, released = threading.Event(), []

    def grab():
        frame = next(frames, None)
        if frame is None:
            seen.set()
            raise OSError("unplugged")
        return frame

    camera = LatestFrame(grab, lambda: released.append(True))
    assert seen.wait(5.0)
    assert camera.read()[0][0, 0, 0] == 2
    camera.close()
    assert released and camera.failures >= 1


def test_missing_hardware_is_said_clearly():
    with pytest.raises(VehicleError, match="cannot be opened"):
        open_camera(CameraSettings(source="/nonexistent/video"))
    with pytest.raises(VehicleError, match="picamera2 is missing"):
        open_camera(CameraSettings(source="picamera"))
    with pytest.raises(VehicleError, match="(smbus2|I2C)"):
        DonkeyVehicle(DonkeyCarSettings(car_id="d"))
    with pytest.raises(VehicleError, match="(pyserial|VESC)"):
        F1tenthVehicle(F1tenthCarSettings(car_id="f"))
    with pytest.raises(VehicleError, match="gamepad"):
        Gamepad("/nonexistent/js0")


def test_gamepad_events(tmp_path):
    device = tmp_path / "js0"
    events = [(0, -32767, 2, 0), (0, 16384, 2, 4), (0, 1, 1, 1)]
    device.write_bytes(b"".join(struct.pack("IhBB", *e) for e in events))
    pad = Gamepad(str(device))
    steering, acceleration = pad.poll()
    assert steering == pytest.approx(1.0) and acceleration == pytest.approx(-0.5, abs=1e-3) and pad.stop_pressed
    pad.close()


@pytest.mark.parametrize("name", ["donkey", "f1tenth"])
def test_shipped_configs_load(name):
    settings = load_car_settings(CONFIGS / f"{name}.yaml")
    assert settings.kind == name and settings.profile.name == name


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("kind: donky\ncar_id: a", "did you mean 'donkey'"),
        ("kind: donkey", "car_id: Field required"),
        ("kind: donkey\ncar_id: a\ncamera: {widht_px: 3}", "did you mean 'width_px'"),
        ("kind: donkey\ncar_id: a\nprofile: {wheelbas_m: 3}", "did you mean 'wheelbase_m'"),
        ("kind: donkey\ncar_id: a\nrate_hz: -1", "rate_hz"),
        ("- 1", "mapping"),
        ("a: [", "not YAML"),
    ],
)
def test_bad_configs_say_what_and_where(tmp_path, text, complaint):
    path = tmp_path / "car.yaml"
    path.write_text(text)
    with pytest.raises(CarConfigError, match=complaint) as error:
        load_car_settings(path)
    assert "car.yaml" in str(error.value)
    with pytest.raises(CarConfigError, match="cannot be read"):
        load_car_settings(tmp_path / "none.yaml")

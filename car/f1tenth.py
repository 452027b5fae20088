"""An F1TENTH car: motor and servo on a VESC over serial, any OpenCV camera. Speed is measured by the motor.

Knows nothing of plans. The packets are those of the VESC firmware (`packet.c`, `datatypes.h`): start byte 2, length,
payload, CRC-16 (XMODEM), stop byte 3.
"""

from __future__ import annotations

import binascii
import math
import struct
import threading
from typing import Any, Protocol

from bridge.messages import EgoState
from bridge.vehicle import Sensors
from car.camera import LatestFrame, open_camera
from car.settings import F1tenthCarSettings, VescSettings
from car.vehicle import VehicleError

_GET_VALUES, _SET_CURRENT, _SET_CURRENT_BRAKE, _SET_SERVO = 4, 6, 7, 12
_RPM_OFFSET = 23  # in the answer to _GET_VALUES, after temperatures, currents and duty
_BUFFER_LIMIT = 4096


class Port(Protocol):
    """What is used of `serial.Serial`, opened with timeout 0."""

    def read(self, size: int) -> bytes: ...
    def write(self, data: bytes) -> int | None: ...
    def close(self) -> None: ...


def packet(payload: bytes) -> bytes:
    """A short packet (payload of at most 255 bytes)."""
    return struct.pack(">BB", 2, len(payload)) + payload + struct.pack(">HB", binascii.crc_hqx(payload, 0), 3)


def take_packets(buffer: bytearray) -> list[bytes]:
    """Cut all whole, intact short packets out of `buffer`, in order; bytes that belong to none are thrown away."""
    payloads = []
    while buffer:
        if buffer[0] != 2:
            del buffer[0]
            continue
        if len(buffer) < 2 or len(buffer) < buffer[1] + 5:
            break
        length = buffer[1]
        payload = bytes(buffer[2 : 2 + length])
        crc, stop = struct.unpack(">HB", buffer[2 + length : 5 + length])
        if stop == 3 and crc == binascii.crc_hqx(payload, 0):
            payloads.append(payload)
            del buffer[: 5 + length]
        else:
            del buffer[0]
    return payloads


class Vesc:
    """Current, brake, servo and motor speed."""

    def __init__(self, port: Port, settings: VescSettings):
        self._port, self._settings = port, settings
        self._buffer = bytearray()
        self.erpm = 0.0

    def drive(self, throttle: float, brake: float) -> None:
        """Motor current, or brake current where there is brake."""
        if brake > 0.0:
            self._send(_SET_CURRENT_BRAKE, ">i", round(brake * self._settings.brake_current_a * 1000))
        else:
            self._send(_SET_CURRENT, ">i", round(throttle * self._settings.current_limit_a * 1000))

    def steer(self, steering: float) -> None:
        """Servo position for steering in [-1, 1]."""
        position = self._settings.servo_centre + steering * self._settings.servo_per_unit
        self._send(_SET_SERVO, ">h", round(min(1.0, max(0.0, position)) * 1000))

    def poll(self) -> float:
        """Take in what has come, ask anew, and return the newest motor speed [m/s]."""
        self._buffer += self._port.read(_BUFFER_LIMIT)
        del self._buffer[:-_BUFFER_LIMIT]
        for payload in take_packets(self._buffer):
            if payload[:1] == bytes([_GET_VALUES]) and len(payload) >= _RPM_OFFSET + 4:
                self.erpm = float(struct.unpack_from(">i", payload, _RPM_OFFSET)[0])
        self._port.write(packet(bytes([_GET_VALUES])))
        return self.erpm / self._settings.erpm_per_mps

    def close(self) -> None:
        """Let go of the port."""
        self._port.close()

    def _send(self, command: int, form: str, value: int) -> None:
        self._port.write(packet(bytes([command]) + struct.pack(form, value)))


class F1tenthVehicle:
    """See `car.vehicle.Vehicle`. `port` and `camera` are for tests; otherwise they are opened from settings."""

    def __init__(self, settings: F1tenthCarSettings, port: Port | None = None, camera: LatestFrame | Any = None):
        self.profile = settings.profile
        self._lock = threading.Lock()  # the watchdog stops the car from its own thread
        self._vesc = Vesc(port or _open_port(settings.drive), settings.drive)
        self._steering = 0.0
        self.stop()
        self._camera = camera or open_camera(settings.camera)

    def read(self) -> Sensors:
        """Camera frame, measured speed, and the yaw rate that follows from the steering."""
        image, t_capture_ns = self._camera.read()
        with self._lock:
            speed_mps = self._vesc.poll()
        angle_rad = self._steering * self.profile.steering_limit_rad
        yaw_rate_radps = speed_mps * math.tan(angle_rad) / self.profile.wheelbase_m
        ego = EgoState(speed_mps=speed_mps, yaw_rate_radps=yaw_rate_radps, steering=self._steering)
        return Sensors(image, ego, t_capture_ns)

    def actuate(self, steering: float, throttle: float, brake: float) -> None:
        """Set servo and motor."""
        with self._lock:
            self._steering = steering
            self._vesc.steer(steering)
            self._vesc.drive(throttle, brake)

    def stop(self) -> None:
        """No motor current."""
        with self._lock:
            self._vesc.drive(0.0, 0.0)

    def close(self) -> None:
        """Stop, and let go of camera and port."""
        self.stop()
        self._camera.close()
        self._vesc.close()


def _open_port(settings: VescSettings) -> Port:
    try:
        import serial
    except ImportError as error:
        raise VehicleError("pyserial is missing: pip install pyserial") from error
    try:
        return serial.Serial(settings.port, settings.baud, timeout=0, write_timeout=0.05)
    except serial.SerialException as error:
        raise VehicleError(f"VESC at {settings.port} cannot be opened ({error}); see `ls /dev/ttyACM*`") from error

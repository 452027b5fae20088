"""A Donkey car: servo and ESC on a PCA9685, camera. It has no wheel encoder, so its speed is a guess from the throttle.

Knows nothing of plans. The register map is that of the PCA9685 data sheet (NXP, rev. 4, table 4 and section 7.3.5).
"""

from __future__ import annotations

import math
import threading
from typing import Any, Protocol

from bridge.clock import NS_PER_S, Clock, MonotonicClock
from bridge.messages import EgoState
from bridge.vehicle import Sensors
from car.camera import LatestFrame, open_camera
from car.settings import DonkeyCarSettings, Pca9685Settings
from car.vehicle import VehicleError

_MODE1, _LED0_ON_L, _PRE_SCALE = 0x00, 0x06, 0xFE
_SLEEP, _AUTO_INCREMENT = 0x10, 0x20
_OSCILLATOR_HZ = 25_000_000
_MOVING_MPS = 0.15  # below it no brake pulse: an ESC takes it for reverse once the car stands


class Bus(Protocol):
    """What is used of `smbus2.SMBus`."""

    def write_byte_data(self, address: int, register: int, value: int) -> None: ...
    def write_i2c_block_data(self, address: int, register: int, data: list[int]) -> None: ...
    def close(self) -> None: ...


class Pca9685:
    """Pulses on the sixteen channels of the board."""

    def __init__(self, bus: Bus, settings: Pca9685Settings):
        self._bus, self._address = bus, settings.i2c_address
        prescale = round(_OSCILLATOR_HZ / (4096 * settings.frequency_hz)) - 1
        for register, value in ((_MODE1, _SLEEP), (_PRE_SCALE, prescale), (_MODE1, _AUTO_INCREMENT)):
            self._bus.write_byte_data(self._address, register, value)

    def pulse(self, channel: int, counts: int) -> None:
        """High for `counts` of 4096 parts of the period."""
        data = [0, 0, counts & 0xFF, counts >> 8]
        self._bus.write_i2c_block_data(self._address, _LED0_ON_L + 4 * channel, data)

    def close(self) -> None:
        """Let go of the bus."""
        self._bus.close()


class DonkeyVehicle:
    """See `car.vehicle.Vehicle`. `bus`, `camera` and `clock` are for tests; otherwise they are opened from settings."""

    def __init__(
        self,
        settings: DonkeyCarSettings,
        bus: Bus | None = None,
        camera: LatestFrame | Any = None,
        clock: Clock | None = None,
    ):
        self.profile, self._drive = settings.profile, settings.drive
        self._clock = clock or MonotonicClock()
        self._lock = threading.Lock()  # the watchdog stops the car from its own thread
        self._board = Pca9685(bus or _open_bus(settings.drive.i2c_bus), settings.drive)
        self._steering = self._throttle = self._brake = self._speed_mps = 0.0
        self._speed_ns = self._clock.now_ns()
        self.stop()
        self._camera = camera or open_camera(settings.camera)

    def read(self) -> Sensors:
        """Camera frame, and an ego state that is guessed: speed from the throttle, yaw rate from the steering."""
        image, t_capture_ns = self._camera.read()
        speed_mps = self._guess_speed()
        angle_rad = self._steering * self.profile.steering_limit_rad
        yaw_rate_radps = speed_mps * math.tan(angle_rad) / self.profile.wheelbase_m
        ego = EgoState(speed_mps=speed_mps, yaw_rate_radps=yaw_rate_radps, steering=self._steering)
        return Sensors(image, ego, t_capture_ns)

    def actuate(self, steering: float, throttle: float, brake: float) -> None:
        """Set servo and ESC."""
        drive = self._drive
        self._guess_speed()
        centre = 0.5 * (drive.steering_left_pulse + drive.steering_right_pulse)
        reach = drive.steering_left_pulse - centre
        pulse = drive.throttle_stopped_pulse + throttle * (drive.throttle_forward_pulse - drive.throttle_stopped_pulse)
        if brake > 0.0 and self._speed_mps > _MOVING_MPS:
            pulse = drive.throttle_stopped_pulse + brake * (drive.throttle_brake_pulse - drive.throttle_stopped_pulse)
        with self._lock:
            self._steering, self._throttle, self._brake = steering, throttle, brake
            self._board.pulse(drive.steering_channel, round(centre + steering * reach))
            self._board.pulse(drive.throttle_channel, round(pulse))

    def stop(self) -> None:
        """ESC to its neutral pulse."""
        self._guess_speed()
        with self._lock:
            self._throttle = self._brake = 0.0
            self._board.pulse(self._drive.throttle_channel, self._drive.throttle_stopped_pulse)

    def close(self) -> None:
        """Stop, and let go of camera and board."""
        self.stop()
        self._camera.close()
        self._board.close()

    def _guess_speed(self) -> float:
        """First-order lag toward what the throttle settles at; the brake takes off its share of the profile's brake."""
        now_ns = self._clock.now_ns()
        passed_s = max(0.0, (now_ns - self._speed_ns) / NS_PER_S)
        self._speed_ns = now_ns
        settled_mps = self._throttle * self._drive.full_throttle_speed_mps
        fade = math.exp(-passed_s / self._drive.speed_lag_s)
        speed_mps = settled_mps + (self._speed_mps - settled_mps) * fade
        self._speed_mps = max(0.0, speed_mps - self._brake * self.profile.max_brake_mps2 * passed_s)
        return self._speed_mps


def _open_bus(number: int) -> Bus:
    try:
        from smbus2 import SMBus
    except ImportError as error:
        raise VehicleError("smbus2 is missing: pip install smbus2") from error
    try:
        return SMBus(number)
    except OSError as error:
        raise VehicleError(
            f"I2C bus {number} cannot be opened ({error}); enable it with `sudo raspi-config`"
        ) from error

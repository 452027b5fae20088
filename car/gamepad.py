"""A gamepad for driving by hand: Linux joystick events, read without waiting.

Knows nothing of cars. Event layout as in the kernel's `Documentation/input/joydev/joystick-api.rst`.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from car.vehicle import VehicleError

_EVENT = struct.Struct("IhBB")  # time [ms], value, type, number
_BUTTON, _AXIS = 0x01, 0x02


class Gamepad:
    """`axis_steering` and `axis_pedal` are pushed left and forward for negative values, as joysticks report it."""

    def __init__(
        self, device: str = "/dev/input/js0", axis_steering: int = 0, axis_pedal: int = 4, stop_button: int = 1
    ):
        try:
            self._file = os.open(Path(device), os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise VehicleError(f"gamepad {device} cannot be opened ({error.strerror}); is it switched on?") from error
        self._axes, self._names = {}, (axis_steering, axis_pedal)
        self._stop_button, self.stop_pressed = stop_button, False

    def poll(self) -> tuple[float, float]:
        """[steering, acceleration] in [-1, 1] as of now; `stop_pressed` stays true once the button has been down."""
        try:
            data = os.read(self._file, _EVENT.size * 64)
        except BlockingIOError:
            data = b""
        for _, value, kind, number in _EVENT.iter_unpack(data[: len(data) // _EVENT.size * _EVENT.size]):
            if kind & _AXIS:
                self._axes[number] = max(-1.0, value / 32767.0)
            elif kind & _BUTTON and number == self._stop_button and value:
                self.stop_pressed = True
        steering, pedal = (self._axes.get(axis, 0.0) for axis in self._names)
        return -steering, -pedal

    def close(self) -> None:
        """Let go of the device."""
        os.close(self._file)

"""What the on-car program needs of a car, real or simulated. Knows no hardware."""

from __future__ import annotations

from typing import Protocol

from bridge.messages import VehicleProfile
from bridge.vehicle import Sensors


class VehicleError(RuntimeError):
    """Hardware that is missing or does not answer; the message says what to do."""


class Vehicle(Protocol):
    """A car. `read` and `actuate` return at once (drivers that wait do so in a thread of their own)."""

    profile: VehicleProfile

    def read(self) -> Sensors:
        """The latest reading; its stamp says how old it is. Raises VehicleError when there is none at all."""
        ...

    def actuate(self, steering: float, throttle: float, brake: float) -> None:
        """Steering in [-1, 1], positive left; throttle and brake in [0, 1]."""
        ...

    def stop(self) -> None:
        """Zero throttle, now. May be called at any time and from any thread."""
        ...

    def close(self) -> None:
        """Stop and let go of the hardware."""
        ...

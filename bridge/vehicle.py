"""What every car has in common at its edge: sensor readings in, pedals out.

Knows nothing of plans, policies or hardware. Steering is in [-1, 1] (positive left), acceleration in [-1, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bridge.messages import EgoState


@dataclass(frozen=True)
class Sensors:
    """One reading. `image` is RGB uint8 (h, w, 3), None where there is no camera; `t_capture_ns` is the stamp of image
    and ego state on the car's own monotonic clock."""

    image: np.ndarray | None
    ego: EgoState
    t_capture_ns: int


def pedals_from_acceleration(acceleration: float) -> tuple[float, float]:
    """The one mapping of a policy's acceleration in [-1, 1] to (throttle, brake), each in [0, 1].

    Positive is throttle, negative is brake, never both; beyond the range is clipped; a number that is not finite
    brakes fully.
    """
    if not math.isfinite(acceleration):
        return 0.0, 1.0
    clipped = min(1.0, max(-1.0, float(acceleration)))
    return (clipped, 0.0) if clipped >= 0.0 else (0.0, -clipped)

"""What a simulated world knows of itself: for the expert, the teacher and the judge only, never for a model.

A `Truth` is self-contained (no reference to the world that made it), so that it can travel in `Frame.truth` and so that
expert and judge work the same for every simulator.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np


@dataclass(frozen=True)
class ActorTruth:
    """Another car or an obstacle. Frenet position on the ego's road; `s_ahead_m` is along the road from the ego's rear
    axle to the actor's centre, wrapped to +-half a lap."""

    kind: str  # "car", "cone" or "box"
    x_m: float  # world frame, centre of the body
    y_m: float
    yaw_rad: float
    speed_mps: float
    s_ahead_m: float
    d_m: float
    lane: int
    length_m: float
    width_m: float


@dataclass(frozen=True)
class Truth:
    """The world at one instant. World frame: x east, y north, yaw counter-clockwise. d is to the left of the reference
    line; lanes are numbered from the right, 0 first. `ahead` is (n, 5): s ahead of the ego [m], x, y [m, world] and yaw
    [rad] of the reference line, curvature [1/m]; it starts at or behind the ego and reaches at least 8 m."""

    t_s: float
    x_m: float  # rear axle
    y_m: float
    yaw_rad: float
    speed_mps: float
    yaw_rate_radps: float
    steering: float
    s_m: float  # of the rear axle along the reference line, in [0, length)
    progress_m: float  # distance driven along the road since the reset, unwrapped, may be negative
    d_m: float
    heading_error_rad: float
    lane: int
    lane_count: int
    left_edge_d_m: float  # of the road at the ego's s
    right_edge_d_m: float  # negative
    road_length_m: float
    ahead: np.ndarray = field(compare=False)  # follows from s_m and the road
    actors: tuple[ActorTruth, ...] = field(default=())
    collision: bool = False  # since the reset
    off_road: bool = False  # a wheel was off the road since the reset

    @property
    def lane_width_m(self) -> float:
        """Width of each lane at the ego's s, in metres (all lanes are equally wide)."""
        return (self.left_edge_d_m - self.right_edge_d_m) / self.lane_count

    def lane_center_d_m(self, lane: int) -> float:
        """Lateral position of the centre of `lane` at the ego's s, in metres left of the reference line."""
        return self.right_edge_d_m + (lane + 0.5) * self.lane_width_m

    def to_dict(self) -> dict:
        """JSON-ready form for `Frame.truth`."""
        plain = asdict(self)
        plain["ahead"] = np.round(self.ahead, 5).tolist()
        return plain

    @staticmethod
    def from_dict(plain: dict) -> Truth:
        """Inverse of `to_dict`. Raises TypeError or ValueError when fields are missing or malformed."""
        fields = dict(plain)
        fields["ahead"] = np.asarray(fields["ahead"], dtype=float).reshape(-1, 5)
        fields["actors"] = tuple(ActorTruth(**a) for a in fields["actors"])
        return Truth(**fields)

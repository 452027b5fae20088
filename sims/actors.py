"""Other road users and obstacles as a scenario asks for them, in Frenet terms; knows no simulator."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("car", "cone", "box")
# length, width, height in metres
SIZES_M = {"car": (0.38, 0.20, 0.15), "cone": (0.12, 0.12, 0.20), "box": (0.25, 0.25, 0.22)}
MAX_SPEED_CHANGES = 6


@dataclass(frozen=True)
class ActorSpec:
    """One actor at (s, d) of the road, its centre. `speed_changes` are (time since the start [s], set speed [m/s]) in
    rising order. A car with `follow` brakes for whatever is ahead of it in its lane (IDM), the ego included; without it
    it keeps its set speed. Cones and boxes stand. `colour` is linear RGB in 0..1, None lets the world choose; `scale`
    multiplies the size of its kind."""

    kind: str
    s_m: float
    d_m: float
    speed_mps: float = 0.0
    speed_changes: tuple[tuple[float, float], ...] = ()
    follow: bool = True
    colour: tuple[float, float, float] | None = None
    scale: float = 1.0

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"actor kind {self.kind!r}: must be one of {', '.join(KINDS)}")
        if not self.scale > 0:
            raise ValueError(f"actor scale {self.scale}: must be positive")
        if self.speed_mps < 0 or any(v < 0 for _, v in self.speed_changes):
            raise ValueError("actor speeds must not be negative: actors drive along the road, never back")
        if len(self.speed_changes) > MAX_SPEED_CHANGES:
            raise ValueError(f"at most {MAX_SPEED_CHANGES} speed changes per actor, got {len(self.speed_changes)}")
        times = [t for t, _ in self.speed_changes]
        if times != sorted(times):
            raise ValueError("speed_changes must be in rising order of time")

    @property
    def size_m(self) -> tuple[float, float, float]:
        """(length, width, height) in metres."""
        length, width, height = SIZES_M[self.kind]
        return length * self.scale, width * self.scale, height * self.scale

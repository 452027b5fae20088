"""World `f1tenth` for the registry. Importing this loads nothing of f1tenth_gym."""

from __future__ import annotations

from importlib.util import find_spec

from bridge.messages import VehicleProfile
from bridge.scale import scale_of
from sims.random_road import UNSEEN_ROADS, random_road
from sims.road import Road, road_from_csv
from sims.scale import scaled_road
from sims.world import WorldSpec

PACKAGE = "f110_gym"
# f1tenth_gym's default vehicle, driven as gently as configs/car/f1tenth.yaml drives a real one (it could do 20 m/s).
PROFILE = VehicleProfile(
    name="f1tenth",
    wheelbase_m=0.3302,
    width_m=0.31,
    length_m=0.58,
    rear_overhang_m=0.125,
    steering_limit_rad=0.4189,
    max_speed_mps=5.0,
    reference_speed_mps=2.0,
    max_accel_mps2=3.0,
    max_brake_mps2=5.0,
    max_lateral_mps2=2.7,
    actuator_delay_s=0.04,
)


def road(track: str, seed: int) -> Road:
    """ "random": a random road in proportion to the car, never trained on; else a racetrack file. Raises RoadError."""
    if track == "random":
        return scaled_road(random_road(UNSEEN_ROADS + seed), scale_of(PROFILE).length)
    return road_from_csv(track)


def missing() -> str | None:
    """What lacks here and the command that mends it."""
    if find_spec(PACKAGE) is None:
        return f"no {PACKAGE}: pip install git+https://github.com/f1tenth/f1tenth_gym.git@v1.0.0"
    return None


def make(*, camera_size: tuple[int, int] | None = None, randomize: float = 0.0, seed: int = 0):
    """An `F1tenthWorld`; it has no camera, whatever `camera_size`. `randomize`: strength in [0, 1], of the friction."""
    from sims.f1tenth.world import F1tenthWorld

    return F1tenthWorld(randomize=randomize)


SPEC = WorldSpec(
    name="f1tenth",
    about="the single-track dynamics of f1tenth_gym on our roads (no camera, no traffic)",
    needs="f1tenth_gym (package f110_gym), installed by you: its pins of NumPy and gym are old",
    missing=missing,
    make=make,
    road=road,
    tracks=lambda: (),
    profile=PROFILE,
    camera=False,
    traffic=False,
    modules=(PACKAGE, "numba"),
)

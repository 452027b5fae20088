"""World `torcs` for the registry: what it is, what it needs, and its car. Importing this starts nothing."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.messages import CameraModel, VehicleProfile
from sims.road import Road
from sims.torcs.tracks import CATEGORIES
from sims.world import WorldSpec

WHEELBASE_M = 2.64
LENGTH_SCALE = WHEELBASE_M / 0.25  # of the default car; speeds are scaled alike, so that times are unchanged
SPEED_SCALE = LENGTH_SCALE

# TORCS's car1-trb1. Sizes are the game's own, checked at every start; accelerations were measured
# (docs/worlds/torcs.md): what the car can do at any speed up to its maximum here, on asphalt.
PROFILE = VehicleProfile(
    name="torcs-trb1",
    wheelbase_m=WHEELBASE_M,
    width_m=1.94,
    length_m=4.52,
    rear_overhang_m=0.8872,
    steering_limit_rad=0.3665,
    max_speed_mps=3.0 * SPEED_SCALE,
    reference_speed_mps=1.5 * SPEED_SCALE,
    max_accel_mps2=5.0,
    max_brake_mps2=12.0,
    max_lateral_mps2=5.5,
    actuator_delay_s=0.03,
    # The default car's camera in proportion: the same lens, as high above the road in wheelbases.
    camera=CameraModel(x_m=0.20 * LENGTH_SCALE, z_m=0.17 * LENGTH_SCALE),
)


def road(track: str, seed: int) -> Road:
    """ "random": one of TORCS's road tracks; else a track by its TORCS name. Raises RoadError."""
    from sims.torcs.roads import random_torcs_road, torcs_road

    return random_torcs_road(seed) if track == "random" else torcs_road(track)


def tracks() -> Sequence[str]:
    """Names of all tracks of the game."""
    return tuple(CATEGORIES)


def missing() -> str | None:
    """What lacks here and the command that mends it."""
    from sims.torcs import install

    return install.missing()


def make(*, camera_size: tuple[int, int] | None = (160, 120), randomize: float = 0.0, seed: int = 0):
    """A `TorcsWorld`; `randomize` in [0, 1] varies the camera's mounting."""
    from sims.torcs.world import TorcsWorld

    return TorcsWorld(camera_size=camera_size, randomize=randomize, seed=seed)


def batch(**settings):
    """A `TorcsBatch`: several games that drive at the same time."""
    from sims.torcs.batch import TorcsBatch

    return TorcsBatch(**settings)


SPEC = WorldSpec(
    name="torcs",
    about="the racing simulator TORCS, unpatched: real-size cars and roads, its own physics and pictures",
    needs="Debian's package torcs and g++ (`make torcs`)",
    missing=missing,
    make=make,
    road=road,
    tracks=tracks,
    profile=PROFILE,
    batch=batch,
    side_by_side=4,  # each is a process of its own, with a camera of about 200 MB
    modules=("sims.torcs.world", "sims.torcs.process"),
)

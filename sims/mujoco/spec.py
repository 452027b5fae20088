"""World `mujoco` for the registry. Imports MuJoCo only when a world is made."""

from __future__ import annotations

from importlib.util import find_spec

from bridge.messages import VehicleProfile
from sims.random_road import UNSEEN_ROADS, random_road
from sims.road import Road, road_from_csv
from sims.world import WorldSpec


def missing() -> str | None:
    """What lacks, and the command that mends it; pictures need EGL or OSMesa besides, which the first one checks."""
    return None if find_spec("mujoco") else "the package mujoco is not installed: pip install pacenote[worlds]"


def make(*, camera_size: tuple[int, int] | None = (160, 120), randomize: float = 0.5, seed: int = 0, **settings):
    """A `MujocoWorld`."""
    from sims.mujoco.world import MujocoWorld

    return MujocoWorld(camera_size=camera_size, randomize=randomize, seed=seed, **settings)


def road(track: str, seed: int) -> Road:
    """ "random": the road of that seed, never trained on; else a racetrack file. Raises RoadError."""
    return random_road(UNSEEN_ROADS + seed) if track == "random" else road_from_csv(track)


SPEC = WorldSpec(
    name="mujoco",
    about="the roads and traffic of track with MuJoCo's contact physics, suspension and renderer",
    needs="pip install pacenote[worlds]; for pictures EGL (apt install libegl1 libgl1-mesa-dri) or OSMesa (libosmesa6)",
    missing=missing,
    make=make,
    road=road,
    tracks=lambda: (),
    profile=VehicleProfile(),
    modules=("mujoco",),
)

"""The spec of world `bicycle`: what the registry reads. Imports nothing of the simulator itself."""

from bridge.messages import VehicleProfile
from sims.random_road import UNSEEN_ROADS, random_road
from sims.road import road_from_csv
from sims.world import WorldSpec


def road(track, seed):
    """ "random", or a racetrack file."""
    return random_road(UNSEEN_ROADS + seed) if track == "random" else road_from_csv(track)


def make(*, camera_size=None, randomize=0.0, seed=0):
    """A `BicycleWorld`; it has no camera and nothing to randomise."""
    from bicycle_world import BicycleWorld

    return BicycleWorld()


SPEC = WorldSpec(
    name="bicycle",
    about="a kinematic bicycle on random roads",
    needs="nothing more",
    missing=lambda: None,
    make=make,
    road=road,
    tracks=lambda: (),
    profile=VehicleProfile(name="bicycle"),
    camera=False,
    traffic=False,
    modules=("bicycle_world",),
)

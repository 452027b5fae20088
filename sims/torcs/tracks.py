"""Names of TORCS's tracks, as the Debian package `torcs-data` has them, with their categories. Knows nothing else."""

from __future__ import annotations

from sims.road import RoadError

_ROAD = (
    "aalborg alpine-1 alpine-2 brondehach corkscrew e-track-1 e-track-2 e-track-3 e-track-4 e-track-6 eroad forza "
    "g-track-1 g-track-2 g-track-3 ole-road-1 ruudskogen spring street-1 wheel-1 wheel-2"
)
_OVAL = "a-speedway b-speedway c-speedway d-speedway e-speedway e-track-5 f-speedway g-speedway michigan"
_DIRT = "dirt-1 dirt-2 dirt-3 dirt-4 dirt-5 dirt-6 mixed-1 mixed-2"

CATEGORIES = {
    name: category for category, names in (("road", _ROAD), ("oval", _OVAL), ("dirt", _DIRT)) for name in names.split()
}
ROAD_TRACKS = tuple(name for name, category in CATEGORIES.items() if category == "road")


def category_of(track: str) -> str:
    """ "road", "oval" or "dirt". Raises RoadError for an unknown name."""
    from bridge.names import UnknownName, choose

    try:
        return CATEGORIES[choose(track, CATEGORIES, "TORCS track")]
    except UnknownName as error:
        raise RoadError(str(error)) from None

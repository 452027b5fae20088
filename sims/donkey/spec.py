"""World `donkey` for the registry. Where the simulator or our server runs: PACENOTE_DONKEY=host:port."""

from __future__ import annotations

import os
from pathlib import Path

from bridge.messages import VehicleProfile
from bridge.names import choose
from sims.donkey.protocol import PORT, SCENES
from sims.road import Road, RoadError, road_from_csv
from sims.world import WorldError, WorldSpec

ADDRESS = "PACENOTE_DONKEY"


def address() -> tuple[str, int]:
    """(host, port) from the environment. Raises WorldError."""
    text = os.environ.get(ADDRESS, f"127.0.0.1:{PORT}")
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise WorldError(f"{ADDRESS}={text!r}: must be host:port, for example 127.0.0.1:{PORT}")
    return host.strip("[]"), int(port)


def missing() -> str | None:
    """None where something listens at the address, else how to start it."""
    from sims.donkey.client import reachable

    try:
        return reachable(*address())
    except WorldError as error:
        return str(error)


def make(*, camera_size: tuple[int, int] | None = (160, 120), randomize: float = 0.5, seed: int = 0):
    """A `DonkeyWorld` at the address of the environment."""
    from sims.donkey.world import DonkeyWorld

    return DonkeyWorld(*address(), camera_size=camera_size, randomize=randomize, seed=seed, profile=SPEC.profile)


def road(track: str, seed: int) -> Road:
    """ "random" and the scenes are asked of the other end (see `DonkeyWorld.road`); else a racetrack file, which only
    our own server can show. Raises RoadError and WorldError."""
    if Path(track).suffix == ".csv":
        return road_from_csv(track)
    if track != "random":
        try:
            choose(track, SCENES, "scene")
        except ValueError as error:
            raise RoadError(str(error)) from None
    world = make(camera_size=None)
    try:
        return world.road(track, seed)
    finally:
        world.close()


SPEC = WorldSpec(
    name="donkey",
    about="the Donkey simulator (Unity), or any world of ours behind its TCP protocol",
    needs=f"the simulator or `pacenote donkey-server` at {ADDRESS} (127.0.0.1:{PORT})",
    missing=missing,
    make=make,
    road=road,
    tracks=lambda: SCENES,
    profile=VehicleProfile(),
    side_by_side=1,
    modules=("sims.donkey.world", "sims.donkey.client"),
)

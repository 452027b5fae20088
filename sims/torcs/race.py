"""The configuration files that TORCS reads for one race: track, cars, camera. Knows no socket.

Files lie in the user's cache folder under a name made from their contents: TORCS only reads them, so that processes
share them and nothing has to be tidied up.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

from sims.torcs.install import cache_folder, fingerprint
from sims.torcs.tracks import category_of

EGO_CAR = "car1-trb1"
TRAFFIC_CARS = ("car2-trb1", "car4-trb1", "car6-trb1", "car3-trb1", "car5-trb1", "car7-trb1", "car8-trb1")
MAX_TRAFFIC = 9  # one module offers ten drivers
ROAD_VIEW = 4  # of TORCS's cameras: from the bonnet, without the own car


@dataclass(frozen=True)
class Race:
    """By index: the ego, then `robots` (TORCS's own drivers, as (module, index)), then `traffic` scripted cars.
    `picture` (width, height) in pixels and `fovy_deg`, or None for no pictures."""

    track: str
    traffic: int = 0
    robots: tuple[tuple[str, int], ...] = ()
    picture: tuple[int, int] | None = None
    fovy_deg: float = 60.0

    @property
    def cars(self) -> int:
        """Number of cars that should come up."""
        return 1 + self.traffic + len(self.robots)


def _params(name: str, *parts: str) -> str:
    body = "\n".join(parts)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<params name={quoteattr(name)}>\n{body}\n</params>\n'


def _section(name: str | int, *parts: str) -> str:
    return f"<section name={quoteattr(str(name))}>\n" + "\n".join(parts) + "\n</section>"


def _value(name: str, value: str | float | int) -> str:
    tag = "attstr" if isinstance(value, str) else "attnum"
    return f"<{tag} name={quoteattr(name)} val={quoteattr(str(value))}/>"


def _values(**values: str | float | int) -> list[str]:
    return [_value(name.replace("_", " "), value) for name, value in values.items()]


def _race_xml(race: Race) -> str:
    drivers = [("pacenote", 0), *race.robots, *(("pacenote", k) for k in range(1, 1 + race.traffic))]
    grid = _values(
        rows=2, distance_to_start=25, distance_between_columns=20, offset_within_a_column=10, initial_speed=0,
        initial_height=0.2,
    )  # fmt: skip
    rules = _values(laps=100000, type="race", restart="no")
    rules += [
        _value("starting order", "drivers list"), _value("maximum dammage", 0), _value("fuel consumption factor", 0),
    ]  # fmt: skip
    return _params(
        "race",
        _section("Header", _value("name", "race")),
        _section("Tracks", _section(1, *_values(name=race.track, category=category_of(race.track)))),
        _section("Races", _section(1, _value("name", "race"))),
        _section("race", *rules, _section("Starting Grid", *grid)),
        _section(
            "Drivers",
            _value("maximum number", len(drivers)),
            _value("focused module", "pacenote"),
            _value("focused idx", 0),
            *(_section(k + 1, *_values(idx=index, module=module)) for k, (module, index) in enumerate(drivers)),
        ),
    )


def _robots_xml() -> str:
    drivers = []
    for k in range(1 + MAX_TRAFFIC):
        car = EGO_CAR if k == 0 else TRAFFIC_CARS[(k - 1) % len(TRAFFIC_CARS)]
        about = _values(name=f"Pacenote {k}", team="Pacenote", author="Pacenote", desc="Driven over a socket")
        colour = _values(red=0.8, green=0.1, blue=0.1)
        drivers.append(_section(k, *about, _value("car name", car), _value("race number", k + 1), *colour))
    return _params("pacenote", _section("Robots", _section("index", *drivers)))


def _graph_xml() -> str:
    graphic = _section(
        "Graphic", *_values(smoke_value=0, skid_value=0, fov_factor=1.0), _value("wheel rendering", "simple")
    )
    # Without a menu TORCS has no fonts: any of its boards and mirrors would end the process.
    off = ("debug info", "driver board", "driver counter", "leader board", "G graph", "arcade", "enable mirror")
    view = [_value("camera", ROAD_VIEW), _value("camera head list", 0), _value("map mode", 1)]
    view += [_value(name, 0) for name in off]
    name = _value("current driver", "Pacenote 0")
    display = _section(
        "Display Mode", _value("number of screens", 1), _section("0", name, *view), _section("Pacenote 0", *view)
    )
    return _params("Graph", graphic, display)


def _files(race: Race) -> dict[str, str]:
    modules = _section("Modules", *_values(track="track", simu="simuv2", graphic="ssggraph"))
    quiet = _section("Sound Settings", _value("state", "disabled"))
    music = _section("Menu Music", _value("enable", "disabled"))
    return {
        "race.xml": _race_xml(race),
        "config/raceengine.xml": _params("", modules),
        "config/sound.xml": _params("sound", quiet, music),
        "config/graph.xml": _graph_xml(),
        "drivers/pacenote/pacenote.xml": _robots_xml(),
    }


def race_folder(race: Race) -> Path:
    """The folder that TORCS is given as its local one, with `race.xml` in it; written aside and renamed when new."""
    files = _files(race)
    name = hashlib.sha256("\0".join(f"{k}\0{v}" for k, v in sorted(files.items())).encode()).hexdigest()[:16]
    folder = cache_folder() / fingerprint() / "races" / name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix="race-", dir=folder.parent))
    try:
        for path, text in files.items():
            (aside / path).parent.mkdir(parents=True, exist_ok=True)
            (aside / path).write_text(text, encoding="utf-8")
        os.makedirs(aside / "results" / "race")
        try:
            aside.rename(folder)
        except OSError:
            if not folder.is_dir():  # another process has been quicker
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder

"""Every world by name: ours, and those that other packages add through the entry-point group `pacenote.worlds`.

An entry point names a `sims.world.WorldSpec`; its own name is the world's. Knows no simulator: a spec is imported when
it is asked for, its simulator when a world is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from bridge.names import choose
from sims.world import WorldError, WorldSpec

GROUP = "pacenote.worlds"
OURS = ("track", "mujoco", "torcs", "donkey", "carracing", "f1tenth")


class Registry(Mapping[str, WorldSpec]):
    """Names of worlds to their specs. Looking one up imports its spec module; raises WorldError for a broken one."""

    def __getitem__(self, name: str) -> WorldSpec:
        if name in OURS:
            return _checked(name, self.home(name), lambda: import_module(self.home(name)).SPEC)
        if name not in (others := _others()):
            raise KeyError(name)
        return _checked(name, others[name].value, others[name].load)

    def __iter__(self) -> Iterator[str]:
        yield from OURS
        yield from sorted(set(_others()) - set(OURS))

    def __len__(self) -> int:
        return len(set(OURS) | set(_others()))

    def home(self, name: str) -> str:
        """The module that holds the spec of a world."""
        return f"sims.{name}.spec" if name in OURS else _others()[name].module


WORLDS = Registry()


def find_world(name: str) -> WorldSpec:
    """The spec of a world that can run here. Raises UnknownName ("did you mean"), or WorldError with what lacks."""
    spec = WORLDS[choose(name, WORLDS, "world")]
    lacking = spec.missing()
    if lacking is not None:
        raise WorldError(f"world {name!r} cannot run here: {lacking}")
    return spec


def _others() -> dict[str, EntryPoint]:
    """Entry points of other packages. One that takes a name of ours is left aside: ours are what the docs describe."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in OURS}


def _checked(name: str, where: str, load: Callable[[], object]) -> WorldSpec:
    try:
        spec = load()
    except Exception as error:  # a stranger's module may fail in any way; the other worlds must not suffer
        raise WorldError(f"world {name!r} ({where}) cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(spec, WorldSpec) or spec.name != name:
        what = f"a spec named {spec.name!r}" if isinstance(spec, WorldSpec) else type(spec).__name__
        raise WorldError(f"world {name!r}: {where} must be a WorldSpec of that name, is {what}")
    return spec

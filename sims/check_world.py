"""One conformance check for every world, ours or a stranger's: does it keep the contract of `sims.world`?

Each check has a name and ends as passed, failed or skipped, with a reason. What a car must do on the road stands in
`check_driving.py`. Knows no simulator; `pacenote worlds check NAME` prints the findings.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
from gymnasium.utils import env_checker

from bridge.scale import scale_of
from sims.check_bench import Bench, Failed, Skipped, expect
from sims.check_driving import DRIVING
from sims.road import Road, RoadError
from sims.truth import Truth
from sims.world import World, WorldError, WorldSpec

PASS, FAIL, SKIP = "pass", "fail", "skip"
HEAVY = ("mujoco", "Box2D", "pygame", "gym_donkeycar", "f110_gym", "f1tenth_gym", "torch", "numba")
TIMES_ALIKE = (0.5, 2.0)  # of the scale's time factor; beyond it the scenarios' times make no sense any more
WRONG_SHAPES = ([0.1], [0.1, 0.1, 0.1], [[0.1, 0.1], [0.1, 0.1]])


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: PASS, FAIL or SKIP, and what was seen or why."""

    name: str
    outcome: str
    detail: str


def check_world(spec: WorldSpec, home: str | None = None, on_finding: Callable[[Finding], None] | None = None) -> list:
    """All findings, in order; `home`: the module that holds the spec, for the check of its import. Never raises for
    what the world does wrong."""
    findings: list[Finding] = []

    def note(name: str, check: Callable[[], str | None]) -> None:
        findings.append(_run(name, check))
        if on_finding is not None:
            on_finding(findings[-1])

    bench = Bench(spec)
    note("spec", lambda: _spec(spec))
    note("import", lambda: _import(spec, home))
    note("roads", lambda: _roads(spec))
    for name, check in {**CHECKS, **DRIVING, "close": _close}.items():
        note(name, lambda check=check: check(bench))
    bench.close()
    return findings


def _run(name: str, check: Callable[[], str | None]) -> Finding:
    try:
        return Finding(name, PASS, check() or "")
    except Skipped as reason:
        return Finding(name, SKIP, str(reason))
    except Failed as reason:
        return Finding(name, FAIL, str(reason))
    except Exception as error:  # whatever a stranger's world does is a finding
        return Finding(name, FAIL, f"{type(error).__name__}: {error}")


def _spec(spec: WorldSpec) -> str:
    expect(bool(spec.name) and spec.name == spec.name.lower().strip(), f"name {spec.name!r} must be plain lower case")
    expect(bool(spec.about) and bool(spec.needs), "`about` and `needs` must say something")
    expect(spec.missing() is None, f"cannot run here: {spec.missing()}")
    scale = scale_of(spec.profile)
    low, high = TIMES_ALIKE
    expect(
        low <= scale.time <= high,
        f"reference speed {spec.profile.reference_speed_mps} m/s does not suit wheelbase {spec.profile.wheelbase_m} m: "
        f"times would be stretched {scale.time:.2f} times; about six wheelbases a second are right",
    )
    expect(spec.side_by_side >= 1, "side_by_side must be at least 1")
    tracks = spec.tracks()
    expect(all(isinstance(t, str) and t != "random" for t in tracks), "`tracks()` must be names, without 'random'")
    return f"lengths x {scale.length:.2f}, speeds x {scale.speed:.2f}, {len(tracks)} own tracks"


def _import(spec: WorldSpec, home: str | None) -> str:
    if home is None:
        raise Skipped("the module of the spec was not given")
    modules = sorted({*HEAVY, *spec.modules})
    code = f"import sys, {home}\nprint(*[m for m in {modules!r} if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    expect(ended.returncode == 0, f"importing {home} failed: {ended.stderr.strip()[-300:]}")
    expect(not ended.stdout.strip(), f"importing {home} loads {ended.stdout.strip()}; import it where a world is made")
    return home


def _roads(spec: WorldSpec) -> str:
    if not spec.roads:
        raise Skipped("the world says that it has no roads")
    tracks = list(spec.tracks())
    names = ["random", *tracks[:2]]
    lengths = []
    for name in names:
        road, again = spec.road(name, 5), spec.road(name, 5)
        expect(isinstance(road, Road), f"road({name!r}, 5) is no Road but {type(road).__name__}")
        same = road.length_m == again.length_m and np.array_equal(road.x_m, again.x_m)
        expect(same, f"road({name!r}, 5) is another one the second time")
        width = float(np.min(road.left_m + road.right_m))
        expect(width > spec.profile.width_m, f"{name}: {width:.2f} m wide at its narrowest, narrower than the car")
        expect(bool(np.isfinite(road.x_m).all() and np.isfinite(road.curvature_pm).all()), f"{name}: not finite")
        lengths.append(f"{road.name} {road.length_m:.0f} m")
    try:
        spec.road("no_such_track_anywhere", 0)
    except RoadError as error:
        expect("no_such_track_anywhere" in str(error), f"the error for an unknown track does not name it: {error}")
    else:
        raise Failed("road() takes an unknown track without an error")
    return ", ".join(lengths)


def _gymnasium(bench: Bench) -> str:
    """Gymnasium's own checker; for a world that does not repeat itself, its parts without the repetitions."""
    world = bench.world
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if bench.spec.deterministic:
            env_checker.check_env(world, skip_render_check=True, skip_close_check=True)
        else:
            env_checker.check_action_space(world.action_space)
            env_checker.check_observation_space(world.observation_space)
            env_checker.check_reset_return_type(world)
            env_checker.env_reset_passive_checker(world)
            env_checker.env_step_passive_checker(world, world.action_space.sample())
    # Gymnasium recommends bounded spaces; speeds and yaw rates have no bounds.
    odd = sorted({str(w.message) for w in told if "infinity" not in str(w.message) and "gymnasium" in w.filename})
    return f"{len(odd)} warnings: {odd[0][:160]}" if odd else "no warnings"


def _observation(bench: Bench) -> str:
    world, spec = bench.world, bench.spec
    expect(isinstance(world, World), f"{type(world).__name__} is no sims.world.World")
    observation, info = world.reset(seed=1)
    wanted = {"speed", "yaw_rate", "steering"} | ({"image"} if spec.camera else set())
    # A world may have a picture that is no forward camera's (from above, say): then it is there, and `camera` False.
    expect(
        wanted <= set(observation) <= wanted | {"image"}, f"observation has {sorted(observation)}, not {sorted(wanted)}"
    )
    for name in ("speed", "yaw_rate", "steering"):
        value = np.asarray(observation[name])
        expect(
            value.shape == () and value.dtype == np.float32, f"{name}: {value.dtype} {value.shape}, wanted float32 ()"
        )
    expect(world.observation_space.contains(observation), "the observation is not in observation_space")
    if "image" in observation:
        image = observation["image"]
        expect(
            image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3, f"image: {image.dtype} {image.shape}"
        )
        if spec.camera:
            width, height = bench.camera_size
            expect(image.shape == (height, width, 3), f"image: {image.shape}, asked for {(height, width, 3)}")
            expect(float(image.std()) > 2.0, "the picture is one colour")
    expect(isinstance(info.get("truth"), Truth), "reset: info['truth'] is no Truth")
    expect(isinstance(world.step(np.zeros(2, np.float32))[4].get("truth"), Truth), "step: info['truth'] is no Truth")
    return ", ".join(sorted(observation))


def _actions(bench: Bench) -> str:
    world = bench.world
    space = world.action_space
    good = (
        isinstance(space, gym.spaces.Box)
        and space.shape == (2,)
        and (space.low == -1).all()
        and (space.high == 1).all()
    )
    expect(good, f"action_space must be Box(-1, 1, (2,)), is {space}")
    world.reset(seed=2)
    for bad in WRONG_SHAPES:
        expect(_refused(world, bad), f"an action of shape {np.shape(bad)} is taken without an error")
    said = []
    for name, bad in (("not finite", [np.nan, 0.0]), ("out of range", [3.0, -3.0])):
        refused = _refused(world, bad)
        said.append(f"{name}: {'refused' if refused else 'clipped'}")
        observation, *_, info = world.step(np.zeros(2, np.float32))
        finite = np.isfinite([observation["speed"], observation["yaw_rate"], info["truth"].x_m, info["truth"].yaw_rad])
        expect(bool(finite.all()), f"an action {name} leaves numbers that are not finite")
    return ", ".join(said)


def _refused(world: World, action: list) -> bool:
    """Whether an action is an error; what is no clear error counts as a fault of the world."""
    try:
        world.step(np.asarray(action, np.float32))
    except (ValueError, TypeError, AssertionError, WorldError) as error:
        expect(bool(str(error)), f"the action {action} is an error without words")
        return True
    return False


def _without_camera(bench: Bench) -> str:
    if not bench.spec.camera:
        raise Skipped("the world has no camera")
    if bench.spec.side_by_side < 2:
        raise Skipped("only one world at a time")
    world = bench.spec.make(camera_size=None, randomize=0.0, seed=0)
    try:
        observation, _ = world.reset(seed=0)
        expect("image" not in observation, "camera_size=None still gives an image")
        expect("image" not in world.step(np.zeros(2, np.float32))[0], "camera_size=None still gives an image in step")
    finally:
        world.close()
    return "no image"


def _close(bench: Bench) -> str:
    bench.world.close()
    bench.world.close()
    return "twice"


CHECKS: dict[str, Callable[[Bench], str | None]] = {
    "gymnasium": _gymnasium,
    "observation": _observation,
    "actions": _actions,
    "without_camera": _without_camera,
}

"""What the conformance checks share: one world, scenes for it, and a driver that keeps its place on the road.

Knows the contract of a world and nothing of what is checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import numpy as np

from bridge.scale import scale_of
from sims.actors import ActorSpec
from sims.road import Road
from sims.scenarios import Scenario, make_scenario
from sims.truth import Truth
from sims.world import STEP_S, World, WorldSpec

ROADS_TRIED = 30


class Failed(Exception):
    """The world does not keep the contract; the message says where."""


class Skipped(Exception):
    """The check does not apply; the message says why."""


def expect(good: bool, otherwise: str) -> None:
    """Raise Failed unless `good`."""
    if not good:
        raise Failed(otherwise)


def turned(angle_rad: float) -> float:
    """An angle brought into [-pi, pi]."""
    return math.remainder(angle_rad, 2 * math.pi)


Driver = Callable[[Truth], tuple[float, float]]


class Bench:
    """One world under test. `scale`: of its car; `reference_mps`: its reference speed."""

    def __init__(self, spec: WorldSpec):
        self.spec, self.profile = spec, spec.profile
        self.scale = scale_of(spec.profile)
        self.reference_mps = spec.profile.reference_speed_mps
        self.camera_size = (spec.profile.camera.width_px, spec.profile.camera.height_px)
        self._made: World | None = None

    @property
    def world(self) -> World:
        """The world, made when it is first asked for."""
        if self._made is None:
            self._made = self.make()
        return self._made

    def make(self) -> World:
        """A fresh one."""
        return self.spec.make(camera_size=self.camera_size if self.spec.camera else None, randomize=0.0, seed=0)

    def close(self) -> None:
        """Let the world go."""
        if self._made is not None:
            self._made.close()

    @cached_property
    def road(self) -> Road:
        """A road with two lanes if there is one among the first random ones."""
        if not self.spec.roads:
            raise Skipped("the world says that it has no roads")
        roads = []
        for seed in range(ROADS_TRIED):
            roads.append(self.spec.road("random", seed))
            if roads[-1].lane_count >= 2:
                return roads[-1]
        return roads[0]

    @cached_property
    def calm_s_m(self) -> float:
        """s of the road where it is straightest over the next 12 m (at model scale)."""
        starts = np.arange(0.0, self.road.length_m, self.scale.length)
        stretch = np.arange(0.0, 12.0, 0.25) * self.scale.length
        tightest = [float(np.abs(self.road.curvature_at(s + stretch)).max()) for s in starts]
        return float(starts[int(np.argmin(tightest))])

    def scene(self, speed: float = 0.5, *, lane: int | None = None, actors: tuple[ActorSpec, ...] = ()) -> Scenario:
        """On the calm stretch, in the middle of the road or of `lane`, at `speed` times the reference speed."""
        base = make_scenario("follow_lane", self.road, 0, profile=self.profile)
        left, right = self.road.edges_at(self.calm_s_m)
        d = (left + right) / 2 if lane is None else self.road.lane_center_d(self.calm_s_m, lane)
        return replace(
            base, start_s_m=self.calm_s_m, start_d_m=float(d), start_speed_mps=speed * self.reference_mps, actors=actors
        )

    def ahead(self, kind: str, distance: float, lane: int, speed: float = 0.0, **more) -> ActorSpec:
        """An actor `distance` (model metres) ahead of the scene's start, at `speed` times the reference speed."""
        s = (self.calm_s_m + distance * self.scale.length) % self.road.length_m
        d = float(self.road.lane_center_d(s, lane))
        return ActorSpec(kind, s, d, speed * self.reference_mps, scale=self.scale.length, **more)

    def begin(self, scene: Scenario, seed: int = 3) -> tuple[dict, Truth]:
        """Start the scene."""
        observation, info = self.world.start(scene, seed)
        return observation, info["truth"]

    def drive(self, driver: Driver, seconds: float, first: Truth) -> list[tuple[dict, Truth]]:
        """What is seen and true after each step of `seconds` (of the default car's time) under the driver."""
        seen, truth = [], first
        for _ in range(round(seconds * self.scale.time / STEP_S)):
            observation, _, _, _, info = self.world.step(np.asarray(driver(truth), np.float32))
            truth = info["truth"]
            seen.append((observation, truth))
        return seen

    def keeper(self, d_m: float, speed: float = 0.5, heading_rad: float = 0.0) -> Driver:
        """Keeps to the line d (or leaves it under a heading) at `speed` times the reference speed, less in bends.
        Steering: the bend's, and a share of what is missing in heading; the heading wanted falls with the offset."""
        p = self.profile

        def drive(truth: Truth) -> tuple[float, float]:
            near = truth.ahead[(truth.ahead[:, 0] >= 0.0) & (truth.ahead[:, 0] < 1.5 * self.scale.length)]
            bend = float(near[:, 4].mean()) if len(near) else 0.0
            tightest = float(np.abs(truth.ahead[:, 4]).max())
            heading = heading_rad or -min(max((truth.d_m - d_m) / (6.0 * p.wheelbase_m), -0.3), 0.3)
            wheel = math.atan(p.wheelbase_m * bend * (not heading_rad)) + 0.5 * turned(
                heading - truth.heading_error_rad
            )
            wanted = min(speed * self.reference_mps, math.sqrt(0.6 * p.max_lateral_mps2 / max(tightest, 1e-6)))
            push = 3.0 / self.scale.time * (wanted - truth.speed_mps)
            push /= p.max_accel_mps2 if push > 0 else p.max_brake_mps2
            return _unit(wheel / p.steering_limit_rad), _unit(push)

        return drive


def _unit(value: float) -> float:
    return min(max(value, -1.0), 1.0)

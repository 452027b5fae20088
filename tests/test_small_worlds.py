"""The worlds `carracing` (the real one) and `f1tenth` (on a stand-in with its signature, where it is missing)."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest

from planner.phrasebook import understand
from sims.check_world import FAIL, check_world
from sims.expert import ExpertBackend
from sims.random_road import random_road
from sims.road import RoadError
from sims.scenarios import make_scenario
from sims.world import WorldError
from sims.worlds import WORLDS
from training.evaluate import evaluate
from training.suite import EvaluateSettings

NEED_EYES_OR_TRAFFIC = {"overtake_left", "overtake_right", "follow_vehicle", "avoid_obstacle", "overtake_blocked"}


def failed(name: str) -> dict[str, str]:
    return {f.name: f.detail for f in check_world(WORLDS[name], WORLDS.home(name)) if f.outcome == FAIL}


def drive_suite(name: str, suite: str, episodes: int) -> dict:
    settings = EvaluateSettings(world=name, suite=suite, episodes=episodes, delay_ms=200)
    return evaluate(settings, ExpertBackend(understand))


# ---- carracing -------------------------------------------------------------------------------------------------------

needs_box2d = pytest.mark.skipif(WORLDS["carracing"].missing() is not None, reason="Box2D or pygame is not installed")


@needs_box2d
def test_carracing_keeps_the_contract():
    assert failed("carracing") == {}


@needs_box2d
@pytest.mark.worlds
def test_expert_and_pursuit_drive_carracing_and_the_rest_is_left_out():
    report = drive_suite("carracing", "all", 10)
    assert set(report["skipped"]) == NEED_EYES_OR_TRAFFIC
    assert report["summary"]["success_rate"] >= 0.9, report["summary"]


@needs_box2d
def test_carracing_shows_its_own_picture_and_its_own_roads_only():
    spec = WORLDS["carracing"]
    road = spec.road("random", 3)
    assert road is spec.road("random", 3) and road.lane_count == 2 and road.meta["carracing_seed"] == 3
    with pytest.raises(RoadError, match="aalborg"):
        spec.road("aalborg", 0)
    world = spec.make(camera_size=(160, 120), randomize=0.0, seed=0)
    observation, _ = world.reset(seed=1)
    assert observation["image"].shape == (96, 96, 3) and observation["image"].std() > 5
    assert np.array_equal(world.render(), observation["image"])
    with pytest.raises(WorldError, match="only tracks that it has made"):
        world.start(replace(make_scenario("stop", random_road(1), 0), actors=()), 0)
    world.close()


# ---- f1tenth ---------------------------------------------------------------------------------------------------------


def single_track(x, u, mu, C_Sf, C_Sr, lf, lr, h, m, inertia, s_min, s_max, sv_min, sv_max, v_switch, *limits):
    """A kinematic stand-in with the arguments of f1tenth_gym's `vehicle_dynamics_st`, about the centre of gravity."""
    slip = math.atan(lr / (lf + lr) * math.tan(x[2]))
    rate = x[3] * math.cos(slip) * math.tan(x[2]) / (lf + lr)
    moved = x[3] * math.cos(x[4] + slip), x[3] * math.sin(x[4] + slip)
    follow = 50.0 * (rate - x[5]), 50.0 * (slip - x[6])  # yaw rate and slip of the state follow at once
    return np.array([*moved, u[0], u[1], rate, *follow])


@pytest.fixture
def f1tenth(monkeypatch):
    """World f1tenth, on a stand-in where f1tenth_gym is not installed."""
    if find_spec("f110_gym") is None:
        modules = {name: ModuleType(name) for name in ("f110_gym", "f110_gym.envs", "f110_gym.envs.dynamic_models")}
        modules["f110_gym.envs.dynamic_models"].vehicle_dynamics_st = single_track
        for name, module in modules.items():
            module.__spec__ = type("Spec", (), {"name": name})()
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.delitem(sys.modules, "sims.f1tenth.world", raising=False)
    yield WORLDS["f1tenth"]
    sys.modules.pop("sims.f1tenth.world", None)


def test_f1tenth_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("sims.f1tenth.spec.find_spec", lambda name: None)
    assert "pip install" in WORLDS["f1tenth"].missing()


def test_f1tenth_keeps_the_contract(f1tenth):
    assert f1tenth.missing() is None
    assert failed("f1tenth") == {}


def test_expert_and_pursuit_drive_f1tenth(f1tenth):
    report = drive_suite("f1tenth", "follow_lane,stop,change_left,overtake_left", 8)
    assert set(report["skipped"]) == {"overtake_left"}
    assert report["summary"]["success_rate"] == 1.0, report["episodes"]


def test_f1tenth_whose_numbers_run_away_is_an_error(f1tenth):
    world = f1tenth.make()
    world.reset(seed=0)
    world._vehicle = (float("nan"),) * 16
    world._state = world._state * float("nan")
    with pytest.raises(WorldError, match="run away"):
        world.step([0.0, 0.0])

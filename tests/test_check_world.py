"""The conformance check passes for a good world and names the fault of a bad one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import pacenote
from sims.check_bench import Bench, Failed, Skipped
from sims.check_driving import DRIVING
from sims.check_world import CHECKS, FAIL, PASS, SKIP, check_world
from sims.random_road import random_road
from sims.track.gym_env import TrackEnv
from sims.track.spec import SPEC, road
from sims.worlds import WORLDS

RUNNER = CliRunner()


def test_track_keeps_the_contract(tmp_path):
    file = tmp_path / "checks.json"
    ended = RUNNER.invoke(pacenote.app, ["worlds", "check", "track", "--json", str(file)])
    assert ended.exit_code == 0, ended.output
    result = json.loads(file.read_text())
    assert result["ok"] and result["world"] == "track"
    assert {c["outcome"] for c in result["checks"]} == {PASS}
    assert [c["name"] for c in result["checks"]][:3] == ["spec", "import", "roads"]


def test_table_of_worlds_names_what_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr("sims.track.spec.SPEC", replace(SPEC, missing=lambda: "no wheels; run: make wheels"))
    file = tmp_path / "worlds.json"
    ended = RUNNER.invoke(pacenote.app, ["worlds", "--json", str(file)])
    assert ended.exit_code == 0 and "wheels" in ended.output, ended.output
    entries = {e["name"]: e for e in json.loads(file.read_text())}
    assert set(entries) == set(WORLDS) and entries["track"]["missing"].startswith("no wheels")


class Faulty(TrackEnv):
    """World track with one fault, by name."""

    fault = ""

    def __init__(self, **settings):
        super().__init__([random_road(1, lanes=2, lane_width_m=0.8, length_m=60.0)], **settings)
        self.began = None

    def start(self, scenario, seed):
        if self.fault == "speed ignored":
            scenario = replace(scenario, start_speed_mps=0.0)
        if self.fault == "actors ignored":
            scenario = replace(scenario, actors=())
        if self.fault == "other place":
            scenario = replace(scenario, start_s_m=scenario.start_s_m + 1.0)
        observation, info = super().start(scenario, seed)
        self.began = observation
        return self._spoilt(observation), {"truth": self._lie(info["truth"])}

    def step(self, action):
        action = np.array(action, float)
        if self.fault == "takes anything":
            action = np.zeros(2)
        if self.fault == "steers right":
            action[0] = -action[0]
        if self.fault == "no brake":
            action[1] = max(action[1], 0.0)
        observation, reward, terminated, truncated, info = super().step(action)
        return self._spoilt(observation), reward, terminated, truncated, {"truth": self._lie(info["truth"])}

    def _spoilt(self, observation):
        if self.fault == "frozen picture" and self.began is not None:
            observation = {**observation, "image": self.began["image"]}
        if self.fault == "noise":
            observation = {**observation, "yaw_rate": np.float32(np.random.default_rng().normal())}
        return observation

    def _lie(self, t):
        if self.fault == "d to the right":
            return replace(t, d_m=-t.d_m, left_edge_d_m=-t.right_edge_d_m, right_edge_d_m=-t.left_edge_d_m)
        if self.fault == "centre of mass":
            return replace(t, x_m=t.x_m + 0.125 * np.cos(t.yaw_rad), y_m=t.y_m + 0.125 * np.sin(t.yaw_rad))
        if self.fault == "km/h":
            return replace(t, speed_mps=3.6 * t.speed_mps)
        if self.fault == "short sight":
            return replace(t, ahead=t.ahead[:20])
        if self.fault == "never off":
            return replace(t, off_road=False)
        if self.fault == "ghosts":
            return replace(t, collision=False)
        if self.fault == "clockwise":
            return replace(t, yaw_rate_radps=-t.yaw_rate_radps)
        return t


FAULTS = {
    "steers right": "steering", "no brake": "brakes", "speed ignored": "start", "other place": "start",
    "actors ignored": "traffic", "ghosts": "traffic", "noise": "repeats", "frozen picture": "camera",
    "d to the right": "truth", "short sight": "truth", "centre of mass": "rear_axle", "km/h": "forward",
    "clockwise": "steering", "never off": "off_road", "takes anything": "actions",
}  # fmt: skip


def spec_with(fault: str, **changes):
    kind = type("Spoilt", (Faulty,), {"fault": fault})
    profile = SPEC.profile.model_copy(update={"camera": SPEC.profile.camera.model_copy(update={"width_px": 32})})
    profile = profile.model_copy(update={"camera": profile.camera.model_copy(update={"height_px": 24})})
    lanes = lambda track, seed: random_road(7, lanes=2, lane_width_m=0.8, length_m=60.0)  # noqa: E731
    return replace(SPEC, make=kind, road=lanes, profile=profile, **changes)


@pytest.mark.parametrize(("fault", "check"), FAULTS.items())
def test_each_fault_is_found_by_its_check(fault, check):
    checks = {**CHECKS, **DRIVING}
    checks[check](Bench(spec_with("")))  # without the fault there is nothing to find
    with pytest.raises(Failed):
        checks[check](Bench(spec_with(fault)))


def test_a_fault_of_the_spec_is_found():
    def failing(spec):
        return {f.name: f.detail for f in check_world(spec) if f.outcome == FAIL}

    assert (
        "suit wheelbase" in failing(replace(SPEC, profile=SPEC.profile.model_copy(update={"wheelbase_m": 2.5})))["spec"]
    )
    anything = lambda track, seed: road("random", seed)  # noqa: E731
    assert "unknown track" in failing(replace(SPEC, camera=False, road=anything))["roads"]


def test_what_a_world_does_not_claim_is_skipped():
    blind = replace(spec_with("noise"), camera=False, deterministic=False)
    blind = replace(blind, make=lambda **settings: spec_with("noise").make(**{**settings, "camera_size": None}))
    findings = {f.name: f for f in check_world(blind)}
    skipped = [n for n, f in findings.items() if f.outcome == SKIP]
    assert skipped == ["import", "without_camera", "camera", "repeats", "advance"]
    assert findings["truth"].outcome == PASS and findings["gymnasium"].outcome == PASS
    with pytest.raises(Skipped, match="no roads"):
        DRIVING["forward"](Bench(replace(blind, roads=False)))


def test_a_world_that_cannot_be_made_is_a_finding_not_a_crash():
    def broken(**settings):
        raise RuntimeError("the simulator is on holiday")

    findings = {f.name: f for f in check_world(replace(SPEC, make=broken))}
    assert findings["observation"].outcome == FAIL and "on holiday" in findings["observation"].detail

"""The lock-step evaluation: reproducible, honest about delay, and clear about what it cannot do."""

from pathlib import Path

import numpy as np
import pytest

from bridge.messages import VehicleProfile
from bridge.planning import PlanError
from planner.phrasebook import understand
from planner.session import TTL_S
from sims.expert import ExpertBackend
from training.evaluate import (
    TICK_HZ,
    EvaluateSettings,
    EvaluationError,
    build_scenarios,
    choose_scenarios,
    evaluate,
    summarise,
)

PHRASINGS = {"target_speed": ["let it roll at 0.9 m/s", "hold {speed} m/s"], "stop": ["enough"]}


def run(**settings):
    return evaluate(EvaluateSettings(**settings), ExpertBackend(understand))


def test_same_seed_gives_the_same_report_to_the_bit():
    first, second = (run(suite="overtake_left,stop", episodes=2, delay_ms=200, seed=3) for _ in range(2))
    assert first["episodes"] == second["episodes"]


def test_an_episode_does_not_depend_on_those_beside_it():
    def alone(entries):
        return next(e for e in entries if e["seed"] == 5 * 100_003 + 1)

    together = run(suite="stop,change_left,keep_right", episodes=3, seed=5)
    pair = run(suite="stop,change_left", episodes=2, seed=5)
    assert alone(together["episodes"]) == alone(pair["episodes"])


def test_report_has_the_fields_that_are_promised():
    report = run(suite="stop", episodes=1)
    assert {"world", "suite", "planner", "controller", "delay_ms", "seed", "commit", "episodes", "summary"} <= set(
        report
    )
    promised = "scenario track seed success reason collision off_road route_completion duration_s plans verdicts"
    assert set(promised.split()) <= set(report["episodes"][0])
    assert report["summary"]["success_rate"] == 1.0


class CountingExpert(ExpertBackend):
    """Counts the plans it is asked for."""

    def __init__(self):
        super().__init__(understand)
        self.asked = 0

    def plan(self, requests):
        self.asked += len(requests)
        return super().plan(requests)


def test_a_slow_planner_plans_less_often_and_still_stops_the_car():
    backends = CountingExpert(), CountingExpert()
    fast, slow = (
        evaluate(EvaluateSettings(suite="stop", episodes=1, delay_ms=ms), backend)["episodes"][0]
        for ms, backend in zip((0, 1000), backends, strict=True)
    )
    assert fast["success"] and slow["success"]
    assert backends[1].asked <= fast["duration_s"] / 1.0 + 2 < backends[0].asked


class SilentBackend:
    """A planner that never has an answer."""

    name, rate_hz, wants_truth = "silent", 10.0, True

    def plan(self, requests):
        return [PlanError("nothing to say") for _ in requests]


def test_without_plans_the_car_stands_and_nothing_breaks():
    entry = evaluate(EvaluateSettings(suite="follow_lane", episodes=1), SilentBackend())["episodes"][0]
    assert not entry["success"] and not entry["collision"] and not entry["off_road"]
    assert entry["plans"] == 0 and entry["unsent"] > 0


def test_phrasings_replace_commands_and_carry_their_number():
    settings = EvaluateSettings(suite="target_speed,stop", episodes=60, phrasings=PHRASINGS)
    scenarios = [s for s, _ in build_scenarios(settings, VehicleProfile())]
    told = {(s.name, c.text): s for s in scenarios for c in s.commands}
    assert told["target_speed", "let it roll at 0.9 m/s"].params["speed_mps"] == 0.9
    assert ("stop", "enough") in told
    assert any(text.startswith("hold ") and "{" not in text for _, text in told)


def test_unknown_names_are_errors_that_help():
    with pytest.raises(EvaluationError, match="did you mean 'overtake_left'"):
        choose_scenarios("overtake_lef")
    with pytest.raises(EvaluationError, match="delay_ms"):
        run(suite="stop", episodes=1, delay_ms="soon")


def test_a_road_that_cannot_host_the_suite_is_an_error(tmp_path):
    with pytest.raises(EvaluationError, match="no episode is possible"):
        run(suite="change_left", episodes=1, track=(str(one_lane_file(tmp_path)),))


def one_lane_file(folder: Path) -> Path:
    path = folder / "ring.csv"
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    rows = np.column_stack([5 * np.cos(angle), 5 * np.sin(angle), np.full(60, 0.4), np.full(60, 0.4)])
    np.savetxt(path, rows, delimiter=",", header="x_m, y_m, w_tr_right_m, w_tr_left_m")
    return path


def test_summary_weighs_infractions():
    entries = [
        {"scenario": "stop", "success": True, "collision": False, "off_road": False, "route_completion": 1.0},
        {"scenario": "stop", "success": False, "collision": True, "off_road": False, "route_completion": 0.5},
    ]
    summary = summarise(entries)
    assert summary["success_rate"] == 0.5 and summary["collisions"] == 1
    assert summary["driving_score"] == pytest.approx(65.0)


class MortalBackend(ExpertBackend):
    """The expert, dead from one tick to another of the car's own clock."""

    def __init__(self, dead_s):
        super().__init__(understand)
        self.dead_s, self.t_s = dead_s, 0.0

    def plan(self, requests):
        alive = not self.dead_s[0] <= self.t_s < self.dead_s[1]
        return super().plan(requests) if alive else [PlanError("killed") for _ in requests]


@pytest.mark.parametrize("controller", ["pursuit", "flow"])
def test_planner_killed_at_speed_the_car_stands_in_time_and_drives_on_when_it_is_back(controller):
    backend = MortalBackend((4.0, 9.0))
    speeds = {}

    def watch(tick, episode, env, slot):
        backend.t_s = tick / TICK_HZ
        truth = env.truth(slot)
        speeds[backend.t_s] = truth.speed_mps
        assert not truth.collision and not truth.off_road

    settings = EvaluateSettings(suite="follow_lane", episodes=1, seed=2, controller=controller)
    entry = evaluate(settings, backend, watch=watch)["episodes"][0]
    assert speeds[4.0] > 0.8, "was at speed"
    standing = min(t for t, v in speeds.items() if t > 4.0 and v < 0.05)
    assert standing <= 4.0 + TTL_S + 1.5
    assert max(v for t, v in speeds.items() if standing + 0.5 < t < 9.0) < 0.05, "stands until the planner is back"
    assert max(v for t, v in speeds.items() if t > 9.0) > 0.8, "drives on"
    assert entry["success"] or "driven" in entry["reason"]

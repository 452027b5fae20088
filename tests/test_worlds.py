"""The registry of worlds, world `track` through it, and what a world cannot show."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from bridge.messages import VehicleProfile
from bridge.names import UnknownName
from planner.phrasebook import understand
from sims import worlds
from sims.expert import ExpertBackend
from sims.random_road import UNSEEN_ROADS, random_road
from sims.road import RoadError
from sims.scenarios import SCENARIOS, make_scenario
from sims.track.spec import SPEC as TRACK
from sims.world import WorldBatch, WorldError
from sims.worlds import GROUP, OURS, WORLDS, find_world
from training.evaluate import evaluate
from training.suite import EvaluateSettings, EvaluationError, build_scenarios


@pytest.fixture
def others(monkeypatch):
    """Entry points of other packages, as {name: "module:object"}; filled by the test."""
    given: dict[str, str] = {}

    def entry_points(group):
        assert group == GROUP
        return [EntryPoint(name, value, group) for name, value in given.items()]

    monkeypatch.setattr(worlds, "entry_points", entry_points)
    return given


def test_ours_are_known_and_others_can_be_added(others):
    assert tuple(WORLDS) == OURS and find_world("track") is TRACK
    others["track"] = "nowhere:SPEC"  # ours cannot be taken over
    others["moon"] = "nowhere.at_all:SPEC"
    assert tuple(WORLDS) == (*OURS, "moon") and len(WORLDS) == len(OURS) + 1
    assert WORLDS["track"] is TRACK and WORLDS.home("moon") == "nowhere.at_all"


@pytest.mark.parametrize(
    ("value", "said"), [("nowhere.at_all:SPEC", "cannot be loaded.*nowhere"), ("sims.road:Road", "must be a WorldSpec"),
                        ("sims.track.spec:SPEC", "a spec named 'track'")],
)  # fmt: skip
def test_a_broken_stranger_is_told_and_harms_nobody(others, value, said):
    others["moon"] = value
    with pytest.raises(WorldError, match=said):
        find_world("moon")
    assert find_world("track") is TRACK


def test_unknown_and_lacking_worlds_are_errors_that_help(monkeypatch):
    with pytest.raises(UnknownName, match="did you mean 'track'"):
        find_world("trak")
    lacking = replace(TRACK, missing=lambda: "no wheels; run: make wheels")
    monkeypatch.setattr("sims.track.spec.SPEC", lacking)
    with pytest.raises(WorldError, match="make wheels"):
        find_world("track")


def test_importing_a_spec_does_not_import_its_simulator():
    code = "import sys, sims.track.spec as s; print([m for m in s.SPEC.modules if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_roads_of_track():
    assert (TRACK.road("random", 3).x_m == random_road(UNSEEN_ROADS + 3).x_m).all()
    with pytest.raises(RoadError, match="no racetrack file at aalborg"):
        TRACK.road("aalborg", 0)


@pytest.mark.parametrize("camera_size", [None, (32, 24)])
def test_batch_and_single_worlds_are_the_same_to_the_bit(camera_size):
    roads = [random_road(1, lanes=2), random_road(2, lanes=2)]
    scenarios = [make_scenario("overtake_left", road, 4) for road in roads]
    native = TRACK.batch(camera_size=camera_size, randomize=0.5)
    single = WorldBatch(TRACK, camera_size=camera_size, randomize=0.5)
    for seeds in ([3, 9], [9, 4]):
        seen = native.start(scenarios, seeds), single.start(scenarios, seeds)
        for k in range(12):
            assert seen[0].keys() == seen[1].keys()
            assert all(np.array_equal(seen[0][name], seen[1][name]) for name in seen[0])
            assert all(native.truth(i) == single.truth(i) for i in range(2))
            actions = np.array([[0.1, 0.5], [-0.2, 0.1 * k]], np.float32)
            seen = native.step(actions, [0, 1]), single.step(actions, [0, 1])
        if camera_size:
            assert np.array_equal(native.render([1]), single.render([1]))
        scenarios.reverse()
    native.close()
    single.close()


def test_a_batch_leaves_ended_episodes_alone():
    scenario = make_scenario("stop", random_road(1), 0)
    batch = WorldBatch(TRACK, camera_size=None, randomize=0.0)
    batch.start([scenario, scenario], [0, 1])
    batch.step(np.array([[0.0, 1.0]] * 2), [1])
    assert batch.truth(0).t_s == 0.0 and batch.truth(1).t_s > 0.0


def test_track_on_a_scaled_road_looks_as_far_ahead_in_wheelbases():
    big = VehicleProfile(wheelbase_m=1.0, reference_speed_mps=6.0)
    from sims.track import TrackEnv

    env = TrackEnv([random_road(1)], profile=big, camera_size=None)
    assert env.profile is big
    assert env.reset(seed=0)[1]["truth"].ahead[-1, 0] == pytest.approx(40.0)


@pytest.fixture
def poor_track(monkeypatch):
    """World track without traffic and camera."""
    monkeypatch.setattr("sims.track.spec.SPEC", replace(TRACK, traffic=False, camera=False, batch=None))


def test_what_a_world_cannot_show_is_left_out_with_the_reason(poor_track):
    settings = EvaluateSettings(episodes=30)
    skipped: dict[str, str] = {}
    episodes = build_scenarios(settings, TRACK.profile, skipped=skipped)
    assert {"overtake_left", "overtake_blocked", "follow_vehicle", "avoid_obstacle"} <= set(skipped)
    assert all("other cars" in reason for reason in skipped.values())
    assert {s.name for s, _ in episodes} == set(SCENARIOS) - set(skipped)
    assert not any(s.actors for s, _ in episodes)
    with pytest.raises(EvaluationError, match="forward camera"):
        build_scenarios(settings, TRACK.profile, eyes=True)


def test_report_of_a_poor_world_names_what_was_left_out(poor_track):
    settings = EvaluateSettings(suite="stop,overtake_left", episodes=2, controller="pursuit")
    report = evaluate(settings, ExpertBackend(understand))
    assert set(report["skipped"]) == {"overtake_left"}
    assert [e["scenario"] for e in report["episodes"]] == ["stop", "stop"]
    assert report["summary"]["success_rate"] == 1.0
    with pytest.raises(EvaluationError, match="forward camera"):
        evaluate(settings.model_copy(update={"controller": "flow"}), ExpertBackend(understand))


def test_a_world_with_its_own_car_takes_no_other(poor_track):
    with pytest.raises(EvaluationError, match="its own car"):
        evaluate(EvaluateSettings(), ExpertBackend(understand), profile=VehicleProfile(wheelbase_m=1.0))


@pytest.mark.parametrize("delay", ["soon", -1, 10_001, float("nan"), None])
def test_one_rule_for_the_delay(delay):
    with pytest.raises(EvaluationError, match="delay_ms"):
        EvaluateSettings(delay_ms=delay)

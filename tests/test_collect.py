"""`pacenote collect`: what is recorded, what a crash, a broken world or Ctrl-C leaves, and going on."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

import training.collect as module
from bridge.messages import CameraModel, VehicleProfile
from bridge.names import UnknownName
from controller.onnx_policy import BundleError
from sims.track import spec as track_spec
from sims.track.gym_env import TrackEnv
from sims.world import WorldError
from training.collect import CollectError, CollectSettings, collect
from training.datasets.check import check_dataset
from training.datasets.layout import NO_COMMAND, DatasetError
from training.datasets.read import Dataset, load_collect
from training.suite import EvaluationError

SMALL = CameraModel(width_px=48, height_px=32)


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    """World `track` with a small camera, for speed."""
    monkeypatch.setattr(track_spec, "SPEC", replace(track_spec.SPEC, profile=VehicleProfile(camera=SMALL)))


def record(folder, episodes=2, suite="stop,slower", resume=False, hand=None, asked_to_end=lambda: False, **settings):
    """(result, what was said)."""
    console = Console(record=True, file=open("/dev/null", "w"), width=200)
    given = CollectSettings(suite=suite, episodes=episodes, **settings)
    result = collect(given, folder, resume=resume, console=console, hand=hand, asked_to_end=asked_to_end)
    return result, console.export_text()


def tables(folder):
    return {p.name: p.read_bytes() for p in sorted((folder / "data").rglob("*.parquet"))}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Three episodes of the expert."""
    folder = tmp_path_factory.mktemp("collect") / "d"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(track_spec, "SPEC", replace(track_spec.SPEC, profile=VehicleProfile(camera=SMALL)))
        result, _ = record(folder, episodes=3, suite="stop,change_left,slower")
    return folder, result


def test_expert_is_recorded_whole(recorded):
    folder, result = recorded
    assert result["episodes"] == result["recorded"] == result["successes"] == 3 and not result["interrupted"]
    report = check_dataset(folder)
    assert report.errors == [] and report.notes == [] and report.frames == result["frames"] == report.pictures
    made = load_collect(folder)
    assert made["settings"]["driver"] == "expert" and made["left_out"] == []


def test_columns_tell_of_command_truth_and_plan(recorded):
    stop, change, _ = Dataset(recorded[0])
    assert stop.about["pacenote/scenario"] == "stop" and stop.about["pacenote/success"]
    assert stop.tasks[0] == NO_COMMAND and "stop" in stop.tasks[-1]
    assert stop.state[0, 0] > 0.5 and stop.state[-1, 0] < 0.1 and stop.actions[:, 1].min() < -0.2
    assert stop.column("intent")[-1] == "stop" and stop.column("verdict")[-1] in ("accepted", "done")
    assert set(stop.column("scenario")) == {"stop"} and not stop.column("truth.collision").any()
    lanes = change.column("truth.lane")
    assert lanes[-1] == lanes[0] + 1 and change.column("truth.d_m")[-1] > change.column("truth.d_m")[0] + 0.3
    said = [k for k, task in enumerate(change.tasks) if task != NO_COMMAND][0]
    assert 1.5 < said / change.fps < 2.7
    frames = stop.frames()
    assert frames.shape == (len(stop), 32, 48, 3) and np.abs(np.diff(frames[:60].astype(int), axis=0)).mean() > 0.5


def test_state_and_action_belong_to_the_same_moment(recorded):
    """The picture's row holds the state before the action: the next speed follows from this acceleration."""
    change = Dataset(recorded[0]).episode(1)
    moved = np.hypot(*(np.diff(change.column(f"truth.{axis}_m")) for axis in "xy"))
    assert np.allclose(moved * change.fps, change.state[:-1, 0], atol=0.12)


def test_same_seed_same_rows_and_interrupted_recording_goes_on_as_if_never(tmp_path):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    record(straight, episodes=3)
    calls = iter(range(10_000))
    result, said = record(broken, episodes=3, asked_to_end=lambda: next(calls) > 250)
    assert result["interrupted"] and result["episodes"] == 1
    assert re.search(r"interrupted: the episode under way is dropped \(slower, seed 1, after \d+ frames\)", said)
    assert "1 episodes are kept" in said and check_dataset(broken).ok
    result, said = record(broken, episodes=3, resume=True)
    assert result["episodes"] == 3 and result["recorded"] == 2 and "1 episodes done before" in said
    assert tables(straight) == tables(broken) and len(tables(straight)) == 3


def test_more_episodes_later(tmp_path):
    record(tmp_path / "d", episodes=1)
    result, _ = record(tmp_path / "d", episodes=2, resume=True)
    assert result["episodes"] == 2 and result["recorded"] == 1
    result, _ = record(tmp_path / "d", episodes=2, resume=True)
    assert result["recorded"] == 0


def test_going_on_with_other_settings_is_refused(tmp_path):
    record(tmp_path / "d", episodes=1)
    with pytest.raises(CollectError, match="suite was 'stop,slower', is 'stop'; seed was 0, is 1"):
        record(tmp_path / "d", suite="stop", seed=1, resume=True)
    with pytest.raises(DatasetError, match="say --resume"):
        record(tmp_path / "d")


class Flaky(TrackEnv):
    """Breaks down at some steps, counted over all worlds of the test."""

    steps = 0
    breaks: tuple[int, ...] = ()
    closed = 0

    def step(self, action):
        Flaky.steps += 1
        if Flaky.steps in Flaky.breaks:
            raise WorldError("the simulator has gone away")
        return super().step(action)

    def close(self):
        Flaky.closed += 1
        super().close()


@pytest.fixture
def flaky(monkeypatch):
    make = lambda camera_size, randomize, seed: Flaky(camera_size=camera_size, randomize=randomize, seed=seed)  # noqa: E731
    monkeypatch.setattr(track_spec, "SPEC", replace(track_spec.SPEC, make=make))
    monkeypatch.setattr(Flaky, "steps", 0)
    monkeypatch.setattr(Flaky, "closed", 0)
    return Flaky


def test_a_world_that_breaks_down_costs_one_try(tmp_path, flaky, monkeypatch):
    record(tmp_path / "straight", episodes=2)
    monkeypatch.setattr(flaky, "breaks", (flaky.steps + 20, flaky.steps + 250))
    closed = flaky.closed
    result, said = record(tmp_path / "broken", episodes=2)
    assert result["episodes"] == 2 and said.count("the simulator has gone away") == 2
    assert "dropped after 19 frames; the world is started anew" in said
    assert flaky.closed - closed == 3  # two broken ones, and the last
    assert tables(tmp_path / "straight") == tables(tmp_path / "broken")


def test_a_world_that_stays_broken_ends_the_recording_and_keeps_what_is_done(tmp_path, flaky, monkeypatch):
    monkeypatch.setattr(flaky, "breaks", tuple(range(220, 10_000)))
    with pytest.raises(WorldError, match="broke down 3 times in a row"):
        record(tmp_path / "d", episodes=3)
    report = check_dataset(tmp_path / "d")
    assert report.ok and report.episodes == 1
    monkeypatch.setattr(flaky, "breaks", ())
    result, _ = record(tmp_path / "d", episodes=3, resume=True)
    assert result["episodes"] == 3


def test_failures_can_be_left_out_and_are_not_driven_again(tmp_path, monkeypatch):
    real = module.run_one

    def failing(case, *args, **more):
        entry = real(case, *args, **more)
        return {**entry, "success": False, "reason": "for the test"} if case[0].name == "stop" else entry

    monkeypatch.setattr(module, "run_one", failing)
    result, _ = record(tmp_path / "d", episodes=3, successes_only=True)
    assert (result["episodes"], result["left_out"], result["dropped"]) == (1, 2, 2)
    assert load_collect(tmp_path / "d")["left_out"][0] == {"scenario": "stop", "seed": 0, "reason": "for the test"}
    result, _ = record(tmp_path / "d", episodes=3, successes_only=True, resume=True)
    assert result["recorded"] == result["dropped"] == 0


def test_a_policy_drives_too(tmp_path):
    result, _ = record(tmp_path / "d", episodes=1, suite="slower", driver="policy:flow")
    assert result["episodes"] == 1 and check_dataset(tmp_path / "d").ok
    assert Dataset(tmp_path / "d").episodes[0]["pacenote/driver"] == "policy:flow"


def test_racetrack_files_are_roads(tmp_path):
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    rows = np.column_stack([9 * np.cos(angle), 6 * np.sin(angle), np.full(60, 0.8), np.full(60, 0.8)])
    np.savetxt(tmp_path / "ring.csv", rows, delimiter=",", header="x_m,y_m,w_tr_right_m,w_tr_left_m")
    record(tmp_path / "d", episodes=1, suite="stop", track=(str(tmp_path / "ring.csv"),))
    assert Dataset(tmp_path / "d").episodes[0]["pacenote/track"] == "ring"


def test_a_world_without_a_camera_is_recorded_without_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(track_spec, "SPEC", replace(track_spec.SPEC, camera=False))
    record(tmp_path / "d", episodes=1, suite="stop")
    report = check_dataset(tmp_path / "d")
    assert report.ok and report.pictures == 0 and report.frames > 100


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"driver": "exprt"}, UnknownName, "did you mean 'expert'"),
        ({"driver": "polcy:x.onnx"}, UnknownName, "did you mean 'policy:BUNDLE'"),
        ({"driver": "policy:nowhere.onnx"}, BundleError, "nowhere.onnx"),
        ({"world": "trak"}, UnknownName, "did you mean 'track'"),
        ({"suite": "stp"}, EvaluationError, "did you mean 'stop'"),
    ],
)
def test_unknown_names_come_with_a_hint_and_leave_no_folder(tmp_path, settings, error, words):
    with pytest.raises(error, match=words):
        record(tmp_path / "d", **settings)
    assert not (tmp_path / "d").exists()


def command(*arguments):
    return [sys.executable, "-m", "pacenote", "collect", *map(str, arguments)]


def test_command_line_ctrl_c_and_check(tmp_path):
    """As in a terminal: record, Ctrl-C after the first word, check."""
    child = subprocess.Popen(
        command("--suite", "stop", "--episodes", "50", "--out", tmp_path / "d"), stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline().startswith("dataset:")
    child.send_signal(signal.SIGINT)
    said = child.stdout.read()
    assert child.wait() == 130 and "interrupted" in said and "are kept" in said
    done = subprocess.run(
        command("check", tmp_path / "d", "--json", tmp_path / "r.json"), capture_output=True, text=True
    )
    assert done.returncode == 0 and "good: " in done.stdout, done.stdout
    assert json.loads((tmp_path / "r.json").read_text())["ok"]

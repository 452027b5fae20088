"""Replay: signs, the comparison with the human, and lock-step through a real planner server over the real link."""

from __future__ import annotations

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from bridge.link import CarLink, PlannerLink
from bridge.messages import Intent, VehicleProfile, Waypoint
from bridge.planning import PlanAnswer
from planner.server import PlannerServer
from training.recordings import RecordedFrame, RecordingError, open_recording
from training.replay import Replay, ReplaySettings, YawSeen, _in_lock_step, _wait_connected, compare, replay


class TurnLeft:
    """A backend that always calls the same bend to the left."""

    name, rate_hz, wants_truth = "turn-left", 10.0, False

    def plan(self, requests):
        angles = 0.5 * np.arange(1, 9) / 2.0
        path = tuple(Waypoint(x_m=2 * np.sin(a), y_m=2 * (1 - np.cos(a)), v_mps=0.8) for a in angles)
        return [PlanAnswer(Intent.FOLLOW_LANE, path, "A bend to the left.") for _ in requests]


@pytest.fixture
def recording(tmp_path):
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    lines = []
    for i in range(12):
        cv2.imwrite(str(tmp_path / "images" / f"{i}.jpg"), rng.integers(0, 255, (120, 160, 3), dtype=np.uint8))
        lines.append({"index": i, "image": f"images/{i}.jpg", "user_angle": -0.1 * i, "user_throttle": 0.5})
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def run_lock_step(recording, delay_ms):
    settings = ReplaySettings(source=str(recording), controller="pursuit", lock_step=True, delay_ms=delay_ms)
    link = PlannerLink()
    endpoint = link.bind("tcp://127.0.0.1:0")
    planner = SimpleNamespace(alive=True, tail=[])
    with PlannerServer(TurnLeft(), link), CarLink("replay", settings.profile) as car:
        car.connect(endpoint)
        run = Replay(settings, car)
        _wait_connected(car, planner)
        return _in_lock_step(run, open_recording(recording), planner), len(run.plans)


def test_lock_step_is_reproducible_and_steers_left_for_a_left_bend(recording):
    rows, plans = run_lock_step(recording, delay_ms=100.0)
    again, _ = run_lock_step(recording, delay_ms=100.0)
    assert rows == again and len(rows) == 12
    assert set(rows[0]) == {"index", "steering", "acceleration", "intent", "plan_age_s"}
    assert rows[0]["plan_age_s"] is None and rows[2]["plan_age_s"] == pytest.approx(0.1)
    assert rows[-1]["steering"] > 0.1 and rows[-1]["intent"] == "follow_lane"
    assert 4 <= plans <= 6  # one every 100 ms of virtual time, 600 ms in all
    assert [r["index"] for r in rows] == list(range(12))


def test_comparison_turns_donkeys_sign_and_knows_the_constant():
    human = [RecordedFrame(i, None, steering=s) for i, s in enumerate((0.1, 0.4, -0.2, 0.0))]
    same = compare([{"steering": f.steering} for f in human], human)
    assert same["correlation"] == 1.0 and same["mean_abs_error"] == 0.0 and same["constant_mean_abs_error"] > 0.1
    mirrored = compare([{"steering": -f.steering} for f in human], human)
    assert mirrored["correlation"] == -1.0
    assert compare([{"steering": 0.3}] * 4, human)["correlation"] == 0.0
    assert compare([{"steering": 0.3}], [RecordedFrame(0, None)]) == {}


def test_turning_left_is_seen_as_a_positive_yaw_rate():
    rng = np.random.default_rng(1)
    scene = cv2.GaussianBlur(rng.integers(0, 255, (120, 400, 3), dtype=np.uint8), (0, 0), 3)
    seen = YawSeen(VehicleProfile(), 20.0)
    # The camera turns left: it looks at a part of the scene further to the left every frame.
    rates = [seen.update(scene[:, 200 - 3 * k : 360 - 3 * k]) for k in range(10)]
    expected = 3 * VehicleProfile().camera.hfov_rad / 160 * 20
    assert rates[0] == 0.0 and rates[-1] == pytest.approx(expected, rel=0.15)


def test_what_cannot_be_replayed_is_told(recording):
    with pytest.raises(RecordingError, match="truth"):
        replay(ReplaySettings(source=str(recording), planner="expert"))
    (recording / "images" / "3.jpg").write_bytes(b"no picture")
    with pytest.raises(RecordingError, match="frame 3"):
        run_lock_step(recording, delay_ms=100.0)

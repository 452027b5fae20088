"""Driving by hand: keys, wheel, picture of characters, the clock; and a whole recording by a scripted human."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from bridge.clock import VirtualClock
from bridge.messages import CameraModel, VehicleProfile
from sims.track import spec as track_spec
from training.collect import CollectError, CollectSettings, collect
from training.collect_hand import HandDriver, Keyboard, Wheel, as_characters, names_of_keys
from training.datasets.check import check_dataset
from training.datasets.read import Dataset

PROFILE = VehicleProfile(camera=CameraModel(width_px=48, height_px=32))


class Keys:
    """A keyboard that presses what the script says at each poll."""

    def __init__(self, script):
        self.script = iter(script)

    def poll(self):
        return next(self.script, [])


class Pad:
    stop_pressed = False

    def __init__(self, *actions):
        self.actions = iter(actions)

    def poll(self):
        return next(self.actions, (0.0, 0.0))


def test_names_of_keys():
    assert names_of_keys("\x1b[Dw \x1bOCzQ") == ["left", "up", "halt", "right", "quit"]
    assert names_of_keys("\x1b[") == [] and names_of_keys("") == []


def test_wheel_turns_comes_back_and_keeps_a_speed():
    wheel = Wheel(PROFILE)
    wheel.start(1.0)
    steering, acceleration = wheel.update(["left", "left"], 1.0, 1 / 30)
    assert steering == pytest.approx(0.5) and acceleration == 0.0  # positive is left
    for _ in range(60):
        steering, _ = wheel.update([], 1.0, 1 / 30)
    assert 0.0 < steering < 0.03
    assert wheel.update(["up"], 1.0, 1 / 30)[1] > 0.0 > wheel.update(["down"] * 3, 1.0, 1 / 30)[1]
    assert wheel.update(["halt"], 1.0, 1 / 30)[1] == -1.0 and wheel.update([], 0.0, 1 / 30)[1] == -1.0
    assert wheel.update(["right"] * 20, 0.0, 1 / 30)[0] == -1.0
    wheel.update(["up"] * 100, 0.0, 1 / 30)
    assert wheel.speed_mps == PROFILE.max_speed_mps


def test_picture_of_characters():
    image = np.zeros((60, 80, 3), np.uint8)
    image[:30] = (255, 0, 0)
    lines = as_characters(image, 20).split("\n")
    assert len(lines) == 8 and all(line.count("▀") == 20 for line in lines)
    assert "38;2;255;0;0" in lines[0] and "38;2;255;0;0" not in lines[-1]


def test_human_without_a_terminal_is_told_what_to_do(monkeypatch):
    monkeypatch.setattr("sys.stdin", open("/dev/null"))
    with pytest.raises(CollectError, match="needs a terminal.*--gamepad"):
        Keyboard()


@pytest.fixture
def drive(tmp_path, monkeypatch):
    """Record two episodes by hand; (result, what was said, hand, what was shown)."""
    monkeypatch.setattr(track_spec, "SPEC", replace(track_spec.SPEC, profile=PROFILE))

    def run(keys=None, pad=None, clock=None, episodes=2):
        shown = []
        hand = HandDriver(PROFILE, keys and Keys(keys), pad, clock or VirtualClock(), shown.append)
        console = Console(record=True, file=open("/dev/null", "w"), width=200)
        settings = CollectSettings(driver="human", suite="stop", episodes=episodes)
        result = collect(settings, tmp_path / "d", console=console, hand=hand)
        return result, console.export_text(), hand, shown

    return run


def test_keys_drive_the_car(drive, tmp_path):
    script = [[]] * 10 + [["halt"]] + [[]] * 400
    clock = VirtualClock()
    result, _, hand, shown = drive(script, clock=clock, episodes=1)
    assert result["episodes"] == 1 and check_dataset(tmp_path / "d").ok
    (episode,) = Dataset(tmp_path / "d")
    assert episode.state[5, 0] > 0.5 > 0.05 > episode.state[-1, 0] and episode.actions[30, 1] < -0.2
    assert episode.about["pacenote/driver"] == "human" and episode.about["pacenote/success"]
    assert hand.late_ticks == 0 and clock.now_ns() == pytest.approx(len(episode) / 30 * 1e9, rel=0.01)
    assert any("stop" in text and "▀" in text for text in shown)


def test_k_keeps_x_drops_q_ends(drive, tmp_path):
    result, said, _, _ = drive([[]] * 20 + [["keep"]] + [[]] * 10 + [["drop"]], episodes=2)
    assert (result["episodes"], result["dropped"], result["interrupted"]) == (1, 1, False)
    assert "episode kept as it is" in said and "episode dropped; 1 episodes are kept" in said
    (episode,) = Dataset(tmp_path / "d")
    assert len(episode) == 21 and episode.about["pacenote/reason"] == "ended by the driver"
    assert not episode.about["pacenote/success"]


def test_q_ends_the_recording(drive):
    result, said, _, _ = drive([[]] * 5 + [["quit"]], episodes=2)
    assert result["episodes"] == 0 and result["interrupted"] and "episode dropped" in said


def test_gamepad_goes_before_the_keys(drive, tmp_path):
    drive([[]] * 30 + [["keep"]], pad=Pad(*[(0.4, 0.3)] * 20), episodes=1)
    (episode,) = Dataset(tmp_path / "d")
    assert np.abs(episode.actions[15] - (0.4, 0.3)).max() < 1e-6 and abs(episode.actions[-1, 0]) < 0.2


def test_gamepads_stop_button_ends(drive):
    pad = Pad()
    pad.stop_pressed = True
    result, _, _, _ = drive(pad=pad)
    assert result["interrupted"] and result["episodes"] == 0


def test_a_slow_machine_is_late_and_says_so(drive, tmp_path):
    class Slow(VirtualClock):
        def now_ns(self):
            self.advance_s(0.02)  # every look at the clock takes a while
            return super().now_ns()

    class Slower(Slow):
        def now_ns(self):
            self.advance_s(0.05)
            return super().now_ns()

    _, _, hand, _ = drive([[]] * 20 + [["keep"]], clock=Slower(), episodes=1)
    assert hand.ticks == 21 and hand.late_ticks > 15
    assert check_dataset(tmp_path / "d").ok  # the recording's own times stay even

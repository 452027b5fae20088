"""Driving by hand: keys of a terminal or a gamepad, the camera's picture drawn with characters, the wall clock.

A terminal tells keys going down and never up, so keys set wishes instead of holding pedals: left and right turn the
wheel, which comes back by itself; up and down change the speed that a small controller then keeps. Knows evaluation's
episodes; nothing of datasets.
"""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import cv2
import numpy as np

from bridge.clock import MonotonicClock
from bridge.messages import VehicleProfile
from car.gamepad import Gamepad
from sims.world import STEP_S
from sims.worlds import find_world
from training.collect import CollectError, CollectSettings, EpisodeEnded
from training.collect_record import RecordingBatch, task_text
from training.evaluate import Episode

TURN = 0.25  # of the full lock, a key press
CENTRE_S = 0.6  # the wheel comes back with this time constant
SPEED_STEP = 0.15  # of the reference speed, a key press
GAIN = 5.0  # acceleration (1: full) for each reference speed that is lacking
PAD_ZONE = 0.06  # a gamepad at rest is not quite at zero
PICTURE_EVERY = 3  # ticks
COLUMNS = 80  # characters of the picture
ARROWS = {"\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left"}
KEYS = {"w": "up", "s": "down", "d": "right", "a": "left", " ": "halt", "k": "keep", "x": "drop", "q": "quit"}
HELP = "arrows or w a s d: drive   space: halt   k: end and keep   x: end and drop   q: drop and quit"


class Keyboard:
    """Keys of a terminal as they come, without waiting. Use as a context manager: it puts the terminal back."""

    def __init__(self):
        """Raises CollectError without a terminal."""
        if not sys.stdin.isatty():
            raise CollectError("--driver human needs a terminal for its keys, or a gamepad: --gamepad /dev/input/js0")
        self._file = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._file)

    def __enter__(self) -> Keyboard:
        tty.setcbreak(self._file)
        return self

    def __exit__(self, *_: object) -> None:
        termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)

    def poll(self) -> list[str]:
        """Names of the keys pressed since the last call (values of ARROWS and KEYS)."""
        text = ""
        while select.select([self._file], [], [], 0)[0]:
            data = os.read(self._file, 256)
            if not data:
                break
            text += data.decode(errors="ignore")
        return names_of_keys(text)


def names_of_keys(text: str) -> list[str]:
    """What a terminal sent as names of keys; what is not a key of ours is left out."""
    names, at = [], 0
    while at < len(text):
        arrow = text[at : at + 3].replace("O", "[", 1)  # some terminals send ESC O A
        if arrow in ARROWS:
            names.append(ARROWS[arrow])
            at += 3
        else:
            names += [KEYS[text[at].lower()]] if text[at].lower() in KEYS else []
            at += 1
    return names


class Wheel:
    """Key presses to [steering, acceleration]."""

    def __init__(self, profile: VehicleProfile):
        self._profile = profile
        self.steering, self.speed_mps = 0.0, 0.0

    def start(self, speed_mps: float) -> None:
        """A new episode, at this speed."""
        self.steering, self.speed_mps = 0.0, speed_mps

    def update(self, keys: list[str], speed_mps: float, dt_s: float) -> tuple[float, float]:
        """Take in the keys of the last `dt_s`; the action for now, at the car's speed."""
        reference = self._profile.reference_speed_mps
        self.steering *= max(0.0, 1.0 - dt_s / CENTRE_S)
        for key in keys:
            turn = TURN * (key == "left") - TURN * (key == "right")
            self.steering = float(np.clip(self.steering + turn, -1.0, 1.0))
            faster = SPEED_STEP * reference * ((key == "up") - (key == "down"))
            self.speed_mps = float(np.clip(self.speed_mps + faster, 0.0, self._profile.max_speed_mps))
            self.speed_mps *= key != "halt"
        lacking = (self.speed_mps - speed_mps) / reference
        if self.speed_mps == 0.0:
            return self.steering, -1.0  # and held there
        return self.steering, float(np.clip(GAIN * lacking, -1.0, 1.0))


def as_characters(image: np.ndarray, columns: int = COLUMNS) -> str:
    """A picture (h, w, 3) for a terminal with 24-bit colours: half blocks, so that a character shows two points."""
    height, width = image.shape[:2]
    rows = max(1, round(columns * height / width / 2))
    small = cv2.resize(image, (columns, 2 * rows), interpolation=cv2.INTER_AREA)
    lines = []
    for above, below in zip(small[0::2], small[1::2]):
        points = (
            f"\x1b[38;2;{a[0]};{a[1]};{a[2]}m\x1b[48;2;{b[0]};{b[1]};{b[2]}m▀"
            for a, b in zip(above, below, strict=True)
        )
        lines.append("".join(points) + "\x1b[0m")
    return "\n".join(lines)


class HandDriver:
    """Drives evaluation's episodes by hand and holds them to the clock: one tick every STEP_S. When the machine is too
    slow the world waits for it, and `late_ticks` counts; the recording's own times stay even."""

    def __init__(
        self,
        profile: VehicleProfile,
        keyboard: Keyboard | None = None,
        gamepad: Gamepad | None = None,
        clock=None,
        show: Callable[[str], None] | None = None,
    ):
        """At least one of `keyboard` and `gamepad`; a gamepad that is moved goes before the keys."""
        self._keyboard, self._gamepad = keyboard, gamepad
        self._wheel = Wheel(profile)
        self._clock = clock or MonotonicClock()
        self._show = show or _write
        self._deadline_ns = 0
        self.ticks = self.late_ticks = 0

    def start(self, driven: Episode) -> None:
        """Before the first tick."""
        self._wheel.start(driven.scenario.start_speed_mps)
        driven.controller.set_manual((0.0, 0.0))
        self._deadline_ns = self._clock.now_ns()
        self._show("\x1b[2J")

    def watch(self, tick: int, driven: Episode, batch: RecordingBatch, slot: int) -> None:
        """After every step: wait for the next tick's time, then take in the hands. Raises EpisodeEnded."""
        if tick % PICTURE_EVERY == 0:
            self._draw(tick, driven, batch)
        self._deadline_ns += round(STEP_S * 1e9)
        now_ns = self._clock.now_ns()
        if now_ns > self._deadline_ns:
            self.late_ticks += 1
            self._deadline_ns = now_ns
        self._clock.sleep_until_ns(self._deadline_ns)
        self.ticks += 1
        driven.controller.set_manual(self._action(batch.last.truth.speed_mps))

    def _action(self, speed_mps: float) -> tuple[float, float]:
        keys = self._keyboard.poll() if self._keyboard else []
        for key in keys:
            if key in ("keep", "drop", "quit"):
                raise EpisodeEnded(keep=key == "keep", quit=key == "quit")
        action = self._wheel.update(keys, speed_mps, STEP_S)
        if self._gamepad is None:
            return action
        steering, acceleration = self._gamepad.poll()
        if self._gamepad.stop_pressed:
            raise EpisodeEnded(keep=False, quit=True)
        if self._keyboard is None or max(abs(steering), abs(acceleration)) > PAD_ZONE:
            self._wheel.start(speed_mps)  # the keys go on from here
            return steering, acceleration
        return action

    def _draw(self, tick: int, driven: Episode, batch: RecordingBatch) -> None:
        step = batch.last
        task = task_text(driven, tick * STEP_S)
        lines = [
            f"{driven.scenario.name}: {task}",
            f"{tick * STEP_S:5.1f} s   {step.truth.speed_mps:5.2f} m/s (keys: {self._wheel.speed_mps:.2f})   "
            f"wheel {step.action[0]:+.2f}   late ticks {self.late_ticks}",
            HELP,
        ]
        picture = as_characters(step.seen["image"]) + "\n" if "image" in step.seen else ""
        self._show("\x1b[H" + picture + "".join(f"{line}\x1b[K\n" for line in lines))


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


@contextmanager
def at_the_wheel(settings: CollectSettings) -> Iterator[HandDriver]:
    """A driver with the gamepad of the settings and, where there is a terminal, its keys. Raises CollectError,
    VehicleError, and what an unknown world raises."""
    profile = find_world(settings.world).profile
    with ExitStack() as stack:
        gamepad = None
        if settings.gamepad is not None:
            gamepad = Gamepad(settings.gamepad)
            stack.callback(gamepad.close)
        keyboard = stack.enter_context(Keyboard()) if gamepad is None or sys.stdin.isatty() else None
        yield HandDriver(profile, keyboard, gamepad)

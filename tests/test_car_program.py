"""The on-car program with a fake link and a kinematic car in virtual time: faults must leave the car standing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bridge.clock import VirtualClock
from bridge.link import Received
from bridge.messages import Mode, Stop
from car.program import CarProgram, encode_jpeg
from car.vehicle import VehicleError
from car.watchdog import Watchdog
from controller.core import Controller
from controller.policies import PursuitPolicy
from tests.kinematic_car import TICK_NS, KinematicCar, straight

ROOT = Path(__file__).resolve().parent.parent


class FakeLink:
    """A planner that answers each frame after `delay_ticks` polls, with a plan straight on."""

    def __init__(self, delay_ticks: int = 15):
        self.session_id, self.rtt_s, self.connected, self.wants_truth = "s", 0.01, True, False
        self.wants_frame, self.alive = True, True
        self.frames, self.statuses, self.stops = [], [], []
        self._delay, self._under_way, self._polls, self._seq = delay_ticks, [], 0, 0

    def poll(self) -> Received:
        self._polls += 1
        plan, stops = None, self.stops
        self.stops = []
        if self.alive and self._under_way and self._under_way[0][0] <= self._polls:
            frame = self._under_way.pop(0)[1]
            plan = straight(frame.t_capture_ns, self._seq, session_id=self.session_id, frame_seq=frame.seq)
            self._seq, self.wants_frame = self._seq + 1, True
        return Received(plan, stops)

    def offer_frame(self, frame, jpeg: bytes) -> bool:
        assert self.wants_frame and jpeg[:2] == b"\xff\xd8"
        self.frames.append(frame)
        self._under_way.append((self._polls + self._delay, frame))
        self.wants_frame = False
        return True

    def send_status(self, status) -> bool:
        self.statuses.append(status)
        return True

    def restart(self, session_id: str) -> None:
        self.session_id, self.alive, self.wants_frame, self._under_way, self._seq = session_id, True, True, [], 0


class Car(KinematicCar):
    """A kinematic car on a virtual clock, with faults on demand. `calls` keeps the order of stop and close."""

    def __init__(self, clock: VirtualClock, speed_mps: float = 0.0):
        super().__init__(speed_mps=speed_mps)
        self.clock, self.calls, self.frozen, self.broken, self.last_throttle = clock, [], None, None, 0.0
        self.now_ns = clock.now_ns()

    def read(self):
        if self.broken is not None:
            raise self.broken
        return self.frozen or super().read()

    def actuate(self, steering, throttle, brake):
        self.last_throttle = throttle
        super().actuate(steering, throttle, brake)

    def stop(self):
        self.last_throttle = 0.0
        self.calls.append("stop")

    def close(self):
        self.calls.append("close")


def program(**options):
    clock = VirtualClock(10**9)
    car, link = Car(clock), FakeLink()
    controller = Controller(car.profile, PursuitPolicy(car.profile))
    controls = []
    made = CarProgram(
        car, link, controller, clock, on_tick=lambda now_ns, sensors, control: controls.append(control), **options
    )
    return made, car, link, clock, controls


def run(made: CarProgram, clock: VirtualClock, seconds: float) -> None:
    """Single steps at the control rate, without the braking at the end that `run` does."""
    for _ in range(round(seconds * 30)):
        made.step(clock.now_ns())
        clock.sleep_until_ns(clock.now_ns() + TICK_NS)


def test_drives_sends_frames_on_credit_only_and_reports():
    made, car, link, clock, controls = program()
    run(made, clock, 6.0)
    assert car.v == pytest.approx(1.2, abs=0.1) and controls[-1].mode is Mode.FRESH
    assert len(link.frames) == made.frames_sent == 12, "one frame in flight, the newest"
    assert [f.seq for f in link.frames] == list(range(12))
    assert 11 <= len(link.statuses) <= 13 and link.statuses[-1].speed_mps == pytest.approx(car.v, abs=0.1)
    assert link.frames[-1].doing.intent == "follow_lane" and link.frames[-1].truth is None


def test_planner_killed_at_speed_and_back():
    made, car, link, clock, controls = program()
    run(made, clock, 5.0)
    link.alive = False
    run(made, clock, 2.0 + 1.5)
    assert car.v < 0.05 and controls[-1].mode is Mode.STOP
    link.restart("s2")
    run(made, clock, 3.0)
    assert car.v > 1.0 and controls[-1].mode is Mode.FRESH


def test_stop_works_with_the_planner_hung():
    made, car, link, clock, controls = program()
    run(made, clock, 4.0)
    link.alive, link.stops = False, [Stop(car_id="c", reason="operator")]
    run(made, clock, 1.5)
    assert car.v < 0.05 and controls[-1].mode is Mode.ESTOP


def test_stop_past_the_planner():
    class Direct:
        pending: list = []

        def poll(self):
            taken, self.pending = self.pending, []
            return taken

    direct = Direct()
    made, car, link, clock, controls = program(stops=direct)
    run(made, clock, 4.0)
    direct.pending = [Stop(car_id="c")]
    run(made, clock, 1.5)
    assert car.v < 0.05 and controls[-1].mode is Mode.ESTOP


def test_a_silent_camera_stops_the_car():
    made, car, link, clock, controls = program()
    run(made, clock, 4.0)
    car.frozen = car.read()
    sent = len(link.frames)
    run(made, clock, 0.5)
    assert controls[-1].mode is Mode.STOP and controls[-1].brake == 1.0
    run(made, clock, 1.0)
    assert car.v < 0.05 and len(link.frames) <= sent + 1, "no plans are asked for old pictures"


def test_a_vehicle_that_cannot_be_read_stops_the_car():
    made, car, link, clock, controls = program()
    run(made, clock, 4.0)
    car.broken = VehicleError("cable")
    run(made, clock, 1.5)
    assert car.v < 0.05 and made.read_failures == 45
    never, car, *_ = program()
    car.broken = VehicleError("cable")
    never.step(10**9)
    assert car.calls == ["stop"]


def test_an_exception_stops_the_car_and_is_passed_on():
    made, car, link, clock, controls = program()
    run(made, clock, 4.0)
    car.broken = RuntimeError("boom")
    with pytest.raises(RuntimeError, match="boom"):
        made.run(10.0)
    assert car.calls[-1] == "stop" and car.last_throttle == 0.0


def test_the_end_of_a_drive_brakes_to_standstill():
    made, car, link, clock, controls = program()
    made.run(4.0)
    assert car.v < 0.05 and controls[-1].mode is Mode.ESTOP and car.calls == ["stop"]
    assert max(c.throttle for c in controls) > 0.5
    made, car, link, clock, controls = program()
    made.quit()
    made.run()
    assert controls == []


def test_driving_by_hand():
    made, car, link, clock, controls = program(hand=lambda: (0.2, 0.4))
    run(made, clock, 1.0)
    assert controls[-1].mode is Mode.MANUAL and controls[-1].steering == pytest.approx(0.2)


def test_truth_travels_only_when_asked_for():
    made, car, link, clock, _ = program()
    car.truth = lambda: {"t_s": 1.0}
    run(made, clock, 1.0)
    assert all(f.truth is None for f in link.frames)
    link.wants_truth = True
    run(made, clock, 1.0)
    assert link.frames[-1].truth == {"t_s": 1.0}


def test_watchdog_bites_once_a_fast_and_survives_a_failing_cut():
    clock, cuts = VirtualClock(), []

    def cut():
        cuts.append(clock.now_ns())
        if len(cuts) == 1:
            raise OSError("bus busy")

    dog = Watchdog(cut, 0.25, clock)
    assert not dog.check()
    clock.advance_s(0.2)
    dog.feed()
    clock.advance_s(0.2)
    assert not dog.check()
    clock.advance_s(0.1)
    assert dog.check() and dog.check() and len(cuts) == 2
    assert (dog.bites, dog.failures) == (1, 1)
    dog.feed()
    assert not dog.check() and len(cuts) == 2
    with pytest.raises(ValueError, match="timeout_s"):
        Watchdog(cut, 0.0)


def test_watchdog_thread_cuts_while_the_program_hangs():
    import threading

    bitten = threading.Event()
    dog = Watchdog(bitten.set, 0.02)
    dog.start()
    assert bitten.wait(5.0)
    dog.close()


def test_jpeg_keeps_colours():
    import cv2
    import numpy as np

    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    back = cv2.imdecode(np.frombuffer(encode_jpeg(red), np.uint8), cv2.IMREAD_COLOR)
    assert back[16, 16, 2] > 200 > 60 > back[16, 16, 0]


def test_the_car_runs_where_torch_cannot_be_imported():
    code = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "gymnasium", "numba", "onnx", "scipy"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Block())
import bridge.link, bridge.vehicle
import controller.core, controller.onnx_policy, controller.loop
import car.program, car.donkey, car.f1tenth, car.gamepad, car.settings
print("drives")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "drives", done.stderr


def test_an_uncertified_policy_is_told_in_every_status():
    made, car, link, clock, controls = program(uncertified=True)
    run(made, clock, 2.0)
    assert len(link.statuses) >= 3 and all(status.uncertified for status in link.statuses)
    made, car, link, clock, controls = program()
    run(made, clock, 1.0)
    assert link.statuses and not any(status.uncertified for status in link.statuses)

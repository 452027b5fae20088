"""Not a pytest file: CI's proof that the car's environment, which has no torch, drives against a remote planner.

    python tests/car_only_drive.py --car-python path/to/car/venv/bin/python [--controller flow]

This process serves a planner; the car process runs in the other environment: it imports what a car may import, checks
that torch is not there, and drives a kinematic stand-in for hardware with the real program, link and policy.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SECONDS = 6.0

CAR = """
import importlib.util, math, sys, time
assert importlib.util.find_spec("torch") is None, "torch can be imported in the car's environment"
import numpy as np
import bridge, car, controller
from bridge.messages import EgoState
from bridge.vehicle import Sensors
from car.admission import admit
from car.program import drive
from car.settings import DonkeyCarSettings

class StandIn:
    '''A kinematic car on the wall clock: enough of a vehicle to close the loop.'''

    def __init__(self, profile):
        self.profile, self.v, self.driven, self.yaw = profile, 0.0, 0.0, 0.0
        self.action, self.t_ns = (0.0, 0.0), time.monotonic_ns()

    def read(self):
        now = time.monotonic_ns()
        dt, self.t_ns = (now - self.t_ns) * 1e-9, now
        p, (steering, a) = self.profile, self.action
        gain = p.max_accel_mps2 if a > 0 else p.max_brake_mps2
        self.v = min(p.max_speed_mps, max(0.0, self.v + a * gain * dt))
        rate = self.v * math.tan(steering * p.steering_limit_rad) / p.wheelbase_m
        self.yaw, self.driven = self.yaw + rate * dt, self.driven + self.v * dt
        ego = EgoState(speed_mps=self.v, yaw_rate_radps=rate, steering=steering)
        return Sensors(np.full((120, 160, 3), 90, np.uint8), ego, now)

    def actuate(self, steering, throttle, brake):
        self.action = (steering, throttle - brake)

    def stop(self):
        self.action = (0.0, -1.0)

    close = stop

endpoint, controller_name, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
settings = DonkeyCarSettings(car_id="bare")
vehicle = StandIn(settings.profile)
# No hardware turns here, so the bundle may be one whose certificate is still to be made.
admission = admit(controller_name, settings.profile, uncertified=True)
print(admission.notice)
program = drive(settings, endpoint, admission=admission, seconds=seconds, vehicle=vehicle)
assert "torch" not in sys.modules
stats = program.loop.stats()
print(f"car without torch: {vehicle.driven:.2f} m driven, {program.frames_sent} frames sent, {stats.ticks} ticks, "
      f"work p99 {1000 * stats.work_p99_s:.1f} ms, standing at {vehicle.v:.2f} m/s")
sys.exit(0 if vehicle.driven > 1.0 and program.frames_sent > 3 and vehicle.v < 0.1 else "the car did not drive")
"""


class StraightOn:
    """A planner backend that always says: straight on at 1 m/s."""

    name, rate_hz, wants_truth = "straight-on", 4.0, False

    def plan(self, requests: Sequence) -> list:
        from bridge.messages import Intent, Waypoint
        from bridge.planning import PlanAnswer

        path = tuple(Waypoint(x_m=0.5 * (k + 1), y_m=0.0, v_mps=1.0) for k in range(8))
        return [PlanAnswer(Intent.FOLLOW_LANE, path, "Straight on.") for _ in requests]


def main() -> int:
    """Serve, drive, and return the car's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--car-python", required=True)
    parser.add_argument("--controller", default="flow")
    options = parser.parse_args()
    from bridge.link import PlannerLink
    from controller.policies import FLOW_BUNDLE
    from planner.server import PlannerServer

    controller = options.controller
    if controller == "flow" and not FLOW_BUNDLE.is_file():
        print(f"{FLOW_BUNDLE.name} is not in models/ yet: driving with pursuit")
        controller = "pursuit"
    link = PlannerLink()
    endpoint = link.bind("tcp://127.0.0.1:0")
    # Another folder, so that the car's packages come from its own environment and not from this source tree.
    with PlannerServer(StraightOn(), link), tempfile.TemporaryDirectory() as elsewhere:
        script = Path(elsewhere) / "bare_drive.py"
        script.write_text(CAR, encoding="utf-8")
        command = [str(Path(options.car_python).absolute()), str(script), endpoint, controller, str(SECONDS)]
        return subprocess.run(command, cwd=elsewhere, timeout=180).returncode


if __name__ == "__main__":
    sys.exit(main())

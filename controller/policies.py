"""The policies by name, and pure pursuit as one of them. Knows no supervisor and not where plans come from."""

from __future__ import annotations

from pathlib import Path as FilePath

import numpy as np

from bridge.messages import VehicleProfile
from controller.observation import Observation
from controller.policy import ActionChunk, Policy
from controller.pose_ring import arc
from controller.settings import TrackerSettings
from controller.tracker import Path, Tracker, shifted

FLOW_BUNDLE = FilePath(__file__).resolve().parent.parent / "models" / "controller-flow.onnx"


class PursuitPolicy:
    """Baseline and fallback: pure pursuit + speed PI on the plan's path, aimed at now + actuator delay. Blind."""

    name = "pursuit"
    learned = False
    needs_image = False

    def __init__(self, profile: VehicleProfile, settings: TrackerSettings | None = None, rate_hz: float = 30.0):
        self.profile, self.rate_hz = profile, rate_hz
        self._tracker = Tracker(profile, settings or TrackerSettings(), 1.0 / rate_hz)

    def act(self, observation: Observation) -> ActionChunk:
        """A chunk of one action. Follows `path_m` however old it is (what to do with old plans is the supervisor's)."""
        speed_mps = float(observation.ego[0]) * self.profile.reference_speed_mps
        if observation.path_m is None:
            action = (0.0, -self._tracker.settings.hold_brake)
        else:
            moved = arc(speed_mps, float(observation.ego[1]), self.profile.actuator_delay_s)
            path = Path(shifted(observation.path_m, *moved))
            action = (self._tracker.steering(path, speed_mps), self._tracker.acceleration(path, speed_mps))
        return ActionChunk(np.array([action], dtype=np.float32), self.rate_hz)

    def wanted_speed(self, path_m: np.ndarray, speed_mps: float) -> tuple[float, float]:
        """Speed that the path wants here [m/s], and its acceleration [m/s^2]."""
        return self._tracker.wanted_speed(Path(path_m), speed_mps)

    def reset(self) -> None:
        """Forget the speed loop's integral."""
        self._tracker.reset()


def load_policy(
    name_or_path: str | FilePath,
    profile: VehicleProfile,
    tracker: TrackerSettings | None = None,
    *,
    simulated: bool = False,
) -> Policy:
    """`pursuit`, `flow` (the bundle that ships) or the path of an ONNX bundle. `simulated`: see `OnnxPolicy`. Raises
    BundleError or ValueError."""
    path = bundle_path(name_or_path)
    if path is None:
        return PursuitPolicy(profile, tracker)
    from controller.onnx_policy import OnnxPolicy  # onnxruntime takes a while to import: only where it is used

    return OnnxPolicy(path, profile, simulated=simulated)


def bundle_path(name_or_path: str | FilePath) -> FilePath | None:
    """The file of a policy's bundle, None for pursuit, which has none. Raises ValueError for an unknown name."""
    name = str(name_or_path)
    if name == "pursuit":
        return None
    path = FLOW_BUNDLE if name == "flow" else FilePath(name)
    if name != "flow" and path.suffix != ".onnx":
        raise ValueError(f"unknown controller {name!r}: use 'pursuit', 'flow' or the path of an .onnx bundle")
    return path

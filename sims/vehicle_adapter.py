"""Makes a simulated world drive like a car: sensors with stamps, pedals, a clock that does not wait for anybody.

Knows any world that keeps the Gymnasium contract of `sims` (observation dict, `info["truth"]`); nothing of planners and
controllers. On a wall clock the world moves on however late the program is; on a virtual clock it is in lock-step.
"""

from __future__ import annotations

from collections.abc import Callable

from bridge.clock import NS_PER_S, Clock, MonotonicClock
from bridge.messages import EgoState, VehicleProfile
from bridge.vehicle import Sensors
from sims.truth import Truth

CATCH_UP_LIMIT = 30  # steps; after a longer standstill of the program (a debugger, a suspended machine) time is skipped


class WorldVehicle:
    """A `car.vehicle.Vehicle` in a world. `env.step([steering, acceleration])` advances `step_s`; `observation` and
    `truth` are those of the start. `on_step(truth)` is called after each step of the world, for a judge."""

    def __init__(
        self,
        env,
        observation: dict,
        truth: Truth,
        profile: VehicleProfile,
        clock: Clock | None = None,
        *,
        step_s: float = 1.0 / 30.0,
        on_step: Callable[[Truth], None] | None = None,
    ):
        self.profile, self._env = profile, env
        self._observation, self._truth = observation, truth
        self._clock = clock or MonotonicClock()
        self._step_ns = round(step_s * NS_PER_S)
        self._world_ns = self._clock.now_ns()
        self._action = (0.0, 0.0)
        self._on_step = on_step

    def read(self) -> Sensors:
        """Advance the world to now under the last action, and read its sensors. The stamp is the world's own time."""
        behind = (self._clock.now_ns() - self._world_ns) // self._step_ns
        if behind > CATCH_UP_LIMIT:
            self._world_ns += (behind - CATCH_UP_LIMIT) * self._step_ns
            behind = CATCH_UP_LIMIT
        for left in range(behind, 0, -1):
            self._advance(look=left == 1)
        seen = self._observation
        ego = EgoState(
            speed_mps=float(seen["speed"].item()),
            yaw_rate_radps=float(seen["yaw_rate"].item()),
            steering=min(1.0, max(-1.0, float(seen["steering"].item()))),
        )
        return Sensors(seen.get("image"), ego, self._world_ns)

    def actuate(self, steering: float, throttle: float, brake: float) -> None:
        """Hold this action until the next one."""
        self._action = (steering, throttle - brake)

    def stop(self) -> None:
        """No throttle."""
        self._action = (self._action[0], min(self._action[1], 0.0))

    def close(self) -> None:
        """Stop. The world belongs to its maker, who closes it."""
        self.stop()

    def truth(self) -> dict:
        """The world at the stamp of the last reading, as it travels in `Frame.truth`."""
        return self._truth.to_dict()

    def _advance(self, look: bool) -> None:
        """One step; only the last of several is looked at, so that slow pictures do not make the world ever later."""
        step = self._env.step if look else getattr(self._env, "advance", self._env.step)
        self._observation, _, _, _, info = step(list(self._action))
        self._truth = info["truth"]
        self._world_ns += self._step_ns
        if self._on_step is not None:
            self._on_step(self._truth)

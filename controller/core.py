"""The controller: plans and sensors in, one command for the actuators out, once per tick.

Pure and in virtual time: every call is told what time it is, nothing here waits, reads a clock, or knows of sockets and
hardware. `loop.py` gives it the beat; `car/program.py` and the evaluation call it.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from bridge.messages import Doing, EgoState, Intent, Mode, Plan, Status, VehicleProfile
from bridge.vehicle import Sensors, pedals_from_acceleration
from controller.chunk import ChunkPlayer
from controller.loop import LoopStats
from controller.observation import Observation, image_objection, make_observation
from controller.policies import PursuitPolicy
from controller.policy import Policy
from controller.pose_ring import IDENTITY, PoseRing
from controller.reprojection import absurdity, plan_array, reproject
from controller.settings import ControllerSettings
from controller.supervisor import (
    FOLLOWING,
    Event,
    EventId,
    PartingWatch,
    Situation,
    Supervisor,
    rollout,
)
from controller.tracker import Path


@dataclass(frozen=True)
class Control:
    """What a tick decides. `steering` and `acceleration` in [-1, 1], `throttle` and `brake` in [0, 1]; `driver` is the
    policy that it comes from; `events` are those since the tick before."""

    steering: float
    acceleration: float
    throttle: float
    brake: float
    mode: Mode
    plan_age_s: float | None
    intent: Intent
    driver: str
    events: tuple[Event, ...] = ()


class Controller:
    """System 1. `session_id` None takes plans of any session (evaluation); `start_session` binds it to one."""

    def __init__(self, profile: VehicleProfile, policy: Policy, settings: ControllerSettings | None = None):
        self.profile, self.policy = profile, policy
        given = settings or ControllerSettings()
        self.settings = given.for_car(profile)
        tracker, limits = self.settings.tracker, self.settings.supervisor
        self._period_s = 1.0 / self.settings.rate_hz
        self._fallback = PursuitPolicy(profile, given.tracker, self.settings.rate_hz)
        self._player = ChunkPlayer(policy, self.settings.requery_ticks, self.settings.blend)
        self._supervisor = Supervisor(profile, limits, tracker.hold_brake, tracker.standstill_mps)
        self._watch = PartingWatch(limits, profile.wheelbase_m)
        self.reset()

    def reset(self) -> None:
        """As before the first tick."""
        self.ring = PoseRing(self.settings.ring_s, self.settings.ring_gap_s)
        self.session_id: str | None = None
        self.event_counts: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self._plan: Plan | None = None
        self._path: np.ndarray | None = None
        self._plan_lost = False
        self._accepted_ns = 0
        self._last_seq = -1
        self._intent = Intent.FOLLOW_LANE
        self._intent_since_ns: int | None = None
        self._stopped_ns: int | None = None
        self._known_commands: set[str] = set()
        self._manual: tuple[float, float] | None = None
        self._pending: list[Event] = []
        self._overspeeding = False
        for part in (self._fallback, self._player, self._supervisor, self._watch):
            part.reset()

    def start_session(self, session_id: str) -> None:
        """Take plans of this session only, counted from 0 on. The plan in force stays in force."""
        self.session_id, self._last_seq = session_id, -1

    # ---- what comes in -------------------------------------------------------------------------------------------

    def on_plan(self, plan: Plan, now_ns: int) -> str | None:
        """Take in a plan. Returns None, or why it was rejected (also counted in `rejected`)."""
        reason = self._reject_reason(plan, now_ns)
        if reason is not None:
            key, _, detail = reason.partition(":")
            self.rejected[key] += 1
            self._tell(EventId.PLAN_REJECTED, f"{key}{':' if detail else ''}{detail}")
            return reason
        self._plan, self._path = plan, plan_array(plan)
        self._accepted_ns, self._last_seq, self._plan_lost = now_ns, plan.seq, False
        if plan.intent is not self._intent or self._intent_since_ns is None:
            self._intent, self._intent_since_ns = plan.intent, now_ns
        self._note_command(plan)
        return None

    def on_stop(self, reason: str, now_ns: int) -> None:
        """Stop now and stay so, until `release_stop` or a plan for a command that is newer than this stop."""
        if self._stopped_ns is None:
            self._tell(EventId.ESTOP, reason)
        self._stopped_ns = now_ns

    def release_stop(self) -> None:
        """Let the car drive again after `on_stop`."""
        if self._stopped_ns is not None:
            self._stopped_ns = None
            self._tell(EventId.ESTOP_RELEASED)

    def set_manual(self, action: tuple[float, float] | None) -> None:
        """Drive by hand with [steering, acceleration]; None hands back to the policy."""
        self._manual = action

    def sense(self, now_ns: int, sensors: Sensors) -> bool:
        """Take in a reading; whether it can be used. `tick` does this itself; only who delivers a plan for a frame of
        this very instant (zero delay in lock-step) calls it before `on_plan`."""
        ego = sensors.ego
        if not (math.isfinite(ego.speed_mps) and math.isfinite(ego.yaw_rate_radps)):
            self._tell(EventId.SENSORS_INVALID, "speed or yaw rate is not finite")
            return False
        self.ring.push(sensors.t_capture_ns, ego.speed_mps, ego.yaw_rate_radps)
        age_s = (now_ns - sensors.t_capture_ns) * 1e-9
        if age_s > self.settings.supervisor.sensor_timeout_s:
            self._tell(EventId.SENSORS_STALE, f"reading is {age_s:.2f} s old")
            return False
        if self.policy.needs_image and (objection := image_objection(sensors.image)):
            self._tell(EventId.SENSORS_INVALID, objection)
            return False
        return True

    # ---- what goes out -------------------------------------------------------------------------------------------

    def tick(self, now_ns: int, sensors: Sensors) -> Control:
        """One control period. Never raises for what sensors, plans or policy contain."""
        sensors_ok = self.sense(now_ns, sensors)
        ego = sensors.ego if sensors_ok else EgoState(steering=self._supervisor.last_steering)
        # Unknown speed: brake as from the highest, so that the car is never believed to stand when it does not.
        speed_mps = ego.speed_mps if sensors_ok else self.profile.max_speed_mps
        path_m = self._path_now(now_ns)
        situation = self._situation(now_ns, sensors_ok)
        before = self._supervisor.mode
        mode = self._supervisor.enter(situation, speed_mps)
        if mode is not before:
            self._tell(EventId.MODE_CHANGED, f"{before} -> {mode}")
        steering, acceleration, driver = self._decide(now_ns, sensors, ego, path_m, mode, sensors_ok)
        acceleration = min(acceleration, self._supervisor.brake_cap(situation, speed_mps))
        steering, acceleration = self._supervisor.limit(steering, acceleration, self._period_s)
        throttle, brake = pedals_from_acceleration(acceleration)
        age_s = situation.plan_age_s
        return Control(
            steering=steering,
            acceleration=acceleration,
            throttle=throttle,
            brake=brake,
            mode=mode,
            plan_age_s=age_s if age_s is not None and math.isfinite(age_s) else None,
            intent=self._intent,
            driver=driver,
            events=self._drain_events(),
        )

    def doing(self, now_ns: int) -> Doing:
        """The intent being followed and for how long, as it travels in `Frame`."""
        since_ns = now_ns if self._intent_since_ns is None else self._intent_since_ns
        return Doing(intent=self._intent, since_s=max(0.0, (now_ns - since_ns) * 1e-9))

    @property
    def mode(self) -> Mode:
        """The mode of the last tick."""
        return self._supervisor.mode

    @property
    def plan(self) -> Plan | None:
        """The last plan taken in."""
        return self._plan

    def status(
        self, now_ns: int, loop: LoopStats, session_id: str, speed_mps: float, link_rtt_s: float | None
    ) -> Status:
        """A snapshot of everything that `Status` tells."""
        return Status(
            session_id=session_id,
            mode=self.mode,
            plan_age_s=self.plan_age_s(now_ns),
            loop_rate_hz=loop.rate_hz,
            worst_tick_s=loop.worst_tick_s,
            starved_ticks=loop.starved_ticks,
            speed_mps=speed_mps if math.isfinite(speed_mps) else 0.0,
            link_rtt_s=link_rtt_s,
        )

    def plan_age_s(self, now_ns: int) -> float | None:
        """Time since the capture of the frame that the plan in force was made from; None without a plan."""
        return None if self._plan is None else max(0.0, (now_ns - self._plan.t_capture_ns) * 1e-9)

    # ---- inside --------------------------------------------------------------------------------------------------

    def _reject_reason(self, plan: Plan, now_ns: int) -> str | None:
        if self.session_id is not None and plan.session_id != self.session_id:
            return "wrong_session"
        if plan.seq <= self._last_seq:
            return "old_seq"
        if plan.t_capture_ns > now_ns:
            return "from_the_future"
        if now_ns - plan.t_capture_ns > plan.ttl_s * 1e9:
            return "out_of_date"
        if self._plan is not None and not self._plan_lost and plan.t_capture_ns < self._plan.t_capture_ns:
            return "older_frame"
        if not self.ring.covers(plan.t_capture_ns):
            return "unknown_capture"
        absurd = absurdity(plan, self.profile, self.settings.plan_reach_wheelbases * self.profile.wheelbase_m)
        return None if absurd is None else f"absurd:{absurd}"

    def _note_command(self, plan: Plan) -> None:
        """A stop holds until the operator says something new: a command id that was never seen before the stop, in a
        plan made from a frame taken after it. A plan still under way when the stop came cannot undo it."""
        if plan.verdict is None:
            return
        new = plan.verdict.command_id not in self._known_commands
        if self._stopped_ns is not None and new and plan.t_capture_ns > self._stopped_ns:
            self.release_stop()
        self._known_commands.add(plan.verdict.command_id)

    def _path_now(self, now_ns: int) -> np.ndarray | None:
        if self._plan is None or self._path is None or self._plan_lost:
            return None
        try:
            moved = self.ring.ego_now_from_ego_at(self._plan.t_capture_ns, now_ns)
            if not self.settings.reprojection:
                moved = IDENTITY
        except LookupError as error:
            self._plan_lost = True
            self._tell(EventId.PLAN_LOST, str(error))
            return None
        return reproject(self._path, moved)

    def _situation(self, now_ns: int, sensors_ok: bool) -> Situation:
        age_s = self.plan_age_s(now_ns)
        return Situation(
            plan_age_s=math.inf if self._plan_lost else age_s,
            ttl_s=self._plan.ttl_s if self._plan is not None else 1.0,
            sensors_ok=sensors_ok,
            manual=self._manual is not None,
            estop=self._stopped_ns is not None,
        )

    def _decide(
        self, now_ns: int, sensors: Sensors, ego: EgoState, path_m: np.ndarray | None, mode: Mode, sensors_ok: bool
    ) -> tuple[float, float, str]:
        """Steering, acceleration and who says so, before limits."""
        if mode is Mode.MANUAL and self._manual is not None:
            if all(math.isfinite(v) for v in self._manual):
                return (*self._manual, "manual")
            return self._supervisor.last_steering, -1.0, "none"
        if mode is Mode.IDLE:
            return 0.0, -1.0, "none"
        if not sensors_ok:
            return self._supervisor.last_steering, -1.0, "none"
        following = mode in FOLLOWING
        image = sensors.image if self.policy.needs_image else None
        age_s = self.plan_age_s(now_ns) or 0.0
        observation = make_observation(image, ego, self.profile, path_m, path_valid=following, plan_age_s=age_s)
        learned = self._ask(now_ns, observation)
        if not self.policy.learned and learned is not None:
            return float(learned[0]), float(learned[1]), self.policy.name
        if learned is None or (following and path_m is not None and self._parted(path_m, ego)):
            steering, acceleration = self._fallback.act(observation).actions[0]
            return float(steering), float(acceleration), self._fallback.name
        steering, acceleration = float(learned[0]), float(learned[1])
        if following and path_m is not None and self._too_fast(path_m, ego):
            acceleration = min(acceleration, float(self._fallback.act(observation).actions[0][1]))
        else:
            self._fallback.reset()  # its speed integral must not wind up while it does not drive
        return steering, acceleration, self.policy.name

    def _ask(self, now_ns: int, observation: Observation) -> np.ndarray | None:
        """The policy's action, None where it cannot be used."""
        try:
            action = self._player.step(now_ns, observation)
        except Exception as error:  # whatever a policy does, the car must go on being driven
            self._tell(EventId.POLICY_FAILED, f"{type(error).__name__}: {error}")
            return None
        if not np.isfinite(action).all():
            self._tell(EventId.POLICY_NOT_FINITE, f"{self.policy.name} gave {action}")
            self._player.reset()
            return None
        return action

    def _parted(self, path_m: np.ndarray, ego: EgoState) -> bool:
        chunk = self._player.chunk
        if chunk is None or len(chunk.actions) < 2 or not np.isfinite(chunk.actions).all():
            return self._watch.parted
        horizon_s = self.settings.supervisor.corridor_horizon_s
        ahead = rollout(self.profile, chunk.actions, chunk.rate_hz, ego.speed_mps, horizon_s)[4::5]
        path = Path(path_m)
        stations, distances = path.project(ahead)
        inside = stations <= path.length_m
        changed = self._watch.update(float(distances[inside][-1]) if inside.any() else None)
        if changed is not None:
            self._tell(changed, f"{distances[-1]:.2f} m from the plan in {horizon_s:.1f} s")
        return self._watch.parted

    def _too_fast(self, path_m: np.ndarray, ego: EgoState) -> bool:
        """A learned policy may be slower than the plan (it brakes for what it sees), not much faster; where the plan
        says stand, the car stands."""
        limits = self.settings.supervisor
        wanted_mps, _ = self._fallback.wanted_speed(path_m, ego.speed_mps)
        standing = wanted_mps < self.settings.tracker.standstill_mps
        over = standing or ego.speed_mps > wanted_mps * (1.0 + limits.overspeed_fraction) + limits.overspeed_mps
        if over and not standing and not self._overspeeding:
            self._tell(EventId.OVERSPEED, f"{ego.speed_mps:.2f} m/s where the plan says {wanted_mps:.2f}")
        self._overspeeding = over and not standing
        return over

    def _tell(self, event_id: EventId, detail: str = "") -> None:
        self.event_counts[event_id] += 1
        if len(self._pending) < 32:
            self._pending.append(Event(event_id, detail))

    def _drain_events(self) -> tuple[Event, ...]:
        events, self._pending = tuple(self._pending), []
        return events

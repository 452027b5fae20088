"""The messages that planner, car and operator exchange (DESIGN 3), and the frames and units they use.

All lengths are metres, speeds m/s, angles rad, durations s; stamps are ns of the sender's own monotonic clock and are
only ever echoed, never compared across machines. The ego frame is x forward, y left, origin at the rear axle on the
ground. Steering is in [-1, 1], positive left. Every message is frozen, refuses unknown keys and non-finite numbers.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

PROTOCOL_VERSION = 1
EVERY_CAR = "*"  # as car_id of a Stop: every car; of a Command: the only car there is

Unit = Annotated[float, Field(ge=-1.0, le=1.0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=0, le=2**62)]
Name = Annotated[str, Field(min_length=1, max_length=64)]
Text = Annotated[str, Field(max_length=2000)]


class Part(BaseModel):
    """Base of everything that travels: immutable, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Intent(StrEnum):
    """What the car is asked to be doing."""

    FOLLOW_LANE = "follow_lane"
    CHANGE_LEFT = "change_left"
    CHANGE_RIGHT = "change_right"
    OVERTAKE_LEFT = "overtake_left"
    OVERTAKE_RIGHT = "overtake_right"
    FOLLOW_VEHICLE = "follow_vehicle"
    KEEP_LEFT = "keep_left"
    KEEP_RIGHT = "keep_right"
    AVOID_OBSTACLE = "avoid_obstacle"
    PULL_OVER = "pull_over"
    STOP = "stop"


class Verdict(StrEnum):
    """What the planner says of the command in force."""

    ACCEPTED = "accepted"
    WAITING = "waiting"
    REFUSED = "refused"
    DONE = "done"


class Mode(StrEnum):
    """State of the supervisor's ladder on the car."""

    IDLE = "idle"
    MANUAL = "manual"
    FRESH = "fresh"
    HOLD = "hold"
    SLOW = "slow"
    STOP = "stop"
    ESTOP = "estop"


class CameraModel(Part):
    """One forward camera. `lens`: "pinhole" (r = f tan a) or "fisheye" (equidistant, r = f a)."""

    width_px: Annotated[int, Field(ge=16, le=4096)] = 160
    height_px: Annotated[int, Field(ge=16, le=4096)] = 120
    hfov_rad: Annotated[float, Field(gt=0.2, lt=3.2)] = 2.0
    lens: Literal["pinhole", "fisheye"] = "fisheye"
    x_m: float = 0.20
    y_m: float = 0.0
    z_m: Positive = 0.17
    pitch_rad: Annotated[float, Field(ge=-1.0, le=1.5)] = 0.25  # positive looks down


class VehicleProfile(Part):
    """A car, as far as planner and policies need to know it. Defaults: a 1:10 class Donkey."""

    name: Name = "donkey"
    wheelbase_m: Positive = 0.25
    width_m: Positive = 0.20
    length_m: Positive = 0.38
    rear_overhang_m: NonNegative = 0.06
    steering_limit_rad: Annotated[float, Field(gt=0.0, lt=1.5)] = 0.45
    max_speed_mps: Positive = 3.0
    reference_speed_mps: Positive = 1.5
    max_accel_mps2: Positive = 2.0
    max_brake_mps2: Positive = 4.0
    max_lateral_mps2: Positive = 2.0  # planned in bends
    actuator_delay_s: NonNegative = 0.05
    camera: CameraModel = CameraModel()


class EgoState(Part):
    """What the car measures of itself."""

    speed_mps: float = 0.0
    yaw_rate_radps: float = 0.0
    steering: Unit = 0.0


class Doing(Part):
    """The intent that the car is following, and for how long already."""

    intent: Intent = Intent.FOLLOW_LANE
    since_s: NonNegative = 0.0


class Waypoint(Part):
    """A point of the path in the ego frame at capture, and the speed wanted there."""

    x_m: float
    y_m: float
    v_mps: NonNegative


class CommandVerdict(Part):
    """The planner's word on the command in force."""

    command_id: Name
    verdict: Verdict
    reason: Text = ""


class Timings(Part):
    """Durations on the planner's own clock."""

    queue_s: NonNegative = 0.0
    model_s: NonNegative = 0.0
    total_s: NonNegative = 0.0


class Hello(Part):
    """car -> planner, first and after every reconnect."""

    type: Literal["hello"] = "hello"
    version: int = PROTOCOL_VERSION
    car_id: Name
    session_id: Name
    profile: VehicleProfile = VehicleProfile()


class Welcome(Part):
    """planner -> car: the session stands. `wants_truth` is set by the expert and by recorders only."""

    type: Literal["welcome"] = "welcome"
    version: int = PROTOCOL_VERSION
    session_id: Name
    model: Name
    rate_hz: Positive
    wants_truth: bool = False


class Ready(Part):
    """planner -> car: credit for exactly one frame, the freshest."""

    type: Literal["ready"] = "ready"
    session_id: Name


class Frame(Part):
    """car -> planner. The JPEG travels as a separate part of the ZeroMQ message."""

    type: Literal["frame"] = "frame"
    session_id: Name
    seq: Count
    t_capture_ns: Count
    ego: EgoState = EgoState()
    doing: Doing = Doing()
    truth: dict | None = None


class Plan(Part):
    """planner -> car. `t_capture_ns` and `frame_seq` echo the frame that it was made from."""

    type: Literal["plan"] = "plan"
    session_id: Name
    seq: Count
    frame_seq: Count
    t_capture_ns: Count
    ttl_s: Annotated[float, Field(gt=0.0, le=10.0)] = 1.5
    intent: Intent
    waypoints: Annotated[tuple[Waypoint, ...], Field(min_length=2, max_length=64)]
    reasoning: Text = ""
    verdict: CommandVerdict | None = None
    model: Name = "unknown"
    timings: Timings = Timings()


class Command(Part):
    """operator -> planner: an instruction in words for one car."""

    type: Literal["command"] = "command"
    id: Name
    car_id: Name
    text: Annotated[str, Field(min_length=1, max_length=500)]


class CommandAck(Part):
    """planner -> operator: the command has been taken in (this says nothing yet of whether it is obeyed)."""

    type: Literal["command_ack"] = "command_ack"
    id: Name
    accepted: bool
    reason: Text = ""


class CommandStatus(Part):
    """planner -> operator: a new verdict on the operator's command, passed on as it comes."""

    type: Literal["command_status"] = "command_status"
    car_id: Name
    verdict: CommandVerdict


class Stop(Part):
    """operator -> planner -> car, and operator -> car: stop now. Passes every queue and every model.
    `car_id` may be EVERY_CAR."""

    type: Literal["stop"] = "stop"
    car_id: Name
    reason: Text = ""


class StopAck(Part):
    """planner or car -> operator: what became of a stop. `accepted` means handed on to the car (by the planner), or
    taken in (by the car)."""

    type: Literal["stop_ack"] = "stop_ack"
    car_id: Name
    accepted: bool
    reason: Text = ""


class Ping(Part):
    """car -> planner, twice a second: the car lives. Answered by the I/O thread, whatever the model does."""

    type: Literal["ping"] = "ping"
    session_id: Name
    t_ns: Count


class Pong(Part):
    """planner -> car: echo of a Ping; gives the link's round trip."""

    type: Literal["pong"] = "pong"
    session_id: Name
    t_ns: Count


class Status(Part):
    """car -> planner -> cockpit. `uncertified`: the policy that drives has not passed the gate."""

    type: Literal["status"] = "status"
    session_id: Name
    mode: Mode
    plan_age_s: NonNegative | None = None
    loop_rate_hz: NonNegative = 0.0
    worst_tick_s: NonNegative = 0.0
    starved_ticks: Count = 0
    speed_mps: float = 0.0
    link_rtt_s: NonNegative | None = None
    uncertified: bool = False


Message = Annotated[
    Hello
    | Welcome
    | Ready
    | Frame
    | Plan
    | Command
    | CommandAck
    | CommandStatus
    | Stop
    | StopAck
    | Status
    | Ping
    | Pong,
    Field(discriminator="type"),
]

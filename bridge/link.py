"""The link's public names in one place: who drives takes CarLink, who plans PlannerIo, who commands OperatorLink."""

from bridge.car_link import CarLink, Received
from bridge.operator_link import FINAL_VERDICTS, OperatorLink
from bridge.planner_io import PlannerIo
from bridge.planner_link import (
    CarConnected,
    CarGone,
    CommandArrived,
    Event,
    FrameArrived,
    PlannerLink,
    StatusArrived,
    StopArrived,
)
from bridge.sockets import LinkError, LinkTimeout, is_loopback
from bridge.stop_link import DEFAULT_ENDPOINT as STOP_ENDPOINT
from bridge.stop_link import StopListener, send_stop_to_car

__all__ = [
    "FINAL_VERDICTS",
    "STOP_ENDPOINT",
    "CarConnected",
    "CarGone",
    "CarLink",
    "CommandArrived",
    "Event",
    "FrameArrived",
    "LinkError",
    "LinkTimeout",
    "OperatorLink",
    "PlannerIo",
    "PlannerLink",
    "Received",
    "StatusArrived",
    "StopArrived",
    "StopListener",
    "is_loopback",
    "send_stop_to_car",
]

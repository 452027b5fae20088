"""One table of all messages: who sends them to whom, how often, how old they may get, how many bytes they may have.

Liveness limits are derived from it. Knows nothing about sockets.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge import messages as m

CONTROL_BYTES = 64 * 1024
TRUTH_BYTES = 512 * 1024
JPEG_BYTES = 512 * 1024
MAX_MESSAGE_BYTES = max(CONTROL_BYTES, TRUTH_BYTES)
# What the socket itself takes in. Above our own caps, so that an oversized message is counted; a peer that sends still
# more is cut off by libzmq before the bytes are held in memory.
SOCKET_BYTES = 4 * 1024 * 1024

CAR, PLANNER, OPERATOR = "car", "planner", "operator"


@dataclass(frozen=True)
class Topic:
    """`rate_hz` None: on events only. `max_age_s` None: never too old. `max_bytes` counts the JSON part alone."""

    type: str
    sender: str
    receivers: tuple[str, ...]
    rate_hz: float | None
    max_age_s: float | None
    max_bytes: int = CONTROL_BYTES


TOPICS: dict[type[m.Part], Topic] = {
    m.Hello: Topic("hello", CAR, (PLANNER,), None, None),
    m.Welcome: Topic("welcome", PLANNER, (CAR,), None, None),
    m.Ready: Topic("ready", PLANNER, (CAR,), 2.0, None),
    m.Frame: Topic("frame", CAR, (PLANNER,), 2.0, 1.0, TRUTH_BYTES),
    m.Plan: Topic("plan", PLANNER, (CAR,), 2.0, 10.0),
    m.Command: Topic("command", OPERATOR, (PLANNER,), None, None),
    m.CommandAck: Topic("command_ack", PLANNER, (OPERATOR,), None, None),
    m.CommandStatus: Topic("command_status", PLANNER, (OPERATOR,), None, None),
    m.Stop: Topic("stop", OPERATOR, (PLANNER, CAR), None, None),
    m.StopAck: Topic("stop_ack", PLANNER, (OPERATOR,), None, None),
    m.Status: Topic("status", CAR, (PLANNER,), 2.0, 3.0),
    m.Ping: Topic("ping", CAR, (PLANNER,), 2.0, 3.0),
    m.Pong: Topic("pong", PLANNER, (CAR,), 2.0, 2.0),
}

BY_NAME: dict[str, type[m.Part]] = {topic.type: kind for kind, topic in TOPICS.items()}

PING_INTERVAL_S: float = 1.0 / (TOPICS[m.Ping].rate_hz or 1.0)
CAR_TIMEOUT_S: float = TOPICS[m.Ping].max_age_s or 3.0
PLANNER_TIMEOUT_S: float = TOPICS[m.Pong].max_age_s or 2.0


def kinds_for(receiver: str) -> frozenset[type[m.Part]]:
    """The messages that a receiver (CAR, PLANNER or OPERATOR) takes; all others are dropped as unexpected."""
    return frozenset(kind for kind, topic in TOPICS.items() if receiver in topic.receivers)

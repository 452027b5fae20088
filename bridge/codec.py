"""Messages to bytes (JSON) and back. Never pickle; sizes are checked before anything is decoded.

Knows nothing about sockets and sessions. Whatever bytes come in, `decode` gives a valid message or raises MessageError.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter, ValidationError

from bridge.messages import PROTOCOL_VERSION, Frame, Hello, Message, Part, Welcome
from bridge.topics import CONTROL_BYTES, JPEG_BYTES, MAX_MESSAGE_BYTES, TOPICS

_MESSAGE: TypeAdapter[Message] = TypeAdapter(Message)
_LARGE_PREFIX = b'{"type":"frame"'


class MessageError(ValueError):
    """A message that cannot be sent or taken in. `reason` is a short code for the drop counters: "oversized",
    "malformed", "wrong_version", "unexpected_type", "wrong_parts"."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class _Versioned(BaseModel):
    """What every version's first message has in common."""

    type: Literal["hello", "welcome"]
    version: int


def encode(message: Part) -> bytes:
    """JSON of a message. Raises MessageError where it is larger than its topic allows or is no valid Unicode."""
    try:
        data = message.__pydantic_serializer__.to_json(message)
    except ValueError as error:
        raise MessageError("malformed", str(error)) from None
    cap = TOPICS[type(message)].max_bytes
    if len(data) > cap:
        raise MessageError("oversized", f"{type(message).__name__} has {len(data)} bytes, the limit is {cap}")
    return data


def decode(data: bytes) -> Message:
    """The message in `data`. Raises MessageError (and nothing else) for whatever is not one."""
    # Only a frame may be large (truth), and ours begin with their type: the cap is known before decoding.
    if len(data) > CONTROL_BYTES and (len(data) > MAX_MESSAGE_BYTES or not data.startswith(_LARGE_PREFIX)):
        raise MessageError("oversized", f"{len(data)} bytes")
    try:
        message = _MESSAGE.validator.validate_json(data)
    except ValueError as error:  # pydantic's ValidationError is one
        if _is_other_version(data):
            raise MessageError("wrong_version", f"this side speaks version {PROTOCOL_VERSION}") from None
        raise MessageError("malformed", str(error)[:200]) from None
    if isinstance(message, Hello | Welcome) and message.version != PROTOCOL_VERSION:
        raise MessageError("wrong_version", f"they speak {message.version}, this side {PROTOCOL_VERSION}")
    return message


def _is_other_version(data: bytes) -> bool:
    """Whether this is the first message of a peer of another version, whose further keys we cannot know."""
    try:
        return _Versioned.model_validate_json(data).version != PROTOCOL_VERSION
    except ValidationError:
        return False


def decode_parts(parts: Collection[bytes] | None, kinds: Collection[type[Part]]) -> tuple[Any, bytes | None]:
    """A message and, for a Frame, its JPEG (non-empty), from the parts of a ZeroMQ message without the routing part.
    `kinds`: the types wanted here. `parts` None stands for too many parts. Raises MessageError."""
    if not parts or len(parts) > 2:
        raise MessageError("wrong_parts", "one part wanted, or two for a frame")
    data, *rest = parts
    if rest and len(rest[0]) > JPEG_BYTES:
        raise MessageError("oversized", f"JPEG of {len(rest[0])} bytes")
    message = decode(data)
    if type(message) not in kinds:
        raise MessageError("unexpected_type", type(message).__name__)
    if isinstance(message, Frame) != bool(rest and rest[0]):
        raise MessageError("wrong_parts", "a frame comes with a JPEG, nothing else does")
    return message, rest[0] if rest else None

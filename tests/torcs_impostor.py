"""Stands in for TORCS with its driver module: speaks the protocol on the handed-down socket, or breaks it on purpose.

Run as `torcs_impostor.py MODE`; knows the wire format by itself, not through `sims.torcs.protocol`.
"""

from __future__ import annotations

import os
import socket
import struct
import sys

MAGIC = 0x314E4350
SHAPE = struct.pack(
    "<32s9fi8f", b"Pacenote 0", 4.52, 1.94, 1.1, 0.3665, 0.33, 1.267, -1.373, 2.26, -2.26, 1, 13.5, *[0.0] * 7
)


def message(kind: int, body: bytes, count: int = 1, magic: int = MAGIC) -> bytes:
    """Header and body."""
    return struct.pack("<4I", magic, kind, count, len(body)) + body


def hello(version: int = 1) -> bytes:
    """A race of one car on a track of 1000 m."""
    return struct.pack("<I2f32s", version, 1000.0, 0.02, b"Impostor") + SHAPE


def state(steps: int, size: tuple[int, int] = (0, 0)) -> bytes:
    """One car, present, and a picture whose rows grow brighter upwards."""
    width, height = size
    rows = b"".join(bytes([row]) * (3 * width) for row in range(height))
    return struct.pack("<d3I18f", 8192.0 + 0.02 * steps, steps, width, height, 1.0, *[0.5] * 17) + rows


def main(mode: str, link: socket.socket) -> None:
    """Greet, then answer every ACT, until the mode says otherwise."""
    if mode == "dies":
        sys.exit("no such track: nowhere")
    if mode == "silent":
        link.recv(1)  # nothing comes; ends when the other side closes
        return
    greetings = {
        "magic": message(1, hello(), magic=0x12345678),
        "version": message(1, hello(version=7)),
        "cars": message(1, hello() + SHAPE, count=2),
        "short": message(1, hello()[:-4]),
        "huge": struct.pack("<4I", MAGIC, 1, 1, 1 << 31),
        "type": message(9, hello()),
        "refuses": message(4, b"this is not the TORCS that I know"),
        "half": message(1, hello())[:40],
        "state first": message(2, state(0)),
    }
    link.sendall(greetings.get(mode, message(1, hello())))
    if mode == "half":
        return
    steps = 0
    while header := link.recv(16, socket.MSG_WAITALL):
        magic, kind, count, size = struct.unpack("<4I", header)
        body = link.recv(size, socket.MSG_WAITALL)
        assert magic == MAGIC and kind == 1 and count == 1
        more, picture = struct.unpack_from("<2I", body)
        steps += more
        if mode == "hangs" and steps >= 3:
            link.recv(1)
            return
        if mode == "crash" and steps >= 3:
            os.abort()
        answer = message(2, state(steps, (4, 3) if picture else (0, 0)))
        if mode == "half state" and steps >= 3:
            link.sendall(answer[:-5])
            return
        link.sendall(answer)


if __name__ == "__main__":
    main(sys.argv[1], socket.socket(fileno=int(os.environ["PACENOTE_TORCS_FD"])))

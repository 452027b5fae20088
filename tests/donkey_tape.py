"""A conversation with the Donkey simulator's protocol as a file, one line a message in the order of the wire:
{"from": "server" or "client", "message": {...}}. `python tests/donkey_tape.py` records a new one from our own server,
made to look like a simulator of others (no additions of ours in its greeting).
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
TAPE = Path(__file__).parent / "data" / "donkey_conversation.jsonl"
ADDITION = re.compile(rb',"pacenote":"\d+"')
STEPS = ((0.2, 0.8), (-0.4, 0.5), (0.0, -1.0), (0.9, 0.3))  # actions that were driven
LIDAR = {"degPerSweepInc": 90.0, "degAngDown": 0.0, "degAngDelta": -1.0, "numSweepsLevels": 1, "maxRange": 50.0,
         "noise": 0.0, "offset_x": 0.0, "offset_y": 0.5, "offset_z": 0.5, "rot_x": 0.0}  # fmt: skip


def drive_tape(world):
    """What the tape is of: a reset and four steps."""
    seen = [world.reset(seed=1)]
    for action in STEPS:
        observation, _, _, _, info = world.step(action)
        seen.append((observation, info))
    return seen


def read_tape():
    return [json.loads(line) for line in TAPE.read_text().splitlines()]


def play(sock):
    """Be the simulator of the tape: say its lines, and wait for each of the client's. What the client says otherwise
    ends the conversation with a message that the client's error quotes."""
    decoder, text = json.JSONDecoder(), ""
    for line in read_tape():
        if line["from"] == "server":
            sock.sendall(json.dumps(line["message"]).encode() + b"\n")
            continue
        while True:
            with contextlib.suppress(json.JSONDecodeError):
                said, end = decoder.raw_decode(text)
                break
            data = sock.recv(1 << 16)
            if not data:
                return
            text += data.decode()
        text = text[end:].lstrip()
        if said != line["message"]:
            note = {"msg_type": "pacenote_error", "message": f"expected {line['message']}, heard {said}"}
            sock.sendall(json.dumps(note).encode() + b"\n")
            return


class Recorder:
    """Stands between client and server and writes down both."""

    def __init__(self, server_address):
        self.lines: list[dict] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        threading.Thread(target=self._serve, args=(server_address,), daemon=True).start()

    def _serve(self, server_address):
        client, _ = self._listener.accept()
        server = socket.create_connection(server_address)
        threading.Thread(target=self._up, args=(client, server), daemon=True).start()
        with server.makefile("rb") as lines, contextlib.suppress(OSError):
            for line in lines:
                line = ADDITION.sub(b"", line)
                with self._lock:
                    self.lines.append({"from": "server", "message": json.loads(line)})
                    client.sendall(line)

    def _up(self, client, server):
        while data := client.recv(1 << 16):
            with self._lock:
                self.lines.append({"from": "client", "message": json.loads(data)})  # one object a segment
                server.sendall(data)
        server.close()


def record():
    from donkey_peers import STEADY, serving, write_oval

    from sims.donkey.world import DonkeyWorld

    with tempfile.TemporaryDirectory() as folder:
        with serving([write_oval(Path(folder) / "oval.csv", straight_m=2.0, radius_m=1.0)]) as address:
            recorder = Recorder(address)
            world = DonkeyWorld(*recorder.address, camera_size=(32, 24), lidar=LIDAR, patience=STEADY)
            drive_tape(world)
            lines = list(recorder.lines)
            world.close()
    TAPE.parent.mkdir(exist_ok=True)
    names = str(Path(folder))
    TAPE.write_text("".join(json.dumps(line).replace(names, "tracks") + "\n" for line in lines))
    print(f"{TAPE}: {len(lines)} messages, {TAPE.stat().st_size} bytes")


if __name__ == "__main__":
    record()

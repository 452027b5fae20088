"""kill -9 of the donkey server in mid-episode, again and again: each must give a clear error and a clean restart.

`python benchmarks/kill_donkey.py [--times 20] [--json FILE]`. One client drives all the time through `DonkeyWorld`; the
server is killed between two steps at a random moment, half of the times while a step waits for its answer. Measured:
time from the kill to the error, and from there to the first step against a new server at the same port. Ends with 1
where an error was unclear or late, or where a process was left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

from sims.donkey.client import Patience
from sims.donkey.world import DonkeyWorld
from sims.world import WorldError

LIMIT_S = 10.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def start_server(port: int) -> subprocess.Popen:
    """Our server as a process of its own; returns when it listens."""
    command = [sys.executable, "-m", "pacenote", "donkey-server", "--port", str(port)]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=Path(__file__).parent.parent
    )
    line = server.stdout.readline()
    if "listening" not in line:
        raise SystemExit(f"the server did not start: {line}")
    return server


def one_kill(world: DonkeyWorld, server: subprocess.Popen, rng: random.Random) -> tuple[float, str]:
    """Drive, kill, and step on until the error: (seconds from the kill to the error, its text)."""
    for _ in range(rng.randrange(5, 40)):
        world.step([0.1, 0.4])
    timer = threading.Timer(rng.uniform(0.0, 0.05), os.kill, (server.pid, signal.SIGKILL))
    killed_s = time.monotonic()
    timer.start()
    try:
        while time.monotonic() - killed_s < 3 * LIMIT_S:
            world.step([0.1, 0.4])
    except WorldError as error:
        return time.monotonic() - killed_s, str(error)
    return 3 * LIMIT_S, "no error at all"


def main() -> int:
    """Run; see above."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rng, port = random.Random(1), free_port()
    patience = Patience(connect_s=5.0, answer_s=10.0, scene_s=60.0, telemetry_s=5.0)
    world = DonkeyWorld("127.0.0.1", port, camera_size=(160, 120), patience=patience)
    server = start_server(port)
    rows = []
    world.reset(seed=0)
    for k in range(given.times):
        error_s, text = one_kill(world, server, rng)
        server.wait()
        server.stdout.close()
        left = [p.pid for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]
        again_s = time.monotonic()
        server = start_server(port)
        up_s = time.monotonic() - again_s
        world.reset(seed=k + 1)
        world.step([0.0, 0.5])
        again_s = time.monotonic() - again_s
        clear = f":{port} " in text and ("connection" in text or "went away" in text)
        ok = clear and error_s < LIMIT_S and not left
        rows.append({"kill": k, "error_s": round(error_s, 3), "server_up_s": round(up_s, 2), "ok": ok,
                     "driving_again_s": round(again_s, 2), "error": text, "left_behind": left})  # fmt: skip
        print(f"{k:3d}  error after {error_s:.3f} s, driving again {again_s:.2f} s later  "
              f"{'ok' if ok else 'NOT OK'}  {text}")  # fmt: skip
    world.close()
    server.terminate()
    server.wait()
    worst = max(r["error_s"] for r in rows), max(r["driving_again_s"] for r in rows)
    print(
        f"{sum(r['ok'] for r in rows)} of {len(rows)} ok; worst: error {worst[0]:.3f} s, driving again {worst[1]:.2f} s"
    )
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))
    return 0 if all(r["ok"] and r["driving_again_s"] < LIMIT_S for r in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""kill -9 in mid-episode: the simulator under a running world, and the program that drives it.

    python -m benchmarks.kill_simulators --world torcs [--times 20] [--json FILE]

Half of the times the simulator's process is killed: the next step must end in a WorldError, not hang, and the next
episode of the same world must run; both within 10 s. A world without a process of its own has nothing to kill there.
The other half the driving program is killed: nothing that it started may be alive 10 s later.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import numpy as np
import psutil

from sims.world import World, WorldError, WorldSpec
from sims.worlds import find_world

LIMIT_S = 10.0
CAMERA = (160, 120)


def _step(world: World, steps: int) -> None:
    for _ in range(steps):
        world.step(np.array([0.0, 0.3], np.float32))


def _children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def kill_simulator(spec: WorldSpec, seed: int) -> dict | None:
    """One kill of the simulator; None where it runs in our own process. Raises AssertionError on a failure."""
    world = spec.make(camera_size=CAMERA if spec.camera and seed % 2 else None, randomize=0.0, seed=seed)
    try:
        world.reset(seed=seed)
        _step(world, 10 + 7 * (seed % 5))
        victims = _children()
        if not victims:
            return None
        victims[0].kill()
        begin = time.perf_counter()
        told = _told(world)
        noticed_s = time.perf_counter() - begin
        world.reset(seed=seed)
        _step(world, 10)
        running_s = time.perf_counter() - begin
    finally:
        world.close()
    left = [p.pid for p in _children() if p.status() != psutil.STATUS_ZOMBIE]
    assert told is not None, "steps went on after the simulator was killed"
    assert running_s < LIMIT_S, f"it took {running_s:.1f} s until an episode ran again"
    assert not left, f"processes left after close: {left}"
    return {"killed": "simulator", "noticed_s": round(noticed_s, 3), "again_s": round(running_s, 3), "told": told}


def _told(world: World) -> str | None:
    """What the world says when it is stepped on; a few steps may still be on their way."""
    try:
        _step(world, 5)
    except WorldError as error:
        return str(error).splitlines()[0]
    return None


def kill_driver(name: str, seed: int) -> dict:
    """One kill of a program that drives the world. Raises AssertionError when something that it started lives on."""
    program = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.kill_simulators", "--world", name, "--drive", str(seed)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    line = program.stdout.readline()
    assert line.strip() == "driving", f"the driving program said {line!r}"
    started = psutil.Process(program.pid).children(recursive=True)
    time.sleep(0.05 * (seed % 5))  # to be hit at various moments of a step
    program.kill()
    program.wait()
    begin = time.perf_counter()
    _, alive = psutil.wait_procs(started, timeout=LIMIT_S)
    for orphan in alive:
        orphan.kill()
    assert not alive, f"still alive after {LIMIT_S:.0f} s: {[p.pid for p in alive]}"
    return {"killed": "driver", "processes": len(started), "gone_s": round(time.perf_counter() - begin, 3)}


def drive_for_ever(spec: WorldSpec, seed: int) -> None:
    """What `kill_driver` kills."""
    world = spec.make(camera_size=CAMERA if spec.camera and seed % 2 else None, randomize=0.0, seed=seed)
    world.reset(seed=seed)
    _step(world, 5)
    print("driving", flush=True)
    while True:
        _step(world, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", required=True)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--json", help="write the results to this file")
    parser.add_argument("--drive", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    spec, results, failures = find_world(arguments.world), [], 0
    if arguments.drive is not None:
        drive_for_ever(spec, arguments.drive)
    for k in range(arguments.times):
        try:
            result = kill_simulator(spec, k) if k % 4 < 2 else kill_driver(arguments.world, k)
            results.append(result or {"killed": "simulator", "skipped": "it runs in our own process"})
        except AssertionError as error:
            results.append({"failure": str(error)})
            failures += 1
        print(f"{k + 1:3d}  {results[-1]}", flush=True)
    print(f"{arguments.times - failures} of {arguments.times} as they should be")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()

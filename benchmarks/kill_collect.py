"""kill -9 of the simulator while `pacenote collect` records in it: nothing recorded may be lost, nothing may be left.

    python -m benchmarks.kill_collect --world torcs [--times 20] [--json FILE]

A recording runs in a process of its own. Again and again, at various moments of its episodes, the simulator under it is
killed; a new one must run within 10 s. The dataset must hold all episodes that were asked for, pass
`pacenote collect check`, and no process may live on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from training.datasets.check import check_dataset
from training.datasets.layout import DatasetError
from training.datasets.read import Dataset

LIMIT_S = 10.0
START_S = 60.0
EPISODE_S = 120.0
SPARE_EPISODES = 5  # more than kills: one that falls between two episodes costs none


def simulator_of(program: psutil.Process, command: str) -> psutil.Process | None:
    """The running simulator below `program`, told by its command."""
    for child in program.children(recursive=True):
        try:
            if command in Path(child.exe()).name and child.status() != psutil.STATUS_ZOMBIE:
                return child
        except (psutil.Error, OSError):
            continue
    return None


def wait_for_simulator(program: psutil.Process, command: str, limit_s: float) -> psutil.Process:
    """The simulator as soon as it runs. Raises AssertionError when it does not in time, or the program ends."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < limit_s:
        assert program.is_running() and program.status() != psutil.STATUS_ZOMBIE, "the recording has ended"
        found = simulator_of(program, command)
        if found is not None:
            return found
        time.sleep(0.02)
    raise AssertionError(f"no simulator within {limit_s:.0f} s")


def kill_simulator(program: psutil.Process, command: str) -> psutil.Process:
    """Kill the simulator that runs now: another than a moment ago, when an episode has changed the track."""
    while True:
        victim = wait_for_simulator(program, command, LIMIT_S)
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
            return victim


def committed(folder: Path) -> int:
    """How many episodes the dataset holds by now."""
    try:
        return len(Dataset(folder).episodes)
    except DatasetError:
        return 0


def kill_again_and_again(world: str, command: str, times: int, folder: Path) -> dict:
    """Record and kill; what came of it. Raises AssertionError on a failure."""
    asked = times + SPARE_EPISODES
    recording = subprocess.Popen(
        [
            sys.executable, "-m", "pacenote", "collect", "--world", world, "--suite", "follow_lane,overtake_left",
            "--episodes", str(asked), "--out", str(folder),
        ],
        stdout=(folder.parent / "said.txt").open("w"), stderr=subprocess.STDOUT,
    )  # fmt: skip
    program, again_s = psutil.Process(recording.pid), []
    wait_for_simulator(program, command, START_S)
    for k in range(times):
        time.sleep(0.5 + 0.37 * (k % 9))  # anywhere: while it starts, in mid-episode, while an episode is committed
        victim = kill_simulator(program, command)
        begin, had = time.perf_counter(), committed(folder)
        psutil.wait_procs([victim], timeout=LIMIT_S)
        wait_for_simulator(program, command, LIMIT_S)
        again_s.append(round(time.perf_counter() - begin, 2))
        print(f"{k + 1:3d}  a new simulator after {again_s[-1]:.2f} s; {had} episodes so far", flush=True)
        wait_for_episode(program, folder, had)  # three break-downs of one episode in a row end a recording
    recording.wait()
    said = (folder.parent / "said.txt").read_text()
    left = [p.pid for p in psutil.process_iter() if command in p.name() and p.status() != psutil.STATUS_ZOMBIE]
    assert recording.returncode == 0, f"the recording ended with {recording.returncode}: {said[-2000:]}"
    assert not left, f"simulators left behind: {left}"
    report = check_dataset(folder)
    assert report.ok and report.episodes == asked, f"{report.episodes} of {asked} episodes; {report.errors[:3]}"
    told = said.count("started anew")
    return {"killed": times, "told": told, "again_s": again_s, "episodes": report.episodes, "frames": report.frames}


def wait_for_episode(program: psutil.Process, folder: Path, had: int) -> None:
    """Until one more episode is committed, or all are. Raises AssertionError when none comes."""
    begin = time.perf_counter()
    while committed(folder) <= had and program.is_running() and program.status() != psutil.STATUS_ZOMBIE:
        assert time.perf_counter() - begin < EPISODE_S, f"no episode within {EPISODE_S:.0f} s"
        time.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="torcs")
    parser.add_argument("--command", default="torcs-bin", help="name of the simulator's program")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = kill_again_and_again(given.world, given.command, given.times, Path(folder) / "dataset")
    print(json.dumps(result))
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""How the game ends: killed, stopped, forgotten, with Python; and that nothing is left or written elsewhere."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from sims.torcs import install, process
from sims.torcs.process import TorcsProcess
from sims.torcs.race import Race
from sims.torcs.spec import SPEC
from sims.world import WorldError
from tests.torcs_scenes import NEEDS_TORCS, drive, scenario_on, worlds

pytestmark = NEEDS_TORCS


@pytest.fixture
def make():
    """make(**settings): a world, closed afterwards."""
    with worlds() as begin:
        yield begin


def running(pid):
    """Whether the process lives; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("camera", [None, (64, 48)])
def test_kill_9_in_mid_episode_is_told_and_the_next_episode_runs(make, camera):
    world = make(camera_size=camera)
    scenario = scenario_on("g-track-1")
    world.start(scenario, 1)
    drive(world, 5)
    pid = world._torcs.pid
    begin = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorldError, match="ended by signal 9"):
        drive(world, 5)
    with pytest.raises(WorldError):
        drive(world, 1)
    world.start(scenario, 1)
    drive(world, 5)
    assert time.perf_counter() - begin < 10.0
    assert world._torcs.pid != pid and not running(pid)


def test_a_stopped_game_is_noticed(make, monkeypatch):
    monkeypatch.setattr(process, "ANSWER_TIMEOUT_S", 0.5)
    world = make()
    world.start(scenario_on("g-track-1"), 1)
    pid = world._torcs.pid
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(WorldError, match="did not answer for 0.5 s"):
        drive(world, 2)
    assert not running(pid)


def test_nothing_is_left_when_python_is_killed():
    program = """
import numpy as np
from sims.torcs.spec import SPEC
world = SPEC.make(camera_size=(64, 48), seed=1)
world.reset(seed=1, options={"track": "g-track-1"})
print(world._torcs.pid, flush=True)
while True:
    world.step(np.array([0.0, 0.2]))
"""
    python = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    pid = int(python.stdout.readline())
    descriptor = os.pidfd_open(pid)
    assert running(pid)
    python.kill()
    python.wait()
    ready, _, _ = select.select([descriptor], [], [], 10.0)
    os.close(descriptor)
    assert ready and not running(pid)


def test_a_world_made_in_a_thread_outlives_the_thread():
    """The kernel ties a child to the thread that started it; ours must live as long as Python."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        torcs = pool.submit(TorcsProcess, Race("g-track-1")).result()
    snapshot = torcs.act(np.zeros((1, 3), np.float32), 1)
    assert snapshot.cars[0, 0] == 1.0
    torcs.close()
    assert not running(torcs.pid)


def test_one_broken_world_does_not_spoil_the_others():
    batch = SPEC.batch(camera_size=None, randomize=0.0)
    try:
        scenarios = [scenario_on("g-track-1", seed=k) for k in range(3)]
        batch.start(scenarios, [0, 1, 2])
        observation = batch.step(np.tile([0.0, 0.3], (3, 1)), [0, 1, 2])
        assert observation["speed"].shape == (3,)
        before = batch.truth(2).t_s
        batch.step(np.tile([0.0, 0.3], (3, 1)), [0, 1])
        assert batch.truth(2).t_s == before and batch.truth(0).t_s > before
        os.kill(batch.worlds[1]._torcs.pid, signal.SIGKILL)
        with pytest.raises(WorldError, match="signal 9"):
            for _ in range(3):
                batch.step(np.tile([0.0, 0.3], (3, 1)), [0, 1, 2])
        batch.step(np.tile([0.0, 0.3], (3, 1)), [0, 2])
        batch.start(scenarios, [0, 1, 2])
        batch.step(np.tile([0.0, 0.3], (3, 1)), [0, 1, 2])
    finally:
        batch.close()


def test_nothing_is_written_beside_the_cache(make, tmp_path, monkeypatch):
    """The module and TORCS's files are made in the cache folder on first use; TORCS changes none of them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    begin = time.time_ns()
    world = make(camera_size=(64, 48))
    world.start(scenario_on("g-track-1"), 1)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    drive(world, 5)
    world.close()
    ours = {p: t for p, t in files.items() if "mesa" not in str(p)}
    assert ours and all(path.stat().st_mtime_ns == stamp >= begin - 10**9 for path, stamp in ours.items())
    assert not list(tmp_path.rglob("build-*")) and install.built().is_dir()


def test_a_car_may_stand_for_longer_than_torcs_has_patience(make):
    """TORCS throws out whoever needs 186 s for this lap, and would end the race; the module keeps it from that."""
    world = make()
    world.start(scenario_on("mixed-1", start_speed_mps=0.0), 1)
    truth = drive(world, 6000, (0.0, -1.0))[-1]
    assert truth.t_s == pytest.approx(200.0, abs=0.01) and abs(truth.progress_m) < 0.5

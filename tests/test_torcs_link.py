"""The socket to TORCS without TORCS: an impostor speaks the protocol, or breaks it in every way we could think of."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sims.torcs import process, protocol
from sims.torcs.process import TorcsProcess
from sims.torcs.race import Race
from sims.world import WorldError

IMPOSTOR = Path(__file__).with_name("torcs_impostor.py")
ONE = np.array([[0.1, 0.5, 0.0]], np.float32)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """start(mode): a TorcsProcess whose game is the impostor; closed afterwards."""
    monkeypatch.setattr(process, "DATA", tmp_path)
    monkeypatch.setattr(process, "built", lambda: tmp_path)
    monkeypatch.setattr(process, "race_folder", lambda race: tmp_path)
    monkeypatch.setattr(process, "ANSWER_TIMEOUT_S", 0.5)
    started = []

    def begin(mode, timeout_s=20.0):
        monkeypatch.setattr(process, "START_TIMEOUT_S", timeout_s)
        script = tmp_path / "torcs-bin"
        script.write_text(f'#!/bin/sh\nunset LD_PRELOAD\nexec "{sys.executable}" "{IMPOSTOR}" "{mode}"\n')
        script.chmod(0o755)
        monkeypatch.setattr(process, "BINARY", script)
        started.append(TorcsProcess(Race("aalborg")))
        return started[-1]

    yield begin
    for one in started:
        one.close()


def gone(pid: int) -> bool:
    """Whether no such process is left, not even as a zombie of ours."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_well_behaved_game(start):
    torcs = start("good")
    assert torcs.track_name == "Impostor" and torcs.track_length_m == 1000.0
    assert torcs.shapes["rear_axle"][0] == pytest.approx(-1.373)
    snapshot = torcs.act(ONE, 2)
    assert snapshot.control_steps == 2 and snapshot.time_s == pytest.approx(8192.04) and snapshot.picture is None
    assert snapshot.cars.shape == (1, len(protocol.CAR_STATE)) and snapshot.cars[0, 0] == 1.0
    picture = torcs.act(ONE, 1, picture=True).picture
    assert picture.shape == (3, 4, 3)
    assert picture[:, 0, 0].tolist() == [2, 1, 0], "OpenGL's lowest row must become the last"
    torcs.close()
    assert gone(torcs.pid)
    torcs.close()


@pytest.mark.parametrize(
    "mode, said",
    [
        ("magic", "magic number"),
        ("version", "version 7"),
        ("cars", "2 cars instead of 1"),
        ("short", "HELLO of"),
        ("huge", "bytes"),
        ("type", "type 9"),
        ("refuses", "not the TORCS that I know"),
        ("half", "ended when starting"),
        ("state first", "something else than HELLO"),
        ("dies", "no such track: nowhere"),
    ],
)
def test_a_start_that_goes_wrong_is_told_and_leaves_nothing(start, mode, said):
    with pytest.raises(WorldError, match="track aalborg") as caught:
        start(mode)
    assert said in str(caught.value)
    assert gone(int(str(caught.value).split("pid ")[1].split(")")[0]))


def test_silence_at_the_start_has_an_end(start):
    with pytest.raises(WorldError, match="did not answer for 0.3 s when starting; it was still running"):
        start("silent", timeout_s=0.3)


@pytest.mark.parametrize(
    "mode, said",
    [
        ("hangs", "did not answer for 0.5 s when driving; it was still running"),
        ("crash", "ended when driving; it was ended by signal 6"),
        ("half state", "ended when driving; it ended with exit status 0"),
    ],
)
def test_a_game_that_breaks_down_in_mid_episode(start, mode, said):
    torcs = start(mode)
    torcs.act(ONE, 2)
    with pytest.raises(WorldError) as caught:
        torcs.act(ONE, 2)
    assert said in str(caught.value)
    assert gone(torcs.pid)
    with pytest.raises(WorldError, match="start a new episode"):
        torcs.act(ONE, 1)


def test_killed_from_outside(start):
    torcs = start("good")
    torcs.act(ONE, 1)
    os.kill(torcs.pid, 9)
    with pytest.raises(WorldError, match="ended by signal 9"):
        for _ in range(3):
            torcs.act(ONE, 1)
    assert gone(torcs.pid)


def test_an_answer_that_was_not_read_is_never_taken_for_the_next_one(start):
    torcs = start("good")
    torcs.send_act(ONE, 1)
    assert not torcs.idle
    with pytest.raises(WorldError, match="interrupted"):
        torcs.send_act(ONE, 1)
    assert torcs.receive_act().control_steps == 1
    assert torcs.idle and torcs.act(ONE, 1).control_steps == 2


def test_a_game_ends_when_it_is_forgotten(start, tmp_path):
    torcs = start("good")
    pid = torcs.pid
    finalizer = torcs._finalizer
    finalizer()  # what the garbage collector and the end of Python call
    assert gone(pid) and not torcs.idle


def test_a_game_ends_with_python(start, tmp_path):
    """The whole way, in another Python that ends without closing anything."""
    start("good").close()
    program = f"""
import sims.torcs.process as process
from pathlib import Path
folder = Path({str(tmp_path)!r})
process.DATA, process.BINARY = folder, folder / "torcs-bin"
process.built, process.race_folder = lambda: folder, lambda race: folder
from sims.torcs.race import Race
torcs = process.TorcsProcess(Race("aalborg"))
print(torcs.pid, flush=True)
import os; os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    pid = int(done.stdout)
    # The impostor reads the end of the stream, or is still about to.
    descriptor = None
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    import select

    ready, _, _ = select.select([descriptor], [], [], 10.0)
    os.close(descriptor)
    assert ready, "the game outlived Python by 10 s"


@given(st.binary(min_size=16, max_size=16))
def test_any_header_is_read_or_refused(data):
    try:
        kind, _, size = protocol.read_header(data)
    except protocol.ProtocolError:
        return
    assert data[:4] == struct.pack("<I", protocol.MAGIC) and 1 <= kind <= 4 and size <= protocol.LARGEST


@given(st.binary(max_size=400), st.integers(0, 4))
def test_any_body_is_read_or_refused(data, count):
    for read in (protocol.read_hello, protocol.read_state):
        try:
            read(data, count)
        except protocol.ProtocolError:
            continue


def test_an_act_on_the_wire():
    data = protocol.act(np.array([[0.5, 0.25, 0.0], [-1.0, 0.0, 1.0]], np.float32), 2, True)
    assert struct.unpack_from("<4I", data) == (protocol.MAGIC, 1, 2, 32)
    assert struct.unpack_from("<2I6f", data, 16) == (2, 1, 0.5, 0.25, 0.0, -1.0, 0.0, 1.0)


def test_records_are_as_large_as_the_modules():
    """`protocol.h` holds the same numbers in static_asserts."""
    assert protocol.HEADER.size == 16 and protocol.ACT_HEAD.size == 8 and protocol.PLACEMENT.itemsize == 24
    assert protocol.HELLO_HEAD.size == 44 and protocol.CAR_SHAPE.itemsize == 104
    assert protocol.STATE_HEAD.size == 20 and 4 * len(protocol.CAR_STATE) == 72 and protocol.ROAD_POINT.itemsize == 24

"""One running TORCS: started, spoken to, watched and ended. Knows the protocol, nothing of roads or scenarios.

The socket is a pair made before the start and handed down, so there is no path on disk and no waiting for a connection.
TORCS dies with us in three ways: the module ends when the socket closes, the kernel kills it when our process ends
(PR_SET_PDEATHSIG, see driver/shim.cpp), and `close` does when we are done.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from sims.torcs import protocol
from sims.torcs.install import BINARY, DATA, GAME, RENDERER, built, cache_folder
from sims.torcs.protocol import ProtocolError
from sims.torcs.race import Race, race_folder
from sims.world import WorldError

START_TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 8.0
FIRST_PICTURE_TIMEOUT_S = 60.0  # loads the track's textures and compiles shaders
END_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Snapshot:
    """`cars` (n, CAR_STATE) float32 by car index, `picture` (h, w, 3) uint8 RGB or None; valid until the next
    request."""

    time_s: float
    control_steps: int
    cars: np.ndarray
    picture: np.ndarray | None


# The kernel's signal comes when the *thread* that started the process ends; this one lives as long as Python does.
_launcher: ThreadPoolExecutor | None = None


def _launch(*args, **kwargs) -> subprocess.Popen:
    global _launcher
    _launcher = _launcher or ThreadPoolExecutor(1, "torcs-launcher")
    return _launcher.submit(subprocess.Popen, *args, **kwargs).result()


def _forget_launcher() -> None:
    global _launcher
    _launcher = None  # a forked child has no such thread


os.register_at_fork(after_in_child=_forget_launcher)


def _end(process: subprocess.Popen, link: socket.socket, owner: int) -> None:
    link.close()
    if os.getpid() != owner:  # a forked child's copy
        return
    if process.poll() is None:
        process.kill()
    process.wait(END_TIMEOUT_S)


class TorcsProcess:
    """TORCS in a race, standing still until it is told to go on. Not for several threads at once.

    Every method raises WorldError when TORCS has ended, hangs or answers nonsense; the process is gone then, and a new
    one has to be made."""

    def __init__(self, race: Race):
        self.race = race
        try:
            folder, local = built(), race_folder(race)
        except OSError as error:
            where = f"{cache_folder()} cannot be written ({error}); XDG_CACHE_HOME names another place"
            raise WorldError(f"world 'torcs' keeps its files in the cache: {where}") from error
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._output = tempfile.TemporaryFile()
        width, height = race.picture or (16, 16)
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(GAME / "lib"),
            "LD_PRELOAD": str(folder / "shim.so"),
            "LC_ALL": "C",
            "PACENOTE_TORCS_FD": str(theirs.fileno()),
            "PACENOTE_PARENT": str(os.getpid()),
            "PACENOTE_TORCS_RENDERER": str(RENDERER),
            "PACENOTE_TORCS_WIDTH": str(width),
            "PACENOTE_TORCS_HEIGHT": str(height),
            "PACENOTE_TORCS_FOVY": f"{race.fovy_deg:.6f}",
        }
        # Mesa's software renderer: one thread; the pictures are small, and several worlds run side by side.
        environment.setdefault("LP_NUM_THREADS", "1")
        where = ["-l", str(local), "-L", str(folder / "lib"), "-D", str(DATA), "-r", str(local / "race.xml")]
        try:
            self._process = _launch(
                [str(BINARY), *where], cwd=DATA, env=environment, pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            ours.close()
            raise WorldError(f"TORCS cannot be started: {error}") from error
        finally:
            theirs.close()
        self._link, self.pid = ours, self._process.pid
        self._finalizer = weakref.finalize(self, _end, self._process, ours, os.getpid())
        self._buffer = bytearray(1 << 16)
        self._picture_seen, self._due = False, True
        self._timeout_s, self._wait_s = None, ANSWER_TIMEOUT_S
        self._greet()

    def _greet(self) -> None:
        kind, count, body = self._receive(START_TIMEOUT_S, "starting")
        if kind != protocol.HELLO:
            self._broken("answered the start with something else than HELLO")
        try:
            hello = protocol.read_hello(bytes(body), count)
        except ProtocolError as error:
            self._broken(str(error))
        self.track_name, self.track_length_m, self.control_period_s, self.shapes = hello
        if count != self.race.cars:
            self._broken(f"came up with {count} cars instead of {self.race.cars}; a robot could not be loaded")

    @property
    def idle(self) -> bool:
        """Whether it can be asked: neither closed nor with an answer half read (after an interrupt)."""
        return self._finalizer.alive and not self._due

    # ---- requests ------------------------------------------------------------------------------------------------

    def act(self, commands: np.ndarray, control_steps: int, picture: bool = False) -> Snapshot:
        """Go on for `control_steps` of 20 ms under `commands` (n, COMMAND) float32, one for every car (those of TORCS's
        own drivers are ignored)."""
        self.send_act(commands, control_steps, picture)
        return self.receive_act()

    def send_act(self, commands: np.ndarray, control_steps: int, picture: bool = False) -> None:
        """The first half of `act`, so that several processes can drive at the same time; `receive_act` must follow."""
        self._send(protocol.act(commands, control_steps, picture), "driving")
        self._wait_s = ANSWER_TIMEOUT_S if self._picture_seen or not picture else FIRST_PICTURE_TIMEOUT_S
        self._picture_seen |= picture

    def receive_act(self) -> Snapshot:
        """The second half of `act`."""
        return self._receive_state(self._wait_s, "driving")

    def place(self, placements: np.ndarray) -> Snapshot:
        """Start anew with every car placed: (n,) PLACEMENT, one for each car, absent ones last."""
        self._send(protocol.request(protocol.PLACE, placements.tobytes(), len(placements)), "placing the cars")
        return self._receive_state(ANSWER_TIMEOUT_S, "placing the cars")

    def set_camera(self, x_m: float, y_m: float, z_m: float, pitch_rad: float) -> Snapshot:
        """Put the eye there: from the ego's centre of gravity, z above the ground below it; pitch down is positive."""
        body = protocol.CAMERA_POSE.pack(x_m, y_m, z_m, pitch_rad)
        self._send(protocol.request(protocol.CAMERA, body, 1), "setting the camera")
        return self._receive_state(ANSWER_TIMEOUT_S, "setting the camera")

    def road(self) -> np.ndarray:
        """(n,) ROAD_POINT along the middle of the track, about every metre."""
        self._send(protocol.request(protocol.ROAD), "asking for the road")
        kind, count, body = self._receive(ANSWER_TIMEOUT_S, "asking for the road")
        if kind != protocol.ROAD_POINTS or len(body) != count * protocol.ROAD_POINT.itemsize:
            self._broken(f"sent a road of {len(body)} bytes for {count} points")
        return np.frombuffer(bytes(body), protocol.ROAD_POINT)

    def close(self) -> None:
        """End it. May be called more than once."""
        self._finalizer()
        self._output.close()

    # ---- the line ------------------------------------------------------------------------------------------------

    def _receive_state(self, timeout_s: float, doing: str) -> Snapshot:
        kind, count, body = self._receive(timeout_s, doing)
        if kind != protocol.STATE:
            self._broken(f"answered with type {kind} when {doing}")
        try:
            return Snapshot(*protocol.read_state(body, count))
        except ProtocolError as error:
            self._broken(str(error))

    def _send(self, message: bytes, doing: str) -> None:
        if not self.idle:
            raise WorldError("this TORCS has been closed, or interrupted in an answer; start a new episode")
        self._due = True
        try:
            self._limit(ANSWER_TIMEOUT_S)
            self._link.sendall(message)
        except TimeoutError:
            self._broken(f"did not listen for {ANSWER_TIMEOUT_S:g} s when {doing}")
        except OSError:
            self._broken(f"ended when {doing}")

    def _receive(self, timeout_s: float, doing: str) -> tuple[int, int, memoryview]:
        self._limit(timeout_s)
        try:
            kind, count, size = protocol.read_header(self._read(protocol.HEADER.size))
            body = self._read(size)
        except TimeoutError:
            self._broken(f"did not answer for {timeout_s:g} s when {doing}")
        except (EOFError, OSError):
            self._broken(f"ended when {doing}")
        except ProtocolError as error:
            self._broken(str(error))
        self._due = False
        if kind == protocol.FAILED:
            self._broken(f"gave up: {bytes(body).decode('utf-8', 'replace')}")
        return kind, count, body

    def _limit(self, timeout_s: float) -> None:
        if timeout_s != self._timeout_s:
            self._link.settimeout(timeout_s)
            self._timeout_s = timeout_s

    def _read(self, size: int) -> memoryview:
        if size > len(self._buffer):
            self._buffer = bytearray(2 * size)
        view, got = memoryview(self._buffer)[:size], 0
        while got < size:
            count = self._link.recv_into(view[got:])
            if count == 0:
                raise EOFError
            got += count
        return view

    def _broken(self, what: str) -> NoReturn:
        """End the process and raise WorldError, with its exit status and last words."""
        status = "was still running"
        try:
            code = self._process.wait(0.5)
            status = f"was ended by signal {-code}" if code < 0 else f"ended with exit status {code}"
        except subprocess.TimeoutExpired:
            pass
        self._finalizer()
        words = ""
        if not self._output.closed:
            self._output.seek(0)
            lines = self._output.read().decode("utf-8", "replace").strip().splitlines()
            words = "".join(f"\n  {line}" for line in lines[-5:])
            self._output.close()
        raise WorldError(f"TORCS (track {self.race.track}, pid {self.pid}) {what}; it {status}{words}")

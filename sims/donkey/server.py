"""`pacenote donkey-server`: our worlds behind the Donkey simulator's protocol, without a display and without Unity.

Each connection gets a car of its own in a world of its own, up to `max_cars`; one more is refused. The protocol has no
authentication: the server listens on loopback unless told otherwise.
"""

from __future__ import annotations

import ipaddress
import logging
import select
import signal
import socket
import sys
import threading
import zlib
from collections.abc import Callable, Sequence

from sims.donkey import protocol
from sims.donkey.connection import Connection, Hosting
from sims.road import Road
from sims.world import WorldError, WorldSpec
from sims.worlds import find_world

MAX_CARS = 8
log = logging.getLogger(__name__)


def hosting(
    spec: WorldSpec,
    tracks: Sequence[str] = (),
    *,
    lockstep: bool = False,
    seed: int = 0,
    traffic: int = 0,
    randomize: float = 0.0,
) -> Hosting:
    """Which road each scene shows. Without `tracks` every scene of the simulator is a random road of its own, always
    the same for the same seed; with them the scenes take the tracks in turn, and each track is a scene of its own name
    too. Raises RoadError or UnknownName for a track that is not there."""
    roads: dict[str, Road] = {track: spec.road(track, seed) for track in tracks}

    def road(scene: str) -> Road:
        if scene in roads:
            return roads[scene]
        if tracks:
            return roads[tracks[protocol.SCENES.index(scene) % len(tracks)]]
        return spec.road("random", (zlib.crc32(scene.encode()) + seed) % 1_000_000)

    scenes = tuple(dict.fromkeys([*protocol.SCENES, *tracks]))
    return Hosting(spec, scenes, road, lockstep, seed, traffic, randomize)


class DonkeyServer:
    """Listens on (host, port); port 0 takes a free one, `address` tells it. `serve` until `close`."""

    def __init__(self, what: Hosting, host: str = "127.0.0.1", port: int = protocol.PORT, max_cars: int = MAX_CARS):
        self._hosting, self._max_cars = what, max_cars
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._listener = socket.create_server((host, port), family=family)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise WorldError(
                f"cannot listen on {host}:{port}: {reason}; is a simulator running there already? Choose another --port"
            ) from error
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._wake, self._woken = socket.socketpair()
        self._threads: dict[threading.Thread, socket.socket] = {}
        self._lock = threading.Lock()

    def serve(self) -> None:
        """Take clients until `close` is called (from another thread or a signal handler)."""
        while True:
            ready, _, _ = select.select([self._listener, self._woken], [], [])
            if self._woken in ready:
                break
            try:
                sock, (host, port, *_) = self._listener.accept()
            except OSError as error:  # it went before we looked
                log.info("a client went before it was served: %s", error)
                continue
            self._take(sock, f"{host}:{port}")
        self._shut()

    def close(self) -> None:
        """Make `serve` end: all clients go."""
        try:
            self._wake.send(b"x")
        except OSError:
            pass  # it has ended already

    def _take(self, sock: socket.socket, name: str) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        with self._lock:
            full = len(self._threads) >= self._max_cars
        if full:
            text = f"all {self._max_cars} cars are taken; try again when a client has gone"
            log.warning("%s: refused: %s", name, text)
            sock.settimeout(1.0)
            try:
                sock.sendall(protocol.encode({"msg_type": "pacenote_error", "message": text}) + b"\n")
            except OSError:
                pass  # it does not want to know
            sock.close()
            return
        log.info("%s: connected", name)
        thread = threading.Thread(target=self._run, args=(sock, name), name=f"donkey {name}", daemon=True)
        with self._lock:
            self._threads[thread] = sock
        thread.start()

    def _run(self, sock: socket.socket, name: str) -> None:
        try:
            Connection(sock, name, self._hosting).serve()
        finally:
            with self._lock:
                self._threads.pop(threading.current_thread(), None)

    def _shut(self) -> None:
        self._listener.close()
        with self._lock:
            left = dict(self._threads)
        for sock in left.values():
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # gone by itself
        for thread in left:
            thread.join(5.0)  # each lets its world go
        self._wake.close()
        self._woken.close()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def run_server(
    world: str,
    tracks: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = protocol.PORT,
    lockstep: bool = False,
    seed: int = 0,
    traffic: int = 0,
    max_cars: int = MAX_CARS,
    say: Callable[[str], None] = print,
) -> None:
    """The command: serve until Ctrl-C or SIGTERM. Raises WorldError, RoadError or UnknownName where it cannot start."""
    if world == "donkey":
        raise WorldError("the server cannot show the world 'donkey': that one is its client; try --world track")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    server = DonkeyServer(
        hosting(find_world(world), tracks, lockstep=lockstep, seed=seed, traffic=traffic), host, port, max_cars
    )
    if not is_loopback(host):
        say(f"warning: {host} is reachable from other machines, and this protocol has no authentication: anybody there "
            "can drive")  # fmt: skip
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.close())
    say(f"donkey server: world {world}, listening on {server.address[0]}:{server.address[1]}"
        + (", lock-step" if lockstep else ""))  # fmt: skip
    server.serve()

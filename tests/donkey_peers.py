"""Other ends for the Donkey tests: our server on a free port, scripted simulators, and a stand-in for Unity's."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import select
import socket
import threading

import cv2
import numpy as np

from sims.donkey.client import Patience
from sims.donkey.server import DonkeyServer, hosting
from sims.worlds import WORLDS

QUICK = Patience(connect_s=2.0, answer_s=0.4, scene_s=20.0, telemetry_s=0.4)
STEADY = Patience(connect_s=5.0, answer_s=20.0, scene_s=60.0, telemetry_s=20.0)


def write_oval(path, straight_m=4.0, radius_m=1.6, half_width_m=0.6):
    """A racetrack file: two straights and two half circles, 18 m around, driven counter-clockwise."""
    turn = np.linspace(-math.pi / 2, math.pi / 2, 16, endpoint=False)
    along = np.linspace(-straight_m / 2, straight_m / 2, 12, endpoint=False)
    half = straight_m / 2
    x = np.concatenate([along, half + radius_m * np.cos(turn), -along, -half - radius_m * np.cos(turn)])
    y = np.concatenate([0 * along - radius_m, radius_m * np.sin(turn), 0 * along + radius_m, -radius_m * np.sin(turn)])
    width = np.full(len(x), half_width_m)
    np.savetxt(path, np.column_stack([x, y, width, width]), delimiter=",", header="x_m,y_m,w_tr_right_m,w_tr_left_m")
    return str(path)


@contextlib.contextmanager
def serving(tracks=(), port=0, max_cars=8, world="track", **options):
    """Our server with a world; gives its address."""
    server = DonkeyServer(hosting(WORLDS[world], tracks, **options), port=port, max_cars=max_cars)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server.address
    finally:
        server.close()
        thread.join(20.0)
        assert not thread.is_alive()


class Wire:
    """A bare connection to a server: objects out, lines in."""

    def __init__(self, address, timeout_s=20.0):
        self.sock = socket.create_connection(address, timeout_s)
        self.lines = self.sock.makefile("rb")

    def send(self, msg_type, **fields):
        self.sock.sendall(json.dumps({"msg_type": msg_type, **fields}).encode())

    def receive(self, wanted=None):
        """The next message (of that type); None when the server has closed."""
        while line := self.lines.readline():
            message = json.loads(line)
            if wanted in (None, message["msg_type"]):
                return message
        return None

    def load(self, scene="generated_track"):
        self.receive("scene_selection_ready")
        self.send("load_scene", scene_name=scene)
        assert self.receive("car_loaded")
        return self

    def step(self, steering="0", throttle="0", brake="0"):
        """A control in lock-step, and its telemetry."""
        self.send("control", steering=steering, throttle=throttle, brake=brake)
        return self.receive("telemetry")

    def close(self):
        self.lines.close()
        self.sock.close()


@contextlib.contextmanager
def scripted(*scripts, port=0):
    """A simulator that does `scripts[k](sock)` with its k-th client (the last script for all further ones)."""
    listener = socket.create_server(("127.0.0.1", port))
    open_socks = []

    def accept():
        k = 0
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                open_socks.append(sock)
                with contextlib.suppress(OSError, ValueError):  # ValueError: closed under its feet
                    scripts[min(k, len(scripts) - 1)](sock)
                k += 1

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for sock in open_socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        thread.join(5.0)


def say(sock, **message):
    """A message as a simulator sends it."""
    sock.sendall(json.dumps(message).encode() + b"\n")


def picture(width=160, height=120, value=90):
    data = cv2.imencode(".jpg", np.full((height, width, 3), value, np.uint8))[1]
    return base64.b64encode(data).decode()


class FakeUnity:
    """As the notes describe the Unity simulator: only strings as numbers, each segment is one object, telemetry from
    its own clock, no truth. Each 10 ms on the wall are 50 ms here, but time stands still `LEAD` telemetries after the
    client's last word, so that no test depends on the speed of a machine. The path is a circle of 5 m, to the left.
    `seen` are the client's messages; `faults` what Unity would have failed at."""

    LEAD = 5

    def __init__(self, closed=True, nodes=60, version="2"):
        self.closed, self.nodes, self.version = closed, nodes, version
        self.seen: list[dict] = []
        self.faults: list[str] = []
        self.size = (256, 256)
        self.time_s, self.pose, self.hit = 0.0, (40.0, 0.6, 0.0, 0.0), "none"

    def __call__(self, sock):
        inside, told = False, 0
        say(sock, msg_type="scene_selection_ready", loaded="1")
        while True:
            if select.select([sock], [], [], 0.01 if inside and told < self.LEAD else 20.0)[0]:
                data = sock.recv(1 << 16)
                if not data:
                    return
                inside, told = self._take(sock, data, inside), 0
            elif inside:
                self.time_s, told = self.time_s + 0.05, told + 1
                self._tell(sock)

    def _take(self, sock, data, inside):
        try:
            message = json.loads(data)
        except ValueError:
            self.faults.append(f"two objects in one segment: {data[:100]}")
            return inside
        self.seen.append(message)
        kind = message["msg_type"]
        self.faults += [f"{kind}: {k} is no string" for k, v in message.items() if not isinstance(v, str)]
        if kind == "get_protocol_version" and self.version:
            say(sock, msg_type="protocol_version", version=self.version)
        elif kind == "get_scene_names":
            say(sock, msg_type="scene_names", scene_names=["generated_road", "generated_track"])
        elif kind == "load_scene":
            say(sock, msg_type="car_loaded")
            return True
        elif kind == "exit_scene":
            say(sock, msg_type="scene_selection_ready", loaded="1")
            return False
        elif kind == "cam_config":
            self.size = int(message["img_w"]), int(message["img_h"])
        elif kind == "reset_car":
            self.pose = (40.0, 0.6, 0.0, 0.0)
        elif kind == "set_position":
            x, y, z, qy, qw = (float(message[k]) for k in ("pos_x", "pos_y", "pos_z", "Qy", "Qw"))
            self.pose = (x, y, z, math.degrees(2.0 * math.atan2(qy, qw)) % 360.0)
        elif kind == "node_position":
            index = int(message["index"])
            turn = 2.0 * math.pi if self.closed else math.pi
            angle = turn * index / self.nodes
            say(sock, msg_type="node_position", index=index, pos_x=40.0 * math.cos(angle), pos_y=0.6,
                pos_z=40.0 * math.sin(angle), Qx=0.0, Qy=0.0, Qz=0.0, Qw=1.0)  # fmt: skip
        return inside

    def _tell(self, sock):
        x, y, z, yaw = self.pose
        say(sock, msg_type="telemetry", steering_angle=0.25, throttle=0.0, speed=1.5, image=picture(*self.size),
            hit=self.hit, time=self.time_s, accel_x=0.0, accel_y=0.0, accel_z=0.0, gyro_x=0.0, gyro_y=-0.5, gyro_z=0.0,
            pitch=0.0, yaw=yaw, roll=0.0, cte=0.0, activeNode=0, totalNodes=self.nodes, pos_x=x / 8, pos_y=y / 8,
            pos_z=z / 8, vel_x=0.0, vel_y=0.0, vel_z=1.5, lidar=[{"d": 12.5, "rx": 90, "ry": 0}])  # fmt: skip

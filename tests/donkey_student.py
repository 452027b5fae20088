"""What a student writes for the Donkey simulator: a client of its TCP protocol that drives one lap by `cte`.

Standalone on purpose: standard library, numpy and Pillow, nothing of Pacenote; written from the protocol's description
alone. `python donkey_student.py PORT [SCENE]` prints one JSON line: laps, lap time, largest cte, pictures, hits.
"""

import base64
import io
import json
import socket
import sys
import time

import numpy as np
from PIL import Image


class Sim:
    def __init__(self, port, host="127.0.0.1", timeout=60.0):
        self.sock = socket.create_connection((host, port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lines = self.sock.makefile("rb")

    def send(self, msg_type, **fields):
        """One object per send; every number is a string."""
        self.sock.sendall(json.dumps({"msg_type": msg_type, **{k: str(v) for k, v in fields.items()}}).encode())

    def receive(self, wanted=None):
        while True:
            line = self.lines.readline()
            if not line:
                raise ConnectionError("the simulator closed the connection")
            message = json.loads(line)
            if wanted is None or message["msg_type"] == wanted:
                return message

    def control(self, steering, throttle, brake=0.0):
        self.send("control", steering=steering, throttle=throttle, brake=brake)


def drive(port, scene="generated_track", seconds=240.0, throttle=0.5):
    sim = Sim(port)
    sim.receive("scene_selection_ready")
    sim.send("get_scene_names")
    names = sim.receive("scene_names")["scene_names"]
    assert scene in names, names
    sim.send("load_scene", scene_name=scene)
    sim.receive("car_loaded")
    sim.control(0, 0, 1)
    sim.send("car_config", body_style="donkey", body_r=128, body_g=0, body_b=0, car_name="student", font_size=50)
    sim.send("cam_config", img_w=80, img_h=60, img_d=3, img_enc="JPG", fov=0, fish_eye_x=0, fish_eye_y=0, offset_x=0,
             offset_y=0, offset_z=0, rot_x=0)  # fmt: skip
    crossings, pictures, hits, worst, before = [], 0, 0, 0.0, None
    began = time.monotonic()
    last_time = None
    while time.monotonic() - began < seconds and len(crossings) < 2:
        message = sim.receive()
        if message["msg_type"] == "collision_with_starting_line":
            crossings.append(message["timeStamp"])
        if message["msg_type"] != "telemetry":
            continue
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(message["image"]))))
        pictures += picture.shape == (60, 80, 3)
        hits += message["hit"] != "none"
        cte, now = message["cte"], message["time"]
        worst = max(worst, abs(cte))
        # P-controller on the cte as it will be in a moment
        rate = (cte - before) / (now - last_time) if before is not None and now > last_time else 0.0
        before, last_time = cte, now
        steering = -0.25 * (cte + 0.5 * rate)
        sim.control(np.clip(steering, -1.0, 1.0), throttle)
    sim.sock.close()
    lap = crossings[1] - crossings[0] if len(crossings) == 2 else None
    return {"laps": len(crossings) - 1, "lap_s": lap, "worst_cte": worst, "pictures": int(pictures), "hits": hits}


if __name__ == "__main__":
    print(json.dumps(drive(int(sys.argv[1]), *sys.argv[2:3])))

"""Round trip of the link, 20 kB frame out and 1 kB plan back, beside bare pyzmq with the same bytes in the same run.

Ours: CarLink and PlannerLink with everything they check. Peer: a DEALER and a ROUTER that look at nothing. The
planners answer from processes of their own. The two sides are measured in turns, one round trip each, so that a
busy machine slows both and neither finds warmer caches. The figure is the median.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import time
from pathlib import Path
from typing import Annotated

import typer
import zmq

from bridge import messages as m
from bridge.codec import encode
from bridge.link import CarConnected, CarLink, FrameArrived, PlannerLink

JPEG = os.urandom(20_000)
WAYPOINTS = tuple(m.Waypoint(x_m=0.5 * k, y_m=round(0.0371 * k * k, 4), v_mps=1.2 + 0.01 * k) for k in range(1, 9))
REASONING = "The lane ahead bends to the left and a slower car drives in it; the left lane is free, so I go there. " * 3


PLAN = m.Plan(
    session_id="0123456789abcdef",
    seq=0,
    frame_seq=0,
    t_capture_ns=0,
    ttl_s=2.0,
    intent=m.Intent.OVERTAKE_LEFT,
    waypoints=WAYPOINTS,
    reasoning=REASONING,
    verdict=m.CommandVerdict(command_id="0123456789ab", verdict=m.Verdict.ACCEPTED),
    model="planner-nano",
)


def make_plan(frame: m.Frame) -> m.Plan:
    """A plan of about 1 kB of JSON for a frame. Making plans is not the link's work, so this is cheap."""
    echo = {"session_id": frame.session_id, "seq": frame.seq, "frame_seq": frame.seq}
    return PLAN.model_copy(update=echo | {"t_capture_ns": frame.t_capture_ns})


def serve_ours(pipe) -> None:
    """Answer every frame with a plan and a new credit until told to end."""
    with PlannerLink() as link:
        pipe.send(link.bind("tcp://127.0.0.1:0"))
        while not pipe.poll():
            for event in link.poll(100):
                if isinstance(event, CarConnected):
                    session_id = event.hello.session_id
                    link.send_welcome(event.car_id, m.Welcome(session_id=session_id, model="bench", rate_hz=2.0))
                    link.send_ready(event.car_id)
                elif isinstance(event, FrameArrived):
                    link.send_plan(event.car_id, make_plan(event.frame))
                    link.send_ready(event.car_id)


def serve_peer(pipe, answer: bytes) -> None:
    """Answer every message with the same bytes until told to end."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.linger = 0
        socket.bind("tcp://127.0.0.1:0")
        pipe.send(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        while not pipe.poll():
            if socket.poll(100):
                identity, *_ = socket.recv_multipart()
                socket.send_multipart([identity, answer])


class Ours:
    """The car's side of the link."""

    def __init__(self, endpoint: str):
        self.link = CarLink("bench")
        self.link.connect(endpoint)
        self.seq = 0

    def round_trip_s(self) -> float:
        """Frame encoded and sent, plan received and decoded; the wait for the credit is not counted."""
        while not self.link.wants_frame:
            self.link.poll(10)
        self.seq += 1
        start_s = time.perf_counter()
        frame = m.Frame(session_id=self.link.session_id, seq=self.seq, t_capture_ns=time.monotonic_ns())
        self.link.offer_frame(frame, JPEG)
        while self.link.poll(1000).plan is None:
            pass
        return time.perf_counter() - start_s


class Peer:
    """A bare DEALER."""

    def __init__(self, endpoint: str, header: bytes):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(endpoint)
        self.header = header

    def round_trip_s(self) -> float:
        """The same bytes there and back."""
        start_s = time.perf_counter()
        self.socket.send_multipart([self.header, JPEG])
        while not self.socket.poll(1000):  # no car can wait for ever
            pass
        self.socket.recv_multipart()
        return time.perf_counter() - start_s


def measure(rounds: int, warm_up: int = 50) -> list[dict]:
    """Both in turns; the result as a list of one figure."""
    frame = m.Frame(session_id="0123456789abcdef", seq=1, t_capture_ns=time.monotonic_ns())
    header, answer = encode(frame), encode(make_plan(frame))
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for target, args in ((serve_ours, ()), (serve_peer, (answer,))):
        mine, theirs = context.Pipe()
        processes.append(context.Process(target=target, args=(theirs, *args), daemon=True))
        processes[-1].start()
        pipes.append(mine)
    sides = [Ours(pipes[0].recv()), Peer(pipes[1].recv(), header)]
    times_s: list[list[float]] = [[], []]
    for _ in range(warm_up + rounds):
        for side, kept in zip(sides, times_s, strict=True):
            kept.append(side.round_trip_s())
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send("end")
        process.join()
    sides[0].link.close()
    sides[1].context.destroy(linger=0)
    ours, peer = (statistics.median(t[warm_up:]) * 1e6 for t in times_s)
    name = f"link round trip p50, {len(JPEG) // 1000} kB frame, {len(answer) / 1000:.1f} kB plan"
    return [
        {"name": name, "ours": round(ours, 1), "peer": round(peer, 1), "unit": "us", "ratio": round(ours / peer, 3)}
    ]


def main(
    rounds: Annotated[int, typer.Option(help="Round trips of each side.")] = 2000,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Round trip of the link beside bare pyzmq."""
    results = measure(rounds)
    for r in results:
        print(f"{r['name']}: {r['ours']} {r['unit']}, bare pyzmq {r['peer']} {r['unit']}, {r['ratio']} x")
    if json_path:
        json_path.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    typer.run(main)

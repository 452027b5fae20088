"""Helpers for tests of the link: waiting without sleeping, ready-made messages, a plain peer that may misbehave."""

import time
from contextlib import contextmanager

import zmq

from bridge import messages as m
from bridge.link import CarConnected, CarLink, FrameArrived, PlannerLink

ANY_PORT = "tcp://127.0.0.1:0"
JPEG = b"\xff\xd8 not looked at by the link"


def until(condition, *pumps, timeout_s=10.0):
    """Call the pumps (each waits a few ms at most) until the condition holds; fail after the timeout."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        for pump in pumps:
            pump()
        if not pumps:  # another thread does the work: leave it the processor
            time.sleep(0.001)


class Planner:
    """A PlannerLink that welcomes every car and keeps what has come."""

    def __init__(self, endpoint=ANY_PORT, *, wants_truth=False, keys=None, **more):
        self.link = PlannerLink(**more)
        self.endpoint = self.link.bind(endpoint, keys=keys)
        self.wants_truth = wants_truth
        self.events = []

    def pump(self):
        for event in self.link.poll(2):
            self.events.append(event)
            if isinstance(event, CarConnected):
                welcome = m.Welcome(
                    session_id=event.hello.session_id, model="none", rate_hz=2.0, wants_truth=self.wants_truth
                )
                self.link.send_welcome(event.car_id, welcome)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def frames(self):
        return self.of(FrameArrived)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.link.close()


class Car:
    """A CarLink that keeps what has come."""

    def __init__(self, endpoint, car_id="donkey", *, keys=None, **more):
        self.link = CarLink(car_id, **more)
        self.link.connect(endpoint, keys)
        self.plans, self.stops = [], []

    def pump(self):
        plan, stops = self.link.poll(2)
        self.stops += stops
        if plan is not None:
            self.plans.append(plan)

    def frame(self, seq=0, **more):
        return m.Frame(session_id=self.link.session_id, seq=seq, t_capture_ns=1000 + seq, **more)

    def offer(self, seq=0, jpeg=JPEG, **more):
        return self.link.offer_frame(self.frame(seq, **more), jpeg)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.link.close()


def meet(planner, car):
    """Until the session stands on both sides."""
    until(lambda: car.link.connected, planner.pump, car.pump)


def deliver_frame(planner, car, seq=0):
    """One credit, one frame."""
    until(lambda: planner.link.send_ready(car.link.car_id), planner.pump)
    until(lambda: car.link.wants_frame, car.pump)
    before = len(planner.frames)
    assert car.offer(seq)
    until(lambda: len(planner.frames) > before, planner.pump)


def plan_for(frame, seq=0, **more):
    points = (m.Waypoint(x_m=0.5, y_m=0.0, v_mps=1.0), m.Waypoint(x_m=1.0, y_m=0.1, v_mps=1.0))
    fields = {
        "session_id": frame.session_id,
        "seq": seq,
        "frame_seq": frame.seq,
        "t_capture_ns": frame.t_capture_ns,
        "intent": m.Intent.FOLLOW_LANE,
        "waypoints": points,
    }
    return m.Plan(**(fields | more))


@contextmanager
def plain_peer(endpoint, kind=zmq.DEALER):
    """A bare ZeroMQ socket: connected, or bound where it is a ROUTER."""
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.linger = 0
        if kind == zmq.ROUTER:
            socket.bind(endpoint)
        else:
            socket.connect(endpoint)
        yield socket

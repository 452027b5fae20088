"""The planner server over real sockets, with the expert as its backend and with backends that misbehave."""

import io
import json
import threading
import time

import numpy as np
import pytest
from bridge_peers import ANY_PORT, Car, until
from kinematic_world import PROFILE, oval, truth_at
from PIL import Image

from bridge.link import OperatorLink, PlannerLink
from bridge.messages import Intent, Mode, Status, Verdict, Waypoint
from bridge.planning import PlanAnswer
from planner.phrasebook import understand
from planner.serve import serve
from planner.server import PlannerServer, decode_jpeg
from planner.settings import ServeSettings
from sims.expert import ExpertBackend

TRUTH = truth_at(oval(), 5.0, -0.4).to_dict()  # right lane of two, on a straight, nobody about


understand("")  # builds its tables


def _jpeg(seed=0, size=(160, 120)):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


class Straight:
    """Plans straight on; what it was asked stays in `asked`. `rule` may raise or wait."""

    name, rate_hz, wants_truth = "straight", 200.0, False

    def __init__(self, rule=lambda requests: None):
        self.asked, self.rule = [], rule

    def plan(self, requests):
        self.asked.append(list(requests))
        self.rule(requests)
        points = tuple(Waypoint(x_m=0.5 * k, y_m=0.0, v_mps=1.0) for k in range(1, 9))
        return [PlanAnswer(Intent.FOLLOW_LANE, points, "straight on", Verdict.ACCEPTED) for _ in requests]


class Bench:
    """A server with its link on a free port, and what it recorded."""

    def __init__(self, backend):
        self.link = PlannerLink()
        self.endpoint = self.link.bind(ANY_PORT)
        self.records = []
        self.server = PlannerServer(backend, self.link, on_record=self.records.append)

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.close()


def drive(car, plans=1, jpeg=None, seq=0, **frame):
    """Offer frames whenever there is credit until so many more plans have come."""
    jpeg = jpeg or _jpeg()
    wanted, sent = len(car.plans) + plans, [seq]

    def offer():
        car.pump()
        if car.offer(sent[0], jpeg, **frame):
            sent[0] += 1

    until(lambda: len(car.plans) >= wanted, offer)
    return sent[0]


def test_the_expert_drives_a_car_over_the_link():
    with Bench(ExpertBackend(understand, rate_hz=200.0)) as bench, Car(bench.endpoint) as car:
        drive(car, truth=TRUTH)
        plan = car.plans[-1]
        assert (plan.intent, plan.model, plan.verdict) == (Intent.FOLLOW_LANE, "expert", None)
        assert plan.t_capture_ns == 1000 + plan.frame_seq
        assert plan.reasoning.startswith("2 lanes, I am in lane 0")
        until(lambda: bench.records)  # written after the plan has left
        json.dumps(bench.records[-1])
        assert bench.records[-1]["guard"] == [] and bench.records[0]["frame"]["seq"] == plan.frame_seq


def test_a_command_is_acknowledged_obeyed_and_reported():
    with (
        Bench(ExpertBackend(understand, rate_hz=200.0)) as bench,
        Car(bench.endpoint) as car,
        OperatorLink() as operator,
    ):
        seq = drive(car, truth=TRUTH)
        operator.connect(bench.endpoint)
        ack = operator.send_command("change to the left lane")
        assert ack.accepted
        while car.plans[-1].verdict is None:
            seq = drive(car, seq=seq, truth=TRUTH)
        assert car.plans[-1].intent is Intent.CHANGE_LEFT
        assert car.plans[-1].verdict.verdict is Verdict.ACCEPTED
        arrived = truth_at(oval(), 6.0, 0.4).to_dict()
        while car.plans[-1].verdict and car.plans[-1].verdict.verdict is not Verdict.DONE:
            seq = drive(car, seq=seq, truth=arrived)
        told = [status.verdict.verdict for status in operator.verdicts(ack.id, 5.0)]
        assert told == [Verdict.ACCEPTED, Verdict.DONE]
        drive(car, plans=2, seq=seq, truth=arrived)
        assert car.plans[-1].verdict is None


def test_the_expert_says_what_is_impossible():
    with (
        Bench(ExpertBackend(understand, rate_hz=200.0)) as bench,
        Car(bench.endpoint) as car,
        OperatorLink() as operator,
    ):
        seq = drive(car, truth=TRUTH)
        operator.connect(bench.endpoint)
        ack = operator.send_command("从右边超车")
        while car.plans[-1].verdict is None:
            seq = drive(car, seq=seq, truth=TRUTH)
        assert car.plans[-1].verdict.verdict is Verdict.REFUSED
        assert [s.verdict.reason for s in operator.verdicts(ack.id, 5.0)] == ["no lane on the right"]


def test_two_frames_reach_the_model_and_never_the_truth():
    backend = Straight()
    with Bench(backend) as bench, Car(bench.endpoint) as car:
        drive(car, plans=3, truth=TRUTH)
    request = backend.asked[-1][0]
    assert len(request.images) == 2 and request.images[0].shape == (120, 160, 3)
    assert request.truth is None
    assert 0.0 < request.image_interval_s <= 1.0


@pytest.mark.parametrize("bad", [b"\xff\xd8 no picture", _jpeg()[:400], _jpeg(size=(8, 8))])
def test_a_bad_picture_costs_one_plan(bad):
    with Bench(Straight()) as bench, Car(bench.endpoint) as car:
        seq = drive(car)
        until(lambda: car.offer(seq, bad), car.pump)
        until(lambda: bench.server.problems["bad_jpeg"], car.pump)
        drive(car, plans=2, seq=seq + 1)
    with pytest.raises(ValueError):
        decode_jpeg(bad)


def test_a_backend_that_fails_on_one_car_serves_the_others():
    def rule(requests):
        if any(request.profile.name == "cursed" for request in requests):
            raise RuntimeError("no")

    cursed = PROFILE.model_copy(update={"name": "cursed"})
    with (
        Bench(Straight(rule)) as bench,
        Car(bench.endpoint, "good") as good,
        Car(bench.endpoint, "bad", profile=cursed) as bad,
    ):
        seq = [0]

        def offer():
            for car in (good, bad):
                car.pump()
                seq[0] += car.offer(seq[0], _jpeg())

        until(lambda: len(good.plans) >= 3 and bench.server.problems["backend_error"] >= 3, offer)
        assert not bad.plans
        assert any("RuntimeError: no" in record.get("error", "") for record in bench.records)
        assert bench.server.alive


def test_answers_that_are_no_plans_cost_one_plan():
    answers = iter([[], [None], [PlanAnswer(Intent.STOP, (), "")]])

    class Strange(Straight):
        def plan(self, requests):
            return next(answers, None) or super().plan(requests)

    with Bench(Strange()) as bench, Car(bench.endpoint) as car:
        drive(car, plans=2)
        assert bench.server.problems["guard"] + bench.server.problems["no_plan"] >= 1


def test_the_guard_keeps_a_bad_plan_back():
    class Racer(Straight):
        def plan(self, requests):
            fast = tuple(Waypoint(x_m=0.5 * k, y_m=0.0, v_mps=50.0) for k in range(1, 9))
            return [PlanAnswer(Intent.FOLLOW_LANE, fast, "fast") for _ in requests]

    with Bench(Racer()) as bench, Car(bench.endpoint) as car:
        seq = [0]

        def offer():
            car.pump()
            seq[0] += car.offer(seq[0], _jpeg())

        until(lambda: bench.server.problems["guard"] >= 2, offer)
        until(lambda: bench.records)
        assert not car.plans
        assert "50.0 m/s" in bench.records[-1]["guard"][0] and bench.records[-1]["seq"] is None


def test_a_stop_passes_while_the_model_hangs():
    release, entered = threading.Event(), threading.Event()

    def hang(requests):
        entered.set()
        release.wait(30.0)

    with Bench(Straight(hang)) as bench, Car(bench.endpoint) as car, OperatorLink() as operator:

        def offer():
            car.pump()
            car.offer(0, _jpeg())

        until(entered.is_set, offer)
        operator.connect(bench.endpoint)
        assert operator.send_command("go faster").accepted
        assert operator.stop().accepted
        until(lambda: car.stops, car.pump)
        assert bench.server.alive
        release.set()


def test_the_announced_rate_is_kept():
    """Two plans take at least one period, however fast the model is."""
    backend = Straight()
    backend.rate_hz = 20.0
    with Bench(backend) as bench, Car(bench.endpoint) as car:
        seq = drive(car)
        begin = time.monotonic()
        drive(car, plans=2, seq=seq)
        assert time.monotonic() - begin > 0.045
        assert car.link.welcome.rate_hz == 20.0


def test_several_cars_are_answered_in_one_batch():
    gate = threading.Event()
    backend = Straight(lambda requests: gate.wait(30.0))
    with Bench(backend) as bench:
        cars = [Car(bench.endpoint, f"car-{k}") for k in range(4)]
        seq = [0]

        def offer():
            for car in cars:
                car.pump()
                seq[0] += car.offer(seq[0], _jpeg())

        until(lambda: all(car.link.welcome for car in cars), offer)
        gate.set()
        until(lambda: any(len(batch) == 4 for batch in backend.asked), offer)
        until(lambda: all(car.plans for car in cars), offer)
        for car in cars:
            car.__exit__()


def test_a_car_that_says_hello_again_keeps_its_command():
    backend = Straight()
    with Bench(backend) as bench, OperatorLink() as operator:
        with Car(bench.endpoint) as car:
            drive(car)
            operator.connect(bench.endpoint)
            operator.send_command("keep left")
            until(lambda: car.plans[-1].verdict, lambda: drive(car, seq=len(car.plans) * 100))
            first = car.link.session_id
        with Car(bench.endpoint) as car:
            drive(car)
            assert car.link.session_id != first
            assert car.plans[-1].verdict is not None


def test_serve_says_where_writes_its_log_and_ends(tmp_path):
    ending, said, listening = threading.Event(), [], threading.Event()

    def say(line):
        said.append(line)
        listening.set()

    settings = ServeSettings(bind=ANY_PORT, log=tmp_path / "run" / "planner.jsonl")
    thread = threading.Thread(target=serve, args=(settings, Straight()), kwargs={"say": say, "ending": ending})
    thread.start()
    assert listening.wait(10.0)
    with Car(said[0].split()[2]) as car:
        drive(car)
    ending.set()
    thread.join(10.0)
    assert not thread.is_alive()
    assert said[0].startswith("listening on tcp://127.0.0.1:") and said[-1].startswith("ended")
    lines = (tmp_path / "run" / "planner.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["reasoning"] == "straight on"


def test_an_uncertified_car_is_told_once_a_session(caplog):
    with Bench(Straight()) as bench, Car(bench.endpoint) as car:
        until(lambda: car.link.connected, car.pump)
        for _ in range(3):
            car.link.send_status(Status(session_id=car.link.session_id, mode=Mode.FRESH, uncertified=True))
        drive(car)  # what comes after the statuses has been taken in
        until(lambda: "drives UNCERTIFIED" in caplog.text)
    assert caplog.text.count("UNCERTIFIED") == 1

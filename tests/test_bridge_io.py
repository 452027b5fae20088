"""The planner's I/O thread with operators and many cars; the model's thread is the test, which may hang as it likes."""

import threading

import pytest
from bridge_peers import ANY_PORT, Car, plan_for, until

from bridge import messages as m
from bridge.clock import MonotonicClock, VirtualClock
from bridge.link import LinkError, LinkTimeout, OperatorLink, PlannerIo, PlannerLink, StopListener, send_stop_to_car


class Desk:
    """A PlannerIo with the simplest callbacks, and notes of what they were told."""

    def __init__(self):
        link = PlannerLink()
        self.endpoint = link.bind(ANY_PORT)
        self.commands, self.stops, self.statuses = [], [], []
        self.io = PlannerIo(
            link,
            on_hello=self.on_hello,
            on_command=self.on_command,
            on_stop=lambda stop, cars: self.stops.append((stop.car_id, cars)),
            on_status=lambda car_id, status: self.statuses.append(status),
        )

    def on_hello(self, car_id, hello):
        assert car_id != "unwanted"
        return m.Welcome(session_id=hello.session_id, model="test", rate_hz=2.0)

    def on_command(self, command):
        self.commands.append(command)
        if command.text == "fail":
            raise RuntimeError("on purpose")
        return m.CommandAck(id=command.id, accepted=True)


class Driver:
    """A car in a thread of its own, which offers a frame whenever it has a credit."""

    def __init__(self, endpoint, car_id="donkey"):
        self.car = Car(endpoint, car_id)
        self.frames = 0
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._leave.is_set():
            self.car.pump()
            if self.car.link.wants_frame and self.car.offer(self.frames):
                self.frames += 1
        self.car.link.close()

    def close(self):
        self._leave.set()
        self._thread.join()


@pytest.fixture
def desk():
    desk = Desk()
    with desk.io:
        yield desk


@pytest.fixture
def driver(desk):
    driver = Driver(desk.endpoint)
    until(lambda: desk.io.link.car_ids == ["donkey"] and driver.car.link.connected)
    yield driver
    driver.close()


@pytest.fixture
def operator(desk):
    with OperatorLink() as link:
        link.connect(desk.endpoint)
        yield link


def test_frames_only_when_the_model_asks(desk, driver):
    for seq in range(5):
        (arrived,) = desk.io.take(10.0)
        assert arrived.car_id == "donkey" and arrived.frame.seq == seq
        desk.io.submit_plan("donkey", plan_for(arrived.frame, seq=seq))
        until(lambda seq=seq: driver.car.plans and driver.car.plans[-1].seq == seq)
    assert driver.frames == 5 and not desk.io.link.drops and not driver.car.link.drops


def test_take_gives_up_after_its_timeout(desk):
    assert desk.io.take(0.01) == []


def test_ten_cars_on_one_planner(desk):
    drivers = [Driver(desk.endpoint, f"car{i}") for i in range(10)]
    until(lambda: len(desk.io.link.car_ids) == 10)
    seen = {f"car{i}": 0 for i in range(10)}
    until(lambda: min(seen.values()) >= 5, lambda: answer(desk.io.take(1.0), desk.io, seen))
    until(lambda: all(d.car.plans for d in drivers))
    for driver in drivers:
        driver.close()
        assert {p.session_id for p in driver.car.plans} == {driver.car.link.session_id}
        assert not driver.car.link.drops
    assert not desk.io.link.drops


def answer(frames, io, seen):
    assert len({f.car_id for f in frames}) == len(frames), "one frame per car"
    for arrived in frames:
        io.submit_plan(arrived.car_id, plan_for(arrived.frame, seq=seen[arrived.car_id]))
        seen[arrived.car_id] += 1


def test_stop_passes_a_model_that_hangs(desk, driver, operator):
    desk.io.take(10.0)  # and now the model hangs: nobody takes, nobody plans
    ack = operator.stop("donkey", "test", timeout_s=10.0)
    assert ack.accepted
    until(lambda: driver.car.stops)
    assert driver.car.stops[0] == m.Stop(car_id="donkey", reason="test")
    until(lambda: desk.stops == [("donkey", ("donkey",))])
    assert driver.car.link.connected


def test_stop_for_every_car_and_for_none(desk, driver, operator):
    assert not operator.stop("nobody", timeout_s=10.0).accepted
    assert operator.stop(timeout_s=10.0).accepted
    until(lambda: driver.car.stops)
    assert driver.car.stops[0].car_id == "donkey"


def test_planner_itself_can_stop_a_car(desk, driver):
    desk.io.submit_stop(m.Stop(car_id="donkey", reason="planner"))
    until(lambda: driver.car.stops)


def test_command_is_acknowledged_and_its_verdicts_come(desk, driver, operator):
    ack = operator.send_command("overtake on the left", timeout_s=10.0)
    assert ack.accepted
    assert [(c.car_id, c.text) for c in desk.commands] == [("donkey", "overtake on the left")]
    (arrived,) = desk.io.take(10.0)
    for seq, verdict in enumerate(["accepted", "accepted", "waiting", "done", "done"]):
        word = m.CommandVerdict(command_id=ack.id, verdict=verdict)
        desk.io.submit_plan("donkey", plan_for(arrived.frame, seq=seq, verdict=word))
    told = [status.verdict.verdict.value for status in operator.verdicts(ack.id, timeout_s=10.0)]
    assert told == ["accepted", "waiting", "done"]


def test_repeated_command_is_taken_in_once(desk, driver, operator):
    for _ in range(3):
        assert operator.send_command("keep right", command_id="same", timeout_s=10.0).accepted
    assert len(desk.commands) == 1


def test_operator_hears_that_a_newer_command_or_a_stop_ended_the_old_one(desk, driver, operator):
    first = operator.send_command("keep left")
    second = operator.send_command("keep right")
    (status,) = operator.verdicts(first.id, 5.0)
    assert (status.verdict.verdict, status.verdict.reason) == (m.Verdict.REFUSED, "replaced by a newer command")
    operator.stop("donkey", "enough")
    (status,) = operator.verdicts(second.id, 5.0)
    assert (status.verdict.verdict, status.verdict.reason) == (m.Verdict.REFUSED, "the car was told to stop")


def test_command_for_a_car_that_is_not_there(desk, driver, operator):
    ack = operator.send_command("stop", "nobody", timeout_s=10.0)
    assert not ack.accepted and "nobody" in ack.reason and "donkey" in ack.reason
    assert desk.commands == []


def test_failing_callbacks_do_not_end_the_thread(desk, driver, operator):
    assert not operator.send_command("fail", timeout_s=10.0).accepted
    with Car(desk.endpoint, "unwanted") as car:
        until(lambda: desk.io.link.drops["callback_error"] == 2, car.pump)
        assert not car.link.connected
    assert operator.stop("donkey", timeout_s=10.0).accepted


def test_status_arrives(desk, driver):
    status = m.Status(session_id=driver.car.link.session_id, mode=m.Mode.FRESH)
    until(lambda: driver.car.link.send_status(status))
    until(lambda: desk.statuses)


def test_plan_of_an_ended_session_is_dropped(desk, driver):
    (arrived,) = desk.io.take(10.0)
    desk.io.submit_plan("donkey", plan_for(arrived.frame, session_id="ended"))
    until(lambda: desk.io.link.drops["wrong_session"] == 1)
    assert not driver.car.plans


def test_operator_without_a_planner_is_told(desk):
    desk.io.close()
    with OperatorLink() as link:
        link.connect(desk.endpoint)
        with pytest.raises(LinkTimeout, match="is it running"):
            link.send_command("hello", timeout_s=0.1)


@pytest.fixture
def listener():
    with StopListener("donkey") as listener:
        listener.endpoint = listener.bind(ANY_PORT)
        yield listener


def test_stop_straight_to_the_car(listener):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(send_stop_to_car(listener.endpoint, timeout_s=10.0)))
    thread.start()
    stops = []
    until(lambda: answers, lambda: stops.extend(listener.poll()))
    thread.join()
    assert answers[0].accepted and stops[0].reason == "operator"


def test_stop_for_another_car_is_refused(listener):
    with OperatorLink() as link:
        link.connect(listener.endpoint)
        thread = threading.Thread(target=lambda: answers.append(link.stop("other", timeout_s=10.0)))
        answers, stops = [], []
        thread.start()
        until(lambda: answers, lambda: stops.extend(listener.poll()))
        thread.join()
    assert not answers[0].accepted and not stops


def test_stop_listener_keeps_to_loopback():
    with StopListener("donkey") as listener, pytest.raises(LinkError, match="refusing to bind"):
        listener.bind("tcp://0.0.0.0:0")


def test_clocks():
    clock = VirtualClock(5)
    clock.sleep_until_ns(3)
    assert clock.now_ns() == 5
    clock.sleep_until_ns(10)
    clock.advance_s(1e-9)
    assert clock.now_ns() == 11
    with pytest.raises(ValueError):
        clock.advance_s(-1.0)
    wall = MonotonicClock()
    start_ns = wall.now_ns()
    wall.sleep_until_ns(start_ns + 1_000_000)
    assert wall.now_ns() >= start_ns + 1_000_000

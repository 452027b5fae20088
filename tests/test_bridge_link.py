"""Sessions, credit and the order of plans, over real sockets on loopback."""

import pytest
import zmq
from bridge_peers import ANY_PORT, JPEG, Car, Planner, deliver_frame, meet, plain_peer, plan_for, until

from bridge import messages as m
from bridge.clock import VirtualClock
from bridge.codec import decode, encode
from bridge.link import CarConnected, CarGone, CarLink, LinkError, PlannerLink, StatusArrived, is_loopback
from bridge.topics import JPEG_BYTES


@pytest.fixture
def pair():
    with Planner() as planner, Car(planner.endpoint) as car:
        meet(planner, car)
        yield planner, car


def free_endpoint():
    with Planner() as planner:
        return planner.endpoint


def test_planner_may_come_late():
    endpoint = free_endpoint()
    with Car(endpoint) as car:
        for _ in range(3):
            car.pump()
        assert not car.link.connected and not car.link.wants_frame
        with Planner(endpoint) as planner:
            meet(planner, car)
            assert len(planner.of(CarConnected)) == 1, "hellos must not pile up while nobody is there"


def test_planner_killed_and_restarted():
    endpoint = free_endpoint()
    with Planner(endpoint) as planner, Car(endpoint) as car:
        meet(planner, car)
        deliver_frame(planner, car)
        old_frame, old_session = planner.frames[0].frame, car.link.session_id
        planner.link.send_ready("donkey")
        until(lambda: car.link.wants_frame, car.pump)
        planner.link.close()
        until(lambda: not car.link.connected, car.pump)
        assert not car.link.wants_frame, "a credit ends with its session"
        with Planner(endpoint) as successor:
            meet(successor, car)
            assert car.link.session_id != old_session
            assert not successor.link.send_plan("donkey", plan_for(old_frame)), "a plan of an ended session"
            deliver_frame(successor, car, seq=1)
            successor.link.send_plan("donkey", plan_for(successor.frames[0].frame))
            until(lambda: car.plans, car.pump)


def test_planner_that_hangs_is_left_and_found_again():
    clock = VirtualClock()
    with Planner() as planner, Car(planner.endpoint, clock=clock) as car:
        meet(planner, car)
        old_session = car.link.session_id
        clock.advance_s(1.9)
        car.pump()
        assert car.link.connected
        clock.advance_s(0.2)
        car.pump()
        assert not car.link.connected and "silent" in car.link.problem
        meet(planner, car)
        assert car.link.session_id != old_session and car.link.problem == ""


def test_pings_keep_the_session_and_measure_the_round_trip():
    clock = VirtualClock()
    with Planner() as planner, Car(planner.endpoint, clock=clock) as car:
        meet(planner, car)
        session = car.link.session_id
        for _ in range(10):
            clock.advance_s(1.0)
            car.link.rtt_s = None
            car.pump()
            until(lambda: car.link.rtt_s is not None, planner.pump, car.pump)
        assert car.link.session_id == session


def test_silent_car_is_dropped():
    clock = VirtualClock()
    with Planner(clock=clock) as planner, Car(planner.endpoint) as car:
        meet(planner, car)
        until(lambda: car.link.rtt_s is not None, planner.pump, car.pump)  # no ping is under way any more
        clock.advance_s(3.1)
        planner.pump()
        assert planner.of(CarGone) == [CarGone("donkey", "silent")]
        assert planner.link.car_ids == [] and not planner.link.send_ready("donkey")


def test_same_car_on_a_new_connection_takes_over(pair):
    planner, car = pair
    with Car(planner.endpoint) as again:
        meet(planner, again)
        assert planner.link.session_id("donkey") == again.link.session_id
        assert planner.link.car_ids == ["donkey"]
        deliver_frame(planner, again)
        status = m.Status(session_id=car.link.session_id, mode=m.Mode.FRESH)
        assert car.link.send_status(status)
        until(lambda: planner.link.drops["wrong_session"] == 1, planner.pump)


def test_repeated_hello_is_answered_and_starts_nothing_new():
    with Planner() as planner, plain_peer(planner.endpoint) as peer:
        hello = encode(m.Hello(car_id="a", session_id="s"))
        for _ in range(3):
            peer.send(hello)
            until(lambda: peer.poll(2), planner.pump)
            assert decode(peer.recv()).session_id == "s"
        assert len(planner.of(CarConnected)) == 1


def test_exactly_one_frame_in_flight(pair):
    planner, car = pair
    assert not car.offer(0), "no credit yet"
    deliver_frame(planner, car, 1)
    assert planner.frames[0].frame == car.frame(1) and planner.frames[0].jpeg == JPEG
    assert not car.link.wants_frame and not car.offer(2)
    planner.link.send_ready("donkey")
    planner.link.send_ready("donkey")  # twice is still one
    until(lambda: car.link.wants_frame, car.pump)
    assert car.offer(3) and not car.offer(4)
    until(lambda: len(planner.frames) == 2, planner.pump)


def test_ready_is_repeated_when_no_frame_comes():
    clock = VirtualClock()
    with Planner(clock=clock) as planner, Car(planner.endpoint) as car:
        meet(planner, car)
        planner.link.send_ready("donkey")
        until(lambda: car.link.wants_frame, car.pump)
        car.link._credit = False  # as if it had been lost
        clock.advance_s(2.5)
        until(lambda: car.link.wants_frame, planner.pump, car.pump)


def test_frame_that_cannot_be_sent_keeps_the_credit(pair):
    planner, car = pair
    planner.link.send_ready("donkey")
    until(lambda: car.link.wants_frame, car.pump)
    assert not car.offer(0, jpeg=b"j" * (JPEG_BYTES + 1))
    assert not car.offer(0, jpeg=b"")
    assert not car.offer(0, truth={"a": "x" * JPEG_BYTES})
    assert not car.link.offer_frame(m.Frame(session_id="other", seq=0, t_capture_ns=0), JPEG)
    assert car.link.drops == {"oversized": 2, "wrong_parts": 1, "wrong_session": 1}
    assert car.offer(0, jpeg=b"j" * JPEG_BYTES)
    until(lambda: planner.frames, planner.pump)


def test_truth_reaches_only_a_planner_that_asked():
    for wants_truth in (False, True):
        with Planner(wants_truth=wants_truth) as planner, Car(planner.endpoint) as car:
            meet(planner, car)
            assert car.link.wants_truth == wants_truth
            planner.link.send_ready("donkey")
            until(lambda car=car: car.link.wants_frame, car.pump)
            assert car.offer(0, truth={"lane": 1})
            until(lambda planner=planner: planner.frames, planner.pump)
            assert planner.frames[0].frame.truth == ({"lane": 1} if wants_truth else None)
            assert planner.link.drops["unasked_truth"] == (not wants_truth)


def test_plans_reordered_duplicated_forged_and_late(pair):
    planner, car = pair
    deliver_frame(planner, car)
    frame = planner.frames[0].frame
    send = planner.link.send_plan
    assert send("donkey", plan_for(frame, seq=5))
    until(lambda: car.plans, car.pump)
    send("donkey", plan_for(frame, seq=5))
    send("donkey", plan_for(frame, seq=4))
    send("donkey", plan_for(frame, seq=6, t_capture_ns=1))
    send("donkey", plan_for(frame, seq=7, frame_seq=99))
    assert not send("donkey", plan_for(frame, seq=8, session_id="other"))
    until(lambda: car.link.drops.total() == 4, car.pump)
    assert car.link.drops == {"duplicate": 1, "out_of_order": 1, "unknown_frame": 2}
    assert [plan.seq for plan in car.plans] == [5]


def test_newest_plan_wins(pair):
    planner, car = pair
    deliver_frame(planner, car)
    for seq in range(10):
        planner.link.send_plan("donkey", plan_for(planner.frames[0].frame, seq=seq))
    until(lambda: car.plans and car.plans[-1].seq == 9, car.pump)
    assert len(car.plans) + car.link.drops["superseded"] == 10


def test_stop_and_status(pair):
    planner, car = pair
    assert planner.link.send_stop(m.Stop(car_id="donkey", reason="test"))
    until(lambda: car.stops, car.pump)
    assert car.stops[0].reason == "test"
    status = m.Status(session_id=car.link.session_id, mode=m.Mode.ESTOP)
    assert car.link.send_status(status)
    until(lambda: planner.of(StatusArrived), planner.pump)
    assert planner.of(StatusArrived) == [StatusArrived("donkey", status)]
    assert not car.link.send_status(m.Status(session_id="other", mode=m.Mode.ESTOP))


def test_one_flooding_car_leaves_the_planner_alive(pair):
    planner, car = pair
    with plain_peer(planner.endpoint) as flood:
        ping = encode(m.Ping(session_id="nobody", t_ns=0))
        for _ in range(500):
            flood.send(ping)
        deliver_frame(planner, car)
        until(lambda: planner.link.drops["wrong_session"] == 500, planner.pump)


@pytest.mark.parametrize(
    "endpoint", ["tcp://0.0.0.0:0", "tcp://*:0", "tcp://[::]:0", "tcp://eth0:0", "tcp://10.0.0.7:0"]
)
def test_binding_beyond_loopback_needs_keys(endpoint):
    with PlannerLink() as link, pytest.raises(LinkError, match="pacenote keys"):
        link.bind(endpoint)


def test_binding_beyond_loopback_when_told_so():
    with PlannerLink() as link:
        assert link.bind("tcp://0.0.0.0:0", insecure=True).startswith("tcp://0.0.0.0:")


@pytest.mark.parametrize("endpoint", ["", "127.0.0.1:5555", "tcp://127.0.0.1", "http://localhost:1", "tcp://:1"])
def test_what_is_no_endpoint(endpoint):
    with pytest.raises(LinkError, match="no endpoint"):
        is_loopback(endpoint)


def test_loopback_names():
    assert all(map(is_loopback, ["tcp://127.0.0.1:1", "tcp://127.1.2.3:*", "tcp://localhost:1", "tcp://[::1]:1"]))
    assert is_loopback("ipc://some-file") and is_loopback("inproc://name")
    assert not is_loopback("tcp://example.org:1")


def test_port_taken_and_port_given_back():
    with Planner() as planner, PlannerLink() as second:
        with pytest.raises(LinkError, match="cannot bind"):
            second.bind(planner.endpoint)
    with PlannerLink() as third:
        third.bind(planner.endpoint)


def test_planner_of_another_version_is_named():
    with plain_peer(ANY_PORT, zmq.ROUTER) as router, CarLink("a") as car:
        car.connect(router.getsockopt_string(zmq.LAST_ENDPOINT))
        until(lambda: router.poll(2), lambda: car.poll(2))
        identity, hello = router.recv_multipart()
        welcome = m.Welcome(session_id=decode(hello).session_id, model="x", rate_hz=1.0, version=7)
        router.send_multipart([identity, encode(welcome)])
        until(lambda: car.problem, lambda: car.poll(2))
        assert "version" in car.problem or "speak 7" in car.problem
        assert not car.connected and car.drops["wrong_version"] == 1

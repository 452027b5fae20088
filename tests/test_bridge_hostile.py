"""Keys, and peers that send what they should not: the link counts it and goes on."""

import os
import pickle
import stat

import pytest
from bridge_peers import Car, Planner, deliver_frame, meet, plain_peer, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_bridge_codec import ALMOST, ANY_MESSAGE

from bridge import keys as k
from bridge import messages as m
from bridge.clock import VirtualClock
from bridge.codec import decode, encode
from bridge.link import CarLink, OperatorLink, PlannerLink, StopListener
from bridge.topics import JPEG_BYTES, SOCKET_BYTES

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PARTS = (
    st.lists(ALMOST, max_size=4) | ANY_MESSAGE.map(lambda x: [encode(x)]) | ANY_MESSAGE.map(lambda x: [encode(x), b"j"])
)


@QUICK
@given(st.none() | PARTS)
def test_car_takes_any_bytes(parts):
    car = CarLink("a")
    result = car.take_in(parts)
    assert result is None or isinstance(result, m.Stop)
    assert not car.connected and not car.wants_frame


@QUICK
@given(ANY_MESSAGE)
def test_car_in_session_takes_any_message(message):
    car = CarLink("a")
    car.take_in([encode(m.Welcome(session_id=car.session_id, model="m", rate_hz=1.0))])
    fields = {"session_id": car.session_id} if hasattr(message, "session_id") else {}
    result = car.take_in([encode(message.model_copy(update=fields))])
    assert result is None or isinstance(result, m.Stop)
    assert car.connected


@QUICK
@given(st.lists(st.tuples(st.binary(max_size=5), PARTS), max_size=6))
def test_planner_takes_any_bytes(messages):
    planner = PlannerLink()
    for identity, parts in messages:
        planner.take_in(identity, parts)


@QUICK
@given(PARTS)
def test_operator_and_stop_listener_take_any_bytes(parts):
    OperatorLink().take_in(parts)
    result = LISTENER.take_in(b"x", parts)
    assert result is None or isinstance(result, m.Stop)


LISTENER = StopListener("a")

GARBAGE = [
    [b""],
    [b"\x80\x04garbage"],
    [pickle.dumps(m.Stop(car_id="donkey"))],
    [b'{"type":"stop"}'],
    [b'{"type":"hello","version":3,"car_id":"x","session_id":"y"}'],
    [encode(m.Ready(session_id="forged"))],
    [encode(m.Frame(session_id="forged", seq=0, t_capture_ns=0)), b"jpeg"],
    [encode(m.Frame(session_id="forged", seq=0, t_capture_ns=0)), b"j" * (JPEG_BYTES + 1)],
    [encode(m.Status(session_id="forged", mode=m.Mode.IDLE))],
    [b"x" * (JPEG_BYTES * 2)],
    [b"a"] * 50,
]


def test_planner_counts_garbage_and_goes_on():
    with Planner() as planner, Car(planner.endpoint) as car, plain_peer(planner.endpoint) as peer:
        meet(planner, car)
        for parts in GARBAGE:
            peer.send_multipart(parts)
        until(lambda: planner.link.drops.total() >= len(GARBAGE), planner.pump)
        assert planner.link.drops == {
            "malformed": 4,
            "wrong_version": 1,
            "unexpected_type": 1,
            "wrong_session": 2,
            "oversized": 2,
            "wrong_parts": 1,
        }
        assert peer.poll(5000) and decode(peer.recv()).version == m.PROTOCOL_VERSION, "wrong version is answered"
        deliver_frame(planner, car)


def test_car_counts_garbage_and_goes_on():
    with Planner() as planner, Car(planner.endpoint) as car:
        meet(planner, car)
        identity = planner.link._by_id["donkey"].identity
        for parts in GARBAGE:
            planner.link._socket.send_multipart([identity, *parts])
        until(lambda: car.link.drops.total() >= len(GARBAGE), car.pump)
        assert car.link.connected and not car.plans and not car.stops
        deliver_frame(planner, car)


def test_message_beyond_the_sockets_limit_cuts_only_its_sender():
    with Planner() as planner, Car(planner.endpoint) as car, plain_peer(planner.endpoint) as peer:
        meet(planner, car)
        peer.send(b"x" * (SOCKET_BYTES + 1))
        deliver_frame(planner, car)
        assert planner.link.drops["oversized"] == 0


def test_nobody_speaks_for_another_car():
    with Planner() as planner, Car(planner.endpoint) as car, plain_peer(planner.endpoint) as thief:
        meet(planner, car)
        planner.link.send_ready("donkey")
        thief.send_multipart([encode(car.frame(0)), b"forged"])
        until(lambda: planner.link.drops["wrong_session"] == 1, planner.pump)
        assert not planner.frames and planner.link.has_credit("donkey")


def test_frames_without_credit_or_out_of_order_are_dropped():
    with Planner() as planner, plain_peer(planner.endpoint) as peer:
        frame = m.Frame(session_id="s", seq=5, t_capture_ns=0)
        peer.send(encode(m.Hello(car_id="a", session_id="s")))
        peer.send_multipart([encode(frame), b"jpeg"])
        until(lambda: planner.link.drops["no_credit"] == 1, planner.pump)
        for count, seq in enumerate((5, 5, 4, 6), 2):
            planner.link.send_ready("a")
            peer.send_multipart([encode(frame.model_copy(update={"seq": seq})), b"jpeg"])
            until(lambda n=count: planner.link.drops.total() + len(planner.frames) == n, planner.pump)
        assert [event.frame.seq for event in planner.frames] == [5, 6]
        assert planner.link.drops == {"no_credit": 1, "duplicate": 1, "out_of_order": 1}


@pytest.fixture
def key_folder(tmp_path):
    planner = k.generate(tmp_path, "planner")
    car = k.generate(tmp_path, "car")
    k.allow(tmp_path / "allowed", "car", car.public)
    return tmp_path, k.ServerKeys(planner, tmp_path / "allowed"), k.ClientKeys(car, planner.public)


def test_allowed_key_connects_and_unknown_does_not_until_allowed(key_folder):
    folder, server, client = key_folder
    stranger_pair = k.generate(folder, "stranger")
    stranger_keys = k.ClientKeys(stranger_pair, server.pair.public)
    with Planner(keys=server) as planner, Car(planner.endpoint, keys=client) as car:
        meet(planner, car)
        deliver_frame(planner, car)
        clock = VirtualClock()
        with Car(planner.endpoint, "stranger", keys=stranger_keys, clock=clock) as stranger:
            until(lambda: stranger.link.problem, planner.pump, stranger.pump)
            assert "key" in stranger.link.problem and planner.link.car_ids == ["donkey"]
            k.allow(folder / "allowed", "stranger", stranger_pair.public)
            clock.advance_s(1.0)
            meet(planner, stranger)


def test_no_key_and_wrong_server_key_do_not_connect(key_folder):
    folder, server, client = key_folder
    other = k.generate(folder, "other").public
    with Planner(keys=server) as planner, Car(planner.endpoint, keys=client) as car:
        with (
            Car(planner.endpoint, "bare") as bare,
            Car(planner.endpoint, "w", keys=k.ClientKeys(client.pair, other)) as wrong,
        ):
            for _ in range(20):
                bare.pump()
                wrong.pump()
                planner.pump()
            meet(planner, car)
            assert planner.link.car_ids == ["donkey"]
            assert not bare.link.connected and not wrong.link.connected


def test_keys_allow_binding_beyond_loopback(key_folder):
    with PlannerLink() as link:
        assert link.bind("tcp://0.0.0.0:0", keys=key_folder[1])


def test_missing_allow_list_is_named(key_folder):
    keys = k.ServerKeys(key_folder[1].pair, key_folder[0] / "nowhere")
    with PlannerLink() as link, pytest.raises(k.KeyFileError, match="allowed keys"):
        link.bind("tcp://127.0.0.1:0", keys=keys)


def test_key_files(tmp_path):
    pair = k.generate(tmp_path, "car")
    secret = tmp_path / "car.key_secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert k.load(tmp_path, "car") == pair and k.load_public(tmp_path / "car.key") == pair.public
    assert pair.secret.decode() not in repr(pair) and pair.secret not in (tmp_path / "car.key").read_bytes()
    with pytest.raises(k.KeyFileError, match="there already"):
        k.generate(tmp_path, "car")
    os.chmod(secret, 0o644)
    with pytest.raises(k.KeyFileError, match="chmod 600"):
        k.load(tmp_path, "car")
    with pytest.raises(k.KeyFileError, match="pacenote keys"):
        k.load(tmp_path, "nobody")


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 65])
def test_names_that_are_no_names(tmp_path, name):
    with pytest.raises(k.KeyFileError):
        k.generate(tmp_path, name)
    with pytest.raises(k.KeyFileError):
        k.allow(tmp_path, name, b"a" * 40)


def test_allow_list_passes_over_what_is_no_key(tmp_path):
    public = k.generate(tmp_path, "car").public
    (tmp_path / "broken.key").write_bytes(b"\xff" * 500)
    (tmp_path / "empty.key").write_bytes(b"")
    assert k.AllowList(tmp_path).read() == {public}
    with pytest.raises(k.KeyFileError, match="holds no key"):
        k.load_public(tmp_path / "broken.key")

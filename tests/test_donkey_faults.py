"""What goes wrong between world `donkey` and a simulator: a clear error, in time, and the next reset begins anew."""

import math
import socket
import time

import pytest
from donkey_peers import QUICK, STEADY, say, scripted, serving

from bridge.messages import VehicleProfile
from sims.donkey import protocol, spec
from sims.donkey.world import DonkeyWorld
from sims.world import WorldError


@pytest.fixture(scope="module")
def address():
    with serving() as where:
        yield where


def world_at(where, **options):
    return DonkeyWorld(*where, **({"camera_size": (48, 36), "patience": STEADY} | options))


def hello(sock):
    say(sock, msg_type="scene_selection_ready", loaded="1")


def to_the_car(sock):
    """As far as a loaded car."""
    hello(sock)
    sock.recv(4096)
    say(sock, msg_type="protocol_version", version="2")
    sock.recv(4096)
    say(sock, msg_type="scene_names", scene_names=["generated_track"])
    sock.recv(4096)
    say(sock, msg_type="car_loaded")
    sock.recv(4096)


def then(*acts):
    def script(sock):
        for act in acts:
            act(sock)

    return script


def drop(sock):
    sock.shutdown(socket.SHUT_RDWR)


def half(sock):
    sock.sendall(b'{"msg_type":"telemetry","image":"')


def silence(sock):
    while sock.recv(4096):
        pass


def endless(sock):
    while True:
        sock.sendall(b"a" * 65536)


def blind_telemetry(sock):
    while True:
        say(sock, msg_type="telemetry", time=0.1)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (silence, "did not greet within 0.4 s"),
        (then(hello, silence), "did not answer get_protocol_version within 0.4 s"),
        (then(hello, lambda s: say(s, msg_type="protocol_version", version="1"), silence), "protocol version '1'"),
        (lambda s: say(s, msg_type="scene_selection_ready", pacenote="99"), "version '99' of our additions"),
        (then(half, silence), "33 bytes of an unfinished message"),
        (then(half, drop), "in the middle of a message"),
        (drop, "closed the connection"),
        (lambda s: s.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "no message of this protocol"),
        (lambda s: s.sendall(b"\xff\xfe{}\n"), "no message of this protocol"),
        (lambda s: s.sendall(b"[1,2]\n"), "no msg_type"),
        (endless, "a line of more than"),
        (then(to_the_car, silence), "did not send telemetry within 0.4 s"),
        (then(to_the_car, drop), "closed the connection"),
        (then(to_the_car, blind_telemetry), "did not let its time pass"),
        (lambda s: say(s, msg_type="pacenote_error", message="all 8 cars are taken"), "all 8 cars are taken"),
    ],
)
def test_what_goes_wrong_is_said_in_time(script, words, monkeypatch):
    monkeypatch.setattr(protocol, "TELEMETRY_CAP", 1 << 20)
    with scripted(script) as where:
        silent = script is silence or words.startswith(("did not", "33 bytes"))  # only these end by patience
        world = world_at(where, patience=QUICK if silent else STEADY)
        begin = time.monotonic()
        with pytest.raises(WorldError, match=words):
            world.reset(seed=1)
        assert time.monotonic() - begin < 5.0
        with pytest.raises(WorldError, match="call start or reset"):
            world.step([0.0, 0.0])
        world.close()


def test_nobody_there_says_how_to_start_one(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = listener.getsockname()
    with pytest.raises(WorldError, match="connection refused.*pacenote donkey-server"):
        world_at(where, patience=QUICK).reset()
    monkeypatch.setenv(spec.ADDRESS, f"{where[0]}:{where[1]}")
    assert "start the Donkey simulator" in spec.SPEC.missing()
    monkeypatch.setenv(spec.ADDRESS, "nowhere")
    assert "must be host:port" in spec.SPEC.missing()


def test_a_crash_in_mid_episode_and_a_new_simulator_at_the_same_place():
    with serving() as where:
        world = world_at(where, camera_size=None, patience=QUICK)
        world.client.patience = STEADY
        world.reset(seed=1)
        world.step([0.0, 0.5])
    with pytest.raises(WorldError, match="connection|went away"):
        for _ in range(3):
            world.step([0.0, 0.5])
    with pytest.raises(WorldError, match="connection refused"):
        world.reset(seed=1)
    with serving(port=where[1]):
        _, info = world.reset(seed=1)
        *_, info = world.step([0.0, 0.5])
        assert info["truth"].t_s == pytest.approx(1 / 30)
        world.close()


def test_a_simulator_that_came_back_between_two_episodes_is_not_noticed():
    with serving() as where:
        world = world_at(where, camera_size=None)
        world.reset(seed=1)
    with serving(port=where[1]):
        world.reset(seed=1)
        world.close()


def test_a_car_of_another_size_behind_the_server_is_refused(address):
    with pytest.raises(WorldError, match="use --world track"):
        world_at(address, profile=VehicleProfile(wheelbase_m=2.5)).reset()


def test_actions_are_checked(address):
    world = world_at(address, camera_size=None)
    world.reset(seed=1)
    for bad in ([0.0], [0.0, math.nan], [[0.0, 0.0]]):
        with pytest.raises(ValueError, match="two finite numbers"):
            world.step(bad)
    world.close()

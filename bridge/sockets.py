"""The few things that all our ZeroMQ sockets share: options, keys, the rule about binding, bounded receiving.

Knows nothing about messages and sessions.
"""

from __future__ import annotations

import ipaddress

import zmq
from zmq.auth.thread import ThreadAuthenticator

from bridge.keys import AllowList, ClientKeys, ServerKeys
from bridge.topics import SOCKET_BYTES

# Frames move on credit and plans come at a few Hz: a queue this long means that the peer reads no more.
_QUEUE_LENGTH = 64
_MOST_PARTS = 4
# As plain ints: pyzmq's enums cost more than the calls themselves in the hot path.
_EVENTS, _RCVMORE, _POLLIN = int(zmq.EVENTS), int(zmq.RCVMORE), int(zmq.POLLIN)
_NOBLOCK, _SNDMORE_NOBLOCK = int(zmq.NOBLOCK), int(zmq.SNDMORE) | int(zmq.NOBLOCK)


class LinkError(RuntimeError):
    """The link cannot be set up as asked; the message says what to do."""


class LinkTimeout(LinkError):
    """The other side has not answered in time."""


def is_loopback(endpoint: str) -> bool:
    """Whether a ZeroMQ endpoint stays on this machine. Raises LinkError for one that is no endpoint."""
    transport, _, address = endpoint.partition("://")
    if transport in ("ipc", "inproc") and address:
        return True
    host, _, port = address.rpartition(":")
    if transport != "tcp" or not host or not port:
        raise LinkError(f"{endpoint!r} is no endpoint; write for example tcp://127.0.0.1:5555")
    if host in ("localhost", "lo"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def make_server(context: zmq.Context, endpoint: str, keys: ServerKeys | None, insecure: bool):
    """A bound ROUTER and its authenticator (None without keys). Raises LinkError where binding is refused or fails, and
    KeyFileError where the allow-list's folder is missing."""
    if not (is_loopback(endpoint) or keys or insecure):
        raise LinkError(
            f"refusing to bind {endpoint}: other machines could reach it, and there are no CURVE keys. Make keys with "
            "`pacenote keys`, bind tcp://127.0.0.1:PORT, or say --insecure if you trust everyone on this network"
        )
    provider = AllowList(keys.allowed) if keys else None
    socket = _with_options(context.socket(zmq.ROUTER))
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # sending to a peer that is gone is an error, not silence
    authenticator = None
    try:
        if keys and provider:
            authenticator = _authenticate(context, socket, keys, provider)
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        socket.close(0)
        if authenticator is not None:
            authenticator.stop()
        raise LinkError(f"cannot bind {endpoint}: {error}") from None
    return socket, authenticator


def _authenticate(context: zmq.Context, socket: zmq.Socket, keys: ServerKeys, provider: AllowList):
    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    authenticator.configure_curve_callback("*", provider)
    socket.curve_server = True
    socket.curve_publickey = keys.pair.public
    socket.curve_secretkey = keys.pair.secret
    socket.setsockopt(zmq.ZAP_DOMAIN, b"pacenote")
    authenticator.configure_curve_callback("pacenote", provider)
    return authenticator


def make_client(context: zmq.Context, keys: ClientKeys | None) -> zmq.Socket:
    """A DEALER that is not connected yet. It queues nothing while there is no connection."""
    socket = _with_options(context.socket(zmq.DEALER))
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, 100)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
    if keys is not None:
        socket.curve_serverkey = keys.server_public
        socket.curve_publickey = keys.pair.public
        socket.curve_secretkey = keys.pair.secret
    return socket


def _with_options(socket: zmq.Socket) -> zmq.Socket:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, _QUEUE_LENGTH)
    socket.setsockopt(zmq.RCVHWM, _QUEUE_LENGTH)
    socket.setsockopt(zmq.MAXMSGSIZE, SOCKET_BYTES)
    # A link that died without a word (Wi-Fi gone) is found out and made anew, rather than filling TCP's buffers.
    socket.setsockopt(zmq.HEARTBEAT_IVL, 1000)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3000)
    socket.setsockopt(zmq.HANDSHAKE_IVL, 3000)
    return socket


def readable(socket: zmq.Socket) -> bool:
    """Whether a message waits; cheaper than trying to receive one."""
    return bool(int(socket.getsockopt(_EVENTS)) & _POLLIN)


def receive(socket: zmq.Socket) -> list[bytes] | None:
    """All parts of the message that waits (see `readable`); None, all of it thrown away, if there are too many."""
    parts = [socket.recv(_NOBLOCK)]
    while socket.getsockopt(_RCVMORE):
        part = socket.recv(_NOBLOCK)
        if len(parts) <= _MOST_PARTS:
            parts.append(part)
    return parts if len(parts) <= _MOST_PARTS else None


def send(socket: zmq.Socket, parts: list[bytes]) -> bool:
    """Send without waiting; False where there is no connection, no room, or no such peer."""
    try:
        for part in parts[:-1]:
            socket.send(part, _SNDMORE_NOBLOCK)
        socket.send(parts[-1], _NOBLOCK)
    except zmq.ZMQError as error:
        if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
            return False
        raise
    return True

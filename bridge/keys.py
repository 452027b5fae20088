"""CURVE keys of the link: making, storing and loading key pairs, and the planner's list of keys that may connect.

Knows nothing about sockets. A pair `name` in a folder is two files: `name.key` (public, to be handed out) and
`name.key_secret` (mode 0600, stays where it is). The allow-list is a folder of public `.key` files; it is read anew at
every handshake, so adding or removing a key needs no restart.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import zmq

_KEY = re.compile(rb"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")  # Z85 of 32 bytes
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")


class KeyFileError(ValueError):
    """A key file is missing, unreadable, open to others, or holds no key; the message says which and what to do."""


@dataclass(frozen=True)
class KeyPair:
    """Z85 text, 40 bytes each."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public.decode()!r}, secret=...)"


@dataclass(frozen=True)
class ServerKeys:
    """What a side that binds needs: its own pair and the folder of public keys that may connect."""

    pair: KeyPair
    allowed: Path


@dataclass(frozen=True)
class ClientKeys:
    """What a side that connects needs: its own pair and the public key of the side that binds."""

    pair: KeyPair
    server_public: bytes


class AllowList:
    """Credentials provider for pyzmq's authenticator."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise KeyFileError(f"no folder of allowed keys at {folder}; make it and put the cars' .key files into it")

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether `key` (Z85) may connect."""
        return key in self.read()

    def read(self) -> frozenset[bytes]:
        """The public keys in the folder; files that hold none are passed over."""
        keys = set()
        for path in self.folder.glob("*.key"):
            try:
                keys.add(load_public(path))
            except KeyFileError:
                continue
        return frozenset(keys)


def generate(folder: Path, name: str) -> KeyPair:
    """Make a pair and write its two files. Raises KeyFileError where one exists or the name is not plain."""
    if not _NAME.fullmatch(name):
        raise KeyFileError(f"{name!r} is no name for a key; use letters, digits, '-', '_' and '.'")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    public, secret = zmq.curve_keypair()
    _write(folder / f"{name}.key_secret", secret, 0o600)
    _write(folder / f"{name}.key", public, 0o644)
    return KeyPair(public, secret)


def _write(path: Path, key: bytes, mode: int) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise KeyFileError(f"{path} is there already; remove it first if you really want a new key") from None
    with os.fdopen(handle, "wb") as file:
        file.write(key + b"\n")


def load(folder: Path, name: str) -> KeyPair:
    """The pair `name` of a folder. Raises KeyFileError."""
    path = Path(folder) / f"{name}.key_secret"
    secret = _read(path)
    if path.stat().st_mode & 0o077:
        raise KeyFileError(f"{path} can be read by others; run: chmod 600 {path}")
    return KeyPair(zmq.curve_public(secret), secret)


def load_public(path: Path) -> bytes:
    """A public key file. Raises KeyFileError."""
    return _read(Path(path))


def allow(folder: Path, name: str, public: bytes) -> Path:
    """Put a public key on the allow-list as `name`.key. Raises KeyFileError."""
    if not _NAME.fullmatch(name) or not _KEY.fullmatch(public):
        raise KeyFileError(f"{name!r}: not a plain name, or not a Z85 public key of 40 characters")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.key"
    if not (path.exists() and load_public(path) == public):
        _write(path, public, 0o644)
    return path


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            key = file.read(256).strip()
    except OSError as error:
        raise KeyFileError(f"cannot read the key {path}: {error.strerror}; make one with: pacenote keys") from None
    if not _KEY.fullmatch(key):
        raise KeyFileError(f"{path} holds no key (40 characters of Z85)")
    return key

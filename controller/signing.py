"""Ed25519 keys of the gate: who signs certificates, and whom a car believes. Knows nothing of what is signed.

The signing key is the user's own: `~/.config/pacenote/gate.key` (PEM, mode 0600), made on first use; it never belongs
into a repository or onto a car. A car believes the public keys (`*.pub`, PEM) in `configs/gate_keys/`, which ships, and
in `~/.config/pacenote/gate_keys/`. Both are ordinary PEM files that openssl reads.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


class SigningError(ValueError):
    """A key file that is missing, open to others or no key; the message says which and what to do."""


try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
except ImportError as _missing:  # an environment that is older than the gate
    raise SigningError(
        'certificates need the package cryptography: pip install -c constraints.txt -e ".[car]"'
    ) from _missing

SHIPPED_KEYS = Path(__file__).resolve().parent.parent / "configs" / "gate_keys"
_RAW = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
_PEM = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def user_folder() -> Path:
    """Where the user's keys are."""
    return Path.home() / ".config" / "pacenote"


def trusted_folders() -> tuple[Path, ...]:
    """The folders of public keys that are believed where nothing else is said."""
    return (SHIPPED_KEYS, user_folder() / "gate_keys")


def key_id(public: Ed25519PublicKey) -> str:
    """16 hexadecimal digits that name a public key."""
    return hashlib.sha256(public.public_bytes(*_RAW)).hexdigest()[:16]


class Signer:
    """The user's signing key."""

    def __init__(self, key: Ed25519PrivateKey):
        self._key = key
        self.key_id = key_id(key.public_key())

    def sign(self, message: bytes) -> str:
        """The signature, base64."""
        return base64.b64encode(self._key.sign(message)).decode()

    def public_pem(self) -> bytes:
        """The public key as a car wants it."""
        return self._key.public_key().public_bytes(*_PEM)


def load_signer(path: Path) -> Signer:
    """The key at `path`. Raises SigningError."""
    try:
        others, pem = path.stat().st_mode & 0o077, path.read_bytes()
    except OSError as error:
        raise SigningError(f"{path}: cannot be read: {error.strerror}") from error
    if others:
        raise SigningError(f"{path} can be read by others; run: chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise SigningError(f"{path} holds no private key (PEM, without a password)") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningError(f"{path} holds a key of another kind than Ed25519")
    return Signer(key)


def own_signer(folder: Path | None = None) -> tuple[Signer, bool]:
    """The user's signing key and whether it was made just now. `folder`: `user_folder()` where not given. Its public
    half stands beside it in gate_keys/, so that the machine that validates believes itself. Raises SigningError."""
    folder = folder or user_folder()
    path = folder / "gate.key"
    made = not path.exists()
    if made:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
    signer = load_signer(path)
    public = folder / "gate_keys" / "gate.pub"
    if not public.exists():
        public.parent.mkdir(exist_ok=True)
        public.write_bytes(signer.public_pem())
    return signer, made


class TrustedKeys:
    """The public keys in some folders (missing folders have none). Raises SigningError for a file that is no key."""

    def __init__(self, folders: Iterable[Path]):
        self.folders = tuple(folders)
        self.names: dict[str, str] = {}  # key id -> name of the file
        self._keys: dict[str, Ed25519PublicKey] = {}
        for path in (p for folder in self.folders for p in sorted(folder.glob("*.pub"))):
            try:
                key = serialization.load_pem_public_key(path.read_bytes())
            except (OSError, ValueError) as error:
                raise SigningError(f"{path} holds no public key (PEM); remove it or put the right one there") from error
            if not isinstance(key, Ed25519PublicKey):
                raise SigningError(f"{path} holds a key of another kind than Ed25519")
            self._keys[key_id(key)], self.names[key_id(key)] = key, path.stem

    def __contains__(self, name: str) -> bool:
        return name in self._keys

    def verify(self, name: str, signature: str, message: bytes) -> bool:
        """Whether the key `name` (an id that is in here) signed `message`."""
        try:
            self._keys[name].verify(base64.b64decode(signature, validate=True), message)
        except (InvalidSignature, ValueError):
            return False
        return True

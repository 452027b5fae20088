"""The certificate of the gate in a bundle's card: where it lies, what it binds, and whether a car may believe it.

It binds every bit of the file: the digest is the SHA-256 of the file as it would be without a certificate
(`"certificate":null` in the card), which is also `sha256sum` of the bundle as it was exported. Only the bytes are
looked at, so that no two parsers can understand them differently, and so that the car needs no `onnx`. Knows nothing of
how a bundle is validated.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from controller.card import CARD_KEY
from controller.signing import Signer, TrustedKeys, trusted_folders

_METADATA_FIELD = 14  # ModelProto.metadata_props; an entry is a StringStringEntryProto: key = 1, value = 2
_BYTES = 2  # protobuf's wire type of strings, bytes and messages
_MARK = ',"certificate":'
_MAX_CARD_BYTES = 4 * 1024 * 1024
_DOMAIN = b"pacenote-certificate-1\n"  # nothing else that this key may ever sign begins like this


class CertificateError(ValueError):
    """A bundle that may not drive a car; the message says why and what to do. `kind`: "missing", "malformed", "forged",
    "unknown_key", "changed" or "failed"."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


class Certificate(BaseModel):
    """What `pacenote validate` found. `reasons`: why it was not passed. `unchecked`: world -> why it was not checked.
    `episodes`: in each world with each seed. `table`: the rows of the gap table, see docs/gate.md."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal["pacenote-certificate"] = "pacenote-certificate"
    version: Literal[1] = 1
    bundle: str
    bundle_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    passed: bool
    reasons: tuple[str, ...] = ()
    train_world: str
    worlds: tuple[str, ...]
    unchecked: dict[str, str] = {}
    suite: tuple[str, ...]
    planner: str
    delay_ms: float
    randomize: float
    seeds: tuple[int, ...]
    episodes: int
    thresholds: dict
    table: tuple[dict, ...]
    commit: str
    date: str
    key: str
    signature: str = ""


@dataclass(frozen=True)
class _Located:
    """The card's entry in a bundle's bytes [begin, end), its text up to the certificate, and the certificate's text."""

    begin: int
    end: int
    head: str
    certificate: str


def bundle_digest(data: bytes) -> str:
    """SHA-256 of the bundle without its certificate, hexadecimal. Raises CertificateError ("malformed")."""
    return hashlib.sha256(_replaced(data, _locate(data), "null")).hexdigest()


def signed_bundle(data: bytes, certificate: Certificate, signer: Signer) -> bytes:
    """The bundle with `certificate` in its card, signed; any earlier one is replaced, nothing else changes. Raises
    CertificateError where the certificate is not this bundle's or the bundle is no bundle."""
    if certificate.bundle_sha256 != bundle_digest(data):
        raise CertificateError("changed", "the bundle was changed while it was being validated; validate it again")
    body = json.loads(certificate.model_copy(update={"key": signer.key_id}).model_dump_json(exclude={"signature"}))
    signed = {**body, "signature": signer.sign(_message(body))}
    return _replaced(data, _locate(data), _canonical(signed))


def read_certificate(data: bytes) -> Certificate | None:
    """The certificate in a bundle's bytes, believed or not; None where there is none. Raises CertificateError
    ("malformed")."""
    text = _locate(data).certificate
    if text == "null":
        return None
    try:
        certificate = Certificate.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise CertificateError("malformed", f"malformed certificate: {where}: {problem['msg']}") from error
    if text != _canonical(json.loads(text)):
        raise CertificateError("malformed", "the certificate is not written as `pacenote validate` writes it")
    return certificate


def check_certificate(data: bytes, trusted: TrustedKeys) -> Certificate:
    """The certificate of a bundle that may drive a car. Raises CertificateError."""
    certificate = read_certificate(data)
    if certificate is None:
        raise CertificateError("missing", "it has no certificate; make one with: pacenote validate BUNDLE")
    if certificate.key not in trusted:
        where = " or ".join(str(folder) for folder in trusted.folders)
        raise CertificateError(
            "unknown_key",
            f"its certificate is signed by an unknown key ({certificate.key}); if you trust who validated it, put "
            f"their public key (*.pub) into {where}",
        )
    body = json.loads(_locate(data).certificate)
    signature = body.pop("signature", "")
    if not trusted.verify(certificate.key, signature, _message(body)):
        raise CertificateError("forged", "its certificate was edited after it was signed; validate the bundle again")
    if certificate.bundle_sha256 != bundle_digest(data):
        raise CertificateError(
            "changed",
            "its certificate does not match: weights, graph or card were changed after the validation, or the "
            "certificate is another bundle's; validate it again",
        )
    if not certificate.passed:
        raise CertificateError("failed", f"it did not pass the gate: {'; '.join(certificate.reasons)}")
    return certificate


def check_bundle(path: Path, keys: Iterable[Path] | None = None) -> tuple[Certificate, str]:
    """The certificate of the bundle at `path`, and the SHA-256 of the whole file as it was read. `keys`: folders of
    public keys to believe instead of the usual ones. Raises CertificateError, OSError, SigningError."""
    data = Path(path).read_bytes()
    return check_certificate(data, TrustedKeys(keys or trusted_folders())), hashlib.sha256(data).hexdigest()


def _canonical(value: dict) -> str:
    """The one way to write a certificate: sorted keys, no spaces, ASCII, Python's shortest floats."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _message(body: dict) -> bytes:
    return _DOMAIN + _canonical(body).encode()


# ---- bytes -----------------------------------------------------------------------------------------------------------


def _locate(data: bytes) -> _Located:
    cards = []
    for begin, payload, end, field, wire in _fields(data):
        if field != _METADATA_FIELD or wire != _BYTES:
            continue
        entry = {f: data[p:e] for _, p, e, f, w in _fields(data, payload, end) if w == _BYTES}
        key, value = entry.get(1, b""), entry.get(2, b"")
        if data[begin:end] != _entry(key, value):  # repeated or unknown fields could hide a second card
            raise CertificateError("malformed", "its metadata are encoded in an unusual way; export it again")
        if key == CARD_KEY.encode():
            cards.append((begin, end, value))
    if len(cards) != 1:
        raise CertificateError("malformed", f"it has {len(cards)} cards instead of one; export it again")
    begin, end, value = cards[0]
    if len(value) > _MAX_CARD_BYTES:
        raise CertificateError("malformed", f"its card is larger than {_MAX_CARD_BYTES >> 20} MiB; export it again")
    try:
        head, certificate = _split(value.decode())
    except UnicodeDecodeError as error:
        raise CertificateError("malformed", "its card is not UTF-8; export it again") from error
    return _Located(begin, end, head, certificate)


def _split(text: str) -> tuple[str, str]:
    """A card's text before the certificate, and the certificate's. The certificate is the card's last key: of all
    places where its key stands, one leaves two whole JSON values."""
    at = text.find(_MARK)
    while at >= 0:
        head, tail = text[:at], text[at + len(_MARK) : -1]
        card = _read(head + "}")
        whole = text.endswith("}") and _read(f'{{"":{tail}}}') is not None
        if whole and card is not None and "certificate" not in card:
            return head, tail
        at = text.find(_MARK, at + 1)
    raise CertificateError("malformed", "its card does not end with the field 'certificate'; export it again")


def _read(text: str) -> dict | None:
    """The JSON object in `text`; None where there is none."""
    try:
        value = json.loads(text, object_pairs_hook=_no_twins)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _no_twins(pairs: list[tuple[str, object]]) -> dict:
    """An object whose key stands twice means different things to different readers."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _replaced(data: bytes, located: _Located, certificate: str) -> bytes:
    card = f"{located.head}{_MARK}{certificate}}}".encode()
    return data[: located.begin] + _entry(CARD_KEY.encode(), card) + data[located.end :]


def _entry(key: bytes, value: bytes) -> bytes:
    """A metadata entry as protobuf writes it."""
    body = b"\x0a" + _varint(len(key)) + key + b"\x12" + _varint(len(value)) + value
    return _varint(_METADATA_FIELD << 3 | _BYTES) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise CertificateError("malformed", "it is no ONNX file; export it again")


def _fields(data: bytes, at: int = 0, end: int | None = None) -> Iterator[tuple[int, int, int, int, int]]:
    """Protobuf fields of a message in data[at:end]: (begin, begin of the payload, end, number, wire type)."""
    end = len(data) if end is None else end
    while at < end:
        begin = at
        tag, at = _read_varint(data, at, end)
        payload = at
        if tag & 7 == 0:
            _, at = _read_varint(data, at, end)
        elif tag & 7 == _BYTES:
            length, payload = _read_varint(data, at, end)
            at = payload + length
        elif tag & 7 in (1, 5):
            at += 8 if tag & 7 == 1 else 4
        else:
            at = end + 1
        if at > end:
            raise CertificateError("malformed", "it is no ONNX file, or not the whole of one; export it again")
        yield begin, payload, at, tag >> 3, tag & 7

"""Properties of the codec, with strategies made from the message models themselves."""

import json
import pickle
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge import messages as m
from bridge.codec import MessageError, decode, decode_parts, encode
from bridge.topics import BY_NAME, CONTROL_BYTES, JPEG_BYTES, TOPICS, TRUTH_BYTES, kinds_for

REASONS = {"oversized", "malformed", "wrong_version", "unexpected_type", "wrong_parts"}
LEAVES = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False)
TRUTHS = st.dictionaries(
    st.text(max_size=8),
    st.recursive(LEAVES | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3), max_leaves=6),
    max_size=4,
)


def messages_of(kind):
    """Any valid message of a type: each field from its annotation."""
    by_hand = {"version": st.just(m.PROTOCOL_VERSION)} if "version" in kind.model_fields else {}
    if kind is m.Frame:
        by_hand["truth"] = st.none() | TRUTHS
    return st.builds(kind, **by_hand, **fields_of(kind, skip=by_hand))


def fields_of(kind, skip=()):
    return {
        name: strategy(field.annotation, field.metadata)
        for name, field in kind.model_fields.items()
        if name not in skip
    }


def strategy(annotation, constraints=()):
    """hypothesis knows the constraints themselves, but not how pydantic packs them into Field and optional types."""
    if get_origin(annotation) is Annotated:
        annotation, *fields = get_args(annotation)
        return strategy(annotation, [c for field in fields for c in field.metadata])
    if get_origin(annotation) in (Union, UnionType):
        return st.one_of([strategy(arg) for arg in get_args(annotation)])
    for constraint in reversed(constraints):
        annotation = Annotated[annotation, constraint]
    return st.from_type(annotation)


def register_parts():
    """Nested parts, and floats: finite only, as the messages demand."""
    st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
    parts = [v for v in vars(m).values() if isinstance(v, type) and issubclass(v, m.Part) and v is not m.Part]
    for part in parts:
        if part not in TOPICS:
            st.register_type_strategy(part, lambda _, part=part: st.builds(part, **fields_of(part)))


register_parts()
ANY_MESSAGE = st.one_of([messages_of(kind) for kind in TOPICS])
BYTES = st.binary(max_size=200)
ALMOST = st.one_of(
    BYTES,
    st.recursive(LEAVES | st.text(max_size=8), lambda x: st.lists(x) | st.dictionaries(st.text(max_size=8), x)).map(
        lambda value: json.dumps(value).encode()
    ),
    # a real message with some bytes exchanged, cut off, or put in
    st.tuples(ANY_MESSAGE.map(encode), st.integers(0, 400), st.integers(0, 400), st.binary(max_size=6)).map(
        lambda t: t[0][: t[1]] + t[3] + t[0][t[2] :]
    ),
)
QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(ANY_MESSAGE)
def test_round_trip_is_exact(message):
    data = encode(message)
    assert decode(data) == message
    assert encode(decode(data)) == data


@QUICK
@given(ALMOST)
def test_bytes_give_a_message_or_a_reason(data):
    try:
        assert type(decode(data)) in TOPICS
    except MessageError as error:
        assert error.reason in REASONS


@QUICK
@given(st.none() | st.lists(ALMOST, max_size=5), st.sampled_from(["car", "planner", "operator"]))
def test_parts_give_a_message_or_a_reason(parts, receiver):
    try:
        message, jpeg = decode_parts(parts, kinds_for(receiver))
        assert isinstance(message, m.Frame) == bool(jpeg)
    except MessageError as error:
        assert error.reason in REASONS


def test_every_message_has_a_topic_and_a_name():
    assert set(TOPICS) == set(get_args(get_args(m.Message)[0]))
    for name, kind in BY_NAME.items():
        assert kind.model_fields["type"].default == name


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "malformed"),
        (b"null", "malformed"),
        (b'{"type":"hello"}', "malformed"),
        (b'{"type":"ready","session_id":"a","more":1}', "malformed"),
        (b'{"type":"ready","session_id":""}', "malformed"),
        (b'{"type":"plan","seq":NaN}', "malformed"),
        (b'{"type":"ping","session_id":"a","t_ns":' + b"9" * 5000 + b"}", "malformed"),
        (b'{"type":"ready","session_id":"\\ud800"}', "malformed"),
        (b"[" * 60_000, "malformed"),
        (pickle.dumps(m.Ready(session_id="a")), "malformed"),
        (b'{"type":"hello","version":2,"car_id":"a","session_id":"b"}', "wrong_version"),
        (b'{"type":"hello","version":9,"something":"quite else"}', "wrong_version"),
        (b'{"type":"welcome","version":0,"session_id":"a","model":"m","rate_hz":1}', "wrong_version"),
        (b'{"type":"ready","session_id":"' + b"a" * CONTROL_BYTES + b'"}', "oversized"),
        (b'{"type":"frame","truth":{"a":"' + b"a" * TRUTH_BYTES + b'"}}', "oversized"),
    ],
)
def test_reasons(data, reason):
    with pytest.raises(MessageError) as caught:
        decode(data)
    assert caught.value.reason == reason


def frame(**more):
    return m.Frame(session_id="s", seq=1, t_capture_ns=2, **more)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (None, "wrong_parts"),
        ([], "wrong_parts"),
        ([encode(frame())], "wrong_parts"),
        ([encode(frame()), b""], "wrong_parts"),
        ([encode(frame()), b"j", b"more"], "wrong_parts"),
        ([encode(m.Stop(car_id="a")), b"j"], "wrong_parts"),
        ([encode(frame()), b"j" * (JPEG_BYTES + 1)], "oversized"),
        ([encode(m.Ready(session_id="s"))], "unexpected_type"),
    ],
)
def test_reasons_of_parts(parts, reason):
    with pytest.raises(MessageError) as caught:
        decode_parts(parts, kinds_for("planner"))
    assert caught.value.reason == reason


def test_large_truth_passes_and_too_large_is_not_sent():
    large = frame(truth={"ahead": "x" * (CONTROL_BYTES * 2)})
    assert decode(encode(large)) == large
    with pytest.raises(MessageError) as caught:
        encode(frame(truth={"ahead": "x" * TRUTH_BYTES}))
    assert caught.value.reason == "oversized"


def test_longest_plan_fits():
    point = m.Waypoint(x_m=-1 / 3 * 1e-9, y_m=-1 / 3 * 1e-9, v_mps=1 / 3 * 1e-9)
    plan = m.Plan(
        session_id="s", seq=2**62, frame_seq=2**62, t_capture_ns=2**62, intent="stop", waypoints=(point,) * 64,
        reasoning="\x01" * 2000, verdict=m.CommandVerdict(command_id="c", verdict="done", reason="车" * 2000),
    )  # fmt: skip
    assert decode(encode(plan)) == plan


def test_text_that_is_no_unicode_is_refused():
    with pytest.raises(MessageError) as caught:
        encode(frame(truth={"a": "\ud800"}))
    assert caught.value.reason == "malformed"

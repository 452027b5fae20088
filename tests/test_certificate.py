"""No bundle onto a car without the gate's certificate: missing, failed, forged, copied or changed ones are refused."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pacenote
from car.admission import admit
from cockpit.runs import Run
from controller.card import CARD_KEY
from controller.certificate import (
    Certificate,
    CertificateError,
    bundle_digest,
    check_certificate,
    read_certificate,
    signed_bundle,
)
from controller.onnx_policy import BundleError, OnnxPolicy, read_card
from controller.policies import FLOW_BUNDLE
from controller.signing import SHIPPED_KEYS, SigningError, TrustedKeys, load_signer, own_signer
from tests.kinematic_car import PROFILE
from tests.test_controller_bundle import CARD, bundle

ROW = {"world": "track", "what": "success", "policy": [0.9777777777777777, 0.88, 0.996], "small": 1.6e-05}


def certificate(data: bytes, **changes) -> Certificate:
    fields = {
        "bundle": "tiny", "bundle_sha256": bundle_digest(data), "passed": True, "train_world": "track",
        "worlds": ("track", "mujoco"), "suite": ("stop",), "planner": "expert", "delay_ms": 500.0, "randomize": 0.5,
        "seeds": (0, 1), "episodes": 10, "thresholds": {"success_at_least": 0.9}, "table": (ROW,), "commit": "abc",
        "date": "2026-01-01T00:00:00Z", "key": "",
    }  # fmt: skip
    return Certificate(**{**fields, **changes})


@pytest.fixture
def keys(tmp_path):
    return own_signer(tmp_path / "mine")[0], tmp_path / "mine" / "gate_keys"


@pytest.fixture
def plain(tmp_path) -> bytes:
    return bundle(tmp_path / "plain.onnx").read_bytes()


@pytest.fixture
def certified(plain, keys) -> bytes:
    return signed_bundle(plain, certificate(plain), keys[0])


def refusal(data: bytes, folder: Path) -> CertificateError:
    with pytest.raises(CertificateError) as refused:
        check_certificate(data, TrustedKeys([folder]))
    return refused.value


def edited(data: bytes, change) -> bytes:
    """The bundle with its card's text changed, as somebody with the onnx package would do it."""
    model = onnx.load_from_string(data)
    (entry,) = [e for e in model.metadata_props if e.key == CARD_KEY]
    entry.value = change(entry.value)
    return model.SerializeToString()


def test_a_certified_bundle_is_believed_and_still_drives(tmp_path, plain, certified, keys):
    found = check_certificate(certified, TrustedKeys([keys[1]]))
    assert found.passed and found.key == keys[0].key_id and found.table == (ROW,)
    path = tmp_path / "certified.onnx"
    path.write_bytes(certified)
    assert read_card(path).certificate["worlds"] == ["track", "mujoco"]
    admission = admit(str(path), PROFILE, keys=[keys[1]])
    assert admission.doubt is None and admission.policy.name == "tiny" and "certified 2026" in admission.notice


def test_the_digest_is_that_of_the_file_before_its_certificate(plain, certified, keys):
    assert bundle_digest(plain) == bundle_digest(certified) == hashlib.sha256(plain).hexdigest()
    again = signed_bundle(certified, certificate(plain, date="2027-01-01T00:00:00Z"), keys[0])
    assert bundle_digest(again) == bundle_digest(plain) and read_certificate(again).date.startswith("2027")
    model = onnx.load_from_string(certified)
    assert model.SerializeToString() == certified, "what we write is what protobuf writes"
    onnx.checker.check_model(model)


def test_without_a_certificate(tmp_path, plain, keys):
    assert refusal(plain, keys[1]).kind == "missing"
    path = bundle(tmp_path / "none.onnx")
    with pytest.raises(CertificateError, match=r"pacenote validate.*--uncertified"):
        admit(str(path), PROFILE, keys=[keys[1]])


def test_one_bit_of_the_weights(certified, keys):
    at = certified.index(b"scale") - 20  # the initializer lies around its name
    for offset in range(at, at + 40, 3):
        flipped = bytearray(certified)
        flipped[offset] ^= 1
        assert refusal(bytes(flipped), keys[1]).kind in ("changed", "malformed")
    weight = bytearray(certified)
    at = certified.index(b"\x00\x00\x00?")  # 0.5 as a little-endian float
    weight[at] ^= 1
    assert refusal(bytes(weight), keys[1]).kind == "changed"


def test_edited_numbers(certified, keys):
    more = edited(certified, lambda text: text.replace('"episodes":10', '"episodes":90'))
    assert refusal(more, keys[1]).kind == "forged"
    failed = edited(certified, lambda text: text.replace('"passed":true', '"passed":false'))
    assert refusal(failed, keys[1]).kind == "forged"


def test_a_certificate_that_was_not_passed_cannot_be_made_one(plain, keys):
    refused = signed_bundle(plain, certificate(plain, passed=False, reasons=("too many collisions",)), keys[0])
    assert refusal(refused, keys[1]).kind == "failed"
    with pytest.raises(CertificateError, match="too many collisions"):
        check_certificate(refused, TrustedKeys([keys[1]]))
    turned = edited(refused, lambda text: text.replace('"passed":false', '"passed":true'))
    assert refusal(turned, keys[1]).kind == "forged"


def test_signed_by_another_key(tmp_path, plain, keys):
    other, _ = own_signer(tmp_path / "other")
    theirs = signed_bundle(plain, certificate(plain), other)
    assert refusal(theirs, keys[1]).kind == "unknown_key"
    posing = edited(theirs, lambda text: text.replace(other.key_id, keys[0].key_id))
    assert refusal(posing, keys[1]).kind == "forged"
    assert check_certificate(theirs, TrustedKeys([tmp_path / "other" / "gate_keys"])).passed


def test_copied_from_another_bundle(tmp_path, certified, keys):
    other = bundle(tmp_path / "other.onnx", scale=0.25).read_bytes()
    text = re.search(rb',"certificate":(\{.*\})\}', certified).group(1).decode()
    copied = edited(other, lambda card: card.replace('"certificate":null', f'"certificate":{text}'))
    assert refusal(copied, keys[1]).kind == "changed"


def test_edited_card(certified, keys):
    wider = edited(certified, lambda text: text.replace('"wheelbase_m":[0.2,', '"wheelbase_m":[0.1,'))
    assert refusal(wider, keys[1]).kind == "changed"
    spaced = edited(certified, lambda text: text.replace('"seed":0', '"seed": 0'))
    assert refusal(spaced, keys[1]).kind == "changed", "the same card written otherwise is another file"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1] + ',"certificate":null}',  # which of the two would a reader take?
        lambda text: text.replace('{"format"', '{"certificate":null,"format"', 1),
        lambda text: text.replace('"seed":0', '"seed":0,"seed":1'),
        lambda text: text.replace(',"certificate":{', ', "certificate":{'),
        lambda text: text.replace('"passed":true', '"passed":false,"passed":true'),
        lambda text: text.replace('"passed":true', '"passed": true'),
        lambda text: text.replace("1.6e-05", "1.6E-05"),
        lambda text: text.replace('"episodes":10', '"episodes":"many"'),
        lambda text: text.replace('"signature":', '"seal":'),
        lambda text: re.sub('"certificate":.*', '"certificate":"believe me"}', text),
        lambda text: text[:-1],
    ],
)
def test_malformed_cards_are_refused(certified, keys, change):
    assert edited(certified, change) != certified
    assert refusal(edited(certified, change), keys[1]).kind in ("malformed", "forged")


def test_hidden_cards_are_refused(plain, certified, keys):
    model = onnx.load_from_string(certified)
    extra = model.metadata_props.add()
    extra.key, extra.value = CARD_KEY, CARD.model_dump_json()
    assert refusal(model.SerializeToString(), keys[1]).kind == "malformed"
    key = b"\x0a" + bytes([len(CARD_KEY)]) + CARD_KEY.encode()
    twice = b"\x0a\x01x" + key + b"\x12\x02{}"  # protobuf: the last key wins
    assert refusal(certified + bytes([0x72, len(twice)]) + twice, keys[1]).kind == "malformed"
    for junk in (b"", b"junk", certified[: len(certified) // 2], b"\xff" * 40):
        assert refusal(junk, keys[1]).kind == "malformed"


@pytest.fixture(scope="module")
def module_bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gate")
    data = bundle(folder / "plain.onnx").read_bytes()
    signer, _ = own_signer(folder / "mine")
    return signed_bundle(data, certificate(data), signer), TrustedKeys([folder / "mine" / "gate_keys"])


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_flipped_bits_are_refused(module_bundle, data):
    whole, trusted = module_bundle
    changed = bytearray(whole)
    bits = st.integers(0, 8 * len(whole) - 1)
    for bit in data.draw(st.lists(bits, min_size=1, max_size=4, unique=True)):
        changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CertificateError):
        check_certificate(bytes(changed), trusted)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_cut_or_insertion_is_refused(module_bundle, data):
    whole, trusted = module_bundle
    at = data.draw(st.integers(0, len(whole)))
    change = data.draw(st.binary(min_size=0, max_size=8))
    longer = whole[:at] + change + whole[at + data.draw(st.integers(0, 8)) :]
    if longer == whole:
        return
    with pytest.raises(CertificateError):
        check_certificate(longer, trusted)


@given(st.binary(max_size=300))
def test_whatever_bytes_come_in(module_bundle, junk):
    with pytest.raises(CertificateError):
        check_certificate(junk, module_bundle[1])


def test_a_certificate_for_other_bytes_is_not_written(tmp_path, plain, keys):
    other = bundle(tmp_path / "other.onnx", scale=0.25).read_bytes()
    with pytest.raises(CertificateError, match="changed while"):
        signed_bundle(other, certificate(plain), keys[0])


def test_admission_in_doubt_is_told(tmp_path, plain, certified, keys):
    path = bundle(tmp_path / "none.onnx")
    admission = admit(str(path), PROFILE, uncertified=True, keys=[keys[1]])
    assert admission.notice.startswith("UNCERTIFIED: tiny") and "no certificate" in admission.doubt
    assert admission.for_record()["uncertified"] == admission.doubt
    path.write_bytes(certified)
    assert admit(str(path), PROFILE, uncertified=True, keys=[keys[1]]).doubt is None, "nothing to doubt here"
    assert admit("pursuit", PROFILE).doubt is None
    with pytest.raises(BundleError, match="no such bundle"):
        admit(str(tmp_path / "nowhere.onnx"), PROFILE)
    with pytest.raises(ValueError, match="unknown controller"):
        admit("flaw", PROFILE)


def test_the_command_refuses_before_it_opens_anything(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    path, car = bundle(tmp_path / "none.onnx"), Path(__file__).parent.parent / "configs" / "car" / "donkey.yaml"
    words = ["pacenote", "car", "drive", "--car", str(car), "--controller", str(path), "--run", "drive"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        pacenote.main()
    assert ended.value.code == 1 and "no certificate" in capsys.readouterr().err and not Path("drive").exists()
    opened = []
    monkeypatch.setattr("car.program.open_vehicle", lambda settings: opened.append(settings) or 1 / 0)
    monkeypatch.setattr(sys, "argv", [*words, "--uncertified"])
    with pytest.raises(ZeroDivisionError):
        pacenote.main()
    assert len(opened) == 1 and "UNCERTIFIED: tiny drives" in capsys.readouterr().out
    run = Run("drive")
    assert "no certificate" in run.meta["settings"]["admission"]["uncertified"]
    assert [event["what"][:11] for event in run.events() if event["event"] == "warning"] == ["UNCERTIFIED"]


def test_simulation_needs_no_certificate(tmp_path):
    assert OnnxPolicy(bundle(tmp_path / "none.onnx"), PROFILE).name == "tiny"


def test_key_files(tmp_path):
    signer, made = own_signer(tmp_path)
    again, made_again = own_signer(tmp_path)
    assert made and not made_again and signer.key_id == again.key_id
    key = tmp_path / "gate.key"
    assert key.stat().st_mode & 0o777 == 0o600
    os.chmod(key, 0o644)
    with pytest.raises(SigningError, match="chmod 600"):
        load_signer(key)
    with pytest.raises(SigningError, match="cannot be read"):
        load_signer(tmp_path / "none.key")
    os.chmod(key, 0o600)
    key.write_bytes(b"junk")
    with pytest.raises(SigningError, match="no private key"):
        load_signer(key)
    (tmp_path / "gate_keys" / "junk.pub").write_bytes(b"junk")
    with pytest.raises(SigningError, match=r"junk\.pub"):
        TrustedKeys([tmp_path / "gate_keys"])
    assert TrustedKeys([tmp_path / "nowhere"]).names == {}


def test_the_bundle_that_ships_can_be_certified(tmp_path, keys):
    data = FLOW_BUNDLE.read_bytes()
    done = signed_bundle(data, certificate(data, bundle="flow"), keys[0])
    assert check_certificate(done, TrustedKeys([keys[1]])).bundle == "flow"
    assert onnx.load_from_string(done).graph == onnx.load_from_string(data).graph
    weights = max(onnx.load_from_string(data).graph.initializer, key=lambda tensor: len(tensor.raw_data))
    for byte in (0, len(weights.raw_data) // 2, len(weights.raw_data) - 1):
        flipped = bytearray(done)
        flipped[done.index(weights.raw_data) + byte] ^= 1
        assert refusal(bytes(flipped), keys[1]).kind == "changed"


def test_what_ships_can_be_verified_on_a_fresh_clone():
    data = FLOW_BUNDLE.read_bytes()
    if read_certificate(data) is None:
        pytest.skip("the bundle that ships has not been validated yet")
    try:
        check_certificate(data, TrustedKeys([SHIPPED_KEYS]))
    except CertificateError as refused:
        assert refused.kind == "failed", "an honest refusal, and nothing else, may ship"

"""Bundles are checked before they may drive: tiny ONNX graphs, right and wrong."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bridge.messages import EgoState, VehicleProfile
from controller.card import CARD_KEY, INPUTS, BundleCard, ProfileRange
from controller.observation import make_observation
from controller.onnx_policy import BundleError, OnnxPolicy
from tests.kinematic_car import IMAGE, PROFILE

TYPES = {"tensor(uint8)": TensorProto.UINT8, "tensor(float)": TensorProto.FLOAT}
CARD = BundleCard(
    name="tiny",
    description="steers by the noise",
    commit="none",
    seed=0,
    opset=17,
    ir_version=10,
    profiles=ProfileRange(
        wheelbase_m=(0.2, 0.3), steering_limit_rad=(0.3, 0.6), reference_speed_mps=(1.0, 2.0), lenses=("fisheye",)
    ),
)


def bundle(path, *, scale=0.5, card=CARD.model_dump_json(), output="chunk", without=None, bias=0.0, extra=None):
    """A graph whose chunk is noise * scale + ego speed * 0.1 + bias."""
    inputs = [helper.make_tensor_value_info(n, TYPES[t], s) for n, (t, s) in INPUTS.items() if n != without]
    if extra:
        inputs.append(helper.make_tensor_value_info(extra, TensorProto.FLOAT, (1,)))
    constants = {"scale": scale, "bias": bias, "speed_gain": 0.1}
    initializers = [numpy_helper.from_array(np.array(v, np.float32), k) for k, v in constants.items()]
    initializers.append(numpy_helper.from_array(np.array([0], np.int64), "first"))
    nodes = [
        helper.make_node("Mul", ["noise", "scale"], ["scaled"]),
        helper.make_node("Gather", ["ego", "first"], ["speed"], axis=1),
        helper.make_node("Clip", ["speed"], ["clipped"]),
        helper.make_node("Tanh", ["clipped"], ["small"]),
        helper.make_node("Mul", ["small", "speed_gain"], ["shift"]),
        helper.make_node("Add", ["scaled", "bias"], ["biased"]),
        helper.make_node("Add", ["biased", "shift"], [output]),
    ]
    output = helper.make_tensor_value_info(output, TensorProto.FLOAT, (1, 50, 2))
    graph = helper.make_graph(nodes, "tiny", inputs, [output], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    if card is not None:
        helper.set_model_props(model, {CARD_KEY: card})
    onnx.save(model, path)
    return path


def test_a_good_bundle_drives(tmp_path):
    policy = OnnxPolicy(bundle(tmp_path / "good.onnx"), PROFILE)
    seen = make_observation(IMAGE, EgoState(speed_mps=1.5), PROFILE, None, path_valid=False)
    chunk = policy.act(seen)
    assert chunk.actions.shape == (50, 2) and chunk.rate_hz == 30.0 and policy.name == "tiny"
    assert np.allclose(chunk.actions, 0.1 * np.tanh(1.0), atol=1e-6), "noise is zero by default"
    assert np.array_equal(policy.act(seen).actions, chunk.actions)
    with pytest.raises(ValueError, match="image"):
        policy.act(make_observation(None, EgoState(), PROFILE, None, path_valid=False))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"card": None}, "no card"),
        ({"card": "{"}, "malformed card"),
        ({"card": json.dumps({"name": "x"})}, "profiles"),
        ({"card": json.dumps({**CARD.model_dump(mode="json"), "colour": "red"})}, "colour"),
        ({"without": "path"}, "'path'"),
        ({"extra": "surprise"}, "surprise"),
        ({"output": "actions"}, "output 'chunk'"),
        ({"bias": float("nan")}, "not finite"),
        ({"bias": 2.0}, r"left \[-1, 1\]"),
    ],
)
def test_bad_bundles_are_refused(tmp_path, options, complaint):
    with pytest.raises(BundleError, match=complaint):
        OnnxPolicy(bundle(tmp_path / "bad.onnx", **options), PROFILE)


def test_no_file_no_onnx_and_other_cars_are_refused(tmp_path):
    with pytest.raises(BundleError, match="no such bundle"):
        OnnxPolicy(tmp_path / "none.onnx", PROFILE)
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(BundleError, match="cannot load"):
        OnnxPolicy(tmp_path / "junk.onnx", PROFILE)
    good = bundle(tmp_path / "good.onnx")
    large = VehicleProfile(wheelbase_m=2.5, reference_speed_mps=15.0)
    with pytest.raises(BundleError, match="wheelbase_m 2.5 is outside"):
        OnnxPolicy(good, large)
    assert OnnxPolicy(good, large, simulated=True).name == "tiny", "at one scale it sees them alike"
    pinhole = VehicleProfile(camera=PROFILE.camera.model_copy(update={"lens": "pinhole"}))
    with pytest.raises(BundleError, match="lens"):
        OnnxPolicy(good, pinhole)


def test_weights_in_another_file_are_refused(tmp_path):
    path = bundle(tmp_path / "split.onnx")
    model = onnx.load(path)
    big = numpy_helper.from_array(np.zeros(4096, np.float32), "unused")
    model.graph.initializer.append(big)
    onnx.save(model, path, save_as_external_data=True, location="split.onnx.data", size_threshold=1024)
    with pytest.raises(BundleError, match="external_data=False"):
        OnnxPolicy(path, PROFILE)

"""Network, loss, training and export of the flow controller."""

import json

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from pydantic import ValidationError  # noqa: E402

from bridge.messages import VehicleProfile  # noqa: E402
from controller.observation import make_observation  # noqa: E402
from controller.onnx_policy import OnnxPolicy  # noqa: E402
from training.controller.export import ExportError, compare_closed_loop, compare_open_loop, export_bundle  # noqa: E402
from training.controller.meanflow import meanflow_loss, sample_noise, sample_times  # noqa: E402
from training.controller.network import FlowController  # noqa: E402
from training.controller.settings import PRESET, TrainControllerSettings, load_settings  # noqa: E402
from training.controller.train import Trainer, load_average, read_meta  # noqa: E402

TINY = {"features": 16, "width": 16, "blocks": 1, "batch": 8, "log_every": 2, "steps_per_collect": 2, "bfloat16": False}
TINY["data"] = {"envs": 4, "roads": 2, "buffer": 256}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint after a handful of steps of the real loop, interrupted once and resumed."""
    out = tmp_path_factory.mktemp("train")
    threads = torch.get_num_threads()
    first = Trainer(TrainControllerSettings(out=out, steps=4, **TINY))
    first.run()
    second = Trainer(TrainControllerSettings(out=out, steps=8, **TINY))
    assert second.step == 4
    for key, value in first.average.state_dict().items():
        torch.testing.assert_close(second.average.state_dict()[key], value)
    second.run()
    torch.set_num_threads(threads)
    return out


def test_training_resumes_and_logs(trained):
    rows = (trained / "log.csv").read_text().splitlines()
    assert rows[0].startswith("minutes,step,samples,loss") and len(rows) == 5
    meta = read_meta(trained / "policy.safetensors")
    assert meta["step"] == 8 and meta["settings"]["batch"] == 8


def test_bundle_loads_on_the_car_and_equals_torch(trained, tmp_path):
    bundle = export_bundle(trained / "policy.safetensors", tmp_path / "flow.onnx", metrics={"x": 1.0})
    policy = OnnxPolicy(bundle, VehicleProfile())
    assert policy.card.metrics["x"] == 1.0 and policy.card.certificate is None
    assert policy.card.metrics["torch_vs_onnx_max_abs"] < 1e-4
    model = onnx.load(bundle)
    assert model.ir_version <= 10 and max(o.version for o in model.opset_import) >= 17
    image = np.full((120, 160, 3), 90, np.uint8)
    observation = make_observation(image, _ego(), VehicleProfile(), None, path_valid=False)
    assert policy.act(observation).actions.shape == (50, 2)


def test_bundle_drives_like_torch(trained, tmp_path):
    bundle = export_bundle(trained / "policy.safetensors", tmp_path / "flow.onnx")
    assert compare_closed_loop(trained / "policy.safetensors", bundle, seconds=0.7) < 1e-3


def _ego():
    from bridge.messages import EgoState

    return EgoState(speed_mps=1.0)


def test_export_that_differs_is_refused(trained, tmp_path):
    checkpoint = trained / "policy.safetensors"
    bundle = export_bundle(checkpoint, tmp_path / "flow.onnx")
    other = load_average(checkpoint)
    with torch.no_grad():
        other.head.out[1].bias += 0.01
    with pytest.raises(ExportError, match="differ"):
        compare_open_loop(other, bundle)


def test_curve_is_drawn(trained, tmp_path):
    from training.controller.curve import write_curve

    assert write_curve(trained / "log.csv", tmp_path).stat().st_size > 1000
    assert (tmp_path / "controller-flow.csv").is_file()


def test_path_is_ignored_when_it_is_not_valid():
    torch.manual_seed(0)
    policy = FlowController(16, 16, 1).eval()
    seen, ego = torch.randn(1, 16), torch.randn(1, 3)
    invalid = torch.zeros(1, 1)
    a = policy.condition(seen, torch.randn(1, 8, 3), invalid, ego)
    torch.testing.assert_close(a, policy.condition(seen, torch.randn(1, 8, 3), invalid, ego))


def test_times_are_ordered_and_cover_the_single_step():
    generator = torch.Generator().manual_seed(0)
    r, t = sample_times(4000, 0.75, generator)
    assert ((r <= t) & (t <= 1.0) & (r >= 0.0)).all()
    assert 0.72 < (r == t).float().mean() < 0.78
    assert ((r == 0) & (t == 1)).float().mean() > 0.1
    assert sample_noise(1000, 10, generator).std(dim=1).min() < 0.1


def test_meanflow_learns_a_conditional_chunk_in_one_step():
    torch.manual_seed(0)
    head = FlowController(16, 48, 1).head
    optimizer = torch.optim.Adam(head.parameters(), 3e-3)
    weight = torch.ones(100)
    for _ in range(250):
        condition = torch.randn(64, 48)
        x = condition[:, :1].tanh().repeat(1, 100)
        loss = meanflow_loss(head, x, condition, weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    condition = torch.randn(64, 48)
    wanted = condition[:, :1].tanh()
    one = torch.ones(64, 1)
    with torch.no_grad():
        for noise in (torch.zeros(64, 100), torch.randn(64, 100)):
            got = head(noise, 0 * one, one, condition)
            assert (got - wanted).abs().mean() < 0.25 * wanted.abs().mean()


def test_settings_refuse_evaluation_seeds_and_typos():
    assert load_settings(minutes=2.0).minutes == 2.0
    assert json.loads(load_settings(PRESET).model_dump_json())["data"]["envs"] > 0
    with pytest.raises(ValidationError):
        TrainControllerSettings(data={"first_road_seed": 1_000_000})
    with pytest.raises(ValidationError):
        load_settings(learning_rat=1.0)
    with pytest.raises(FileNotFoundError, match="preset"):
        load_settings("nowhere.yaml")

"""Exports the policy as a single-file ONNX bundle with its card, and compares it with torch, open and closed loop.

Knows no training data. The legacy exporter is used: its graph is small and runs the same everywhere.
"""

from __future__ import annotations

import json
import subprocess
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from bridge.messages import VehicleProfile
from controller.card import CARD_KEY, INPUTS, OUTPUT_NAME, BundleCard, ProfileRange
from controller.observation import Observation
from controller.policy import ActionChunk
from training.controller.network import Bundle, FlowController
from training.controller.train import load_average, read_meta

OPSET = 17
MAX_IR = 10
PARITY = 1e-4  # greatest difference allowed between torch and ONNX Runtime
DESCRIPTION = (
    "Flow matching with MeanFlow: camera, plan and ego state to 50 steps of [steering, acceleration] in one network "
    "evaluation. Imitates a teacher that sees the truth on random roads of the embedded world (DAgger, full "
    "randomisation of look, camera and physics). Noise 0 gives the deterministic chunk that drives."
)
PROFILES = ProfileRange(
    wheelbase_m=(0.15, 0.35), steering_limit_rad=(0.35, 0.55), reference_speed_mps=(1.0, 2.5),
    lenses=("fisheye", "pinhole"),
)  # fmt: skip


class ExportError(RuntimeError):
    """An export that does not do what the torch model does."""


def example_inputs(seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs of the bundle's shapes, within the ranges that the car gives."""
    rng = np.random.default_rng(seed)
    shapes = {name: shape for name, (_, shape) in INPUTS.items()}
    path = np.cumsum(rng.normal((2.0, 0.0, 0.0), (0.1, 0.4, 0.05), shapes["path"]), axis=1) + (0, 0, 0.8)
    return {
        "image": rng.integers(0, 256, shapes["image"], dtype=np.uint8),
        "path": path.astype(np.float32),
        "path_valid": np.full(shapes["path_valid"], float(seed % 3 > 0), np.float32),
        "ego": rng.normal((0.8, 0.0, 0.0), (0.3, 0.5, 0.3), shapes["ego"]).astype(np.float32),
        "noise": (rng.standard_normal(shapes["noise"]) * (seed % 2)).astype(np.float32),
    }


def export_bundle(checkpoint: str | Path, out: str | Path, metrics: dict | None = None, name: str = "flow") -> Path:
    """Write `out`, check it against torch; returns its path. Raises ExportError when they differ by over 1e-4."""
    policy, meta, out = load_average(Path(checkpoint)), read_meta(Path(checkpoint)), Path(out)
    aside = out.with_suffix(".tmp.onnx")
    out.parent.mkdir(parents=True, exist_ok=True)
    _write_graph(policy, aside)
    model = onnx.load(aside)
    model.ir_version = min(model.ir_version, MAX_IR)
    parity = compare_open_loop(policy, model.SerializeToString())
    card = BundleCard(
        name=name,
        description=DESCRIPTION,
        commit=_commit(),
        seed=meta["settings"]["seed"],
        opset=OPSET,
        ir_version=model.ir_version,
        profiles=PROFILES,
        training={k: meta[k] for k in ("step", "samples", "spent_s", "shape", "settings")}
        | {"data": "random roads of the world track, seeds below 1000000; no racetrack files, no real frames"},
        metrics={"torch_vs_onnx_max_abs": parity, **(metrics or {})},
    )
    entry = model.metadata_props.add()
    entry.key, entry.value = CARD_KEY, card.model_dump_json()
    onnx.checker.check_model(model)
    aside.write_bytes(model.SerializeToString())
    aside.replace(out)
    return out


def _write_graph(policy: FlowController, path: Path) -> None:
    inputs = {name: torch.from_numpy(value) for name, value in example_inputs().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Bundle(policy).eval(), tuple(inputs.values()), str(path), input_names=list(inputs),
            output_names=[OUTPUT_NAME], opset_version=OPSET, dynamo=False, external_data=False,
        )  # fmt: skip


def compare_open_loop(policy: FlowController, bundle: str | Path | bytes, cases: int = 24) -> float:
    """Greatest absolute difference between torch and ONNX Runtime over random inputs. Raises ExportError."""
    session = _session(bundle)
    reference = Bundle(policy).eval()
    worst = 0.0
    for seed in range(cases):
        inputs = example_inputs(seed)
        with torch.no_grad():
            expected = reference(*(torch.from_numpy(v) for v in inputs.values())).numpy()
        got = session.run([OUTPUT_NAME], inputs)[0]
        worst = max(worst, float(np.abs(got - expected).max()))
    if not worst < PARITY:
        raise ExportError(f"torch and ONNX Runtime differ by {worst:.2g} (allowed {PARITY}); do not ship this bundle")
    return worst


class TorchPolicy:
    """The same policy run by torch, for the closed-loop comparison; `controller.policy.Policy`."""

    name, learned, needs_image = "flow-torch", True, True

    def __init__(self, checkpoint: str | Path):
        self._bundle = Bundle(load_average(Path(checkpoint))).eval()

    def act(self, observation: Observation) -> ActionChunk:
        """A chunk (50, 2) at 30 Hz."""
        assert observation.image is not None
        values = (
            observation.image, observation.path, np.array([observation.path_valid], np.float32), observation.ego,
            np.zeros((50, 2), np.float32),
        )  # fmt: skip
        with torch.no_grad():
            chunk = self._bundle(*(torch.from_numpy(np.ascontiguousarray(v))[None] for v in values))
        return ActionChunk(chunk[0].numpy(), 30.0)

    def reset(self) -> None:
        """Nothing is remembered."""


def compare_closed_loop(checkpoint: str | Path, bundle: str | Path, seconds: float = 4.0, seed: int = 1_000_003):
    """Drive the same road with torch and with the bundle; greatest distance between the two cars [m], a float."""
    from controller.onnx_policy import OnnxPolicy
    from training.controller.check_eyes import drive

    profile = VehicleProfile()
    policies = (TorchPolicy(checkpoint), OnnxPolicy(Path(bundle), profile))
    tracks = [drive(policy, profile, seed, seconds) for policy in policies]
    n = min(len(t) for t in tracks)
    return float(np.hypot(*(tracks[0][:n] - tracks[1][:n]).T).max())


def add_metrics(bundle: str | Path, metrics: dict) -> None:
    """Put measured figures into a bundle's card."""
    model = onnx.load(str(bundle))
    for entry in model.metadata_props:
        if entry.key == CARD_KEY:
            card = json.loads(entry.value)
            card["metrics"] |= metrics
            entry.value = BundleCard(**card).model_dump_json()
    Path(bundle).write_bytes(model.SerializeToString())


def _session(bundle: str | Path | bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    source = bundle if isinstance(bundle, bytes) else str(bundle)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _commit() -> str:
    root = Path(__file__).resolve().parents[2]
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"

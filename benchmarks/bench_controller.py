"""One control tick, camera in to actuation out, on one core: pursuit and the flow bundle beside a Donkey CNN.

The peer is the network of Donkey's linear pilot (five convolutions, dense 100 and 50, two outputs; 0.8 M parameters)
with random weights, run by ONNX Runtime with one thread, as `image -> steering, throttle` with nothing around it. Ticks
of all of them alternate, so that what else the machine does hits all alike.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import onnxruntime
import typer
from onnx import TensorProto, helper, numpy_helper

from bridge.messages import EgoState, Plan, VehicleProfile, Waypoint
from bridge.vehicle import Sensors
from controller.core import Controller
from controller.policies import FLOW_BUNDLE, load_policy

CONVOLUTIONS = ((24, 5, 2), (32, 5, 2), (64, 5, 2), (64, 3, 1), (64, 3, 1))  # channels, kernel, stride
DENSE = (100, 50, 2)
TICK_NS = 33_333_333
WARM_UP = 50


def donkey_cnn(rng: np.random.Generator) -> tuple[bytes, int]:
    """The peer as ONNX bytes (uint8 [1, 120, 160, 3] in, [1, 2] out), and its number of parameters."""
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["x0"], perm=[0, 3, 1, 2]),
    ]
    weights = {"scale": np.array(1 / 255, np.float32)}
    channels, size, x = 3, np.array([120, 160]), "x0"
    for i, (out, kernel, stride) in enumerate(CONVOLUTIONS):
        weights[f"cw{i}"] = _random(rng, out, channels, kernel, kernel)
        weights[f"cb{i}"] = _random(rng, out)
        nodes.append(helper.make_node("Conv", [x, f"cw{i}", f"cb{i}"], [f"c{i}"], strides=[stride, stride]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        channels, size, x = out, (size - kernel) // stride + 1, f"r{i}"
    nodes.append(helper.make_node("Flatten", [x], ["flat"]))
    width, x = int(channels * size.prod()), "flat"
    for i, out in enumerate(DENSE):
        weights[f"dw{i}"], weights[f"db{i}"] = _random(rng, width, out), _random(rng, out)
        last = i == len(DENSE) - 1
        nodes.append(helper.make_node("Gemm", [x, f"dw{i}", f"db{i}"], ["action" if last else f"d{i}"]))
        if not last:
            nodes.append(helper.make_node("Relu", [f"d{i}"], [f"dr{i}"]))
        width, x = out, f"dr{i}"
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, (1, 120, 160, 3))
    action = helper.make_tensor_value_info("action", TensorProto.FLOAT, (1, 2))
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "donkey", [image], [action], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return model.SerializeToString(), sum(w.size for w in weights.values())


def _random(rng: np.random.Generator, *shape: int) -> np.ndarray:
    fan_in = max(1, int(np.prod(shape[1:])))
    return (rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)


class Tick:
    """A controller that is driven round a bend, with a new plan every half second."""

    def __init__(self, policy: str, profile: VehicleProfile):
        self._controller = Controller(profile, load_policy(policy, profile))
        self._now_ns, self._count = 10**9, 0
        self.command = (0.0, 0.0, 0.0)

    def __call__(self, image: np.ndarray) -> None:
        sensors = Sensors(image, EgoState(speed_mps=1.2, yaw_rate_radps=0.3, steering=0.1), self._now_ns)
        control = self._controller.tick(self._now_ns, sensors)
        self.command = (control.steering, control.throttle, control.brake)

    def prepare(self) -> None:
        """Between ticks, not timed: plans arrive, time goes on."""
        if self._count % 15 == 1:
            points = tuple(Waypoint(x_m=0.5 * k, y_m=0.03 * k * k, v_mps=1.2) for k in range(1, 9))
            plan = Plan(
                session_id="b", seq=self._count, frame_seq=0, t_capture_ns=self._now_ns, ttl_s=2.0,
                intent="follow_lane", waypoints=points,
            )  # fmt: skip
            if self._controller.on_plan(plan, self._now_ns) is not None:
                raise RuntimeError("the benchmark's own plan was rejected")
        self._now_ns, self._count = self._now_ns + TICK_NS, self._count + 1


class Donkey:
    """The peer: one network evaluation and its two numbers."""

    def __init__(self):
        model, self.parameters = donkey_cnn(np.random.default_rng(0))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def __call__(self, image: np.ndarray) -> None:
        steering, throttle = self._session.run(None, {"image": image[None]})[0][0]
        self.command = (float(steering), float(throttle))

    def prepare(self) -> None:
        """Nothing to do between ticks."""


def measure(ticks: int) -> list[dict]:
    """Rows of the benchmark: p50 and p99 of each policy, with the peer's beside them."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    profile = VehicleProfile()
    peer = Donkey()
    runners: dict[str, Tick | Donkey] = {"pursuit": Tick("pursuit", profile), "donkey": peer}
    if FLOW_BUNDLE.is_file():
        runners["flow"] = Tick("flow", profile)
    else:
        print(f"no {FLOW_BUNDLE.name}: the flow policy is left out")
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (120, 160, 3), dtype=np.uint8) for _ in range(8)]
    times_ms: dict[str, list[float]] = {name: [] for name in runners}
    for k in range(WARM_UP + ticks):
        for name, run in runners.items():
            run.prepare()
            start = time.perf_counter_ns()
            run(images[k % len(images)])
            if k >= WARM_UP:
                times_ms[name].append((time.perf_counter_ns() - start) * 1e-6)
    print(f"peer: Donkey CNN, {peer.parameters / 1e6:.2f} M parameters, ONNX Runtime, one thread")
    return [_row(name, share, times_ms) for name in ("pursuit", "flow") if name in runners for share in (50, 99)]


def _row(name: str, share: int, times_ms: dict[str, list[float]]) -> dict:
    ours, peer = (float(np.percentile(times_ms[n], share)) for n in (name, "donkey"))
    label = f"controller tick p{share}, {name}, against a Donkey CNN"
    return {"name": label, "ours": round(ours, 3), "peer": round(peer, 3), "unit": "ms", "ratio": round(ours / peer, 3)}


def main(
    ticks: Annotated[int, typer.Option(help="Timed ticks of each.")] = 2000,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results here.")] = None,
) -> None:
    """Time of a control tick, beside a Donkey CNN in the same run."""
    results = measure(ticks)
    for r in results:
        print(f"{r['name']}: {r['ours']} {r['unit']}, peer {r['peer']} {r['unit']}, {r['ratio']} x")
    if json_path is not None:
        json_path.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    typer.run(main)

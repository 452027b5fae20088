"""Trains the flow controller: collect with DAgger, learn, keep checkpoints, log, export. One CPU thread is enough.

Everything it knows of the world comes through `collect.Collector`; everything of the loss from `meanflow`.
"""

from __future__ import annotations

import csv
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from training.controller.buffer import SampleBuffer
from training.controller.collect import Collector
from training.controller.meanflow import meanflow_loss
from training.controller.network import AUX_DIM, CHUNK_STEPS, FlowController
from training.controller.settings import TrainControllerSettings

NEARNESS, NEAR = 11, 0.5  # entry of aux, and its value 3 m before an actor
CSV_FIELDS = ("minutes", "step", "samples", "loss", "flow", "aux", "steer_mae", "accel_mae", "lane_m", "resets")


def early_weights(steps: float) -> Tensor:
    """(100,) weight of each chunk entry: the first steps are driven, the last ones hardly ever."""
    weight = torch.exp(-torch.arange(CHUNK_STEPS) / steps) + 0.15
    return (weight / weight.mean()).repeat_interleave(2)


class Trainer:
    """Owns network, optimiser, running average, data and the clock of one run."""

    def __init__(self, settings: TrainControllerSettings):
        torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.rng = np.random.default_rng(settings.seed)
        shape = {"features": settings.features, "width": settings.width, "blocks": settings.blocks}
        self.policy = FlowController(**shape)
        self.average = FlowController(**shape).eval()
        self.average.load_state_dict(self.policy.state_dict())
        self.optimizer = torch.optim.AdamW(
            self.policy.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.98)
        )
        self.weight = early_weights(settings.early_weight_steps)
        self.buffer = SampleBuffer(settings.data.buffer, AUX_DIM)
        self.step, self.samples, self.spent_s = 0, 0, 0.0
        settings.out.mkdir(parents=True, exist_ok=True)
        self.checkpoint = settings.out / "policy.safetensors"
        if settings.resume and self.checkpoint.is_file():
            self._load()
        self.collector = Collector(settings.data, seed=settings.seed + self.step)

    def run(self) -> Path:
        """Train until steps or minutes are used up; returns the checkpoint's path."""
        settings = self.settings
        started, saved = time.monotonic() - self.spent_s, time.monotonic()
        sums = dict.fromkeys(CSV_FIELDS[3:9], 0.0)
        # Few samples are enough to begin with; a trained network would learn so few by heart.
        first = (200 if self.step > 300 else 32) * settings.data.envs
        while self.buffer.size < min(first, settings.data.buffer):
            self._collect(student=self.step > 0)
        while self.step < settings.steps and self.spent_s < settings.minutes * 60:
            progress = max(self.spent_s / (settings.minutes * 60), self.step / settings.steps)
            self._set_rate(progress)
            if self.step % settings.steps_per_collect == 0:
                self._collect(student=progress > 0.03)
            for name, value in self._learn().items():
                sums[name] += value
            self.step += 1
            self.spent_s = time.monotonic() - started
            if self.step % settings.log_every == 0:
                self._log({name: value / settings.log_every for name, value in sums.items()})
                sums = dict.fromkeys(sums, 0.0)
            if time.monotonic() - saved > settings.checkpoint_minutes * 60:
                self.save()
                saved = time.monotonic()
        self.save()
        return self.checkpoint

    def _set_rate(self, progress: float) -> None:
        warm = min(1.0, (self.step + 1) / 300)
        rate = self.settings.learning_rate * warm * max(0.02, 1.0 - progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _collect(self, student: bool) -> None:
        rows = self.collector.collect(self.average if student else None)
        self.samples += len(rows["image"])
        if len(rows["image"]):
            self.buffer.add(rows)

    def _learn(self) -> dict[str, float]:
        settings, policy = self.settings, self.policy
        batch = self.buffer.sample(settings.batch, self.rng)
        ego = self._disturb_ego(batch["ego"])
        image = photometric(batch["image"]).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
            seen = policy.see(image).float()
        condition = policy.condition(seen, batch["path"], batch["valid"], ego)
        x = batch["chunk"].flatten(1) / policy.scale
        twice = condition.repeat(2, 1)
        importance = (1.0 + settings.near_weight * (batch["aux"][:, NEARNESS] > NEAR)).repeat(2)
        flow = meanflow_loss(policy.head, x.repeat(2, 1), twice, self.weight, settings.equal_share, importance)
        guess = policy.aux(seen)
        aux = F.smooth_l1_loss(guess, batch["aux"], beta=0.1)
        loss = flow + settings.aux_weight * aux
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        self.optimizer.step()
        self._update_average()
        with torch.no_grad():
            chunk = policy.generate(condition, torch.zeros_like(x))
            error = (chunk - batch["chunk"])[:, :10].abs().mean(dim=(0, 1))
            lane = (guess - batch["aux"])[:, 2].abs().mean() * 0.5  # lane centre at about 1 m, in metres
        return {
            "loss": loss.item(), "flow": flow.item(), "aux": aux.item(), "steer_mae": error[0].item(),
            "accel_mae": error[1].item(), "lane_m": lane.item(),
        }  # fmt: skip

    def _disturb_ego(self, ego: Tensor) -> Tensor:
        """Yaw rate and steering go missing now and then: a policy that copies its own steering is blind."""
        ego = ego.clone()
        ego[:, 0] *= 1.0 + 0.03 * torch.randn(len(ego))
        missing = torch.rand(len(ego)) < self.settings.ego_dropout
        ego[missing, 1:] = 0.0
        return ego

    def _update_average(self) -> None:
        decay = min(self.settings.ema, (1 + self.step) / (20 + self.step))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.policy.parameters(), strict=True):
                mean.lerp_(now, 1.0 - decay)

    def _log(self, means: dict[str, float]) -> None:
        row = {"minutes": self.spent_s / 60, "step": self.step, "samples": self.samples, **means}
        row["resets"] = self.collector.resets
        path = self.settings.out / "log.csv"
        fresh = not path.is_file()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, CSV_FIELDS)
            if fresh:
                writer.writeheader()
            writer.writerow({name: f"{row[name]:.5g}" for name in CSV_FIELDS})
        print("  ".join(f"{name} {row[name]:.4g}" for name in CSV_FIELDS), flush=True)

    def save(self) -> None:
        """Write the running average (what drives), the raw weights and the optimiser, aside first, then rename."""
        tensors = {f"average.{k}": v.contiguous() for k, v in self.average.state_dict().items()}
        tensors |= {f"policy.{k}": v.contiguous() for k, v in self.policy.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{k}": torch.as_tensor(v).contiguous() for k, v in state.items()}
        meta = {"step": self.step, "samples": self.samples, "spent_s": self.spent_s, "shape": self.policy.config}
        meta["settings"] = json.loads(self.settings.model_dump_json())
        aside = self.checkpoint.with_suffix(".tmp")
        save_file(tensors, aside, metadata={"training": json.dumps(meta)})
        os.replace(aside, self.checkpoint)

    def _load(self) -> None:
        tensors, meta = load_file(self.checkpoint), read_meta(self.checkpoint)
        part = lambda name: {k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)}  # noqa: E731
        self.policy.load_state_dict(part("policy."))
        self.average.load_state_dict(part("average."))
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in part("adam.").items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.step, self.samples, self.spent_s = meta["step"], meta["samples"], meta["spent_s"]


def photometric(image: Tensor) -> Tensor:
    """Random gain, offset and colour cast for each image (0..255); the world's own randomisation does the rest."""
    n = len(image)
    gain = torch.empty(n, 3, 1, 1).uniform_(0.85, 1.15) * torch.empty(n, 1, 1, 1).uniform_(0.7, 1.3)
    offset = torch.empty(n, 1, 1, 1).uniform_(-20, 20)
    return (image * gain + offset).clamp(0, 255)


def read_meta(checkpoint: Path) -> dict:
    """The training record inside a checkpoint."""
    from safetensors import safe_open

    with safe_open(str(checkpoint), framework="pt") as file:
        return json.loads(file.metadata()["training"])


def load_average(checkpoint: Path) -> FlowController:
    """The policy that drives, from a checkpoint. Raises FileNotFoundError."""
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(f"no checkpoint at {checkpoint}; run `pacenote train controller` first")
    policy = FlowController(**read_meta(checkpoint)["shape"])
    tensors = load_file(str(checkpoint))
    policy.load_state_dict({k.removeprefix("average."): v for k, v in tensors.items() if k.startswith("average.")})
    return policy.eval()


def train_controller(settings: TrainControllerSettings) -> Path:
    """Train (or go on training), write the curve, export the bundle into `settings.out`; returns the bundle's path."""
    from training.controller.curve import write_curve
    from training.controller.export import export_bundle

    checkpoint = Trainer(settings).run()
    write_curve(settings.out / "log.csv", settings.docs or settings.out)
    return export_bundle(checkpoint, settings.out / "controller-flow.onnx")

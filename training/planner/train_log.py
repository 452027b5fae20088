"""What a training run leaves to look at: lines on the terminal, a CSV of every figure, and the loss curve."""

from __future__ import annotations

import csv
import time
from pathlib import Path

from training.planner.state import TrainState


class TrainLog:
    """`<log_dir>/<name>.csv` (long form: stage, step, samples, seconds, figure, value) and `<name>.png`."""

    def __init__(self, log_dir: Path, name: str, keep: bool = False):
        log_dir.mkdir(parents=True, exist_ok=True)
        self.csv_path, self.png_path = log_dir / f"{name}.csv", log_dir / f"{name}.png"
        if not keep or not self.csv_path.is_file():
            self.csv_path.write_text("stage,step,samples,seconds,figure,value\n")

    def line(self, text: str) -> None:
        """A line with the time."""
        print(time.strftime("%H:%M:%S"), text, flush=True)

    def row(self, stage: str, state: TrainState, figures: dict[str, float]) -> None:
        """Figures of one moment."""
        said = " ".join(f"{k} {v:.3f}" for k, v in figures.items())
        rate = state.samples / max(state.elapsed_s, 1e-9)
        self.line(f"{stage} step {state.step} samples {state.samples} ({rate:.0f}/s) {said}")
        with self.csv_path.open("a", newline="") as file:
            writer = csv.writer(file)
            for name, value in figures.items():
                writer.writerow([stage, state.step, state.samples, round(state.elapsed_s, 1), name, round(value, 5)])

    def draw(self) -> None:
        """Losses and checks over samples, one panel a stage."""
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
        with self.csv_path.open() as file:
            for row in csv.DictReader(file):
                points = curves.setdefault(row["stage"], {}).setdefault(row["figure"], [])
                samples = int(row["samples"])
                if points and samples < points[-1][0]:  # a later run on the same weights
                    points.append((samples, float("nan")))
                points.append((samples, float(row["value"])))
        figure, axes = plt.subplots(1, len(curves), figsize=(5.5 * len(curves), 4), squeeze=False)
        for axis, (stage, figures) in zip(axes[0], curves.items(), strict=True):
            for name, points in figures.items():
                axis.plot(*zip(*points, strict=True), label=name, lw=1, marker="." if len(points) < 30 else None)
            axis.set_title(stage)
            axis.set_xlabel("samples")
            axis.set_yscale("log" if not stage.endswith("check") else "linear")
            axis.grid(alpha=0.3)
            axis.legend(fontsize=6)
        figure.tight_layout()
        figure.savefig(self.png_path, dpi=90)
        plt.close(figure)

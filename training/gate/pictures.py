"""Pictures of a validation: the gap with its intervals, success by scenario, film strips. Draws only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from sims.scenarios import SCENARIOS
from training.gate.settings import GateSettings
from training.gate.table import MEASURES, SHARES
from training.gate.verdict import RULES
from training.gate.words import TITLES

COLOURS = {"policy": "#c0392b", "pursuit": "#7f8c8d", "minus_pursuit": "#b9770e", "minus_train": "#2c3e50"}
NAMES = {"minus_pursuit": "bundle - pursuit in the same world", "minus_train": "bundle here - in the training world"}


def gap_picture(path: Path, table: Sequence[Mapping], settings: GateSettings, train_world: str, title: str) -> None:
    """Above, every measure with its interval, and the limit as a dash; below, the differences."""
    worlds = list(dict.fromkeys(row["world"] for row in table))
    figure, axes = plt.subplots(2, len(MEASURES), figsize=(3.1 * len(MEASURES), 6.4), sharex=True)
    for column, measure in enumerate(MEASURES):
        rows = {row["world"]: row for row in table if row["measure"] == measure}
        top, low = axes[0][column], axes[1][column]
        top.set_title(TITLES[measure].removesuffix(" [%]"), fontsize=10)
        _points(top, rows, worlds, {"policy": "the bundle", "pursuit": "pursuit"})
        _points(low, rows, worlds, NAMES)
        for at, world in enumerate(worlds):
            for limit in _limits(settings, world, train_world, measure):
                top.plot([at - 0.35, at + 0.35], [limit, limit], color="black", linewidth=1.2, linestyle=":")
        low.axhline(0.0, color="black", linewidth=0.6)
        if measure in SHARES:
            top.set_ylim(-0.03, 1.03)
        else:
            top.set_ylim(-0.04 * top.get_ylim()[1], 1.08 * top.get_ylim()[1])
        reach = 1.1 * max(np.abs(low.get_ylim()))  # around zero, so that a large gap looks large
        low.set_ylim(-reach, reach)
        low.set_xticks(range(len(worlds)), worlds)
        low.set_xlim(-0.5, len(worlds) - 0.5)
        for axis in (top, low):
            axis.grid(axis="y", alpha=0.3)
            axis.tick_params(labelsize=8, labelbottom=True)
    axes[0][0].set_ylabel("figure (dotted: limit)", fontsize=9)
    axes[1][0].set_ylabel("difference", fontsize=9)
    figure.suptitle(title, fontsize=11)
    figure.tight_layout(rect=(0.0, 0.04, 1.0, 1.0))
    marks = [mark for row in axes for mark in zip(*row[0].get_legend_handles_labels(), strict=True)]
    figure.legend(*zip(*marks, strict=True), loc="lower center", ncols=len(marks), fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _points(axis, rows: Mapping[str, Mapping], worlds: Sequence[str], columns: Mapping[str, str]) -> None:
    for k, (column, label) in enumerate(columns.items()):
        found = [(at, rows[world][column]) for at, world in enumerate(worlds) if rows[world][column]]
        if not found:
            continue
        at = np.array([a + (k - 0.5) * 0.3 for a, _ in found])
        value = np.array([e["value"] for _, e in found])
        ends = [[_end(e, "low") for _, e in found], [_end(e, "high") for _, e in found]]
        spread = np.abs(np.array(ends) - value)
        axis.errorbar(at, value, yerr=spread, fmt="o", color=COLOURS[column], capsize=4, markersize=5, label=label)


def _end(estimate: Mapping, end: str) -> float:
    return estimate["value"] if estimate[end] is None else estimate[end]


def _limits(settings: GateSettings, world: str, train_world: str, measure: str) -> list[float]:
    limits = settings.limits_of(world, train_world)
    found = [getattr(limits, rule) for rule, (m, column, _) in RULES.items() if m == measure and column == "policy"]
    return [limit for limit in found if limit is not None]


def scenario_picture(path: Path, shares: Mapping[str, Mapping[str, Mapping]], title: str) -> None:
    """Success by scenario. `shares`: column's name -> scenario -> {"n", "success"}."""
    names = [name for name in SCENARIOS if any(name in column for column in shares.values())]
    values = np.array([[column.get(name, {}).get("success", np.nan) for column in shares.values()] for name in names])
    figure, axis = plt.subplots(figsize=(1.6 + 1.3 * len(shares), 1.2 + 0.32 * len(names)))
    axis.imshow(values, vmin=0.0, vmax=1.0, cmap="RdYlGn", alpha=0.7, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        n = list(shares.values())[column].get(names[row], {}).get("n", 0)
        words = f"{round(value * n)}/{n}" if n else "not shown"
        axis.text(column, row, words, ha="center", va="center", fontsize=8)
    axis.set_xticks(np.arange(-0.5, len(shares)), minor=True)
    axis.grid(which="minor", axis="x", color="white", linewidth=2.0)
    axis.set_xticks(range(len(shares)), list(shares), fontsize=8, rotation=20)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_title(title, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def strips_picture(path: Path, strips: Sequence[np.ndarray]) -> None:
    """Film strips below one another."""
    width = max(strip.shape[1] for strip in strips)
    padded = [np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0))) for strip in strips]
    cv2.imwrite(str(path), np.vstack(padded)[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 85))

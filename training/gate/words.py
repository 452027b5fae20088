"""The gap table as text: for the terminal, and as Markdown with everything in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from training.gate.table import SHARES

TITLES = {
    "success": "success [%]", "collision": "collided [%]", "off_road": "left the road [%]",
    "lateral_error_m": "lateral error [m]", "jerk_mps3": "jerk [m/s³]",
}  # fmt: skip
COLUMNS = {"policy": "", "pursuit": "", "minus_pursuit": "+", "minus_train": "+"}  # and the sign that is shown
HEADS = ("world", "measure", "bundle", "pursuit", "bundle - pursuit", "here - training world")


def number(estimate: Mapping | None, measure: str, sign: str = "") -> str:
    """An estimate and its interval; shares in per cent. "~": not of the same episodes on the same roads."""
    if estimate is None:
        return "-"
    scale, form = (100.0, f"{sign}.1f") if measure in SHARES else (1.0, f"{sign}.3f")
    low, high = (estimate[end] for end in ("low", "high"))
    ends = "unknown" if low is None else f"{format(scale * low, form)} … {format(scale * high, form)}"
    return f"{'~' * (estimate.get('paired') is False)}{format(scale * estimate['value'], form)} ({ends})"


def cells(row: Mapping) -> list[str]:
    """Measure, and the four columns of a row."""
    return [TITLES[row["measure"]], *(number(row[column], row["measure"], sign) for column, sign in COLUMNS.items())]


def table_view(table: Sequence[Mapping], name: str) -> Table:
    """For the terminal."""
    view = Table(*HEADS, title=f"the gap of {escape(name)}, with intervals")
    for at, row in enumerate(table):
        last = at + 1 == len(table) or table[at + 1]["world"] != row["world"]
        first = at == 0 or table[at - 1]["world"] != row["world"]
        view.add_row(row["world"] if first else "", *map(escape, cells(row)), end_section=last)
    return view


def markdown(report: Mapping) -> str:
    """The gap table, the verdict and how it was measured."""
    certificate = report["certificate"]
    lines = [f"# {certificate['bundle']}: {'passed' if report['passed'] else 'not passed'}", ""]
    lines += [f"- {reason}" for reason in report["reasons"]] + [""] * bool(report["reasons"])
    lines += ["| " + " | ".join(HEADS) + " |", "|" + "---|" * len(HEADS)]
    lines += ["| " + " | ".join([row["world"], *cells(row)]) + " |" for row in report["table"]]
    counts = ", ".join(f"{w} {len(rows['policy'])}" for w, rows in report["episodes"].items())
    lines += [
        "",
        f"Intervals of {100 * certificate['thresholds']['confidence']:g} %. Trained in {certificate['train_world']}; "
        f"seeds {', '.join(map(str, certificate['seeds']))}; episodes with the bundle: {counts}; planner "
        f"{certificate['planner']}, {certificate['delay_ms']:g} ms late; commit {certificate['commit']}, "
        f"{certificate['date']}. ~: not of the same episodes on the same roads.",
    ]
    lines += [f"\nNot checked: {world}: {why}" for world, why in certificate["unchecked"].items()]
    for where, skipped in report["skipped"].items():
        lines += [f"\nNot shown in {where}: {name}: {why}" for name, why in skipped.items()]
    return "\n".join(lines) + "\n"

"""Runs the scripts in `benchmarks/`, each in a process of its own, and puts their results together.

A script `bench_<name>.py` takes `--json FILE` and writes a list of {"name", "ours", "peer", "unit", "ratio"}; `peer`
and `ratio` are null where there is nothing to compare with.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
TIMEOUT_S = 1800.0


class BenchError(RuntimeError):
    """A benchmark that is missing or failed; the message says which."""


def _run(script: Path, target: Path) -> list[dict]:
    root = script.parent.parent
    command = [sys.executable, str(script), "--json", str(target)]
    done = subprocess.run(command, timeout=TIMEOUT_S, cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    if done.returncode != 0 or not target.is_file():
        raise BenchError(f"{script.name} failed with exit code {done.returncode}")
    return json.loads(target.read_text(encoding="utf-8"))


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, (int, float)) else str(value)


def _table(rows: list[dict]) -> Table:
    table = Table("benchmark", "ours", "peer", "unit", "ratio")
    for row in rows:
        table.add_row(*(_cell(row.get(key)) for key in ("name", "ours", "peer", "unit", "ratio")))
    return table


def run_benchmarks(only: str = "") -> list[dict]:
    """Run all benchmarks whose name contains `only`; print a table and return the rows. Where one fails it is told and
    the others still run; raises BenchError if nothing came out."""
    scripts = [p for p in sorted(BENCHMARKS.glob("bench_*.py")) if only in p.stem]
    if not scripts:
        there = ", ".join(p.stem.removeprefix("bench_") for p in sorted(BENCHMARKS.glob("bench_*.py")))
        raise BenchError(f"no benchmark matches {only!r}; there are: {there or 'none'}")
    console, rows, failed = Console(), [], []
    with tempfile.TemporaryDirectory() as folder:
        for script in scripts:
            console.print(f"[bold]{script.stem}[/bold]")
            try:
                rows += _run(script, Path(folder) / f"{script.stem}.json")
            except (BenchError, subprocess.TimeoutExpired, ValueError) as error:
                failed.append(str(error))
    console.print(_table(rows))
    for message in failed:
        console.print(f"[red]{message}[/red]")
    if not rows:
        raise BenchError("no benchmark gave a result")
    return rows

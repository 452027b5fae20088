"""Plans, reasoning and events of a run as readable text. Knows the lines of a run folder, nothing of who wrote them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from statistics import median

from rich.console import Console
from rich.markup import escape

from cockpit.runs import Run

COLOURS = {"accepted": "cyan", "waiting": "yellow", "refused": "red", "done": "green"}


def line_text(entry: dict) -> str:
    """One event or plan as rich markup, one to three lines."""
    at = f"[dim]{_number(entry.get('t_s'), '7.2f')} s[/dim]  "
    if "event" in entry:
        return at + _event_text(entry)
    return at + _plan_text(entry)


def _number(value: object, form: str) -> str:
    return format(value, form) if isinstance(value, (int, float)) else "-".rjust(int(form.split(".")[0] or 1))


def _event_text(entry: dict) -> str:
    kind = entry["event"]
    if kind == "command":
        return f"[bold]operator[/bold]  “{escape(str(entry.get('text', '')))}”"
    if kind == "verdict":
        verdict = str(entry.get("verdict"))
        reason = f": {escape(entry['reason'])}" if entry.get("reason") else ""
        return f"[bold]verdict[/bold]   [{COLOURS.get(verdict, 'white')}]{escape(verdict)}[/]{reason}"
    rest = ", ".join(f"{k} {v}" for k, v in entry.items() if k not in ("t_s", "event"))
    return f"[bold]{escape(kind)}[/bold]  {escape(rest)}"


def _plan_text(entry: dict) -> str:
    points = entry.get("waypoints") or []
    verdict = entry.get("verdict") or {}
    line = f"[bold magenta]{escape(str(entry.get('intent')))}[/bold magenta]"
    if verdict:
        colour = COLOURS.get(verdict.get("verdict"), "white")
        line += f" · [{colour}]{escape(str(verdict.get('verdict')))}[/]"
        line += f" ({escape(verdict['reason'])})" if verdict.get("reason") else ""
    if points:
        line += f" · to x {points[-1][0]:.2f} y {points[-1][1]:+.2f} m at {points[0][2]:.2f}→{points[-1][2]:.2f} m/s"
    age, total = entry.get("age_on_arrival_s"), (entry.get("timings") or {}).get("total_s")
    line += f" · [dim]planner {_number(total, '.3f')} s, age {_number(age, '.3f')} s[/dim]"
    for key in ("rejected", "guard", "error"):
        if entry.get(key) and entry[key] != "ok":
            line += f" · [red]{key}: {escape(str(entry[key]))}[/red]"
    if entry.get("reasoning"):
        line += f"\n             {escape(entry['reasoning'])}"
    return line


def print_lines(entries: Iterable[dict], console: Console) -> None:
    """Print events and plans in the order given."""
    for entry in entries:
        console.print(line_text(entry), highlight=False, soft_wrap=True)


def summary(plans: list[dict]) -> dict:
    """Counts and median timings of the plans of a run: plans, rejected, rate_hz, model_s, age_on_arrival_s."""
    ages = [p["age_on_arrival_s"] for p in plans if p.get("age_on_arrival_s") is not None]
    model = [p["timings"]["model_s"] for p in plans if p.get("timings")]
    at = [p["t_s"] for p in plans if p.get("t_s") is not None]
    span = max(at) - min(at) if len(at) > 1 else 0.0
    return {
        "plans": len(plans),
        "rejected": sum(1 for p in plans if p.get("rejected")),
        "rate_hz": round((len(at) - 1) / span, 2) if span else None,
        "model_s_p50": round(median(model), 4) if model else None,
        "age_on_arrival_s_p50": round(median(ages), 4) if ages else None,
    }


def merged(plans: list[dict], events: list[dict]) -> list[dict]:
    """Plans and events in order of time."""
    return sorted([*plans, *events], key=lambda e: e.get("t_s") or 0.0)


def _words(value: object) -> str:
    """All text inside an entry, without the names of its fields."""
    if isinstance(value, dict):
        return "\n".join(_words(v) for v in value.values())
    if isinstance(value, list):
        return "\n".join(_words(v) for v in value)
    return value if isinstance(value, str) else ""


def show(run: Run, follow: bool = False, as_json: bool = False, grep: str = "") -> None:
    """Print a run: readable, or its plans as JSON lines; only entries that contain `grep`, if given."""
    console = Console()
    entries = run.follow() if follow else iter(merged(run.plans(), run.events()))
    if not as_json:
        console.print(f"[bold]{escape(str(run.folder))}[/bold]", highlight=False)
    for entry in entries:
        line = json.dumps(entry, ensure_ascii=False, default=str)
        if grep and grep.lower() not in _words(entry).lower():
            continue
        if not as_json:
            print_lines([entry], console)
        elif "event" not in entry:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    if not as_json:
        told = ", ".join(f"{k} {v}" for k, v in summary(run.plans()).items() if v is not None)
        console.print(f"[bold]{escape(told)}[/bold]", highlight=False)

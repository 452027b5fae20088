"""`pacenote worlds`: the worlds as a table, and the conformance check of one as it goes (see `sims/check_world.py`)."""

from __future__ import annotations

from dataclasses import asdict

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bridge.names import choose
from sims.check_world import FAIL, PASS, SKIP, Finding, check_world
from sims.world import WorldError
from sims.worlds import WORLDS, find_world

COLOURS = {PASS: "green", FAIL: "red", SKIP: "yellow"}


def list_worlds() -> list[dict]:
    """For each world {"name", "about", "needs", "missing" (None: it is here), "camera", "traffic", "tracks"}."""
    return [_entry(name) for name in WORLDS]


def _entry(name: str) -> dict:
    try:
        spec = WORLDS[name]
        plain = {"about": spec.about, "needs": spec.needs, "missing": spec.missing()}
        return {"name": name, **plain, "camera": spec.camera, "traffic": spec.traffic, "tracks": list(spec.tracks())}
    except WorldError as error:
        return {"name": name, "about": "", "needs": "", "missing": str(error), "camera": False, "traffic": False}


def print_worlds(entries: list[dict]) -> None:
    """The table."""
    table = Table("world", "what it is", "needs", "here")
    for entry in entries:
        here = "[green]yes[/green]" if entry["missing"] is None else f"[yellow]{escape(entry['missing'])}[/yellow]"
        table.add_row(entry["name"], escape(entry["about"]), escape(entry["needs"]), here)
    Console().print(table)


def run_checks(name: str) -> dict:
    """Check one world, printing each finding; {"world", "ok", "checks": [{"name", "outcome", "detail"}]}. Raises
    UnknownName, and WorldError where the world cannot run here."""
    console = Console()
    choose(name, WORLDS, "world")
    spec = find_world(name)

    def show(finding: Finding) -> None:
        outcome = f"[{COLOURS[finding.outcome]}]{finding.outcome:4}[/]"
        console.print(f"{outcome}  {finding.name:15} {escape(finding.detail)}", highlight=False, soft_wrap=True)

    findings = check_world(spec, WORLDS.home(name), show)
    count = {outcome: sum(f.outcome == outcome for f in findings) for outcome in COLOURS}
    console.print(f"{name}: {count[PASS]} passed, {count[FAIL]} failed, {count[SKIP]} skipped", highlight=False)
    return {"world": name, "ok": not count[FAIL], "checks": [asdict(f) for f in findings]}

"""`pacenote evaluate`: from the command line to settings, and the report as a table. `evaluate.py` does the work."""

from __future__ import annotations

from pathlib import Path

import yaml
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from sims.worlds import find_world
from training.backends import load_backend
from training.evaluate import EvaluateSettings, EvaluationError, evaluate


def read_phrasings(path: str | Path) -> dict[str, list[str]]:
    """YAML, scenario -> list of texts. Raises EvaluationError."""
    try:
        plain = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise EvaluationError(f"phrasings: cannot read {path}: {error}") from error
    good = isinstance(plain, dict) and all(
        isinstance(texts, list) and texts and all(isinstance(t, str) for t in texts) for texts in plain.values()
    )
    if not good:
        raise EvaluationError(f"phrasings: {path} must map each scenario to a list of texts")
    return plain


def table(report: dict) -> Table:
    """Success by scenario, and the summary below."""
    summary = report["summary"]
    view = Table("scenario", "success", title=f"{report['planner']} + {report['controller']}, {report['delay_ms']} ms")
    for name, rate in summary["by_scenario"].items():
        rate = rate["success_rate"] if isinstance(rate, dict) else rate
        view.add_row(name, f"{100 * rate:.0f} %")
    view.add_section()
    for key, value in summary.items():
        if key != "by_scenario":
            view.add_row(key, f"{value:.3f}" if isinstance(value, float) else str(value))
    return view


def run_evaluation(*, phrasings: Path | None, delay_ms: str, **fields) -> dict:
    """Evaluate with a progress bar, print the table, return the report. Raises what settings, model or world raise."""
    texts = read_phrasings(phrasings) if phrasings else None
    settings = EvaluateSettings(**fields, delay_ms=delay_ms, phrasings=texts)
    find_world(settings.world)  # before a model is loaded for nothing
    backend = load_backend(settings.planner)
    console = Console()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("episodes", total=settings.episodes)
        report = evaluate(settings, backend, on_episode=lambda _: progress.advance(task))
    console.print(table(report))
    for name, reason in report["skipped"].items():
        console.print(f"[yellow]{name}[/yellow] left out: {escape(reason)}", highlight=False)
    failed = [e for e in report["episodes"] if not e["success"]]
    for e in failed[:20]:
        console.print(f"[red]{e['scenario']}[/red] on {e['track']}, seed {e['seed']}: {e['reason']}", highlight=False)
    if len(failed) > 20:
        console.print(f"and {len(failed) - 20} more failed")
    return report

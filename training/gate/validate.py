"""`pacenote validate`: run, compare, judge, draw, and write the certificate into the bundle's card.

The bundle's bytes change only at the very end, aside and renamed; a validation that is broken off leaves it as it was.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from bridge.names import choose
from cockpit.runs import RUNS, commit_id, versions, write_json
from controller.card import BundleCard
from controller.certificate import Certificate, bundle_digest, check_bundle, read_certificate, signed_bundle
from controller.onnx_policy import read_card
from controller.policies import bundle_path
from controller.signing import Signer, own_signer, user_folder
from sims.worlds import WORLDS
from training.gate import verdict
from training.gate.pictures import gap_picture, scenario_picture, strips_picture
from training.gate.run import JobResult, obstacle, run_all
from training.gate.settings import GateError, GateSettings
from training.gate.table import by_scenario, gap_table, rows_of
from training.gate.words import markdown, table_view
from training.suite import choose_scenarios


def validate(
    bundle: str | Path,
    settings: GateSettings,
    *,
    train_world: str = "track",
    allow_missing: bool = False,
    out: Path | None = None,
    console: Console | None = None,
    signer: Signer | None = None,
) -> dict:
    """Check `bundle` ("flow" or a path) in `train_world` and in `settings.worlds`; leaves report, table and pictures in
    `out` (runs/<time>-validate) and the signed certificate in the bundle, passed or not. Returns the report. Raises
    GateError where a world cannot be checked and `allow_missing` is not said, BundleError, CertificateError,
    SigningError, UnknownName, and what a simulator raises that breaks down."""
    console = console or Console()
    path, before, card = _open(bundle)
    worlds = tuple(dict.fromkeys(choose(w, WORLDS, "world") for w in (train_world, *settings.worlds)))
    for world in (*settings.required_worlds, *settings.limits):
        choose(world, WORLDS, "world")
    choose_scenarios(settings.suite)
    unchecked = _unchecked(path, worlds, train_world, settings, allow_missing)
    signer = signer or _signer(console)
    checked = [world for world in worlds if world not in unchecked]
    folder = out or RUNS / f"{datetime.now():%Y%m%d-%H%M%S}-validate"
    folder.mkdir(parents=True, exist_ok=True)
    results = _run(path, checked, settings, console)
    table = gap_table(results, checked, train_world, settings.confidence)
    findings = verdict.judge(table, settings, train_world)
    why = verdict.reasons(findings, checked, unchecked, train_world, settings.required_worlds)
    certificate = Certificate(
        bundle=card.name, bundle_sha256=bundle_digest(before), passed=not why, reasons=tuple(why),
        train_world=train_world, worlds=tuple(checked), unchecked=unchecked, suite=choose_scenarios(settings.suite),
        planner=settings.planner, delay_ms=settings.delay_ms, randomize=settings.randomize, seeds=settings.seeds,
        episodes=settings.episodes, thresholds=_thresholds(settings), table=tuple(table), commit=commit_id(),
        date=datetime.now(UTC).isoformat(timespec="seconds"), key=signer.key_id,
    )  # fmt: skip
    report = _report(path, certificate, results, checked, findings)
    _leave(folder, report, results, settings)
    write_certificate(path, certificate, signer)
    _tell(console, report, folder, path)
    return report


def check(bundle: str | Path, console: Console | None = None) -> bool:
    """Print a bundle's certificate and whether a car with this machine's keys would drive it. Raises CertificateError
    where it would not, BundleError."""
    console = console or Console()
    path, data, _ = _open(bundle)
    certificate = read_certificate(data)
    if certificate is not None:
        console.print(table_view(certificate.table, certificate.bundle))
        console.print(f"{certificate.date}, commit {certificate.commit}, key {certificate.key}", highlight=False)
    check_bundle(path)
    console.print("[green]a car with this machine's keys would drive it[/green]")
    return True


def write_certificate(path: Path, certificate: Certificate, signer: Signer) -> None:
    """Put the certificate into the bundle, aside and renamed. Raises CertificateError where the bundle has changed
    since the certificate's digest was taken."""
    signed = signed_bundle(path.read_bytes(), certificate, signer)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(signed)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(path, aside)
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def _open(bundle: str | Path) -> tuple[Path, bytes, BundleCard]:
    path = bundle_path(bundle)
    if path is None:
        raise GateError("pursuit is code and has no weights: there is nothing to certify, and a car drives it without")
    card = read_card(path)  # the file's faults come before anything takes long
    return path, path.read_bytes(), card


def _signer(console: Console) -> Signer:
    signer, made = own_signer()
    if made:
        console.print(
            f"made a key to sign certificates with: {user_folder() / 'gate.key'} (keep it here). A car believes it "
            f"once {user_folder() / 'gate_keys' / 'gate.pub'} lies in the same folder there.",
            highlight=False,
            soft_wrap=True,
        )
    return signer


def _unchecked(
    path: Path, worlds: Sequence[str], train_world: str, settings: GateSettings, allow_missing: bool
) -> dict[str, str]:
    found = {world: why for world in worlds if (why := obstacle(world, str(path), settings)) is not None}
    if found and (not allow_missing or train_world in found):
        told = "; ".join(f"{world}: {why}" for world, why in found.items())
        hint = "" if train_world in found else " Go on without: --allow-missing"
        raise GateError(f"cannot be checked here: {told}.{hint}")
    return found


def _run(path: Path, worlds: Sequence[str], settings: GateSettings, console: Console) -> list[JobResult]:
    total = 2 * len(worlds) * len(settings.seeds)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"{', '.join(worlds)}: evaluations", total=total)
        return run_all(str(path), worlds, settings, lambda _: progress.advance(task))


def _thresholds(settings: GateSettings) -> dict:
    kept = {"confidence", "required_worlds", "train", "others", "limits"}
    return settings.model_dump(mode="json", include=kept, exclude_none=True)


def _report(
    path: Path, certificate: Certificate, results: Sequence[JobResult], worlds: Sequence[str],
    findings: Sequence[verdict.Finding],
) -> dict:  # fmt: skip
    rows = {
        world: {name: rows_of(results, world, pursuit=name == "pursuit") for name in ("policy", "pursuit")}
        for world in worlds
    }
    return {
        "bundle": str(path),
        "passed": certificate.passed,
        "reasons": list(certificate.reasons),
        "certificate": certificate.model_dump(mode="json"),
        "table": list(certificate.table),
        "findings": verdict.as_dicts(findings),
        "skipped": {f"{r.job.world}, {Path(r.job.controller).stem}": r.skipped for r in results if r.skipped},
        "by_scenario": {w: {name: by_scenario(found) for name, found in pair.items()} for w, pair in rows.items()},
        "episodes": rows,
        "versions": versions(),
    }


def _leave(folder: Path, report: dict, results: Sequence[JobResult], settings: GateSettings) -> None:
    certificate = report["certificate"]
    words = f"{certificate['bundle']}: {'passed' if report['passed'] else 'NOT passed'}, {certificate['date']}"
    write_json(folder / "report.json", report)
    (folder / "table.md").write_text(markdown(report), encoding="utf-8")
    gap_picture(folder / "gap.png", report["table"], settings, certificate["train_world"], words)
    columns = {f"{w}, {name}": s for w, pair in report["by_scenario"].items() for name, s in pair.items()}
    scenario_picture(folder / "scenarios.png", columns, words)
    for world in certificate["worlds"]:
        strips = [strip for r in results if r.job.world == world for strip in r.strips]
        if strips:
            strips_picture(folder / f"strips-{world}.jpg", strips)


def _tell(console: Console, report: Mapping, folder: Path, path: Path) -> None:
    console.print(table_view(report["table"], report["certificate"]["bundle"]))
    for reason in report["reasons"]:
        console.print(f"[red]{escape(reason)}[/red]", highlight=False)
    word = "[green]PASSED[/green]" if report["passed"] else "[red]NOT PASSED[/red]"
    console.print(f"{word}; the certificate says so in {escape(str(path))}", highlight=False)
    console.print(f"report and pictures: [bold]{escape(str(folder))}[/bold]", highlight=False)

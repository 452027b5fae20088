"""The command line of `pacenote collect`: recording, `check`, and imports. Reads words and calls; heavy imports stand
inside, so that `pacenote --help` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

collect_app = typer.Typer(
    invoke_without_command=True, help="Record driving in any world as a LeRobot v3 dataset; check and import datasets."
)
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result here.")]


@collect_app.callback()
def collect(
    context: typer.Context,
    world: Annotated[str, typer.Option(help="Simulated world; `pacenote worlds` lists them.")] = "track",
    track: Annotated[
        list[str] | None, typer.Option(help="random, a track of the world's own, or a racetrack file; repeatable.")
    ] = None,
    driver: Annotated[
        str, typer.Option(help="expert, human (keys or gamepad), or policy:BUNDLE (flow, pursuit or a file).")
    ] = "expert",
    suite: Annotated[str, typer.Option(help="all, or names of scenarios with commas between them.")] = "all",
    episodes: Annotated[int, typer.Option(help="In all, spread evenly over suite and tracks.")] = 60,
    out: Annotated[Path | None, typer.Option(help="Folder of the dataset; data/<time>-... by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the dataset in --out.")] = False,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 0,
    randomize: Annotated[float, typer.Option(help="Strength of random looks, cameras and physics, 0 to 1.")] = 0.5,
    successes_only: Annotated[
        bool, typer.Option("--successes-only", help="Leave out episodes that fail their scenario.")
    ] = False,
    gamepad: Annotated[str | None, typer.Option(help="For a human: its device, such as /dev/input/js0.")] = None,
    check: Annotated[Path | None, typer.Option(help="Check this dataset instead of recording.")] = None,
    import_tub: Annotated[
        Path | None, typer.Option(help="Make a dataset of a Donkey tub (v2), or of records.jsonl and images.")
    ] = None,
    task: Annotated[str, typer.Option(help="For an import: what the human was doing.")] = "follow the lane",
    rate: Annotated[int | None, typer.Option(help="For an import without times: frames per second.")] = None,
    json_file: Json = None,
) -> None:
    """Record driving in any world as a LeRobot v3 dataset. Ctrl-C drops the episode under way and keeps the rest."""
    if context.invoked_subcommand is not None:
        return
    if check is not None and import_tub is not None:
        raise typer.BadParameter("--check and --import-tub are two different things; give one")
    if check is not None:
        raise typer.Exit(_check(check, json_file))
    if resume and out is None:
        raise typer.BadParameter("--resume needs --out FOLDER: which dataset shall go on?")
    if import_tub is not None:
        _import(import_tub, out, resume, task, rate, json_file)
        return
    from training.collect import CollectSettings

    settings = CollectSettings(
        world=world,
        track=tuple(word for given in track or ["random"] for word in given.split(",")),
        driver=driver,
        suite=suite,
        episodes=episodes,
        seed=seed,
        randomize=randomize,
        successes_only=successes_only,
        gamepad=gamepad,
    )
    raise typer.Exit(_record(settings, out, resume, json_file))


@collect_app.command("check")
def check_command(
    folder: Annotated[Path, typer.Argument(help="A dataset.")],
    json_file: Json = None,
) -> None:
    """Read all of a dataset back: counts, times, types, statistics, every picture. Exit code 1 for a broken one."""
    raise typer.Exit(_check(folder, json_file))


def _write(path: Path | None, value: object) -> None:
    if path is not None:
        from cockpit.runs import write_json

        write_json(path, value)
        typer.echo(f"written: {path}")


def _record(settings, out: Path | None, resume: bool, json_file: Path | None) -> int:
    from training.collect import collect as run
    from training.collect import interruptible

    with interruptible() as asked_to_end:
        if settings.driver == "human":
            from training.collect_hand import at_the_wheel

            with at_the_wheel(settings) as hand:
                result = run(settings, out, resume=resume, hand=hand, asked_to_end=asked_to_end)
            typer.echo(f"{hand.late_ticks} of {hand.ticks} ticks were late")
        else:
            result = run(settings, out, resume=resume, asked_to_end=asked_to_end)
    typer.echo(
        f"{result['recorded']} episodes recorded ({result['successes']} succeeded, {result['dropped']} dropped); "
        f"{result['episodes']} episodes, {result['frames']} frames in {result['folder']}"
    )
    _write(json_file, result)
    return 130 if result["interrupted"] else 0


def _check(folder: Path, json_file: Path | None) -> int:
    from rich.progress import Progress

    from training.datasets.check import check_dataset

    with Progress(transient=True) as progress:
        bar = progress.add_task("checking")
        report = check_dataset(folder, on_episode=lambda done, total: progress.update(bar, completed=done, total=total))
    for note in report.notes:
        typer.echo(f"note: {note}")
    for error in report.errors:
        typer.echo(f"wrong: {error}")
    found = f"{report.episodes} episodes, {report.frames} frames, {report.pictures} pictures, {report.tasks} tasks"
    typer.echo(f"{'good' if report.ok else 'broken'}: {found} in {folder}")
    _write(json_file, report.to_dict())
    return 0 if report.ok else 1


def _import(source: Path, out: Path | None, resume: bool, task: str, rate: int | None, json_file: Path | None) -> None:
    from rich.progress import Progress

    from training.datasets.tub import import_tub

    with Progress(transient=True) as progress:
        bar = progress.add_task("importing")
        result = import_tub(
            source, out or Path("data") / source.resolve().name, task=task, rate_hz=rate, resume=resume,
            on_frame=lambda done, total: progress.update(bar, completed=done, total=total),
        )  # fmt: skip
    for note in result["notes"]:
        typer.echo(f"note: {note}")
    typer.echo(f"{result['episodes']} episodes, {result['frames']} frames at {result['fps']} Hz in {result['folder']}")
    _write(json_file, result)

"""The front door: `pacenote COMMAND`. Reads the command line and calls the packages; knows how to do nothing itself.
Long, because every option of every command stands here once, with its help, and nothing else does.

Heavy imports stand inside the commands, so that `pacenote --help` answers at once and so that the car, which has
neither torch nor a simulator, can use the commands that are meant for it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from training.collect_command import collect_app

OURS = {"bridge", "controller", "car", "planner", "sims", "training", "cockpit"}
ADDRESS = "tcp://127.0.0.1:5555"

app = typer.Typer(
    name="pacenote",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A slow vision-language planner calls the road; a fast camera policy drives it.",
)
planner_app = typer.Typer(no_args_is_help=True, help="System 2, the planner: on the GPU server.")
car_app = typer.Typer(no_args_is_help=True, help="System 1, the controller: on the car.")
train_app = typer.Typer(no_args_is_help=True, help="Train one layer from nothing.")
app.add_typer(planner_app, name="planner")
app.add_typer(car_app, name="car")
app.add_typer(train_app, name="train")
worlds_app = typer.Typer(invoke_without_command=True)
app.add_typer(worlds_app, name="worlds")
app.add_typer(collect_app, name="collect")

Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result here.")]
Seed = Annotated[int, typer.Option(help="Everything random follows from it.")]
World = Annotated[str, typer.Option(help="Simulated world; `pacenote worlds` lists them.")]
Controller = Annotated[str, typer.Option(help="pursuit, flow, or the path of an ONNX bundle.")]
Planner = Annotated[str, typer.Option(help="expert, nano, nano+ADAPTER, the folder of a model or adapter, openai:URL.")]
Server = Annotated[str, typer.Option("--planner", metavar="ADDRESS", help="Where the planner listens.")]
Keys = Annotated[Path | None, typer.Option("--keys", help="Folder with this machine's keys (see `pacenote keys`).")]


def _write(path: Path | None, value: object) -> None:
    if path is not None:
        from cockpit.runs import write_json

        write_json(path, value)
        typer.echo(f"written: {path}")


def _client_keys(folder: Path | None, name: str):
    """The pair `name` of the folder, and the planner's public key (planner.key) in it; None without a folder."""
    if folder is None:
        return None
    from bridge.keys import ClientKeys, load, load_public

    return ClientKeys(load(folder, name), load_public(folder / "planner.key"))


@app.command()
def drive(
    world: World = "track",
    track: Annotated[
        str, typer.Option(help="random (a road from --seed), a track of the world's own, or a racetrack file.")
    ] = "random",
    planner: Planner = "nano",
    controller: Controller = "flow",
    say_at: Annotated[
        list[str] | None,
        typer.Option("--say", metavar='"SECONDS: TEXT"', help="A command on the timeline; repeatable."),
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long to drive.")] = 30.0,
    run: Annotated[Path | None, typer.Option(help="Run folder; runs/<time>-drive by default.")] = None,
    seed: Annotated[int | None, typer.Option(help="Road, look and physics follow from it.")] = None,
    keep_frames: Annotated[bool, typer.Option("--keep-frames", help="Keep the camera frames, for `replay`.")] = False,
    json_file: Json = None,
) -> None:
    """Drive a simulated world with both layers as processes over ZeroMQ, and leave a run folder with a film."""
    from training.drive_scene import DEFAULT_SAY, DEFAULT_SEED, DriveSettings, drivable_world, parse_say
    from training.simulate import drive as run_drive

    settings = DriveSettings(
        world=drivable_world(world).name,  # an error now, before a planner is loaded for nothing
        track=track,
        planner=planner,
        controller=controller,
        timeline=tuple(sorted(parse_say(text) for text in (DEFAULT_SAY if say_at is None else say_at))),
        seconds=seconds,
        seed=DEFAULT_SEED if seed is None else seed,
    )
    result = run_drive(settings, run, keep_frames=keep_frames)
    _write(json_file, result)
    raise typer.Exit(0 if result["success"] else 1)


@planner_app.command("serve")
def planner_serve(
    planner: Annotated[str, typer.Option(help="nano, the path of a model folder, openai:URL, or expert.")] = "nano",
    bind: Annotated[str, typer.Option(help="Where to listen; port 0 takes a free one.")] = ADDRESS,
    keys_dir: Keys = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Beyond loopback without keys.")] = False,
    run: Annotated[Path | None, typer.Option(help="Leave a run folder with every plan.")] = None,
    log: Annotated[Path | None, typer.Option(help="Append every plan to this file (JSON lines).")] = None,
    threads: Annotated[int | None, typer.Option(help="Processor threads for the model.")] = None,
    model: Annotated[str | None, typer.Option(help="Which model of an OpenAI-compatible server.")] = None,
) -> None:
    """The planner alone, for many cars. Ends with Ctrl-C."""
    from planner.serve import serve
    from planner.settings import ServeSettings
    from training.backends import load_backend

    if run is not None:
        from cockpit.runs import start_planner_run

        log = start_planner_run(run, {"planner": planner, "bind": bind})
    settings = ServeSettings(bind=bind, keys=keys_dir, insecure=insecure, log=log)
    serve(settings, load_backend(planner, threads=threads, model=model), say=lambda text: print(text, flush=True))


@car_app.command("drive")
def car_drive(
    car: Annotated[Path, typer.Option(help="The car: configs/car/….yaml.")],
    server: Server = ADDRESS,
    controller: Annotated[str | None, typer.Option(help="Instead of the configuration's.")] = None,
    keys_dir: Keys = None,
    stop_bind: Annotated[str | None, typer.Option(help="Listen here for stops that do not pass the planner.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Drive for so long; until Ctrl-C by default.")] = None,
    run: Annotated[Path | None, typer.Option(help="Run folder; runs/<time>-car by default.")] = None,
    uncertified: Annotated[
        bool, typer.Option("--uncertified", help="Drive a bundle that has not passed `pacenote validate`.")
    ] = False,
    gate_keys: Annotated[Path | None, typer.Option(help="Believe only certificates signed by keys in here.")] = None,
) -> None:
    """The controller alone, on the car, against a remote planner."""
    from bridge.keys import ServerKeys, load
    from car.admission import admit
    from car.program import drive as drive_car
    from car.settings import load_car_settings
    from car.telemetry import Recorder
    from cockpit.runs import RunWriter

    settings = load_car_settings(car)
    stop_keys = ServerKeys(load(keys_dir, "car"), keys_dir / "allowed") if keys_dir and stop_bind else None
    admission = admit(
        controller or settings.controller, settings.profile, uncertified=uncertified, keys=gate_keys and [gate_keys]
    )
    record = {**settings.model_dump(mode="json"), "admission": admission.for_record()}
    with RunWriter(run, name="car", settings=record) as writer:
        typer.echo(f"run folder: {writer.folder}")
        typer.echo(admission.notice)
        if admission.doubt is not None:
            writer.event("warning", what=admission.notice)
        recorder = Recorder(writer)
        program = drive_car(
            settings,
            server,
            keys=_client_keys(keys_dir, "car"),
            stop_endpoint=stop_bind,
            stop_keys=stop_keys,
            admission=admission,
            seconds=seconds,
            on_tick=recorder.on_tick,
            on_plan=recorder.on_plan,
        )
        stats = program.loop.stats()
        uncertified = admission.doubt is not None
        result = {"ticks": stats.ticks, "starved_ticks": stats.starved_ticks, "work_p99_s": stats.work_p99_s}
        writer.finish({**result, "uncertified": uncertified})
        if uncertified:
            typer.echo(admission.notice)


@app.command()
def say(
    text: Annotated[str, typer.Argument(help='The instruction, in English or Chinese: "overtake on the left".')],
    server: Server = ADDRESS,
    car: Annotated[str, typer.Option(help="Which car; * is the only one that is connected.")] = "*",
    wait_s: Annotated[float, typer.Option("--wait", help="Seconds to wait for verdicts; 0: for none.")] = 15.0,
    keys_dir: Keys = None,
) -> None:
    """Give a running car an instruction; prints the acknowledgement and the planner's verdicts."""
    from bridge.link import OperatorLink

    with OperatorLink() as link:
        link.connect(server, _client_keys(keys_dir, "operator"))
        ack = link.send_command(text, car)
        typer.echo(f"acknowledged as {ack.id}" if ack.accepted else f"not taken in: {ack.reason}")
        if not ack.accepted:
            raise typer.Exit(1)
        for status in link.verdicts(ack.id, wait_s):
            reason = f": {status.verdict.reason}" if status.verdict.reason else ""
            typer.echo(f"{status.car_id}: {status.verdict.verdict}{reason}")


@app.command()
def stop(
    server: Server = ADDRESS,
    car: Annotated[str, typer.Option(help="Which car; * is every car.")] = "*",
    direct: Annotated[str | None, typer.Option(help="Address of the car's own stop socket, past the planner.")] = None,
    keys_dir: Keys = None,
) -> None:
    """Stop now. Works when the planner's model hangs; with --direct also when the planner is gone."""
    from bridge.link import OperatorLink

    with OperatorLink() as link:
        link.connect(direct or server, _client_keys(keys_dir, "operator"))
        ack = link.stop(car, "pacenote stop")
    typer.echo(f"stopped: {ack.reason or ack.car_id}" if ack.accepted else f"not stopped: {ack.reason}")
    raise typer.Exit(0 if ack.accepted else 1)


@app.command()
def keys(
    folder: Annotated[Path, typer.Argument(help="Folder for the keys.")],
    name: Annotated[str | None, typer.Option(help="Make a pair of this name: planner, car or operator.")] = None,
    allow: Annotated[Path | None, typer.Option(help="Public key file to put on the planner's allow-list.")] = None,
) -> None:
    """CURVE keys: make a pair, or allow a public key to connect to the planner of this folder."""
    from bridge import keys as key_files

    if (name is None) == (allow is None):
        raise typer.BadParameter("give either --name NAME (make a pair) or --allow FILE (let it connect)")
    if allow is not None:
        typer.echo(f"allowed: {key_files.allow(folder / 'allowed', allow.stem, key_files.load_public(allow))}")
        return
    key_files.generate(folder, name)
    typer.echo(f"made {folder / name}.key (public: hand it out) and {folder / name}.key_secret (keep it here)")


@app.command()
def logs(
    run: Annotated[str | None, typer.Argument(help="Run folder, or its name in runs/; the latest by default.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing until the run ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The plans as JSON lines.")] = False,
    grep: Annotated[str, typer.Option(help="Only what contains this text.")] = "",
) -> None:
    """Reasoning, plans, verdicts and timings of a run."""
    from cockpit.logs import show
    from cockpit.runs import find_run

    show(find_run(run), follow=follow, as_json=as_json, grep=grep)


@app.command()
def replay(
    source: Annotated[str, typer.Argument(help="Run folder, Donkey tub (v2), or folder with records.jsonl.")],
    planner: Planner = "nano",
    controller: Controller = "flow",
    rate_hz: Annotated[float, typer.Option("--rate", help="Frames per second of the recording.")] = 20.0,
    lock_step: Annotated[bool, typer.Option("--lock-step", help="Virtual time instead of the wall clock.")] = False,
    delay_ms: Annotated[float | None, typer.Option(help="Planner delay in lock-step; measured by default.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only so many frames.")] = None,
    json_file: Json = None,
) -> None:
    """Recorded camera frames through both layers over the link; steering per frame, in our sign (positive left)."""
    from training.replay import ReplaySettings
    from training.replay import replay as run

    rows, summary = run(
        ReplaySettings(
            source=source,
            planner=planner,
            controller=controller,
            rate_hz=rate_hz,
            lock_step=lock_step,
            delay_ms=delay_ms,
            limit=limit,
        )
    )
    typer.echo(f"{len(rows)} frames, {summary['plans']} plans in {summary['took_s']} s")
    if "correlation" in summary:
        typer.echo(
            f"with the human:        correlation {summary['correlation']:+.3f}, "
            f"mean abs. error {summary['mean_abs_error']:.3f}"
        )
        typer.echo(
            f"constant predictor:    correlation {summary['constant_correlation']:+.3f}, "
            f"mean abs. error {summary['constant_mean_abs_error']:.3f}"
        )
    _write(json_file, rows)


@app.command()
def evaluate(
    more_tracks: Annotated[list[str] | None, typer.Argument(metavar="[TRACK...]", help="Further tracks.")] = None,
    world: World = "track",
    suite: Annotated[str, typer.Option(help="all, or names with commas between them.")] = "all",
    track: Annotated[list[str] | None, typer.Option(help="random, one of the world's own, or a CSV file.")] = None,
    planner: Planner = "expert",
    controller: Controller = "pursuit",
    delay_ms: Annotated[str, typer.Option(help="The planner's answer time in ms, or: measured.")] = "0",
    no_reprojection: Annotated[bool, typer.Option("--no-reprojection", help="For comparison only.")] = False,
    phrasings: Annotated[Path | None, typer.Option(help="YAML: scenario -> texts for the built-in commands.")] = None,
    episodes: Annotated[int, typer.Option(help="In all, spread evenly.")] = 60,
    randomize: Annotated[float, typer.Option(help="Strength of random looks, cameras and physics, 0 to 1.")] = 0.5,
    seed: Seed = 0,
    json_file: Json = None,
) -> None:
    """Scenarios in lock-step virtual time: the same result from the same seed, on any machine."""
    from training.report import run_evaluation

    tracks = [t for given in [*(track or []), *(more_tracks or [])] for t in given.split(",")]
    report = run_evaluation(
        world=world,
        suite=suite,
        track=tuple(tracks or ["random"]),
        planner=planner,
        controller=controller,
        delay_ms=delay_ms,
        reprojection=not no_reprojection,
        phrasings=phrasings,
        episodes=episodes,
        randomize=randomize,
        seed=seed,
    )
    _write(json_file, report)


@app.command("donkey-server")
def donkey_server(
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 9091,
    host: Annotated[str, typer.Option(help="Beyond loopback anybody there can drive.")] = "127.0.0.1",
    world: World = "track",
    track: Annotated[list[str] | None, typer.Option(help="The world's own tracks, or files; repeatable.")] = None,
    lockstep: Annotated[bool, typer.Option("--lockstep", help="One step and one telemetry per control.")] = False,
    traffic: Annotated[int, typer.Option(help="Other cars on the road.", min=0, max=10)] = 0,
    max_cars: Annotated[int, typer.Option(help="Clients at once, each with a world of its own.", min=1)] = 8,
    seed: Seed = 0,
) -> None:
    """A world behind the Donkey simulator's protocol, without display or Unity. Ends with Ctrl-C."""
    from sims.donkey.server import run_server

    tracks = [t for given in track or [] for t in given.split(",")]
    run_server(
        world,
        tracks,
        host=host,
        port=port,
        lockstep=lockstep,
        seed=seed,
        traffic=traffic,
        max_cars=max_cars,
        say=lambda text: print(text, flush=True),
    )


@worlds_app.callback()
def worlds(context: typer.Context, json_file: Json = None) -> None:
    """The simulated worlds: what each needs, and whether it is here."""
    if context.invoked_subcommand is None:
        from training.world_table import list_worlds, print_worlds

        entries = list_worlds()
        print_worlds(entries)
        _write(json_file, entries)


@worlds_app.command("check")
def worlds_check(name: Annotated[str, typer.Argument(help="Which world.")], json_file: Json = None) -> None:
    """Whether a world keeps the contract that all worlds share. Exit code 1 when a check failed."""
    from training.world_table import run_checks

    result = run_checks(name)
    _write(json_file, result)
    raise typer.Exit(0 if result["ok"] else 1)


@train_app.command("controller")
def train_controller(
    preset: Annotated[
        Path | None, typer.Option(help="Settings; configs/train_controller_flow.yaml by default.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after so many minutes.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for checkpoint, log, curve and bundle.")] = None,
    seed: Annotated[int | None, typer.Option(help="Everything random follows from it.")] = None,
) -> None:
    """System 1 from nothing: flow matching on a teacher that sees the truth, ending in an ONNX bundle."""
    from training.controller.settings import PRESET, load_settings
    from training.controller.train import train_controller as run

    changes = {"minutes": minutes, "out": out, "seed": seed}
    settings = load_settings(preset or PRESET, **{k: v for k, v in changes.items() if v is not None})
    typer.echo(f"written: {run(settings)}")


@train_app.command("planner")
def train_planner(
    preset: Annotated[
        Path | None, typer.Option(help="Settings; configs/train_planner_nano.yaml (or _WORLD.yaml) by default.")
    ] = None,
    lora: Annotated[bool, typer.Option("--lora", help="Only an adapter on planner-nano, for --world.")] = False,
    world: Annotated[str | None, typer.Option(help="With --lora: the world whose pictures it is for.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after so many minutes.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the model.")] = None,
    work: Annotated[Path | None, typer.Option(help="Folder for checkpoints and log.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the last run in the work folder ended.")
    ] = False,
) -> None:
    """System 2 from nothing: planner-nano, taught to see and then to speak by the expert. With --lora: an adapter on
    it, taught by expert driving in another world."""
    changes = {k: v for k, v in {"minutes": minutes, "out": out, "work": work}.items() if v is not None}
    if lora != (world is not None):
        raise typer.BadParameter("--lora and --world NAME belong together")
    if lora:
        from training.planner.adapt import train_adapter
        from training.planner.adapt_settings import load_adapt_settings

        typer.echo(f"written: {train_adapter(load_adapt_settings(preset, world=world, **changes), resume)}")
        return
    from training.planner.settings import load_settings
    from training.planner.train import train_planner as run

    typer.echo(f"written: {run(load_settings(preset, **changes), resume)}")


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of `pacenote train controller`.")],
    out: Annotated[Path, typer.Option(help="The bundle.")] = Path("models/controller-flow.onnx"),
) -> None:
    """A trained controller as a one-file ONNX bundle, compared with torch before it is kept."""
    from training.controller.export import export_bundle

    typer.echo(f"written: {export_bundle(checkpoint, out)}")


@app.command()
def validate(
    bundle: Annotated[str, typer.Argument(help="flow, or the path of an ONNX bundle.")],
    train_world: Annotated[str, typer.Option(help="The world that it was trained in.")] = "track",
    worlds: Annotated[str | None, typer.Option(help="Others, with commas between; the config's by default.")] = None,
    config: Annotated[Path | None, typer.Option(help="What to run and to ask for; configs/gate.yaml.")] = None,
    episodes: Annotated[int | None, typer.Option(help="In each world with each seed.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Whole numbers with commas between.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Evaluations side by side.")] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Go on without worlds that are not here; the certificate says so.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Report and pictures; runs/<time>-validate by default.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only look at the certificate that it has.")] = False,
    json_file: Json = None,
) -> None:
    """The gate between simulation and the car: the suite in several worlds, the gap, a signed certificate."""
    from training.gate.settings import load_gate_settings, parse_seeds
    from training.gate.validate import check as check_only
    from training.gate.validate import validate as run

    if check:
        check_only(bundle)
        return
    others = None if worlds is None else tuple(name.strip() for name in worlds.split(","))
    changes = {"worlds": others, "episodes": episodes, "seeds": parse_seeds(seeds), "jobs": jobs}
    settings = load_gate_settings(config, **{k: v for k, v in changes.items() if v is not None})
    report = run(bundle, settings, train_world=train_world, allow_missing=allow_missing, out=out)
    _write(json_file, report)
    raise typer.Exit(0 if report["passed"] else 1)


@app.command()
def bench(
    only: Annotated[str, typer.Option(help="Only benchmarks whose name contains this.")] = "",
    json_file: Json = None,
) -> None:
    """Latency and throughput of every stage, side by side with peers in the same run."""
    from training.bench import run_benchmarks

    _write(json_file, run_benchmarks(only))


@app.command()
def doctor(
    role: Annotated[str, typer.Option("--for", help="What this machine is to be: car, planner or all.")] = "all",
    json_file: Json = None,
) -> None:
    """What this machine has and lacks, and the one command that mends it."""
    from cockpit.doctor import as_json, examine, print_findings

    findings = examine(role)
    print_findings(findings)
    result = as_json(findings)
    _write(json_file, result)
    raise typer.Exit(0 if result["ok"] else 1)


def main() -> None:
    """Run a command. An error of ours is one line on stderr and exit code 1, without a traceback."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        module = type(error).__module__.split(".")[0]
        if module not in OURS | {"zmq", "pydantic_core"} and not isinstance(error, OSError):
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()

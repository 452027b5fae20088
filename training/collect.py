"""`pacenote collect`: driving in any world, recorded as a LeRobot v3.0 dataset. Expert, human or policy drive the
scenarios of the evaluation, by its own lock-step loop; the human's is held to the wall clock.

Episodes come one after the other, each committed before the next begins (`datasets/write.py`). A world that breaks down
costs the episode under way, which is driven again. Ctrl-C drops the episode under way and keeps the rest.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bridge.names import choose
from cockpit.runs import commit_id, versions
from controller.policies import load_policy
from sims.scenarios import Scenario
from sims.world import WorldError, WorldSpec
from sims.worlds import find_world
from training.backends import load_backend
from training.collect_record import FPS, Recorder, RecordingBatch, dataset_features
from training.datasets.read import load_collect
from training.datasets.write import DatasetWriter, EpisodeWriter
from training.evaluate import Episode, EvaluateSettings, build_scenarios, run_one

DRIVERS = ("expert", "human", "policy:BUNDLE")
TRIES = 3  # of one episode, in a world that breaks down
COLLECTED = Path("data")
Case = tuple[Scenario, int]


class CollectError(RuntimeError):
    """A recording that cannot be made; the message says why and what to do."""


class CollectSettings(BaseModel):
    """What to record. `driver`: expert (planner expert and pursuit), human, or policy:BUNDLE (planner expert and that
    bundle, "flow" or "pursuit"). `track`, `suite`, `episodes`, `seed`, `randomize` as in an evaluation.
    `successes_only`: episodes that fail their scenario are left out. `gamepad`: its device; the keyboard without."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    world: str = "track"
    track: tuple[str, ...] = ("random",)
    driver: str = "expert"
    suite: str = "all"
    episodes: int = Field(default=60, ge=1)
    seed: int = 0
    randomize: float = Field(default=0.5, ge=0.0, le=1.0)
    successes_only: bool = False
    gamepad: str | None = None

    @property
    def controller(self) -> str:
        """The controller that drives; the human stands in for pursuit. Raises UnknownName for an unknown driver."""
        if self.driver.startswith("policy:") and len(self.driver) > len("policy:"):
            return self.driver.removeprefix("policy:")
        kind, colon, _ = self.driver.partition(":")
        choose(f"{kind}:BUNDLE" if colon else kind, DRIVERS, "driver")
        return "pursuit"

    def what(self) -> dict:
        """All that decides what an episode is: what must be the same when a recording goes on."""
        return self.model_dump(mode="json", exclude={"episodes", "gamepad"})


class EpisodeEnded(Exception):
    """The human ends the episode: `keep` it as it is, or drop it; `quit` ends the recording as well."""

    def __init__(self, keep: bool, quit: bool = False):
        self.keep, self.quit = keep, quit


class Interrupted(Exception):
    """Ctrl-C, or a polite request to end."""


class Collection:
    """One recording: the dataset, what is still to be driven, and what came of it."""

    def __init__(self, settings: CollectSettings, folder: Path | None, *, resume: bool = False):
        """Raises what settings, world, bundle or dataset raise; nothing is driven yet."""
        self.settings = settings
        controller = settings.controller
        self.spec: WorldSpec = find_world(settings.world)
        self.policy = load_policy(controller, self.spec.profile, simulated=True)
        evaluation = {name: getattr(settings, name) for name in ("world", "track", "suite", "episodes", "seed")}
        self.evaluation = EvaluateSettings(**evaluation, controller=controller, randomize=settings.randomize)
        self.skipped: dict[str, str] = {}
        eyes = self.policy.needs_image or settings.driver == "human"
        cases = build_scenarios(self.evaluation, self.spec.profile, eyes=eyes, skipped=self.skipped)
        self.backend = load_backend("expert")
        self.folder = folder or COLLECTED / f"{datetime.now():%Y%m%d-%H%M%S}-{settings.world}-{settings.driver[:6]}"
        known = load_collect(self.folder) if resume else {}
        self.left_out: list[dict] = known.get("left_out", [])
        _same_recording(self.folder, known.get("settings"), settings.what())
        self.writer = DatasetWriter(
            self.folder, FPS, dataset_features(self.spec), self.spec.profile.name, resume=resume
        )
        done = {(e["pacenote/scenario"], e["pacenote/seed"]) for e in self.writer.episodes}
        done |= {(e["scenario"], e["seed"]) for e in self.left_out}
        self.cases = [case for case in cases if (case[0].name, case[1]) not in done]
        self.already = len(cases) - len(self.cases)
        self.successes = 0
        self._batch: RecordingBatch | None = None
        self._note()

    def close(self) -> None:
        """Let world and dataset go."""
        self._drop_world()
        self.writer.close()

    def _note(self) -> None:
        self.writer.note(
            {
                "settings": self.settings.what(),
                "profile": self.spec.profile.model_dump(mode="json"),
                "commit": commit_id(),
                "versions": versions(),
                "left_out": self.left_out,
            }
        )

    def _drop_world(self) -> None:
        batch, self._batch = self._batch, None
        if batch is not None:
            batch.close()

    def drive(
        self,
        case: Case,
        tell: Callable[[str], None],
        on_start: Callable[[Episode], None] | None = None,
        watch: Callable[[int, Episode, RecordingBatch, int], None] | None = None,
    ) -> dict | None:
        """Drive and commit one episode; its entry, or None where it was left out. `on_start(driven)` before the first
        step, `watch(tick, driven, batch, slot)` after each one was written down. Raises WorldError when the world
        breaks down time and again, and what the two raise."""
        for attempt in range(TRIES):
            episode = self.writer.new_episode()
            try:
                return self._drive(case, episode, on_start, watch)
            except WorldError as error:
                self._drop_world()
                tell(f"{case[0].name}, seed {case[1]}: {error}")
                if attempt + 1 == TRIES:
                    told = f"the world broke down {TRIES} times in a row; what is recorded is kept, go on with --resume"
                    raise WorldError(f"{told}. The last time: {error}") from error
                tell(f"episode dropped after {len(episode)} frames; the world is started anew")
            finally:
                episode.drop()
        return None

    def _drive(self, case: Case, episode: EpisodeWriter, on_start, watch) -> dict | None:
        if self._batch is None:
            self._batch = RecordingBatch(self.spec, randomize=self.settings.randomize)
        recorder = Recorder(episode)

        def both(tick, driven, batch, slot):
            recorder.watch(tick, driven, batch, slot)
            if watch:
                watch(tick, driven, batch, slot)

        try:
            entry = run_one(
                case, self.evaluation, self.backend, self.policy, self._batch, profile=self.spec.profile,
                sees=self.spec.camera, on_start=on_start, watch=both,
            )  # fmt: skip
        except EpisodeEnded as ended:
            if not ended.keep or not len(episode):
                raise
            entry = {"scenario": case[0].name, "seed": case[1], "track": case[0].road.name}
            entry |= {"success": False, "reason": "ended by the driver", "duration_s": len(episode) / FPS}
            self._commit(entry, episode)
            raise
        return self._commit(entry, episode)

    def _commit(self, entry: dict, episode: EpisodeWriter) -> dict | None:
        if self.settings.successes_only and not entry["success"]:
            self.left_out.append({"scenario": entry["scenario"], "seed": entry["seed"], "reason": entry["reason"]})
            self._note()
            return None
        kept = {name: entry[name] for name in ("scenario", "seed", "track", "success", "reason", "duration_s")}
        episode.save({"world": self.settings.world, "driver": self.settings.driver, **kept})
        self.successes += bool(entry["success"])
        return entry


def _same_recording(folder: Path, before: dict | None, now: dict) -> None:
    """A recording goes on only as it began. Raises CollectError."""
    if before is None:
        return
    parting = [
        f"{k} was {before.get(k)!r}, is {now.get(k)!r}" for k in {**before, **now} if before.get(k) != now.get(k)
    ]
    if parting:
        raise CollectError(
            f"{folder} was begun with other settings: {'; '.join(parting)}. Say the same, or another --out"
        )


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask for an end instead of breaking off; a second Ctrl-C does break off."""
    asked: list[int] = []

    def ask(number, _frame):
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def collect(
    settings: CollectSettings,
    folder: Path | None = None,
    *,
    resume: bool = False,
    console: Console | None = None,
    hand=None,
    asked_to_end: Callable[[], bool] = lambda: False,
) -> dict:
    """Record; returns {"folder", "episodes", "frames", "successes", "dropped", "left_out", "skipped", "interrupted"}.
    `hand`: a `collect_hand.HandDriver`, for a human. Raises what `Collection` raises, and WorldError."""
    console = console or Console()
    collection = Collection(settings, folder, resume=resume)
    try:
        return _collect(collection, console, hand, asked_to_end)
    finally:
        collection.close()


def _collect(collection: Collection, console: Console, hand, asked_to_end: Callable[[], bool]) -> dict:
    tell = lambda text: console.print(escape(text), highlight=False, soft_wrap=True)  # noqa: E731
    writer = collection.writer
    tell(
        f"dataset: {collection.folder}" + (f", {collection.already} episodes done before" if collection.already else "")
    )
    for name, reason in collection.skipped.items():
        tell(f"{name} left out: {reason}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    dropped, interrupted, first = 0, False, len(writer)
    with Progress(*columns, console=console, transient=True, disable=hand is not None) as progress:
        bar = progress.add_task(
            "episodes", total=collection.already + len(collection.cases), completed=collection.already
        )

        def watch(tick, driven, batch, slot):
            if asked_to_end():
                raise Interrupted(f"{driven.scenario.name}, seed {driven.seed}, after {tick} frames")
            if hand is not None:
                hand.watch(tick, driven, batch, slot)
            if tick % FPS == 0:
                progress.update(bar, description=f"{driven.scenario.name} {tick // FPS} s")

        for case in collection.cases:
            try:
                if asked_to_end():
                    raise Interrupted("between two episodes")
                dropped += collection.drive(case, tell, hand.start if hand else None, watch) is None
            except Interrupted as where:
                tell(f"interrupted: the episode under way is dropped ({where}); {len(writer)} episodes are kept")
                interrupted = True
                break
            except EpisodeEnded as ended:
                dropped += not ended.keep
                tell(f"episode {'kept as it is' if ended.keep else 'dropped'}; {len(writer)} episodes are kept")
                if ended.quit:
                    interrupted = True
                    break
            progress.advance(bar)
    return {
        "folder": str(collection.folder),
        "episodes": len(writer),
        "frames": writer.info["total_frames"],
        "recorded": len(writer) - first,
        "successes": collection.successes,
        "dropped": dropped,
        "left_out": len(collection.left_out),
        "skipped": collection.skipped,
        "interrupted": interrupted,
    }

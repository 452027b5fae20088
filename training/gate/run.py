"""Runs the suite in every world, with the bundle and with pursuit, with every seed: one job each, some side by side.

A job is a whole evaluation in lock-step virtual time, so how many run at once changes no result. Knows nothing of
statistics and verdicts.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field

import numpy as np

from controller.onnx_policy import BundleError
from controller.policies import load_policy
from sims.world import WorldError
from sims.worlds import WORLDS, find_world
from training.backends import load_backend
from training.evaluate import EvaluateSettings, EvaluationError, evaluate
from training.gate.measure import Meter
from training.gate.settings import GateError, GateSettings
from training.suite import choose_scenarios

PURSUIT = "pursuit"


@dataclass(frozen=True)
class Job:
    """One evaluation. `controller`: the bundle's path, or pursuit."""

    world: str
    controller: str
    seed: int
    settings: GateSettings


@dataclass
class JobResult:
    """`rows`: the figures of every episode (see `measure.Meter.finish`); `skipped`: scenario -> why."""

    job: Job
    rows: list[dict]
    skipped: dict[str, str] = field(default_factory=dict)
    strips: list[np.ndarray] = field(default_factory=list)


def obstacle(world: str, bundle: str, settings: GateSettings) -> str | None:
    """Why the bundle cannot be checked in `world` on this machine; None where it can. Raises what a bundle raises that
    is unfit for any car."""
    try:
        spec = WORLDS[world]
    except WorldError as error:
        return str(error)
    lacking = spec.missing()
    if lacking is not None:
        return lacking
    reasons = [spec.objection(scenario, eyes=True) for scenario in choose_scenarios(settings.suite)]
    if all(reasons):
        return reasons[0]
    try:
        load_policy(bundle, spec.profile, simulated=True)
    except BundleError as error:
        return str(error)
    return None


def run_job(job: Job, on_episode: Callable[[], None] | None = None) -> JobResult:
    """Carry out one job. Raises GateError naming it, or what a broken simulator raises."""
    settings, spec = job.settings, find_world(job.world)
    learned = job.controller != PURSUIT
    meter = Meter(spec.profile, settings.strips if learned and spec.camera and job.seed == settings.seeds[0] else 0)
    rows = []

    def took(entry: dict) -> None:
        rows.append(meter.finish(entry))
        if on_episode:
            on_episode()

    wanted = EvaluateSettings(
        world=job.world, suite=settings.suite, planner=settings.planner, controller=job.controller,
        delay_ms=settings.delay_ms, episodes=settings.episodes, seed=job.seed, randomize=settings.randomize,
    )  # fmt: skip
    try:
        report = evaluate(wanted, load_backend(settings.planner), on_episode=took, watch=meter)
    except EvaluationError as error:
        raise GateError(f"{job.world}, {job.controller}, seed {job.seed}: {error}") from error
    return JobResult(job, sorted(rows, key=lambda row: row["seed"]), report["skipped"], meter.strips)


def run_all(
    bundle: str, worlds: Iterable[str], settings: GateSettings, on_job: Callable[[JobResult], None] | None = None
) -> list[JobResult]:
    """All jobs, in a fixed order. `on_job` is called with each as it ends. Raises what `run_job` raises; GateError when
    a process was killed."""
    jobs = [Job(w, c, s, settings) for w in worlds for c in (bundle, PURSUIT) for s in settings.seeds]
    results: list[JobResult] = []

    def done(result: JobResult) -> None:
        results.append(result)
        if on_job:
            on_job(result)

    if settings.jobs == 1:
        for job in jobs:
            done(run_job(job))
        return results
    # Fresh processes: what a simulator or a thread pool has set up must not be inherited half.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(settings.jobs, mp_context=context, initializer=_one_thread) as pool:
        waiting = {pool.submit(run_job, job) for job in jobs}
        try:
            for future in as_completed(waiting):
                done(future.result())
        except BrokenProcessPool as error:
            raise GateError("a process of the evaluation was killed; nothing was written, start again") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return sorted(results, key=lambda result: jobs.index(result.job))


def _one_thread() -> None:
    """The jobs are the parallelism; set before NumPy, numba and torch are imported in this process."""
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")

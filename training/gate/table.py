"""The gap table: every measure of every world, against pursuit there and against the training world.

A row is {"world", "measure", "policy", "pursuit", "minus_pursuit", "minus_train"}; each entry an interval (see
`intervals.Estimate`) or None. Knows no limits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from training.gate.intervals import Estimate, mean, mean_difference, share, share_difference
from training.gate.run import PURSUIT, JobResult

SHARES = ("success", "collision", "off_road")
MEANS = ("lateral_error_m", "jerk_mps3")
MEASURES = SHARES + MEANS


def rows_of(results: Sequence[JobResult], world: str, *, pursuit: bool) -> list[dict]:
    """The episodes of one world, of the bundle or of pursuit."""
    return [row for r in results if r.job.world == world and (r.job.controller == PURSUIT) == pursuit for row in r.rows]


def gap_table(results: Sequence[JobResult], worlds: Sequence[str], train_world: str, confidence: float) -> list[dict]:
    """All rows, worlds in the order given."""
    trained = rows_of(results, train_world, pursuit=False)
    table = []
    for world in worlds:
        policy, baseline = (rows_of(results, world, pursuit=p) for p in (False, True))
        for measure in MEASURES:
            row = {
                "policy": estimate(policy, measure, confidence),
                "pursuit": estimate(baseline, measure, confidence),
                "minus_pursuit": difference(policy, baseline, measure, confidence),
                "minus_train": None if world == train_world else difference(policy, trained, measure, confidence),
            }
            plain = {k: v.as_dict() if v is not None else None for k, v in row.items()}
            table.append({"world": world, "measure": measure, **plain})
    return table


def by_scenario(rows: Sequence[dict]) -> dict[str, dict]:
    """Scenario -> {"n", "success"}."""
    found = defaultdict(list)
    for row in rows:
        found[row["scenario"]].append(row["success"])
    return {name: {"n": len(hits), "success": round(sum(hits) / len(hits), 4)} for name, hits in found.items()}


def estimate(rows: Sequence[dict], measure: str, confidence: float) -> Estimate | None:
    """One measure of some episodes, those left out where it could not be measured."""
    values = [row[measure] for row in rows if row[measure] is not None]
    return share(values, confidence) if measure in SHARES else mean(values, confidence)


def difference(a: Sequence[dict], b: Sequence[dict], measure: str, confidence: float) -> Estimate | None:
    """`a` minus `b` over the same mix of scenarios; paired where both drove the same scenario on the same road."""
    left, right, paired = matched(a, b, measure)
    function = share_difference if measure in SHARES else mean_difference
    return function([r[measure] for r in left], [r[measure] for r in right], confidence, paired=paired)


def matched(a: Sequence[dict], b: Sequence[dict], measure: str) -> tuple[list[dict], list[dict], bool]:
    """Episodes of `a` and `b` that may be compared, and whether they are pairs. Where some have no twin on the same
    road (a world with its own roads, or one that cannot show every scenario), equally many of each scenario are
    taken."""
    a, b = ([row for row in rows if row[measure] is not None] for rows in (a, b))
    twins = {_key(row): row for row in b}
    pairs = [(row, twins[_key(row)]) for row in a if _key(row) in twins]
    if len(pairs) >= 0.9 * max(len(a), len(b)):
        return [x for x, _ in pairs], [y for _, y in pairs], True
    left, right = (_by_name(rows) for rows in (a, b))
    count = {name: min(len(left[name]), len(right[name])) for name in left if name in right}
    return *([row for name, n in count.items() for row in rows[name][:n]] for rows in (left, right)), False


def _key(row: dict) -> tuple:
    return row["scenario"], row["seed"], row["track"]


def _by_name(rows: Sequence[dict]) -> dict[str, list[dict]]:
    found = defaultdict(list)
    for row in rows:
        found[row["scenario"]].append(row)
    return dict(found)

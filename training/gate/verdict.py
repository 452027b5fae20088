"""The verdict: every limit against the worse end of its interval. What a few episodes cannot show is not granted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from training.gate.settings import GateSettings, Limits

# limit -> (measure, column of the gap table, the end of the interval that counts)
RULES: dict[str, tuple[str, str, str]] = {
    "success_at_least": ("success", "policy", "low"),
    "collision_at_most": ("collision", "policy", "high"),
    "off_road_at_most": ("off_road", "policy", "high"),
    "lateral_error_m_at_most": ("lateral_error_m", "policy", "high"),
    "jerk_mps3_at_most": ("jerk_mps3", "policy", "high"),
    "success_below_train_at_most": ("success", "minus_train", "low"),
    "success_below_pursuit_at_most": ("success", "minus_pursuit", "low"),
}


@dataclass(frozen=True)
class Finding:
    """One limit of one world. `found`: the end of the interval that counts, None where there is none."""

    world: str
    rule: str
    limit: float
    found: float | None
    passed: bool

    def __str__(self) -> str:
        found = "not known" if self.found is None else f"{self.found:.3f}"
        return f"{self.world}: {self.rule} {self.limit:g}, but the interval reaches {found}"


def judge(table: Sequence[Mapping], settings: GateSettings, train_world: str) -> list[Finding]:
    """Every limit that applies, world by world."""
    findings = []
    for world in dict.fromkeys(row["world"] for row in table):
        limits = settings.limits_of(world, train_world)
        for rule in Limits.model_fields:
            limit = getattr(limits, rule)
            if limit is None or (world == train_world and rule == "success_below_train_at_most"):
                continue
            measure, column, end = RULES[rule]
            (row,) = [r for r in table if r["world"] == world and r["measure"] == measure]
            found = (row[column] or {}).get(end)
            if found is not None and "below" in rule:
                found = -found
            good = found is not None and (found >= limit if end == "low" and "below" not in rule else found <= limit)
            findings.append(Finding(world, rule, limit, found, good))
    return findings


def reasons(
    findings: Sequence[Finding], checked: Sequence[str], unchecked: Mapping[str, str], train_world: str,
    required: Sequence[str],
) -> list[str]:  # fmt: skip
    """Why the bundle does not pass; empty where it does."""
    why = [str(finding) for finding in findings if not finding.passed]
    if not findings:
        why.append("the config sets no limits, so nothing was judged")
    for world in required:
        if world not in checked:
            why.append(f"{world} is required and was not checked: {unchecked.get(world, 'it was not asked for')}")
    if not set(checked) - {train_world}:
        why.append(f"checked in no other world than {train_world}, where it was trained")
    return why


def as_dicts(findings: Sequence[Finding]) -> list[dict]:
    """For the report."""
    return [asdict(finding) for finding in findings]

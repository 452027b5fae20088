"""The gate's figures: intervals against published examples, measures against signals that are known, pairs, limits."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.messages import VehicleProfile
from sims.truth import Truth
from training.gate.intervals import mean, mean_difference, share, share_difference
from training.gate.measure import Meter, Tick, episode_jerk, episode_lateral, lateral_error
from training.gate.run import PURSUIT, Job, JobResult
from training.gate.settings import GateError, GateSettings, Limits, load_gate_settings, parse_seeds
from training.gate.table import gap_table, matched
from training.gate.verdict import judge, reasons
from training.gate.words import number

TRUTH = Truth(
    t_s=0.0, x_m=0.0, y_m=0.0, yaw_rad=0.0, speed_mps=1.0, yaw_rate_radps=0.0, steering=0.0, s_m=0.0, progress_m=0.0,
    d_m=0.0, heading_error_rad=0.0, lane=0, lane_count=2, left_edge_d_m=0.75, right_edge_d_m=-0.75,
    road_length_m=50.0, ahead=np.zeros((0, 5)),
)  # fmt: skip


def hits(yes: int, n: int) -> list[bool]:
    return [True] * yes + [False] * (n - yes)


# ---- intervals -------------------------------------------------------------------------------------------------------


def test_shares_as_published():
    found = share(hits(81, 263), 0.95)  # Newcombe 1998, Statistics in Medicine 17: 857-872, table I
    assert (found.low, found.high) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
    none = share(hits(0, 20), 0.95)
    assert none.low == 0.0 and none.high == pytest.approx(0.1611, abs=1e-4), "no event in 20 is not never"
    found = share_difference(hits(56, 70), hits(48, 80), 0.95, paired=False)  # 873-890, table II, example (a)
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))
    assert share([], 0.95) is None and share_difference([], [True], 0.95, paired=False) is None


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_paired_differences(pairs):
    a, b = ([pair[k] for pair in pairs] for k in (0, 1))
    found, swapped = (share_difference(*x, 0.95, paired=True) for x in ((a, b), (b, a)))
    assert -1.0 <= found.low <= found.value <= found.high <= 1.0 and found.low < found.high
    assert (swapped.low, swapped.high) == (pytest.approx(-found.high), pytest.approx(-found.low))
    wide = share_difference(a, b, 0.99, paired=True)
    assert wide.low <= found.low and wide.high >= found.high


def test_pairs_that_agree_narrow_the_interval():
    a, b = hits(60, 90), hits(57, 90)
    paired, apart = (share_difference(a, b, 0.95, paired=p) for p in (True, False))
    assert paired.high - paired.low < 0.6 * (apart.high - apart.low)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-50.0, 50.0), min_size=2, max_size=40), st.floats(-5.0, 5.0))
def test_means(values, shift):
    found = mean(values, 0.95)
    assert min(values) - 1e-9 <= found.low <= found.value + 1e-9 and found.high <= max(values) + 1e-9
    same = mean_difference([v + shift for v in values], values, 0.95, paired=True)
    assert same.low == pytest.approx(shift, abs=1e-9) == same.high, "the same step in every pair"
    assert mean(values, 0.95) == found, "the same from the same episodes"


def test_means_cover_what_they_should():
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(60):
        found = mean(rng.normal(2.0, 1.0, 30), 0.9)
        inside += found.low <= 2.0 <= found.high
    assert 45 <= inside <= 60


def test_one_episode_has_no_interval():
    found = mean([1.0], 0.95)
    assert found.low is None and found.high is None and "unknown" in number(found.as_dict(), "jerk_mps3")
    assert mean_difference([1.0], [2.0], 0.95, paired=True).low is None


# ---- measures --------------------------------------------------------------------------------------------------------


def test_lateral_error_is_to_the_nearest_lane():
    assert lateral_error(replace(TRUTH, d_m=-0.375)) == pytest.approx(0.0)
    assert lateral_error(replace(TRUTH, d_m=0.475, lane=1)) == pytest.approx(0.1)
    ticks = [Tick(1.0, 0.0, 0.3), Tick(1.0, 0.0, 0.4), Tick(0.0, 0.0, 9.0)]
    assert episode_lateral(ticks) == pytest.approx(math.sqrt((0.09 + 0.16) / 2)), "standing does not count"
    assert episode_lateral([Tick(0.0, 0.0, 0.1)] * 50) is None


def test_jerk_of_known_motion():
    t = np.arange(300) / 30.0
    w, size = 2.0, 0.4
    along = [Tick(1.0 + size * math.sin(w * x), 0.0, 0.0) for x in t]
    assert episode_jerk(along, False) == pytest.approx(size * w**2 / math.sqrt(2), rel=0.05)
    across = [Tick(1.5, size * math.sin(w * x), 0.0) for x in t]
    assert episode_jerk(across, False) == pytest.approx(1.5 * size * w / math.sqrt(2), rel=0.05)
    assert episode_jerk([Tick(1.0, 0.5, 0.0)] * 60, False) == pytest.approx(0.0, abs=1e-9)
    assert episode_jerk(along[:8], False) is None
    blow = [*along, Tick(-2.0, 9.0, 0.0), Tick(0.0, -5.0, 0.0)]
    assert episode_jerk(blow, True) == pytest.approx(episode_jerk(along, False), rel=0.1), "a blow is no jerk"
    assert episode_jerk(blow, False) > 10 * episode_jerk(along, False)


class Batch:
    """One truth for every slot; has no camera."""

    def __init__(self, truth):
        self._truth = truth

    def truth(self, slot):
        return self._truth


def metered(profile, scale_length, scale_speed) -> dict:
    meter = Meter(profile)
    assert not meter.needs_image
    for k in range(60):
        truth = replace(
            TRUTH, d_m=0.1 * scale_length, speed_mps=(1.0 + 0.3 * math.sin(k / 9)) * scale_speed, yaw_rate_radps=0.4,
            left_edge_d_m=0.75 * scale_length, right_edge_d_m=-0.75 * scale_length,
        )  # fmt: skip
        meter(k + 1, SimpleNamespace(seed=5), Batch(truth), 0)
    entry = {"scenario": "stop", "seed": 5, "track": "a", "success": True, "reason": "", "collision": False}
    return meter.finish({**entry, "off_road": False, "plans": 3})


def test_a_larger_car_is_brought_to_scale():
    small = metered(VehicleProfile(), 1.0, 1.0)
    large = metered(VehicleProfile(wheelbase_m=2.5, reference_speed_mps=15.0), 10.0, 10.0)
    assert small["lateral_error_m"] == pytest.approx(0.275) and small["jerk_mps3"] > 0.1
    assert large["lateral_error_m"] == pytest.approx(small["lateral_error_m"])
    assert large["jerk_mps3"] == pytest.approx(small["jerk_mps3"])


# ---- table -----------------------------------------------------------------------------------------------------------


def row(scenario="stop", seed=0, success=True, *, track="r", collision=False, lateral=0.1, jerk=3.0) -> dict:
    return {
        "scenario": scenario, "seed": seed, "track": track, "success": success, "reason": "", "collision": collision,
        "off_road": False, "lateral_error_m": lateral, "jerk_mps3": jerk,
    }  # fmt: skip


def result(world: str, controller: str, rows: list[dict]) -> JobResult:
    return JobResult(Job(world, controller, 0, GateSettings()), rows)


def test_pairs_are_of_the_same_scenario_seed_and_road():
    a = [row("stop", 0), row("stop", 1, False), row("faster", 2)]
    left, right, paired = matched(a, [row("faster", 2), row("stop", 1), row("stop", 0)], "success")
    assert paired and [(x["seed"], y["seed"]) for x, y in zip(left, right, strict=True)] == [(0, 0), (1, 1), (2, 2)]
    elsewhere = [row("stop", 0, track="other"), row("keep_left", 5), row("stop", 3)]
    left, right, paired = matched(a, elsewhere, "success")
    assert not paired and [x["scenario"] for x in left] == [y["scenario"] for y in right] == ["stop", "stop"]
    left, right, paired = matched(a, [{**r, "jerk_mps3": None} for r in a], "jerk_mps3")
    assert left == right == [], "what could not be measured is left out, not taken for nothing"


def test_the_table_holds_every_measure_against_both():
    trained, there = [row(seed=k) for k in range(30)], [row(seed=k, success=k % 3 > 0, jerk=4.0) for k in range(30)]
    results = [
        result("track", "b", trained), result("track", PURSUIT, trained), result("other", "b", there),
        result("other", PURSUIT, trained),
    ]  # fmt: skip
    table = gap_table(results, ["track", "other"], "track", 0.95)
    assert len(table) == 10 and all(r["minus_train"] is None for r in table[:5])
    (success,) = [r for r in table if r["world"] == "other" and r["measure"] == "success"]
    assert success["policy"]["value"] == pytest.approx(2 / 3, abs=1e-4)
    assert success["minus_train"]["value"] == success["minus_pursuit"]["value"] == pytest.approx(-1 / 3, abs=1e-4)
    assert success["minus_train"]["paired"] and success["minus_train"]["high"] < 0.0
    (jerk,) = [r for r in table if r["world"] == "other" and r["measure"] == "jerk_mps3"]
    assert jerk["minus_train"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 30, "paired": True}


# ---- verdict ---------------------------------------------------------------------------------------------------------

ASKS = GateSettings(
    required_worlds=("other",),
    train=Limits(success_at_least=0.8, collision_at_most=0.2),
    others=Limits(success_at_least=0.6, collision_at_most=0.2, success_below_train_at_most=0.3, jerk_mps3_at_most=5.0),
)


def verdict(there: list[dict], settings=ASKS, n=40) -> list[str]:
    trained = [row(seed=k) for k in range(n)]
    results = [
        result("track", "b", trained), result("track", PURSUIT, trained), result("other", "b", there),
        result("other", PURSUIT, trained),
    ]  # fmt: skip
    findings = judge(gap_table(results, ["track", "other"], "track", 0.95), settings, "track")
    return reasons(findings, ["track", "other"], {}, "track", settings.required_worlds)


def test_verdicts():
    good = [row(seed=k, success=k != 3) for k in range(40)]
    assert verdict(good) == []
    poor = verdict([row(seed=k, success=k % 2 > 0) for k in range(40)])
    assert len(poor) == 2 and "success_at_least" in poor[0] and "success_below_train" in poor[1]
    assert "collision_at_most 0.2" in verdict([row(seed=k, collision=k % 6 == 0) for k in range(40)])[0]
    assert "jerk" in verdict([row(seed=k, jerk=5.5) for k in range(40)])[0]
    assert "not known" in verdict([row(seed=k, jerk=None) for k in range(40)])[0]


def test_too_few_episodes_prove_nothing():
    few = verdict([row(seed=k) for k in range(3)], n=3)
    assert any("track: success_at_least" in why for why in few) and any("other: collision" in why for why in few)


def test_worlds_that_were_not_checked():
    assert reasons([], ["track"], {"other": "not installed"}, "track", ["other"]) == [
        "the config sets no limits, so nothing was judged",
        "other is required and was not checked: not installed",
        "checked in no other world than track, where it was trained",
    ]


def test_limits_of_single_worlds():
    asks = GateSettings(others=ASKS.others, limits={"torcs": Limits(success_at_least=0.3, jerk_mps3_at_most=None)})
    found = asks.limits_of("torcs", "track")
    assert found.success_at_least == 0.3 and found.jerk_mps3_at_most is None and found.collision_at_most == 0.2
    assert asks.limits_of("other", "track") == ASKS.others and asks.limits_of("track", "track") == Limits()


# ---- settings --------------------------------------------------------------------------------------------------------


def test_the_config_that_ships():
    shipped = load_gate_settings()
    assert shipped.required_worlds == ("mujoco",) and shipped.others.success_at_least > 0.0
    assert load_gate_settings(episodes=2, seeds=(7,)).seeds == (7,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("episods: 3", "did you mean 'episodes'"),
        ("others: {sucess_at_least: 0.5}", "did you mean 'success_at_least'"),
        ("limits: {torcs: {jerk_at_most: 5}}", "did you mean 'jerk_mps3_at_most'"),
        ("others: {success_at_least: 1.5}", "others.success_at_least"),
        ("seeds: []", "seeds"),
        ("- 1", "mapping"),
        ("{", "not YAML"),
    ],
)
def test_bad_configs(tmp_path, text, words):
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    with pytest.raises(GateError, match=words):
        load_gate_settings(path)
    with pytest.raises(GateError, match="cannot be read"):
        load_gate_settings(tmp_path / "none.yaml")


def test_seeds_on_the_command_line():
    assert parse_seeds("0, 1,2") == (0, 1, 2) and parse_seeds(None) is None
    with pytest.raises(GateError, match="whole numbers"):
        parse_seeds("a,b")

"""Conformance checks on the road: is the truth true, does the car obey, does a scenario begin as it says?

Distances and times are those of the default car times the scale of the world's. Tolerances are wide: this finds wrong
signs, frames and units, and scenes that are not honoured, not differences of physics.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from sims.check_bench import Bench, Skipped, expect, turned
from sims.truth import Truth
from sims.world import STEP_S, WorldError

AHEAD_M = 8.0  # the truth must look so far ahead, at model scale


def _truth(bench: Bench) -> str:
    """Every field of a truth, while driving along."""
    _, first = bench.begin(bench.scene())
    truths = [first] + [t for _, t in bench.drive(bench.keeper(first.d_m), 2.0, first)]
    for truth in truths:
        _sane(bench, truth)
    expect(Truth.from_dict(first.to_dict()).s_m == first.s_m, "to_dict and from_dict do not fit")
    steps = np.diff([t.t_s for t in truths])
    expect(abs(first.t_s) < 0.1, f"time at the start is {first.t_s:.2f} s, not 0")
    expect(abs(float(steps.mean()) - STEP_S) < 0.05 * STEP_S, f"a step lasts {steps.mean():.4f} s, not {STEP_S:.4f}")
    return f"{len(truths)} truths; looks {first.ahead[-1, 0]:.1f} m ahead"


def _sane(bench: Bench, truth: Truth) -> None:
    numbers = [getattr(truth, n) for n in ("x_m", "y_m", "yaw_rad", "speed_mps", "yaw_rate_radps", "s_m", "d_m")]
    expect(bool(np.isfinite(numbers).all() and np.isfinite(truth.ahead).all()), f"not finite: {numbers}")
    expect(0.0 <= truth.s_m < truth.road_length_m, f"s {truth.s_m:.2f} is not in 0..{truth.road_length_m:.2f}")
    expect(0 <= truth.lane < truth.lane_count, f"lane {truth.lane} of {truth.lane_count}")
    expect(truth.left_edge_d_m > truth.right_edge_d_m, "the left edge is not left of the right one")
    expect(-1.0 <= truth.steering <= 1.0, f"steering {truth.steering} is not in -1..1")
    wanted = min(max(int((truth.d_m - truth.right_edge_d_m) // truth.lane_width_m), 0), truth.lane_count - 1)
    expect(
        truth.lane == wanted, f"lane {truth.lane} at d {truth.d_m:.2f}: lanes are counted from the right, here {wanted}"
    )
    shape, s = truth.ahead.shape, truth.ahead[:, 0]
    expect(len(shape) == 2 and shape[1] == 5, f"ahead has shape {shape}, not (n, 5)")
    expect(bool((np.diff(s) > 0).all()), "ahead: s does not rise")
    reach = AHEAD_M * bench.scale.length
    expect(
        s[0] <= 1e-6 and s[-1] >= 0.99 * reach, f"ahead reaches from {s[0]:.1f} to {s[-1]:.1f} m, wanted 0..{reach:.1f}"
    )
    x, y, yaw = (float(np.interp(0.0, s, np.unwrap(c) if k == 2 else c)) for k, c in enumerate(truth.ahead[:, 1:4].T))
    off = math.hypot(x - truth.d_m * math.sin(yaw) - truth.x_m, y + truth.d_m * math.cos(yaw) - truth.y_m)
    expect(off < 0.25 * bench.profile.wheelbase_m, f"the pose is {off:.2f} m from where s, d and `ahead` put it")
    error = turned(yaw + truth.heading_error_rad - truth.yaw_rad)
    expect(abs(error) < 0.06, f"yaw and heading error disagree by {error:.2f} rad")


def _forward(bench: Bench) -> str:
    """Position, progress, speed and yaw rate tell the same story."""
    _, first = bench.begin(bench.scene())
    seen = bench.drive(bench.keeper(first.d_m), 3.0, first)
    truths = [first] + [t for _, t in seen]
    last, span = truths[-1], STEP_S * (len(truths) - 1)
    way = sum(math.hypot(b.x_m - a.x_m, b.y_m - a.y_m) for a, b in zip(truths, truths[1:]))
    mean = float(np.mean([t.speed_mps for t in truths]))
    expect(way > 0.3 * span * bench.reference_mps, f"drove only {way:.2f} m in {span:.1f} s at full will")
    expect(abs(way / span - mean) < 0.1 * mean, f"says {mean:.2f} m/s but moves {way / span:.2f} m/s")
    shown = float(np.mean([float(o["speed"]) for o, _ in seen]))
    expect(abs(shown - mean) < 0.15 * mean, f"shows a speed of {shown:.2f} m/s, the truth is {mean:.2f}")
    progress = last.progress_m - first.progress_m
    expect(abs(first.progress_m) < 0.01 * way + 1e-3, f"progress at the start is {first.progress_m:.2f}, not 0")
    expect(abs(progress - way) < 0.25 * way, f"progress {progress:.2f} m on a way of {way:.2f} m along the road")
    along = math.remainder(last.s_m - first.s_m - progress, last.road_length_m)
    expect(abs(along) < 0.02 * way + 0.02 * bench.scale.length, f"s and progress disagree by {along:.2f} m")
    yaw = sum(turned(b.yaw_rad - a.yaw_rad) for a, b in zip(truths, truths[1:]))
    rate = float(np.sum([t.yaw_rate_radps for t in truths[1:]])) * STEP_S
    expect(abs(rate - yaw) < 0.05 + 0.2 * abs(yaw), f"yaw rates add up to {rate:+.2f} rad, the yaw turned {yaw:+.2f}")
    expect(not (last.off_road or last.collision), "off the road or collided while keeping to the middle of it")
    return f"{way:.1f} m at {mean:.2f} m/s"


def _steering(bench: Bench) -> str:
    """Positive steering turns left: yaw counter-clockwise, d growing, sensors of the same sign."""
    ends = {}
    for sign in (1.0, -1.0):
        _, first = bench.begin(bench.scene(0.5))
        seen = bench.drive(lambda _, sign=sign: (0.5 * sign, 0.1), 0.7, first)
        observation, truth = seen[-1]
        ends[sign] = truth.d_m, turned(truth.yaw_rad - first.yaw_rad)
        for name, value in (
            ("truth.steering", truth.steering), ("truth.yaw_rate", truth.yaw_rate_radps),
            ("steering", float(observation["steering"])), ("yaw_rate", float(observation["yaw_rate"])),
        ):  # fmt: skip
            expect(value * sign > 0.0, f"{name} is {value:+.2f} while steering {0.5 * sign:+.1f} (positive is left)")
    (left_d, left_yaw), (right_d, right_yaw) = ends[1.0], ends[-1.0]
    expect(left_yaw > right_yaw + 0.05, f"steering left turns yaw by {left_yaw:+.2f}, right by {right_yaw:+.2f} rad")
    expect(
        left_d > right_d, f"steering left ends at d {left_d:+.2f}, right at {right_d:+.2f} m: d must grow to the left"
    )
    return f"yaw {left_yaw:+.2f} and {right_yaw:+.2f} rad, d {left_d:+.2f} and {right_d:+.2f} m"


def _rear_axle(bench: Bench) -> str:
    """The pose is the rear axle's: there a car that turns slowly moves along its own heading."""
    _, first = bench.begin(bench.scene(0.3))
    seen = bench.drive(lambda t: (0.6, 1.5 * (0.3 - t.speed_mps / bench.reference_mps)), 1.0, first)
    truths = [t for _, t in seen][len(seen) // 2 :]
    slips = []
    for a, b in zip(truths[:-2], truths[2:]):
        moved = math.hypot(b.x_m - a.x_m, b.y_m - a.y_m)
        if moved > 0.01 * bench.scale.length:
            heading = a.yaw_rad + turned(b.yaw_rad - a.yaw_rad) / 2
            slips.append(turned(math.atan2(b.y_m - a.y_m, b.x_m - a.x_m) - heading))
    if len(slips) < 5:
        raise Skipped("the car did not drive slowly")
    slip = float(np.median(slips))
    centre = math.atan(0.5 * math.tan(0.6 * bench.profile.steering_limit_rad))
    expect(abs(slip) < 0.6 * centre, f"moves {slip:+.2f} rad off its heading: is (x, y) the centre, not the rear axle?")
    return f"{slip:+.3f} rad off its heading (a centre would be {centre:.2f})"


def _brakes(bench: Bench) -> str:
    """Full brake ends in standing, and standing is not driving back."""
    _, first = bench.begin(bench.scene(0.6))
    limit_s = 2.0 * first.speed_mps / bench.profile.max_brake_mps2 / bench.scale.time + 2.0
    seen = [t for _, t in bench.drive(lambda _: (0.0, -1.0), limit_s + 1.0, first)]
    still = 0.1 / 1.5 * bench.reference_mps
    stopped = next((t for t in seen if t.speed_mps < still), None)
    expect(stopped is not None, f"still {seen[-1].speed_mps:.2f} m/s after {limit_s + 1.0:.1f} s of full brake")
    slowest, back = min(t.speed_mps for t in seen), seen[-1].progress_m - max(t.progress_m for t in seen)
    expect(slowest > -still and back > -0.1 * bench.scale.length, f"rolls back: {slowest:.2f} m/s, {back:.2f} m")
    decel = first.speed_mps / max(stopped.t_s, STEP_S)
    told = f"from {first.speed_mps:.2f} m/s in {stopped.t_s:.2f} s: {decel:.1f} m/s^2"
    return f"{told}, the profile says {bench.profile.max_brake_mps2:.1f}"


def _start(bench: Bench) -> str:
    """Place, speed and road of a scene are those asked for, each time anew."""
    told = []
    for speed, lane in ((0.0, 0), (0.6, bench.road.lane_count - 1), (0.3, 0)):
        scene = bench.scene(speed, lane=lane)
        observation, truth = bench.begin(scene)
        off = math.remainder(truth.s_m - scene.start_s_m, truth.road_length_m), truth.d_m - scene.start_d_m
        expect(math.hypot(*off) < 0.3 * bench.profile.wheelbase_m, f"starts {off[0]:.2f}, {off[1]:.2f} m (s, d) off")
        wrong = abs(truth.speed_mps - scene.start_speed_mps)
        expect(
            wrong < 0.1 * bench.reference_mps, f"starts at {truth.speed_mps:.2f}, not {scene.start_speed_mps:.2f} m/s"
        )
        expect(
            abs(float(observation["speed"]) - truth.speed_mps) < 0.1 * bench.reference_mps,
            "the sensor says another speed",
        )
        expect(
            abs(truth.heading_error_rad) < 0.1, f"starts {truth.heading_error_rad:+.2f} rad off the road's direction"
        )
        expect(not (truth.off_road or truth.collision), "starts off the road or collided")
        expect(
            (truth.lane, truth.lane_count) == (lane, scene.road.lane_count), f"starts in lane {truth.lane}, not {lane}"
        )
        wide = abs(truth.road_length_m - scene.road.length_m)
        expect(
            wide < 0.01 * scene.road.length_m, f"the road is {truth.road_length_m:.1f} m, not {scene.road.length_m:.1f}"
        )
        told.append(f"{math.hypot(*off) * 100:.1f} cm")
    return f"off by {', '.join(told)}"


def _off_road(bench: Bench) -> str:
    """A wheel beyond the edge is noticed and remembered, and forgotten by the next start."""
    scene = bench.scene(0.5)
    _, first = bench.begin(scene)
    seconds = (first.left_edge_d_m - first.right_edge_d_m) / (0.3 * bench.reference_mps) / bench.scale.time + 3.0
    driver = bench.keeper(0.0, 0.6, heading_rad=0.6)
    truth, gone = first, None
    for _ in range(round(seconds)):
        truth = bench.drive(driver, 1.0, truth)[-1][1]
        if truth.off_road:
            gone = truth
            break
    expect(
        gone is not None,
        f"{seconds:.0f} s towards the left edge, d {truth.d_m:.2f} of {truth.left_edge_d_m:.2f} m: no off_road",
    )
    width = bench.profile.width_m
    expect(
        gone.d_m > gone.left_edge_d_m - 2.5 * width - bench.profile.wheelbase_m,
        f"off_road in the road, at d {gone.d_m:.2f} m",
    )
    expect(bench.drive(lambda _: (0.0, -1.0), 0.2, gone)[-1][1].off_road, "off_road is forgotten in the next steps")
    expect(not bench.begin(scene)[1].off_road, "off_road outlives the next start")
    return f"at d {gone.d_m:.2f} m, the edge is at {gone.left_edge_d_m:.2f} m"


def _traffic(bench: Bench) -> str:
    """The other car is where it should be, of its size, drives its speeds, and can be run into."""
    if not bench.spec.traffic:
        scene = bench.scene(actors=(bench.ahead("car", 3.0, 0),))
        try:
            bench.begin(scene)
        except WorldError:
            raise Skipped("the world has no traffic and says so") from None
        expect(False, "a world without traffic takes a scene with another car without an error")
    other = bench.ahead(
        "car", 3.0, 0, 0.3, speed_changes=((1.5 * bench.scale.time, 0.6 * bench.reference_mps),), follow=False
    )
    _, first = bench.begin(bench.scene(0.0, lane=0, actors=(other,)))
    expect(len(first.actors) == 1, f"{len(first.actors)} actors in a scene with one")
    begun = first.actors[0]
    off = begun.s_ahead_m - 3.0 * bench.scale.length, begun.d_m - other.d_m
    expect(
        math.hypot(*off) < 0.5 * bench.profile.wheelbase_m,
        f"the other car starts {off[0]:.2f}, {off[1]:.2f} m (s, d) off",
    )
    ratio = begun.length_m / other.size_m[0], begun.width_m / other.size_m[1]
    expect(
        0.5 < min(ratio) and max(ratio) < 2.0,
        f"it is {begun.length_m:.2f} x {begun.width_m:.2f} m, asked {other.size_m[:2]}",
    )
    expect((begun.kind, begun.lane) == ("car", 0), f"it is a {begun.kind} in lane {begun.lane}, not a car in lane 0")
    truths = [t for _, t in bench.drive(lambda _: (0.0, -1.0), 3.5, first)]
    early = truths[round(1.4 * bench.scale.time / STEP_S)].actors[0]
    late = truths[-1].actors[0]
    for truth_of, wanted in ((early, 0.3), (late, 0.6)):
        speed = truth_of.speed_mps / bench.reference_mps
        expect(abs(speed - wanted) < 0.06, f"drives {speed:.2f} of the reference speed where {wanted} is set")
        expect(truth_of.lane == 0, f"left its lane: d {truth_of.d_m:.2f} m")
    way = early.s_ahead_m - begun.s_ahead_m
    asked = 0.3 * bench.reference_mps * 1.4 * bench.scale.time
    expect(abs(way - asked) < 0.3 * asked, f"came {way:.2f} m further, at its speed it should be {asked:.2f}")
    return f"car {begun.length_m:.2f} x {begun.width_m:.2f} m; {_runs_into(bench)}"


def _runs_into(bench: Bench) -> str:
    standing = bench.ahead("car", 3.0, 0, follow=False)
    scene = bench.scene(0.6, lane=0, actors=(standing,))
    _, truth = bench.begin(scene)
    expect(not truth.collision, "collided at the start, three metres (at model scale) from the other car")
    driver = bench.keeper(scene.start_d_m, 0.6)
    for _ in range(8):
        before = truth.actors[0].s_ahead_m
        truth = bench.drive(driver, 0.5, truth)[-1][1]
        if truth.collision:
            expect(before < 4.0 * bench.scale.length, f"collided {before:.1f} m before the other car")
            return "a collision is noticed"
    expect(False, f"drove through the other car: it is now {truth.actors[0].s_ahead_m:.2f} m ahead")
    return ""


def _repeats(bench: Bench) -> str:
    """The same scene, seed and actions: the same pictures, sensors and truths, to the bit."""
    if not bench.spec.deterministic:
        raise Skipped("the spec does not claim it")
    actors = (bench.ahead("car", 3.0, 0, 0.3),) if bench.spec.traffic else ()
    scene = bench.scene(0.4, lane=bench.road.lane_count - 1, actors=actors)
    runs = [_recorded(bench, bench.world, scene) for _ in range(2)]
    if bench.spec.side_by_side > 1:
        fresh = bench.make()
        try:
            runs.append(_recorded(bench, fresh, scene))
        finally:
            fresh.close()
    for run, what in zip(runs[1:], ("the second time", "in a fresh world")):
        for k, ((seen, truth), (again, also)) in enumerate(zip(runs[0], run, strict=True)):
            same = truth == also and all(np.array_equal(seen[n], again[n]) for n in seen)
            expect(same, f"step {k} is another one {what}")
    return "twice" if len(runs) == 2 else "twice, and in a fresh world"


def _recorded(bench: Bench, world, scene) -> list:
    observation, info = world.start(scene, 11)
    rng, seen = np.random.default_rng(0), [(observation, info["truth"])]
    for _ in range(45):
        action = (rng.normal(0.0, 0.1), rng.uniform(0.0, 0.4))
        observation, _, _, _, info = world.step(np.clip(action, -1, 1).astype(np.float32))
        seen.append((observation, info["truth"]))
    return seen


def _advance(bench: Bench) -> str:
    """Steps that nobody looks at are the same steps."""
    if not bench.spec.deterministic:
        raise Skipped("the spec does not claim that it repeats itself")
    ends = []
    for unseen in (False, True):
        bench.begin(bench.scene(0.4), seed=11)
        step = bench.world.advance if unseen else bench.world.step
        for _ in range(4):
            step(np.array([0.1, 0.2], np.float32))
        observation, *_, info = bench.world.step(np.zeros(2, np.float32))
        ends.append((observation, info["truth"]))
    (seen, truth), (again, also) = ends
    same = truth == also and all(np.array_equal(seen[n], again.get(n)) for n in seen)
    expect(same, "after steps by `advance` the world is another one than after `step`")
    return "the same after four of them"


def _camera(bench: Bench) -> str:
    """The picture moves with the car."""
    if not bench.spec.camera:
        raise Skipped("the world has no forward camera")
    observation, first = bench.begin(bench.scene())
    later, _ = bench.drive(bench.keeper(first.d_m), 0.5, first)[-1]
    change = float(np.abs(observation["image"].astype(int) - later["image"]).mean())
    expect(change > 0.3, f"after half a second of driving the picture has changed by {change:.2f} of 255")
    height = observation["image"].shape[0]
    lower, upper = (float(observation["image"][rows].std()) for rows in (slice(height // 2, None), slice(height // 2)))
    return f"changed by {change:.1f} of 255 on average; contrast {upper:.0f} above, {lower:.0f} below"


DRIVING: dict[str, Callable[[Bench], str | None]] = {
    "start": _start,
    "truth": _truth,
    "forward": _forward,
    "steering": _steering,
    "rear_axle": _rear_axle,
    "brakes": _brakes,
    "off_road": _off_road,
    "traffic": _traffic,
    "camera": _camera,
    "repeats": _repeats,
    "advance": _advance,
}

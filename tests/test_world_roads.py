"""Roads from a seed, and the lookup grids that the kernels read."""

import numpy as np
import pytest

from sims.random_road import MIN_INNER_RADIUS_M, random_road
from sims.road import RoadError, road_from_points
from sims.track.render import _s_at
from sims.track.roadbank import RoadBank, frenet_near


@pytest.fixture(scope="module")
def roads():
    return [random_road(seed) for seed in range(30)]


def test_same_seed_same_road():
    a, b, c = random_road(5), random_road(5), random_road(6)
    assert np.array_equal(a.x_m, b.x_m) and a.lane_count == b.lane_count
    assert len(a.x_m) != len(c.x_m) or not np.array_equal(a.x_m, c.x_m)


def test_bends_are_wide_enough_for_the_innermost_lane(roads):
    for road in roads:
        inner = 1 / np.abs(road.curvature_pm).max() - road.left_m.max() + road.lane_width_at(0.0) / 2
        assert inner >= MIN_INNER_RADIUS_M, road.name


def test_roads_do_not_run_into_themselves(roads):
    for road in roads:
        s = np.arange(0, road.length_m, 0.2)
        for edge in road.edges_at(s):
            for x, y in zip(*road.to_world(s, edge)[:2], strict=True):
                _, d = road.to_frenet(x, y)
                assert abs(d) > abs(edge[0]) - 0.02, road.name


def test_roads_are_varied(roads):
    assert {road.lane_count for road in roads} == {1, 2, 3}
    turns = [np.sign(road.yaw_rad[-1] - road.yaw_rad[0]) for road in roads]
    assert -1 in turns and 1 in turns
    both_ways = [road.curvature_pm.min() < -0.1 and road.curvature_pm.max() > 0.1 for road in roads]
    assert sum(both_ways) >= 5
    lengths = [road.length_m for road in roads]
    assert min(lengths) > 10 and max(lengths) < 240


def test_wishes_are_kept():
    road = random_road(3, lanes=2, lane_width_m=0.8, length_m=40.0)
    assert road.lane_count == 2
    assert road.lane_width_at(1.0) == pytest.approx(0.8)
    assert 25 < road.length_m < 61


@pytest.mark.parametrize("wish", [{"lanes": 0}, {"lanes": 4}, {"lane_width_m": 0.0}])
def test_impossible_wishes_are_refused(wish):
    with pytest.raises(RoadError):
        random_road(1, **wish)


def test_empty_bank_is_refused():
    with pytest.raises(RoadError):
        RoadBank([])


def _points(road, count, margin=0.0):
    rng = np.random.default_rng(0)
    s = rng.uniform(0, road.length_m, count)
    left, right = road.edges_at(s)
    d = right - margin + (left - right + 2 * margin) * rng.uniform(0, 1, count)
    return s, d, *road.to_world(s, d)[:2]


def test_grid_knows_the_distance_to_the_line(roads):
    bank = RoadBank(roads[:6])
    for meta, road in zip(bank.meta, bank.roads, strict=True):
        grid = bank.grid_d[meta["grid"] : meta["grid"] + meta["nx"] * meta["ny"]].reshape(meta["ny"], meta["nx"])
        grid_s = bank.grid_s
        _, d, x, y = _points(road, 300)
        fx, fy = (x - meta["x0"]) * meta["inv_cell"], (y - meta["y0"]) * meta["inv_cell"]
        ix, iy = fx.astype(int), fy.astype(int)
        tx, ty = fx - ix, fy - iy
        low = grid[iy, ix] * (1 - tx) + grid[iy, ix + 1] * tx
        high = grid[iy + 1, ix] * (1 - tx) + grid[iy + 1, ix + 1] * tx
        assert np.abs(low * (1 - ty) + high * ty - d).max() < 0.005
        for k in range(0, 300, 30):
            s = _s_at(bank.meta[list(bank.roads).index(road)], grid_s, x[k] - meta["x0"], y[k] - meta["y0"])
            true_s, _ = road.to_frenet(x[k], y[k])
            gap = (s - true_s + road.length_m / 2) % road.length_m - road.length_m / 2
            assert abs(gap) < 0.03


def test_tracking_is_exact(roads):
    bank = RoadBank(roads[:6])
    for meta, road in zip(bank.meta, bank.roads, strict=True):
        for s, d, x, y in zip(*_points(road, 100), strict=True):
            start = int(s / road.step_m + 7) % meta["n"]
            _, got_s, got_d = frenet_near(x, y, start, bank.samples, meta["first"], meta["n"], meta["step"])
            assert abs(got_d - d) < 0.003
            assert abs((got_s - s + road.length_m / 2) % road.length_m - road.length_m / 2) < 0.02


def test_sign_is_right_far_inside_and_outside():
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    wide = np.full(60, 0.4)
    for way in (1, -1):
        road = road_from_points("ring", 5 * np.cos(way * angle), 5 * np.sin(way * angle), wide, wide, 1)
        bank = RoadBank([road])
        meta = bank.meta[0]
        grid = bank.grid_d.reshape(meta["ny"], meta["nx"])
        centre = grid[int(-meta["y0"] * 10), int(-meta["x0"] * 10)]
        assert centre * way > 0.9 and grid[0, 0] * way < -0.9

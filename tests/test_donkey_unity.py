"""World `donkey` against a simulator that is not ours: a stand-in for Unity's, and a recorded conversation."""

import math

import pytest
from donkey_peers import STEADY, FakeUnity, scripted
from donkey_tape import LIDAR, STEPS, drive_tape, play, read_tape

from sims.donkey import unity
from sims.donkey.world import DonkeyWorld
from sims.random_road import random_road
from sims.road import RoadError
from sims.scenarios import make_scenario
from sims.world import WorldError

ROAD = random_road(11, lanes=2)


@pytest.fixture(autouse=True)
def _forget_roads(monkeypatch):
    monkeypatch.setattr(unity, "_learned", {})


def world_at(where, **options):
    return DonkeyWorld(*where, **({"camera_size": (48, 36), "patience": STEADY} | options))


# ---- the recorded conversation ---------------------------------------------------------------------------------------


def test_the_recorded_conversation_replays():
    with scripted(play) as where:
        world = DonkeyWorld(*where, camera_size=(32, 24), lidar=LIDAR, patience=STEADY)
        seen = drive_tape(world)
        world.close()
    assert len(seen) == 1 + len(STEPS)
    told = [line["message"] for line in read_tape() if line["message"]["msg_type"] == "telemetry"]
    observation, info = seen[-1]
    match = [m for m in told if m["time"] == info["donkey"]["time"]][0]
    truth = info["truth"]
    assert (truth.x_m, truth.y_m) == (match["pos_x"], match["pos_z"]) and truth.lane_count == 1
    assert truth.road_length_m == pytest.approx(10.3, abs=0.2)  # learned from its nodes
    assert abs(match["cte"] / 8.0 + truth.d_m) < 0.05  # cte is positive to the right
    assert observation["image"].shape == (24, 32, 3) and info["donkey"]["lidar"] == []


# ---- a simulator that is not ours ------------------------------------------------------------------------------------


def test_unity_is_driven_as_it_wants_to_be():
    sim = FakeUnity()
    with scripted(sim) as where:
        world = world_at(where, camera_size=(160, 120))
        observation, info = world.reset(seed=1)
        begin_s = info["donkey"]["time"]
        for _ in range(9):
            observation, *_, info = world.step([0.3, -0.25])
        assert 9 / 30 <= info["donkey"]["time"] - begin_s + 1e-6 <= 9 / 30 + 0.05 * sim.LEAD
        world.close()
    assert sim.faults == []
    kinds = [m["msg_type"] for m in sim.seen]
    assert kinds[:4] == ["get_protocol_version", "get_scene_names", "load_scene", "control"]
    assert not [k for k in kinds if k.startswith("pacenote")]  # what is ours stays at home
    last = sim.seen[-1]
    full_lock = 0.45 / math.radians(16.0)
    assert float(last["steering"]) == pytest.approx(-0.3 * full_lock) and float(last["brake"]) == 0.25
    assert observation["steering"] == pytest.approx(-0.25 / full_lock)
    assert observation["yaw_rate"] == pytest.approx(0.5) and observation["speed"] == 1.5
    assert observation["image"].shape == (120, 160, 3)
    truth = info["truth"]
    assert truth.yaw_rad == pytest.approx(math.pi / 2) and (truth.x_m, truth.y_m) == (5.0, 0.0)
    assert truth.road_length_m == pytest.approx(10 * math.pi, rel=0.01)
    assert abs(truth.d_m) < 0.02 and truth.ahead[10, 4] == pytest.approx(0.2, abs=0.01)
    assert info["donkey"]["server"] == "unity" and info["donkey"]["lidar"] == [{"d": 12.5, "rx": 90, "ry": 0}]


def test_unity_is_reset_and_put_where_the_scenario_begins():
    sim = FakeUnity()
    with scripted(sim) as where:
        world = world_at(where, camera_size=None)
        road = world.road("generated_track", 0)
        scenario = make_scenario("follow_lane", road, 3)
        _, info = world.start(scenario, 1)
        assert info["truth"].s_m == pytest.approx(scenario.start_s_m, abs=0.01)
        assert info["truth"].heading_error_rad == pytest.approx(0.0, abs=0.01)
        with pytest.raises(WorldError, match="can place no other cars"):
            world.start(make_scenario("follow_vehicle", road, 3), 1)
        with pytest.raises(WorldError, match="choose one of its scenes"):
            world.start(make_scenario("follow_lane", ROAD, 3), 1)
        world.start(scenario, 1)  # and neither ends the connection
        world.close()
    assert sim.faults == [] and [m["msg_type"] for m in sim.seen].count("load_scene") == 1


def test_a_hit_in_unity_is_a_collision():
    sim = FakeUnity()
    with scripted(sim) as where:
        world = world_at(where, camera_size=None)
        world.reset(seed=1)
        sim.hit = "col1"
        collided = [world.step([0.0, 0.0])[-1]["truth"].collision for _ in range(8)]
        assert collided[-1]
        world.close()


def test_a_path_that_is_no_loop_gives_free_driving_but_no_tasks():
    sim = FakeUnity(closed=False)
    with scripted(sim) as where:
        world = world_at(where, camera_size=None)
        _, info = world.reset(options={"scene": "generated_road"})
        truth = info["truth"]
        assert "is no loop" in info["donkey"]["no_road"]
        assert truth.road_length_m == math.inf and len(truth.ahead) == 0 and (truth.x_m, truth.y_m) == (5.0, 0.0)
        with pytest.raises(RoadError, match="is no loop"):
            world.road("generated_road", 0)
        world.close()


def test_lock_step_cannot_be_had_from_unity():
    with scripted(FakeUnity()) as where:
        with pytest.raises(WorldError, match="cannot be driven in lock-step"):
            world_at(where, lockstep=True).reset()


def test_an_unknown_scene_is_named_with_the_known_ones():
    with scripted(FakeUnity()) as where:
        world = world_at(where)
        with pytest.raises(WorldError, match="no scene 'moon'; it has generated_road, generated_track"):
            world.reset(options={"scene": "moon"})
        world.reset()
        world.close()

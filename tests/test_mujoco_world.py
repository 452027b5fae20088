"""World mujoco keeps the contract, and its physics the numbers of the car."""

import math
import subprocess
import sys

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.messages import CameraModel, VehicleProfile
from sims.actors import ActorSpec
from sims.random_road import random_road
from sims.scenarios import make_scenario
from sims.world import WorldError

pytest.importorskip("mujoco", reason="needs mujoco: pip install pacenote[worlds]")

from mujoco_scenes import nominal, oval, run, scene

from sims.mujoco import identify
from sims.mujoco.spec import SPEC, road
from sims.mujoco.world import MujocoWorld, draw_episode
from sims.track import TrackEnv
from sims.track.look import Randomization

PROFILE = VehicleProfile()


# ---- contract ----------------------------------------------------------------------------------------------------


def test_the_spec_can_be_read_without_mujoco():
    code = "import sys; sys.modules['mujoco'] = None; from sims.mujoco.spec import SPEC; print(SPEC.name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "mujoco"


def test_missing_says_what_to_install(monkeypatch):
    monkeypatch.setattr("sims.mujoco.spec.find_spec", lambda name: None)
    assert "pip install pacenote[worlds]" in SPEC.missing()


def test_gymnasium_accepts_it():
    check_env(nominal(road=oval()), skip_render_check=True)


def test_the_same_seed_drives_the_same_episode_to_the_bit():
    rng = np.random.default_rng(3)
    actions = rng.uniform(-1, 1, (40, 2)) * [0.4, 0.5] + [0, 0.3]
    world = MujocoWorld(camera_size=None, randomize=1.0)
    world.reset(seed=5)
    first = run(world, actions)
    world.reset(seed=6)
    world.step([0.1, 0.1])
    world.reset(seed=5)
    again, other = run(world, actions), MujocoWorld(camera_size=None, randomize=1.0)
    other.reset(seed=5)
    assert first == again == run(other, actions)


def test_randomisation_is_that_of_track():
    strength = Randomization.at(0.7)
    track = TrackEnv([oval()], camera_size=(32, 24), randomize=strength, seed=11)
    track.start(scene(where=track.world.roads[0]), 11)
    drawn = draw_episode(11, strength, PROFILE)
    assert drawn.physics == track.world.physics[0]
    assert drawn.camera == track.world.cameras[0]
    assert drawn.look.tobytes() == track.world.look[0].tobytes()


@pytest.mark.parametrize("action", [[0.0], [math.nan, 0.0], [0.0, math.inf]])
def test_bad_actions_are_refused(action):
    world = nominal()
    world.start(scene(), 0)
    with pytest.raises(ValueError, match="finite"):
        world.step(action)


def test_step_before_start_and_unknown_options_say_so():
    with pytest.raises(WorldError, match="before the first"):
        nominal().step([0, 0])
    with pytest.raises(ValueError, match="speed"):
        nominal().reset(seed=1, options={"speed": 3})


def test_too_many_actors_are_refused():
    many = [ActorSpec("cone", 2.0 + 0.5 * k, 0.4) for k in range(13)]
    with pytest.raises(WorldError, match="at most 12"):
        nominal().start(scene(many), 0)


def test_roads_of_a_word():
    assert road("random", 4).name == random_road(1_000_004).name


# ---- physics -----------------------------------------------------------------------------------------------------


def test_it_starts_where_the_scenario_says_and_rolls_on():
    world = nominal()
    _, info = world.start(scene(speed=1.2, d=-0.3, s=2.0), 0)
    truth = info["truth"]
    assert (truth.s_m, truth.d_m, truth.speed_mps) == pytest.approx((2.0, -0.3, 1.2), abs=1e-3)
    later = run(world, [[0.0, 0.09]] * 30)[-1]
    assert later.progress_m == pytest.approx(1.2, abs=0.03)
    assert later.d_m == pytest.approx(-0.3, abs=0.002)
    assert later.t_s == pytest.approx(1.0)


@pytest.mark.parametrize("index", range(9))
def test_responses_agree_with_track(index):
    """The identification itself, in shares of the range: 7 % on average, more only while a step is under way."""
    manoeuvre = identify.manoeuvres(PROFILE)[index]
    column = identify.CHANNELS.index(manoeuvre.channel)
    track = identify.drive_track(manoeuvre, PROFILE)[:, column]
    mujoco = identify.drive_mujoco(manoeuvre, PROFILE)[:, column]
    difference = np.abs(track - mujoco) / np.ptp(track)
    transient = 0.45 if "step" in manoeuvre.title else 0.15  # a step's delay of one frame is a big difference
    assert difference.max() < transient
    assert difference.mean() < 0.07


def test_full_throttle_gives_the_acceleration_of_the_profile():
    world = nominal()
    world.start(scene(speed=0.0), 0)
    truths = run(world, [[0, 1]] * 45)
    gained = truths[-1].speed_mps - truths[14].speed_mps
    assert gained == pytest.approx(PROFILE.max_accel_mps2 - 0.15 * 1.6, abs=0.1)


def test_brakes_hold_and_never_push_back():
    world = nominal()
    world.start(scene(speed=1.5), 0)
    truths = run(world, [[0, -1]] * 60)
    assert truths[-1].speed_mps < 0.002
    assert truths[-1].progress_m == pytest.approx(truths[30].progress_m, abs=1e-3)
    assert truths[-1].progress_m == pytest.approx(max(t.progress_m for t in truths), abs=1e-3)


def test_nothing_happens_before_the_actuator_delay():
    slow = VehicleProfile(actuator_delay_s=0.2)
    world = nominal(profile=slow)
    world.start(scene(speed=1.0), 0)
    truths = run(world, [[1.0, 0.0]] * 12)
    assert max(abs(t.steering) for t in truths[:5]) < 5e-3
    assert truths[-1].steering > 0.5


def test_tyres_slide_at_their_limit():
    world = nominal()
    world.start(scene(speed=3.0), 0)
    lateral = max(abs(t.yaw_rate_radps * t.speed_mps) for t in run(world, [[1.0, 0.3]] * 30))
    assert 0.6 * 0.85 * 9.81 < lateral < 1.1 * 0.85 * 9.81  # kinematically it would be 17 m/s2


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.integers(1, 20)), min_size=1, max_size=8),
    st.integers(0, 99),
)
def test_no_driving_upsets_the_car(pieces, seed):
    world = MujocoWorld(oval(), camera_size=None, randomize=1.0)
    world.start(scene(), seed)
    for steering, acceleration, count in pieces:
        for truth in run(world, [[steering, acceleration]] * count):
            assert 0 <= truth.speed_mps <= PROFILE.max_speed_mps + 0.3
            assert abs(truth.yaw_rate_radps) < 15
    tilt = 2 * np.linalg.norm(world._drive.data.qpos[4:6])
    assert tilt < 0.15


@pytest.mark.parametrize("wheelbase", [0.17, 0.33, 2.6])
def test_cars_of_any_size_drive(wheelbase):
    k = wheelbase / 0.25
    profile = VehicleProfile(
        wheelbase_m=wheelbase, width_m=0.2 * k, length_m=0.38 * k, rear_overhang_m=0.06 * k, max_speed_mps=3 * k,
        reference_speed_mps=1.5 * k, max_accel_mps2=3, max_brake_mps2=5, camera=CameraModel(x_m=0.2 * k, z_m=0.17 * k),
    )  # fmt: skip
    world = nominal(profile=profile)
    world.reset(seed=2)
    for truth in run(world, [[0.0, 0.5]] * 20 + [[0.3, 0.0]] * 20):
        assert math.isfinite(truth.speed_mps)
    assert truth.yaw_rate_radps > 0.05
    assert run(world, [[0, -1]] * 120)[-1].speed_mps < 0.01 * k


# ---- road and traffic --------------------------------------------------------------------------------------------


def test_traffic_drives_as_in_track():
    actors = [
        ActorSpec("car", 6.0, -0.4, 1.0, ((1.0, 0.4),)),
        ActorSpec("car", 3.5, -0.4, 1.3),
        ActorSpec("box", 9, 0.4),
    ]
    where = oval()
    world, track = nominal(), TrackEnv([where], camera_size=None, randomize=0.0)
    begun = scene(actors, speed=0.0, d=0.4, s=0.5, where=where)
    world.start(begun, 0), track.start(begun, 0)
    for _ in range(60):
        ours, theirs = world.step([0, -1])[4]["truth"], track.step([0, -1])[4]["truth"]
    for mine, other in zip(ours.actors, theirs.actors, strict=True):
        assert (mine.s_ahead_m, mine.d_m, mine.speed_mps) == pytest.approx(
            (other.s_ahead_m, other.d_m, other.speed_mps), abs=1e-4
        )
    placed = world._drive.data.mocap_pos[:, :2]
    assert placed == pytest.approx(np.array([(a.x_m, a.y_m) for a in ours.actors]), abs=1e-9)


def test_a_collision_is_told_and_felt():
    world = nominal()
    world.start(scene([ActorSpec("box", 3.0, 0.0)], speed=1.5, s=1.0), 0)
    truths = run(world, [[0, 0.2]] * 60)
    hit = next(k for k, t in enumerate(truths) if t.collision)
    nose = truths[hit].s_m + PROFILE.length_m - PROFILE.rear_overhang_m
    assert nose == pytest.approx(3.0 - 0.125, abs=0.06)
    assert max(t.s_m for t in truths) + PROFILE.length_m - PROFILE.rear_overhang_m < 3.0
    assert all(t.collision for t in truths[hit:])


def test_a_wheel_off_the_road_is_told():
    world = nominal()
    world.start(scene(speed=1.0), 0)
    truths = run(world, [[0.5, 0.1]] * 60)
    off = next(t for t in truths if t.off_road)
    assert 0.5 < off.d_m < 0.8  # the centre of the rear axle is still on it
    assert not any(t.off_road for t in truths if t.d_m < 0.4)


def test_truth_follows_the_pose():
    where = random_road(21)
    world = nominal()
    world.start(make_scenario("follow_lane", where, 1), 1)
    for truth in run(world, [[0.3, 0.2]] * 40):
        s, d = where.to_frenet(truth.x_m, truth.y_m)
        assert (truth.s_m, truth.d_m) == pytest.approx((s, d), abs=0.01)
    assert truth.ahead[0, 0] <= 0 and truth.ahead[-1, 0] >= 8


def test_progress_counts_laps():
    short = random_road(7, length_m=16)
    world = nominal()
    start = short.length_m - 0.5
    world.start(scene(s=start, where=short, d=0.0), 0)
    truth = run(world, [[0, 0.1]] * 30)[-1]
    assert truth.s_m < 1.0
    assert truth.progress_m == pytest.approx(truth.s_m + 0.5, abs=0.01)

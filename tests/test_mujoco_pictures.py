"""World mujoco: its pictures show track's scene, its graphics are shared and let go; the whole suite is driven."""

import sys

import numpy as np
import pytest

from bridge.messages import CameraModel, VehicleProfile
from sims.actors import ActorSpec
from sims.world import WorldError

pytest.importorskip("mujoco", reason="needs mujoco: pip install pacenote[worlds]")

from mujoco_scenes import nominal, oval, run, scene

from sims.mujoco import graphics, picture
from sims.mujoco.world import MujocoWorld, draw_episode
from sims.track import TrackEnv
from sims.track.look import Randomization


def can_draw() -> bool:
    try:
        graphics.GRAPHICS.join()
    except WorldError:
        return False
    graphics.GRAPHICS.leave()
    return True


draws = pytest.mark.skipif(not can_draw(), reason="needs EGL or OSMesa")


@draws
@pytest.mark.parametrize("lens", ["fisheye", "pinhole"])
def test_lines_are_where_track_draws_them(lens):
    """White and yellow of both pictures of one scene fall onto each other."""
    where = oval(lanes=2)
    profile = VehicleProfile(camera=CameraModel(lens=lens, hfov_rad=2.0 if lens == "fisheye" else 1.6))
    plain = Randomization.at(0.0)
    world = MujocoWorld(profile=profile, randomize=plain)
    track = TrackEnv([where], profile=profile, randomize=plain)
    begun = scene(speed=0.0, d=-0.2, s=10.5, where=where)  # a bend lies ahead
    (ours, _), (theirs, _) = world.start(begun, 3), track.start(begun, 3)
    masks = [_lines(image["image"]) for image in (ours, theirs)]
    world.close()
    assert masks[1].sum() > 300
    overlap = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
    assert overlap > 0.6


def _lines(image):
    """Bright pixels well below the horizon: edge lines and dashes."""
    lower = image[60:].astype(int)
    return lower[..., :2].min(-1) > 150


@draws
def test_the_sky_turns_with_the_car():
    """All sides of the sky are those of track's panorama."""
    where = oval()
    world, track = nominal((160, 120)), TrackEnv([where], randomize=0.0)
    for s in (1.0, 18.0, 26.0, 44.0):
        begun = scene(speed=0.0, s=s, where=where)
        (ours, _), (theirs, _) = world.start(begun, 8), track.start(begun, 8)
        tops = [image["image"][:28].astype(float).mean(-1).ravel() for image in (ours, theirs)]
        assert np.corrcoef(*tops)[0, 1] > 0.7, s
    world.close()


@draws
def test_a_car_ahead_is_seen_and_a_far_one_is_smaller():
    world, seen = nominal((160, 120)), []
    for gap in (None, 1.2, 3.0):
        actors = [ActorSpec("car", 1.0 + gap, 0.0, colour=(0.9, 0.0, 0.0))] if gap else []
        image = world.start(scene(actors, speed=0.0), 4)[0]["image"].astype(int)
        seen.append(int(((image[..., 0] > 120) & (image[..., 1] < 60)).sum()))
    world.close()
    assert seen[0] < seen[2] / 2 < seen[1] / 4


@draws
def test_the_camera_does_not_change_the_drive():
    rng = np.random.default_rng(1)
    actions = rng.uniform(-1, 1, (15, 2)) * [0.4, 0.5]
    truths = []
    for size in (None, (160, 120)):
        world = MujocoWorld(camera_size=size, randomize=1.0)
        world.reset(seed=9)
        truths.append(run(world, actions))
        world.close()
    assert truths[0] == truths[1]


@draws
def test_many_worlds_share_one_context_and_do_not_mix():
    before = graphics.GRAPHICS.users
    alone = []
    for seed in range(4):
        world = MujocoWorld(randomize=1.0, camera_size=(64, 48))
        world.reset(seed=seed)
        alone.append(world.step([0.1, 0.2])[0]["image"])
        world.close()
    worlds = [MujocoWorld(randomize=1.0, camera_size=(64, 48)) for _ in range(4)]
    for seed, world in enumerate(worlds):
        world.reset(seed=seed)
    assert graphics.GRAPHICS.users == before + 4
    for world, image in zip(worlds, alone, strict=True):
        assert np.array_equal(world.step([0.1, 0.2])[0]["image"], image)
    for world in worlds:
        world.close()
        world.close()
    assert graphics.GRAPHICS.users == before


@draws
def test_a_forgotten_world_lets_its_graphics_go():
    before = graphics.GRAPHICS.users
    world = MujocoWorld(camera_size=(32, 24))
    world.reset(seed=1)
    assert graphics.GRAPHICS.users == before + 1
    del world
    assert graphics.GRAPHICS.users == before


def test_a_wrong_backend_is_named(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "osmesa" if sys.platform == "win32" else "egl")
    monkeypatch.setitem(sys.modules, "mujoco.egl", None)
    monkeypatch.setitem(sys.modules, "mujoco.osmesa", None)
    with pytest.raises(WorldError, match="MUJOCO_GL.*libegl1"):
        graphics._make_context(graphics.choose_backend())


def test_a_lens_table_stays_inside_its_views():
    for hfov, lens in ((2.0, "fisheye"), (2.6, "fisheye"), (1.2, "pinhole")):
        drawn = draw_episode(0, Randomization.at(0.0), VehicleProfile(camera=CameraModel(hfov_rad=hfov, lens=lens)))
        found = picture.make_lens(drawn.camera, (160, 120))
        columns, rows = found.map_x[..., 0], found.map_x[..., 1]
        assert columns.min() >= 0 and columns.max() < sum(v.width_px for v in found.views)
        assert rows.min() >= 0 and rows.max() < found.views[0].height_px


# ---- the whole suite ---------------------------------------------------------------------------------------------


@pytest.mark.worlds
def test_expert_and_pursuit_master_the_suite():
    report = evaluated("pursuit", 60)
    assert report["summary"]["success_rate"] >= 0.95, failures(report)


@pytest.mark.worlds
@draws
def test_the_flow_policy_that_knows_only_track_drives_here():
    report = evaluated("flow", 15)
    assert report["summary"]["success_rate"] >= 0.75, failures(report)


def evaluated(controller, episodes):
    from training.backends import load_backend
    from training.evaluate import EvaluateSettings, evaluate

    chosen = EvaluateSettings(world="mujoco", controller=controller, episodes=episodes, seed=1)
    return evaluate(chosen, load_backend("expert"))


def failures(report):
    return [(e["scenario"], e["seed"], e["reason"]) for e in report["episodes"] if not e["success"]]

"""What the camera of `track` sees, and the dense labels of it."""

import numpy as np
import pytest

from bridge.messages import CameraModel, VehicleProfile
from sims.actors import ActorSpec
from sims.random_road import random_road
from sims.track import TrackVectorEnv
from sims.track.props import _car
from sims.track.render import CLASSES
from tests.test_world_motion import ON_STRAIGHT_S, OVAL

ROAD, OFF_ROAD, EDGE, DIVIDER, CAR, CONE, SKY = range(7)


def world(count=1, **settings):
    settings = {"randomize": 0.0, "parallel": False} | settings
    env = TrackVectorEnv(count, [OVAL], **settings)
    for i in range(count):
        env.place(i, 0, ON_STRAIGHT_S, 0.0, 0.0, 1.0)
    env.look["cones"] = 0.0
    return env


def classes(env, i=0):
    """Class per pixel of environment i."""
    width, height = env.camera_size
    return env.render_labels([i], patch_grid=(height, width))[0].argmax(-1)


def test_picture_has_the_size_asked_for():
    for size in ((160, 120), (64, 48), (97, 33)):
        env = world(2, camera_size=size)
        image = env.render()
        assert image.shape == (2, size[1], size[0], 3) and image.dtype == np.uint8
        assert env.render([1]).shape[0] == 1
        assert image.std() > 5


def test_labels_are_shares():
    env = TrackVectorEnv(4, [random_road(1)], randomize=1.0, parallel=False)
    labels = env.render_labels(patch_grid=(8, 12))
    assert labels.shape == (4, 8, 12, len(CLASSES)) and labels.dtype == np.float32
    assert np.allclose(labels.sum(-1), 1.0, atol=1e-5)
    assert (labels[..., ROAD].sum() > 0) and (labels[..., SKY].sum() > 0)


def _pixel(env, s_ahead, d):
    """Column and row where the ground point at (s_ahead, d) is seen, by a search in the ray table."""
    truth = env.truth(0)
    x, y, _ = OVAL.to_world(truth.s_m + s_ahead, d)
    dx, dy = x - truth.x_m, y - truth.y_m
    c, s = np.cos(truth.yaw_rad), np.sin(truth.yaw_rad)
    u, v = dx * c + dy * s, dy * c - dx * s
    distance = np.hypot(env._along[0] - u, env._across[0] - v) + 1e6 * (env._code[0] >= 0)
    row, column = np.unravel_index(distance.argmin(), distance.shape)
    return column, row


def test_ground_points_are_where_the_lens_says():
    for lens, hfov in (("fisheye", 2.0), ("pinhole", 1.5)):
        camera = CameraModel(lens=lens, hfov_rad=hfov, x_m=0.1, z_m=0.2, pitch_rad=0.3)
        env = world(profile=VehicleProfile(camera=camera))
        for x, y in ((1.0, 0.0), (1.5, 0.4), (0.8, -0.5)):
            dx, dy, dz = x - camera.x_m, y - camera.y_m, -camera.z_m
            forward = np.cos(0.3) * dx - np.sin(0.3) * dz
            up = np.sin(0.3) * dx + np.cos(0.3) * dz
            angle, side = np.arctan2(np.hypot(dy, up), forward), np.hypot(dy, up)
            r = 80 / (hfov / 2) * angle if lens == "fisheye" else 80 / np.tan(hfov / 2) * np.tan(angle)
            column, row = 80 - r * dy / side, 60 - r * up / side
            distance = np.hypot(env._along[0] - x, env._across[0] - y) + 1e6 * (env._code[0] >= 0)
            got_row, got_column = np.unravel_index(distance.argmin(), distance.shape)
            assert abs(got_column + 0.5 - column) < 1.0 and abs(got_row + 0.5 - row) < 1.0


def test_lines_stand_where_the_road_has_them():
    env = world(camera_size=(320, 240))
    env.look["divider_style"] = 1  # solid
    found = classes(env)
    for d, kind in ((0.97, EDGE), (-0.97, EDGE), (0.0, DIVIDER), (0.5, ROAD), (-0.5, ROAD), (1.3, OFF_ROAD)):
        for s_ahead in (1.2, 1.8):
            column, row = _pixel(env, s_ahead, d)
            assert found[row, column] == kind, (d, s_ahead)
    dashed = world(camera_size=(320, 240))
    share = (classes(dashed) == DIVIDER).sum() / (found == DIVIDER).sum()
    assert 0.1 < share < 0.9


def test_edges_are_white_and_dividers_yellow():
    env = world(camera_size=(320, 240))
    image, found = env.render()[0].astype(int), classes(env)
    edge, divider, road = (image[found == kind].mean(0) for kind in (EDGE, DIVIDER, ROAD))
    assert edge.min() > road.max() + 30
    assert divider[0] > road[0] + 30 and divider[2] < 0.7 * divider[0]


def test_left_is_left():
    env = world()
    env.set_actors(0, [ActorSpec("cone", ON_STRAIGHT_S + 1.2, 0.4)])
    _, columns = np.nonzero(classes(env) == CONE)
    assert len(columns) > 10 and columns.max() < 80


def test_bodies_are_seen_and_hide_what_is_behind():
    for kind, label in (("car", CAR), ("cone", CONE), ("box", CONE)):
        env = world()
        seen = []
        for s_ahead in (0.9, 1.8, 3.5):
            env.set_actors(0, [ActorSpec(kind, ON_STRAIGHT_S + s_ahead, 0.0)])
            seen.append((classes(env) == label).sum())
        assert seen[0] > seen[1] > seen[2] > 3
    env.set_actors(0, [ActorSpec("box", ON_STRAIGHT_S + 0.8, 0.0), ActorSpec("car", ON_STRAIGHT_S + 1.3, 0.0)])
    both = (classes(env) == CAR).sum()
    env.set_actors(0, [ActorSpec("car", ON_STRAIGHT_S + 1.3, 0.0)])
    assert both < 0.5 * (classes(env) == CAR).sum()
    env.set_actors(0, [ActorSpec("car", ON_STRAIGHT_S - 1.0, 0.0)])
    assert (classes(env) == CAR).sum() == 0


def test_a_nearer_box_is_drawn_whole():
    """The bounds in which bodies are cast must hold the whole body, at the rim of the fisheye too."""
    for s_ahead in np.arange(0.45, 3.0, 0.35):
        for d in (-1.4, -0.7, 0.0, 0.9):
            env = world(camera_size=(80, 60))
            env.set_actors(0, [ActorSpec("car", ON_STRAIGHT_S + s_ahead, d)])
            found = classes(env) == CAR
            assert np.array_equal(found, _cast_everywhere(env)), (s_ahead, d)


def _cast_everywhere(env):
    """Class car by casting every pixel, without bounds."""
    truth, cam = env.truth(0), env.cameras[0]
    actor = truth.actors[0]
    c, s = np.cos(truth.yaw_rad), np.sin(truth.yaw_rad)
    dx, dy = actor.x_m - truth.x_m, actor.y_m - truth.y_m
    prop = np.zeros(12)
    prop[1:7] = dx * c + dy * s, dy * c - dx * s, actor.yaw_rad - truth.yaw_rad, 0.38, 0.20, 0.15
    c, s = np.cos(prop[3]), np.sin(prop[3])
    ox, oy = cam["x"] - prop[1], cam["y"] - prop[2]
    ox, oy = ox * c + oy * s, oy * c - ox * s
    hit = np.zeros(env._code[0].shape, bool)
    for row, column in np.ndindex(hit.shape):
        ax, ay, az = env._along[0, row, column], env._across[0, row, column], 1.0
        if env._code[0, row, column] < 0:
            ax, ay, az = ax - cam["x"], ay - cam["y"], -cam["z"]
        hit[row, column] = _car(prop, ox, oy, cam["z"], ax * c + ay * s, ay * c - ax * s, az)[0]
    return hit


def test_looks_change_only_when_asked():
    env = TrackVectorEnv(3, [OVAL], randomize=1.0, parallel=False)
    before = env.render()
    assert np.array_equal(before, env.render())
    env.randomize_look(1)
    after = env.render()
    assert np.array_equal(before[[0, 2]], after[[0, 2]]) and not np.array_equal(before[1], after[1])
    env.randomize_look(np.array([True, False, False]))
    assert not np.array_equal(after[0], env.render()[0])


def test_random_looks_can_still_be_read():
    """Over many looks the lines stand out from the floor, and few pictures are black or burnt out."""
    env = TrackVectorEnv(120, [OVAL], randomize=1.0, parallel=False)
    env.place_many(None, 0, ON_STRAIGHT_S, 0.3)
    image, labels = env.render().astype(float), env.render_labels(patch_grid=(120, 160)).argmax(-1)
    lower = image[:, 50:].mean((1, 2, 3))
    assert ((lower > 15) & (lower < 245)).mean() > 0.95
    contrast = []
    for picture, found in zip(image, labels, strict=True):
        line, road = picture[found == EDGE], picture[found == ROAD]
        if len(line) > 30:
            contrast.append(np.abs(line.mean(0) - road.mean(0)).max())
    assert len(contrast) > 80 and np.mean(np.array(contrast) > 12) > 0.9


def test_camera_refuses_nonsense():
    with pytest.raises(ValueError, match="camera_size"):
        world(camera_size=(8, 8))

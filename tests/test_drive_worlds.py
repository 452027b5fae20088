"""`pacenote drive` in other worlds than track: scenes in proportion, the camera's pose, and TORCS for real."""

from __future__ import annotations

import json
from dataclasses import replace

import av
import numpy as np
import pytest
from test_scale import FULL_SIZE
from typer.testing import CliRunner

import pacenote
from bridge.messages import CameraModel
from sims.scale import scaled_road
from sims.track.spec import SPEC, road
from sims.worlds import WORLDS
from training.drive_scene import DriveError, DriveSettings, make_scene
from training.simulated_car import camera_pose
from training.video import CAMERA_PX, CameraView, Moment


@pytest.fixture
def big_track(monkeypatch):
    """World track for a full-size car, under another name."""
    spec = replace(
        SPEC, name="big", profile=FULL_SIZE, batch=None, road=lambda track, seed: scaled_road(road(track, seed), 10.4)
    )
    given: list = [spec]
    monkeypatch.setattr("training.drive_scene.find_world", lambda name: given[0])
    return given


def test_a_scene_for_a_full_size_car_is_in_proportion(big_track):
    scene = make_scene(DriveSettings(world="big"))
    lead = scene.actors[0]
    assert scene.road.lane_count >= 2 and scene.start_speed_mps == 0.0
    assert (lead.s_m - scene.start_s_m) % scene.road.length_m == pytest.approx(3.2 * 10.4)
    assert lead.speed_mps == pytest.approx(5.0) and 3.5 < lead.size_m[0] < 4.5
    assert scene.road.lane_at(scene.start_s_m, scene.start_d_m) == 0


def test_a_world_without_camera_lanes_or_traffic(big_track):
    big_track[0] = replace(big_track[0], traffic=False)
    assert make_scene(DriveSettings(world="big")).actors == ()
    narrow = make_scene(DriveSettings()).road
    big_track[0] = replace(big_track[0], road=lambda track, seed: replace(narrow, lane_count=1))
    with pytest.raises(DriveError, match="none of 20 random roads has 2 lanes"):
        make_scene(DriveSettings(world="big"))
    big_track[0] = replace(big_track[0], camera=False)
    with pytest.raises(DriveError, match="no forward camera"):
        make_scene(DriveSettings(world="big"))


def test_the_pose_of_the_camera_is_the_worlds_or_the_profiles():
    world = SPEC.make(camera_size=(32, 24), randomize=1.0, seed=3)
    assert camera_pose(world) == world.camera()

    class Plain:
        profile = FULL_SIZE.model_copy(update={"camera": CameraModel(x_m=0.8, z_m=1.2, lens="pinhole", hfov_rad=1.2)})

    pose = camera_pose(Plain())
    assert (pose["x"], pose["z"], pose["fisheye"], pose["hfov"]) == (0.8, 1.2, 0.0, 1.2)


def test_the_plan_is_drawn_into_a_large_cars_picture():
    camera = FULL_SIZE.camera.model_copy(update={"x_m": 2.0, "z_m": 1.8})

    class World:
        profile = FULL_SIZE.model_copy(update={"camera": camera})

    view = CameraView(camera_pose(World()), World.profile)
    plan = np.column_stack([np.arange(1, 9) * 5.2, np.zeros(8), np.full(8, 12.0)])
    row = {"x_m": 0.0, "y_m": 0.0, "yaw_rad": 0.0}
    picture = view.draw(np.zeros((120, 160, 3), np.uint8), Moment(row, None, plan, None, None))
    assert picture.shape == (480, CAMERA_PX, 3)
    columns = np.flatnonzero(picture.max(axis=(0, 2)) > 60)
    assert abs(columns.mean() - CAMERA_PX / 2) < 4 and len(columns) > 60


@pytest.mark.worlds
def test_an_opponent_is_overtaken_in_torcs(tmp_path):
    if (lacking := WORLDS["torcs"].missing()) is not None:
        pytest.skip(lacking)
    file, folder = tmp_path / "result.json", tmp_path / "run"
    arguments = ["drive", "--world", "torcs", "--track", "aalborg", "--planner", "expert", "--controller", "pursuit"]
    arguments += ["--say", "5: overtake on the left", "--seconds", "18", "--run", str(folder), "--json", str(file)]
    ended = CliRunner().invoke(pacenote.app, arguments)
    assert ended.exit_code == 0, ended.output
    result = json.loads(file.read_text())
    assert [(c["kind"], c["obeyed"]) for c in result["commands"]] == [("overtake_left", True)], result
    assert result["driven_m"] > 80.0
    with av.open(str(folder / "front.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) > 100

"""What `sims.torcs` computes by itself, without the game: pedals, traffic, contacts, lens, files, roads."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.messages import CameraModel
from sims.road import RoadError
from sims.torcs import install, protocol, roads
from sims.torcs import kernels as k
from sims.torcs.lens import Lens
from sims.torcs.race import Race, race_folder
from sims.torcs.spec import PROFILE, SPEC
from sims.torcs.tracks import CATEGORIES, ROAD_TRACKS, category_of
from sims.track import rays
from sims.track.look import CAMERA
from sims.world import WorldError

CAR_LENGTH_M = PROFILE.length_m


def car(x=0.0, y=0.0, yaw=0.0, vx=0.0, gear=1.0, rpm=3000.0):
    """One row of the state."""
    row = np.zeros(len(protocol.CAR_STATE), np.float32)
    row[[k.PRESENT, k.X, k.Y, k.YAW, k.VX, k.GEAR, k.RPM]] = 1.0, x, y, yaw, vx, gear, rpm
    return row


def body():
    """The ego's car."""
    row = np.ones(k.BODY_COLUMNS)
    row[:7] = -1.3728, 2.64, 2.26, -2.26, 1.94, 0.3665, 13.5
    row[k.RATIO :] = 13.5, 8.55, 6.3, 4.95, 4.05, 3.465, 1.0, 1.0
    return row


def straight_road(count=2000, step_m=0.5):
    """Samples of a road along x, 10 m wide; too long for its ends to matter."""
    samples = np.zeros((count, 6))
    samples[:, 0] = np.arange(count) * step_m
    samples[:, 4:] = 5.0
    return samples


# ---- pedals ----------------------------------------------------------------------------------------------------------


@given(st.floats(-15, 8), st.floats(-15, 8), st.floats(0, 40), st.integers(0, 6), st.floats(900, 9000))
@settings(max_examples=200, deadline=None)  # the first call compiles
def test_pedals_are_within_range_and_rise_with_the_wish(one, other, speed, gear, rpm):
    low, high = sorted((one, other))
    own = car(vx=speed, gear=gear, rpm=rpm)
    less, more = (k.pedals(a, own, body()) for a in (low, high))
    for throttle, brake in (less, more):
        assert 0.0 <= throttle <= 1.0 and 0.0 <= brake <= 1.0 and min(throttle, brake) == 0.0
    assert less[0] <= more[0] + 1e-9 and less[1] >= more[1] - 1e-9


def test_a_standing_car_that_is_not_to_go_is_held():
    assert k.pedals(0.0, car(vx=0.0), body()) == (0.0, k.HOLD_BRAKE)
    assert k.pedals(0.5, car(vx=0.0), body())[0] > 0.0


# ---- contacts and position -------------------------------------------------------------------------------------------


def survey(cars, samples):
    """(ego, ahead) after a survey of `cars`."""
    cars = np.array(cars, np.float32)
    bodies, places = np.array([body()] * len(cars)), np.zeros((len(cars), 6))
    places[:, k.INDEX] = 300  # some way off; the search walks from there
    ego, ahead = np.zeros(k.EGO_COLUMNS), np.zeros((5, 5))
    k.survey(cars, bodies, places, samples, 0.5, 2, 1.94, np.arange(5) * 10.0, ego, ahead)
    return ego, ahead


def test_the_ego_is_told_by_its_rear_axle():
    ego, ahead = survey([car(x=200.0, y=-2.0, yaw=0.1)], straight_road())
    assert ego[k.E_S] == pytest.approx(200.0 - 1.3728 * math.cos(0.1), abs=1e-4)
    assert ego[k.E_D] == pytest.approx(-2.0 - 1.3728 * math.sin(0.1), abs=1e-4)
    assert ego[k.E_HEADING] == pytest.approx(0.1, abs=1e-6)
    assert (ego[k.E_LANE], ego[k.E_LEFT], ego[k.E_RIGHT]) == (0, 5.0, -5.0)
    assert ahead[3] == pytest.approx([30.0, ego[k.E_S] + 30.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("y, off", [(4.0, False), (4.1, True), (-4.0, False), (-4.1, True), (0.0, False)])
def test_a_wheel_beyond_the_edge(y, off):
    ego, _ = survey([car(x=200.0, y=y)], straight_road())
    assert bool(ego[k.E_OFF]) == off


def test_a_front_wheel_beyond_the_edge_counts():
    ego, _ = survey([car(x=200.0, y=3.8, yaw=1.2)], straight_road())
    assert ego[k.E_D] < 5.0 - 1.0 and ego[k.E_OFF]


@pytest.mark.parametrize(
    "x, y, yaw, touch",
    [
        (204.6, 0.0, 0.0, False), (204.4, 0.0, 0.0, True), (200.0, 2.0, 0.0, False), (200.0, 1.9, 0.0, True),
        (203.6, 1.9, 0.0, True), (203.4, 2.9, math.pi / 4, True), (203.5, 3.9, math.pi / 4, False),
        (200.0, 0.0, 2.0, True),
    ],
)  # fmt: skip
def test_bodies_touch(x, y, yaw, touch):
    ego, _ = survey([car(x=200.0), car(x=x, y=y, yaw=yaw)], straight_road())
    assert bool(ego[k.E_TOUCH]) == touch


def test_absent_cars_and_cars_on_a_bridge_touch_nothing():
    absent, above = car(x=200.0), car(x=200.0)
    absent[k.PRESENT], above[k.Z] = 0.0, 6.0
    ego, _ = survey([car(x=200.0), absent, above], straight_road())
    assert not ego[k.E_TOUCH]


# ---- traffic ---------------------------------------------------------------------------------------------------------


def command(cars, driver, t_s=0.0):
    """Command of the scripted car 1."""
    cars, samples = np.array(cars, np.float32), straight_road()
    bodies, places = np.array([body()] * len(cars)), np.zeros((len(cars), 6))
    places[:, k.INDEX] = 300
    k.locate(cars, bodies, places, samples, 0.5)
    drivers, commands = np.zeros((1, k.DRIVER_COLUMNS)), np.zeros((len(cars), 3), np.float32)
    drivers[0, : len(driver)] = driver
    k.command_traffic(cars, bodies, places, 1, drivers, commands, samples, 0.5, 1.94, t_s, 1 / 30)
    return commands[1], drivers[0]


def test_a_scripted_car_holds_speed_and_offset():
    given_command, _ = command([car(x=100.0), car(x=200.0, y=2.0, vx=8.0)], (2.0, 8.0, 8.0))
    assert abs(given_command[0]) < 1e-3 and 0.0 < given_command[1] < 0.3 and given_command[2] == 0.0
    given_command, _ = command([car(x=100.0), car(x=200.0, y=1.0, vx=8.0)], (2.0, 8.0, 8.0))
    assert given_command[0] > 0.01, "the wanted line is on the left"


def test_a_scripted_car_stands_where_it_is_to_stand():
    given_command, _ = command([car(x=100.0), car(x=200.0)], (0.0, 0.0, 0.0))
    assert given_command.tolist() == [0.0, 0.0, 1.0]


def test_a_following_car_brakes_for_the_ego():
    follow = (0.0, 12.0, 12.0, 1.0)
    braked, _ = command([car(x=215.0, vx=2.0), car(x=200.0, vx=12.0)], follow)
    free, _ = command([car(x=215.0, y=4.0, vx=2.0), car(x=200.0, vx=12.0)], follow)
    assert braked[2] > 0.1 and free[2] == 0.0


def test_speed_changes_come_in_time():
    driver = (0.0, 8.0, 8.0, 0.0, 1.0, 2.0, 0, 0, 0, 0, 0, 4.0)
    cars = [car(x=100.0), car(x=200.0, vx=8.0)]
    assert command(cars, driver, t_s=1.9)[1][k.SET_SPEED] == 8.0
    assert command(cars, driver, t_s=2.0)[1][k.SET_SPEED] == 4.0


# ---- lens ------------------------------------------------------------------------------------------------------------


def drawn_spot(lens, camera, point):
    """The pinhole picture that TORCS would draw of one bright spot, by the pinhole's own formula."""
    width, height = lens.draw_size
    focal_px = 0.5 * height / math.tan(math.radians(lens.fovy_deg) / 2)
    x, y, z = point[0] - camera.x_m, point[1] - camera.y_m, point[2] - camera.z_m
    c, s = math.cos(camera.pitch_rad), math.sin(camera.pitch_rad)
    ahead, up = c * x - s * z, s * x + c * z
    column, row = 0.5 * width - focal_px * y / ahead, 0.5 * height - focal_px * up / ahead
    rows, columns = np.mgrid[0:height, 0:width] + 0.5
    spot = 255 * np.exp(-((columns - column) ** 2 + (rows - row) ** 2) / (2 * 3.0**2))
    return np.repeat(spot[:, :, None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize("lens_name, hfov", [("fisheye", 2.0), ("pinhole", 1.4), ("fisheye", 1.3)])
@pytest.mark.parametrize("point", [(30.0, 0.0, 0.0), (12.0, 5.0, 0.0), (9.0, -3.0, 1.5), (8.0, 2.0, 0.0)])
def test_the_lens_agrees_with_the_camera_of_track(lens_name, hfov, point):
    camera = CameraModel(lens=lens_name, hfov_rad=hfov, x_m=2.1, z_m=1.8, pitch_rad=0.25)
    lens = Lens(camera, (160, 120))
    picture = lens.develop(drawn_spot(lens, camera, point))[:, :, 0].astype(float)
    assert picture.shape == (120, 160)
    rows, columns = np.mgrid[0:120, 0:160] + 0.5
    seen = np.array([(columns * picture).sum(), (rows * picture).sum()]) / picture.sum()
    pose = np.zeros(1, CAMERA).view(np.recarray)[0]
    pose.x, pose.z, pose.pitch, pose.hfov, pose.fisheye = 2.1, 1.8, 0.25, hfov, lens_name == "fisheye"
    wanted = rays.project(pose, rays.rotation(pose), rays.focal_px(pose, 160), *point, 160, 120)
    assert seen == pytest.approx(wanted, abs=0.6)


def test_a_pinhole_is_passed_on_as_it_is_drawn():
    lens = Lens(CameraModel(lens="pinhole", hfov_rad=1.4), (64, 48))
    drawn = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)[::-1]
    assert lens.draw_size == (64, 48)
    assert np.array_equal(lens.develop(drawn), drawn) and lens.develop(drawn).flags.c_contiguous
    with pytest.raises(ValueError, match="too wide"):
        Lens(CameraModel(lens="pinhole", hfov_rad=3.0), (64, 48))


# ---- files, tracks, roads --------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_race_files_are_written_once_and_say_what_was_asked(cache):
    race = Race("aalborg", traffic=2, robots=(("bt", 3),), picture=(32, 24))
    folder = race_folder(race)
    text = ET.parse(folder / "race.xml").getroot()
    drivers = text.find("./section[@name='Drivers']")
    said = [[v.get("val") for v in one] for one in drivers.findall("section")]
    assert said == [["0", "pacenote"], ["3", "bt"], ["1", "pacenote"], ["2", "pacenote"]]
    assert text.find(".//attstr[@name='category']").get("val") == "road"
    for path in folder.rglob("*.xml"):
        ET.parse(path)
    stamps = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    assert race_folder(race) == folder and {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == stamps
    assert race_folder(Race("forza")) != folder
    assert not list(folder.parent.glob("race-*")), "nothing half-written is left"


def test_the_table_of_tracks():
    assert len(CATEGORIES) == 38 and len(ROAD_TRACKS) == 21
    assert category_of("e-track-5") == "oval"
    with pytest.raises(RoadError, match="did you mean 'aalborg'"):
        category_of("alborg")


@pytest.mark.parametrize("width, lanes", [(7.0, 1), (9.0, 1), (10.0, 2), (15.0, 2), (18.0, 2), (20.0, 3), (30.0, 3)])
def test_lanes_laid_over_a_width(width, lanes):
    assert roads.lanes_for(width) == lanes


def keep_circle(cache, name="aalborg", radius=200.0):
    """Put a circle into the cache as if the game had told it."""
    length = 2 * math.pi * radius
    points = np.zeros(1200, protocol.ROAD_POINT)
    angle = np.arange(1200) * 2 * math.pi / 1200
    points["distance"], points["width"], points["curvature"] = angle * radius, 10.0, 1 / radius
    points["x"], points["y"] = radius * np.cos(angle), radius * np.sin(angle)
    roads._keep(cache / "pacenote" / "torcs" / f"roads-{install.package_version()}" / f"{name}.npz", points, length)


def test_a_road_is_known_without_the_game_once_it_was_asked(cache):
    keep_circle(cache)
    roads.torcs_road.cache_clear()
    try:
        road = SPEC.road("aalborg", 0)
    finally:
        roads.torcs_road.cache_clear()
    assert road.meta["torcs_track"] == "aalborg" and road.meta["category"] == "road"
    assert road.length_m == pytest.approx(2 * math.pi * 200.0, rel=1e-4) and road.lane_count == 2
    assert road.curvature_pm == pytest.approx(np.full(len(road.x_m), 1 / 200.0), rel=1e-2)
    assert road.left_m == pytest.approx(np.full(len(road.x_m), 5.0))


def test_a_damaged_road_says_what_to_do(cache):
    keep_circle(cache, "forza")
    file = next((cache / "pacenote" / "torcs").glob("roads-*/forza.npz"))
    file.write_bytes(file.read_bytes()[:200])
    roads.torcs_road.cache_clear()
    with pytest.raises(RoadError, match="damaged.*delete it"):
        roads.torcs_road("forza")


def test_what_lacks_is_named_with_the_command_that_mends_it(monkeypatch, tmp_path):
    monkeypatch.setattr(install, "BINARY", tmp_path / "nothing")
    assert "make torcs" in SPEC.missing()
    monkeypatch.setattr(install.platform, "machine", lambda: "aarch64")
    assert "amd64" in SPEC.missing() and "aarch64" in SPEC.missing()


def test_another_version_of_the_game_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(install, "BINARY", tmp_path / "torcs-bin")
    (tmp_path / "torcs-bin").write_text("")
    (tmp_path / "tracks").mkdir()
    monkeypatch.setattr(install, "DATA", tmp_path)
    monkeypatch.setattr(install, "package_version", lambda: "1.3.8")
    assert "1.3.8" in install.missing() and "1.3.7" in install.missing()


def test_installing_without_root_says_what_root_must_run(monkeypatch, tmp_path):
    monkeypatch.setattr(install, "BINARY", tmp_path / "nothing")
    monkeypatch.setattr(install.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(install.os, "geteuid", lambda: 1000)
    with pytest.raises(WorldError, match="needs root.*apt-get install.*torcs.*libegl-dev"):
        install.install()

"""The teacher, the plans and the samples: true to the road, true to what the car will make of a plan."""

import math

import numpy as np
import pytest

from bridge.messages import EgoState, VehicleProfile
from controller.observation import ego_input, path_input
from controller.pose_ring import Pose
from controller.reprojection import reproject as reproject_on_car
from sims.road import road_from_points
from sims.track.roadbank import RoadBank
from training.controller import teacher
from training.controller.buffer import SampleBuffer, halve
from training.controller.plans import make_chain, reproject
from training.controller.tasks import lane_d, lane_u

PROFILE = VehicleProfile()
CAR = teacher.nominal_car(PROFILE)


def circle(radius=4.0, lanes=2, width=1.0):
    angle = np.linspace(0, 2 * np.pi, 80, endpoint=False)
    half = np.full(80, lanes * width / 2)
    return road_from_points("circle", radius * np.cos(angle), radius * np.sin(angle), half, half, lanes)


@pytest.fixture(scope="module")
def table():
    bank = RoadBank([circle()])
    return teacher.RoadTable(bank.meta, bank.samples)


def label(table, s=1.0, d=-0.5, psi=0.0, v=1.0, v_set=1.0, lane=0.0, actor=None):
    one = lambda value: np.array([float(value)])  # noqa: E731
    a = np.zeros((1, 1)) if actor is None else np.array([[float(actor)]])
    lateral = np.array([[lane, lane, 1.0, 0.0]])
    chunk, gap = np.zeros((1, 50, 2)), np.zeros(1)
    state = (one(s), one(d), one(psi), one(v), one(0), one(0))
    fixed = lambda value: np.full((1, 1), value)  # noqa: E731
    actors = (a, fixed(d), fixed(0.0), fixed(0.3), fixed(0.2), np.array([0 if actor is None else 1]))
    road = np.zeros(1, np.int64)
    teacher.label_chunks(
        table, CAR, road, *state, one(0), lateral, one(v_set), one(v_set), *actors, chunk, gap
    )  # fmt: skip
    return chunk[0], gap[0]


def test_steers_the_curvature_of_the_lane_on_a_circle(table):
    chunk, _ = label(table)
    wanted = math.atan(PROFILE.wheelbase_m / 4.5) / PROFILE.steering_limit_rad  # right lane of a left-hand circle
    assert chunk[20:, 0] == pytest.approx(wanted, abs=0.03)
    assert np.abs(chunk[20:, 1]).max() < 0.2


@pytest.mark.parametrize("side", [-1, 1])
def test_steers_back_to_the_centre(table, side):
    straight, _ = label(table)
    chunk, _ = label(table, d=-0.5 + 0.2 * side)
    assert (chunk[0, 0] - straight[0, 0]) * side < -0.1


def test_goes_to_the_other_lane_when_the_plan_says_so(table):
    chunk, _ = label(table, lane=1.0)
    assert chunk[0, 0] > 0.2


def test_brakes_for_what_stands_ahead_and_stands_for_speed_zero(table):
    chunk, gap = label(table, actor=1.3)
    assert gap == pytest.approx(1.3 - 0.15 - CAR.front, abs=1e-6)
    assert chunk[0, 1] < -0.1
    assert label(table, v=0.0, v_set=0.0)[0][:, 1] == pytest.approx(-0.3)
    assert label(table, v_set=-1.0)[0][:, 1] == pytest.approx(0.0, abs=0.12)  # keep the speed


def test_lane_index_and_d_are_inverse(table):
    assert lane_u(table, 0, 3.0, lane_d(table, 0, 3.0, 1.2)) == pytest.approx(1.2)
    assert lane_d(table, 0, 0.0, 0.0) == pytest.approx(-0.5, abs=1e-6)


def test_chain_without_noise_lies_on_the_lane(table):
    points = np.zeros((8, 2))
    lateral = np.array([0.0, 0.0, 1.0, 0.0])
    make_chain(table, CAR, 0, 1.0, -0.5, 0.0, lateral, 0.0, 0.0, 0.0, 0.0, points)
    steps = np.hypot(*np.diff(np.vstack([[0, 0], points]), axis=0).T)
    assert steps == pytest.approx(2 * PROFILE.wheelbase_m)
    radius = np.hypot(points[:, 0], points[:, 1] - 4.5)  # centre of the circle as the car sees it
    assert radius == pytest.approx(4.5, abs=0.03)


def test_path_is_the_one_that_the_car_computes():
    points = np.cumsum(np.full((8, 2), (0.5, 0.02)), axis=0)
    speeds = np.array([1.2, 0.5])
    out = np.zeros((8, 3))
    here, there = (1.0, 2.0, 0.3), (1.6, 2.3, 0.45)  # capture, now: x, y, yaw in the world
    reproject(points, speeds, *there, *here, 0.0, 0.0, 0.5, PROFILE.wheelbase_m, PROFILE.reference_speed_mps, out)
    c, s = math.cos(here[2]), math.sin(here[2])
    dx, dy = there[0] - here[0], there[1] - here[1]
    x, y, turn = c * dx + s * dy, -s * dx + c * dy, there[2] - here[2]
    moved = Pose(-(x * math.cos(turn) + y * math.sin(turn)), x * math.sin(turn) - y * math.cos(turn), -turn)
    rows = np.column_stack([points, np.linspace(*speeds, 8)])
    path = reproject_on_car(np.vstack([[0.0, 0.0, speeds[0]], rows]), moved)
    np.testing.assert_allclose(out, path_input(path, PROFILE), atol=1e-5)
    ego = ego_input(EgoState(speed_mps=0.75, yaw_rate_radps=0.4, steering=0.2), PROFILE)
    assert ego == pytest.approx([0.5, 0.4, 0.2])


def test_halved_images_equal_pooling_inside_the_graph():
    torch = pytest.importorskip("torch")
    images = np.random.default_rng(0).integers(0, 256, (2, 120, 160, 3), dtype=np.uint8)
    pooled = torch.nn.functional.avg_pool2d(torch.from_numpy(images).permute(0, 3, 1, 2).float(), 2)
    assert np.abs(halve(images) - pooled.permute(0, 2, 3, 1).numpy()).max() <= 0.5


def test_buffer_mirrors_everything_that_has_a_side():
    pytest.importorskip("torch")
    buffer = SampleBuffer(4, 13)
    image = np.zeros((1, 60, 80, 3), np.uint8)
    image[:, :, 0] = 200
    ones = lambda *shape: np.ones((1, *shape), np.float32)  # noqa: E731
    columns = {"path": ones(8, 3), "valid": ones(1), "ego": ones(3), "chunk": ones(50, 2), "aux": ones(13)}
    buffer.add({"image": image, **columns})
    rows = buffer.sample(64, np.random.default_rng(0))
    mirrored = (rows["image"][:, 0, 0, -1] > 0).numpy()
    assert 10 < mirrored.sum() < 54
    signs = (("path", 1, -1), ("path", 2, 1), ("ego", 1, -1), ("ego", 0, 1), ("aux", 8, -1), ("aux", 12, 1))
    for name, index, sign in signs:
        values = rows[name].reshape(64, -1)[:, index].numpy()
        assert (values == np.where(mirrored, sign, 1)).all(), (name, index)
    assert (rows["chunk"][:, 0, 0].numpy() == np.where(mirrored, -1, 1)).all()

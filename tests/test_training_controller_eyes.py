"""The shipped flow controller uses its eyes, in closed loop on roads that it has never seen."""

import pytest

from bridge.messages import VehicleProfile
from controller.policies import load_policy
from sims.actors import ActorSpec
from sims.random_road import random_road
from training.controller.check_eyes import FIRST_SEED, Case, bend_cases, lane_keeping, run_case, silence, standing

PROFILE = VehicleProfile()


@pytest.fixture(scope="module")
def flow():
    return load_policy("flow", PROFILE)


def test_keeps_its_lane_on_a_bend_without_plans_where_pursuit_leaves_it(flow):
    cases = bend_cases(8)
    seeing = silence(flow, PROFILE, cases)
    blind = silence(load_policy("pursuit", PROFILE), PROFILE, cases)
    assert seeing["kept_lane"] == 1.0, seeing
    assert blind["kept_lane"] < 0.9, blind


def test_keeps_close_to_the_centre_with_plans_and_stands_when_told(flow):
    kept = lane_keeping(flow, PROFILE, 2)
    assert kept["off_road"] == 0 and kept["mean_offset_m"] < 0.08, kept
    assert standing(flow, PROFILE, 1)["stood"] == 1.0


def test_bundle_says_what_it_is(flow):
    assert flow.card.name == "flow" and flow.card.certificate["passed"] is True
    assert flow.card.training["settings"]["data"]["first_road_seed"] < FIRST_SEED
    assert flow.card.metrics["torch_vs_onnx_max_abs"] < 1e-4


def test_the_same_case_runs_the_same_way_twice(flow):
    road = random_road(FIRST_SEED + 5)
    actor = ActorSpec("car", 3.0, float(road.lane_center_d(3.0, 0)), 0.8)
    case = Case(road, 0.0, 0, 1, 1.0, actors=(actor,))
    assert run_case(flow, PROFILE, case) == run_case(flow, PROFILE, case)

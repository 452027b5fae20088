"""The planner's memory of a car, in virtual time."""

import numpy as np
import pytest

from bridge.clock import NS_PER_S
from bridge.messages import Command, EgoState, Frame, Hello, Intent, VehicleProfile, Verdict, Waypoint
from bridge.planning import PlanAnswer, PlanError
from planner.session import PlannerSession

HELLO = Hello(car_id="car-1", session_id="s-1", profile=VehicleProfile())
IMAGE = np.zeros((120, 160, 3), np.uint8)


class Car:
    """A car and its session on one virtual clock."""

    def __init__(self, **kwargs):
        self.session = PlannerSession(HELLO, **kwargs)
        self.now_s = 100.0
        self.seq = 0

    @property
    def now_ns(self):
        return round(self.now_s * NS_PER_S)

    def say(self, text, id="c1"):
        self.session.take_command(Command(id=id, car_id="car-1", text=text), self.now_ns)

    def ask(self, after_s=0.5, image=IMAGE):
        self.now_s += after_s
        self.seq += 1
        # The car's clock is another one than the planner's.
        self.frame = Frame(session_id="s-1", seq=self.seq, t_capture_ns=self.now_ns - 42 * NS_PER_S)
        return self.session.request(self.frame, image, self.now_ns)

    def answer(self, request, verdict=None, intent=Intent.FOLLOW_LANE, v_mps=1.2, lane=0, reason="", actors=None):
        points = tuple(Waypoint(x_m=0.5 * k, y_m=0.0, v_mps=v_mps) for k in range(1, 9))
        facts = {"lane_count": 2, "lane": lane, "actors": actors} if actors is not None else None
        answer = PlanAnswer(intent, points, "words", verdict, reason, lane, extra={"facts": facts})
        return self.session.finish(request, answer, self.frame, model="m")

    def turn(self, *args, **kwargs):
        return self.answer(self.ask(), *args, **kwargs)


def test_without_a_command_there_is_none_and_cruise_is_the_default():
    car = Car()
    request = car.ask()
    assert request.command is None
    assert request.cruise_mps == pytest.approx(1.2)
    plan = car.answer(request).plan
    assert plan.verdict is None
    assert (plan.session_id, plan.seq, plan.frame_seq) == ("s-1", 1, 1)
    assert plan.t_capture_ns == car.frame.t_capture_ns


def test_an_answer_without_a_command_cannot_carry_a_verdict():
    assert Car().turn(Verdict.DONE).plan.verdict is None


def test_the_first_answer_fixes_the_start_lane():
    car = Car()
    car.say("overtake on the left")
    assert car.ask().command.start_lane is None
    car.turn(Verdict.ACCEPTED, Intent.OVERTAKE_LEFT, lane=0)
    car.turn(Verdict.ACCEPTED, Intent.OVERTAKE_LEFT, lane=1)
    command = car.ask().command
    assert command.start_lane == 0
    assert command.age_s == pytest.approx(2.0)


@pytest.mark.parametrize("verdict", [Verdict.DONE, Verdict.REFUSED])
def test_done_and_refused_end_the_command(verdict):
    car = Car()
    car.say("change left")
    assert car.turn(verdict, reason="no lane").plan.verdict.command_id == "c1"
    assert car.ask().command is None


@pytest.mark.parametrize("verdict", [Verdict.ACCEPTED, Verdict.WAITING])
def test_accepted_and_waiting_hold_it(verdict):
    car = Car()
    car.say("change left")
    for _ in range(50):
        car.turn(verdict)
    assert car.ask().command.id == "c1"


def test_a_newer_command_replaces_and_begins_anew():
    car = Car()
    car.say("change left")
    car.turn(Verdict.ACCEPTED, lane=0)
    car.say("stop", id="c2")
    command = car.ask(0.25).command
    assert (command.id, command.start_lane, command.age_s) == ("c2", None, pytest.approx(0.25))


def test_the_same_command_again_changes_nothing():
    car = Car()
    car.say("change left")
    car.turn(Verdict.ACCEPTED)
    car.say("change left")
    assert car.ask().command.age_s == pytest.approx(1.0)


def test_an_answer_to_a_replaced_command_does_not_end_the_new_one():
    car = Car()
    car.say("change left")
    request = car.ask()
    car.say("stop", id="c2")
    assert car.answer(request, Verdict.DONE).plan.verdict.command_id == "c1"
    assert car.ask().command.id == "c2"


def test_a_speed_that_was_ordered_becomes_the_cruise_when_done():
    car = Car()
    car.say("faster")
    for v in (1.68, 1.1, 1.68, 0.9):
        car.turn(Verdict.ACCEPTED, v_mps=v)
        assert car.session.cruise_mps == pytest.approx(1.2)
    car.turn(Verdict.DONE, v_mps=0.9)  # in a bend just now
    assert car.session.cruise_mps == pytest.approx(1.68)


def test_a_plain_lane_following_done_at_once_keeps_the_cruise():
    car = Car()
    car.say("follow the lane")
    car.turn(Verdict.DONE, v_mps=0.3)  # behind a slow car
    assert car.session.cruise_mps == pytest.approx(1.2)


def test_other_manoeuvres_keep_the_cruise():
    car = Car()
    car.say("overtake")
    car.turn(Verdict.ACCEPTED, Intent.OVERTAKE_LEFT, v_mps=1.7)
    car.turn(Verdict.DONE, Intent.OVERTAKE_LEFT, v_mps=1.7)
    assert car.session.cruise_mps == pytest.approx(1.2)


def test_the_previous_frame_goes_along_while_it_is_fresh():
    car = Car()
    first, second = IMAGE, IMAGE + 1
    assert len(car.ask(image=first).images) == 1
    request = car.ask(0.4, image=second)
    assert [i[0, 0, 0] for i in request.images] == [0, 1]
    assert request.image_interval_s == pytest.approx(0.4)
    assert len(car.ask(1.5).images) == 1  # too old
    assert len(car.ask(0.1, image=IMAGE[:60]).images) == 1  # another size


def test_what_the_guard_refuses_is_not_sent_and_moves_nothing():
    car = Car()
    car.say("stop")
    outcome = car.turn(Verdict.DONE, Intent.STOP, v_mps=1.0)
    assert outcome.plan is None and "stop" in outcome.problems[0]
    assert car.ask().command.id == "c1"
    assert car.turn(Verdict.ACCEPTED, Intent.STOP, v_mps=0.0).plan.seq == 1


def test_a_plan_error_is_an_outcome_too():
    car = Car()
    outcome = car.session.finish(car.ask(), PlanError("tired"), car.frame)
    assert outcome.plan is None and outcome.problems == ("tired",)


def test_a_reconnect_keeps_command_and_cruise_but_not_the_frame():
    car = Car(cruise_mps=0.7)
    car.say("keep right")
    car.ask()
    car.session = car.session.renewed(HELLO.model_copy(update={"session_id": "s-2"}))
    request = car.ask(0.1)
    assert len(request.images) == 1
    assert (request.command.id, request.cruise_mps) == ("c1", 0.7)
    assert car.answer(request).plan.session_id == "s-2"


def test_a_stop_drops_the_command():
    car = Car()
    car.say("faster")
    car.session.drop_command()
    assert car.ask().command is None


def test_speed_and_doing_come_from_the_frame():
    car = Car()
    frame = Frame(session_id="s-1", seq=9, t_capture_ns=0, ego=EgoState(speed_mps=0.4), truth={"a": 1})
    request = car.session.request(frame, IMAGE, car.now_ns)
    assert (request.ego.speed_mps, request.truth) == (0.4, {"a": 1})


@pytest.mark.parametrize(
    ("ends", "meanwhile", "times"), [(Verdict.DONE, Verdict.ACCEPTED, 1), (Verdict.REFUSED, Verdict.WAITING, 4)]
)
def test_a_seeing_backend_must_say_again_that_a_command_ends(ends, meanwhile, times):
    """Answers come every half second: "done" counts when said twice, "refused" when said for two seconds."""
    car = Car(confirm=True)
    car.say("change left")
    assert car.turn(ends).plan.verdict.verdict is meanwhile
    assert car.turn(Verdict.ACCEPTED).plan.verdict.verdict is Verdict.ACCEPTED
    for _ in range(times):
        assert car.turn(ends).plan.verdict.verdict is meanwhile
    assert car.turn(ends).plan.verdict.verdict is ends
    assert car.ask().command is None


def test_an_unconfirmed_end_does_not_change_the_cruise():
    car = Car(confirm=True)
    car.say("faster")
    car.turn(Verdict.ACCEPTED, v_mps=1.68)
    car.turn(Verdict.DONE, v_mps=1.68)
    assert car.session.cruise_mps == pytest.approx(1.2)
    car.turn(Verdict.DONE, v_mps=1.68)
    assert car.session.cruise_mps == pytest.approx(1.68)


BESIDE = [{"kind": "car", "lane": 1, "distance_m": 1.0}]
AHEAD = [{"kind": "car", "lane": 0, "distance_m": 1.0}]
OVERTAKING = (Verdict.ACCEPTED, Intent.OVERTAKE_LEFT)


def test_a_lane_where_something_was_just_seen_is_not_entered():
    car = Car(confirm=True)
    car.turn(actors=BESIDE)
    car.say("overtake on the left")
    refused = car.turn(*OVERTAKING, actors=AHEAD)  # it is beside the car now, out of the picture
    assert refused.plan is None
    assert refused.problems == ("left lane is occupied: car at 1.0 m, 0.5 s ago",)
    request = car.ask()
    assert request.command is None  # so that there is a plan that follows the lane meanwhile
    plan = car.answer(request, actors=AHEAD).plan
    assert (plan.verdict.verdict, plan.verdict.command_id) == (Verdict.WAITING, "c1")
    assert "left lane is occupied" in plan.verdict.reason


def test_a_lane_that_has_been_free_for_a_while_is_entered():
    car = Car(confirm=True)
    car.turn(actors=BESIDE)
    car.say("overtake on the left")
    car.turn(*OVERTAKING, actors=AHEAD)
    for _ in range(4):
        request = car.ask()
        if request.command is not None:
            break
        car.answer(request, actors=AHEAD)
    car.now_s += 1.5
    plan = car.turn(*OVERTAKING, actors=AHEAD).plan
    assert plan.verdict.verdict is Verdict.ACCEPTED


def test_what_is_far_ahead_there_is_no_objection():
    car = Car(confirm=True)
    car.say("change left")
    assert car.turn(Verdict.ACCEPTED, Intent.CHANGE_LEFT, actors=[{"kind": "car", "lane": 1, "distance_m": 2.0}]).plan


def test_an_overtaking_needs_more_room_than_a_change_of_lane():
    car = Car(confirm=True)
    car.say("overtake on the left")
    both = [{"kind": "car", "lane": 0, "distance_m": 1.0}, {"kind": "car", "lane": 1, "distance_m": 3.0}]
    assert car.turn(*OVERTAKING, actors=both).plan is None
    far = [{"kind": "car", "lane": 0, "distance_m": 1.0}, {"kind": "car", "lane": 1, "distance_m": 3.5}]
    other = Car(confirm=True)
    other.say("overtake on the left")
    assert other.turn(*OVERTAKING, actors=far).plan


def test_once_over_the_line_the_manoeuvre_goes_on():
    car = Car(confirm=True)
    car.say("overtake on the left")
    car.turn(*OVERTAKING, lane=0, actors=AHEAD)
    lead = [{"kind": "car", "lane": 2, "distance_m": 0.5}]
    assert car.turn(*OVERTAKING, lane=1, actors=lead).plan


def test_a_newer_command_is_not_held_back_by_the_old_ones_reason():
    car = Car(confirm=True)
    car.say("overtake on the left")
    assert car.turn(*OVERTAKING, actors=BESIDE).plan is None
    car.say("stop", id="c2")
    assert car.ask().command.id == "c2"


def test_the_expert_needs_no_lookout():
    car = Car(confirm=False)
    car.say("overtake on the left")
    assert car.turn(*OVERTAKING, actors=BESIDE).plan


def test_a_plan_too_fast_for_what_a_model_says_is_ahead_goes_out_slower():
    lead = [{"kind": "car", "lane": 0, "distance_m": 0.5}]
    outcome = Car(confirm=True).turn(v_mps=2.5, actors=lead)
    assert all(0.5 < w.v_mps < 1.3 for w in outcome.plan.waypoints) and outcome.plan.reasoning == "words"
    assert "slowed" in outcome.problems[0]
    # A backend that knows the truth knows the other's speed as well.
    assert Car().turn(v_mps=2.5, actors=lead).plan.waypoints[0].v_mps == 2.5

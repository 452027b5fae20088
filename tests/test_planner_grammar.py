"""The plan grammar: what is written is read back, what is no plan is named, what decoding allows can be parsed."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.messages import Intent, VehicleProfile, Verdict, Waypoint
from bridge.planning import PlanAnswer
from planner.grammar import (
    ACTIONS,
    ACTOR_KINDS,
    BENDS,
    POSITIONS,
    REASONS,
    SEGMENTS,
    Chain,
    GrammarError,
    answer_regex,
    chain_from_waypoints,
    parse_answer,
    parse_facts,
    render_answer,
    render_facts,
    waypoints_from_chain,
)
from sims.facts import describe

PROFILE = VehicleProfile()
GOOD = "Nothing to see.\nintent stop none\npath 0 1 2 3 4 5 -6 -180\nspeed 0.0 10.5"
ANSWER_RE, FREE_RE = re.compile(answer_regex()), re.compile(answer_regex(free=True))

actors = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(ACTOR_KINDS),
        "lane": st.integers(0, 9),
        "distance_m": st.integers(0, 199).map(lambda n: n / 2),
    }
)
facts_dicts = st.fixed_dictionaries(
    {
        "lane_count": st.integers(1, 9),
        "lane": st.integers(0, 9),
        "position": st.sampled_from(POSITIONS),
        "bend": st.sampled_from(BENDS),
        "actors": st.lists(actors, max_size=2),
    }
)
speeds = st.integers(0, 999).map(lambda n: n / 10)
chains = st.builds(Chain, st.tuples(*[st.integers(-179, 180)] * SEGMENTS), first_mps=speeds, last_mps=speeds)
profiles = st.floats(0.05, 4.0).map(lambda w: VehicleProfile(wheelbase_m=w))


@st.composite
def answers(draw):
    verdict = draw(st.sampled_from([None, *Verdict]))
    told = verdict in (Verdict.WAITING, Verdict.REFUSED)
    return PlanAnswer(
        intent=draw(st.sampled_from(Intent)),
        waypoints=waypoints_from_chain(draw(chains), PROFILE),
        reasoning="",
        verdict=verdict,
        verdict_reason=draw(st.sampled_from(REASONS)) if told else "",
        extra={"facts": draw(facts_dicts), "action": draw(st.sampled_from(ACTIONS))},
    )


@given(answers())
def test_an_answer_is_read_back_as_it_was_written(answer):
    text = render_answer(answer, PROFILE)
    read = parse_answer(text, PROFILE)
    assert (read.intent, read.verdict, read.verdict_reason) == (answer.intent, answer.verdict, answer.verdict_reason)
    assert read.extra["facts"] == answer.extra["facts"]
    assert read.extra["action"] == answer.extra["action"]
    assert read.lane == answer.extra["facts"]["lane"]
    for a, b in zip(read.waypoints, answer.waypoints, strict=True):
        assert (a.x_m, a.y_m, a.v_mps) == pytest.approx((b.x_m, b.y_m, b.v_mps), abs=1e-6)
    assert ANSWER_RE.fullmatch(text) and FREE_RE.fullmatch(text)


@given(chains, profiles)
def test_a_chain_survives_its_waypoints(chain, profile):
    assert chain_from_waypoints(waypoints_from_chain(chain, profile), profile) == chain


@given(facts_dicts, st.sampled_from(ACTIONS))
def test_facts_are_said_as_the_expert_says_them(facts, action):
    said = render_facts(facts, action)
    assert said == describe(facts, action)
    assert parse_facts(said) == (facts, action)


@given(st.text(max_size=300) | st.text("intpahsed 0123456789.-\n:", max_size=200))
def test_any_text_is_a_plan_or_a_grammar_error(text):
    try:
        parse_answer(text, PROFILE)
    except GrammarError as error:
        assert str(error)


@given(st.from_regex(answer_regex(), fullmatch=True))
def test_whatever_decoding_allows_can_be_parsed(text):
    assert parse_answer(text, PROFILE).extra["facts"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "no line 'intent"),
        ("Just words.", "no line 'intent"),
        (GOOD.replace("stop none", "fly none"), "intent line"),
        (GOOD.replace("stop none", "stop perhaps"), "intent line"),
        (GOOD.replace(" -180", ""), "path line"),
        (GOOD.replace("-180", "-181"), "path line"),
        (GOOD.replace("-180", "1.5"), "path line"),
        (GOOD.replace("10.5", "10"), "speed line"),
        (GOOD.replace("10.5", "-1.0"), "speed line"),
        (GOOD.rpartition("\n")[0], "expected speed"),
        (GOOD + "\nand more", "text after the plan"),
        ("x" * 5000, "characters"),
    ],
)
def test_a_fault_is_named(text, named):
    with pytest.raises(GrammarError, match=re.escape(named)):
        parse_answer(text, PROFILE)


def test_words_of_larger_models_are_taken():
    read = parse_answer("I see a wet road,\nand a cat.\n" + GOOD.replace("none", "refused: a cat sits there"), PROFILE)
    assert read.verdict is Verdict.REFUSED
    assert read.verdict_reason == "a cat sits there"
    assert read.lane is None and "facts" not in read.extra


def test_an_uneven_path_is_walked_in_chords():
    """A quarter circle of radius 3 m, densely sampled, then straight on: every chord starts on the path."""
    arc = [(3 * math.sin(a), 3 - 3 * math.cos(a)) for a in (k * math.pi / 60 for k in range(1, 31))]
    points = tuple(Waypoint(x_m=x, y_m=y, v_mps=1.0) for x, y in arc)
    chain = chain_from_waypoints(points, PROFILE)
    walked = waypoints_from_chain(chain, PROFILE)
    for w in walked:
        assert abs(math.hypot(w.x_m, w.y_m - 3) - 3) < 0.03
    assert chain.headings_deg[0] == pytest.approx(math.degrees(math.asin(0.25 / 3)), abs=1)


def test_a_path_shorter_than_the_chain_goes_on_straight():
    chain = chain_from_waypoints([Waypoint(x_m=0.1, y_m=0.1, v_mps=0.0)], PROFILE)
    assert chain.headings_deg == (45,) * SEGMENTS


@pytest.mark.parametrize("points", [(), ((0.0, 0.0, 1.0),), ((0.5, 0.0, 100.0),)])
def test_what_cannot_be_written_is_refused(points):
    with pytest.raises(GrammarError):
        chain_from_waypoints([Waypoint(x_m=x, y_m=y, v_mps=v) for x, y, v in points], PROFILE)


@pytest.mark.parametrize("change", [{"bend": "wavy"}, {"lane": 12}, {"position": "middle"}])
def test_facts_out_of_range_are_refused(change):
    facts = {"lane_count": 2, "lane": 0, "position": "left", "bend": "straight", "actors": []} | change
    with pytest.raises(GrammarError):
        render_facts(facts, "keeping my lane")
    facts.pop("position")
    with pytest.raises(GrammarError, match="missing 'position'"):
        render_facts(facts, "keeping my lane")

"""What `pacenote drive` says and judges, without processes: unsent plans, the narrator, commands judged from truth."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from bridge.planning import Instruction
from cockpit.runs import Run, RunWriter
from tests.kinematic_world import oval, truth_at
from training.drive_scene import DriveSettings, make_scene
from training.simulate import Narrator, UnsentPlans
from training.simulated_car import CommandJudge


@pytest.fixture
def told(tmp_path):
    out = io.StringIO()
    with RunWriter(tmp_path / "run", name="t") as writer:
        yield writer, Narrator(writer, Console(file=out, width=200)), out


def test_unsent_plans_are_told_once_and_torn_lines_wait(told):
    writer, narrator, out = told
    path = writer.folder / "planner.jsonl"
    unsent = UnsentPlans(path, narrator)
    unsent.look()
    refused = json.dumps({"guard": ["no lane there"], "seq": None}) + "\n"
    path.write_text(refused + refused + json.dumps({"guard": [], "seq": 1}) + "\n" + refused[:9])
    unsent.look()
    assert out.getvalue().count("no lane there") == 1
    path.write_text(path.read_text() + refused[9:] + json.dumps({"error": "the model fell asleep"}) + "\n")
    unsent.look()
    assert out.getvalue().count("no lane there") == 2 and "fell asleep" in out.getvalue()


def test_narrator_prints_news_and_logs_everything(told):
    writer, narrator, out = told
    entry = {"t_s": 0.0, "intent": "follow_lane", "verdict": None, "reasoning": "All is well.", "waypoints": []}
    for k in range(10):
        narrator.plan({**entry, "t_s": 0.1 * k, "seq": k})
    narrator.plan({**entry, "t_s": 1.1, "seq": 11, "intent": "stop"})
    assert out.getvalue().count("All is well.") == 2
    assert len(Run(writer.folder).plans()) == 11


def judge(kind, truths, lanes=2):
    road = oval(lanes)
    scene = make_scene(DriveSettings(lanes=lanes))
    first = truth_at(road, 0.0, -0.4, actors=truths[0])
    rule = CommandJudge("say", Instruction(kind), 3.0, 15.0, first, replace(scene, road=road))
    for k in range(12 * 30):
        d = -0.4 + min(k / 60, 1.0) * 0.8 * (kind != "stop")
        speed = max(0.0, 1.0 - k / 30) if kind == "stop" else 1.0
        actors = truths[min(k // 60, len(truths) - 1)]
        rule.observe(replace(truth_at(road, k / 30, d, speed_mps=speed, actors=actors), t_s=k / 30))
    return rule.result()


def test_commands_are_judged_by_the_rules_of_the_scenarios():
    assert judge("change_left", [()])["obeyed"]
    assert judge("stop", [()])["obeyed"]
    assert not judge("change_right", [()])["obeyed"]
    passing = [(("car", 2.0, -0.4, 0.5),), (("car", 0.1, -0.4, 0.5),), (("car", -2.0, -0.4, 0.5),)]
    assert judge("overtake_left", passing)["obeyed"]
    assert not judge("overtake_left", [()])["obeyed"]  # nobody there to overtake

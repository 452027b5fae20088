"""Run folders: what is written is read back, also after a crash, while running, and with the planner's own lines."""

from __future__ import annotations

import json

import pytest

from bridge.messages import CommandVerdict, Intent, Plan, Timings, Verdict, Waypoint
from cockpit.logs import line_text, merged, summary
from cockpit.runs import Run, RunError, RunWriter, find_run, read_lines, write_json


def make_plan(seq: int = 0, **changes) -> Plan:
    fields = {
        "session_id": "s1",
        "seq": seq,
        "frame_seq": seq * 3,
        "t_capture_ns": 1000 + seq,
        "intent": Intent.OVERTAKE_LEFT,
        "waypoints": (Waypoint(x_m=0.0, y_m=0.0, v_mps=1.0), Waypoint(x_m=0.5, y_m=0.1, v_mps=1.2)),
        "reasoning": "The left lane is free [really].",
        "verdict": CommandVerdict(command_id="c1", verdict=Verdict.WAITING, reason="a car beside"),
        "timings": Timings(model_s=0.3, total_s=0.35),
    }
    return Plan(**{**fields, **changes})


def write_run(folder, plans=3, finish=True):
    writer = RunWriter(folder, name="test", settings={"seed": 7})
    for seq in range(plans):
        writer.plan(make_plan(seq), age_s=0.4 + seq, t_s=float(seq))
        writer.tick({"t_s": seq / 30, "speed_mps": 1.0 + seq, "mode": "fresh", "plan_age_s": None if seq == 0 else 0.5})
    writer.event("command", t_s=0.5, id="c1", text="左边超车")
    if finish:
        writer.finish({"ok": True})
    return writer


def test_finished_run_reads_back(tmp_path):
    write_run(tmp_path / "r")
    run = Run(tmp_path / "r")
    assert run.finished and run.meta["result"] == {"ok": True} and run.meta["settings"] == {"seed": 7}
    plans = run.plans()
    assert [p["seq"] for p in plans] == [0, 1, 2]
    assert plans[1]["frame"] == {"seq": 3, "t_capture_ns": 1001}
    assert plans[1]["age_on_arrival_s"] == 1.4 and plans[1]["verdict"]["verdict"] == "waiting"
    assert run.telemetry()["speed_mps"] == [1.0, 2.0, 3.0] and run.telemetry()["plan_age_s"] == [None, 0.5, 0.5]
    assert (tmp_path / "r" / "telemetry.parquet").is_file() and not (tmp_path / "r" / "telemetry.jsonl").exists()
    assert run.events()[0]["text"] == "左边超车"


def test_crashed_run_keeps_every_plan_and_torn_line_is_left_out(tmp_path):
    write_run(tmp_path / "r", finish=False)  # never closed: what a killed process leaves
    with open(tmp_path / "r" / "plans.jsonl", "a") as file:
        file.write('{"seq": 3, "inte')
    run = Run(tmp_path / "r")
    assert not run.finished
    assert [p["seq"] for p in run.plans()] == [0, 1, 2]
    assert run.meta["name"] == "test"


def test_planner_lines_are_joined_by_session_and_seq(tmp_path):
    folder = tmp_path / "r"
    writer = write_run(folder, finish=False)
    lines = [
        {"session_id": "s1", "seq": 1, "prompt": "P", "raw": "R", "guard": "ok", "frame": {"seq": 3}},
        {"session_id": "s1", "seq": None, "prompt": "Q", "guard": ["too fast"], "frame": {"seq": 4}},
        {"session_id": "s1", "seq": None, "prompt": "T", "guard": ["too fast"], "frame": {"seq": 4}},
        {"session_id": "other", "seq": 2, "prompt": "X", "frame": {"seq": 5}},
    ]
    (folder / "planner.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    before = Run(folder).plans()
    writer.finish()
    after = Run(folder).plans()
    assert before == after and len(after) == 6 and not (folder / "planner.jsonl").exists()
    joined = next(p for p in after if p["seq"] == 1)
    assert joined["prompt"] == "P" and joined["age_on_arrival_s"] == 1.4
    assert [p["prompt"] for p in after if p["age_on_arrival_s"] is None] == ["Q", "T", "X"]


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    write_run(tmp_path / "r")
    with pytest.raises(RunError, match="already holds a run"):
        RunWriter(tmp_path / "r")


def test_write_json_leaves_no_half_file(tmp_path):
    target = tmp_path / "deep" / "x.json"
    write_json(target, {"a": 1})
    with pytest.raises((TypeError, ValueError)):
        write_json(target, {("not", "a", "key"): 1})
    assert json.loads(target.read_text()) == {"a": 1}


def test_find_run_latest_by_name_and_hint(tmp_path):
    with pytest.raises(RunError, match="pacenote drive"):
        find_run(None, tmp_path)
    write_run(tmp_path / "20260101-drive")
    assert find_run(None, tmp_path).folder.name == "20260101-drive"
    assert find_run("20260101-drive", tmp_path).folder.name == "20260101-drive"
    with pytest.raises(RunError, match="did you mean .*20260101-drive"):
        find_run("20260101-drvie", tmp_path)
    with pytest.raises(RunError, match="not a run folder"):
        find_run(tmp_path, tmp_path)


def test_follow_gives_everything_once_in_order(tmp_path):
    write_run(tmp_path / "r")
    entries = list(Run(tmp_path / "r").follow())
    assert [e["t_s"] for e in entries] == [0.0, 0.5, 1.0, 2.0]


def test_log_lines_are_readable_and_markup_in_reasoning_is_harmless(tmp_path):
    write_run(tmp_path / "r")
    run = Run(tmp_path / "r")
    from rich.text import Text

    lines = [Text.from_markup(line_text(e)).plain for e in merged(run.plans(), run.events())]
    assert "overtake_left · waiting (a car beside)" in lines[0] and "[really]" in lines[0]
    assert "“左边超车”" in lines[1]
    assert summary(run.plans())["plans"] == 3 and summary(run.plans())["rate_hz"] == 1.0


def test_read_lines_of_nothing(tmp_path):
    assert read_lines(tmp_path / "none.jsonl") == []

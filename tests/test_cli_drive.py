"""`pacenote drive` for real, and short: three processes, sockets, run folder, film, result."""

from __future__ import annotations

import json

import av
import pytest
from typer.testing import CliRunner

import pacenote
from cockpit.runs import Run
from training.drive_scene import DriveSettings
from training.processes import ProcessError
from training.simulate import drive


def test_short_drive_leaves_a_run_that_can_be_read(tmp_path):
    folder = tmp_path / "run"
    arguments = ["drive", "--planner", "expert", "--controller", "pursuit", "--seconds", "4", "--keep-frames"]
    arguments += ["--say", "0.5: 左边超车", "--run", str(folder), "--json", str(tmp_path / "result.json")]
    ended = CliRunner().invoke(pacenote.app, arguments)
    assert ended.exit_code == 0, ended.output
    assert (
        "operator  “左边超车”" in ended.output
        and "verdict" in ended.output
        and "stayed on the road  yes" in ended.output
    )
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["success"] and result["driven_m"] > 0.5
    assert [c["kind"] for c in result["commands"]] == ["overtake_left"]
    run = Run(folder)
    assert run.finished and run.meta["result"] == result
    plans = [p for p in run.plans() if p.get("t_s") is not None]
    assert plans and all(p["frame"]["t_capture_ns"] and p["age_on_arrival_s"] > 0 and "cruise_mps" in p for p in plans)
    assert any((p.get("command") or {}).get("text") == "左边超车" for p in plans)
    assert {e["event"] for e in run.events()} >= {"driving", "command", "ack", "verdict"}
    rows = run.telemetry()
    assert len(rows["tick"]) > 20 and not any(rows["collision"])
    with av.open(str(folder / "front.mp4")) as film:
        pictures = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(pictures) == len(list((folder / "frames").glob("*.jpg"))) and pictures[0].std() > 10


def test_a_planner_that_does_not_start_is_told_with_its_words(tmp_path):
    with pytest.raises(ProcessError, match="is_no_model"):
        drive(DriveSettings(planner=str(tmp_path / "is_no_model"), controller="pursuit"), tmp_path / "run")

"""docs/add-a-world.md by doing it: a stranger's package (tests/stranger) adds a world; nothing of ours knows it."""

from __future__ import annotations

import json
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import CliRunner

import pacenote
from sims import worlds
from sims.worlds import GROUP, WORLDS, find_world

STRANGER = Path(__file__).parent / "stranger"
DOC = Path(__file__).parent.parent / "docs" / "add-a-world.md"
RUNNER = CliRunner()


@pytest.fixture
def installed(monkeypatch):
    """As if the package were installed: its folder on the path, its entry points known."""
    project = tomllib.loads((STRANGER / "pyproject.toml").read_text())["project"]
    points = [EntryPoint(name, value, GROUP) for name, value in project["entry-points"][GROUP].items()]
    monkeypatch.setattr(worlds, "entry_points", lambda group: points if group == GROUP else [])
    monkeypatch.syspath_prepend(str(STRANGER))
    monkeypatch.setenv("PYTHONPATH", f"{STRANGER}:{STRANGER.parent.parent}")  # for the import check's own process
    yield
    for module in ("bicycle_spec", "bicycle_world"):
        sys.modules.pop(module, None)


def test_the_world_is_found_by_its_name(installed):
    assert "bicycle" in WORLDS and find_world("bicycle").about.startswith("a kinematic bicycle")
    assert "bicycle_world" not in sys.modules


def test_it_passes_the_conformance_check(installed, tmp_path):
    file = tmp_path / "checks.json"
    ended = RUNNER.invoke(pacenote.app, ["worlds", "check", "bicycle", "--json", str(file)])
    assert ended.exit_code == 0, ended.output
    outcomes = {c["name"]: c["outcome"] for c in json.loads(file.read_text())["checks"]}
    assert outcomes["import"] == "pass" and outcomes["rear_axle"] == "pass"
    assert {n for n, o in outcomes.items() if o == "skip"} == {"without_camera", "traffic", "camera"}


def test_the_suite_runs_in_it(installed, tmp_path):
    file = tmp_path / "report.json"
    arguments = ["evaluate", "--world", "bicycle", "--suite", "follow_lane,stop,change_left,overtake_left"]
    ended = RUNNER.invoke(pacenote.app, [*arguments, "--episodes", "6", "--json", str(file)])
    assert ended.exit_code == 0, ended.output
    report = json.loads(file.read_text())
    assert report["world"] == "bicycle" and report["summary"]["success_rate"] == 1.0
    assert set(report["skipped"]) == {"overtake_left"} and "overtake_left left out" in ended.output


def test_a_film_needs_a_camera(installed):
    ended = RUNNER.invoke(pacenote.app, ["drive", "--world", "bicycle"])
    assert ended.exit_code != 0 and "no forward camera" in str(ended.exception)


def test_the_document_shows_the_code_that_is_tested():
    text = DOC.read_text(encoding="utf-8")
    assert "tests/stranger" in text and 'bicycle = "bicycle_spec:SPEC"' in text
    body = (STRANGER / "bicycle_world.py").read_text().split("class BicycleWorld")[1]
    assert body.strip() in text, "docs/add-a-world.md shows another BicycleWorld than tests/stranger"

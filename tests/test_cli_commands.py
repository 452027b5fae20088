"""The front door: names, hints, errors in one line, JSON files, and that `--help` loads nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import pacenote
from bridge.keys import load, load_public
from bridge.link import PlannerIo, PlannerLink
from bridge.messages import CommandAck, Welcome
from training.drive_scene import DEFAULT_SAY, DriveError, DriveSettings, make_scene, parse_say
from training.report import read_phrasings
from training.suite import EvaluationError, parse_delay

runner = CliRunner()
COMMANDS = ("drive", "say", "stop", "logs", "replay", "train", "export", "evaluate", "bench", "doctor", "keys")


def run(*arguments: str, monkeypatch):
    """Exit code of `pacenote ARGUMENTS`, with main()'s error handling."""
    monkeypatch.setattr(sys, "argv", ["pacenote", *arguments])
    with pytest.raises(SystemExit) as ended:
        pacenote.main()
    return ended.value.code


def test_help_names_every_command_and_imports_nothing_heavy():
    code = (
        "import sys, pacenote\n"
        "sys.argv = ['pacenote', '--help']\n"
        "try: pacenote.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'torch', 'cv2', 'zmq', 'pydantic', 'transformers', 'numba'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert command in done.stdout


def test_unknown_command_comes_with_a_hint():
    result = runner.invoke(pacenote.app, ["evalute"])
    assert result.exit_code == 2 and "evaluate" in result.output


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["doctor", "--for", "kar"], "did you mean 'car'"),
        (["drive", "--world", "trak"], "did you mean 'track'"),
        (["evaluate", "--suite", "overtke_left", "--episodes", "1"], "did you mean 'overtake_left'"),
        (["evaluate", "--planner", "expret", "--episodes", "1"], "did you mean 'expert'"),
        (["evaluate", "--delay-ms", "soon"], "give milliseconds"),
        (["evaluate", "--track", "nowhere.csv", "--episodes", "1"], "nowhere.csv"),
        (["drive", "--say", "overtake"], "write seconds, a colon"),
        (["logs", "nothing-of-that-name"], "no run at"),
        (["replay", "nowhere"], "no recording at"),
        (["replay", "nowhere", "--planner", "expert"], "needs the truth"),
        (["stop", "--planner", "nonsense"], "nonsense"),
        (["say", "hello", "--planner", "tcp://127.0.0.1:9", "--keys", "nowhere"], "nowhere"),
        (["planner", "serve", "--planner", "expert", "--bind", "tcp://0.0.0.0:0"], "keys"),
        (["car", "drive", "--car", "nowhere.yaml"], "nowhere.yaml"),
        (["bench", "--only", "nothing-of-that-name"], "no benchmark"),
    ],
)
def test_errors_are_one_clear_line(arguments, words, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments, monkeypatch=monkeypatch) == 1
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said, said


def test_keys_makes_pairs_and_allows(tmp_path, monkeypatch, capsys):
    assert run("keys", str(tmp_path / "s"), "--name", "planner", monkeypatch=monkeypatch) == 0
    assert run("keys", str(tmp_path / "c"), "--name", "car", monkeypatch=monkeypatch) == 0
    public = tmp_path / "c" / "car.key"
    assert run("keys", str(tmp_path / "s"), "--allow", str(public), monkeypatch=monkeypatch) == 0
    assert load_public(tmp_path / "s" / "allowed" / "car.key") == load(tmp_path / "c", "car").public
    assert run("keys", str(tmp_path / "s"), "--name", "planner", monkeypatch=monkeypatch) == 1
    assert "is there already" in capsys.readouterr().err


def test_doctor_writes_what_it_finds(tmp_path, monkeypatch):
    monkeypatch.setattr("cockpit.doctor.PACKAGES", {"pydantic": ("pydantic", ""), "nonsuch": ("nonsuch_x", "car")})
    target = tmp_path / "doctor.json"
    result = runner.invoke(pacenote.app, ["doctor", "--for", "car", "--json", str(target)])
    found = json.loads(target.read_text())
    assert result.exit_code == 1 and not found["ok"] and '".[car]"' in found["mend"]
    levels = {f["what"]: f["level"] for f in found["findings"]}
    assert levels["pydantic"] == "ok" and levels["nonsuch"] == "lack"


def test_say_and_stop_reach_a_planner_and_tell_when_no_car_is_there():
    link = PlannerLink()
    endpoint = link.bind("tcp://127.0.0.1:0")
    hello = lambda car_id, hello: Welcome(session_id=hello.session_id, model="m", rate_hz=1.0)  # noqa: E731
    with PlannerIo(link, on_hello=hello, on_command=lambda c: CommandAck(id=c.id, accepted=True)):
        said = runner.invoke(pacenote.app, ["say", "stop", "--planner", endpoint, "--wait", "0"])
        stopped = runner.invoke(pacenote.app, ["stop", "--planner", endpoint])
    assert said.exit_code == 1 and "not taken in" in said.output
    assert stopped.exit_code == 1 and "not stopped" in stopped.output


def test_timeline_is_parsed():
    assert parse_say("2: overtake on the left") == (2.0, "overtake on the left")
    assert parse_say("1.5:左边超车: 快") == (1.5, "左边超车: 快")
    assert len([parse_say(text) for text in DEFAULT_SAY]) == 3
    for bad in ("overtake", "-1: stop", "2:", "x: stop"):
        with pytest.raises(DriveError):
            parse_say(bad)


def test_scene_is_the_same_for_the_same_seed():
    a, b = make_scene(DriveSettings()), make_scene(DriveSettings())
    assert a.road.lane_count == 2 and a.actors == b.actors and (a.road.x_m == b.road.x_m).all()


def test_evaluate_words(tmp_path):
    assert parse_delay("measured") == "measured" and parse_delay("500") == 500.0
    file = tmp_path / "phrasings.yaml"
    file.write_text("stop: [halt, 停]\n", encoding="utf-8")
    assert read_phrasings(file) == {"stop": ["halt", "停"]}
    for bad in ("[]", "stop: halt", "stop: []", "{"):
        file.write_text(bad)
        with pytest.raises(EvaluationError, match="phrasings"):
            read_phrasings(file)

"""`pacenote validate` end to end: worlds stand in where speed matters, and one run is real."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from rich.console import Console

import pacenote
from car.admission import admit
from controller.certificate import CertificateError, read_certificate
from controller.onnx_policy import BundleError
from controller.policies import FLOW_BUNDLE
from controller.signing import own_signer
from sims.track.spec import SPEC
from sims.world import WorldError
from tests import killed_job
from tests.kinematic_car import PROFILE
from tests.test_controller_bundle import bundle
from tests.test_gate_figures import TRUTH
from training.gate import run as gate_run
from training.gate.settings import GateError, GateSettings, Limits
from training.gate.validate import check, validate, write_certificate

SETTINGS = GateSettings(
    worlds=("other",), required_worlds=("other",), suite="stop,faster", episodes=20, seeds=(0, 1), strips=2,
    train=Limits(success_at_least=0.7), others=Limits(success_at_least=0.5, collision_at_most=0.3),
)  # fmt: skip


class Other:
    """World `other` for the registry, and what the bundle's episodes are like in it."""

    def __init__(self):
        self.lacking = None
        self.success = {"track": 1.0, "other": 0.9}
        self.error: Exception | None = None
        self.ran: list[tuple] = []
        self.meanwhile = lambda: None

    def evaluate(self, settings, backend, *, on_episode, watch):
        """Stands in for training.evaluate.evaluate: every tenth episode is a failure where the share is 0.9."""
        self.ran.append((settings.world, Path(settings.controller).stem, settings.seed))
        if self.error is not None and settings.world == "other":
            raise self.error
        self.meanwhile()
        image = np.full((1, 120, 160, 3), 90, np.uint8)
        batch = SimpleNamespace(truth=lambda slot: TRUTH, render=lambda which: image)
        for k in range(settings.episodes):
            name, seed = settings.suite.split(",")[k % 2], 100 * settings.seed + k
            good = settings.controller == "pursuit" or (k + 1) / settings.episodes <= self.success[settings.world]
            controller = SimpleNamespace(plan=None)
            episode = SimpleNamespace(seed=seed, controller=controller, last_verdict=("accepted", "why"))
            for tick in range(1, 40):
                watch(tick, episode, batch, 0)
            on_episode(
                {"scenario": name, "seed": seed, "track": "r", "success": good, "reason": "so", "collision": False,
                 "off_road": not good, "plans": 3}
            )  # fmt: skip
        return {"skipped": {"keep_left": "one lane only"}}


@pytest.fixture
def other(monkeypatch, tmp_path):
    """A second world, the user's folder elsewhere, and no real driving."""
    world = Other()
    spec = replace(SPEC, name="other", missing=lambda: world.lacking)
    monkeypatch.setattr("sims.worlds.OURS", ("track", "other"))
    monkeypatch.setitem(sys.modules, "sims.other.spec", SimpleNamespace(SPEC=spec))
    monkeypatch.setattr(gate_run, "evaluate", world.evaluate)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return world


@pytest.fixture
def path(tmp_path) -> Path:
    return bundle(tmp_path / "tiny.onnx")


def run(path, settings=SETTINGS, **options) -> dict:
    return validate(path, settings, console=Console(quiet=True), **options)


def test_a_bundle_that_passes_may_drive(other, path, tmp_path):
    path.chmod(0o640)
    with pytest.raises(CertificateError, match="no certificate"):
        admit(str(path), PROFILE)
    report = run(path, out=tmp_path / "out")
    assert report["passed"] and report["reasons"] == []
    assert len(other.ran) == 8 and ("other", "pursuit", 1) in other.ran
    certificate = read_certificate(path.read_bytes())
    assert certificate.passed and certificate.worlds == ("track", "other") and certificate.seeds == (0, 1)
    assert certificate.thresholds["others"] == {"success_at_least": 0.5, "collision_at_most": 0.3}
    assert len(certificate.table) == 10 and json.loads(json.dumps(report))["table"] == list(certificate.table)
    admission = admit(str(path), PROFILE)
    assert admission.doubt is None and admission.certificate["worlds"] == ("track", "other")
    assert check(path, Console(quiet=True)) and path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".part"] == []


def test_report_and_pictures(other, path, tmp_path):
    other.success["other"] = 0.5
    run(path, out=tmp_path / "out")
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"report.json", "table.md", "gap.png", "scenarios.png", "strips-track.jpg", "strips-other.jpg"}
    table = (tmp_path / "out" / "table.md").read_text()
    assert table.startswith("# tiny: not passed") and "| other | success [%] | 50.0 (" in table
    assert "Not shown in other, tiny: keep_left: one lane only" in table
    for name in ("gap.png", "scenarios.png", "strips-other.jpg"):
        picture = cv2.imread(str(tmp_path / "out" / name))
        assert picture.shape[0] > 150 and picture.std() > 5.0
    strips = cv2.imread(str(tmp_path / "out" / "strips-other.jpg"))
    assert strips.shape[0] > 1.8 * cv2.imread(str(tmp_path / "out" / "strips-track.jpg")).shape[0], "two failures, one"
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["by_scenario"]["other"]["policy"]["stop"] == {"n": 20, "success": 0.5}


def test_an_honest_refusal(other, path):
    other.success["other"] = 0.4
    report = run(path)
    assert not report["passed"] and "other: success_at_least 0.5" in report["reasons"][0]
    certificate = read_certificate(path.read_bytes())
    assert not certificate.passed and certificate.reasons == tuple(report["reasons"])
    with pytest.raises(CertificateError, match="did not pass the gate: other: success_at_least"):
        admit(str(path), PROFILE)
    assert admit(str(path), PROFILE, uncertified=True).doubt.startswith("it did not pass")
    other.success["other"] = 0.9
    assert run(path)["passed"], "a later validation replaces the certificate"
    assert admit(str(path), PROFILE).doubt is None


def test_the_command(other, path, monkeypatch, capsys, tmp_path):
    config = tmp_path / "gate.yaml"
    config.write_text("suite: stop,faster\nrequired_worlds: []\ntrain: {success_at_least: 0.7}\n")
    words = ["pacenote", "validate", str(path), "--worlds", "other", "--config", str(config), "--json", "result.json"]
    for share, code in ((1.0, 0), (0.2, 1)):
        other.success["track"] = share
        monkeypatch.setattr(sys, "argv", [*words, "--episodes", "20", "--seeds", "3", "--jobs", "1"])
        with pytest.raises(SystemExit) as ended:
            pacenote.main()
        assert ended.value.code == code
        assert json.loads(Path("result.json").read_text())["passed"] is (code == 0)
    assert "NOT PASSED" in capsys.readouterr().out and {seed for *_, seed in other.ran} == {3}
    for extra, says in ((["--worlds", "othr"], "did you mean 'other'"), (["--seeds", "x"], "whole numbers")):
        monkeypatch.setattr(sys, "argv", [*words, *extra])
        with pytest.raises(SystemExit) as ended:
            pacenote.main()
        assert ended.value.code == 1 and says in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["pacenote", "validate", str(path), "--check"])
    with pytest.raises(SystemExit) as ended:
        pacenote.main()
    assert ended.value.code == 1 and "did not pass" in capsys.readouterr().err


def test_a_world_that_is_not_here(other, path):
    other.lacking = "not installed; run: make other"
    before = path.read_bytes()
    with pytest.raises(GateError, match=r"other: not installed; run: make other.*--allow-missing"):
        run(path)
    assert path.read_bytes() == before and other.ran == []
    report = run(path, allow_missing=True)
    assert not report["passed"] and "other is required and was not checked: not installed" in report["reasons"][0]
    found = read_certificate(path.read_bytes())
    assert found.unchecked == {"other": "not installed; run: make other"} and found.worlds == ("track",)
    alone = run(path, SETTINGS.model_copy(update={"required_worlds": ()}), allow_missing=True)
    assert alone["reasons"] == ["checked in no other world than track, where it was trained"]
    with pytest.raises(GateError, match="other: not installed"):
        run(path, SETTINGS.model_copy(update={"worlds": ("track",)}), train_world="other", allow_missing=True)


def test_a_simulator_that_breaks_leaves_the_bundle_alone(other, path):
    before = path.read_bytes()
    other.error = WorldError("the simulator has ended: signal 9")
    with pytest.raises(WorldError, match="signal 9"):
        run(path)
    assert path.read_bytes() == before


def test_a_killed_process_leaves_the_bundle_alone(other, path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr(gate_run, "run_job", killed_job.run_job)
    with pytest.raises(GateError, match="killed"):
        run(path, SETTINGS.model_copy(update={"jobs": 2}))
    assert path.read_bytes() == before


def test_a_bundle_that_changes_meanwhile_gets_no_certificate(other, path, tmp_path):
    other.meanwhile = lambda: bundle(path, scale=0.25)
    with pytest.raises(CertificateError, match="changed while"):
        run(path)
    assert read_certificate(path.read_bytes()) is None


def test_writing_is_all_or_nothing(other, path, monkeypatch):
    report = run(path)
    before, signer = path.read_bytes(), own_signer()[0]
    certificate = read_certificate(before)

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr("training.gate.validate.os.replace", full)
    with pytest.raises(OSError, match="disk full"):
        write_certificate(path, certificate, signer)
    assert path.read_bytes() == before and report["passed"]
    assert [p for p in path.parent.iterdir() if p.name.endswith(".part")] == []


def test_what_cannot_be_validated(other, tmp_path):
    with pytest.raises(GateError, match="nothing to certify"):
        run("pursuit")
    with pytest.raises(BundleError, match="no such bundle"):
        run(tmp_path / "none.onnx")
    with pytest.raises(BundleError, match="no card"):
        run(bundle(tmp_path / "bare.onnx", card=None))
    assert other.ran == []


def test_really(monkeypatch, tmp_path):
    """The shipped bundle on one road, in processes of their own: too little to pass, and the certificate says so."""
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "flow.onnx"
    path.write_bytes(FLOW_BUNDLE.read_bytes())
    few = GateSettings(
        worlds=("track",), required_worlds=(), suite="stop", episodes=1, seeds=(4,), jobs=2,
        train=Limits(success_at_least=0.9),
    )  # fmt: skip
    report = run(path, few, out=tmp_path / "out")
    assert not report["passed"] and "success_at_least" in report["reasons"][0]
    (episode,) = report["episodes"]["track"]["policy"]
    assert 0.0 < episode["lateral_error_m"] < 0.4 and 0.5 < episode["jerk_mps3"] < 30.0
    assert (tmp_path / "out" / "strips-track.jpg").stat().st_size > 10_000
    with pytest.raises(CertificateError, match="did not pass"):
        admit(str(path), PROFILE)

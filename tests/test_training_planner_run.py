"""A very short run of the whole training leaves a folder that serves; it can be resumed; an adapter fits on it."""

import json

import numpy as np
import pytest

from bridge.messages import Doing, EgoState, VehicleProfile
from bridge.planning import CommandInForce, PlanAnswer, PlanRequest
from planner.backends.transformers_backend import TransformersBackend
from training.planner.check_reasoning import check_reasoning
from training.planner.scenes import SceneSource
from training.planner.settings import PlannerTrainSettings
from training.planner.train import train_planner

TINY = {
    "compile": False,
    "see_share": 0.4,
    "see_batch": 4,
    "scenes_per_step": 2,
    "extra_scenes": 2,
    "driven_share": 0.0,
    "evaluation_scenes": 3,
    "text_layers": 1,
    "vision_depth": 1,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    base = tmp_path_factory.mktemp("train")
    places = {"out": base / "model", "work": base / "work", "log_dir": base / "log"}
    settings = PlannerTrainSettings(minutes=0.05, **places, **TINY)
    return settings, train_planner(settings)


def request():
    image = np.zeros((120, 160, 3), np.uint8)
    command = CommandInForce("c", "overtake on the left", 1.0, 0)
    return PlanRequest((image, image), EgoState(), Doing(), VehicleProfile(), 1.2, command)


def test_a_run_leaves_a_folder_that_answers(trained):
    settings, folder = trained
    names = {p.name for p in folder.iterdir()}
    assert {"config.json", "generation_config.json", "processor_config.json", "chat_template.jinja"} <= names
    assert "planner-nano" in (folder / "README.md").read_text()
    assert all(p.stat().st_size < 15e6 for p in folder.iterdir())
    backend = TransformersBackend(folder, trained=True)
    assert isinstance(backend.plan([request()])[0], PlanAnswer)
    result = check_reasoning(backend, SceneSource(1, 3, VehicleProfile(), evaluation=True).scenes())
    assert result["frames"] == 3 and 0.0 <= result["agree"] <= 1.0
    table = (settings.log_dir / "planner-nano.csv").read_text().splitlines()
    assert table[0].startswith("stage,step") and any(line.startswith("speak,") for line in table)
    assert (settings.log_dir / "planner-nano.png").is_file()


def test_a_run_can_start_from_a_model(trained, tmp_path):
    settings, folder = trained
    places = {"out": tmp_path / "model", "work": tmp_path / "work", "log_dir": tmp_path / "log"}
    again = train_planner(settings.model_copy(update={"start_from": folder, "minutes": 0.03, **places}))
    assert (again / "config.json").is_file()


def test_a_run_can_be_resumed(trained):
    settings, folder = trained
    again = train_planner(settings.model_copy(update={"minutes": 0.06}), resume=True)
    assert again == folder


def test_nothing_to_resume_is_said(tmp_path):
    settings = PlannerTrainSettings(out=tmp_path / "m", work=tmp_path / "w", log_dir=tmp_path, minutes=0.01, **TINY)
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        train_planner(settings, resume=True)


def test_an_adapter_changes_the_language_model_only(trained, tmp_path):
    _, folder = trained
    settings = PlannerTrainSettings(
        out=tmp_path / "adapter", log_dir=tmp_path, minutes=0.02, lora=True, start_from=folder, **TINY
    )
    adapter = train_planner(settings)
    assert json.loads((adapter / "adapter_config.json").read_text())["peft_type"] == "LORA"
    TransformersBackend(adapter)  # refuses an adapter that reaches nothing or changes nothing
    with pytest.raises(ValueError, match="start_from"):
        train_planner(settings.model_copy(update={"start_from": None}))

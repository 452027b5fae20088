"""planner-nano adapted to another world: scenes, mirrors, the cache on disk, a very short training, loading."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bridge.messages import VehicleProfile
from bridge.names import UnknownName
from bridge.planning import Instruction, PlanAnswer
from planner.backends.adapters import weights_sha256
from planner.backends.transformers_backend import ModelError, TransformersBackend
from planner.prompt import render_prompt
from sims.expert import expert_answer
from sims.scenarios import make_scenario
from sims.world import WorldError
from sims.worlds import find_world
from tests.kinematic_world import oval, truth_at
from tests.planner_models import make_request, save_tiny
from training import backends
from training.planner.adapt import AdaptError, train_adapter
from training.planner.adapt_settings import AdaptSettings, load_adapt_settings
from training.planner.augment import mirrored, mirrored_truth, other_light
from training.planner.compare_adapters import GlancingBatch, markdown, wilson
from training.planner.elsewhere import ElsewhereSource
from training.planner.scene_cache import CacheSpec, SceneCacheError, fill, load

PROFILE = VehicleProfile()
SPEC = CacheSpec("track", ("random",), 20, 0, 0.5)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work") / "scenes"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.planner.scene_cache.SHARD", 12)
        return folder, fill(folder, SPEC)


@pytest.fixture(scope="module")
def scenes(cache):
    return list(load(cache[1]))


class TestScenes:
    """Expert driving by the contract of worlds, kept on disk."""

    def test_they_show_expert_driving_at_model_scale(self, scenes):
        assert len(scenes) >= SPEC.scenes
        assert all(s.frames.shape == (2, 112, 168, 3) and s.frames.dtype == np.uint8 for s in scenes)
        assert all(0.0 <= s.truth.speed_mps < 3.0 and not s.truth.off_road for s in scenes)
        assert any(not np.array_equal(*s.frames) for s in scenes)

    def test_they_repeat_from_their_seed(self, cache, tmp_path, monkeypatch, scenes):
        monkeypatch.setattr("training.planner.scene_cache.SHARD", 12)
        again = list(load(fill(tmp_path / "again", replace(SPEC, scenes=1))))
        assert all(np.array_equal(a.frames, b.frames) and a.task == b.task for a, b in zip(again, scenes))

    def test_an_interrupted_folder_goes_on(self, cache, tmp_path, monkeypatch, scenes):
        monkeypatch.setattr("training.planner.scene_cache.SHARD", 12)
        folder = tmp_path / "scenes"
        shutil.copytree(cache[0], folder)
        lost = sorted(folder.glob("*.safetensors"))[1:]
        for path in lost:
            path.unlink()
        again = list(load(fill(folder, SPEC)))
        assert len(again) == len(scenes) and np.array_equal(again[-1].frames, scenes[-1].frames)

    def test_a_full_folder_is_only_read(self, cache, monkeypatch):
        monkeypatch.setattr("training.planner.scene_cache.ElsewhereSource", None)
        assert fill(*[cache[0], SPEC]) == cache[1]

    def test_other_settings_are_refused(self, cache):
        with pytest.raises(SceneCacheError, match="seed"):
            fill(cache[0], replace(SPEC, seed=1))

    @pytest.mark.parametrize("harm", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[::-1]])
    def test_a_damaged_file_is_named(self, cache, tmp_path, harm):
        path = tmp_path / "00000.safetensors"
        path.write_bytes(harm(cache[1][0].read_bytes()))
        with pytest.raises(SceneCacheError, match="00000.safetensors is damaged"):
            list(load([path]))

    def test_a_world_without_eyes_teaches_nothing(self):
        with pytest.raises(WorldError, match="no forward camera"):
            ElsewhereSource(replace(find_world("track"), camera=False), 0)


class TestAugment:
    """A mirrored scene is a scene."""

    @pytest.mark.parametrize("kind", ["follow_lane", "change_left", "overtake_left", "keep_right", "stop"])
    @pytest.mark.parametrize("d_m", [-0.45, 0.3])
    def test_the_expert_does_in_the_mirror_what_it_does_here(self, kind, d_m):
        truth = truth_at(oval(), 8.0, d_m, 0.1, actors=[("car", 2.0, d_m, 0.5)])
        swapped = kind.replace("left", "*").replace("right", "left").replace("*", "right")
        here = expert_answer(truth, PROFILE, Instruction(kind), 1.2)
        there = expert_answer(mirrored_truth(truth), PROFILE, Instruction(swapped), 1.2)
        assert there.extra["headings_rad"] == pytest.approx([-h for h in here.extra["headings_rad"]], abs=1e-9)
        assert there.verdict == here.verdict and there.extra["speeds_mps"] == pytest.approx(here.extra["speeds_mps"])

    def test_twice_is_not_at_all(self, scenes):
        for scene in scenes:
            again = mirrored(mirrored(scene))
            assert again.truth == scene.truth and again.task == scene.task
            assert np.array_equal(again.frames, scene.frames) and np.array_equal(again.truth.ahead, scene.truth.ahead)

    def test_what_means_one_side_stays(self, scenes):
        task = replace(scenes[0].task, instruction=Instruction("pull_over"))
        scene = replace(scenes[0], task=task)
        assert mirrored(scene) is scene

    def test_light_is_the_same_in_both_frames(self, scenes):
        still = np.stack([scenes[0].frames[0]] * 2)
        for seed in range(6):
            rng = np.random.default_rng(seed)
            before, now = other_light(rng, still).astype(int)
            assert before.shape == (112, 168, 3) and np.abs(before - now).mean() < 8.0
        assert not np.array_equal(now, still[0])


@pytest.fixture(scope="module")
def trained(cache, tmp_path_factory):
    """(settings, adapter's folder) on a tiny random planner."""
    place = tmp_path_factory.mktemp("adapted")
    base = save_tiny(place / "base")
    work = place / "work"
    shutil.copytree(cache[0], work / "scenes")
    settings = AdaptSettings(
        world="track", train_tracks=("random",), held_out_tracks=(), base=base, out=place / "adapter", work=work,
        log_dir=place / "log", minutes=0.05, compile=False, scenes=SPEC.scenes, home_scenes=4, randomize=0.5,
        scenes_per_step=2, extra_scenes=2, rank=4, vision_rank=2, lr=1e-2, text_tokens=400,
    )  # fmt: skip
    return settings, train_adapter(settings)


class TestTraining:
    """A few steps, and what they leave."""

    def test_it_leaves_a_peft_folder(self, trained):
        settings, folder = trained
        config = json.loads((folder / "adapter_config.json").read_text())
        assert config["peft_type"] == "LORA" and config["base_model_name_or_path"] == "../base"
        assert (folder / "adapter_model.safetensors").stat().st_size < 5e6
        assert "Never trained on" in (folder / "README.md").read_text()
        assert not folder.with_name("adapter.new").exists()
        assert (settings.log_dir / f"{settings.name}.csv").read_text().count("adapt,") > 3

    def test_merged_and_unmerged_say_the_same(self, trained):
        """The adapter merged into the weights, as it serves, against peft's own forward; and the quick decoder."""
        from peft import PeftModel
        from transformers import AutoModelForImageTextToText

        settings, folder = trained
        backend = TransformersBackend(folder)
        request = make_request(0)
        inputs = backend._inputs([request], [render_prompt(request)])
        plain = AutoModelForImageTextToText.from_pretrained(settings.base, dtype=torch.float32).eval()
        with torch.inference_mode():
            before = plain(**inputs, logits_to_keep=1).logits
            apart = PeftModel.from_pretrained(plain, str(folder))
            unmerged = apart(**inputs, logits_to_keep=1).logits
            lean = backend._decoder(**inputs).logits
        assert torch.allclose(backend._logits(inputs), unmerged, atol=1e-4)
        assert torch.allclose(lean, unmerged, atol=1e-4)
        assert not torch.allclose(before, unmerged, atol=1e-3)
        # Whole answers are not compared: of random weights two words are now and then alike to the last digit.
        assert isinstance(backend.plan([request])[0], PlanAnswer)

    def test_training_and_serving_see_the_same_adapter(self, trained):
        """What the quick paths trained with is what peft loads, but for the rounding to bfloat16."""
        from training.planner.adapt import AdapterTrainer

        settings, folder = trained
        trainer = AdapterTrainer(settings, resume=True)
        served = TransformersBackend(folder).model
        own, theirs = dict(trainer.merged().named_parameters()), dict(served.named_parameters())
        base = dict(TransformersBackend(settings.base).model.named_parameters())
        assert own.keys() == theirs.keys() == base.keys()
        for part in ("visual", "language_model"):
            names = [name for name in own if part in name]
            off = sum((own[name] - theirs[name]).square().sum() for name in names).sqrt()
            learned = sum((own[name] - base[name]).square().sum() for name in names).sqrt()
            assert 0.0 < off < 0.02 * learned, part

    def test_it_can_be_resumed_only_on_the_same_base(self, trained, tmp_path):
        settings, _ = trained
        shutil.copytree(settings.work, tmp_path / "work")
        settings = settings.model_copy(update={"work": tmp_path / "work"})
        longer = settings.model_copy(update={"minutes": 0.06, "out": tmp_path / "again"})
        assert (train_adapter(longer, resume=True) / "adapter_config.json").is_file()
        other = save_tiny(tmp_path / "other", seed=1)
        with pytest.raises(AdaptError, match="other weights"):
            train_adapter(settings.model_copy(update={"base": other}), resume=True)
        with pytest.raises(AdaptError, match="nothing to resume"):
            train_adapter(settings.model_copy(update={"work": tmp_path / "none"}), resume=True)
        with pytest.raises(AdaptError, match="no model"):
            train_adapter(settings.model_copy(update={"base": tmp_path / "none"}))

    def test_an_adapter_of_other_weights_is_refused(self, trained, tmp_path):
        _, folder = trained
        other = save_tiny(tmp_path / "other", seed=1)
        with pytest.raises(ModelError, match="other weights"):
            TransformersBackend(folder, base=other)
        with pytest.raises(ModelError, match="is no adapter"):
            TransformersBackend(other, base=other)

    def test_planners_by_name(self, trained, tmp_path, monkeypatch):
        settings, folder = trained
        monkeypatch.setattr(backends, "NANO", settings.base)
        request = make_request(1)
        by_path = backends.load_backend(str(folder))
        assert by_path.name == "adapter" and isinstance(by_path.plan([request])[0], PlanAnswer)
        moved = tmp_path / "moved"
        shutil.copytree(folder, moved)
        on_nano = backends.load_backend(f"nano+{moved}")
        assert on_nano.plan([request])[0].raw == by_path.plan([request])[0].raw
        config = json.loads((moved / "adapter_config.json").read_text())
        (moved / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "nano"}))
        assert backends.load_backend(str(moved)).plan([request])[0].raw == by_path.plan([request])[0].raw
        with pytest.raises(UnknownName):
            backends.load_backend(f"nano+{tmp_path / 'nowhere'}")

    def test_the_hash_is_of_all_weights(self, trained, tmp_path):
        settings, _ = trained
        shutil.copytree(settings.base, tmp_path / "copy")
        assert weights_sha256(tmp_path / "copy") == weights_sha256(settings.base)
        path = next((tmp_path / "copy").glob("*.safetensors"))
        flipped = bytearray(path.read_bytes())
        flipped[-1] ^= 1
        path.write_bytes(flipped)
        assert weights_sha256(tmp_path / "copy") != weights_sha256(settings.base)


class TestSettings:
    """Presets and the command line."""

    def test_the_preset_keeps_tracks_apart(self):
        from sims.torcs.tracks import ROAD_TRACKS

        settings = load_adapt_settings(world="torcs")
        assert set(settings.train_tracks).isdisjoint(settings.held_out_tracks)
        assert set(settings.train_tracks) | set(settings.held_out_tracks) == set(ROAD_TRACKS)

    def test_an_unknown_world_is_named(self):
        with pytest.raises(UnknownName, match="torcs"):
            load_adapt_settings(world="torc")

    @pytest.mark.parametrize("words", [["--lora"], ["--world", "torcs"]])
    def test_lora_and_world_belong_together(self, words):
        from pacenote import app

        result = CliRunner().invoke(app, ["train", "planner", *words])
        assert result.exit_code == 2 and "belong together" in result.output


class TestComparison:
    """The table before and after."""

    def test_a_glancing_world_drives_the_same_road(self):
        spec = find_world("track")
        scenario = make_scenario("follow_lane", oval(), 3)
        looks = {"camera_size": (160, 120), "randomize": 0.5}
        both = GlancingBatch(spec, every=4, **looks), GlancingBatch(spec, every=1, **looks)
        seen = [batch.start([scenario], [5]) for batch in both]
        for step in range(1, 9):
            seen = [batch.step(np.array([[0.1, 0.2]], np.float32), [0]) for batch in both]
            assert both[0].truth(0) == both[1].truth(0) and seen[0]["speed"] == seen[1]["speed"]
            assert np.array_equal(seen[0]["image"], seen[1]["image"]) == (step % 4 == 0)
        for batch in both:
            batch.close()

    def test_intervals_and_table(self):
        assert wilson(0, 0) == (0.0, 1.0)
        low, high = wilson(9, 10)
        assert 0.59 < low < 0.6 and 0.98 < high < 0.99
        entry = {"scenario": "stop", "track": "a", "success": True, "off_road": False, "collision": False}
        frames = {"by_statement": {"lane": 0.5}, "agree": 0.5, "intent": 1.0, "path_deg": 3.21}
        part = {"episodes": [entry, entry | {"success": False, "off_road": True}], "frames": frames}
        table = markdown({"planners": {"before": part, "after": part}})
        assert "| stop | 50 % (1/2; 9-91) | 50 % (1/2; 9-91) |" in table and "3.2°" in table
        assert "| left the road | 1 | 1 |" in table

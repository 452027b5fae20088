"""The data of planner-nano's training: scenes, dreams, tensors, driving."""

import numpy as np
import pytest
import torch

from bridge.messages import Intent, VehicleProfile, Verdict
from bridge.planning import INSTRUCTIONS, Instruction
from planner.frames import PATCHES
from planner.grammar import parse_answer
from planner.nano import build_tokenizer
from sims.track import TrackVectorEnv
from sims.track.render import CLASSES
from training.planner.dreams import dream_of, sample_dreams
from training.planner.driving import DrivenSource
from training.planner.feed import Feed, FeedSpec, pictures_of
from training.planner.scenes import LOOKS, SceneSource, patch_order
from training.planner.score import compare_facts
from training.planner.seeing import SeeingHeads, seeing_loss
from training.planner.settings import load_settings
from training.planner.tokens import DECIMAL, HEADING, PairEncoder, image_positions, smooth_number_embeddings

PROFILE = VehicleProfile()


@pytest.fixture(scope="module")
def scenes():
    return SceneSource(3, 8, PROFILE, batches_per_road_set=2).scenes()


def test_scenes_repeat_from_their_seed(scenes):
    again = SceneSource(3, 8, PROFILE, batches_per_road_set=2).scenes()
    assert all(np.array_equal(a.frames, b.frames) for a, b in zip(scenes, again, strict=True))
    assert scenes[0].frames.shape == (2, 112, 168, 3)
    assert np.allclose(scenes[0].dense.sum(-1), 1, atol=1e-4) and scenes[0].dense.shape == (PATCHES, len(CLASSES))


def test_a_batch_of_scenes_mixes_the_strengths_of_randomisation(monkeypatch):
    """One strength for a whole batch made a check of 200 pictures depend on a single draw."""
    drawn = {}
    real = TrackVectorEnv.randomize_look

    def randomize_look(env, which=None):
        drawn[env.randomization] = len(which)
        real(env, which)

    source = SceneSource(3, 24, PROFILE)
    source.scenes()
    monkeypatch.setattr(TrackVectorEnv, "randomize_look", randomize_look)
    source.scenes()
    assert sum(drawn.values()) == 24 and all(drawn[look] >= 4 for look in LOOKS)
    drawn.clear()
    source.look_shares = (0.0, 1.0)
    source.scenes()
    assert drawn == {LOOKS[0]: 0, LOOKS[1]: 24}


def test_patch_order_keeps_merge_groups_together():
    rows, columns = np.meshgrid(np.arange(8), np.arange(12), indexing="ij")
    flat = patch_order((rows * 12 + columns)[None, ..., None])[0, :, 0]
    assert flat[:8].tolist() == [0, 1, 12, 13, 2, 3, 14, 15]
    assert sorted(flat) == list(range(96))


def test_every_dream_parses_and_keeps_the_experts_meaning(scenes):
    rng = np.random.default_rng(0)
    verdicts = set()
    for scene in scenes:
        for dream in sample_dreams(rng, scene.truth, PROFILE, 6):
            said = parse_answer(dream.text, PROFILE)
            assert said.intent == dream.answer.intent and said.verdict == dream.answer.verdict
            assert said.extra["facts"]["lane"] == scene.truth.lane
            verdicts.add(said.verdict)
    assert {Verdict.ACCEPTED, Verdict.REFUSED, None} <= verdicts


@pytest.mark.parametrize("kind", INSTRUCTIONS)
def test_any_instruction_can_be_dreamed(scenes, kind):
    instruction = Instruction(kind, 1.5 if kind == "target_speed" else None)
    dream = dream_of(np.random.default_rng(1), scenes[0].truth, PROFILE, instruction, cruise_mps=1.2, language="zh")
    assert "Command 0 s ago" in dream.prompt
    assert dream.answer.intent in Intent


def test_driving_gives_tasks_in_progress():
    taken = DrivenSource(5, PROFILE, envs=4, roads=3).take(12)
    assert len(taken) == 12 and all(scene.task is not None for scene in taken)
    assert len({scene.truth.t_s for scene in taken}) > 3


@pytest.fixture(scope="module")
def encoder():
    prompt = "Speed 1.2, cruise 1.2, doing follow_lane 3 s. Command: none"
    return PairEncoder(build_tokenizer([prompt, "1 lane, I am in lane 0, left."], max_vocab=1400), 128)


ANSWER = "1 lane, I am in lane 0, left.\nintent stop accepted\npath 3 -5 8 12 15 18 20 22\nspeed 1.6 0.0"


def test_hasty_episodes_come_close_behind_others(monkeypatch):
    def close_behind(share):
        monkeypatch.setattr("training.planner.driving.HASTY_SHARE", share)
        source = DrivenSource(6, PROFILE, envs=32, roads=16)
        moving = [s.truth for _ in range(5) for s in source.take(150) if s.truth.speed_mps > 0.3]
        return np.mean([any(a.lane == t.lane and 0 < a.s_ahead_m < 1.5 for a in t.actors) for t in moving])

    assert close_behind(1.0) > 2 * close_behind(0.0)


def test_numbers_are_single_tokens_with_neighbours(encoder):
    head, tail, kinds, weights = encoder.encode("Speed 1.2, cruise 1.2, doing stop 3 s. Command: none", ANSWER)
    assert (kinds == HEADING).sum() == 8 and (kinds == DECIMAL).sum() == 2 and tail[-1] == encoder.end_id
    size = len(encoder.tokenizer)
    headings, _ = encoder.soft_targets(size)
    twelve = encoder.encode_text(" 12")[0]
    thirteen = encoder.encode_text(" 13")[0]
    thirty = encoder.encode_text(" 30")[0]
    row = headings[twelve]
    assert row.sum() == pytest.approx(1.0, abs=1e-5) and row[twelve] > row[thirteen] > 0 == row[thirty]
    table = torch.randn(size, 32) * 0.02
    smooth_number_embeddings(table, encoder)
    close = torch.cosine_similarity(table[twelve], table[thirteen], dim=0)
    assert close > torch.cosine_similarity(table[twelve], table[encoder.encode_text(" -90")[0]], dim=0)


def test_batches_predict_the_answer_and_refuse_what_is_too_long(encoder):
    batch = encoder.collate([("Command: none", ANSWER)], [0])
    written = batch.ids[batch.rows, batch.columns + 1]
    assert torch.equal(written, batch.targets)
    assert int(batch.image_at.sum()) == 24 and torch.equal(image_positions(batch.image_at), batch.positions)
    assert not encoder.fits("Command: " + "overtake " * 100, ANSWER)
    with pytest.raises(ValueError, match="tokens"):
        encoder.collate([("overtake " * 100, ANSWER)], [0])


def test_seeing_loss_falls_on_one_batch(scenes):
    torch.manual_seed(0)
    p = pictures_of(scenes, PROFILE)
    heads = SeeingHeads(16, len(CLASSES))
    tokens = torch.randn(len(scenes), 24, 16)
    optimizer = torch.optim.Adam(heads.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        loss, _ = seeing_loss(heads, tokens, p.dense, p.cells, p.values, p.mask, p.choices)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


def test_statements_are_compared_one_by_one():
    right = {"lane_count": 2, "lane": 0, "position": "left", "bend": "straight"}
    right["actors"] = [{"kind": "car", "lane": 0, "distance_m": 2.0}]
    said = {**right, "lane": 1, "actors": [{"kind": "car", "lane": 0, "distance_m": 2.4}]}
    marks = compare_facts(said, right)
    assert marks.pop("lane") is False and all(marks.values())
    assert compare_facts({**right, "actors": []}, right)["actor_distance"] is False
    assert compare_facts(None, right) == {"facts": False}


def test_a_feed_says_what_went_wrong():
    feed = Feed(FeedSpec(seed=0, scenes=2, per_scene=1, tokenizer="/nowhere", text_tokens=64, driven_share=0.0))
    try:
        with pytest.raises(RuntimeError, match="training data"):
            feed.next()
    finally:
        feed.close()


def test_the_preset_loads_and_unknown_keys_are_refused(tmp_path):
    assert load_settings(None, minutes=3.0).minutes == 3.0
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("minuts: 3\n")
    with pytest.raises(ValueError, match="minuts"):
        load_settings(wrong)

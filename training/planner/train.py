"""Teach planner-nano from nothing: first to see, then to say what it sees and plan the drive.

Stage `see`: the vision tower alone, on dense labels from the renderer (from random weights the language-model loss does
not learn to see). Stage `speak`: the whole model on prompts and the expert's answers, several instructions to every
picture, the picture encoded once; the dense loss stays on with a small weight. Targets are made as they are needed.
Run: `python -m training.planner.train --minutes 90`, or `pacenote train planner`.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bridge.messages import VehicleProfile
from bridge.planning import INSTRUCTIONS, Instruction
from planner.frames import HEIGHT_PX, PATCHES, WIDTH_PX
from planner.grammar import SEGMENTS
from planner.nano import build_config, build_model, build_tokenizer, save
from planner.phrasebook import all_texts, sample_phrasing
from planner.prompt import clean_command
from sims.track.render import CLASSES
from training.planner.card import write_card
from training.planner.dreams import sample_dreams
from training.planner.fastpath import TextPath, VisionPath
from training.planner.feed import Feed, FeedSpec, Lesson, Pictures, make_lessons
from training.planner.optimizer import Optimizer, Part
from training.planner.scenes import SceneSource
from training.planner.score import score_answers
from training.planner.seeing import (
    READINGS,
    SeeingHeads,
    reading_loss,
    seeing_loss,
    seeing_scores,
    split_reading,
)
from training.planner.settings import PlannerTrainSettings, load_settings
from training.planner.state import TrainState, load_state, save_state
from training.planner.tokens import DECIMAL, HEADING, Batch, PairEncoder, smooth_number_embeddings
from training.planner.train_log import TrainLog

EVALUATION_SEED = 7_000_000
TOKENIZER_SCENES = 40
ANSWER_ROOM = 52  # tokens of an answer, mean over a batch at most


def sample_texts(settings: PlannerTrainSettings) -> list[str]:
    """Prompts, answers and phrasings to make the tokenizer from."""
    rng, texts = np.random.default_rng(settings.seed), list(all_texts(400))
    # Every Chinese character is to be a token: said often, they come before rare and mistyped English words.
    for kind in INSTRUCTIONS:
        instruction = Instruction(kind, 1.5 if kind == "target_speed" else None)
        texts += [clean_command(sample_phrasing(rng, instruction, "zh")) for _ in range(100)] * 10
    source = SceneSource(settings.seed + 17, TOKENIZER_SCENES, VehicleProfile(), batches_per_road_set=4)
    for _ in range(4):
        for scene in source.scenes():
            for dream in sample_dreams(rng, scene.truth, source.profile, 6):
                texts += [dream.prompt, dream.text]
    return texts


class Learner(nn.Module):
    """Model, auxiliary heads and the quick paths through them."""

    def __init__(self, model: nn.Module, encoder: PairEncoder, per_scene: int, dtype: torch.dtype, compiled: bool):
        super().__init__()
        self.model = model
        width = model.config.text_config.hidden_size
        self.heads = SeeingHeads(width, len(CLASSES))
        # Reads all headings where the first one is about to be written: geometry reaches the text model as a number.
        self.path_head = nn.Linear(width, SEGMENTS)
        # Reads everything there is to see where the answer is about to begin: the same for the facts.
        self.fact_head = nn.Linear(width, READINGS)
        values = [math.radians(encoder.heading_of.get(i, 0)) for i in range(model.config.text_config.vocab_size)]
        self.register_buffer("angle_of", torch.tensor(values), persistent=False)
        tokens = {degrees: token for token, degrees in encoder.heading_of.items()}
        self.register_buffer("token_of", torch.tensor([tokens[d] for d in range(-180, 181)]), persistent=False)
        headings, decimals = encoder.soft_targets(model.config.text_config.vocab_size)
        self.register_buffer("soft_headings", headings, persistent=False)
        self.register_buffer("soft_decimals", decimals, persistent=False)
        visual = VisionPath(model.model.visual, HEIGHT_PX, WIDTH_PX, dtype)
        text = TextPath(model.model.language_model, dtype, per_scene)
        self.encoder, self.per_scene, self.dtype, self.angles = encoder, per_scene, dtype, text.angles
        wrap = (lambda f: torch.compile(f, dynamic=False)) if compiled else (lambda f: f)
        # Plain attributes in a tuple: they share the model's weights and must not be registered twice.
        self._paths = (wrap(visual), wrap(text), wrap(self._answer_loss))

    def look(self, pictures: Pictures) -> Tensor:
        """Image tokens (n, IMAGE_TOKENS, width)."""
        return self._paths[0](pictures.patches(PATCHES))[0]

    def _answer_loss(self, hidden: Tensor, table: Tensor, targets: Tensor) -> Tensor:
        logits = (hidden @ table.to(hidden.dtype).T).float()
        return -(targets * logits.log_softmax(-1)).sum(-1)

    def speak(self, tokens: Tensor, pairs: Batch, disturbed: float = 0.0) -> Tensor:
        """Hidden states (n, width) that predict the answer tokens of `pairs`. `disturbed`: share of the answers whose
        earlier headings are given wrongly."""
        ids = self.disturb(pairs, disturbed) if disturbed else pairs.ids
        cut, every = self.encoder.prefix, self.per_scene
        embed = self.model.model.language_model.embed_tokens
        first = embed(ids[::every, :cut])
        first = first.masked_scatter(pairs.image_at[::every, :cut, None], tokens[: len(first)].flatten(0, 1))
        angles = self.angles(pairs.positions[:, ::every, :cut]), self.angles(pairs.positions[:, :, cut:])
        hidden = self._paths[1](first, embed(ids[:, cut:]), *angles)
        return hidden[pairs.rows, pairs.columns - cut]

    def disturb(self, pairs: Batch, share: float) -> Tensor:
        """Token ids with the path's headings off by some degrees in a `share` of the answers. With right ones before it
        the next heading follows from those alone; when it writes itself, the model then drives the average road."""
        at = pairs.kinds == HEADING
        degrees = torch.rad2deg(self.angle_of[pairs.targets[at]]).view(-1, SEGMENTS)
        grow = torch.arange(1, SEGMENTS + 1) / SEGMENTS
        noise = 25.0 * torch.randn(len(degrees), 1) * grow + 5.0 * torch.randn(degrees.shape)
        noise = noise * (torch.rand(len(degrees), 1) < share)
        wrong = (degrees + noise).round().clamp(-180, 180).long().flatten()
        ids = pairs.ids.clone()
        ids[pairs.rows[at], pairs.columns[at] + 1] = self.token_of[wrong + 180]
        return ids

    def facts_loss(self, hidden: Tensor, pairs: Batch, pictures: Pictures) -> Tensor:
        """Loss of reading the picture from the hidden states that precede the answers."""
        begins = torch.cat([torch.ones(1, dtype=torch.bool), pairs.rows[1:] != pairs.rows[:-1]])
        reading = split_reading(self.fact_head(hidden[begins].float()))
        which = pairs.picture
        value, choice = reading_loss(*reading, pictures.values[which], pictures.mask[which], pictures.choices[which])
        return 4.0 * value + 2.0 * choice

    def path_loss(self, hidden: Tensor, pairs: Batch) -> Tensor:
        """Regression of the headings (rad) from the hidden states that precede them."""
        at = pairs.kinds == HEADING
        guess = self.path_head(hidden[at].view(-1, SEGMENTS, hidden.shape[-1])[:, 0].float())
        return F.smooth_l1_loss(guess, self.angle_of[pairs.targets[at]].view(-1, SEGMENTS), beta=0.1)

    def token_losses(self, hidden: Tensor, pairs: Batch) -> Tensor:
        """(n,) cross-entropies of the answers' tokens; numbers are taught with their neighbours."""
        table = self.model.model.language_model.embed_tokens.weight
        targets = F.one_hot(pairs.targets, len(table)).float()
        for kind, soft in ((HEADING, self.soft_headings), (DECIMAL, self.soft_decimals)):
            at = pairs.kinds == kind
            targets[at] = soft[pairs.targets[at]]
        # A fixed number of rows keeps the compiled graph.
        room = max(len(pairs.ids) * ANSWER_ROOM - len(targets), 0)
        hidden, targets = F.pad(hidden, (0, 0, 0, room)), F.pad(targets, (0, 0, 0, room))
        return self._paths[2](hidden, table, targets)[: len(pairs.targets)]


class PlannerTrainer:
    """One training run; `run` goes through the stages and leaves a model folder."""

    def __init__(self, settings: PlannerTrainSettings, resume: bool = False):
        torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        self.settings = settings
        settings.work.mkdir(parents=True, exist_ok=True)
        self.log = TrainLog(settings.log_dir, settings.name, keep=resume)
        self.folder = settings.work / "folder"
        self.model, self.tokenizer = self._model()
        bf16 = settings.bfloat16 == "on" or (settings.bfloat16 == "auto" and torch.cpu._is_amx_tile_supported())
        dtype = torch.bfloat16 if bf16 else torch.float32
        self.encoder = PairEncoder(self.tokenizer, settings.text_tokens, settings.path_weight, settings.plan_weight)
        self.learner = Learner(self.model, self.encoder, settings.dreams_per_scene, dtype, settings.compile)
        self.state = TrainState()
        self.figures: dict[str, float] = {}
        self.optimizer: Optimizer | None = None
        if resume:
            self.state = load_state(settings.work, self.learner)
            self.log.line(f"resumed at step {self.state.step} of stage {self.state.stage}")
        size = sum(p.numel() for p in self.model.parameters())
        self.log.line(f"{size / 1e6:.2f} M parameters, {len(self.tokenizer)} tokens, {self.learner.dtype}")

    def _model(self):
        from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration

        settings = self.settings
        start = settings.start_from or (self.folder if (self.folder / "config.json").is_file() else None)
        if start is not None:
            model = Qwen2VLForConditionalGeneration.from_pretrained(start, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(start)
            if not (self.folder / "config.json").is_file():  # the process that makes the texts reads it there
                save(model, tokenizer, self.folder)
            return model, tokenizer
        tokenizer = build_tokenizer(sample_texts(settings))
        config = build_config(tokenizer, text_layers=settings.text_layers, vision_depth=settings.vision_depth)
        model = build_model(config, settings.seed)
        smooth_number_embeddings(model.model.language_model.embed_tokens.weight, PairEncoder(tokenizer))
        save(model, tokenizer, self.folder)
        return model, tokenizer

    # ---- stages --------------------------------------------------------------------------------------------------

    def run(self) -> Path:
        """All stages; returns the model folder."""
        s = self.settings
        if self.state.stage == "see":
            self._stage("see", 60 * s.minutes * s.see_share, self._see_step)
            self.state = TrainState(stage="speak")
        self._stage("speak", 60 * s.minutes * (1 - s.see_share), self._speak_step)
        self.export()
        return Path(s.out)

    def export(self) -> None:
        """Write the model folder, aside first: whoever reads it meanwhile finds a whole one."""
        out = Path(self.settings.out)
        aside = out.with_name(out.name + ".new")
        save(self.model, self.tokenizer, aside)
        parameters = sum(p.numel() for p in self.model.parameters())
        write_card(aside, parameters, self.settings, self.state, self.figures)
        out.mkdir(parents=True, exist_ok=True)
        for file in aside.iterdir():
            os.replace(file, out / file.name)
        aside.rmdir()

    def _stage(self, name: str, seconds: float, step) -> None:
        if seconds <= 0:
            return
        self._set_up(name)
        feed = Feed(self._feed_spec(name))
        evaluation = self._evaluation(name)
        begin = last_note = last_check = time.monotonic() - self.state.elapsed_s
        last_note = last_check = time.monotonic()
        sums: dict[str, float] = {}
        count = 0
        echo: list[Lesson] = []
        try:
            while (self.state.elapsed_s) < seconds:
                lesson = self._next(feed, echo, name)
                loss, figures = step(lesson)
                self.optimizer.step(loss, self.state.elapsed_s / seconds)
                for key, value in figures.items():
                    sums[key] = sums.get(key, 0.0) + value
                count += 1
                self.state.step += 1
                self.state.samples += lesson.pairs.ids.shape[0] if lesson.pairs else len(lesson.pictures.frames)
                now = time.monotonic()
                self.state.elapsed_s = now - begin
                if now - last_note > 20:
                    self.log.row(name, self.state, {k: v / count for k, v in sums.items()})
                    sums, count, last_note = {}, 0, now
                if now - last_check > 60 * self.settings.evaluate_every_minutes:
                    self._check(name, evaluation)
                    last_check = time.monotonic()
            if count:
                self.log.row(name, self.state, {k: v / count for k, v in sums.items()})
            self._check(name, evaluation)
        finally:
            feed.close()

    def _next(self, feed: Feed, echo: list[Lesson], stage: str) -> Lesson:
        """While seeing is learned every picture is used twice, some dozen steps apart: drawing costs as much."""
        if stage != "see":
            return feed.next()
        if len(echo) >= 24 and self.state.step % 2:
            return echo.pop(int(torch.randint(len(echo), ())))
        lesson = feed.next()
        echo.append(lesson)
        return lesson

    def _set_up(self, name: str) -> None:
        visual, text, s = self.model.model.visual, self.model.model.language_model, self.settings
        parts = [Part((visual, self.learner.heads), s.see_lr if name == "see" else s.vision_lr)]
        if name == "speak":
            parts.append(Part((text, self.learner.path_head, self.learner.fact_head), s.lr))
        self.optimizer = Optimizer(parts, (visual, text), s.weight_decay)

    def _feed_spec(self, name: str, evaluation: bool = False) -> FeedSpec:
        s = self.settings
        return FeedSpec(
            seed=EVALUATION_SEED if evaluation else int.from_bytes(os.urandom(4), "little"),
            scenes=s.evaluation_scenes if evaluation else s.see_batch if name == "see" else s.scenes_per_step,
            per_scene=1 if evaluation else s.dreams_per_scene,
            tokenizer=None if name == "see" else str(self.folder),
            text_tokens=s.text_tokens,
            driven_share=0.5 * s.driven_share if name == "see" else s.driven_share,
            extra=s.extra_scenes if name == "speak" and not evaluation else 0,
            plan_weight=s.plan_weight,
            path_weight=s.path_weight,
            evaluation=evaluation,
        )

    def _seeing(self, tokens: Tensor, pictures: Pictures):
        p = pictures
        return seeing_loss(self.learner.heads, tokens, p.dense, p.cells, p.values, p.mask, p.choices)

    def _see_step(self, lesson: Lesson) -> tuple[Tensor, dict[str, float]]:
        loss, parts = self._seeing(self.learner.look(lesson.pictures), lesson.pictures)
        names = ("loss", "dense", "values", "choices", "cells")
        return loss, {name: float(value.detach()) for name, value in zip(names, (loss, *parts), strict=True)}

    def _speak_step(self, lesson: Lesson) -> tuple[Tensor, dict[str, float]]:
        tokens = self.learner.look(lesson.pictures)
        pairs = lesson.pairs
        hidden = self.learner.speak(tokens, pairs, self.settings.disturbed_share)
        losses = self.learner.token_losses(hidden, pairs)
        words = (losses * pairs.weights).sum() / pairs.weights.sum()
        losses = losses.detach()
        seeing, _ = self._seeing(tokens, lesson.pictures)
        path_value = self.learner.path_loss(hidden, pairs)
        facts = self.learner.facts_loss(hidden, pairs, lesson.pictures)
        s = self.settings
        loss = words + s.see_weight * seeing + s.path_value_weight * path_value + s.facts_weight * facts
        path = pairs.kinds == HEADING
        return loss, {
            "loss": float(words.detach()),
            "seeing": float(seeing.detach()),
            "path": float(losses[path].mean()),
            "path_value": float(path_value.detach()),
            "facts": float(facts.detach()),
            "numbers": float(losses[pairs.kinds == DECIMAL].mean()),
            "words": float(losses[pairs.kinds == 0].mean()),
        }

    # ---- checks --------------------------------------------------------------------------------------------------

    def _evaluation(self, name: str) -> Lesson:
        return next(make_lessons(self._feed_spec(name, evaluation=True)))

    @torch.no_grad()
    def _check(self, name: str, lesson: Lesson) -> None:
        p = lesson.pictures
        visual = VisionPath(self.model.model.visual, HEIGHT_PX, WIDTH_PX, torch.float32)
        tokens = visual(p.patches(PATCHES))[0]
        scores = seeing_scores(self.learner.heads, tokens, p.values, p.mask, p.choices)
        if name == "speak":
            scores = {f"see_{k}": v for k, v in scores.items() if k in ("path_rad", "lane", "actors_seen", "actor_m")}
            scores |= score_answers(self.model, self.encoder, tokens, lesson)
            self.figures = scores
            self.export()
        self.log.row(f"{name}_check", self.state, scores)
        self.log.draw()
        save_state(self.settings.work, self.learner, self.state)


def train_planner(settings: PlannerTrainSettings, resume: bool = False) -> Path:
    """Train and export; returns the model folder. What `pacenote train planner` calls."""
    if settings.lora:
        from training.planner.lora import train_lora

        return train_lora(settings)
    return PlannerTrainer(settings, resume).run()


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--start-from", type=Path)
    parser.add_argument("--see-share", type=float)
    parser.add_argument("--resume", action="store_true")
    given = vars(parser.parse_args())
    resume = given.pop("resume")
    train_planner(load_settings(given.pop("config"), **given), resume)

"""Adapt planner-nano to the pictures of another world: a LoRA adapter on its language model and its small vision tower.

Same prompts, answers and losses as in `train.py`, on scenes of expert driving in that world (`elsewhere.py`), mirrored
and in changed light, and some of `track`, so that those are not forgotten. There are no dense labels elsewhere; what is
read from the image tokens is taught from the truth alone. The adapter's weights come from `peft`; for the quick paths
of `fastpath.py` they are added to the weights at every step. Knows the small Qwen2-VL only; `lora.py` is for any model.
Run: `pacenote train planner --lora --world torcs`.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bridge.messages import VehicleProfile
from bridge.scale import model_profile
from planner.backends.adapters import weights_sha256, write_note
from planner.frames import HEIGHT_PX, PATCHES, WIDTH_PX
from sims.track.render import CLASSES
from sims.worlds import find_world
from training.planner.adapt_card import write_adapter_card
from training.planner.adapt_settings import AdaptSettings
from training.planner.augment import mirrored, other_light
from training.planner.dreams import Dream, sample_dreams
from training.planner.driving import DrivenSource
from training.planner.fastpath import VisionPath
from training.planner.feed import Lesson, Pictures, dreams_for
from training.planner.scene_cache import CacheSpec, fill, load
from training.planner.scenes import Scene
from training.planner.score import score_answers
from training.planner.seeing import cell_loss, cell_targets, reading_loss, seeing_targets
from training.planner.state import FILE, TrainState
from training.planner.tokens import HEADING, PairEncoder
from training.planner.train import Learner
from training.planner.train_log import TrainLog

LANGUAGE = r"language_model\.layers\.\d+\.(?:self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj)"
VISION = r"visual\.(?:blocks\.\d+\.(?:attn\.(?:qkv|proj)|mlp\.fc[12])|merger\.mlp\.[02])"
CHECK_SEED = 5_000_000
NOTE_S, SAVE_S = 20.0, 60.0


class AdaptError(RuntimeError):
    """A base or checkpoint that cannot be used; the message says what is wrong and what to do."""


class _Merged(nn.Module):
    """The weight of a layer with its adapter's share added; `torch.nn.utils.parametrize` calls it."""

    def __init__(self, layer: LoraLayer):
        super().__init__()
        self._layer = (layer,)  # in a tuple, so that the layer is not registered inside itself

    def forward(self, weight: Tensor) -> Tensor:
        layer = self._layer[0]
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        return weight + layer.scaling["default"] * (b @ a)


def put_on_adapter(model: nn.Module, rank: int, vision_rank: int) -> PeftModel:
    """`model` in place with an adapter on it, frozen but for that, and quick paths that see it. The wrapped model's own
    `forward` would count the adapter twice; only `fastpath` may be used."""
    targets = LANGUAGE if not vision_rank else f"{LANGUAGE}|{VISION}"
    ranks = {rf"model\.{VISION}": vision_rank} if vision_rank else {}
    alphas = {name: 2 * value for name, value in ranks.items()}
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=rf"model\.(?:{targets})", rank_pattern=ranks, alpha_pattern=alphas
    )
    adapted = get_peft_model(model, config)
    for layer in [m for m in model.modules() if isinstance(m, LoraLayer)]:
        parametrize.register_parametrization(layer.base_layer, "weight", _Merged(layer), unsafe=True)
    return adapted


class Book:
    """Scenes of the world and of `track` in memory, and lessons from them."""

    def __init__(self, settings: AdaptSettings, away: list[Scene], home: list[Scene], encoder: PairEncoder, seed: int):
        self.settings, self.encoder = settings, encoder
        self.rng = np.random.default_rng(seed)
        away_profile = model_profile(find_world(settings.world).profile)
        self._piles = [(away, away_profile), (home, VehicleProfile())]

    def lessons(self) -> Iterator[Lesson]:
        """Endless lessons; the last `extra_scenes` of each are only looked at."""
        s = self.settings
        picks = [self._endless(len(pile)) for pile, _ in self._piles]
        while True:
            scenes = []
            for _ in range(s.scenes_per_step + s.extra_scenes):
                home = bool(self._piles[1][0]) and self.rng.random() < s.home_share
                pile, profile = self._piles[home]
                scenes.append((self._varied(pile[next(picks[home])]), profile))
            yield self.lesson(scenes, s.scenes_per_step, s.dreams_per_scene)

    def lesson(self, scenes: list[tuple[Scene, VehicleProfile]], spoken: int, per_scene: int) -> Lesson:
        """Pictures of all scenes, pairs about the first `spoken`."""
        dreams: list[Dream] = []
        owner: list[int] = []
        for k, (scene, profile) in enumerate(scenes[:spoken]):
            for dream in dreams_for(self.rng, scene, profile, per_scene):
                while not self.encoder.fits(dream.prompt, dream.text):
                    dream = sample_dreams(self.rng, scene.truth, profile, 1)[0]
                dreams.append(dream)
                owner.append(k)
        pairs = self.encoder.collate([(d.prompt, d.text) for d in dreams], owner)
        return Lesson(_pictures(scenes), pairs, tuple(dreams))

    def _varied(self, scene: Scene) -> Scene:
        s = self.settings
        if self.rng.random() < s.mirror_share:
            scene = mirrored(scene)
        if s.light:
            scene = replace(scene, frames=other_light(self.rng, scene.frames, s.light))
        return scene

    def _endless(self, count: int) -> Iterator[int]:
        while True:
            yield from self.rng.permutation(count).tolist()


def _pictures(scenes: list[tuple[Scene, VehicleProfile]]) -> Pictures:
    """Targets from the truth alone. Where an actor is in the picture is told by the nominal camera, not by labels."""
    values, mask, choices = zip(*(seeing_targets(s.truth, profile) for s, profile in scenes), strict=True)
    anywhere = np.ones((PATCHES, len(CLASSES)), np.float32)
    cells = [cell_targets(s.truth, profile, anywhere) for s, profile in scenes]
    stack = lambda parts: torch.from_numpy(np.stack(parts))  # noqa: E731
    frames = stack([s.frames for s, _ in scenes])
    return Pictures(
        frames, torch.zeros(len(scenes), 0), stack(cells), stack(values), stack(mask), stack(choices).long()
    )


class AdapterTrainer:
    """One run; `run` leaves an adapter's folder."""

    def __init__(self, settings: AdaptSettings, resume: bool = False):
        from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration

        torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        self.settings, self.state = settings, TrainState(stage="adapt")
        settings.work.mkdir(parents=True, exist_ok=True)
        self.log = TrainLog(settings.log_dir, settings.name, keep=resume)
        if not (settings.base / "config.json").is_file():
            raise AdaptError(f"no model in {settings.base}; make it with: pacenote train planner")
        tokenizer = AutoTokenizer.from_pretrained(settings.base)
        self.model = Qwen2VLForConditionalGeneration.from_pretrained(settings.base, dtype=torch.float32)
        if not getattr(self.model.config, "position_marks", False):
            raise AdaptError(f"{settings.base} is not planner-nano; for other models see training/planner/lora.py")
        self.base_sha256 = weights_sha256(settings.base)
        self.adapted = put_on_adapter(self.model, settings.rank, settings.vision_rank)
        self.encoder = PairEncoder(tokenizer, settings.text_tokens, settings.path_weight, settings.plan_weight)
        dtype = torch.bfloat16 if torch.cpu._is_amx_tile_supported() else torch.float32
        self.learner = Learner(self.model, self.encoder, settings.dreams_per_scene, dtype, settings.compile)
        self.figures: dict[str, float] = {}
        if resume:
            self._resume()
        size = sum(p.numel() for n, p in self.model.named_parameters() if "lora_" in n)
        self.log.line(f"adapter of {size / 1e6:.2f} M parameters on {settings.base}, {dtype}")

    # ---- data ----------------------------------------------------------------------------------------------------

    def scenes(self, kind: str, tracks: tuple[str, ...], count: int, seed: int) -> list[Scene]:
        """Scenes of the world from the work folder, drawn now where they are missing."""
        s = self.settings
        spec = CacheSpec(s.world, tracks, count, seed, s.randomize)
        shards = fill(s.work / kind, spec, lambda have: self.log.line(f"{kind}: {have} of {count}"))
        return list(load(shards))

    def run(self) -> Path:
        """Draw what is missing, train, export; returns the adapter's folder."""
        s = self.settings
        away = self.scenes("scenes", s.train_tracks, s.scenes, s.seed)
        home: list[Scene] = []
        if s.home_scenes:
            home = DrivenSource(s.seed + 11, VehicleProfile(), envs=32, roads=48).take(s.home_scenes)
        check = None
        if s.held_out_tracks and s.check_scenes:
            pool = self.scenes("check", s.held_out_tracks, 60 * len(s.held_out_tracks), CHECK_SEED)
            picks = np.random.default_rng(CHECK_SEED).permutation(len(pool))[: s.check_scenes]
            book = Book(s, pool, [], self.encoder, CHECK_SEED)
            check = book.lesson([(pool[k], book._piles[0][1]) for k in picks], len(picks), 1)
        book = Book(s, away, home, self.encoder, int.from_bytes(os.urandom(4), "little"))
        self._train(book.lessons(), check)
        self.export()
        self.log.draw()
        return s.out

    # ---- training ------------------------------------------------------------------------------------------------

    def _train(self, lessons: Iterator[Lesson], check: Lesson | None) -> None:
        s, seconds = self.settings, 60 * self.settings.minutes
        heads = [p for name in ("glance", "trunk", "cell") for p in getattr(self.learner.heads, name).parameters()]
        heads += [*self.learner.path_head.parameters(), *self.learner.fact_head.parameters()]
        groups = [
            {"params": [p for n, p in self.model.named_parameters() if "lora_" in n], "peak": s.lr},
            {"params": heads, "peak": s.head_lr},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=s.lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
        if check and not self.state.step:
            self._check(check)
        first = self.state.step
        begin = time.monotonic() - self.state.elapsed_s
        noted = saved = checked = time.monotonic()
        sums: dict[str, float] = {}
        count = 0
        while self.state.elapsed_s < seconds:
            self._set_rates(min(1.0, (self.state.step - first + 1) / 60), self.state.elapsed_s / seconds)
            lesson = next(lessons)
            for key, value in self._step(lesson).items():
                sums[key] = sums.get(key, 0.0) + value
            count += 1
            self.state.step += 1
            self.state.samples += len(lesson.dreams)
            now = time.monotonic()
            self.state.elapsed_s = now - begin
            if now - noted > NOTE_S:
                self.log.row("adapt", self.state, {k: v / count for k, v in sums.items()})
                sums, count, noted = {}, 0, now
            if now - saved > SAVE_S:
                self._save()
                saved = now
            if check and now - checked > 60 * s.check_every_minutes:
                self._check(check)
                checked = time.monotonic()
        if count:
            self.log.row("adapt", self.state, {k: v / count for k, v in sums.items()})
        self._save()
        if check:
            self._check(check)

    def _set_rates(self, warm: float, part: float) -> None:
        fall = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(part, 1.0)))
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * warm * fall

    def _step(self, lesson: Lesson) -> dict[str, float]:
        s, learner, pairs, pictures = self.settings, self.learner, lesson.pairs, lesson.pictures
        tokens = learner.look(pictures)
        hidden = learner.speak(tokens, pairs, s.disturbed_share)
        losses = learner.token_losses(hidden, pairs)
        words = (losses * pairs.weights).sum() / pairs.weights.sum()
        seeing = cell_loss(learner.heads.cell(tokens), pictures.cells)
        for guess, choice_logits in learner.heads.read(tokens):
            value, choice = reading_loss(guess, choice_logits, pictures.values, pictures.mask, pictures.choices)
            seeing = seeing + 2.0 * value + choice
        path_value = learner.path_loss(hidden, pairs)
        facts = learner.facts_loss(hidden, pairs, pictures)
        loss = words + s.see_weight * seeing + s.path_value_weight * path_value + s.facts_weight * facts
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([p for g in self.optimizer.param_groups for p in g["params"]], 1.0)
        self.optimizer.step()
        said = {"loss": words, "seeing": seeing, "path_value": path_value, "facts": facts}
        said["path"] = losses[pairs.kinds == HEADING].mean()
        said["words"] = losses[pairs.kinds == 0].mean()
        return {name: float(value.detach()) for name, value in said.items()}

    @torch.no_grad()
    def _check(self, lesson: Lesson) -> None:
        """Greedy answers about held-out tracks, through a copy of the model with the adapter merged."""
        merged = self.merged()
        visual = VisionPath(merged.model.visual, HEIGHT_PX, WIDTH_PX, torch.float32)
        tokens = visual(lesson.pictures.patches(PATCHES))[0]
        self.figures = score_answers(merged, self.encoder, tokens, lesson)
        self.log.row("adapt_check", self.state, self.figures)

    def merged(self) -> nn.Module:
        """The base with the adapter as it is now added to its weights."""
        from transformers import Qwen2VLForConditionalGeneration

        model = Qwen2VLForConditionalGeneration.from_pretrained(self.settings.base, dtype=torch.float32).eval()
        own = dict(model.named_modules())
        for name, layer in self.model.named_modules():
            if isinstance(layer, LoraLayer):
                own[name].weight.data.copy_(layer.base_layer.weight.detach())
        return model

    # ---- files ---------------------------------------------------------------------------------------------------

    def export(self) -> None:
        """The adapter's folder in PEFT's format, weights in bfloat16; written aside first."""
        out = Path(self.settings.out)
        aside = out.with_name(out.name + ".new")
        config = self.adapted.peft_config["default"]
        config.base_model_name_or_path = os.path.relpath(Path(self.settings.base).resolve(), out.resolve())
        config.inference_mode = True
        weights = {n: p.detach().to(torch.bfloat16) for n, p in self.adapted.state_dict().items() if "lora_" in n}
        self.adapted.save_pretrained(aside, state_dict=weights)
        if weights_sha256(self.settings.base) != self.base_sha256:
            raise AdaptError(f"{self.settings.base} has changed during the training; train again")
        write_note(aside, self.settings.base)
        write_adapter_card(aside, self.settings, self.state, self.figures)
        out.mkdir(parents=True, exist_ok=True)
        for file in aside.iterdir():
            os.replace(file, out / file.name)
        aside.rmdir()

    def _kept(self) -> dict[str, Tensor]:
        ours = ("lora_", "heads.glance", "heads.trunk", "heads.cell", "path_head", "fact_head")
        return {k: v for k, v in self.learner.state_dict().items() if any(name in k for name in ours)}

    def _save(self) -> None:
        path = self.settings.work / FILE
        aside = path.with_suffix(".new")
        told = {"state": json.dumps(vars(self.state)), "base_sha256": self.base_sha256}
        save_file({k: v.detach().clone().contiguous() for k, v in self._kept().items()}, aside, metadata=told)
        os.replace(aside, path)

    def _resume(self) -> None:
        path = self.settings.work / FILE
        if not path.is_file():
            raise AdaptError(f"nothing to resume from: no {path}")
        with safe_open(path, "pt") as file:
            told = file.metadata()
            if told.get("base_sha256") != self.base_sha256:
                raise AdaptError(f"{path} belongs to other weights than those in {self.settings.base}; do not resume")
            weights = {name: file.get_tensor(name) for name in file.keys()}
        kept = self._kept()
        if set(weights) != set(kept) or any(weights[k].shape != v.shape for k, v in kept.items()):
            raise AdaptError(f"{path} is of an adapter of another shape; do not resume, or set the same ranks")
        self.learner.load_state_dict(weights, strict=False)
        self.state = TrainState(**json.loads(told["state"]))
        self.log.line(f"resumed at step {self.state.step}, {self.state.elapsed_s:.0f} s")


def train_adapter(settings: AdaptSettings, resume: bool = False) -> Path:
    """Draw scenes, train and export; returns the adapter's folder. What `pacenote train planner --lora` calls."""
    return AdapterTrainer(settings, resume).run()

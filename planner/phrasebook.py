"""The words people use: samples many phrasings of an instruction, and reads the instruction from a phrasing.

`sample_phrasing` feeds the training of planner-nano; `understand` is what the expert (which reads no pictures and has
no language model) uses to read a command. Neither knows anything of plans or pictures. The templates stand in
`phrases.py`.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np

from bridge.planning import INSTRUCTIONS, Instruction
from planner.phrases import CHINESE, ENGLISH, POLITE_EN, POLITE_ZH, TAIL_EN, TAIL_ZH

_SKIPPABLE = frozenset("the a an your please now over to of it car vehicle that this on and you can could".split())
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _expand(template: str, rng: np.random.Generator) -> str:
    """Choose among the alternatives of a template, innermost first."""
    while "(" in template:
        template = re.sub(r"\(([^()]*)\)", lambda m: str(rng.choice(m.group(1).split("|"))), template)
    return re.sub(r" +", " ", template).strip(" ,")


def _roughen(text: str, rng: np.random.Generator) -> str:
    """What hurried people do to English: drop small words, add unknown ones, mistype. Sides and numbers stay."""
    words = text.split()
    if len(words) > 3 and rng.random() < 0.25:
        small = [k for k, w in enumerate(words) if w in _SKIPPABLE]
        if small:
            del words[rng.choice(small)]
    if rng.random() < 0.12:
        words.insert(rng.integers(len(words) + 1), "".join(rng.choice(list(_LETTERS), rng.integers(3, 8))))
    if rng.random() < 0.10:
        k = int(rng.integers(len(words)))
        if len(words[k]) > 4 and words[k].isalpha():
            c = int(rng.integers(1, len(words[k]) - 1))
            words[k] = words[k][:c] + words[k][c + 1] + words[k][c] + words[k][c + 2 :]
    return " ".join(words)


def sample_phrasing(rng: np.random.Generator, instruction: Instruction, language: str | None = None) -> str:
    """One way of saying `instruction`. `language`: "en", "zh" or None for either. Raises KeyError for another."""
    book = {"en": ENGLISH, "zh": CHINESE}[language or ("zh" if rng.random() < 0.25 else "en")]
    templates = book[instruction.kind]
    text = _expand(templates[rng.integers(len(templates))], rng)
    if instruction.speed_mps is not None:
        number = f"{instruction.speed_mps:.1f}"
        text = text.replace("{n}", number[:-2] if number.endswith(".0") and rng.random() < 0.5 else number)
    if book is CHINESE:
        return rng.choice(POLITE_ZH) + text + rng.choice(TAIL_ZH)
    text = _roughen(rng.choice(POLITE_EN) + text + rng.choice(TAIL_EN), rng)
    style = rng.random()
    if style < 0.25:
        text = text[:1].upper() + text[1:]
    elif style < 0.30:
        text = text.upper().replace("M/S", "m/s")
    return text + str(rng.choice(["", "", "", ".", "!"]))


# --- understanding ----------------------------------------------------------------------------------------------------

_SPEED = re.compile(r"(\d+(?:\.\d+)?)\s*(?:m/s|mps|met(?:er|re)s?\b|米)|每秒\s*(\d+(?:\.\d+)?)")
_NUMBER = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)(?!\w|\.\d)|(?<=[\u4e00-\u9fff])(\d+(?:\.\d+)?)")
_TOKEN = re.compile(r"[\u4e00-\u9fff]|[a-z']+")
_SAMPLES_PER_KIND = 600


def _features(text: str) -> set[str]:
    """Words, pairs of neighbours (a Chinese character counts as a word), letter triples (they survive mistyping)."""
    words = _TOKEN.findall(text.lower())
    triples = {f"#{w}#"[k : k + 3] for w in words if len(w) > 3 for k in range(len(w))}
    return {*words, *map(" ".join, zip(words, words[1:], strict=False)), *triples}


@lru_cache(maxsize=1)
def _reader() -> tuple[dict[str, int], np.ndarray, np.ndarray]:
    """Bernoulli naive Bayes fitted to this phrasebook: feature -> column, log odds (kinds, features) of each feature
    being there, and the score (kinds,) of a text without any."""
    rng = np.random.default_rng(0)
    seen: dict[str, int] = {}
    samples = []
    for row, kind in enumerate(INSTRUCTIONS):
        instruction = Instruction(kind, 1.5 if kind == "target_speed" else None)
        for _ in range(_SAMPLES_PER_KIND):
            features = _features(sample_phrasing(rng, instruction))
            samples.append((row, [seen.setdefault(f, len(seen)) for f in features]))
    counts = np.full((len(INSTRUCTIONS), len(seen)), 0.5)
    for row, columns in samples:
        counts[row, columns] += 1
    present = counts / (_SAMPLES_PER_KIND + 1.0)
    return seen, np.log(present / (1.0 - present)), np.log(1.0 - present).sum(axis=1)


def understand(text: str) -> Instruction | None:
    """The instruction that a command means, by a naive Bayes reader fitted to the phrasebook; None when most of the
    words are unknown to it. It knows no negation and reads one instruction a sentence; a number with a speed unit
    decides."""
    words = re.sub(r"\bright (now|away)\b", "now", " ".join(text.lower().split()))  # this "right" is no side
    speed = _SPEED.search(words)
    known, log_odds, without_any = _reader()
    features = _features(words)
    columns = [known[f] for f in features if f in known]
    whole_words = _TOKEN.findall(words)
    if speed is None and (not columns or sum(w in known for w in whole_words) < 0.5 * len(whole_words)):
        return None
    scores = without_any + log_odds[:, columns].sum(axis=1)
    kind = INSTRUCTIONS[int(np.argmax(scores))]
    number = speed or (_NUMBER.search(words) if kind == "target_speed" else None)
    if number is not None:
        return Instruction("target_speed", float(next(g for g in number.groups() if g)))
    if kind == "target_speed":
        return None  # a speed without a number
    return Instruction(kind)


def all_texts(per_instruction: int = 400, seed: int = 0) -> list[str]:
    """Many phrasings of every instruction: for training a tokenizer."""
    rng = np.random.default_rng(seed)
    speeds = np.arange(3, 31) / 10
    make = lambda kind: Instruction(kind, float(rng.choice(speeds)) if kind == "target_speed" else None)  # noqa: E731
    return [sample_phrasing(rng, make(kind)) for kind in INSTRUCTIONS for _ in range(per_instruction)]

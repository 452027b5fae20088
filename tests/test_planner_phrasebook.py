"""The phrasebook: everything that it says it also understands, mostly; and never mistakes what is dangerous."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from bridge.planning import INSTRUCTIONS, Instruction
from planner.phrasebook import all_texts, sample_phrasing, understand
from sims.sayings import SAYINGS

UNSEEN = Path(__file__).resolve().parents[1] / "benchmarks" / "phrasings_unseen.yaml"


def instruction_of(kind: str) -> Instruction:
    return Instruction(kind, 1.5 if kind == "target_speed" else None)


def test_every_built_in_command_is_understood():
    for kind, languages in SAYINGS.items():
        for text in (t for texts in languages.values() for t in texts):
            said = understand(text.format(speed=1.5))
            assert said == instruction_of(kind), text


def test_nearly_all_of_its_own_phrasings_are_understood():
    rng = np.random.default_rng(11)
    wrong = Counter()
    for kind in INSTRUCTIONS:
        wrong[kind] = sum(
            understand(sample_phrasing(rng, instruction_of(kind))) != instruction_of(kind) for _ in range(150)
        )
    assert sum(wrong.values()) < 0.03 * 150 * len(INSTRUCTIONS), wrong
    assert max(wrong.values()) < 0.12 * 150, wrong


def test_most_phrasings_that_it_never_saw_are_understood():
    book = yaml.safe_load(UNSEEN.read_text())
    cases = [
        (k.replace("overtake_blocked", "overtake_left"), t.format(speed=1.5)) for k, ts in book.items() for t in ts
    ]
    wrong = [(kind, text) for kind, text in cases if understand(text) != instruction_of(kind)]
    assert len(wrong) <= 0.1 * len(cases), wrong


def test_unseen_phrasings_are_not_in_the_book():
    """A guard of the measurement, not of the code: whoever adds phrasings must not add these."""
    seen = {t.lower().strip(" .!") for t in all_texts(3000, seed=5)}
    texts = {t.lower().strip(" .!") for ts in yaml.safe_load(UNSEEN.read_text()).values() for t in ts}
    assert not texts & seen


@pytest.mark.parametrize("text", ["stop", "STOP!", "stop now", "stop right now", "please stop", "halt", "停", "停车"])
def test_stop_is_stop(text):
    assert understand(text) == Instruction("stop")


@pytest.mark.parametrize("text", ["", "   ", "banana", "qwfp zxcv arst", "？"])
def test_what_means_nothing_is_not_guessed(text):
    assert understand(text) is None


def test_a_speed_with_a_unit_decides():
    assert understand("go 2 m/s") == Instruction("target_speed", 2.0)
    assert understand("每秒0.8米") == Instruction("target_speed", 0.8)

"""The model card that lies beside the weights: what it is, what it was taught on, and how well it did when measured."""

from __future__ import annotations

from pathlib import Path

from training.planner.settings import PlannerTrainSettings
from training.planner.state import TrainState

_CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
tags: [driving, qwen2_vl, small]
---

# planner-nano

A Qwen2-VL-architecture model of {millions:.1f} M parameters that looks through the front camera of a small car, says
what it sees, and plans the next four metres. It is the embedded planner of Pacenote.

**In**: two consecutive camera frames (one image, two frames deep; 168 x 112 pixels, 24 tokens) and one line of text
with speed, cruising speed, what the car is doing and the command in force, English or Chinese.
**Out**: facts (lanes, bend, other cars), an action phrase, intent and verdict, eight path headings, two speeds; the
grammar stands in `planner/grammar.py`.

```python
from planner.backends.transformers_backend import TransformersBackend

answer = TransformersBackend("models/planner-nano").plan([request])[0]
```

## Training

From random weights on CPU, on pictures and expert answers made by the simulator `track` while training (random roads
with seeds below 1,000,000; racetrack files never): the vision tower first on dense labels, then everything on prompts
and answers. {samples:,} pairs and {seconds:.0f} s of the last run's second stage. `pacenote train planner`
trains one from nothing; the runs that led to these weights, with log and curve, are in `docs/training/`.

## Measured on unseen random roads, at the end of training

{figures}

## Limits

It has seen one simulator only, cars of one size, and cameras near the default mounting. Cars behind are invisible to
it. It does not know words outside everyday driving commands. Not for use near people.
"""


def write_card(
    folder: Path, parameters: int, settings: PlannerTrainSettings, state: TrainState, figures: dict[str, float]
) -> None:
    """Write `README.md` into the model folder."""
    rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in figures.items())
    table = f"| figure | value |\n|---|---|\n{rows}" if rows else "(not measured yet)"
    text = _CARD.format(millions=parameters / 1e6, samples=state.samples, seconds=state.elapsed_s, figures=table)
    (Path(folder) / "README.md").write_text(text)

"""The card beside an adapter: what it is for, what it was trained on, how to use it, how it did when it was made."""

from __future__ import annotations

from pathlib import Path

from training.planner.adapt_settings import AdaptSettings
from training.planner.state import TrainState

_CARD = """---
license: apache-2.0
library_name: peft
base_model: planner-nano
tags: [driving, qwen2_vl, small, lora]
---

# {name}

A LoRA adapter (PEFT format, rank {rank} on the language model, {vision_rank} on the vision tower) that adapts
planner-nano to the pictures of the simulator `{world}`. It fits only the very weights that it was trained on
(`pacenote.json` holds their hash).

```sh
pacenote evaluate --world {world} --planner {out} --controller pursuit
pacenote drive --world {world} --planner nano+{out}
```

## Training

{scenes:,} scenes of expert driving with disturbed steering on {train}; mirrored and in changed light; {home:.0f} % of
the scenes from `track`. {samples:,} pairs in {seconds:.0f} s. Never trained on: {held}.
`pacenote train planner --lora --world {world}` repeats it.

## At the end of training, on scenes of the tracks not trained on

{figures}
"""


def write_adapter_card(folder: Path, settings: AdaptSettings, state: TrainState, figures: dict[str, float]) -> None:
    """Write `README.md` into the adapter's folder."""
    rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in figures.items())
    text = _CARD.format(
        name=settings.name,
        rank=settings.rank,
        vision_rank=settings.vision_rank,
        world=settings.world,
        out=settings.out if not Path(settings.out).is_absolute() else Path(settings.out).name,
        scenes=settings.scenes,
        train=", ".join(settings.train_tracks),
        held=", ".join(settings.held_out_tracks) or "nothing said",
        home=100 * settings.home_share,
        samples=state.samples,
        seconds=state.elapsed_s,
        figures=f"| figure | value |\n|---|---|\n{rows}" if rows else "(not measured)",
    )
    (Path(folder) / "README.md").write_text(text)

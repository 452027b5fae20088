"""Planner backends by name: expert, nano, a folder of a model or of an adapter (on nano: nano+FOLDER), or an
OpenAI-compatible server. Imports only what is chosen."""

from __future__ import annotations

import json
from pathlib import Path

from bridge.names import choose
from bridge.planning import PlannerBackend

NAMES = ("expert", "nano", "nano+ADAPTER", "openai:URL")
NANO = Path(__file__).resolve().parent.parent / "models" / "planner-nano"


def load_backend(name: str, *, threads: int | None = None, model: str | None = None) -> PlannerBackend:
    """`threads` for torch; `model`: which one an OpenAI-compatible server shall use. Raises UnknownName,
    FileNotFoundError where planner-nano is missing, or what the backend raises for a model that cannot serve."""
    if name == "expert":
        from planner.phrasebook import understand
        from sims.expert import ExpertBackend

        understand("")  # builds its tables now, and not when the first command comes
        return ExpertBackend(understand)
    if name.startswith("openai:"):
        from planner.backends.openai_backend import OpenAIBackend

        return OpenAIBackend(name.removeprefix("openai:"), model=model)
    named, plus, adapter = name.partition("+")
    if named == "nano" and not (NANO / "config.json").is_file():
        raise FileNotFoundError(f"planner-nano is not at {NANO}; make it with: pacenote train planner")
    folder = Path(adapter) if plus and named == "nano" else NANO if name == "nano" else Path(name)
    if not folder.is_dir():
        choose(name, NAMES, "planner (and no folder of that name)")
    base = NANO if (plus and named == "nano") or _names_nano(folder) else None
    from planner.backends.transformers_backend import TransformersBackend

    trained = _speaks_our_grammar(folder)
    return TransformersBackend(folder, base=base, threads=threads, trained=trained, name=folder.name)


def _speaks_our_grammar(folder: Path) -> bool:
    """Whether the folder's model was trained on the plan grammar (both trainers leave this file)."""
    return (folder / "pacenote.json").is_file()


def _names_nano(folder: Path) -> bool:
    """Whether the folder is an adapter whose base is said to be "nano"."""
    settings = folder / "adapter_config.json"
    return settings.is_file() and json.loads(settings.read_text()).get("base_model_name_or_path") == "nano"

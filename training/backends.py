"""Planner backends by name: expert, nano, a model folder, an OpenAI-compatible server. Imports only what is chosen."""

from __future__ import annotations

from pathlib import Path

from bridge.names import choose
from bridge.planning import PlannerBackend

NAMES = ("expert", "nano", "openai:URL")
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
    folder = NANO if name == "nano" else Path(name)
    if name == "nano" and not (folder / "config.json").is_file():
        raise FileNotFoundError(f"planner-nano is not at {folder}; make it with: pacenote train planner")
    if not folder.is_dir():
        choose(name, NAMES, "planner (and no folder of that name)")
    from planner.backends.transformers_backend import TransformersBackend

    return TransformersBackend(folder, threads=threads, trained=_speaks_our_grammar(folder), name=folder.name)


def _speaks_our_grammar(folder: Path) -> bool:
    """Whether the folder's model was trained on the plan grammar (both trainers leave this file)."""
    return (folder / "pacenote.json").is_file()

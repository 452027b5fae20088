"""Folders of LoRA adapters: which base they name, and whether that base is the one that they were trained on.

Knows files only; `transformers_backend` puts an adapter on.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

CONFIG, NOTE = "adapter_config.json", "pacenote.json"


class AdapterError(RuntimeError):
    """An adapter that does not fit; the message says what is wrong and what to do."""


def base_and_adapter(model: str | Path, base: str | Path | None = None) -> tuple[str, Path | None]:
    """(base model, adapter folder or None) of a folder; `base` in place of the one that the adapter names. Raises
    AdapterError for an adapter without a base, or trained on other weights than that base now has."""
    settings = Path(model) / CONFIG
    if not settings.exists():
        if base is not None:
            raise AdapterError(f"{model} is no adapter (no {CONFIG} in it), so it cannot be put on {base}")
        return str(model), None
    named = json.loads(settings.read_text()).get("base_model_name_or_path") if base is None else str(base)
    if not named:
        raise AdapterError(f"adapter {model}: adapter_config.json names no base_model_name_or_path")
    beside = (Path(model) / named).resolve() if base is None else Path(named)
    found = str(beside) if beside.is_dir() else named
    _check_base(Path(model), Path(found))
    return found, Path(model)


def weights_sha256(folder: Path) -> str:
    """Hash over the weights of a model folder, in the order of their files' names."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def write_note(folder: Path, base: Path) -> None:
    """Say in the adapter's folder that it speaks our grammar, and which weights it was trained on."""
    (folder / NOTE).write_text(json.dumps({"grammar": 1, "base_sha256": weights_sha256(base)}) + "\n")


def _check_base(adapter: Path, base: Path) -> None:
    note = adapter / NOTE
    wanted = json.loads(note.read_text()).get("base_sha256") if note.is_file() else None
    if wanted and base.is_dir() and weights_sha256(base) != wanted:
        raise AdapterError(
            f"adapter {adapter} was trained on other weights than those in {base}; train it again: "
            "pacenote train planner --lora --world WORLD"
        )

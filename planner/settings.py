"""Settings of the planner server. Knows nothing of backends; those are made by name elsewhere."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class ServeSettings(BaseModel):
    """Where the planner listens. `keys`: folder with planner.key, planner.key_secret and allowed/*.key; needed beyond
    loopback unless `insecure`. `log`: file that gets one JSON line per plan."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bind: str = "tcp://127.0.0.1:5555"
    keys: Path | None = None
    insecure: bool = False
    log: Path | None = None

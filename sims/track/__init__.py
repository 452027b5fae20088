"""World `track`: the embedded default, batched, camera and all. Its parts are imported when first asked for."""

from importlib import import_module

import gymnasium as gym

_HOMES = {"Randomization": "look", "TrackEnv": "gym_env", "TrackVectorEnv": "env"}
__all__ = ["Randomization", "TrackEnv", "TrackVectorEnv"]

if "Pacenote/Track-v0" not in gym.registry:
    gym.register("Pacenote/Track-v0", entry_point="sims.track.gym_env:TrackEnv")


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"sims.track.{_HOMES[name]}"), name)

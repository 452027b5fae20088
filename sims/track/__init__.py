"""World `track`: the embedded default, batched, camera and all."""

import gymnasium as gym

from sims.track.env import TrackVectorEnv
from sims.track.gym_env import TrackEnv
from sims.track.look import Randomization

__all__ = ["Randomization", "TrackEnv", "TrackVectorEnv"]

if "Pacenote/Track-v0" not in gym.registry:
    gym.register("Pacenote/Track-v0", entry_point="sims.track.gym_env:TrackEnv")

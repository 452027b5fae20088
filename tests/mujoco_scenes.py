"""Scenes for the tests of world mujoco."""

import math

import numpy as np

from sims.mujoco.world import MujocoWorld
from sims.road import road_from_points
from sims.scenarios import Scenario


def oval(lanes=2, width=1.6):
    """Straights of 12 m along x, from s = 0 on, and wide bends."""
    t = np.linspace(-math.pi / 2, math.pi / 2, 24)
    x = np.concatenate([np.linspace(0, 12, 40)[:-1], 12 + 4 * np.cos(t), np.linspace(12, 0, 40)[1:-1], -4 * np.cos(t)])
    y = np.concatenate([np.zeros(39), 4 + 4 * np.sin(t), np.full(38, 8.0), 4 - 4 * np.sin(t)])
    half = np.full(len(x), width / 2)
    return road_from_points("oval", x, y, half, half, lanes)


def scene(actors=(), speed=1.0, d=0.0, s=1.0, where=None):
    return Scenario("follow_lane", where or oval(), s, d, speed, 1.2, tuple(actors), (), 20.0, {"t_command_s": 0.0})


def nominal(camera_size=None, **more):
    return MujocoWorld(camera_size=camera_size, randomize=0.0, **more)


def run(world, actions):
    return [world.step(action)[4]["truth"] for action in actions]

"""`track` as a Gymnasium environment, single and batched."""

import warnings

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env

import sims.track  # noqa: F401  (registers the environment)
from sims.random_road import random_road
from sims.track import TrackEnv, TrackVectorEnv
from sims.truth import Truth


def test_env_checker_passes():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = gym.make("Pacenote/Track-v0", camera_size=(64, 48), render_mode="rgb_array")
        check_env(env.unwrapped, skip_render_check=False)


def test_single_world_is_the_batched_one_with_one_car():
    road = random_road(4)
    single, batched = TrackEnv([road], camera_size=(32, 24)), TrackVectorEnv(1, [road], camera_size=(32, 24))
    one, info = single.reset(seed=9)
    many, _ = batched.reset(seed=9)
    assert np.array_equal(one["image"], many["image"][0]) and isinstance(info["truth"], Truth)
    for _ in range(5):
        one, reward, terminated, truncated, info = single.step([0.2, 0.5])
        many, rewards, *_ = batched.step(np.array([[0.2, 0.5]]))
    assert np.array_equal(one["image"], many["image"][0]) and reward == rewards[0]
    assert (terminated, truncated) == (False, False) and info["truth"].t_s > 0.16


def test_observations_are_in_their_spaces():
    env = TrackVectorEnv(3, [random_road(1)], camera_size=(32, 24))
    observation, _ = env.reset(seed=1)
    assert env.observation_space.contains(observation)
    assert env.observation_space.contains(env.step(env.action_space.sample())[0])


def test_reset_of_some_leaves_the_others():
    env = TrackVectorEnv(3, [random_road(1), random_road(2)], camera_size=(32, 24))
    for _ in range(10):
        env.step(np.tile([0.0, 0.5], (3, 1)))
    before = env.state.copy()
    env.reset(options={"reset_mask": np.array([False, True, False]), "road_index": 1})
    assert np.array_equal(env.state[[0, 2]], before[[0, 2]])
    assert env.state.time_s[1] == 0 and env.state.road[1] == 1


def test_truncation_after_max_steps():
    env = TrackVectorEnv(2, [random_road(1)], camera_size=None, max_steps=3)
    ended = [env.step(np.zeros((2, 2)))[3].tolist() for _ in range(3)]
    assert ended == [[False, False], [False, False], [True, True]]

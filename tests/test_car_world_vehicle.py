"""A world that drives like a car: its time follows the clock, its action is held, its truth belongs to its picture."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from bridge.clock import VirtualClock
from bridge.messages import VehicleProfile
from sims.vehicle_adapter import CATCH_UP_LIMIT, WorldVehicle


class CountingWorld:
    """Counts its steps; the picture and the truth show the count."""

    def __init__(self):
        self.actions = []

    def seen(self):
        count = len(self.actions)
        image = np.full((4, 4, 3), count % 256, np.uint8)
        truth = SimpleNamespace(to_dict=lambda: {"t_s": count / 30})
        numbers = {name: np.float32(v) for name, v in (("speed", count), ("yaw_rate", 0.5), ("steering", 1.00001))}
        return {"image": image, **numbers}, truth

    def step(self, action):
        self.actions.append(tuple(action))
        observation, truth = self.seen()
        return observation, 0.0, False, False, {"truth": truth}


def vehicle():
    clock, world, truths = VirtualClock(10**9), CountingWorld(), []
    return WorldVehicle(world, *world.seen(), VehicleProfile(), clock, on_step=truths.append), world, clock, truths


def test_the_world_keeps_up_with_the_clock():
    car, world, clock, truths = vehicle()
    assert car.read().t_capture_ns == 10**9 and world.actions == []
    car.actuate(0.5, 0.3, 0.0)
    clock.advance_s(0.1)
    sensors = car.read()
    assert world.actions == [(0.5, 0.3)] * 3 and len(truths) == 3
    assert sensors.ego.speed_mps == 3.0 and sensors.ego.steering == 1.0 and sensors.image[0, 0, 0] == 3
    assert clock.now_ns() - sensors.t_capture_ns < 1e9 / 30
    assert car.truth() == {"t_s": 0.1}
    car.read()
    assert len(world.actions) == 3, "time stood still"


def test_brakes_and_stops():
    car, world, clock, _ = vehicle()
    car.actuate(0.2, 0.0, 0.7)
    clock.advance_s(0.04)
    car.read()
    assert world.actions[-1] == pytest.approx((0.2, -0.7))
    car.stop()
    clock.advance_s(0.04)
    car.read()
    assert world.actions[-1] == pytest.approx((0.2, -0.7)), "stopping never lets a brake go"
    car.actuate(0.2, 0.9, 0.0)
    car.close()
    clock.advance_s(0.04)
    car.read()
    assert world.actions[-1] == (0.2, 0.0)


def test_a_long_pause_is_skipped_not_replayed():
    car, world, clock, _ = vehicle()
    clock.advance_s(60.0)
    sensors = car.read()
    assert len(world.actions) == CATCH_UP_LIMIT
    assert clock.now_ns() - sensors.t_capture_ns < 1e9 / 30


def test_only_the_last_of_several_steps_is_looked_at():
    car, world, clock, truths = vehicle()
    unseen = []

    def advance(action):
        unseen.append(len(world.actions))
        observation, *rest = world.step(action)
        del observation["image"]
        return observation, *rest

    world.advance = advance
    clock.advance_s(0.2)
    sensors = car.read()
    assert unseen == [0, 1, 2, 3, 4] and len(truths) == 6 and sensors.image[0, 0, 0] == 6


def test_unseen_steps_are_the_same_steps():
    from sims.track import TrackEnv

    one, other = (TrackEnv(camera_size=(32, 24)) for _ in range(2))
    one.reset(seed=2), other.reset(seed=2)
    for _ in range(4):
        one.step([0.2, 0.5])
        observation, *_ = other.advance([0.2, 0.5])
        assert "image" not in observation
    seen, also = one.step([0.0, 0.0])[0], other.step([0.0, 0.0])[0]
    assert all(np.array_equal(seen[name], also[name]) for name in seen)

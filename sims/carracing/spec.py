"""World `carracing` for the registry. Importing this loads neither Box2D nor pygame."""

from __future__ import annotations

from importlib.util import find_spec

from bridge.messages import VehicleProfile
from sims.road import Road, RoadError
from sims.world import WorldSpec

# Sizes are those of the car in gymnasium.envs.box2d.car_dynamics. It has grip and power for more than ten times these
# accelerations; they are the default car's in proportion, so that it drives like a car.
WHEELBASE_M = 3.24
SCALE = WHEELBASE_M / 0.25
PROFILE = VehicleProfile(
    name="carracing",
    wheelbase_m=WHEELBASE_M,
    width_m=2.76,
    length_m=5.0,
    rear_overhang_m=0.76,
    steering_limit_rad=0.4,
    max_speed_mps=3.0 * SCALE,
    reference_speed_mps=1.5 * SCALE,
    max_accel_mps2=2.0 * SCALE,
    max_brake_mps2=4.0 * SCALE,
    max_lateral_mps2=2.0 * SCALE,
    actuator_delay_s=0.05,
)


def road(track: str, seed: int) -> Road:
    """ "random": the track that CarRacing-v3 makes from this seed. Raises RoadError for any other."""
    if track != "random":
        raise RoadError(f"world 'carracing' has no track {track!r}: it makes its own from a seed; use random")
    from sims.carracing.world import generated_road

    return generated_road(seed)


def missing() -> str | None:
    """What lacks here and the command that mends it."""
    lacking = [name for name in ("Box2D", "pygame") if find_spec(name) is None]
    return f"no {' and no '.join(lacking)}: pip install 'gymnasium[box2d]'" if lacking else None


def make(*, camera_size: tuple[int, int] | None = None, randomize: float = 0.0, seed: int = 0):
    """A `CarRacingWorld`. With any `camera_size` its observation has CarRacing's own picture, 96 x 96 from above.
    `randomize` changes nothing: there is nothing to randomise."""
    from sims.carracing.world import CarRacingWorld

    return CarRacingWorld(picture=camera_size is not None)


SPEC = WorldSpec(
    name="carracing",
    about="Gymnasium's CarRacing-v3: Box2D physics, random tracks, seen from above (no forward camera, no traffic)",
    needs="pip install 'gymnasium[box2d]'",
    missing=missing,
    make=make,
    road=road,
    tracks=lambda: (),
    profile=PROFILE,
    camera=False,
    traffic=False,
    modules=("Box2D", "pygame"),
)

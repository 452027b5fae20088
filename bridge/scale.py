"""One scale to think at: the default car's. A larger or faster car is brought to it by dividing lengths and speeds.

Scenarios, judge, expert and planner-nano reason about a car of wheelbase 0.25 m and reference speed 1.5 m/s. Lengths of
another car are multiplied by its wheelbase / 0.25 and speeds by its reference speed / 1.5; times and accelerations
follow from these two. Where both factors are alike (a reference speed of six wheelbases a second) times are unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.messages import CameraModel, VehicleProfile

MODEL_CAR = VehicleProfile()


@dataclass(frozen=True)
class Scale:
    """Real size = model size times the factor of the kind of quantity."""

    length: float
    speed: float

    @property
    def time(self) -> float:
        """Factor of durations."""
        return self.length / self.speed

    @property
    def accel(self) -> float:
        """Factor of accelerations."""
        return self.speed * self.speed / self.length

    @property
    def is_one(self) -> bool:
        """Whether nothing changes."""
        return self.length == 1.0 and self.speed == 1.0

    @property
    def inverse(self) -> Scale:
        """The way back."""
        return Scale(1.0 / self.length, 1.0 / self.speed)


ONE = Scale(1.0, 1.0)


def scale_of(profile: VehicleProfile) -> Scale:
    """The scale of a car."""
    return Scale(
        profile.wheelbase_m / MODEL_CAR.wheelbase_m, profile.reference_speed_mps / MODEL_CAR.reference_speed_mps
    )


def model_profile(profile: VehicleProfile) -> VehicleProfile:
    """The car brought to the default car's wheelbase and reference speed; angles stay."""
    scale = scale_of(profile)
    if scale.is_one:
        return profile
    mounting = {name: getattr(profile.camera, name) / scale.length for name in ("x_m", "y_m", "z_m")}
    return VehicleProfile(
        name=profile.name,
        wheelbase_m=MODEL_CAR.wheelbase_m,
        width_m=profile.width_m / scale.length,
        length_m=profile.length_m / scale.length,
        rear_overhang_m=profile.rear_overhang_m / scale.length,
        steering_limit_rad=profile.steering_limit_rad,
        max_speed_mps=profile.max_speed_mps / scale.speed,
        reference_speed_mps=MODEL_CAR.reference_speed_mps,
        max_accel_mps2=profile.max_accel_mps2 / scale.accel,
        max_brake_mps2=profile.max_brake_mps2 / scale.accel,
        max_lateral_mps2=profile.max_lateral_mps2 / scale.accel,
        actuator_delay_s=profile.actuator_delay_s / scale.time,
        camera=CameraModel(**{**profile.camera.model_dump(), **mounting}),
    )

"""Settings of a real car, read from `configs/car/*.yaml`. Knows no hardware."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from bridge.messages import CameraModel, VehicleProfile
from bridge.names import UnknownName, choose

Positive = Annotated[float, Field(gt=0.0)]
Channel = Annotated[int, Field(ge=0, le=15)]
Pulse = Annotated[int, Field(ge=0, le=4095)]


class CarConfigError(ValueError):
    """A car configuration that cannot be used; the message says where and what to do."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                choose(str(key), cls.model_fields, f"key of {cls.__name__}")
        return data


class CameraSettings(_Settings):
    """`source`: "picamera" or an OpenCV index or path. Rotated by half a turn where the camera hangs upside down."""

    source: Literal["picamera"] | int | str = 0
    width_px: Annotated[int, Field(ge=16, le=4096)] = 160
    height_px: Annotated[int, Field(ge=16, le=4096)] = 120
    rate_hz: Positive = 30.0
    upside_down: bool = False


class Pca9685Settings(_Settings):
    """Servo and ESC on a PCA9685; pulses are its 12-bit counts, as Donkey's calibration gives them."""

    i2c_bus: int = 1
    i2c_address: Annotated[int, Field(ge=0x03, le=0x77)] = 0x40
    frequency_hz: Positive = 60.0
    steering_channel: Channel = 1
    throttle_channel: Channel = 0
    steering_left_pulse: Pulse = 460
    steering_right_pulse: Pulse = 290
    throttle_forward_pulse: Pulse = 500
    throttle_stopped_pulse: Pulse = 370
    throttle_brake_pulse: Pulse = 220
    # Without a wheel encoder speed can only be guessed: this is the speed that full throttle settles at.
    full_throttle_speed_mps: Positive = 3.0
    speed_lag_s: Positive = 0.5


class VescSettings(_Settings):
    """Drive motor and steering servo on a VESC. `erpm_per_mps` and the servo's range come from calibration."""

    port: str = "/dev/ttyACM0"
    baud: Annotated[int, Field(ge=9600)] = 115200
    erpm_per_mps: Positive = 4614.0
    current_limit_a: Positive = 20.0
    brake_current_a: Positive = 20.0
    servo_centre: Annotated[float, Field(ge=0.0, le=1.0)] = 0.53
    servo_per_unit: Annotated[float, Field(ge=-1.0, le=1.0)] = -0.42  # negative: more is right


class _CarSettings(_Settings):
    car_id: Annotated[str, Field(min_length=1, max_length=64)]
    profile: VehicleProfile = VehicleProfile()
    camera: CameraSettings = CameraSettings()
    watchdog_s: Positive = 0.25
    rate_hz: Positive = 30.0
    controller: str = "flow"


class DonkeyCarSettings(_CarSettings):
    """A Donkey car."""

    kind: Literal["donkey"] = "donkey"
    drive: Pca9685Settings = Pca9685Settings()


class F1tenthCarSettings(_CarSettings):
    """An F1TENTH car."""

    kind: Literal["f1tenth"] = "f1tenth"
    drive: VescSettings = VescSettings()


CarSettings = DonkeyCarSettings | F1tenthCarSettings
_ADAPTER: TypeAdapter[CarSettings] = TypeAdapter(Annotated[CarSettings, Field(discriminator="kind")])


def load_car_settings(path: str | Path) -> CarSettings:
    """Read a car's YAML. Raises CarConfigError for what is missing, unknown (with "did you mean") or out of range."""
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CarConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise CarConfigError(f"{path}: not YAML: {error}") from error
    if not isinstance(data, dict):
        raise CarConfigError(f"{path}: wanted a mapping with at least `kind` and `car_id`")
    try:
        choose(str(data.get("kind")), ("donkey", "f1tenth"), "kind of car")
        return _ADAPTER.validate_python(data)
    except UnknownName as error:
        raise CarConfigError(f"{path}: {error}") from error
    except ValidationError as error:
        raise CarConfigError(f"{path}: {'; '.join(_problem(e) for e in error.errors()[:5])}") from error


def _problem(error: Any) -> str:
    where = ".".join(map(str, error["loc"][1:]))
    if error["type"] != "extra_forbidden":
        return f"{where}: {error['msg']}"
    try:  # the profile is the bridge's: it refuses unknown keys but gives no hint
        choose(str(error["loc"][-1]), (*VehicleProfile.model_fields, *CameraModel.model_fields), "key")
    except UnknownName as hint:
        return f"{where}: {hint}"
    return f"{where}: this key does not belong here"

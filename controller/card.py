"""The card that every ONNX bundle carries in its metadata, and the shapes that a bundle must have.

Used by the export (writing) and by the car (checking before a motor arms). Knows no ONNX.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bridge.messages import VehicleProfile
from controller.observation import CHUNK_STEPS, IMAGE_SHAPE, PATH_POINTS

CARD_KEY = "pacenote_card"
OUTPUT_NAME = "chunk"
# name -> (element type as ONNX Runtime names it, shape)
INPUTS: dict[str, tuple[str, tuple[int, ...]]] = {
    "image": ("tensor(uint8)", (1, *IMAGE_SHAPE)),
    "path": ("tensor(float)", (1, PATH_POINTS, 3)),
    "path_valid": ("tensor(float)", (1, 1)),
    "ego": ("tensor(float)", (1, 3)),
    "noise": ("tensor(float)", (1, CHUNK_STEPS, 2)),
}
OUTPUT_SHAPE = (1, CHUNK_STEPS, 2)

Range = Annotated[tuple[float, float], Field(description="lowest and highest, both allowed")]


class ProfileRange(BaseModel):
    """The cars that a bundle is valid for."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    wheelbase_m: Range
    steering_limit_rad: Range
    reference_speed_mps: Range
    lenses: tuple[Literal["pinhole", "fisheye"], ...] = ("fisheye",)

    def objection(self, profile: VehicleProfile) -> str | None:
        """Why `profile` is outside, None when it is inside. A thousandth of slack for rounding."""
        for name in ("wheelbase_m", "steering_limit_rad", "reference_speed_mps"):
            low, high = getattr(self, name)
            value = getattr(profile, name)
            if not low * 0.999 <= value <= high * 1.001:
                return f"{name} {value:g} is outside {low:g}..{high:g}"
        if profile.camera.lens not in self.lenses:
            return f"camera lens {profile.camera.lens!r} is not among {', '.join(self.lenses)}"
        return None


class BundleCard(BaseModel):
    """What a bundle says of itself. `training`, `metrics` and `certificate` are free-form; the last is what
    `pacenote validate` writes, None before."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal["pacenote-controller"] = "pacenote-controller"
    version: Literal[1] = 1
    name: Annotated[str, Field(min_length=1, max_length=100)]
    description: str
    rate_hz: Annotated[float, Field(gt=0.0)] = 30.0
    commit: str
    seed: int
    opset: int
    ir_version: int
    inputs: dict[str, tuple[int, ...]] = {name: shape for name, (_, shape) in INPUTS.items()}
    output_range: Range = (-1.0, 1.0)
    profiles: ProfileRange
    training: dict = {}
    metrics: dict = {}
    certificate: dict | None = None

"""A learned policy from a single-file ONNX bundle: checked before it may drive, then one thread, one evaluation a tick.

Knows nothing of how it was trained. Normalisation and clipping are inside the graph.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnxruntime
from pydantic import ValidationError

from bridge.messages import VehicleProfile
from bridge.scale import model_profile
from controller.card import CARD_KEY, INPUTS, OUTPUT_NAME, OUTPUT_SHAPE, BundleCard
from controller.observation import Observation
from controller.policy import ActionChunk

_MAX_BYTES = 256 * 1024 * 1024
# A StringStringEntryProto with the key "location": only tensors that are stored outside of the file have one.
_EXTERNAL_MARK = b"\x0a\x08location\x12"


class BundleError(ValueError):
    """A bundle that must not drive; the message says what is wrong and what to do."""


class OnnxPolicy:
    """Drives with the bundle at `path`. Raises BundleError where the bundle is unfit, or unfit for `profile`: a car in
    the range of its card, which in a simulation (`simulated`) may be of any size, as the policy sees every car at one
    scale. `sha256`: of the file as it was loaded."""

    learned = True
    needs_image = True

    def __init__(self, path: Path, profile: VehicleProfile, *, simulated: bool = False):
        self.path = Path(path)
        data = _bytes(self.path)
        self.sha256 = hashlib.sha256(data).hexdigest()
        self._session = _open(self.path, data)
        self.card = read_card(self.path, self._session)
        self.name = self.card.name
        _check_shapes(self.path, self._session)
        objection = self.card.profiles.objection(model_profile(profile) if simulated else profile)
        if objection:
            raise BundleError(f"{path}: not valid for the car {profile.name!r}: {objection}; use one trained for it")
        self._noise = np.zeros(INPUTS["noise"][1], np.float32)
        self._try_out()

    def act(self, observation: Observation) -> ActionChunk:
        """A chunk (50, 2). Raises ValueError without an image."""
        if observation.image is None:
            raise ValueError("the policy needs an image")
        actions = self._run(observation.image, observation.path, observation.path_valid, observation.ego)
        return ActionChunk(actions, self.card.rate_hz)

    def reset(self) -> None:
        """Nothing is remembered from tick to tick."""

    def _run(self, image: np.ndarray, path: np.ndarray, path_valid: float, ego: np.ndarray) -> np.ndarray:
        feeds = {
            "image": image[None],
            "path": path[None],
            "path_valid": np.array([[path_valid]], np.float32),
            "ego": ego[None],
            "noise": self._noise,
        }
        return self._session.run([OUTPUT_NAME], feeds)[0][0]

    def _try_out(self) -> None:
        """Outputs must be finite and in range for dull and for wild inputs, before any motor turns."""
        rng = np.random.default_rng(0)
        for scale in (0.0, 1.0, 10.0):
            image = (rng.random(INPUTS["image"][1][1:]) * 255 * min(scale, 1.0)).astype(np.uint8)
            path = (scale * rng.standard_normal(INPUTS["path"][1][1:])).astype(np.float32)
            ego = (scale * rng.standard_normal(3)).astype(np.float32)
            try:
                actions = self._run(image, path, float(scale > 0.0), ego)
            except Exception as error:
                raise BundleError(f"{self.path}: the trial run failed: {error}") from error
            if not np.isfinite(actions).all():
                raise BundleError(f"{self.path}: the trial run gave numbers that are not finite; export it again")
            if np.abs(actions).max() > 1.0 + 1e-4:
                raise BundleError(
                    f"{self.path}: the trial run left [-1, 1] ({np.abs(actions).max():.3g}); clip inside the graph"
                )


def read_card(path: Path, session: onnxruntime.InferenceSession | None = None) -> BundleCard:
    """The card of a bundle. Raises BundleError where it is missing or malformed."""
    session = session or _open(path)
    text = session.get_modelmeta().custom_metadata_map.get(CARD_KEY)
    if text is None:
        raise BundleError(f"{path}: no card (metadata key {CARD_KEY!r}); export it with `pacenote export`")
    try:
        return BundleCard.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'card'}: {e['msg']}" for e in error.errors()[:8])
        raise BundleError(f"{path}: malformed card: {problems}") from error


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise BundleError(f"{path}: no such bundle")
    if path.stat().st_size > _MAX_BYTES:
        raise BundleError(f"{path}: larger than {_MAX_BYTES >> 20} MiB; this is no controller bundle")
    return path.read_bytes()


def _open(path: Path, data: bytes | None = None) -> onnxruntime.InferenceSession:
    data = _bytes(path) if data is None else data
    if _EXTERNAL_MARK in data:
        raise BundleError(f"{path}: its weights lie in another file; export with external_data=False")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        version = onnxruntime.__version__
        raise BundleError(f"{path}: ONNX Runtime {version} cannot load it: {str(error)[:300]}") from error


def _check_shapes(path: Path, session: onnxruntime.InferenceSession) -> None:
    found = {i.name: (i.type, tuple(i.shape)) for i in session.get_inputs()}
    for name, wanted in INPUTS.items():
        if found.get(name) != wanted:
            raise BundleError(f"{path}: input {name!r} should be {wanted}, is {found.get(name, 'missing')}")
    extra = sorted(set(found) - set(INPUTS))
    if extra:
        raise BundleError(f"{path}: unknown inputs {', '.join(extra)}")
    outputs = {o.name: tuple(o.shape) for o in session.get_outputs()}
    if outputs.get(OUTPUT_NAME) != OUTPUT_SHAPE:
        raise BundleError(f"{path}: output {OUTPUT_NAME!r} should be {OUTPUT_SHAPE}, outputs are {outputs}")

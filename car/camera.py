"""Cameras that keep their newest frame at hand: a thread waits for the hardware so that the control loop does not."""

from __future__ import annotations

import threading
from collections.abc import Callable

import cv2
import numpy as np

from bridge.clock import Clock, MonotonicClock
from car.settings import CameraSettings
from car.vehicle import VehicleError

Grab = Callable[[], np.ndarray | None]  # waits for the next frame: RGB uint8 (h, w, 3), None on failure


class LatestFrame:
    """Runs `grab` in a thread and keeps the newest frame with the stamp at which it arrived."""

    def __init__(self, grab: Grab, release: Callable[[], None], clock: Clock | None = None):
        self._grab, self._release, self._clock = grab, release, clock or MonotonicClock()
        self._newest: tuple[np.ndarray, int] | None = None
        self._quit = threading.Event()
        self.failures = 0
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    def read(self) -> tuple[np.ndarray, int]:
        """Newest frame and its stamp [ns]. Raises VehicleError before the first one."""
        newest = self._newest
        if newest is None:
            raise VehicleError("the camera has not given a frame yet; check its cable and that no other program has it")
        return newest

    def close(self) -> None:
        """Stop the thread and let go of the camera."""
        self._quit.set()
        self._thread.join(timeout=2.0)
        self._release()

    def _run(self) -> None:
        while not self._quit.is_set():
            try:
                frame = self._grab()
            except Exception:
                frame = None
            if frame is None:  # the stamp stays old, which is what stops the car; try again without spinning
                self.failures += 1
                self._quit.wait(0.05)
            else:
                self._newest = (frame, self._clock.now_ns())


def open_camera(settings: CameraSettings) -> LatestFrame:
    """Open what `settings.source` names. Raises VehicleError."""
    grab, release = _open_picamera(settings) if settings.source == "picamera" else _open_opencv(settings)
    if not settings.upside_down:
        return LatestFrame(grab, release)

    def turned() -> np.ndarray | None:
        frame = grab()
        return None if frame is None else cv2.rotate(frame, cv2.ROTATE_180)

    return LatestFrame(turned, release)


def _open_opencv(settings: CameraSettings) -> tuple[Grab, Callable[[], None]]:
    capture = cv2.VideoCapture(settings.source)
    if not capture.isOpened():
        raise VehicleError(f"camera {settings.source!r} cannot be opened; list what there is with `ls /dev/video*`")
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, settings.width_px)
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, settings.height_px)
    capture.set(cv2.CAP_PROP_FPS, settings.rate_hz)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def grab() -> np.ndarray | None:
        good, frame = capture.read()
        return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if good else None

    return grab, capture.release


def _open_picamera(settings: CameraSettings) -> tuple[Grab, Callable[[], None]]:
    try:
        from picamera2 import Picamera2
    except ImportError as error:
        raise VehicleError("picamera2 is missing: sudo apt install python3-picamera2") from error
    camera = Picamera2()
    # Picamera2's "BGR888" is R, G, B in memory order.
    main = {"size": (settings.width_px, settings.height_px), "format": "BGR888"}
    camera.configure(camera.create_video_configuration(main=main, controls={"FrameRate": settings.rate_hz}))
    camera.start()
    return camera.capture_array, camera.close

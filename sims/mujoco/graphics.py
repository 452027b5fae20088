"""The graphics context without a display that all cameras of a process share, however many worlds there are.

EGL or OSMesa, whichever is here, or what MUJOCO_GL asks for. MuJoCo itself is imported only when a context is made.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading

from sims.world import WorldError

EGL_LIBRARY, OSMESA_LIBRARIES = "libEGL.so.1", ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so")
HINT = "for pictures install EGL (apt install libegl1 libgl1-mesa-dri) or OSMesa (apt install libosmesa6)"


def choose_backend() -> str:
    """What MUJOCO_GL says, else "egl" where a device answers, else "osmesa". Raises WorldError without either."""
    said = os.environ.get("MUJOCO_GL", "").lower().strip()
    if said:
        return said
    if _egl_devices() > 0:
        return "egl"
    for name in OSMESA_LIBRARIES:
        with contextlib.suppress(OSError):
            ctypes.CDLL(name)
            return "osmesa"
    raise WorldError(f"mujoco: no way to draw without a display; {HINT}")


def _egl_devices() -> int:
    """Number of devices that EGL can draw on, a software one included; 0 without EGL."""
    try:
        egl = ctypes.CDLL(EGL_LIBRARY)
    except OSError:
        return 0
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    address = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
    if not address:
        return 0
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))(address)
    count = ctypes.c_int(0)
    return count.value if query(0, None, ctypes.byref(count)) else 0


def _make_context(backend: str):
    os.environ["MUJOCO_GL"] = backend  # MuJoCo's renderer reads it when it looks for OpenGL's functions
    try:
        if backend == "egl":
            from mujoco.egl import GLContext
        elif backend == "osmesa":
            from mujoco.osmesa import GLContext
        else:
            from mujoco import GLContext
        return GLContext(16, 16)
    except Exception as error:  # PyOpenGL and its drivers fail in many ways
        raise WorldError(f"mujoco: cannot draw with MUJOCO_GL={backend}: {error}; {HINT}") from error


class _Graphics:
    """The one graphics context of this process, made for the first eye and let go with the last."""

    def __init__(self):
        self._lock = threading.RLock()
        self._context, self.users = None, 0

    @contextlib.contextmanager
    def current(self):
        """Draw from this thread; other threads wait."""
        with self._lock, self._context.as_current():
            yield

    def join(self) -> None:
        with self._lock:
            if self._context is None:
                self._context = _make_context(choose_backend())
            self.users += 1

    def leave(self) -> None:
        with self._lock:
            self.users -= 1
            if self.users == 0:
                self._context.free()
                self._context = None


GRAPHICS = _Graphics()

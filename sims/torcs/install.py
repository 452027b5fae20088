"""What TORCS needs on this machine: the Debian package, and our driver module compiled into the user's cache folder.

`python -m sims.torcs.install` does all of it (`make torcs`). Knows no socket and no race.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

from sims.world import WorldError

VERSION = "1.3.7+dfsg"  # whose inner records the module knows
PACKAGES = ("torcs", "g++", "libegl-dev", "libgl-dev", "libegl1", "libegl-mesa0", "libgl1-mesa-dri")
GAME = Path("/usr/lib/x86_64-linux-gnu/torcs")
DATA = Path("/usr/share/games/torcs")
BINARY = GAME / "torcs-bin"
RENDERER = GAME / "modules" / "graphic" / "ssggraph.so"
SOURCES = Path(__file__).parent / "driver"
MEND = "run `make torcs` (Debian or Ubuntu, amd64)"


def cache_folder() -> Path:
    """Where built and computed things of TORCS are kept: $XDG_CACHE_HOME/pacenote/torcs, by default below ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pacenote" / "torcs"


def missing() -> str | None:
    """None where TORCS can run here, else what lacks and the command that mends it."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"TORCS's driver module is made for Linux on amd64, this is {sys.platform} on {platform.machine()}"
    if not BINARY.is_file() or not (DATA / "tracks").is_dir():
        return f"the package torcs is not installed; {MEND}"
    version = package_version()
    if version is None or not version.startswith(VERSION):
        return f"the package torcs is {version or 'of unknown version'}, the driver module needs {VERSION}; {MEND}"
    if not _module().is_file() and shutil.which("g++") is None:
        return f"g++, which compiles the driver module, is not installed; {MEND}"
    return None


@lru_cache
def package_version() -> str | None:
    """Version of the Debian package `torcs`, None where dpkg does not know it."""
    try:
        query = ["dpkg-query", "-W", "-f", "${Version}", "torcs"]
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None


@lru_cache
def fingerprint() -> str:
    """A name for what is built: of the module's sources and of the TORCS that it is built for."""
    digest = hashlib.sha256(str(package_version()).encode())
    for path in sorted([*SOURCES.glob("*.cpp"), *SOURCES.glob("*.h")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _module() -> Path:
    return cache_folder() / fingerprint() / "lib" / "drivers" / "pacenote" / "pacenote.so"


def built() -> Path:
    """Folder with `lib/` (what TORCS is given as its library folder: links to its own modules and robots, and ours) and
    `shim.so`; made on first use. Raises WorldError where TORCS is missing or the compiler fails."""
    lacking = missing()
    if lacking is not None:
        raise WorldError(f"world 'torcs' cannot run here: {lacking}")
    folder = cache_folder() / fingerprint()
    if not (folder / "shim.so").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix="build-", dir=folder.parent))
        try:
            _build(aside)
            _move_into_place(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return folder


def _build(folder: Path) -> None:
    drivers = folder / "lib" / "drivers"
    (drivers / "pacenote").mkdir(parents=True)
    (folder / "lib" / "modules").symlink_to(GAME / "modules")
    for robot in sorted((GAME / "drivers").iterdir()):
        (drivers / robot.name).symlink_to(robot)
    flags = ["g++", "-std=c++17", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra"]
    _compile([*flags, "-o", str(drivers / "pacenote" / "pacenote.so"), "bridge.cpp", "camera.cpp", "-lEGL", "-lGL"])
    _compile([*flags, "-o", str(folder / "shim.so"), "shim.cpp"])


def _compile(command: list[str]) -> None:
    try:
        subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, check=True)
    except OSError as error:
        raise WorldError(f"TORCS's driver module cannot be compiled: {error}; {MEND}") from error
    except subprocess.CalledProcessError as error:
        lines = "\n".join(error.stderr.strip().splitlines()[:8])
        raise WorldError(f"TORCS's driver module cannot be compiled; {MEND}. The compiler said:\n{lines}") from error


def _move_into_place(aside: Path, folder: Path) -> None:
    """Rename, unless another process has been quicker with the same."""
    try:
        aside.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _apt(command: list[str]) -> bool:
    """Run a command of apt's without questions; whether it went well."""
    return subprocess.run(command, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}).returncode == 0


def install() -> None:
    """Install the packages (needs root) and build the module. Raises WorldError with what went wrong."""
    lacking = missing()
    if lacking is not None or not Path("/usr/include/EGL/egl.h").is_file():
        if shutil.which("apt-get") is None:
            raise WorldError(f"{lacking or 'libegl-dev is missing'}; there is no apt-get here to install it with")
        command = ["apt-get", "install", "--yes", "--no-install-recommends", *PACKAGES]
        if os.geteuid() != 0:
            raise WorldError(f"installing needs root; run as root: {' '.join(command)}   and then `make torcs` again")
        # A fresh machine may know no package at all, an old one may know versions that are gone.
        if not _apt(command) and not (_apt(["apt-get", "update"]) and _apt(command)):
            raise WorldError("apt-get failed, see above")
        package_version.cache_clear()
        fingerprint.cache_clear()
    print(f"TORCS {package_version()}; driver module in {built()}")


if __name__ == "__main__":
    try:
        install()
    except WorldError as error:
        sys.exit(f"make torcs: {error}")

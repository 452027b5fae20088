"""What this machine has and lacks for Pacenote, and the one command that mends it.

Every package is imported in a process of its own: a wheel built for another processor kills that process and not the
doctor. Knows packages, files and ports by name; imports nothing of what it examines.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from bridge.names import choose

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_PORT = 5577
PACKAGES = {  # package -> (module, the extra that brings it)
    "pydantic": ("pydantic", ""),
    "pyzmq": ("zmq", ""),
    "typer": ("typer", ""),
    "numpy": ("numpy", "car"),
    "onnxruntime": ("onnxruntime", "car"),
    "opencv": ("cv2", "car"),
    "pyyaml": ("yaml", "car"),
    "cryptography": ("cryptography", "car"),
    "torch": ("torch", "planner"),
    "transformers": ("transformers", "planner"),
    "gymnasium": ("gymnasium", "train"),
    "numba": ("numba", "train"),
    "av": ("av", "train"),
    "pyarrow": ("pyarrow", "train"),
    "peft": ("peft", "train"),
}
ROLES = {"car": ("", "car"), "planner": ("", "planner"), "all": ("", "car", "planner", "train")}


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `level`: "ok", "note" (works without it) or "lack"; `mend`: the command that helps."""

    what: str
    level: str
    says: str
    mend: str = ""


def _in_subprocess(code: str, timeout_s: float = 120.0) -> tuple[bool, str]:
    """Run Python code in a fresh process; (worked, last line of what it said)."""
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return False, f"no answer within {timeout_s:.0f} s"
    if done.returncode < 0:
        return False, f"killed by signal {-done.returncode} (a wheel built for another processor?)"
    said = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode == 0, said[-1] if said else ""


def _package(name: str, role: str) -> Finding:
    module, extra = PACKAGES[name]
    worked, said = _in_subprocess(f"import {module}; print(getattr({module}, '__version__', 'present'))")
    if worked:
        return Finding(name, "ok", said)
    level = "lack" if extra in ROLES[role] else "note"
    wanted = "dev" if role == "all" else extra or role
    return Finding(name, level, said, f'pip install -c constraints.txt -e ".[{wanted}]"')


def _machine() -> list[Finding]:
    cores = os.cpu_count() or 1
    found = [
        Finding(
            "python",
            "ok" if sys.version_info >= (3, 11) else "lack",
            sys.version.split()[0],
            "" if sys.version_info >= (3, 11) else "install Python 3.11 or later",
        ),
        Finding("processor cores", "ok" if cores >= 2 else "note", f"{cores}"),
    ]
    memory = Path("/proc/meminfo")
    if memory.is_file():
        free_gb = next(int(x.split()[1]) for x in memory.read_text().splitlines() if "MemAvailable" in x) / 2**20
        found.append(Finding("free memory", "ok" if free_gb > 1.5 else "note", f"{free_gb:.1f} GiB"))
    disk_gb = shutil.disk_usage(ROOT).free / 2**30
    found.append(Finding("free disk", "ok" if disk_gb > 2 else "note", f"{disk_gb:.1f} GiB"))
    return found


def _gpu() -> Finding:
    if not shutil.which("nvidia-smi"):
        return Finding("GPU", "note", "none found; planner-nano needs none")
    done = subprocess.run(
        ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"],
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    return Finding("GPU", "ok" if done.returncode == 0 else "note", done.stdout.strip().splitlines()[0])


def _port(port: int = DEFAULT_PORT) -> Finding:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return Finding(f"port {port}", "note", "in use: a planner is running, or another program")
    return Finding(f"port {port}", "ok", "free")


def _cameras() -> Finding:
    found = sorted(str(p) for p in Path("/dev").glob("video*"))
    return Finding("cameras", "ok" if found else "note", ", ".join(found) or "none; simulated worlds need none")


def _controller_models(role: str) -> list[Finding]:
    bundles = sorted((ROOT / "models").glob("controller-*.onnx"))
    if not bundles:
        return [
            Finding(
                "controller bundle", "note", "no models/controller-*.onnx; pursuit drives", "pacenote train controller"
            )
        ]
    level = "lack" if role in ("car", "all") else "note"
    found = []
    for bundle in bundles:
        worked, said = _in_subprocess(
            f"import onnxruntime as o; s = o.InferenceSession({str(bundle)!r});"
            "print(', '.join(i.name for i in s.get_inputs()))"
        )
        found.append(Finding(bundle.name, "ok" if worked else level, said, "" if worked else "git checkout -- models"))
    return found


def _planner_model(role: str) -> Finding:
    folder = ROOT / "models" / "planner-nano"
    if not (folder / "config.json").is_file():
        return Finding("planner-nano", "note", "not in models/; use --planner expert", "pacenote train planner")
    weights = sorted(str(path) for path in folder.glob("*.safetensors"))
    if not weights:
        return Finding("planner-nano", "lack", "its *.safetensors are missing", "git checkout -- models")
    worked, said = _in_subprocess(
        f"from safetensors import safe_open; n = sum(len(list(safe_open(f, 'pt').keys())) for f in {weights!r});"
        "print(n, 'tensors')"
    )
    level = "ok" if worked else "lack" if role in ("planner", "all") else "note"
    return Finding("planner-nano", level, said, "" if worked else 'pip install -c constraints.txt -e ".[planner]"')


def examine(role: str = "all") -> list[Finding]:
    """Look at everything. `role` ("car", "planner" or "all") decides what counts as lacking. Raises UnknownName."""
    choose(role, ROLES, "role")
    jobs: list[Callable[[], Finding | list[Finding]]] = [lambda n=name: _package(n, role) for name in PACKAGES]
    jobs += [lambda: _controller_models(role), lambda: _planner_model(role), _gpu, _port, _cameras]
    with ThreadPoolExecutor(max_workers=2) as pool:
        results = list(pool.map(lambda job: job(), jobs))
    found = _machine()
    for result in results:
        found += result if isinstance(result, list) else [result]
    return found


def print_findings(findings: list[Finding]) -> None:
    """One line a finding, and last the command that mends the first lack."""
    signs = {"ok": "[green]ok  [/green]", "note": "[yellow]note[/yellow]", "lack": "[red]LACK[/red]"}
    console = Console()
    for f in findings:
        mend = f"  → {escape(f.mend)}" if f.level == "lack" and f.mend else ""
        console.print(f"{signs[f.level]}  {escape(f.what):20} {escape(f.says)}{mend}", highlight=False, soft_wrap=True)
    mend = as_json(findings)["mend"]
    console.print(f"\nRun this: {escape(mend)}" if mend else "\nNothing is lacking.", highlight=False, soft_wrap=True)


def as_json(findings: list[Finding]) -> dict:
    """{"ok": bool, "findings": [...], "mend": the first command that mends a lack, or None}."""
    lacks = [f for f in findings if f.level == "lack"]
    mend = next((f.mend for f in lacks if f.mend), None)
    return {"ok": not lacks, "mend": mend, "findings": [asdict(f) for f in findings]}

"""Step and ramp responses of the cars of `track` and `mujoco` in one picture, and their key figures in a table.

    python -m sims.mujoco.identify --out docs/worlds

Both cars get the same commands on open ground with nominal physics; what was tuned by this is in `car.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer

from bridge.messages import VehicleProfile
from sims.random_road import random_road
from sims.track import TrackVectorEnv
from sims.track.look import Randomization

STEP_S = 1.0 / 30.0
BEFORE = 6  # steps of straight driving before a steering command
CHANNELS = ("speed_mps", "yaw_rate_radps", "wheel_rad")


@dataclass(frozen=True)
class Manoeuvre:
    """Commands (n, 2) given from a straight run at `speed_mps`, and which of CHANNELS shows what they do."""

    title: str
    speed_mps: float
    commands: np.ndarray
    channel: str
    unit: str


def manoeuvres(profile: VehicleProfile) -> list[Manoeuvre]:
    """The set; steering at 0.5, 1 and 1.5 times the reference speed, under the throttle that a straight run needs."""

    def steer(steering, speed):
        steering = np.concatenate([np.zeros(BEFORE), steering])
        hold = 0.15 * speed / profile.max_accel_mps2  # nominal drag is 0.15 / s
        return np.column_stack([steering, np.full(len(steering), hold)])

    def pedal(*pieces):
        levels = np.concatenate([np.full(count, level) for level, count in pieces])
        return np.column_stack([np.zeros(len(levels)), levels])

    found, v0 = [], profile.reference_speed_mps
    for factor in (0.5, 1.0, 1.5):
        v = factor * v0
        title = f"steering step to 0.4 at {v:.2f} m/s"
        found.append(Manoeuvre(title, v, steer(np.full(40, 0.4), v), "yaw_rate_radps", "rad/s"))
    found.append(
        Manoeuvre(f"steering ramp at {v0:.1f} m/s", v0, steer(np.linspace(0, 1, 90), v0), "yaw_rate_radps", "rad/s")
    )
    found.append(Manoeuvre("front wheels, step to 0.4", v0, steer(np.full(14, 0.4), v0), "wheel_rad", "rad"))
    found.append(Manoeuvre("throttle 1, then none", 0.0, pedal((1.0, 60), (0.0, 40)), "speed_mps", "m/s"))
    ramp = np.column_stack([np.zeros(90), np.linspace(0, 1, 90)])
    found.append(Manoeuvre("throttle ramp", 0.5 * v0, ramp, "speed_mps", "m/s"))
    found.append(Manoeuvre("brake 1 from speed", 1.4 * v0, pedal((0.0, BEFORE), (-1.0, 34)), "speed_mps", "m/s"))
    found.append(Manoeuvre("brake 0.3 from speed", 0.7 * v0, pedal((0.0, BEFORE), (-0.3, 50)), "speed_mps", "m/s"))
    return found


def drive_track(manoeuvre: Manoeuvre, profile: VehicleProfile) -> np.ndarray:
    """(n, 3) of CHANNELS after each step, on track's car."""
    env = TrackVectorEnv(1, [_ground()], profile=profile, camera_size=None, randomize=0.0, parallel=False)
    env.place(0, 0, 0.0, 0.0, 0.0, manoeuvre.speed_mps)
    state = env.state[0]
    state.wheel_rad, state.yaw_rate_radps, state.slip_mps, state.history = 0.0, 0.0, 0.0, 0.0  # straight ahead
    rows = []
    for command in manoeuvre.commands:
        env.step([command])
        rows.append([float(env.state[0][channel]) for channel in CHANNELS])
    env.close()
    return np.array(rows)


def drive_mujoco(manoeuvre: Manoeuvre, profile: VehicleProfile) -> np.ndarray:
    """(n, 3) of CHANNELS after each step, on MuJoCo's car."""
    from sims.mujoco.car import Car, new_spec
    from sims.mujoco.drive import Drive
    from sims.mujoco.world import draw_episode

    car, spec = Car(profile), new_spec()
    car.add_to(spec)
    drive = Drive(car, spec.compile(), draw_episode(0, Randomization.at(0.0), profile).physics)
    drive.place(0.0, 0.0, 0.0, manoeuvre.speed_mps, 0.0, 0.0)
    rows = []
    for steering, acceleration in manoeuvre.commands:
        drive.step(float(steering), float(acceleration))
        rows.append([getattr(drive, channel) for channel in CHANNELS])
    return np.array(rows)


def _ground():
    """Any road: where it runs does not matter here."""
    return random_road(3)


def figures(profile: VehicleProfile) -> list[tuple[str, str, float, float]]:
    """(what, unit, track, mujoco): the responses in numbers."""
    rows = []
    for m in manoeuvres(profile):
        column = CHANNELS.index(m.channel)
        track, mujoco = drive_track(m, profile)[:, column], drive_mujoco(m, profile)[:, column]
        if "step" in m.title:
            if m.channel == "yaw_rate_radps":
                rows.append((f"{m.title}: highest yaw rate", "rad/s", float(track.max()), float(mujoco.max())))
            rows.append((f"{m.title}: time to half", "s", _time_to_half(track), _time_to_half(mujoco)))
        elif "ramp" in m.title:
            rows.append((f"{m.title}: highest", m.unit, float(track.max()), float(mujoco.max())))
        elif "throttle" in m.title:
            rows.append(
                ("acceleration at throttle 1, mean from 0.5 to 1 s", "m/s2", *(_slope(r) for r in (track, mujoco)))
            )
        else:
            rows.append((f"{m.title}: time to standstill", "s", *(_standstill(r) for r in (track, mujoco))))
    return rows


def _time_to_half(response: np.ndarray) -> float:
    """From the command to half of the highest value, interpolated."""
    half = 0.5 * response.max()
    k = int(np.argmax(response >= half))
    share = (half - response[k - 1]) / (response[k] - response[k - 1])
    return (k - 1 + float(share) - (BEFORE - 1)) * STEP_S


def _slope(speeds: np.ndarray) -> float:
    return float(np.polyfit(np.arange(15, 30) * STEP_S, speeds[15:30], 1)[0])


def _standstill(speeds: np.ndarray) -> float:
    return float((np.argmax(speeds < 0.02) - BEFORE + 1) * STEP_S)


def plot(path: Path, profile: VehicleProfile) -> None:
    """All responses into one picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = manoeuvres(profile)
    figure, axes = plt.subplots(3, 3, figsize=(12, 9), layout="constrained")
    for axis, m in zip(axes.flat, shown, strict=True):
        column, t = CHANNELS.index(m.channel), np.arange(1, len(m.commands) + 1) * STEP_S
        axis.plot(t, drive_track(m, profile)[:, column], label="track", lw=2, color="tab:orange")
        axis.plot(t, drive_mujoco(m, profile)[:, column], label="mujoco", lw=1.5, color="tab:blue")
        axis.set(title=m.title, xlabel="s", ylabel=m.unit)
        axis.grid(alpha=0.3)
    axes.flat[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name("." + path.name)
    figure.savefig(aside, dpi=80, format="png")
    plt.close(figure)
    aside.replace(path)


def main(out: Path = typer.Option(Path("docs/worlds"), help="folder for mujoco-identification.png")) -> None:
    """Draw the picture and print the table."""
    profile = VehicleProfile()
    plot(out / "mujoco-identification.png", profile)
    typer.echo("| response | unit | track | mujoco |\n|---|---|---|---|")
    for what, unit, track, mujoco in figures(profile):
        typer.echo(f"| {what} | {unit} | {track:.3f} | {mujoco:.3f} |")


if __name__ == "__main__":
    typer.run(main)

"""What stands around a road: cones along its edges, boxes and posts on the floor, and track's halls and skies afar."""

from __future__ import annotations

import math

import mujoco
import numpy as np

from sims.road import Road
from sims.track.look import PANO_COLUMNS, PANO_ROWS
from sims.track.panorama import panorama_bank
from sims.track.sensor import hash01

FACE_PX = 128
MOST_THINGS = 40
CONE_SIDES = 6
# Where the middle, the right and the upper edge of each face of MuJoCo's sky look in the world: right, left, up, down,
# front, back.
FACES = (
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((-1, 0, 0), (0, -1, 0), (0, 0, 1)),
    ((0, 0, 1), (1, 0, 0), (0, 1, 0)),
    ((0, 0, -1), (1, 0, 0), (0, -1, 0)),
    ((0, -1, 0), (1, 0, 0), (0, 0, 1)),
    ((0, 1, 0), (-1, 0, 0), (0, 0, 1)),
)


def sky_cube(pano: int, shift: int, gain) -> np.ndarray:
    """Six faces (6 * FACE_PX, FACE_PX, 3) uint8 of one of track's panoramas; below the horizon its lowest row."""
    packed = panorama_bank()[pano]
    bank = np.stack([packed & 255, (packed >> 8) & 255, (packed >> 16) & 255], -1).astype(float)
    across = (2 * np.arange(FACE_PX) + 1) / FACE_PX - 1
    u, v = np.meshgrid(across, -across)
    faces = []
    for middle, right, up in np.array(FACES, float):
        way = middle + u[..., None] * right + v[..., None] * up
        way /= np.linalg.norm(way, axis=-1, keepdims=True)
        turn = np.arctan2(way[..., 1], way[..., 0]) * PANO_COLUMNS / (2 * math.pi)
        column = (np.floor(turn).astype(int) + shift) % PANO_COLUMNS
        row = np.clip((way[..., 2] * PANO_ROWS).astype(int), 0, PANO_ROWS - 1)
        faces.append(bank[row, column])
    return np.clip(np.vstack(faces) * np.asarray(gain, float), 0, 255).astype(np.uint8)


def cone_mesh(spec, name: str, cones) -> None:
    """A mesh of cones on square feet; each is (x, y, yaw, width, height) in metres."""
    points, faces, count = [], [], 0
    one, triangles = _unit_cone()
    for x, y, yaw, width, height in cones:
        c, s = math.cos(yaw), math.sin(yaw)
        scaled = one * [width, width, height]
        points.append(np.column_stack([scaled[:, 0] * c - scaled[:, 1] * s + x, scaled[:, 0] * s + scaled[:, 1] * c + y,
                                       scaled[:, 2]]))  # fmt: skip
        faces.append(triangles + count)
        count += len(one)
    spec.add_mesh(
        name=name, uservert=np.vstack(points).ravel(), userface=np.vstack(faces).ravel(),
        inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
    )  # fmt: skip


def _unit_cone() -> tuple[np.ndarray, np.ndarray]:
    """Corners and triangles of a cone of width and height 1 on a foot."""
    k = np.arange(CONE_SIDES)
    angle = 2 * math.pi * k / CONE_SIDES
    ring = np.column_stack([np.cos(angle), np.sin(angle), np.ones(CONE_SIDES)])
    foot = [[-0.5, -0.5, 0.05], [0.5, -0.5, 0.05], [0.5, 0.5, 0.05], [-0.5, 0.5, 0.05]]
    points = np.vstack([ring * [0.38, 0.38, 0.04], ring * [0.06, 0.06, 1.0], foot])
    right = (k + 1) % CONE_SIDES
    mantle = [np.column_stack([k, right, right + CONE_SIDES]), np.column_stack([k, right + CONE_SIDES, k + CONE_SIDES])]
    flat = np.array([[0, 1, 2], [0, 2, 3]]) + 2 * CONE_SIDES
    return points, np.vstack([*mantle, flat])


def add_clutter(spec, road: Road, look, rng: np.random.Generator) -> None:
    """Cones where track has them, and boxes and posts beyond, which move against each other as the car drives."""
    cones = roadside_cones(road, look)
    if cones:
        cone_mesh(spec, "cones", cones)
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_MESH, meshname="cones", rgba=[*look["cone"], 1], contype=0, conaffinity=0
        )
    half = float(max(road.left_m.max(), road.right_m.max()))
    low = np.array([road.x_m.min(), road.y_m.min()]) - half - 5.0
    high = np.array([road.x_m.max(), road.y_m.max()]) + half + 5.0
    for _ in range(int(rng.integers(8, MOST_THINGS))):
        size = rng.uniform(0.05, 0.6, 2)
        where, tall = rng.uniform(low, high), float(np.exp(rng.uniform(math.log(0.15), math.log(2.5))))
        if np.hypot(road.x_m - where[0], road.y_m - where[1]).min() < half + 0.6 + size.max():
            continue
        round_ = rng.random() < 0.3
        grey = rng.uniform(0.05, 0.8)
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CYLINDER if round_ else mujoco.mjtGeom.mjGEOM_BOX,
            size=[size[0] / 2, tall / 2, 0] if round_ else [*size, tall / 2], pos=[*where, tall / 2],
            quat=[math.cos(turn := rng.uniform(0, math.pi)), 0, 0, math.sin(turn)], contype=0, conaffinity=0,
            rgba=[*np.clip(grey + (0.4 if rng.random() < 0.3 else 0.08) * rng.uniform(-1, 1, 3), 0.01, 1.0), 1.0],
        )  # fmt: skip


def roadside_cones(road: Road, look) -> list[tuple[float, float, float, float, float]]:
    """(x, y, yaw, width, height) of the stray cones that track shows beyond the edges."""
    if look["cones"] <= 0:
        return []
    slots = max(int(road.length_m / float(look["cone_gap"])), 1)
    gap, seed, cones = road.length_m / slots, int(look["seed"]), []
    for slot in range(slots):
        for side in range(2):
            if hash01(seed, slot, side) > look["cones"]:
                continue
            s = (slot + 0.5 * hash01(seed, slot, side + 2)) * gap
            left, right = road.edges_at(s)
            out = float(look["cone_off"]) + 0.3 * hash01(seed, slot, side + 4)
            x, y, yaw = (float(v) for v in road.to_world(s, left + out if side == 0 else right - out))
            at, d = road.to_frenet(x, y)
            far_left, far_right = road.edges_at(at)
            if far_right - 0.1 < d < far_left + 0.1:
                continue  # it would stand on another part of the road
            size = 0.8 + 0.5 * hash01(seed, slot, 9)
            cones.append((x, y, yaw, 0.13 * size, 0.2 * size))
    return cones

"""What the camera sees: the road as strips on the ground, floor, surroundings, sky, light, and bodies with a face.

Colours, widths and what stands around come from a `LOOK` record of track, so both worlds can show the same scene; the
shading, the perspective and the parallax are MuJoCo's. Heights of the layers on the ground are fractions of a
millimetre, which its depth buffer tells apart. Knows no camera.
"""

from __future__ import annotations

import math

import mujoco
import numpy as np

from sims.actors import KINDS
from sims.mujoco.surroundings import add_clutter, cone_mesh, sky_cube
from sims.road import Road
from sims.track.look import (
    DIVIDER_DASHED,
    DIVIDER_DOUBLE,
    DIVIDER_NONE,
    EDGE_DOUBLE,
    EDGE_NONE,
    PANORAMAS,
)  # fmt: skip
from sims.track.panorama import floor_texture

FLOOR_Z_M, ROAD_Z_M, LINE_Z_M, SHADOW_Z_M = -0.0005, 0.0, 0.0005, 0.001
FLOOR_BEYOND_M = 60.0
STRAY_M = 0.004  # by which the chords of a strip may stray from its bend
LONGEST_CHORD_M = 2.0
SHADED = 0.45  # share of the light that comes from one side


def add_scenery(spec: mujoco.MjSpec, road: Road, look, actors) -> None:
    """Everything visible, added to a spec that has the ground and the bodies `actor0`, `actor1`, ...; `look` is a LOOK
    record, `actors` are records of `dynamics.ACTOR`."""
    rng = np.random.default_rng([int(look["seed"]), 61])
    light = np.clip(look["light"] * look["cast"] * (1 + 0.6 * look["curve"]), 0.05, 3.0)
    gain = float(light.max())  # OpenGL's light saturates at 1, so a bright one is mixed into the colours
    _set_graphics(spec)
    _add_light(spec, light / gain, rng)
    _add_sky(spec, look, light)
    look = _brightened(look, gain)
    _add_ground(spec, road, look)
    _add_lines(spec, road, look)
    add_clutter(spec, road, look, rng)
    for k, actor in enumerate(actors):
        _dress(spec, spec.body(f"actor{k}"), f"actor{k}", actor, gain)


def _brightened(look, gain: float):
    look = look.copy()
    for name in ("road", "off", "edge", "divider", "cone"):
        look[name] = np.minimum(look[name] * gain, 1.0)
    return look


def _set_graphics(spec) -> None:
    """No shadows and no multisampling: ten times faster without; the eye averages pixels itself."""
    spec.visual.quality.shadowsize = 0
    spec.visual.quality.offsamples = 0
    spec.visual.quality.numquads, spec.visual.quality.numslices, spec.visual.quality.numstacks = 1, 12, 4
    spec.stat.extent, spec.visual.map.znear, spec.visual.map.zfar = 1.0, 0.02, 80.0


def _add_light(spec, light, rng) -> None:
    """Floors come out at their own colour times `light`, walls darker, depending on the side."""
    head = spec.visual.headlight
    head.ambient, head.diffuse, head.specular = (1 - SHADED) * light, [0, 0, 0], [0, 0, 0]
    azimuth, steep = rng.uniform(0, 2 * math.pi), rng.uniform(0.6, 1.2)
    direction = [math.cos(steep) * math.cos(azimuth), math.cos(steep) * math.sin(azimuth), -math.sin(steep)]
    spec.worldbody.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, dir=direction, pos=[0, 0, 5], castshadow=False,
        diffuse=SHADED * light / math.sin(steep), ambient=[0, 0, 0], specular=[0, 0, 0],
    )  # fmt: skip


def _add_sky(spec, look, light) -> None:
    faces = sky_cube(int(look["pano"]) % PANORAMAS, int(look["pano_shift"]), look["pano_gain"] * light)
    _add_texture(spec, "sky", mujoco.mjtTexture.mjTEXTURE_SKYBOX, faces)


def _add_texture(spec, name: str, kind, pixels: np.ndarray) -> None:
    """From pixels (h, w, 3) uint8. The data are set afterwards: an argument would be copied number by number."""
    texture = spec.add_texture(name=name, type=kind, nchannel=3, width=pixels.shape[1], height=pixels.shape[0])
    texture.data = pixels.tobytes()


def _floor_material(spec, name: str, colour, look) -> float:
    """A blotchy floor of that colour; returns the size of a tile in metres."""
    gain = np.clip(1 + float(look["texture"]) / 32 * floor_texture().astype(float), 0.3, 2.0)
    pixels = np.clip(255 * gain[:, :, None] * np.asarray(colour, float), 0, 255).astype(np.uint8)
    _add_texture(spec, name, mujoco.mjtTexture.mjTEXTURE_2D, pixels)
    textures = [""] * int(mujoco.mjtTextureRole.mjNTEXROLE)
    textures[int(mujoco.mjtTextureRole.mjTEXROLE_RGB)] = name
    tile = 256.0 / float(look["texture_scale"])
    spec.add_material(name=name, textures=textures, specular=0.0)
    return tile


def _add_ground(spec, road: Road, look) -> None:
    middle, reach = np.array([road.x_m.mean(), road.y_m.mean()]), np.ptp(road.x_m) + np.ptp(road.y_m) + FLOOR_BEYOND_M
    corners = middle + reach * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    tile = _floor_material(spec, "floor", look["off"], look)
    two = np.array([[0, 1, 2], [0, 2, 3]])
    _add_flat(spec, "floor", corners, two, FLOOR_Z_M, material="floor", texcoord=corners / tile)
    tile = _floor_material(spec, "road", look["road"], look)
    s = _stations(road)
    left, right = road.edges_at(s)
    points, faces = _strip(road, s, right, left, closed=True)
    _add_flat(spec, "road", points, faces, ROAD_Z_M, material="road", texcoord=points / tile)


def _add_lines(spec, road: Road, look) -> None:
    edges = _Flat()
    s = _stations(road)
    left, right = road.edges_at(s)
    width = float(look["edge_w"])
    if look["edge_style"] != EDGE_NONE:
        edges.add(*_strip(road, s, left - width, left, closed=True))
        edges.add(*_strip(road, s, right, right + width, closed=True))
    if look["edge_style"] == EDGE_DOUBLE:
        edges.add(*_strip(road, s, left + 0.6 * width, left + 1.4 * width, closed=True))
        edges.add(*_strip(road, s, right - 1.4 * width, right - 0.6 * width, closed=True))
    edges.place(spec, "edges", LINE_Z_M, look["edge"])
    dividers = _Flat()
    for border in range(1, road.lane_count):
        _add_divider(dividers, road, look, border)
    dividers.place(spec, "dividers", LINE_Z_M, look["divider"])


def _add_divider(flat: _Flat, road: Road, look, border: int) -> None:
    """The line between the lanes `border - 1` and `border`."""
    style, half = look["divider_style"], 0.5 * float(look["divider_w"])

    def between(s, low, high, closed):
        left, right = road.edges_at(s)
        middle = right + (left - right) * border / road.lane_count
        flat.add(*_strip(road, s, middle + low, middle + high, closed=closed))

    if style == DIVIDER_NONE:
        return
    if style == DIVIDER_DOUBLE:
        for side in (-1, 1):
            between(_stations(road), side * 2 * half - 0.7 * half, side * 2 * half + 0.7 * half, True)
    elif style != DIVIDER_DASHED:
        between(_stations(road), -half, half, True)
    else:
        wanted = float(look["dash_on"] + look["dash_off"])
        count = max(1, math.floor(road.length_m / wanted + 0.5))
        period, share = road.length_m / count, float(look["dash_on"]) / wanted
        for k in range(count):
            start = (k - float(look["dash_phase"])) * period
            between(start + np.linspace(0, share * period, 2), -half, half, False)


class _Flat:
    """Flat pieces of one colour, gathered into one mesh."""

    def __init__(self):
        self._points, self._faces, self._count = [], [], 0

    def add(self, points, faces) -> None:
        self._points.append(points)
        self._faces.append(faces + self._count)
        self._count += len(points)

    def place(self, spec, name: str, z_m: float, colour) -> None:
        if self._count:
            _add_flat(spec, name, np.vstack(self._points), np.vstack(self._faces), z_m, rgba=[*colour, 1.0])


def _stations(road: Road) -> np.ndarray:
    """Where the corners of strips along the whole road are: dense in bends, sparse on straights, and where the width
    changes no sparser than in a file."""
    half = float(max(road.left_m.max(), road.right_m.max()))
    bend = np.abs(road.curvature_pm) / np.maximum(1 - np.abs(road.curvature_pm) * half, 0.2)
    longest = 0.3 if np.ptp(road.left_m) + np.ptp(road.right_m) > 1e-3 else LONGEST_CHORD_M
    chord = np.clip(np.sqrt(8 * STRAY_M / np.maximum(bend, 1e-6)), road.step_m, longest)
    chords = np.concatenate([[0.0], np.cumsum(road.step_m / chord)])
    count = max(16, math.ceil(chords[-1]))
    return np.interp(np.arange(count) * chords[-1] / count, chords, np.arange(len(chords)) * road.step_m)


def _strip(road: Road, s, low_d, high_d, *, closed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Corners (2n, 2) and triangles (m, 3), counter-clockwise from above, of the band between two lateral positions."""
    points = np.column_stack([*road.to_world(s, low_d)[:2], *road.to_world(s, high_d)[:2]]).reshape(-1, 2)
    a = 2 * np.arange(len(s) if closed else len(s) - 1)
    b = (a + 2) % len(points)
    return points, np.vstack([np.column_stack([a, b, b + 1]), np.column_stack([a, b + 1, a + 1])])


def _add_flat(spec, name, points, faces, z_m, *, texcoord=None, **geom) -> None:
    vertices = np.column_stack([points, np.full(len(points), z_m)])
    extra = {} if texcoord is None else {"usertexcoord": texcoord.ravel(), "userfacetexcoord": faces.ravel()}
    shell = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
    spec.add_mesh(name=name, uservert=vertices.ravel(), userface=faces.ravel(), inertia=shell, **extra)
    spec.worldbody.add_geom(
        name=name, type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, contype=0, conaffinity=0, mass=0, **geom
    )


# ---- bodies ------------------------------------------------------------------------------------------------------


def _dress(spec, body, name: str, actor, gain: float) -> None:
    """Visible parts of an actor; its hull for contacts is there already."""
    length, width, height = (float(actor[side]) for side in ("length", "width", "height"))
    colour = [gain * float(actor[c]) for c in ("red", "green", "blue")]

    def part(kind, size, pos, rgb, alpha=1.0, **more):
        rgba = [*np.clip(rgb, 0, 1), alpha]
        body.add_geom(type=kind, size=size, pos=pos, rgba=rgba, contype=0, conaffinity=0, **more)

    box = mujoco.mjtGeom.mjGEOM_BOX
    if KINDS[actor["kind"]] == "cone":
        cone_mesh(spec, name, [(0.0, 0.0, 0.0, width, height)])
        part(mujoco.mjtGeom.mjGEOM_MESH, [0, 0, 0], [0, 0, 0], colour, meshname=name)
        return
    part(box, [0.55 * length, 0.58 * width, 0.0002], [0, 0, SHADOW_Z_M], [0, 0, 0], 0.6)
    if KINDS[actor["kind"]] == "box":
        part(box, [length / 2, width / 2, height / 2], [0, 0, height / 2], colour)
        return
    _dress_car(part, length, width, height, colour)


def _dress_car(part, length, width, height, colour) -> None:
    """Body, cabin with dark windows, roof, lights and wheels, in track's proportions."""
    box, wheel = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER
    x, y, thin = length / 2, width / 2, 0.006 * length
    part(box, [x, y, 0.17 * height], [0, 0, 0.41 * height], colour)
    part(box, [0.98 * x, 0.96 * y, 0.07 * height], [0, 0, 0.17 * height], [0.02] * 3)
    part(box, [0.55 * x, 0.82 * y, 0.20 * height], [-0.08 * x, 0, 0.78 * height], [0.05, 0.06, 0.08])
    part(box, [0.53 * x, 0.80 * y, 0.012 * height], [-0.08 * x, 0, 0.988 * height], colour)
    for side in (-1, 1):
        part(box, [thin, 0.22 * y, 0.08 * height], [-x, 0.77 * side * y, 0.42 * height], [0.9, 0.03, 0.02])
        part(box, [thin, 0.20 * y, 0.075 * height], [x, 0.8 * side * y, 0.38 * height], [0.95, 0.95, 0.8])
        for end in (-1, 1):
            part(
                wheel, [0.2 * height, 0.08 * y, 0], [0.6 * end * x, 0.95 * side * y, 0.2 * height], [0.015] * 3,
                quat=[math.sqrt(0.5), math.sqrt(0.5), 0, 0],
            )  # fmt: skip

"""How the cars move: single-track model with tyre limits, actuators with delay and lag, IDM traffic, contact tests.

Knows no pictures. One call moves every environment by one world step; environments never touch each other, so a result
does not depend on how many there are or on the number of threads. Sources: tyre saturation after the usual
friction-circle single-track model (Rajamani, Vehicle Dynamics and Control), traffic after the Intelligent Driver Model
(Treiber 2000).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from sims.track.roadbank import at_s, frenet_near

STEP_S = 1.0 / 30.0
SUBSTEPS = 4
HISTORY = 16  # steps of commands kept for the actuator delay
GRAVITY = 9.81

STATE = np.dtype(
    [
        ("x_m", "f8"), ("y_m", "f8"), ("yaw_rad", "f8"), ("speed_mps", "f8"), ("slip_mps", "f8"),
        ("yaw_rate_radps", "f8"), ("wheel_rad", "f8"), ("accel_mps2", "f8"), ("steering_command", "f8"),
        ("road", "i8"), ("index", "i8"), ("s_m", "f8"), ("d_m", "f8"), ("heading_error_rad", "f8"),
        ("progress_m", "f8"), ("time_s", "f8"), ("steps", "i8"), ("collision", "?"), ("off_road", "?"),
        ("history", "f8", HISTORY),
    ]
)  # fmt: skip
PHYSICS = np.dtype(
    [
        ("friction", "f8"), ("stiffness", "f8"), ("balance", "f8"), ("accel_gain", "f8"), ("drag", "f8"),
        ("delay_s", "f8"), ("lag_s", "f8"), ("motor_lag_s", "f8"), ("steer_offset_rad", "f8"), ("steer_gain", "f8"),
    ]
)  # fmt: skip
CAR = np.dtype(
    [
        ("wheelbase", "f8"), ("width", "f8"), ("length", "f8"), ("rear", "f8"), ("limit", "f8"), ("max_speed", "f8"),
        ("max_accel", "f8"), ("max_brake", "f8"),
    ]
)  # fmt: skip
ACTOR = np.dtype(
    [
        ("kind", "i8"), ("s", "f8"), ("d", "f8"), ("v", "f8"), ("v_set", "f8"), ("follow", "?"), ("length", "f8"),
        ("width", "f8"), ("height", "f8"), ("red", "f8"), ("green", "f8"), ("blue", "f8"), ("x", "f8"), ("y", "f8"),
        ("yaw", "f8"), ("change_t", "f8", 6), ("change_v", "f8", 6), ("changes", "i8"),
    ]
)  # fmt: skip


@njit(cache=True)
def _move_ego(e, p, car, steering, acceleration):
    h = STEP_S / SUBSTEPS
    wheelbase = car.wheelbase
    to_rear = 0.5 * wheelbase
    mu_g = p.friction * GRAVITY
    step = e.steps
    e.history[step % HISTORY] = steering
    for j in range(SUBSTEPS):
        # the servo sees the command that was given `delay` ago
        late = int(math.floor((step * SUBSTEPS + j + 0.5) / SUBSTEPS - p.delay_s / STEP_S))
        command = e.history[late % HISTORY]
        target = min(max(command * p.steer_gain, -1.0), 1.0) * car.limit + p.steer_offset_rad
        e.wheel_rad += (target - e.wheel_rad) * (1.0 - math.exp(-h / p.lag_s))
        v = e.speed_mps
        if acceleration >= 0:
            wanted = acceleration * car.max_accel * p.accel_gain * min(max((car.max_speed - v) / 0.2, 0.0), 1.0)
        else:
            wanted = acceleration * car.max_brake * p.accel_gain
        e.accel_mps2 += (wanted - e.accel_mps2) * (1.0 - math.exp(-h / p.motor_lag_s))
        along = min(max(e.accel_mps2, -0.95 * mu_g), 0.95 * mu_g)
        new_v = max(v + h * (along - p.drag * v), 0.0)
        kin_rate = new_v * math.tan(e.wheel_rad) / wheelbase
        blend = min(max((v - 0.5) / 0.5, 0.0), 1.0)
        rate = kin_rate
        slip = kin_rate * to_rear
        if blend > 0.0:
            # per unit mass; each axle carries half the weight
            grip = 0.5 * math.sqrt(max(mu_g * mu_g - along * along, 0.01 * mu_g * mu_g))
            front_slip = e.wheel_rad - math.atan2(e.slip_mps + to_rear * e.yaw_rate_radps, v)
            rear_slip = -math.atan2(e.slip_mps - to_rear * e.yaw_rate_radps, v)
            c = p.stiffness * 0.5 * GRAVITY * p.friction
            front = grip * math.tanh(c * p.balance * front_slip / grip)
            rear = grip * math.tanh(c * rear_slip / grip)
            k2 = 0.25 * wheelbase * wheelbase * 1.1
            dyn_slip = e.slip_mps + h * (front * math.cos(e.wheel_rad) + rear - v * e.yaw_rate_radps)
            dyn_rate = e.yaw_rate_radps + h * to_rear * (front * math.cos(e.wheel_rad) - rear) / k2
            rate += blend * (dyn_rate - rate)
            slip += blend * (dyn_slip - slip)
        e.speed_mps = new_v
        e.yaw_rate_radps = rate
        e.slip_mps = slip
        mid = e.yaw_rad + 0.5 * h * rate
        lateral = slip - to_rear * rate  # of the rear axle
        e.x_m += h * (new_v * math.cos(mid) - lateral * math.sin(mid))
        e.y_m += h * (new_v * math.sin(mid) + lateral * math.cos(mid))
        e.yaw_rad += h * rate
    e.steering_command = steering
    e.steps = step + 1
    e.time_s = (step + 1) * STEP_S


@njit(cache=True)
def wrap_half(x, period):
    """x brought into [-period / 2, period / 2)."""
    return x - period * math.floor(x / period + 0.5)


@njit(cache=True)
def locate(e, road, samples):
    """Update the Frenet position, heading error and progress of the ego from its pose."""
    k, s, d = frenet_near(e.x_m, e.y_m, e.index, samples, road.first, road.n, road.step)
    e.progress_m += wrap_half(s - e.s_m, road.length)
    e.index = k
    e.s_m = s
    e.d_m = d
    e.heading_error_rad = wrap_half(e.yaw_rad - at_s(s, samples, road.first, road.n, road.step)[2], 2.0 * math.pi)


@njit(cache=True)
def _overlap(ax, ay, ayaw, al, aw, bx, by, byaw, bl, bw):
    """Do two rectangles (centre, yaw, half length, half width) overlap? Separating axes."""
    dx, dy = bx - ax, by - ay
    if dx * dx + dy * dy > (al + aw + bl + bw) ** 2:
        return False
    c, s = math.cos(byaw - ayaw), math.sin(byaw - ayaw)
    ca, sa = math.cos(ayaw), math.sin(ayaw)
    cb, sb = math.cos(byaw), math.sin(byaw)
    c, s = abs(c), abs(s)
    if abs(dx * ca + dy * sa) > al + bl * c + bw * s:
        return False
    if abs(-dx * sa + dy * ca) > aw + bl * s + bw * c:
        return False
    if abs(dx * cb + dy * sb) > bl + al * c + aw * s:
        return False
    return abs(-dx * sb + dy * cb) <= bw + al * s + aw * c


@njit(cache=True)
def check_contacts(e, road, samples, car, actors, count):
    """Latch collision (ego body against actor bodies) and off_road (a wheel's contact point beyond an edge)."""
    c, s = math.cos(e.yaw_rad), math.sin(e.yaw_rad)
    reach = 0.5 * car.length - car.rear
    cx, cy = e.x_m + reach * c, e.y_m + reach * s
    for a in range(count):
        o = actors[a]
        half = (0.5 * car.length, 0.5 * car.width, 0.5 * o.length, 0.5 * o.width)
        if _overlap(cx, cy, e.yaw_rad, half[0], half[1], o.x, o.y, o.yaw, half[2], half[3]):
            e.collision = True
    if e.off_road:
        return
    _, _, _, _, left, right = at_s(e.s_m, samples, road.first, road.n, road.step)
    if e.d_m + car.wheelbase + car.width < left and e.d_m - car.wheelbase - car.width > -right:
        return
    for front in range(2):
        for side in range(2):
            u, w = front * car.wheelbase, (side - 0.5) * car.width
            _, ws, wd = frenet_near(
                e.x_m + u * c - w * s, e.y_m + u * s + w * c, e.index, samples, road.first, road.n, road.step
            )
            _, _, _, _, left, right = at_s(ws, samples, road.first, road.n, road.step)
            if wd > left or wd < -right:
                e.off_road = True


@njit(cache=True)
def place_actor(o, road, samples):
    """World pose of an actor from its (s, d)."""
    x, y, yaw, _, _, _ = at_s(o.s, samples, road.first, road.n, road.step)
    o.x = x - o.d * math.sin(yaw)
    o.y = y + o.d * math.cos(yaw)
    o.yaw = yaw


@njit(cache=True)
def _idm(o, e, road, car, actors, count, me, v0):
    gap, lead_v = 1e9, 0.0
    for b in range(-1, count):
        if b == me:
            continue
        if b < 0:
            bs, bd, bl, bw, bv = e.s_m + 0.5 * car.length - car.rear, e.d_m, car.length, car.width, e.speed_mps
        else:
            q = actors[b]
            bs, bd, bl, bw, bv = q.s, q.d, q.length, q.width, q.v
        ahead = wrap_half(bs - o.s, road.length)
        if ahead > 0 and abs(bd - o.d) < 0.5 * (bw + o.width) + 0.03:
            free = ahead - 0.5 * (bl + o.length)
            if free < gap:
                gap, lead_v = free, bv
    accel_max, comfort, headway, standstill = 1.5, 2.5, 0.8, 0.25
    accel = accel_max * (1.0 - (o.v / max(v0, 0.05)) ** 4)
    if gap < 50.0:
        wish = standstill + max(0.0, o.v * headway + o.v * (o.v - lead_v) / (2.0 * math.sqrt(accel_max * comfort)))
        accel -= accel_max * (wish / max(gap, 0.02)) ** 2
    return min(max(accel, -6.0), accel_max)


@njit(cache=True)
def _move_actors(e, road, samples, car, actors, count):
    for a in range(count):
        o = actors[a]
        if o.kind != 0:
            continue
        for j in range(o.changes):
            if e.time_s >= o.change_t[j]:
                o.v_set = o.change_v[j]
        if o.follow and o.v_set > 0:
            accel = _idm(o, e, road, car, actors, count, a, o.v_set)
        else:
            accel = min(max((o.v_set - o.v) / STEP_S, -4.0), 2.0)
        o.v = max(o.v + accel * STEP_S, 0.0)
    for a in range(count):
        o = actors[a]
        if o.kind == 0 and o.v > 0:
            kappa = at_s(o.s, samples, road.first, road.n, road.step)[3]
            o.s = (o.s + o.v * STEP_S / max(1.0 - kappa * o.d, 0.2)) % road.length
            place_actor(o, road, samples)


@njit(cache=True)
def step_around(i, state, car, meta, samples, actors, counts):
    """A world step without the car's own motion, which is done already: traffic, position on the road, contacts."""
    e = state[i]
    road = meta[e.road]
    if counts[i] > 0:
        _move_actors(e, road, samples, car[0], actors[i], counts[i])
    locate(e, road, samples)
    check_contacts(e, road, samples, car[0], actors[i], counts[i])


@njit(cache=True)
def _step_one(i, action, state, physics, car, meta, samples, actors, counts):
    steering = min(max(float(action[i, 0]), -1.0), 1.0)
    acceleration = min(max(float(action[i, 1]), -1.0), 1.0)
    _move_ego(state[i], physics[i], car[0], steering, acceleration)
    step_around(i, state, car, meta, samples, actors, counts)


@njit(cache=True, nogil=True)
def step_range(first, last, action, state, physics, car, meta, samples, actors, counts):
    """One world step for the environments first..last - 1."""
    for i in range(first, last):
        _step_one(i, action, state, physics, car, meta, samples, actors, counts)


@njit(cache=True)
def place_egos(which, s, d, heading_error, speed, state, car, meta, samples, actors, counts):
    """Start an episode for the environments `which` at (s, d); actors stay where they are."""
    for m in range(len(which)):
        i = which[m]
        e = state[i]
        road = meta[e.road]
        x, y, yaw, kappa, _, _ = at_s(s[m], samples, road.first, road.n, road.step)
        e.x_m = x - d[m] * math.sin(yaw)
        e.y_m = y + d[m] * math.cos(yaw)
        e.yaw_rad = wrap_half(yaw + heading_error[m], 2.0 * math.pi)
        e.speed_mps = speed[m]
        bend = math.atan(car[0].wheelbase * kappa / max(1.0 - kappa * d[m], 0.2))
        bend = min(max(bend, -car[0].limit), car[0].limit) if speed[m] > 0 else 0.0
        e.wheel_rad = bend  # a car placed at speed is already turning with its lane
        e.yaw_rate_radps = speed[m] * math.tan(bend) / car[0].wheelbase
        e.slip_mps = 0.5 * car[0].wheelbase * e.yaw_rate_radps
        e.accel_mps2 = 0.0
        e.steering_command = bend / car[0].limit
        for j in range(HISTORY):
            e.history[j] = e.steering_command
        e.steps = 0
        e.time_s = 0.0
        e.collision = False
        e.off_road = False
        e.index = int((s[m] / road.step) % road.n) % road.n
        e.s_m = s[m] % road.length
        locate(e, road, samples)
        e.progress_m = 0.0
        check_contacts(e, road, samples, car[0], actors[i], counts[i])


@njit(cache=True)
def place_actors_of(i, state, meta, samples, actors, counts):
    """World poses of all actors of environment i."""
    for a in range(counts[i]):
        place_actor(actors[i, a], meta[state[i].road], samples)

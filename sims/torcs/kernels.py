"""Numbers of one step: where the cars are on the road, contacts, pedals, and how scripted traffic drives.

Compiled, because a step of TORCS itself takes a tenth of a millisecond; on plain tables, whose columns are named below,
because those are handed over quickest. Real size throughout. Sources: pure pursuit (Coulter, CMU-RI-TR-92-01) and the
Intelligent Driver Model (Treiber 2000), as in the world `track`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from sims.torcs.protocol import CAR_STATE
from sims.track.dynamics import wrap_half
from sims.track.roadbank import at_s, frenet_near

# A car as TORCS tells it (n, 18) float32.
PRESENT, X, Y, Z, YAW, VX, YAW_RATE = (CAR_STATE.index(c) for c in ("present", "x", "y", "z", "yaw", "vx", "yaw_rate"))
RPM, GEAR, CONTACT = (CAR_STATE.index(c) for c in ("rpm", "gear", "contact"))
# A car's body (n, 14), lengths from the centre of gravity; gear ratios of engine to wheel, first gear first.
REAR_AXLE, WHEELBASE, FRONT, REAR, WIDTH, LOCK, RATIO = range(7)
BODY_COLUMNS = RATIO + 8
# Its position on the road (n, 6): of the ego's rear axle, of another car's middle.
INDEX, PX, PY, S, D, HEADING = range(6)
# What a scripted car is to do (n, 17). REFERENCE: the speed that it should have now; CHANGE_T, CHANGE_V: its timeline.
WANT_D, SET_SPEED, REFERENCE, FOLLOW, CHANGES, CHANGE_T, CHANGE_V = 0, 1, 2, 3, 4, 5, 11
DRIVER_COLUMNS = CHANGE_V + 6
# What `survey` says of the ego.
EGO_COLUMNS = 10
E_X, E_Y, E_S, E_D, E_HEADING, E_LEFT, E_RIGHT, E_LANE, E_OFF, E_TOUCH = range(EGO_COLUMNS)

# The car's longitudinal behaviour, measured on car1-trb1 (docs/worlds/torcs.md). Accelerations refer to first gear's
# ratio of 13.5 and shrink with the ratio of the gear.
FIRST_RATIO = 13.5
THROTTLE_RPM = np.array([900.0, 1500.0, 2500.0, 3300.0, 4100.0, 4900.0, 5700.0, 6500.0, 7300.0, 8100.0])
THROTTLE_GAIN = np.array([4.4, 5.3, 7.8, 9.6, 11.9, 13.7, 15.2, 16.3, 17.3, 18.2])  # m/s^2 per full throttle
ENGINE_BRAKE_FROM_RPM, ENGINE_BRAKE = 2300.0, 0.000575  # m/s^2 per rpm above
ROLLING, DRAG = 0.3, 0.0006  # m/s^2, and per (m/s)^2
BRAKE_GAIN = 36.0  # m/s^2 per full brake
HOLD_MPS, HOLD_BRAKE = 0.15, 0.5  # a car this slow that is not to drive on is held

# Traffic: limits of what it asks of its car, and the IDM's parameters.
IDM_ACCEL, IDM_COMFORT, IDM_HEADWAY_S, IDM_STANDSTILL_M = 2.5, 3.0, 0.8, 2.6
HARDEST_BRAKE, SET_ACCEL, SET_BRAKE = 9.0, 3.0, 5.0


@njit(cache=True)
def pedals(accel_mps2, car, body):
    """(throttle, brake) in 0..1 for a wanted acceleration on the flat."""
    speed = car[VX]
    if accel_mps2 <= 0.0 and speed < HOLD_MPS:
        return 0.0, HOLD_BRAKE
    part = body[RATIO + min(max(int(car[GEAR]), 1), 8) - 1] / FIRST_RATIO
    coast = -ROLLING - DRAG * speed * speed - part * ENGINE_BRAKE * max(car[RPM] - ENGINE_BRAKE_FROM_RPM, 0.0)
    if accel_mps2 >= coast:
        gain = part * np.interp(car[RPM], THROTTLE_RPM, THROTTLE_GAIN)
        return min((accel_mps2 - coast) / gain, 1.0), 0.0
    return 0.0, min((coast - accel_mps2) / BRAKE_GAIN, 1.0)


@njit(cache=True)
def locate(cars, bodies, places, samples, step_m):
    """Bring `places` up to date, each from where it was: a road may cross itself on a bridge."""
    n = len(samples)
    for k in range(len(cars)):
        car, place = cars[k], places[k]
        ahead = bodies[0, REAR_AXLE] if k == 0 else 0.5 * (bodies[k, FRONT] + bodies[k, REAR])
        x, y = car[X] + ahead * math.cos(car[YAW]), car[Y] + ahead * math.sin(car[YAW])
        index, s, d = frenet_near(x, y, int(place[INDEX]), samples, 0, n, step_m)
        place[INDEX], place[PX], place[PY], place[S], place[D] = index, x, y, s, d
        place[HEADING] = wrap_half(car[YAW] - at_s(s, samples, 0, n, step_m)[2], 2.0 * math.pi)


@njit(cache=True)
def _wheels_off(car, body, place, width, samples, step_m):
    """Whether a wheel of the ego stands beyond an edge of the road."""
    n = len(samples)
    _, _, _, _, left, right = at_s(place[S], samples, 0, n, step_m)
    room = body[WHEELBASE] + width
    if place[D] + room < left and place[D] - room > -right:
        return False
    c, s = math.cos(car[YAW]), math.sin(car[YAW])
    for front in range(2):
        for side in range(2):
            u, w = front * body[WHEELBASE], (side - 0.5) * width
            x, y = place[PX] + u * c - w * s, place[PY] + u * s + w * c
            _, ws, wd = frenet_near(x, y, int(place[INDEX]), samples, 0, n, step_m)
            _, _, _, _, left, right = at_s(ws, samples, 0, n, step_m)
            if wd > left or wd < -right:
                return True
    return False


@njit(cache=True)
def _apart(dx, dy, yaw, turn, half_length, half_width, other_length, other_width):
    """Whether one of a rectangle's two axes separates it from another one that is turned by `turn` against it."""
    c, s = abs(math.cos(turn)), abs(math.sin(turn))
    along = abs(dx * math.cos(yaw) + dy * math.sin(yaw))
    across = abs(dy * math.cos(yaw) - dx * math.sin(yaw))
    return (
        along > half_length + other_length * c + other_width * s
        or across > half_width + other_length * s + other_width * c
    )


@njit(cache=True)
def _touching(cars, bodies, width):
    """Whether the ego's body overlaps that of another car."""
    ego, own = cars[0], bodies[0]
    middle, length = 0.5 * (own[FRONT] + own[REAR]), 0.5 * (own[FRONT] - own[REAR])
    for k in range(1, len(cars)):
        car, body = cars[k], bodies[k]
        if car[PRESENT] == 0.0 or abs(car[Z] - ego[Z]) > 2.0:
            continue
        other, reach = 0.5 * (body[FRONT] + body[REAR]), 0.5 * (body[FRONT] - body[REAR])
        dx = car[X] + other * math.cos(car[YAW]) - ego[X] - middle * math.cos(ego[YAW])
        dy = car[Y] + other * math.sin(car[YAW]) - ego[Y] - middle * math.sin(ego[YAW])
        turn = car[YAW] - ego[YAW]
        if _apart(dx, dy, ego[YAW], turn, length, 0.5 * width, reach, 0.5 * body[WIDTH]):
            continue
        if not _apart(dx, dy, car[YAW], turn, reach, 0.5 * body[WIDTH], length, 0.5 * width):
            return True
    return False


@njit(cache=True)
def survey(cars, bodies, places, samples, step_m, lanes, width, offsets, ego, ahead):
    """All that is true after a step: `places`; `ego` (EGO_COLUMNS); `ahead` (m, 5), the reference line at `offsets`
    from the ego: s ahead, x, y, yaw, curvature."""
    locate(cars, bodies, places, samples, step_m)
    place, n = places[0], len(samples)
    _, _, _, _, left, right = at_s(place[S], samples, 0, n, step_m)
    lane = math.floor((place[D] + right) / (left + right) * lanes)
    ego[E_X], ego[E_Y], ego[E_S], ego[E_D], ego[E_HEADING] = place[PX], place[PY], place[S], place[D], place[HEADING]
    ego[E_LEFT], ego[E_RIGHT], ego[E_LANE] = left, -right, min(max(lane, 0), lanes - 1)
    ego[E_OFF] = _wheels_off(cars[0], bodies[0], place, width, samples, step_m)
    ego[E_TOUCH] = _touching(cars, bodies, width)
    for k in range(len(offsets)):
        x, y, yaw, curvature, _, _ = at_s(place[S] + offsets[k], samples, 0, n, step_m)
        ahead[k, 0], ahead[k, 1], ahead[k, 2], ahead[k, 3], ahead[k, 4] = offsets[k], x, y, yaw, curvature


@njit(cache=True)
def _idm(k, cars, bodies, places, length_m, width, wanted):
    """Acceleration towards `wanted` behind whatever is ahead of car k, the ego included [m/s^2]."""
    own, gap, lead = bodies[k], 1e9, 0.0
    for j in range(len(cars)):
        if j == k or cars[j, PRESENT] == 0.0:
            continue
        body = bodies[j]
        middle = 0.5 * (body[FRONT] + body[REAR]) - body[REAR_AXLE] if j == 0 else 0.0
        ahead = wrap_half(places[j, S] + middle - places[k, S], length_m)
        breadth = width if j == 0 else body[WIDTH]
        if ahead > 0.0 and abs(places[j, D] - places[k, D]) < 0.5 * (breadth + own[WIDTH]) + 0.3:
            free = ahead - 0.5 * (body[FRONT] - body[REAR] + own[FRONT] - own[REAR])
            if free < gap:
                gap, lead = free, cars[j, VX]
    speed = max(cars[k, VX], 0.0)
    accel = IDM_ACCEL * (1.0 - (speed / max(wanted, 0.5)) ** 4)
    if gap < 300.0:
        closing = speed * (speed - lead) / (2.0 * math.sqrt(IDM_ACCEL * IDM_COMFORT))
        wish = IDM_STANDSTILL_M + max(0.0, speed * IDM_HEADWAY_S + closing)
        accel -= IDM_ACCEL * (wish / max(gap, 0.2)) ** 2
    return min(max(accel, -HARDEST_BRAKE), IDM_ACCEL)


@njit(cache=True)
def steer_along(car, body, s_m, d_m, samples, step_m):
    """Steering in [-1, 1] of a car at s that is to drive along the road at `d_m`: pure pursuit of its rear axle."""
    x, y, yaw, _, _, _ = at_s(s_m + max(6.0, 3.0 + 0.6 * car[VX]), samples, 0, len(samples), step_m)
    c, s = math.cos(car[YAW]), math.sin(car[YAW])
    dx = x - d_m * math.sin(yaw) - (car[X] + body[REAR_AXLE] * c)
    dy = y + d_m * math.cos(yaw) - (car[Y] + body[REAR_AXLE] * s)
    along, across = dx * c + dy * s, dy * c - dx * s
    curvature = 2.0 * across / max(along * along + across * across, 1.0)
    return min(max(math.atan(body[WHEELBASE] * curvature) / body[LOCK], -1.0), 1.0)


@njit(cache=True)
def command_ego(car, body, steering, accel_mps2, max_speed_mps, command):
    """Fill `command` (3,) for a wanted acceleration, none of it above the top speed."""
    wanted = min(accel_mps2, 0.0) if car[VX] >= max_speed_mps else accel_mps2
    command[0] = steering
    command[1], command[2] = pedals(wanted, car, body)


@njit(cache=True)
def settle_ego(car, body, place, d_m, speed_mps, samples, step_m, command):
    """Fill `command` for a car that is to roll along at `d_m` and a speed, or to stand."""
    accel = 3.0 * (speed_mps - car[VX]) if speed_mps > 0.0 else -1.0
    command[0] = steer_along(car, body, place[S], d_m, samples, step_m)
    command[1], command[2] = pedals(accel, car, body)


@njit(cache=True)
def command_traffic(cars, bodies, places, first, drivers, commands, samples, step_m, width, t_s, dt_s):
    """Fill `commands` of the scripted cars; driver j drives car `first` + j."""
    length_m = len(samples) * step_m
    for j in range(len(drivers)):
        k = first + j
        driver, car, body, place, command = drivers[j], cars[k], bodies[k], places[k], commands[k]
        command[0], command[1], command[2] = 0.0, 0.0, 1.0
        if car[PRESENT] == 0.0:
            continue
        for i in range(int(driver[CHANGES])):
            if t_s >= driver[CHANGE_T + i]:
                driver[SET_SPEED] = driver[CHANGE_V + i]
        if driver[FOLLOW] != 0.0 and driver[SET_SPEED] > 0.0:
            accel = _idm(k, cars, bodies, places, length_m, width, driver[SET_SPEED])
        else:
            accel = min(max((driver[SET_SPEED] - driver[REFERENCE]) / dt_s, -SET_BRAKE), SET_ACCEL)
        # The reference leads the car by what its engine cannot follow, by little, so that nothing winds up.
        wanted = max(driver[REFERENCE] + accel * dt_s, 0.0)
        driver[REFERENCE] = min(max(wanted, car[VX] - 1.5), car[VX] + 1.5)
        if driver[REFERENCE] <= 0.0:
            continue
        accel += 2.0 * (driver[REFERENCE] - car[VX])
        command[0] = steer_along(car, body, place[S], driver[WANT_D], samples, step_m)
        command[1], command[2] = pedals(accel, car, body)

"""What can be known of a road in the Unity simulator: the nodes of its path, one question each, and a pose.

The simulator tells neither the width of its roads nor its lanes. Where the truth needs an edge it is the distance from
the path at which gym-donkeycar ends an episode (`max_cte` 8 Unity units, 1 m); there is one lane. Other cars and
obstacles can be neither placed nor seen.
"""

from __future__ import annotations

import math

import numpy as np

from sims.donkey.client import DonkeyClient
from sims.donkey.protocol import UNITY_PER_METRE, MalformedMessage, number, yaw_from_unity
from sims.road import Road, RoadError, road_from_points
from sims.truth import Truth

HALF_WIDTH_M = 8.0 / UNITY_PER_METRE
LEAST_GAP_M = 0.02  # nodes closer together than this are one
CLOSED_GAP = 4.0  # of the usual distance between nodes; a path whose ends are further apart is no loop
AHEAD_M, BEHIND_M, AHEAD_STEP_M = 10.0, 0.5, 0.25
_learned: dict[tuple[str, int, str], Road] = {}


def learn_road(client: DonkeyClient, scene: str) -> Road:
    """The road of the scene that the client is in, by asking for every node of its path (once in a process). Raises
    RoadError where the scene has no path, or one that is no loop."""
    key = (client.host, client.port, scene)
    if key not in _learned:
        total = (client.latest or client.telemetry()).get("totalNodes")
        if not isinstance(total, int) or total < 8:
            raise RoadError(f"scene {scene!r} tells of no path (totalNodes {total!r}): no road to drive tasks on")
        nodes = [_node(client, index) for index in range(total)]
        _learned[key] = road_of_nodes(scene, np.array(nodes))
    return _learned[key]


def _node(client: DonkeyClient, index: int) -> tuple[float, float]:
    told = client.ask({"msg_type": "node_position", "index": str(index)}, "node_position")
    return number(told, "pos_x") / UNITY_PER_METRE, number(told, "pos_z") / UNITY_PER_METRE


def road_of_nodes(scene: str, nodes: np.ndarray) -> Road:
    """A closed road through nodes (n, 2) in metres, in the order in which they are driven. Raises RoadError."""
    keep = [0]
    for k in range(1, len(nodes)):
        if math.dist(nodes[k], nodes[keep[-1]]) > LEAST_GAP_M:
            keep.append(k)
    nodes = nodes[keep]
    if len(nodes) > 1 and math.dist(nodes[0], nodes[-1]) <= LEAST_GAP_M:
        nodes = nodes[:-1]
    if len(nodes) < 8:
        raise RoadError(f"scene {scene!r}: its path has only {len(nodes)} different nodes")
    usual = float(np.median(np.hypot(*np.diff(nodes, axis=0).T)))
    gap = math.dist(nodes[0], nodes[-1])
    if gap > CLOSED_GAP * usual:
        raise RoadError(
            f"scene {scene!r}: its path is no loop (its ends are {gap:.1f} m apart, its nodes {usual:.1f} m); tasks "
            "need a closed road, free driving does not"
        )
    half = np.full(len(nodes), HALF_WIDTH_M)
    return road_from_points(scene, *nodes.T, half, half, 1, meta={"donkey_scene": scene, "width": "assumed"})


class UnityTruth:
    """Turns telemetry into `Truth`, as far as the simulator knows it. Without a road (`None`) Frenet position, edges
    and the road ahead are unknown: zero, infinite and empty."""

    def __init__(self, road: Road | None):
        self.road = road
        self._s_m: float | None = None
        self._progress_m, self._start_s = 0.0, None
        self._collision = self._off_road = False

    def of(self, telemetry: dict) -> Truth:
        """The truth of one telemetry message. Raises MalformedMessage without position or attitude (a simulator whose
        extended telemetry is switched off)."""
        for name in ("pos_x", "pos_z", "yaw", "time", "speed"):
            if name not in telemetry:
                raise MalformedMessage(f"telemetry has no {name}: switch the simulator's extended telemetry on")
        x, y = number(telemetry, "pos_x"), number(telemetry, "pos_z")
        yaw, time_s = yaw_from_unity(number(telemetry, "yaw")), number(telemetry, "time")
        self._start_s = time_s if self._start_s is None else self._start_s
        self._collision |= telemetry.get("hit", "none") != "none"
        common = {
            "t_s": time_s - self._start_s, "x_m": x, "y_m": y, "yaw_rad": yaw, "speed_mps": forward_speed(telemetry),
            "yaw_rate_radps": -number(telemetry, "gyro_y", 0.0), "lane": 0, "lane_count": 1,
            "steering": min(max(-number(telemetry, "steering_angle", 0.0), -1.0), 1.0),
        }  # fmt: skip
        if self.road is None:
            return Truth(
                **common, s_m=0.0, progress_m=0.0, d_m=0.0, heading_error_rad=0.0, left_edge_d_m=math.inf,
                right_edge_d_m=-math.inf, road_length_m=math.inf, ahead=np.empty((0, 5)), collision=self._collision,
            )  # fmt: skip
        return self._on_road(common)

    def _on_road(self, common: dict) -> Truth:
        road = self.road
        s, d = road.to_frenet(common["x_m"], common["y_m"])
        if self._s_m is not None:
            half = 0.5 * road.length_m
            self._progress_m += (s - self._s_m + half) % road.length_m - half
        self._s_m = s
        left, right = (float(edge) for edge in road.edges_at(s))
        self._off_road |= not right <= d <= left
        offsets = np.arange(-BEHIND_M, AHEAD_M + 1e-9, AHEAD_STEP_M)
        x, y, yaw = road.to_world(s + offsets, 0.0)
        error = common["yaw_rad"] - float(road.yaw_at(s))
        return Truth(
            **common, s_m=s, progress_m=self._progress_m, d_m=d, left_edge_d_m=left, right_edge_d_m=right,
            heading_error_rad=(error + math.pi) % (2.0 * math.pi) - math.pi, road_length_m=road.length_m,
            ahead=np.column_stack([offsets, x, y, yaw, road.curvature_at(s + offsets)]), collision=self._collision,
            off_road=self._off_road,
        )  # fmt: skip


def forward_speed(telemetry: dict) -> float:
    """`speed` has no sign; the velocity along the heading gives it one, where it is sent."""
    speed = number(telemetry, "speed")
    if "vel_x" not in telemetry or "yaw" not in telemetry:
        return speed
    yaw = yaw_from_unity(number(telemetry, "yaw"))
    along = number(telemetry, "vel_x") * math.cos(yaw) + number(telemetry, "vel_z") * math.sin(yaw)
    return -speed if along < -0.05 else speed

"""The planner's I/O thread: pumps the link, so that stops, pings and acknowledgements go on while the model thinks.

The model's thread sees two calls: `take` (the freshest frame of each car) and `submit_plan`. Knows nothing of models.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

import zmq

from bridge.messages import (
    EVERY_CAR,
    Command,
    CommandAck,
    CommandStatus,
    CommandVerdict,
    Hello,
    Plan,
    Status,
    Stop,
    Verdict,
    Welcome,
)
from bridge.planner_link import (
    CarConnected,
    CarGone,
    CommandArrived,
    Event,
    FrameArrived,
    PlannerLink,
    StatusArrived,
    StopArrived,
)
from bridge.sockets import readable

log = logging.getLogger("pacenote.bridge")

_POLL_MS = 100  # only an upper bound; every message and every submit wakes the thread
_GATHER_S = 0.03  # how long a batch waits for the frames of further cars
_COMMANDS_REMEMBERED = 256


class _Order:
    """A command taken in: the answer it got, who asked, and what was told last."""

    def __init__(self, operator: bytes, car_id: str, ack: CommandAck):
        self.operator = operator
        self.car_id = car_id
        self.ack = ack
        self.told: CommandVerdict | None = None


class PlannerIo:
    """Runs a bound PlannerLink in a thread of its own. After `start`, the link belongs to that thread.

    The callbacks run in it and must return at once; one that raises is logged and counted, and the thread goes on.
    on_hello(car_id, hello) -> Welcome (the hello's session_id in it); on_command(command) -> CommandAck (called only
    for a car that is there, once per command id); on_stop(stop, car_ids) after the stop was handed on;
    on_status(car_id, status); on_gone(car_id, reason).
    """

    def __init__(
        self,
        link: PlannerLink,
        *,
        on_hello: Callable[[str, Hello], Welcome],
        on_command: Callable[[Command], CommandAck],
        on_stop: Callable[[Stop, tuple[str, ...]], None] | None = None,
        on_status: Callable[[str, Status], None] | None = None,
        on_gone: Callable[[str, str], None] | None = None,
    ):
        self.link = link
        self._on_hello = on_hello
        self._on_command = on_command
        self._on_stop = on_stop
        self._on_status = on_status
        self._on_gone = on_gone
        self._changed = threading.Condition()  # guards the next five
        self._mailbox: dict[str, FrameArrived] = {}
        self._model_waits = False
        self._asked: set[str] | None = None  # cars whose frame is under way; None: not asked yet
        self._closing = False
        self._failure: BaseException | None = None
        self._outbox: deque[tuple[str, Plan] | Stop] = deque()
        self._orders: OrderedDict[str, _Order] = OrderedDict()
        self._wake_lock = threading.Lock()
        self._wake_in, self._wake_out = self._make_wake_pair()
        self._thread = threading.Thread(target=self._run, name="planner-io", daemon=True)

    def _make_wake_pair(self) -> tuple[zmq.Socket, zmq.Socket]:
        address = f"inproc://pacenote-wake-{id(self)}"
        wake_in, wake_out = self.link.context.socket(zmq.PAIR), self.link.context.socket(zmq.PAIR)
        wake_in.bind(address)
        wake_out.connect(address)
        self.link.watch(wake_in)
        return wake_in, wake_out

    def start(self) -> PlannerIo:
        """Start the thread."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop the thread and close the link; plans not yet sent are lost."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._wake()
        if self._thread.ident is not None:
            self._thread.join()
        self.link.close()

    def __enter__(self) -> PlannerIo:
        return self.start()

    def __exit__(self, *_) -> None:
        self.close()

    def take(self, timeout_s: float) -> list[FrameArrived]:
        """For the model's thread: ask every car for its freshest frame and wait for the first to come (and shortly for
        the others); at most one frame per car, [] after `timeout_s` or when closing. Raises RuntimeError where the I/O
        thread has died."""
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            self._model_waits, self._asked = True, None
        self._wake()
        with self._changed:
            self._changed.wait_for(lambda: self._mailbox or self._closing, max(0.0, timeout_s))
            gather_s = min(deadline_s, time.monotonic() + _GATHER_S)
            self._changed.wait_for(lambda: self._closing or self._asked == set(), max(0.0, gather_s - time.monotonic()))
            self._model_waits = False
            frames, self._mailbox = list(self._mailbox.values()), {}
        if self._failure is not None:
            raise RuntimeError("the planner's I/O thread has died") from self._failure
        return frames

    def submit_plan(self, car_id: str, plan: Plan) -> None:
        """From any thread: send a plan. If its session has ended meanwhile it is dropped and counted."""
        self._outbox.append((car_id, plan))
        self._wake()

    def submit_stop(self, stop: Stop) -> None:
        """From any thread: stop a car."""
        self._outbox.append(stop)
        self._wake()

    def _wake(self) -> None:
        with self._wake_lock:
            try:
                self._wake_out.send(b"", zmq.NOBLOCK)
            except zmq.ZMQError:  # full: the thread is awake anyway; or closed
                pass

    def _run(self) -> None:
        try:
            while not self._closing:
                for event in self.link.poll(_POLL_MS):
                    self._guarded(self._handle, event)
                self._drain_wakes()
                self._empty_outbox()
                self._grant_credits()
        except BaseException as error:
            log.exception("the planner's I/O thread has died")
            with self._changed:
                self._failure, self._closing = error, True
                self._changed.notify_all()

    def _drain_wakes(self) -> None:
        while readable(self._wake_in):
            self._wake_in.recv(zmq.NOBLOCK)

    def _guarded(self, call: Callable, *args):
        """A callback's mistake must not end the thread that carries the stops."""
        try:
            return call(*args)
        except Exception:
            self.link.drops["callback_error"] += 1
            log.exception("a callback of the planner failed")
            return None

    def _handle(self, event: Event) -> None:
        if isinstance(event, FrameArrived):
            with self._changed:
                self._mailbox[event.car_id] = event
                if self._asked:
                    self._asked.discard(event.car_id)
                self._changed.notify_all()
        elif isinstance(event, StatusArrived):
            if self._on_status:
                self._on_status(event.car_id, event.status)
        elif isinstance(event, CarConnected):
            self._forget_frame(event.car_id)
            self.link.send_welcome(event.car_id, self._on_hello(event.car_id, event.hello))
        elif isinstance(event, CommandArrived):
            self._handle_command(event.operator, event.command)
        elif isinstance(event, StopArrived):
            if self._on_stop:
                self._on_stop(event.stop, event.car_ids)
            for car_id in event.car_ids:
                self._end_orders(car_id, "the car was told to stop")
        elif isinstance(event, CarGone):
            self._forget_frame(event.car_id)
            if self._on_gone:
                self._on_gone(event.car_id, event.reason)

    def _forget_frame(self, car_id: str) -> None:
        with self._changed:
            self._mailbox.pop(car_id, None)

    def _handle_command(self, operator: bytes, command: Command) -> None:
        order = self._orders.get(command.id)
        if order is None:
            order = self._take_order(operator, command)
        order.operator = operator  # an operator that asks again may have reconnected
        self.link.send_ack(operator, order.ack)

    def _take_order(self, operator: bytes, command: Command) -> _Order:
        cars = self.link.car_ids
        if command.car_id == EVERY_CAR and len(cars) == 1:
            command = command.model_copy(update={"car_id": cars[0]})
        if command.car_id in cars:
            ack = self._guarded(self._on_command, command)
            ack = ack or CommandAck(
                id=command.id, accepted=False, reason="the planner failed on this command; see its log"
            )
        else:
            reason = self.link.describe_missing(command.car_id)[:2000]
            ack = CommandAck(id=command.id, accepted=False, reason=reason)
        if ack.accepted:
            self._end_orders(command.car_id, "replaced by a newer command")
        order = self._orders[command.id] = _Order(operator, command.car_id, ack)
        if len(self._orders) > _COMMANDS_REMEMBERED:
            self._orders.popitem(last=False)
        return order

    def _end_orders(self, car_id: str, reason: str) -> None:
        """Tell whoever waits for a verdict on a command that is no longer in force."""
        for command_id, order in self._orders.items():
            if order.car_id == car_id and order.ack.accepted:
                verdict = CommandVerdict(command_id=command_id, verdict=Verdict.REFUSED, reason=reason)
                self._tell_operator(verdict)

    def _empty_outbox(self) -> None:
        while self._outbox:
            item = self._outbox.popleft()
            if isinstance(item, Stop):
                self.link.send_stop(item)
            elif self.link.send_plan(*item) and item[1].verdict is not None:
                self._tell_operator(item[1].verdict)

    def _tell_operator(self, verdict: CommandVerdict) -> None:
        order = self._orders.get(verdict.command_id)
        if order is None or order.told == verdict:
            return
        if order.told is not None and order.told.verdict in (Verdict.DONE, Verdict.REFUSED):
            return
        order.told = verdict
        self.link.send_command_status(order.operator, CommandStatus(car_id=order.car_id, verdict=verdict))

    def _grant_credits(self) -> None:
        with self._changed:
            if not self._model_waits:
                return
            full = set(self._mailbox)
        for car_id in self.link.car_ids:
            if car_id not in full and not self.link.has_credit(car_id):
                self.link.send_ready(car_id)
        with self._changed:
            self._asked = {car_id for car_id in self.link.car_ids if self.link.has_credit(car_id)}
            self._changed.notify_all()

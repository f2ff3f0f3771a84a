"""Requests that a server takes in, as calls: what the middlewares of ASGI and WSGI share.

    a request ends by                                   outcome    answered with
    a response whose status is below 500                success
    any other response                                  error
    an exception                                        error      what the server makes of it
    a `RejectedError` of a policy in the application    error      503, Retry-After
    the bulkhead around it, or the process drains       rejected   503, Retry-After
    its deadline, or another one inside                 timeout    504
    its client, who leaves, or the server               cancelled

Once a response has begun nothing else is answered: the exception goes on to the server, which
closes the connection, so that no client takes half of a response for a whole one.
"""

import inspect
import random
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import ClassVar

import attrs

from mainstay._core.arguments import Duration, to_seconds
from mainstay._core.call import Call, recorder_in
from mainstay._core.clock import SYSTEM
from mainstay._core.context import current_context
from mainstay._core.functions import checked_name_or_none, name_of
from mainstay._health import DRAINING, checked_ready, health, why_not_ready
from mainstay._limits.bulkhead import Bulkhead, as_part
from mainstay._limits.bulkhead_calls import BulkheadCall
from mainstay._limits.holders import HeldPlace
from mainstay._metrics.collector import Metrics, metrics_of, recorders_of
from mainstay._metrics.pipeline import POLICY, PipelineRecorder
from mainstay._metrics.wire import WireRecorder
from mainstay._pipeline.fast_path import FastBulkhead
from mainstay._wire import DeadlineReader
from mainstay.errors import BulkheadFullError, DeadlineExpiredError
from mainstay.integrations._own_responses import OwnResponse, health_page
from mainstay.integrations._refusals import answered_as

_REASONS = ("timeout", "full", "wait", "shed")

_ELSEWHERE = 1.0
"""Seconds after which what came to a process that drains may be sent again, to another one."""

chance = random.random


@attrs.define(eq=False)
class RequestCall(Call[PipelineRecorder]):
    """One request.

    Attributes:
        bulkhead: What it needs a place of, or None.
        held: The place that it got at once, while it has that.
        waited: Its call of the bulkhead if it had to wait, while it has a place.
        was_called: True once the application has been called.
        status: The status of its response; 0 while there is none.
        seconds: How long it took until its response was out; None until then.
        is_over: True once it has been recorded.
    """

    policy: ClassVar[str] = POLICY
    bulkhead: FastBulkhead | None
    held: HeldPlace | None = None
    waited: BulkheadCall | None = None
    was_called: bool = False
    status: int = 0
    seconds: float | None = None
    is_over: bool = False

    # Its beginning.

    def check(self, seconds: float | None) -> None:
        """Raise if a request comes too late, or to a process that drains.

        Args:
            seconds: How much time it was given; None for no limit of its own.

        Raises:
            DeadlineExpiredError: If no time is left.
            BulkheadFullError: If the process drains, and its time is over.
        """
        context = self.context
        if seconds == 0 or context.left() <= 0:
            raise DeadlineExpiredError(self.component)
        if DRAINING.refuses():
            if self.bulkhead is not None:
                raise self.bulkhead.bound.begin().refused()
            raise BulkheadFullError(self.component, "full", _ELSEWHERE)

    def needs_to_wait(self) -> BulkheadCall | None:
        """Take a place at once, if a place is needed; return the call that has to wait for one."""
        bulkhead, context = self.bulkhead, self.context
        if bulkhead is None:
            return None
        if context.clock is SYSTEM and context.metrics is None:
            self.held = bulkhead.bound.hold(self.started)
            if self.held is not None:
                return None
        waits: BulkheadCall = bulkhead.bound.begin()
        return waits

    # Its end.

    def response_is_out(self, *, has_left: bool) -> None:
        """Free the place, and record a success.

        Anything else is recorded once the application has returned, or raised.

        Args:
            has_left: True if the client has left.
        """
        if self.is_over:
            return
        self.seconds = self._free()
        if not has_left and self.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            self.is_over = True
            self.recorder.success(self.seconds)

    def _free(self) -> float:
        """Free the place of a request that was answered; return the seconds since it began."""
        now = self.context.clock.now()
        seconds = now - self.started
        if self.held is not None and self.bulkhead is not None:
            held, self.held = self.held, None
            held.give_back()
            self.bulkhead.answered(now, seconds, held.in_flight)
        elif self.waited is not None:
            waited, self.waited = self.waited, None
            waited.give_back()
            waited.succeeded()
        return seconds

    def _record(self, outcome: str) -> None:
        self.is_over = True
        self.recorder.call(outcome, self.elapsed() if self.seconds is None else self.seconds)

    def give_back(self, error: BaseException, *, may_be_late: bool) -> None:
        """Free the place of a request that ends with *error*.

        Args:
            error: What goes on, or is answered.
            may_be_late: True if a cancellation may show that what was called hangs.
        """
        held, waited, self.held, self.waited = self.held, self.waited, None, None
        if held is not None and self.bulkhead is not None:
            held.give_back()
            waited = self.bulkhead.bound.resume(self.started)
        elif waited is not None:
            waited.give_back()
        if waited is not None:
            waited.raised(error, may_be_late=may_be_late)

    def returned(self, *, has_left: bool) -> None:
        """Record that the application is done."""
        if self.is_over:
            return
        failure = f"HTTP {self.status}"
        if self.seconds is None:
            self.seconds = self._free()
            failure = "no whole response"
        if not has_left:
            self.recorder.failed_by(failure)
        self._record("cancelled" if has_left else "error")

    def raised(self, error: BaseException, *, has_left: bool) -> None:
        """Record what the application has raised, or what has kept it from being called."""
        if self.is_over:
            return
        answered = answered_as(error)
        if isinstance(error, BulkheadFullError) and not self.was_called:
            self.recorder.gave_up(error.reason)
            self._record("rejected")
        elif self.seconds is None and isinstance(answered, DeadlineExpiredError):
            self.is_over = True
            self.give_up("timeout", answered, "timeout", attempts=1)
        elif has_left or not isinstance(error, Exception):
            self.is_over = True
            self.end_interrupted(error)
        else:
            self.recorder.error(error)
            self._record("error")


@attrs.frozen(eq=False)
class RequestRules:
    """What a middleware does with requests.

    Attributes:
        component: Its name.
        recorder: What counts requests.
        wire: What counts headers that are garbage.
        bulkhead: What requests need a place of, or None.
        reader: Reads the time that is left from headers.
        health: The path of the page that says if the process is ready; None for no such page.
        ready: The components that are to be ready.
    """

    component: str
    recorder: PipelineRecorder
    wire: WireRecorder
    bulkhead: FastBulkhead | None
    reader: DeadlineReader
    health: str | None
    ready: tuple[str, ...]
    _exempt: frozenset[str]
    _below: tuple[str, ...]

    def is_exempt(self, path: str) -> bool:
        """True if requests for *path* go straight through."""
        return path in self._exempt or path.startswith(self._below)

    def page(self, method: str) -> OwnResponse | None:
        """Return the page that says if the process is ready; None if nobody asks to read it."""
        if method not in ("GET", "HEAD"):
            return None
        return health_page(why_not_ready(self.ready), health())

    def begin(self) -> RequestCall:
        """Return the call that a request is."""
        context = current_context()
        recorder = recorder_in(context, self.recorder, self.component)
        started = context.clock.now()
        return RequestCall(self.component, recorder, context, started, self.bulkhead)

    def seconds(
        self, found: Sequence[tuple[str | bytes, object]], call: RequestCall
    ) -> float | None:
        """Return how much time the headers that were *found* leave a request, or None."""
        metrics = call.context.metrics
        wire = self.wire if metrics is None else recorders_of(metrics).wire()
        if len(found) == 1:
            return self.reader.seconds_of(*found[0], wire)
        return self.reader.seconds(found, wire)

    def check_draining(self) -> None:
        """Raise for what is no request, as a websocket, if the process drains.

        Raises:
            BulkheadFullError: If its time is over.
        """
        if DRAINING.refuses():
            raise BulkheadFullError(self.component, "full", _ELSEWHERE)


def check_takes(app: object, *parameters: str) -> None:
    """Raise unless *app* can be called with as many arguments as *parameters* names.

    Raises:
        TypeError: If it cannot.
    """
    if not callable(app):
        raise TypeError(f"`app` must be an application that can be called, not {app!r}")
    try:
        signature = inspect.signature(app)
    except ValueError:  # of something that is built in
        return
    try:
        signature.bind(*parameters)
    except TypeError:
        raise TypeError(f"`app` must take {', '.join(parameters)}, and {app!r} does not") from None


def rules_of(  # noqa: D417 - the others are those of a middleware
    app: Callable[..., object],
    layer: type[FastBulkhead],
    *,
    bulkhead: Bulkhead | None,
    at_most: Duration,
    header: str,
    health: str | None,
    ready: Iterable[str],
    exempt: Iterable[str],
    name: str | None,
    metrics: Metrics | None,
) -> RequestRules:
    """Return what the arguments of a middleware say, checked.

    Args:
        app: The application.
        layer: What a bulkhead is to calls of its kind, sync or async.

    Raises:
        TypeError: If one has the wrong type.
        ValueError: If one is out of its range.
    """
    if bulkhead is not None and not isinstance(bulkhead, Bulkhead):
        raise TypeError(f"`bulkhead` must be a Bulkhead or None, not {bulkhead!r}")
    reader = DeadlineReader(header, to_seconds(at_most, "at_most", zero=False))
    names = checked_ready(ready)
    if isinstance(exempt, str) or not isinstance(exempt, Iterable):
        raise TypeError(f"`exempt` must hold paths, as ('/metrics',), not {exempt!r}")
    paths = frozenset(_checked_path(path, "exempt").rstrip("/") for path in exempt)
    component = checked_name_or_none(name) or name_of(app)
    recorders = recorders_of(metrics_of(metrics))
    return RequestRules(
        component,
        recorders.pipeline(PipelineRecorder, component, _REASONS),
        recorders.wire(),
        None if bulkhead is None else layer(as_part(bulkhead), app),
        reader,
        None if health is None else _checked_path(health, "health"),
        names,
        paths,
        tuple(f"{path}/" for path in paths),
    )


def _checked_path(path: object, parameter: str) -> str:
    if not isinstance(path, str):
        raise TypeError(f"`{parameter}` must be a path, as '/health', not {path!r}")
    if not path.startswith("/"):
        raise ValueError(f"`{parameter}` must begin with a slash, as '/health', not {path!r}")
    return path

"""What users give: members, probes, and how to detect, eject and take back. Checked when made."""

import enum
import math
from collections.abc import Callable
from typing import Any, Final, Literal

import attrs

from mainstay._core.arguments import to_count, to_number, to_share
from mainstay._core.callables import Colour, colour_of
from mainstay._core.durations import Duration, to_seconds
from mainstay._failover.health import Limits, gain_for

_FAILURES_TO_LIMIT = 6

NO_RESOURCE: Final = object()
"""What a member's resource is when none was given."""


class Verdict(enum.Enum):
    """What a predicate `on` of a pool may say about an exception, besides True and False.

    Example:
        >>> from mainstay import FailoverPool, Member, Verdict
        >>> members = [Member("a", "busy"), Member("b", "idle")]
        >>> pool = FailoverPool("workers", members, on=lambda error: Verdict.TRY_ANOTHER)
        >>> def work(worker: str) -> str:
        ...     if worker == "busy":
        ...         raise RuntimeError(worker)
        ...     return worker
        >>> pool.call(work)
        'idle'
    """

    MEMBER_FAILED = True
    """It counts against the member, and the call goes on to another one; equal to True."""
    TRY_ANOTHER = "try_another"
    """The member is well but busy, and the call goes on to another one."""
    STOP = False
    """The exception is the caller's, and passes through; equal to False."""

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, bool) and other is self.value)

    def __hash__(self) -> int:
        return hash(self.value)


@attrs.frozen(init=False, eq=False)
class Member:
    """One of the resources of a pool.

    Args:
        name: What it is called in labels, events and errors. Not empty, and the only one of that
            name in its pool.
        resource: What is handed to calls, ready for use; for what is opened by itself, such as
            the URL of a server. Never closed by the pool.
        open: Makes the resource; in an async pool it may be async. A sync one runs in a thread of
            the library, so that it can be given up on.
        close: Takes the resource apart again, when it is not used any more; may be async too.
        standby: None for an active member. "hot": opened, probed, and without traffic until an
            active member is lost. "cold": opened only then, and closed when it is not needed any
            more.
        weight: Its share of the calls under ``select="weighted"``, above 0.
        start_timeout: Most seconds, or `timedelta`, that opening may take, above 0; a fence and
            the first probe of a standby included.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If it is out of its range, or neither or both of *resource* and *open* are
            given.

    Example:
        >>> from mainstay import Member
        >>> Member("eu", "https://eu.example").name
        'eu'
    """

    name: str
    resource: Any
    open: Callable[[], Any] | None
    close: Callable[[Any], Any] | None
    standby: Literal["hot", "cold"] | None
    weight: float
    start_timeout: float

    def __init__(
        self,
        name: str,
        resource: Any = NO_RESOURCE,
        *,
        open: Callable[[], Any] | None = None,  # noqa: A002 - the word for it
        close: Callable[[Any], Any] | None = None,
        standby: Literal["hot", "cold"] | None = None,
        weight: float = 1.0,
        start_timeout: Duration = 60.0,
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"`name` of a member must be a str, not {name!r}")
        if not name:
            raise ValueError("`name` of a member must not be empty")
        if (resource is NO_RESOURCE) == (open is None):
            raise ValueError(f"member {name!r} needs `resource` or `open`, and not both")
        check_hook("open", open)
        check_hook("close", close)
        if standby not in (None, "hot", "cold"):
            raise ValueError(f"`standby` must be None, 'hot' or 'cold', not {standby!r}")
        if standby == "cold" and open is None:
            raise ValueError(f"cold standby {name!r} needs `open`: a resource is there already")
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue]  # by attrs
            name,
            resource,
            open,
            close,
            standby,
            to_number(weight, "weight", zero=False),
            to_seconds(start_timeout, "start_timeout", zero=False),
        )


@attrs.frozen(init=False, eq=False)
class Probe:
    """A question asked of every open member now and then, whether it is well.

    Without one, an ejected member is tried by single calls.

    Args:
        fn: Takes a resource and answers True or False; an exception counts as False, any other
            answer as an error of *fn*'s. May be async. A sync one runs in a daemon thread.
        every: Seconds or `timedelta` between two probes of a member, above 0.
        timeout: Most seconds or `timedelta` that a probe may take, above 0. One that takes longer
            has failed; it is not asked again before it has returned.
        rise: Good probes in a row that readmit an ejected member, at least 1.
        fall: Bad probes in a row that eject a member, at least 1.
        jitter: By which share of *every* each interval is varied at random, 0 to 1.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If it is out of its range.

    Example:
        >>> from mainstay import Probe
        >>> Probe(lambda server: server.ping(), every=2.0, rise=2, fall=3).every
        2.0
    """

    fn: Callable[[Any], Any]
    every: float
    timeout: float
    rise: int
    fall: int
    jitter: float

    def __init__(
        self,
        fn: Callable[[Any], Any],
        *,
        every: Duration = 5.0,
        timeout: Duration = 1.0,
        rise: int = 2,
        fall: int = 3,
        jitter: float = 0.1,
    ) -> None:
        if not callable(fn):
            raise TypeError(f"`fn` must take a resource and answer a bool, not {fn!r}")
        check_hook("fn", fn)
        answers = getattr(fn, "__annotations__", {}).get("return", bool)
        if answers not in (bool, "bool"):
            raise TypeError(
                f"`fn` must answer a bool, and {fn!r} is annotated to return {answers!r}; "
                f"return True or False"
            )
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue]  # by attrs
            fn,
            to_seconds(every, "every", zero=False),
            to_seconds(timeout, "timeout", zero=False),
            to_count(rise, "rise"),
            to_count(fall, "fall"),
            to_share(jitter, "jitter"),
        )


@attrs.frozen(init=False)
class Detect:
    """When a member has failed too much, and for how long it is then left alone.

    A member is ejected after *consecutive* failures in a row, or when its failures are too many
    for its successes: each failure adds points to a score, each success takes one off, and at
    *threshold* points it is ejected. How many points a failure adds follows from *normal* and
    *bad*; with the defaults it is 14, the threshold is 84, a member that fails 15 % of its calls
    is found after 66 of them on average, and one that fails 1 % is ejected by mistake less than
    once in ten days at 50 calls a second. The detector is for shares of 10 % and more.

    Args:
        consecutive: Failures in a row that eject, at least 1.
        normal: The share of calls that may fail while all is well, above 0 and below *bad*.
        bad: The share that is to be detected, below 1.
        threshold: The score that ejects, at least 1; None for that of six failures.
        slow: Seconds or `timedelta`, above 0, from which on an answer is too late. Such answers
            are measured by the same rules, apart from failures. None for no such limit.
        eject_for: Seconds or `timedelta` of the first ejection, above 0. Each one is between half
            of it and the whole, at random, and the next ones are twice as long.
        max_eject: Most seconds or `timedelta` of an ejection, at least *eject_for*.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If it is out of its range.

    Source:
        E. S. Page, "Continuous Inspection Schemes", Biometrika 41, 1954.

    Example:
        >>> from mainstay import Detect
        >>> Detect(normal=0.02, bad=0.15).threshold
        84
    """

    consecutive: int
    normal: float
    bad: float
    threshold: int
    slow: float | None
    eject_for: float
    max_eject: float

    def __init__(
        self,
        *,
        consecutive: int = 4,
        normal: float = 0.02,
        bad: float = 0.15,
        threshold: int | None = None,
        slow: Duration | None = None,
        eject_for: Duration = 5.0,
        max_eject: Duration = 300.0,
    ) -> None:
        normal = to_number(normal, "normal", zero=False)
        bad = to_number(bad, "bad", zero=False)
        if not normal < bad < 1:
            raise ValueError(
                f"`normal` and `bad` must be shares with 0 < normal < bad < 1, "
                f"not {normal!r} and {bad!r}"
            )
        if threshold is None:
            threshold = gain_for(normal, bad) * _FAILURES_TO_LIMIT
        shortest = to_seconds(eject_for, "eject_for", zero=False)
        longest = to_seconds(max_eject, "max_eject", zero=False)
        if longest < shortest:
            raise ValueError(f"`max_eject` must be at least `eject_for`, not {max_eject!r}")
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue]  # by attrs
            to_count(consecutive, "consecutive"),
            normal,
            bad,
            to_count(threshold, "threshold"),
            None if slow is None else to_seconds(slow, "slow", zero=False),
            shortest,
            longest,
        )


def limits_of(detect: Detect) -> Limits:
    """Give what members are measured by under *detect*."""
    return Limits(
        consecutive=detect.consecutive,
        gain=gain_for(detect.normal, detect.bad),
        limit=detect.threshold,
        slow=math.inf if detect.slow is None else detect.slow,
        eject_for=detect.eject_for,
        max_eject=detect.max_eject,
    )


@attrs.frozen(init=False)
class Failback:
    """How a readmitted member gets its calls back.

    Args:
        mode: "ramp": after *grace*, its share of the calls grows from nothing to the whole during
            *ramp*. "grace": it gets its whole share after *grace*. "manual": it gets calls again
            only after `pool.release()`, or if no other member is there.
        grace: Seconds or `timedelta`, at least 0, that it has to stay well first.
        ramp: Seconds or `timedelta`, at least 0.
        jitter: By which share, 0 to 1, *grace* and *ramp* are made longer at random, so that not
            all processes come back at once.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If it is out of its range.

    Example:
        >>> from mainstay import Failback
        >>> Failback("grace", grace=60.0).ramp
        0.0
    """

    mode: Literal["ramp", "grace", "manual"]
    grace: float
    ramp: float
    jitter: float

    def __init__(
        self,
        mode: Literal["ramp", "grace", "manual"] = "ramp",
        *,
        grace: Duration = 30.0,
        ramp: Duration = 30.0,
        jitter: float = 0.2,
    ) -> None:
        if mode not in ("ramp", "grace", "manual"):
            raise ValueError(f"`mode` must be 'ramp', 'grace' or 'manual', not {mode!r}")
        seconds = to_seconds(ramp, "ramp")
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue]  # by attrs
            mode,
            math.inf if mode == "manual" else to_seconds(grace, "grace"),
            seconds if mode == "ramp" else 0.0,
            to_share(jitter, "jitter"),
        )


def check_hook(parameter: str, hook: object) -> None:
    """Refuse what is neither None nor a function that returns what it makes."""
    if hook is None:
        return
    if not callable(hook):
        raise TypeError(f"`{parameter}` must be callable, not {hook!r}")
    if colour_of(hook) in (Colour.GENERATOR, Colour.ASYNC_GENERATOR):
        raise TypeError(f"`{parameter}` must return what it makes, but {hook!r} is a generator")

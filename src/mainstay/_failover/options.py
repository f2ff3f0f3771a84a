"""What users give: members, probes, and how to detect, eject and take back. Checked when made."""

import math
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Generic, Literal, Self, TypeVar, get_args, overload

import attrs

from mainstay._core.arguments import Duration, to_count, to_number, to_seconds, to_share
from mainstay._core.functions import Kind, kind_of, name_of, repr_of
from mainstay._core.misuse import shows_use
from mainstay._failover.prometheus import Missing, PrometheusQuestion

R_co = TypeVar("R_co", covariant=True)  # the resource

NO_RESOURCE: Final = object()
"""What a member's resource is when none was given."""


@attrs.frozen(init=False, eq=False)
class Member(Generic[R_co]):
    """A member of a pool, with its resource; to type checkers it is generic in the resource.

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
    # It may be a URL with a password in it, which no repr shows.
    resource: R_co = attrs.field(repr=False)  # type: ignore[misc]  # a parameter of `__attrs_init__` alone
    open: Callable[[], Any] | None = attrs.field(repr=repr_of)
    close: Callable[[Any], Any] | None = attrs.field(repr=repr_of)
    standby: Literal["hot", "cold"] | None
    weight: float
    start_timeout: float

    @overload
    def __init__(
        self,
        name: str,
        resource: R_co,
        *,
        close: Callable[[R_co], Any] | None = None,
        standby: Literal["hot"] | None = None,
        weight: float = 1.0,
        start_timeout: Duration = 60.0,
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: str,
        *,
        open: Callable[[], Awaitable[R_co]],
        close: Callable[[R_co], Any] | None = None,
        standby: Literal["hot", "cold"] | None = None,
        weight: float = 1.0,
        start_timeout: Duration = 60.0,
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: str,
        *,
        open: Callable[[], R_co],
        close: Callable[[R_co], Any] | None = None,
        standby: Literal["hot", "cold"] | None = None,
        weight: float = 1.0,
        start_timeout: Duration = 60.0,
    ) -> None: ...
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
    """A check of the health of every open member, at intervals.

    Without one, an ejected member is tried by single calls.

    Args:
        fn: Takes a resource and answers True or False; None if it cannot tell, which counts
            neither for *rise* nor for *fall*. An exception counts as False, any other answer as an
            error of *fn*'s. May be async. A sync one runs in a daemon thread.
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

    fn: Callable[[Any], Any] = attrs.field(repr=repr_of)
    every: float
    timeout: float
    rise: int
    fall: int
    jitter: float

    @shows_use(
        "Probe(ping), where `ping` takes a resource and answers if it is well",
        elsewhere={
            "interval": "`every=`",
            "period": "`every=`",
            "inter": "`every=`",
            "success_threshold": "`rise=`",
            "failure_threshold": "`fall=`",
        },
    )
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
        if not _may_be_bool(answers):
            raise TypeError(
                f"`fn` must answer a bool, and {name_of(fn)} is annotated to return {answers!r}; "
                f"return True or False, or None if it cannot tell"
            )
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue]  # by attrs
            fn,
            to_seconds(every, "every", zero=False),
            to_seconds(timeout, "timeout", zero=False),
            to_count(rise, "rise"),
            to_count(fall, "fall"),
            to_share(jitter, "jitter"),
        )

    @classmethod
    def promql(
        cls,
        url: str,
        query: str,
        *,
        headers: Mapping[str, str] | None = None,
        missing: Missing = "unknown",
        every: Duration = 5.0,
        timeout: Duration = 1.0,
        rise: int = 2,
        fall: int = 3,
        jitter: float = 0.1,
    ) -> Self:
        """Return a probe that asks Prometheus about each member, instead of the member itself.

        The query has to give one number: 0 is a failure, anything else is healthy. Everything that
        says nothing of the member is unknown, and counts neither for *rise* nor for *fall*: no
        connection, no answer in time, a redirect, a login, a query that Prometheus refuses, several
        series. So an outage of Prometheus ejects nobody, nor does it readmit anybody. Each kind of
        it is logged once at WARNING, and then at DEBUG. Sync and async pools ask alike, from a
        daemon thread. A cold standby is not asked about while it is started, since Prometheus has
        not looked at it yet.

        Args:
            url: Where Prometheus is, or what has its API: "http://prometheus:9090". A name and
                password in it are sent as Basic authentication, and shown nowhere. No proxy is
                used, and no redirect followed.
            query: PromQL. ``{member}`` is the name of the member, quoted: as in
                ``up{instance={member}}`` or ``up{instance="{member}"}``, and ``=~"{member}:.*"``
                matches the name itself. Write ``== bool 1``, and not ``== 1``, which gives no
                sample where it is not so.
            headers: Sent with each question, such as ``{"X-Scope-OrgID": "shop"}``.
            missing: What it means if there is no sample, or NaN: "unknown", "healthy" or "failure".
            every: Seconds or `timedelta` between two questions about a member, above 0. More often
                than Prometheus scrapes gives the same answer again.
            timeout: Most seconds or `timedelta` for the whole answer, above 0.
            rise: Healthy answers in a row that readmit an ejected member, at least 1.
            fall: Failures in a row that eject a member, at least 1.
            jitter: By which share of *every* each interval is varied at random, 0 to 1.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If it is out of its range, *url* is none of HTTP, or a header cannot be
                sent.

        Example:
            >>> from mainstay import Probe
            >>> errors = 'rate(http_errors_total{instance={member}}[1m])'
            >>> Probe.promql("http://prometheus:9090", f"{errors} < bool 0.5", fall=2).every
            5.0
        """
        question = PrometheusQuestion(
            url,
            query,
            headers=headers,
            missing=missing,
            seconds=to_seconds(timeout, "timeout", zero=False),
        )
        return cls(question, every=every, timeout=timeout, rise=rise, fall=fall, jitter=jitter)


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


def _may_be_bool(annotation: object) -> bool:
    """True if what is annotated so may return a bool: a union may, as that of `Redis.ping`."""
    if isinstance(annotation, str):
        return re.search(r"\bbool\b", annotation) is not None
    return annotation is bool or bool in get_args(annotation) or annotation is Any


def check_hook(parameter: str, hook: object) -> None:
    """Raise unless it is None, or a function that returns what it makes."""
    if hook is None:
        return
    if not callable(hook):
        raise TypeError(f"`{parameter}` must be callable, not {hook!r}")
    if kind_of(hook) in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
        raise TypeError(
            f"`{parameter}` must return what it makes, but {name_of(hook)} is a generator"
        )

"""The classes that users pass to a pool: `Member`, `Probe` and `Failback`, checked when made."""

import math
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Generic, Literal, Self, TypeVar, get_args, overload

import attrs

from mainstay._core.arguments import (
    Duration,
    check_choice,
    to_count,
    to_number,
    to_seconds,
    to_share,
)
from mainstay._core.functions import Kind, kind_of, name_of, repr_of
from mainstay._core.misuse import shows_use
from mainstay._core.words import kind_in_words
from mainstay._failover.prometheus import Missing, PrometheusQuestion

R_co = TypeVar("R_co", covariant=True)  # the resource

NO_RESOURCE: Final = object()
"""What a member's resource is when none was given."""


@attrs.frozen(init=False, eq=False)
class Member(Generic[R_co]):
    """A member of a pool, with its resource; to type checkers it is generic in the resource.

    Args:
        name: The name of the member in labels, events and errors. Not empty, and different from the
            names of the other members.
        resource: The object that calls get, ready for use, such as the URL of a server. The pool
            never closes it. Give either *resource* or *open*.
        open: A function without parameters that returns the resource. In an async pool it may be
            async; a plain function runs in a thread of the library, so that the pool can stop
            waiting for it.
        close: A function that takes the resource and closes it, when no call uses it any more. In
            an async pool it may be async.
        standby: None for an active member. "hot": opened and probed, but without calls until an
            active member is lost. "cold": opened when an active member is lost, and closed when the
            member is no longer needed.
        weight: The share of the calls under ``select="weighted"``, relative to the weights of the
            other members; above 0.
        start_timeout: The longest time for opening, including a fence and the first probe of a
            standby: seconds or a `timedelta`, above 0.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of its range, or neither or both of *resource* and *open*
            are given.

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
        check_choice(standby, "standby", (None, "hot", "cold"))
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

    In a pool without a probe, single calls are the trials of an ejected member.

    Args:
        fn: A function that takes a resource and returns True if the member is healthy, False if
            not, or None if unknown, which counts neither for *rise* nor for *fall*. An exception
            counts as False; any other result is an error of *fn*, and counts as False too. *fn*
            may be async; a plain function runs in a daemon thread.
        every: The time between two probes of a member: seconds or a `timedelta`, above 0.
        timeout: The longest time for a probe: seconds or a `timedelta`, above 0. A probe that takes
            longer has failed; the member is not probed again before the probe has returned.
        rise: The number of good probes in a row that readmits an ejected member, at least 1.
        fall: The number of failed probes in a row that ejects a member, at least 1.
        jitter: The share of *every*, 0 to 1, by which each interval varies at random.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of its range.

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
            raise TypeError(f"`fn` must take a resource and return a bool, not {kind_in_words(fn)}")
        check_hook("fn", fn)
        answers = getattr(fn, "__annotations__", {}).get("return", bool)
        if not _may_be_bool(answers):
            raise TypeError(
                f"`fn` must return a bool, and {name_of(fn)} is annotated to return {answers!r}; "
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

        The query must return one number: 0 means failed, any other number means healthy. Any other
        answer is unknown, and counts neither for *rise* nor for *fall*: no connection, no answer in
        time, a redirect, a login page, an error of Prometheus, several series. So an outage of
        Prometheus neither ejects nor readmits a member. The first problem of each kind is logged
        at WARNING, the others at DEBUG. Sync and async pools send the queries from a daemon thread.
        A cold standby is not probed while it starts, since Prometheus has no samples of it yet.

        Args:
            url: The address of Prometheus, or of a server with the same API, such as
                "http://prometheus:9090". A user name and password in it are sent as Basic
                authentication, and appear in no message. Proxies are not used, and redirects not
                followed.
            query: PromQL, with ``{member}`` in place of the name of the member: with or without
                quotes around, as in ``up{instance={member}}`` or ``up{instance="{member}"}``. In a
                pattern, as in ``=~"{member}:.*"``, the name is escaped. Write comparisons with
                ``bool``: ``== 1`` returns no sample where it is false, ``== bool 1`` returns 0.
            headers: Headers to send with each query, such as ``{"X-Scope-OrgID": "shop"}``.
            missing: What a missing sample, or NaN, means: "unknown", "healthy" or "failure".
            every: The time between two queries about a member: seconds or a `timedelta`, above 0.
                An interval shorter than the scrape interval of Prometheus repeats the same answer.
            timeout: The longest time for the whole answer: seconds or a `timedelta`, above 0.
            rise: The number of healthy answers in a row that readmits an ejected member, at least
                1.
            fall: The number of failures in a row that ejects a member, at least 1.
            jitter: The share of *every*, 0 to 1, by which each interval varies at random.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If an argument is out of its range, *url* is not an HTTP address, or a
                header cannot be sent.

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
        mode: "ramp": after *grace*, the share of the member grows from nothing to its whole share
            during *ramp*. "grace": the member gets its whole share after *grace*. "manual": the
            member gets calls only after `pool.release()`, or if no other member can serve.
        grace: The time for which the member must stay well first: seconds or a `timedelta`, at
            least 0.
        ramp: The length of the ramp: seconds or a `timedelta`, at least 0.
        jitter: The share, 0 to 1, by which *grace* and *ramp* are prolonged at random, so that the
            processes do not all return to the member at the same moment.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of its range.

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
        check_choice(mode, "mode", ("ramp", "grace", "manual"))
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
    """Raise unless *hook* is None, or a function that returns its result."""
    if hook is None:
        return
    if not callable(hook):
        raise TypeError(f"`{parameter}` must be callable, not {kind_in_words(hook)}")
    if kind_of(hook) in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
        raise TypeError(
            f"`{parameter}` must return what it makes, but {name_of(hook)} is a generator"
        )

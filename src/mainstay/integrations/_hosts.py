"""The policies of a client, for each host that it calls.

A host that fails says nothing of the others, so each has a breaker, a bulkhead, and a share of
retries of its own. There are at most `MOST_HOSTS`, because hosts may come from users: then the one
goes that was used least recently, and what was known of it.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import attrs

from mainstay._breaker.policy import CircuitBreaker
from mainstay._core.arguments import to_count
from mainstay._core.budget import RetryBudget, budget_of
from mainstay._core.context import current_context
from mainstay._core.detector import Detect
from mainstay._core.failures import Predicate
from mainstay._core.forks import reset_after_fork, unlocked_copy
from mainstay._core.functions import checked_name_or_none, close_coroutine
from mainstay._core.sharing import reset_with_all
from mainstay._limits.adaptive import Adaptive
from mainstay._limits.bulkhead_calls import BoundBulkhead
from mainstay._limits.bulkhead_engine import BulkheadEngine
from mainstay._metrics.collector import Metrics, metrics_of, recorders_of
from mainstay._retry.call import BoundRetry
from mainstay._retry.policy import Retry, bound_to, retry, settings_of
from mainstay._transient.delays import asked_delay
from mainstay._transient.policy import Transient, statuses_of, transient

MOST_HOSTS = 1_000

_FIRST_BAD = 400

_ATTEMPTS = 3


HostKey: TypeAlias = tuple[str, int | None]
"""The name of a host, and its port unless that is the usual one."""


@attrs.define(eq=False)
class Host:
    """What the requests to one host go through.

    Attributes:
        retry: Its retry.
        attempt: Makes one attempt, through the breaker if there is one.
        bulkhead: Limits its requests; None for no limit.
        special: True if the retry needs more of a request that its first attempt answers.
        straight: True if such a request has only to be sent, and counted by `success`.
        success: Records a request that its first attempt answered, after so many seconds.
        used: When it was used last: a number that grows.
        on_asyncio: True once a request has run on asyncio: to ask is a system call in 3.11.
    """

    retry: BoundRetry
    attempt: Callable[..., Any]
    bulkhead: BoundBulkhead | None
    special: bool
    straight: bool
    success: Callable[[float], None]
    used: float = 0.0
    on_asyncio: bool = False


@attrs.frozen(eq=False)
class Policies:
    """What a client was told, checked: of which each host gets its own.

    Attributes:
        retry: The retry.
        on: What says whether a host is failing.
        breaker: When a host has failed too much; None for no breakers.
        limit: How many requests of a host run at a time; None for no limit.
        budget: What retries are charged to: one for all hosts, or the share of each.
        name: The component; None for the host.
        metrics: Where to record.
        first_judged: The least status that may be a failure.
    """

    retry: Retry
    on: Transient
    breaker: Detect | None
    limit: int | Adaptive | None
    budget: RetryBudget | float | None
    name: str | None
    metrics: Metrics
    first_judged: int

    def host(self, name: str, attempt: Callable[..., Any]) -> Host:
        """Make what the requests to a host go through, whose attempts are made by *attempt*."""
        budget = budget_of(self.budget)
        bound = bound_to(self.retry, self.name, name, metrics=self.metrics, budget=budget)
        name = bound.component
        if self.breaker is not None:
            breaker = CircuitBreaker(name, on=self.on, detect=self.breaker, metrics=self.metrics)
            attempt = breaker(attempt)
        bulkhead = None
        if self.limit is not None:
            engine = BulkheadEngine(name, self.limit, 0.0, self.metrics)
            reset_with_all(engine, BulkheadEngine.reset)
            bulkhead = BoundBulkhead(engine, engine.recorder)
        special = bound.settings.first_attempt_is_special()
        straight = not special and self.breaker is None and self.limit is None
        return Host(bound, attempt, bulkhead, special, straight, bound.recorder.success)


def policies_of(
    given: Retry | None,
    breaker: Detect | None,
    limit: int | Adaptive | None,
    budget: RetryBudget | float | None,
    name: str | None,
    metrics: Metrics | None,
) -> Policies:
    """Return what users give as `retry=`, `breaker=`, `limit=` and so on, checked.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If one is out of range, or there are two budgets.
    """
    wanted: object = given
    if not isinstance(wanted, Retry | None):
        raise TypeError(
            f"`retry` must be a Retry, such as retry(on=transient, attempts=2), or None, "
            f"not {wanted!r}"
        )
    wanted = breaker
    if not isinstance(wanted, Detect | None):
        raise TypeError(
            f"`breaker` must be a Detect, of which each host gets a breaker of its own, or None, "
            f"not {wanted!r}"
        )
    if limit is not None and not isinstance(limit, Adaptive):
        limit = to_count(limit, "limit")
    budget_of(budget)
    policy = retry(on=transient, attempts=_ATTEMPTS) if given is None else given
    settings = settings_of(policy)
    if budget is not None and settings.budget is not None:
        raise ValueError("`budget` must be left out where `retry` has one: give it to one of them")
    judge, on = settings.judge, transient
    if isinstance(judge, Predicate) and isinstance(judge.predicate, Transient):
        on = judge.predicate
    name = checked_name_or_none(name)
    first_judged = min({_FIRST_BAD} | statuses_of(on))
    place = metrics_of(metrics)
    return Policies(policy, on, breaker, limit, budget, name, place, first_judged)


def counts(host: Host, policies: Policies, error: Exception, headers: Mapping[str, str]) -> bool:
    """True if an answer is a failure: of the host, or one to be tried again.

    All others are the caller's business: a 404 is as good an answer as any.

    Args:
        host: Who answered.
        policies: What counts.
        error: What the client raises for the status.
        headers: Those of the answer. A Retry-After that says nothing is recorded.
    """
    if "retry-after" in headers and asked_delay(headers, 0.0, throttled=False) is None:
        recorders_of(current_context().metrics or policies.metrics).wire().unreadable("retry_after")
    if policies.on.failing(error):
        return True
    judge: Any = host.retry.settings.judge
    try:
        verdict = judge(error)  # a strategy of tenacity cannot say: it wants the state of the call
    except Exception:  # noqa: BLE001 - the retry meets it as well, and tells
        return True
    close_coroutine(verdict)
    return verdict is not False


class Hosts:
    """The hosts of one client, made at their first request.

    Args:
        policies: What each of them gets.
        attempt: Makes one attempt at any of them.

    Attributes:
        known: Those that are known, by key.
    """

    def __init__(self, policies: Policies, attempt: Callable[..., Any]) -> None:
        self._policies = policies
        self._attempt = attempt
        self.known: dict[HostKey, Host] = {}
        self._lock = threading.RLock()  # a signal handler may come back in on the same thread
        reset_after_fork(self, Hosts._reset_after_fork)

    def _reset_after_fork(self) -> None:
        self._lock = unlocked_copy(self._lock)

    def find(self, key: HostKey, now: float) -> Host:
        """Return the host of *key*, which is used now."""
        host = self.known.get(key)
        if host is None:
            host = self.add(key)
        host.used = now
        return host

    def add(self, key: HostKey) -> Host:
        """Return the host of *key*, which is new."""
        host, port = key
        name = f"[{host}]" if ":" in host else host
        if port is not None:
            name = f"{name}:{port}"
        with self._lock:
            if len(self.known) >= MOST_HOSTS and key not in self.known:
                del self.known[min(self.known, key=lambda each: self.known[each].used)]
            return self.known.setdefault(key, self._policies.host(name, self._attempt))

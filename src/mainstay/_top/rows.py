"""What figures say of each component, and how bad that is: the decisions behind the screen.

Callers feel that a share of calls fails, that a pool has no healthy member, that a breaker is open,
that saves fail. A member that is left out, a call that succeeded at the second attempt, and a save
that is late are covered.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping

import attrs

from mainstay._metrics import schema, verdict
from mainstay._top import words
from mainstay._top.figures import Figures, Values
from mainstay._top.run_seen import RunFigures
from mainstay._top.view import (
    BreakerRow,
    CallsRow,
    Cell,
    CopiesRow,
    Level,
    LimitRow,
    MemberCell,
    PoolRow,
    RunRow,
    Since,
)

MOSTLY = 0.5
QUANTILES = (0.5, 0.95, 0.99)

SinceOf = Callable[[str, str, str], Since | None]
"""For how long a component's member, or its breaker under "", has been in a state."""

_FAILED = frozenset({"error", "timeout", "rejected"})


@attrs.frozen(kw_only=True)
class Shares:
    """How the calls of one policy ended, as numbers of calls that were not cancelled."""

    calls: float
    failed: float
    recovered: float
    rejected: float

    @property
    def failed_share(self) -> float:
        """The share that failed, 0 without calls."""
        return self.failed / self.calls if self.calls else 0.0

    @property
    def recovered_share(self) -> float:
        """The share that was recovered, 0 without calls."""
        return self.recovered / self.calls if self.calls else 0.0

    def level(self, policy: str) -> Level:
        """Return how bad that is."""
        if self.failed_share >= verdict.TOO_MANY and (
            self.failed >= verdict.FEW or self.failed >= self.calls
        ):
            return Level.FAILING
        if (
            policy in verdict.SAVING
            and self.recovered_share >= verdict.TOO_MANY
            and self.recovered >= verdict.FEW
        ):
            return Level.DEGRADED
        return Level.WELL


def shares_of(outcomes: Mapping[str, float], not_retryable: float = 0.0) -> Shares:
    """Return how calls ended; exceptions outside `on` are answers, and no failures."""
    failed = sum(count for outcome, count in outcomes.items() if outcome in _FAILED)
    return Shares(
        calls=sum(count for outcome, count in outcomes.items() if outcome != "cancelled"),
        failed=max(0.0, failed - not_retryable),
        recovered=outcomes.get("recovered", 0.0),
        rejected=outcomes.get("rejected", 0.0),
    )


def shares_by_policy(samples: Mapping[str, Values]) -> dict[tuple[str, str], Shares]:
    """Return how the calls of each component and policy ended."""
    outcomes = nested(samples.get(schema.CALLS.name, {}))
    answers = {
        (component, policy): count
        for (component, policy, reason), count in samples.get(schema.GIVE_UPS.name, {}).items()
        if reason == "not_retryable"
    }
    return {
        (component, policy): shares_of(counts, answers.get((component, policy), 0.0))
        for (component, policy), counts in outcomes.items()
    }


def nested(values: Values) -> dict[tuple[str, ...], dict[str, float]]:
    """Group values by all labels but the last."""
    groups: dict[tuple[str, ...], dict[str, float]] = {}
    for labels, value in values.items():
        groups.setdefault(labels[:-1], {})[labels[-1]] = value
    return groups


def quantile(buckets: Mapping[str, float], share: float) -> float | None:
    """Return the value that a share of observations does not exceed, as Prometheus estimates it.

    Args:
        buckets: Observations up to each bound, which is written as in the text format.
        share: Above 0 and below 1.
    """
    bounds = sorted((float(bound), count) for bound, count in buckets.items())
    if not bounds or bounds[-1][1] <= 0:
        return None
    wanted = share * bounds[-1][1]
    at = bisect_left([count for _, count in bounds], wanted)
    upper, count = bounds[at]
    lower, below = bounds[at - 1] if at else (0.0, 0.0)
    if upper == float("inf"):
        return lower
    return lower + (upper - lower) * (wanted - below) / (count - below)


def calls_rows(
    figures: Figures, cells: Mapping[tuple[str, str], tuple[Cell, ...]]
) -> list[CallsRow]:
    """Return a row for each component and policy that was ever called; checkpoints are runs."""
    shares = shares_by_policy(figures.grown)
    durations = nested(figures.grown.get(f"{schema.CALL_DURATION.name}_bucket", {}))
    errors = nested(figures.grown.get(schema.ERRORS.name, {}))
    reasons = nested(figures.grown.get(schema.GIVE_UPS.name, {}))
    rates = _sums(figures.rates.get(schema.CALLS.name, {}), 2)
    ever = _sums(figures.now.get(schema.CALLS.name, {}), 2)
    pipelines = {component for component, policy in ever if policy == "pipeline"}
    rows = []
    for key in sorted(key for key, calls in ever.items() if calls):
        component, policy = key
        if policy == "checkpoint" or (component in pipelines and policy != "pipeline"):
            continue  # the latter is a layer of the pipeline of that name, and no call by itself
        ended = shares.get((component, policy), _NO_CALLS)
        level = ended.level(policy)
        rows.append(
            CallsRow(
                component=component,
                policy=policy,
                level=level,
                why=_why_calls(ended, level),
                rate=rates.get(key, 0.0) if figures.has_rates else None,
                failed=ended.failed_share,
                recovered=ended.recovered_share,
                quantiles=_quantiles(durations.get(key, {}), ended),
                attempts=_attempts(figures, component, policy, ended),
                cells=cells.get((component, policy), ()),
                errors=_most_frequent(errors.get(key, {})),
                reasons=_most_frequent(reasons.get(key, {})),
            )
        )
    return rows


_NO_CALLS = Shares(calls=0.0, failed=0.0, recovered=0.0, rejected=0.0)


def _why_calls(ended: Shares, level: Level) -> str:
    if level is Level.FAILING:
        return f"{words.percent(ended.failed_share)} fail"
    return f"{words.percent(ended.recovered_share)} recovered" if level is Level.DEGRADED else ""


def _quantiles(buckets: Mapping[str, float], ended: Shares) -> tuple[float, float, float] | None:
    """None while most calls are refused: how fast the others are says the opposite of the truth."""
    if not ended.calls or ended.rejected / ended.calls > MOSTLY:
        return None
    found = [each for share in QUANTILES if (each := quantile(buckets, share)) is not None]
    return (found[0], found[1], found[2]) if found else None


def _attempts(figures: Figures, component: str, policy: str, ended: Shares) -> float | None:
    called = ended.calls - ended.rejected
    if called <= 0:
        return None
    key = component, policy
    attempts = figures.grown.get(f"{schema.CALL_ATTEMPTS.name}_sum", {}).get(key, 0.0)
    retried = figures.grown.get(f"{schema.CALL_ATTEMPTS.name}_count", {}).get(key, 0.0)
    return (called - min(retried, called) + attempts) / called


def _most_frequent(counts: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _sums(values: Values, labels: int) -> dict[tuple[str, ...], float]:
    """Add up over all labels but the first ones."""
    sums: Values = {}
    for key, value in values.items():
        sums[key[:labels]] = sums.get(key[:labels], 0.0) + value
    return sums


def worst_state(
    processes: Mapping[str, float], order: Iterable[str]
) -> tuple[str, tuple[int, int] | None]:
    """Return the worst state that some process is in; how many are, of how many, if not all."""
    total = round(sum(processes.values()))
    for state in order:
        count = round(processes.get(state, 0.0))
        if count > 0:
            return state, (count, total) if count != total else None
    return "", None


def pool_rows(figures: Figures, since: SinceOf) -> list[PoolRow]:
    """Return a row for each pool."""
    states = nested(figures.now.get(schema.MEMBER_STATE.name, {}))
    rates = nested(figures.rates.get(schema.MEMBER_ATTEMPTS.name, {}))
    pools: dict[str, dict[str, dict[str, float]]] = {}
    for (component, member), counts in sorted(states.items()):
        if any(counts.values()):
            pools.setdefault(component, {})[member] = counts
    rows = []
    for component, members in pools.items():
        level, why = pool_level(members)
        cells = []
        for member, counts in members.items():
            state, processes = worst_state(counts, verdict.WORST_STATES)
            attempts = rates.get((component, member), {})
            total = sum(attempts.values())
            bad = Level.WELL if state in verdict.WELL else max(level, Level.DEGRADED)
            since_then = since(component, member, state)
            cells.append(
                MemberCell(
                    name=member,
                    state=state,
                    level=bad,
                    processes=processes,
                    since=_worth_telling(since_then, bad),
                    rate=total if figures.has_rates else None,
                    failed=_failed_attempts(attempts) / total if total else 0.0,
                )
            )
        rows.append(PoolRow(component=component, level=level, why=why, members=tuple(cells)))
    return rows


def _worth_telling(since: Since | None, level: Level) -> Since | None:
    """Return it where it says something: of a change, or of what is bad; a second at least."""
    if since is None or since.seconds < 1:
        return None
    return since if level or since.has_changed else None


def _failed_attempts(outcomes: Mapping[str, float]) -> float:
    return sum(count for outcome, count in outcomes.items() if outcome in _FAILED)


def pool_level(members: Mapping[str, Mapping[str, float]]) -> tuple[Level, str]:
    """Return how bad the states of the members of a pool are, and why.

    Args:
        members: For each member, how many processes see it in which state.
    """
    worst = {name: worst_state(counts, verdict.WORST_STATES)[0] for name, counts in members.items()}
    serving = [
        name
        for name, counts in members.items()
        if any(counts.get(state, 0.0) for state in verdict.SERVING)
    ]
    out = [name for name, state in worst.items() if state in ("ejected", "draining")]
    failing = [name for name, state in worst.items() if state not in verdict.WELL]
    if failing and not serving:
        return Level.FAILING, "no healthy member"
    if out and len(serving) == len(members):
        return Level.DEGRADED, f"{words.names(out)} out in some processes"
    if out:
        return Level.DEGRADED, f"{words.names(out)} out, {len(serving)} of {len(members)} serve"
    if failing:
        return Level.DEGRADED, f"{words.names(failing)} {worst[failing[0]]}"
    return Level.WELL, ""


def breaker_rows(figures: Figures, since: SinceOf) -> list[BreakerRow]:
    """Return a row for each breaker."""
    outages = figures.now.get(schema.COMPONENT_FAILURES.name, {})
    rates = figures.rates.get(schema.CALLS.name, {})
    rows = []
    states = nested(figures.now.get(schema.BREAKER_STATE.name, {}))
    for (component,), counts in sorted(states.items()):
        state, processes = worst_state(counts, verdict.WORST_BREAKERS)
        if not state:
            continue
        level = {"open": Level.FAILING, "half_open": Level.DEGRADED}.get(state, Level.WELL)
        refused = rates.get((component, "breaker", "rejected"), 0.0)
        since_then = since(component, "", state)
        rows.append(
            BreakerRow(
                component=component,
                level=level,
                why="" if level is Level.WELL else f"breaker {state.replace('_', ' ')}",
                state=state,
                processes=processes,
                since=_worth_telling(since_then, level),
                refused=refused if figures.has_rates else None,
                outages=round(outages.get((component,), 0.0)),
            )
        )
    return rows


def limit_rows(figures: Figures) -> list[LimitRow]:
    """Return a row for each bulkhead."""
    running = figures.now.get(schema.IN_FLIGHT.name, {})
    waiting = figures.now.get(schema.WAITING.name, {})
    rates = figures.rates.get(schema.CALLS.name, {})
    rows = []
    for key, limit in sorted(figures.now.get(schema.CONCURRENCY_LIMIT.name, {}).items()):
        is_full = running.get(key, 0.0) >= limit and waiting.get(key, 0.0) > 0
        refused = rates.get((key[0], "bulkhead", "rejected"), 0.0)
        rows.append(
            LimitRow(
                component=key[0],
                level=Level.DEGRADED if is_full else Level.WELL,
                why=f"full, {waiting.get(key, 0.0):.0f} wait" if is_full else "",
                limit=round(limit),
                running=round(running.get(key, 0.0)),
                waiting=round(waiting.get(key, 0.0)),
                refused=refused if figures.has_rates else None,
            )
        )
    return rows


def copies_rows(figures: Figures) -> list[CopiesRow]:
    """Return a row for each redundant call that ever hedged or voted."""
    ever_hedged = _sums(figures.now.get(schema.HEDGES.name, {}), 1)
    ever_voted = _sums(figures.now.get(schema.VOTES.name, {}), 1)
    hedges = _sums(figures.grown.get(schema.HEDGES.name, {}), 1)
    wins = nested(figures.grown.get(schema.COPY_WINS.name, {}))
    votes = _sums(figures.rates.get(schema.VOTES.name, {}), 1)
    dissents = nested(figures.rates.get(schema.DISSENTS.name, {}))
    shares = shares_by_policy(figures.grown)
    delays = figures.now.get(schema.HEDGE_DELAY.name, {})
    rows = []
    used = {key for each in (ever_hedged, ever_voted) for key, count in each.items() if count}
    for key in sorted(used):
        calls = sum(
            shares.get((key[0], policy), _NO_CALLS).calls for policy in ("redundant", "pipeline")
        )
        outvoted = _most_frequent(dissents.get(key, {}))
        suspects = [
            copy
            for copy, rate in outvoted
            if votes.get(key) and rate / votes[key] >= verdict.TOO_MANY
        ]
        rows.append(
            CopiesRow(
                component=key[0],
                level=Level.DEGRADED if suspects else Level.WELL,
                why=f"{words.names(suspects)} outvoted" if suspects else "",
                hedged=_hedged(hedges.get(key, 0.0), calls) if ever_hedged.get(key) else None,
                delay=delays.get(key),
                wins=_wins(wins.get(key, {}), hedges.get(key, 0.0)),
                votes=votes.get(key, 0.0) if ever_voted.get(key) else None,
                outvoted=outvoted,
            )
        )
    return rows


def _hedged(hedges: float, calls: float) -> float:
    return min(hedges / calls, 1.0) if calls else 0.0


def _wins(wins: Mapping[str, float], hedges: float) -> float | None:
    """Members are not numbered, and which one was the primary of a call is not known."""
    if not hedges or not all(copy.isdigit() for copy in wins):
        return None
    return min(sum(count for copy, count in wins.items() if copy != "0") / hedges, 1.0)


_NOT_SEEN = RunFigures()


def run_rows(figures: Figures, *, wall: float, seen: Mapping[str, RunFigures]) -> list[RunRow]:
    """Return a row for each checkpointed function with a run that has begun, or has ended.

    Args:
        figures: The figures.
        wall: Seconds since 1970.
        seen: By component, what several scrapes say.
    """
    ever = _sums(figures.now.get(schema.CHECKPOINT_SAVES.name, {}), 1)
    for (component, policy, _), count in figures.now.get(schema.CALLS.name, {}).items():
        if policy == "checkpoint":
            ever[component,] = ever.get((component,), 0.0) + count
    last = figures.now.get(schema.CHECKPOINT_LAST_SAVE.name, {})
    failed = nested(figures.grown.get(schema.CHECKPOINT_SAVES.name, {}))
    made = figures.rates.get(schema.CHECKPOINT_SAVES.name, {})
    items = figures.now.get(schema.CHECKPOINT_ITEMS.name, {})
    intervals = figures.now.get(schema.CHECKPOINT_INTERVAL.name, {})
    shares = shares_by_policy(figures.grown)
    rows = []
    for key in sorted({*last, *(key for key, count in ever.items() if count)}):
        (component,) = key
        age = max(0.0, wall - last[key]) if key in last else None
        its = seen.get(component, _NOT_SEEN)
        level, why = run_level(
            runs=shares.get((component, "checkpoint"), _NO_CALLS),
            errors=failed.get(key, {}).get("error", 0.0),
            age=age if its.running else None,
            every=intervals.get(key),
        )
        rows.append(
            RunRow(
                component=component,
                level=level,
                why=why,
                items=round(items.get((component, "done"), 0.0)),
                rate=its.rate,
                share=its.share,
                left=its.left,
                saved=age,
                every=intervals.get(key),
                saves=made.get((component, "ok"), 0.0) if figures.has_rates else None,
            )
        )
    return rows


def run_level(
    *, runs: Shares, errors: float, age: float | None, every: float | None
) -> tuple[Level, str]:
    """Return how bad it is with the runs of a component, and why.

    Args:
        runs: How those that ended did.
        errors: How many saves failed.
        age: Seconds since the last save; None if no run is known to go on.
        every: Seconds between saves that are in force.
    """
    if errors > 0:
        return Level.FAILING, "saves fail"
    if runs.level("checkpoint") is Level.FAILING:
        return Level.FAILING, f"{words.percent(runs.failed_share)} of runs fail"
    if age is not None and every is not None and age > verdict.LATE * max(every, 1.0):
        return Level.DEGRADED, "save is late"
    if runs.recovered:
        return Level.DEGRADED, f"{words.counted(runs.recovered, 'run')} resumed"
    return Level.WELL, ""

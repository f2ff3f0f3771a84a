"""What does each library do? Every answer below is what came out of a small program.

Retries and breakers, each in the version of the extra `bench`, made as its documentation shows it
and with its defaults but for what a row is about. Waits are left out. "-" says that the question
cannot be asked of a library, since it has not what the question is about.
"""

import asyncio
import contextlib
import functools
import importlib
import inspect
import logging
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import backoff
import circuitbreaker
import httpx
import prometheus_client
import pybreaker
import stamina
import tenacity

import mainstay
from harness import Report, main
from mainstay import testing

OURS = "mainstay"
ATTEMPTS = 3
TOO_MANY = 200
ASKED_FOR, AT_MOST = 20.0, 22.0
LONG, SHORT, A_CALL = 60.0, 0.2, 0.1
CALLS_AT_ONCE = 20
METRICS = mainstay.Metrics(None)
ABSENT = "-"

Wrap = Callable[[Callable], Callable]


class Forever(BaseException):
    """A function was called so often that nothing bounds it."""


# Retries


def tenacity_with(on: Callable[[BaseException], bool] | type[BaseException]) -> Wrap:
    """Give tenacity's decorator."""
    is_class = isinstance(on, type)
    when = tenacity.retry_if_exception_type(on) if is_class else tenacity.retry_if_exception(on)
    return tenacity.retry(retry=when, stop=tenacity.stop_after_attempt(ATTEMPTS))


def stamina_with(on: Callable[[BaseException], bool] | type[BaseException]) -> Wrap:
    """Give stamina's decorator."""
    return stamina.retry(on=on, attempts=ATTEMPTS, wait_initial=0, wait_max=0, wait_jitter=0)


def backoff_with(on: Callable[[BaseException], bool] | type[BaseException]) -> Wrap:
    """Give backoff's decorator, which asks a predicate only when to give up."""
    if isinstance(on, type):
        return backoff.on_exception(backoff.constant, on, max_tries=ATTEMPTS, interval=0)
    return backoff.on_exception(
        backoff.constant, Exception, max_tries=ATTEMPTS, interval=0, giveup=lambda e: not on(e)
    )


def ours_with(on: Callable[[BaseException], bool] | type[BaseException]) -> Wrap:
    """Give our decorator."""
    return mainstay.retry(on=on, attempts=ATTEMPTS, wait=0.0, metrics=METRICS)


RETRIES: dict[str, Callable[..., Wrap]] = {
    OURS: ours_with,
    "tenacity": tenacity_with,
    "stamina": stamina_with,
    "backoff": backoff_with,
}
DEFAULTS: dict[str, Callable[[type[Exception]], Wrap]] = {
    OURS: lambda on: mainstay.retry(on=on, metrics=METRICS),
    "tenacity": lambda on: tenacity.retry(retry=tenacity.retry_if_exception_type(on)),
    "stamina": lambda on: stamina.retry(on=on),
    "backoff": lambda on: backoff.on_exception(backoff.expo, on),
}


def fails(times: int, error: BaseException | None = None) -> Callable[[], int]:
    """Make a function that fails so often, then gives the number of its calls."""
    calls = 0

    def call() -> int:
        nonlocal calls
        calls += 1
        if calls > TOO_MANY:
            raise Forever
        if calls <= times:
            raise error or ConnectionError("refused")
        return calls

    return call


def says(answer: object) -> str:
    """Write an answer as text."""
    return {True: "yes", False: "no"}.get(answer, str(answer)) if answer is not None else ABSENT


def outcome(call: Callable[[], object]) -> object:
    """Give what a call returns, or the exception that it raises."""
    try:
        return call()
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the answer
        return error


def sync(name: str) -> bool:
    """Retry a plain function?"""
    return outcome(RETRIES[name](ConnectionError)(fails(2))) == ATTEMPTS


def coroutine(name: str) -> bool:
    """Retry a coroutine function?"""
    call = fails(2)

    async def fetch() -> int:
        return call()

    return outcome(lambda: asyncio.run(RETRIES[name](ConnectionError)(fetch)())) == ATTEMPTS


def partial_coroutine(name: str) -> bool:
    """Retry a `functools.partial` of a coroutine function?"""
    call = fails(2)

    async def fetch(_: str) -> int:
        return call()

    fn = functools.partial(fetch, "a.example")
    return outcome(lambda: asyncio.run(_awaited(RETRIES[name](ConnectionError)(fn)))) == ATTEMPTS


async def _awaited(fn: Callable) -> object:
    return await fn()


def generator(name: str) -> bool:
    """Retry a generator function that fails while it is read?"""
    call = fails(2)

    def rows() -> Iterator[int]:
        yield call()

    return outcome(lambda: list(RETRIES[name](ConnectionError)(rows)())) == [3]


def ctrl_c_passes(name: str) -> bool:
    """Leave Ctrl-C alone, where the predicate says yes to everything?"""
    call = fails(2, KeyboardInterrupt())
    return isinstance(outcome(RETRIES[name](lambda _: True)(call)), KeyboardInterrupt)


def own_exception(name: str) -> bool:
    """Raise the function's own exception when it gives up?"""
    return isinstance(outcome(RETRIES[name](ConnectionError)(fails(9))), ConnectionError)


def attempts_told(name: str) -> bool:
    """Let the traceback say what was tried?"""
    error = outcome(RETRIES[name](ConnectionError)(fails(9)))
    return any("attempt" in note for note in getattr(error, "__notes__", ()))


def attempts_by_default(name: str) -> str:
    """How many attempts are there if nothing is said?"""
    calls = 0

    def refuse() -> None:
        nonlocal calls
        calls += 1
        if calls > TOO_MANY:
            raise Forever
        raise ConnectionError

    with without_waits():
        error = outcome(DEFAULTS[name](ConnectionError)(refuse))
    return "no limit" if isinstance(error, Forever) or calls > TOO_MANY else str(calls)


def waits_by_default(name: str) -> str:
    """What are the waits if nothing is said?"""

    def waits() -> list[float]:
        with without_waits() as slept:
            outcome(DEFAULTS[name](ConnectionError)(fails(4)))
        return slept

    some = [waits() for _ in range(5)]
    if not any(map(sum, some)):
        return "none"
    return "random" if len({tuple(each) for each in some}) > 1 else "fixed"


@contextlib.contextmanager
def without_waits() -> Iterator[list[float]]:
    """Let `time.sleep` write down its seconds and return at once."""
    slept: list[float] = []
    real, real_stamina = time.sleep, stamina._core._smart_sleep  # noqa: SLF001 - as its tests do
    time.sleep = slept.append
    stamina._core._smart_sleep = slept.append  # noqa: SLF001 - its only way to sleep
    tenacity.nap.time.sleep = slept.append
    with testing.FakeClock() as clock:
        wait = clock.sleep

        def sleep(seconds: float, *more: object) -> object:
            slept.append(seconds)
            return wait(seconds, *more)

        clock.sleep = sleep
        try:
            yield slept
        finally:
            time.sleep, stamina._core._smart_sleep = real, real_stamina  # noqa: SLF001 - as above
            tenacity.nap.time.sleep = real


def hook_is_harmless(name: str) -> bool | None:
    """Let the call succeed although a listener of the program raises?"""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    if name == OURS:
        stop = mainstay.on_event(broken)
        answer = outcome(ours_with(ConnectionError)(fails(2)))
        stop()
    elif name == "tenacity":
        policy = tenacity.retry(stop=tenacity.stop_after_attempt(ATTEMPTS), before_sleep=broken)
        answer = outcome(policy(fails(2)))
    elif name == "stamina":
        stamina.instrumentation.set_on_retry_hooks([broken])
        answer = outcome(stamina_with(ConnectionError)(fails(2)))
        stamina.instrumentation.set_on_retry_hooks([])
    else:
        policy = backoff.on_exception(
            backoff.constant, ConnectionError, interval=0, max_tries=ATTEMPTS, on_backoff=broken
        )
        answer = outcome(policy(fails(2)))
    return answer == ATTEMPTS


def metrics_of_success(name: str) -> str:
    """Which metrics does a call leave in `REGISTRY` that succeeds at once?"""
    return _metrics_after(name, fails(0))


def metrics_of_retries(name: str) -> str:
    """Which metrics does a call leave in `REGISTRY` that succeeds at the third attempt?"""
    return _metrics_after(name, fails(2))


def _metrics_after(name: str, call: Callable[[], int]) -> str:
    registry = prometheus_client.REGISTRY
    before = _samples(registry)
    if name == OURS:
        mainstay.retry(on=ConnectionError, wait=0.0, name="features")(call)()
    else:
        if name == "stamina":
            stamina.instrumentation.set_on_retry_hooks(None)
        RETRIES[name](ConnectionError)(call)()
        stamina.instrumentation.set_on_retry_hooks([])
    after = _samples(registry)
    found = {key[0] for key, value in after.items() if value != before.get(key, 0.0)}
    kept = sorted({re_named(each) for each in found if not each.endswith("_created")})
    return ", ".join(f"`{each}`" for each in kept) or "none"


def re_named(sample: str) -> str:
    """Give the name of a metric by that of one of its samples."""
    return sample.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")


def _samples(registry: prometheus_client.CollectorRegistry) -> dict[tuple, float]:
    ours = ("mainstay_", "stamina_")
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name.startswith(ours)
    }


def waits_as_asked(name: str) -> bool:
    """Wait for what the Retry-After header of an httpx error says, without code of the user's?"""
    request = httpx.Request("GET", "http://shop.example")
    response = httpx.Response(503, headers={"Retry-After": f"{ASKED_FOR:.0f}"}, request=request)
    error = httpx.HTTPStatusError("503", request=request, response=response)
    on = mainstay.transient if name == OURS else httpx.HTTPStatusError
    with without_waits() as slept:
        outcome(DEFAULTS[name](on)(fails(1, error)))
    return ASKED_FOR <= sum(slept) <= AT_MOST


def word_in_source(library: str, word: str) -> bool:
    """Say whether a word is anywhere in the source of a library."""
    file = Path(inspect.getfile(importlib.import_module(library)))
    files = file.parent.rglob("*.py") if file.name == "__init__.py" else [file]
    return any(word in each.read_text(encoding="utf-8").lower() for each in files)


RETRY_ROWS: dict[str, Callable[[str], object]] = {
    "`def` is retried": sync,
    "`async def` is retried": coroutine,
    "`functools.partial` of an `async def` is retried": partial_coroutine,
    "a generator that fails while it is read is retried": generator,
    "Ctrl-C passes, where the predicate says yes to everything": ctrl_c_passes,
    "the function's own exception comes out in the end, by default": own_exception,
    "its traceback says what was tried": attempts_told,
    "attempts, by default": attempts_by_default,
    "waits, by default": waits_by_default,
    "the Retry-After of an httpx error is kept to, without code of yours": waits_as_asked,
    "a listener that raises does not break the call": hook_is_harmless,
    "in `REGISTRY` after a call that succeeds at once": metrics_of_success,
    "in `REGISTRY` after a call that succeeds at the third attempt": metrics_of_retries,
}


# Circuit breakers


class Breaker:
    """A breaker of one of the libraries that opens at the first failure."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name = name
        if name == OURS:
            self.made = mainstay.CircuitBreaker(
                f"features-{id(self)}",
                on=ConnectionError,
                detect=mainstay.Detect(consecutive=1, eject_for=seconds),
                metrics=METRICS,
            )
        elif name == "pybreaker":
            self.made = pybreaker.CircuitBreaker(fail_max=1, reset_timeout=seconds)
        else:
            self.made = circuitbreaker.CircuitBreaker(
                failure_threshold=1, recovery_timeout=seconds, expected_exception=ConnectionError
            )

    def wrap(self, fn: Callable) -> Callable:
        """Put the breaker around a function."""
        return self.made(fn)

    def open(self) -> None:
        """Let it open."""
        outcome(self.wrap(fails(9)))

    def is_open(self) -> bool:
        """Whether it refuses calls."""
        if self.name == OURS:
            return self.made.state == "open"
        if self.name == "pybreaker":
            return self.made.current_state == "open"
        return self.made.opened


BREAKERS = (OURS, "pybreaker", "circuitbreaker")


def counts_coroutines(name: str) -> bool:
    """Open after a coroutine function has failed?"""
    breaker = Breaker(name, LONG)

    async def refuse() -> None:
        raise ConnectionError

    outcome(lambda: asyncio.run(_awaited(breaker.wrap(refuse))))
    return breaker.is_open()


def admitted_as_trials(name: str) -> str:
    """How many of twenty calls at once are let through once the time of an open breaker is over?"""
    breaker = Breaker(name, SHORT)
    breaker.open()
    time.sleep(1.5 * SHORT)
    inside, together = 0, threading.Barrier(CALLS_AT_ONCE)
    lock, go_on = threading.Lock(), threading.Event()

    def trial() -> None:
        nonlocal inside
        with lock:
            inside += 1
        go_on.wait(2.0)
        raise ConnectionError

    call = breaker.wrap(trial)

    def caller() -> None:
        together.wait()
        outcome(call)

    threads = [threading.Thread(target=caller) for _ in range(CALLS_AT_ONCE)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    go_on.set()
    for thread in threads:
        thread.join()
    return f"{inside} of {CALLS_AT_ONCE}"


def in_parallel(name: str) -> bool:
    """Let five calls run at the same time while it is closed?"""
    call = Breaker(name, LONG).wrap(lambda: time.sleep(A_CALL))
    threads = [threading.Thread(target=call) for _ in range(5)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began < 3 * A_CALL


def stays_open_after_a_late_success(name: str) -> bool | None:
    """Stay open when a call succeeds that began before it opened?"""
    if not in_parallel(name):
        return None
    breaker = Breaker(name, LONG)
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        go_on.wait(2.0)

    thread = threading.Thread(target=breaker.wrap(slow))
    thread.start()
    begun.wait(2.0)
    breaker.open()
    go_on.set()
    thread.join()
    return breaker.is_open()


def cancelled_trial_proves_nothing(name: str) -> bool | None:
    """Not close when its trial is cancelled?"""
    if not counts_coroutines(name):
        return None
    breaker = Breaker(name, SHORT)
    breaker.open()
    time.sleep(1.5 * SHORT)

    async def cancelled() -> None:
        raise asyncio.CancelledError

    outcome(lambda: asyncio.run(_awaited(breaker.wrap(cancelled))))
    return breaker.made.state != "closed"


def block_refuses(name: str) -> bool:
    """Refuse a `with` block while it is open?"""
    breaker = Breaker(name, LONG)
    breaker.open()
    entered = False

    def block() -> None:
        nonlocal entered
        with breaker.made.calling() if name == "pybreaker" else breaker.made:
            entered = True

    outcome(block)
    return not entered


def ctrl_c_counts(name: str) -> bool:
    """Take Ctrl-C for a failure, by default?"""
    breaker = Breaker(name, LONG)
    outcome(breaker.wrap(fails(9, KeyboardInterrupt())))
    return breaker.is_open()


def says_when(name: str) -> bool:
    """Let the exception of a refused call say when to come back?"""
    breaker = Breaker(name, LONG)
    breaker.open()
    error = outcome(breaker.wrap(fails(0)))
    if name == "circuitbreaker":  # by way of the breaker that it holds
        return 0 < error._circuit_breaker.open_remaining <= LONG  # noqa: SLF001 - what it shows
    return 0 < (getattr(error, "retry_after", None) or 0) <= LONG


def finds_a_share(name: str) -> bool:
    """Open at errors that are one call in three, and never two in a row?"""
    made = {
        OURS: lambda: mainstay.CircuitBreaker("share", on=ConnectionError, metrics=METRICS),
        "pybreaker": pybreaker.CircuitBreaker,
        "circuitbreaker": lambda: circuitbreaker.CircuitBreaker(expected_exception=ConnectionError),
    }[name]()
    breaker = Breaker(name, LONG)
    breaker.made = made
    good, bad = breaker.wrap(fails(0)), breaker.wrap(fails(99))
    for _ in range(30):
        outcome(good), outcome(good), outcome(bad)
        if breaker.is_open():
            return True
    return False


def is_shared(name: str) -> bool:
    """Have a storage for the state outside of the process?"""
    return any("RedisStorage" in each for each in dir(importlib.import_module(name)))


BREAKER_ROWS: dict[str, Callable[[str], object]] = {
    "`async def` counts": counts_coroutines,
    "calls run at the same time while it is closed": in_parallel,
    "of twenty calls at once, let through as trials": admitted_as_trials,
    "a late success of an earlier call leaves it open": stays_open_after_a_late_success,
    "a cancelled trial does not close it": cancelled_trial_proves_nothing,
    "Ctrl-C counts as a failure": ctrl_c_counts,
    "a `with` block is refused while it is open": block_refuses,
    "the exception of a refused call says when to come back": says_when,
    "opens at one failure in three calls, never two in a row, by default": finds_a_share,
    "one state for several processes": is_shared,
}
WORDS = ("prometheus", "opentelemetry", "deadline", "budget", "hedge", "failover", "bulkhead")


def report(*, quick: bool) -> Report:
    """Ask everything; there is nothing that takes long."""
    del quick
    logging.disable(logging.CRITICAL)
    result = Report()
    for title, names, rows in (
        ("Retries", tuple(RETRIES), RETRY_ROWS),
        ("Circuit breakers", BREAKERS, BREAKER_ROWS),
    ):
        header = ["", *(f"{name} {version(name)}" for name in names)]
        answers = [[row, *(says(ask(name)) for name in names)] for row, ask in rows.items()]
        result.table(title, header, answers)
    libraries = list(dict.fromkeys((*RETRIES, *BREAKERS)))
    header = ["", *(f"{name} {version(name)}" for name in libraries)]
    rows = [[word, *(says(word_in_source(name, word)) for name in libraries)] for word in WORDS]
    result.table("Words that are in the source", header, rows)
    return result


if __name__ == "__main__":
    main(report, __doc__)

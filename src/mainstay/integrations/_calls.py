"""One request of a client, with its attempts: the loops, sync and async side by side.

They are those of retry, with three differences. An answer may be a failure, by its status; such an
answer is closed before the wait for the next attempt, and the last one is returned, as the client
itself would. No attempt follows one that has used up the body. And a place in the bulkhead is held
until the body of the answer is out.

What a healthy request costs is what is written out here: the first attempt builds nothing.
"""

from typing import Any, Protocol

from mainstay._core.clock import monotonic
from mainstay._core.context import block_context, process_contexts
from mainstay._core.functions import require_asyncio
from mainstay._core.watching import awatched, watched, watchers
from mainstay._limits.bulkhead_calls import BoundBulkhead, BulkheadCall
from mainstay._retry.call import watched_attempt
from mainstay._retry.loops import limited_attempt
from mainstay.errors import ResultRefusedError
from mainstay.integrations._hosts import Host


class Exchange(Protocol):
    """One request, and how its client sends it.

    Attributes:
        host: What it goes through.
        started: When it began, in seconds of the system's clock.
        response: What the last attempt was answered, if anything.
        refusal: What was raised for that answer, if it is a failure.
    """

    host: Host
    started: float
    response: Any
    refusal: Exception | None

    def used_up(self) -> str | None:
        """Return what an attempt has used up, in words, so that no other one may follow."""
        ...

    def hold(self, place: BulkheadCall) -> None:
        """Free *place* once the body of the answer is out."""
        ...


class SyncExchange(Exchange, Protocol):
    """A request of a sync client."""

    def send(self) -> Any:
        """Make an attempt; raise for an answer that is a failure."""
        ...

    def discard(self) -> None:
        """Close the answer of an attempt that another one follows."""
        ...


class AsyncExchange(Exchange, Protocol):
    """A request of an async client."""

    async def asend(self) -> Any:
        """As `SyncExchange.send`."""
        ...

    async def adiscard(self) -> None:
        """As `SyncExchange.discard`."""
        ...


def answer(  # noqa: C901, PLR0912 - flat, since each further call would cost every request
    exchange: SyncExchange,
) -> Any:
    """Return the answer to a request, after as many attempts as it takes.

    Raises:
        Exception: What the last attempt raised, but for an answer that is a failure.
    """
    host, started = exchange.host, exchange.started
    run = None if _is_plain(host, started) else host.retry.begin()
    while True:
        make = host.attempt
        if watchers and run is not None and run.made:
            make = watched(make, watched_attempt(run))
        try:
            response = make(exchange)
        except Exception as error:
            run = run or host.retry.resume(started, None)
            run.used_up = exchange.used_up()
            wait = run.after(error, run.verdict(error))
            if error is exchange.refusal:
                run.last_own = None  # an answer, which nobody has raised
            if wait is None:
                if error is not exchange.refusal:
                    raise
                exchange.refusal = None  # its traceback leads here
                return exchange.response
        except BaseException as error:
            (run or host.retry.resume(started, None)).interrupted(error)
            raise
        else:
            if run is None:
                host.success(monotonic() - started)
                return response
            run.used_up = exchange.used_up()
            try:
                wait = run.accept(response, run.refuses(response))
            except ResultRefusedError:
                return response
            if wait is None:
                return response
        try:
            exchange.discard()
        except BaseException as error:
            run.interrupted(error)
            raise
        if wait:
            run.sleep(wait)


async def aanswer(  # noqa: C901, PLR0912 - as above
    exchange: AsyncExchange,
) -> Any:
    """As `answer`, in async code."""
    host = exchange.host
    if not host.on_asyncio:
        require_asyncio(host.retry.component)
        host.on_asyncio = True
    started = exchange.started
    run = None if _is_plain(host, started) else host.retry.begin()
    while True:
        make = host.attempt
        if watchers and run is not None and run.made:
            make = awatched(make, watched_attempt(run))
        try:
            if run is None:
                response = await make(exchange)
            else:
                response = await limited_attempt(run, make(exchange))
        except Exception as error:
            run = run or host.retry.resume(started, None)
            run.used_up = exchange.used_up()
            wait = run.after(error, await run.averdict(error))
            if error is exchange.refusal:
                run.last_own = None  # an answer, which nobody has raised
            if wait is None:
                if error is not exchange.refusal:
                    raise
                exchange.refusal = None
                return exchange.response
        except BaseException as error:
            (run or host.retry.resume(started, None)).interrupted(error)
            raise
        else:
            if run is None:
                host.success(monotonic() - started)
                return response
            run.used_up = exchange.used_up()
            try:
                wait = run.accept(response, await run.arefuses(response))
            except ResultRefusedError:
                return response
            if wait is None:
                return response
        try:
            await exchange.adiscard()
        except BaseException as error:
            run.interrupted(error)
            raise
        if wait:
            await run.asleep(wait)


def _is_plain(host: Host, started: float) -> bool:
    """True if a request needs nothing but to be sent, should its first attempt be answered."""
    here = block_context()
    return not (
        host.special
        or process_contexts
        or (here is not None and not (here.plain and started < here.deadline))
    )


def end_of(place: BulkheadCall, error: BaseException | None) -> None:
    """Free a place, and record how its request ended, body included."""
    place.give_back()
    if error is None:
        place.succeeded()
    else:
        place.raised(error)


def _place_at_once(bulkhead: BoundBulkhead) -> BulkheadCall | None:
    """Return a call that has a place, where there is one and the context is plain; or else None."""
    now, here = monotonic(), block_context()
    if process_contexts or (here is not None and not (here.plain and now < here.deadline)):
        return None
    held = bulkhead.hold(now)
    if held is None:
        return None
    place = bulkhead.resume(now)
    place.held = held
    return place


# One attempt: what a breaker is put around.


def attempt(exchange: SyncExchange) -> Any:
    """Make one attempt, in the host's bulkhead if there is one."""
    bulkhead = exchange.host.bulkhead
    if bulkhead is None:
        return exchange.send()
    place = _place_at_once(bulkhead)
    if place is None:
        place = bulkhead.begin()
        place.enter()
    try:
        response = exchange.send()
    except BaseException as error:
        place.give_back()
        place.raised(error)
        raise
    exchange.hold(place)
    return response


async def aattempt(exchange: AsyncExchange) -> Any:
    """As `attempt`, in async code."""
    bulkhead = exchange.host.bulkhead
    if bulkhead is None:
        return await exchange.asend()
    place = _place_at_once(bulkhead)
    if place is None:
        place = bulkhead.begin()
        await place.aenter()
    try:
        response = await exchange.asend()
    except BaseException as error:
        place.give_back()
        place.raised(error, may_be_late=True)
        raise
    exchange.hold(place)
    return response

"""`Faults`: a stand-in for something that fails, by a script or at random."""

import itertools
import math
import random
import threading
from collections.abc import Iterable
from typing import Any, Final, TypeGuard

import attrs

from mainstay._core import context
from mainstay._core.arguments import Duration, to_seconds, to_share
from mainstay._core.sharing import Shared


@attrs.frozen
class _DelayedStep:
    """A step that sleeps before it is taken."""

    seconds: float
    step: object


class Faults(Shared):
    """A stand-in for something that fails: a callable that follows a script.

    Each call takes the next step. A step that is an exception, or an exception class, is raised;
    `Faults.delay(...)` sleeps first; `Faults.HANG` sleeps for ever; any other step is returned. The
    sleep is on the clock of the context, so that it takes no time with a `FakeClock`. Threads and
    tasks may share one object: each step is taken once.

    Args:
        script: The steps, in order: an iterable, which may be endless.
        then: The step of all calls after the script. None returns None.

    Raises:
        TypeError: If *script* is not an iterable of steps; for a single step write
            ``Faults(then=step)``.

    Attributes:
        HANG: The step that never ends.
        calls: The arguments of each call so far: a tuple and a dict.

    Example:
        >>> from mainstay.testing import Faults
        >>> fetch = Faults([ConnectionError("refused"), "page"])
        >>> fetch("http://a.example")
        Traceback (most recent call last):
        ConnectionError: refused
        >>> fetch("http://b.example")
        'page'
        >>> fetch.calls
        [(('http://a.example',), {}), (('http://b.example',), {})]
    """

    HANG: Final[object] = _DelayedStep(math.inf, None)

    def __init__(self, script: Iterable[object] = (), *, then: object = None) -> None:
        given: object = script
        if isinstance(given, str | bytes) or not isinstance(given, Iterable):
            raise TypeError(f"`script` must be several steps, such as [{script!r}], not {script!r}")
        self._steps = itertools.chain(script, itertools.repeat(then))
        self._lock = threading.Lock()
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    @classmethod
    def seeded(
        cls,
        seed: int,
        *,
        rate: float,
        error: BaseException | type[BaseException] = ConnectionError,
        result: object = None,
    ) -> "Faults":
        """Return `Faults` that fail at random, always in the same order for the same *seed*.

        Args:
            seed: The seed of the random numbers.
            rate: The share of calls that fail, 0 to 1.
            error: The exception, or exception class, that failing calls raise.
            result: The result of the other calls.

        Raises:
            TypeError: If *seed* is not a whole number, *rate* not a number, or *error* not an
                exception.
            ValueError: If *rate* is not from 0 to 1.

        Example:
            >>> from mainstay import retry
            >>> from mainstay.testing import Faults
            >>> faults = Faults.seeded(7, rate=0.5, result="page")
            >>> {retry(on=ConnectionError, attempts=10).call(faults) for _ in range(20)}
            {'page'}
        """
        share = to_share(rate, "rate")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise TypeError(f"`seed` must be a whole number, not {seed!r}")
        if not _is_exception(error):
            raise TypeError(f"`error` must be an exception or a class of one, not {error!r}")
        numbers = random.Random(seed)
        return cls(error if numbers.random() < share else result for _ in itertools.count())

    @staticmethod
    def delay(seconds: Duration, step: object = None) -> object:
        """Return a step that sleeps for *seconds*, at least 0, before *step*.

        Raises:
            TypeError: If *seconds* is neither a number nor a `timedelta`.
            ValueError: If *seconds* is negative, NaN or infinite; to sleep for ever use
                `Faults.HANG`.

        Example:
            >>> from mainstay.testing import FakeClock, Faults
            >>> with FakeClock() as clock:
            ...     Faults([Faults.delay(3.0, "late")])()
            ...     clock.now()
            'late'
            3.0
        """
        return _DelayedStep(to_seconds(seconds, "seconds"), step)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Take the next step."""
        step = self._next(args, kwargs)
        while isinstance(step, _DelayedStep):
            context.current_context().clock.sleep(step.seconds)
            step = step.step
        return _done(step)

    async def acall(self, /, *args: Any, **kwargs: Any) -> Any:
        """Take the next step in async code.

        Example:
            >>> import asyncio
            >>> from mainstay.testing import Faults
            >>> asyncio.run(Faults(["page"]).acall("http://a.example"))
            'page'
        """
        step = self._next(args, kwargs)
        while isinstance(step, _DelayedStep):
            await context.current_context().clock.asleep(step.seconds)
            step = step.step
        return _done(step)

    def _next(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        with self._lock:
            self.calls.append((args, kwargs))
            return next(self._steps)


def _done(step: object) -> object:
    if _is_exception(step):
        raise step
    return step


def _is_exception(step: object) -> TypeGuard[BaseException | type[BaseException]]:
    return isinstance(step, BaseException) or (
        isinstance(step, type) and issubclass(step, BaseException)
    )

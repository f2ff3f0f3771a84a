"""`interrupt_all`: makes all runs of the process save and release, for another machine to continue.

For schedulers and workers that handle the signals of the process themselves. When the loop of a run
asks for the next item, or a step begins outside of items, the run is saved and released, and
`RunInterruptedError` is raised there; never inside an item.
"""

from typing import Protocol
from weakref import ref

from mainstay._core.forks import around_forks
from mainstay._core.threads import values_now
from mainstay.stores.base import RunId, Store


class Interruptible(Protocol):
    """A run that goes on."""

    def interrupt(self) -> None:
        """Save at the next boundary, and end there."""
        ...

    def is_of_caller(self, store: Store, run: RunId, /) -> bool:
        """True if it is that run of *store*, and the code around the call that asks works on it."""
        ...


_running: dict[int, ref[Interruptible]] = {}
"""Weakly: an exception of a signal handler may leave a run without an end."""


def began(run: Interruptible) -> None:
    """Make a run known, from its beginning to its end."""
    key = id(run)
    _running[key] = ref(run, lambda _: _running.pop(key, None))


def ended(run: Interruptible) -> None:
    """Forget a run."""
    _running.pop(id(run), None)


def would_wait_for_itself(store: Store, run: RunId) -> bool:
    """True if who waits for a run is called by the code that works on it."""
    going_on = [known() for known in values_now(_running)]
    return any(each is not None and each.is_of_caller(store, run) for each in going_on)


def interrupt_all() -> None:
    """Interrupt all runs of this process: save and release each run, so that it can be continued.

    Returns immediately. Each run, in whatever thread or task, goes on to its next boundary: where
    its loop asks for the next item, or a step begins outside of items. There the run is saved and
    released, so that any machine may continue it, and `RunInterruptedError` is raised. An item in
    progress is done first. Runs that begin later are not interrupted. Call this function from the
    hook by which a scheduler says that its worker ends, or from a signal handler.

    Metrics:
        `checkpoint_resumes_total` with the reason "sigterm" when such a run continues.

    Example:
        >>> from mainstay import RunInterruptedError, checkpoint_run, interrupt_all
        >>> try:
        ...     with checkpoint_run("May", store="memory://interrupted") as cp:
        ...         for day in cp.iterate(range(1, 32)):
        ...             if day == 3:
        ...                 interrupt_all()
        ... except RunInterruptedError as error:
        ...     error.key
        'May'
        >>> with checkpoint_run("May", store="memory://interrupted") as cp:
        ...     next(cp.iterate(range(1, 32)))
        4
    """
    for known in values_now(_running):
        run = known()
        if run is not None:
            run.interrupt()


around_forks(in_child=_running.clear)

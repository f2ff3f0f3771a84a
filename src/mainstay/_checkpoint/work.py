"""The items of a `cp.map` in progress: what the sync and the async loop have in common.

While there is room, a loop reads an item, and passes it to the executor or the event loop at once.
When the item ends, its position goes into a queue, from which the loop knows whose turn it is. An
error of the source, the executor or the function is kept until its turn, so that all results before
it reach the loop.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

import attrs

from mainstay._checkpoint.spread import Item, Spread
from mainstay._checkpoint.window import Window
from mainstay._core.notes import leave_note
from mainstay._core.threads import retrieve_exception
from mainstay._metrics.checkpoint import CheckpointRecorder

AnyFuture: TypeAlias = "Future[Any] | asyncio.Future[Any]"


@attrs.define(eq=False)
class Work:
    """The items under way of one iteration.

    Attributes:
        spread: The iteration.
        window: Decides what begins, and whose turn is next.
        limit: After how many items done there is a boundary, however little time passes.
    """

    spread: Spread
    window: Window
    _recorder: CheckpointRecorder
    _submit: Callable[[Any], AnyFuture]
    _wake: Callable[[], object] = lambda: None
    _arrivals: "SimpleQueue[int]" = attrs.field(factory=SimpleQueue, init=False)
    limit: int = attrs.field(default=1, init=False)
    _begun: dict[int, tuple[Item, AnyFuture]] = attrs.field(factory=dict, init=False)
    _error: Exception | None = attrs.field(default=None, init=False)
    _tasks: set["asyncio.Future[Any]"] = attrs.field(factory=set, init=False)

    # Items begin.

    @property
    def has_room(self) -> bool:
        """True if another item may begin."""
        return self.window.has_room(self.spread.next_position, self.spread.count)

    def begin_waiting(self) -> bool:
        """Begin an item that is read already; False if there is none."""
        if not self.spread.waiting:
            return False
        self._begin(self.spread.waiting.popleft())
        return True

    def begin(self, value: Any) -> None:
        """Begin the item that was read next."""
        try:
            item = self.spread.item_of(value)
        except Exception as error:  # noqa: BLE001 - raised at its turn
            self.end(error)
        else:
            self._begin(item)

    def end(self, error: Exception | None = None) -> None:
        """Begin no more items: the source has ended, or failed."""
        self.window.ended = True
        self._error = error

    def _begin(self, item: Item) -> None:
        position = item.position
        try:
            future = self._submit(item.value)
        except Exception as error:  # noqa: BLE001 - raised at its turn
            future = Future()
            future.set_exception(error)
        self._begun[position] = item, future
        self.window.begin(position)
        future.add_done_callback(lambda _: self._arrived(position))

    def _arrived(self, position: int) -> None:
        """Record that an item has ended, in whatever thread that is."""
        self._arrivals.put(position)
        self._wake()

    # Results are taken.

    def turn(self) -> int | None:
        """Return the position whose result is next; None if the loop has to read, or to wait."""
        while not self._arrivals.empty():
            self.window.arrive(self._arrivals.get_nowait())
        return self.window.turn()

    def wait(self, seconds: float) -> bool:
        """Wait until an item has ended; False if none has in so many seconds."""
        try:
            self.window.arrive(self._arrivals.get(timeout=seconds))
        except Empty:
            return False
        return True

    @property
    def is_over(self) -> bool:
        """True if all results are taken.

        Raises:
            Exception: What the source raised, or the error of a key.
        """
        if not self.window.is_over:
            return False
        if self._error is not None:
            raise no_end(self._error)
        return True

    def take(self, position: int) -> Any:
        """Return a result, whose item is in progress from now on.

        Raises:
            BaseException: What the function raised.
        """
        self.window.take(position)
        item, future = self._begun.pop(position)
        try:  # `result` of a concurrent future loses exceptions that are false
            error = future.exception()
        except BaseException as cancelled:  # noqa: BLE001 - which is raised again
            error = cancelled
        if error is not None:
            self._recorder.items("failed", 1)
            text = (
                f"raised for item {position} of iteration {self.spread.name!r}, with the key "
                f"{item.key!r:.60}, by `fn` of cp.map or by the executor, which may have to pickle "
                f"`fn`, items and results"
            )
            leave_note(error, f"mainstay.checkpoint {self.spread.run.name}", text)
            raise no_end(error)
        self.spread.enter(item)
        return future.result()

    # The end.

    @property
    def is_settled(self) -> bool:
        """True if nothing is under way that is to be awaited."""
        return not self._begun and all(task.done() for task in self._tasks)

    def cancel(self) -> None:
        """Cancel what has not begun, and drop the results of the rest."""
        self.window.ended = True
        futures = [future for _, future in self._begun.values()]
        self._begun.clear()
        for future in futures:
            future.cancel()
            if isinstance(future, asyncio.Future):
                self._tasks.add(future)
                future.add_done_callback(retrieve_exception)

    async def settled(self) -> None:
        """Wait until tasks that were cancelled have ended, cancelled or not."""
        cancelled: asyncio.CancelledError | None = None
        while not all(task.done() for task in self._tasks):
            try:
                await asyncio.wait(self._tasks)
            except asyncio.CancelledError as error:
                cancelled = error
        self._tasks.clear()
        if cancelled is not None:
            raise cancelled


def no_end(error: BaseException) -> BaseException:
    """Return *error*, or an error around it if *error* would silently end the loop."""
    if not issubclass(type(error), StopIteration | StopAsyncIteration):
        return error
    around = RuntimeError(f"{type(error).__name__} was raised, which would end the loop")
    around.__cause__ = error
    return around

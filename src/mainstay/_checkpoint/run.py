"""`Run`: a run during one attempt: what may be saved, what is saved, and what is recorded.

`Run` is between the loops, which call the user's code and wait, and the store. `Progress` puts each
change together in the thread of the call; only `write` and `release`, each sync and async, touch
the store, through the `Hold` on the run.
"""

import threading
from collections.abc import Callable
from typing import Any

import attrs

from mainstay._checkpoint.codec import Codec, Json
from mainstay._checkpoint.document import MISSING, restored
from mainstay._checkpoint.hold import Hold
from mainstay._checkpoint.inside_fn import is_inside_fn_of
from mainstay._checkpoint.iteration import NOTHING, Iteration
from mainstay._checkpoint.progress import Progress
from mainstay._checkpoint.schedule import Schedule, save_at
from mainstay._checkpoint.settings import CheckpointSettings
from mainstay._checkpoint.steps import Step
from mainstay._checkpoint.value_digest import digest
from mainstay._checkpoint.work import Work
from mainstay._core.events import is_first, logger_of
from mainstay._core.words import class_name, counted
from mainstay._metrics.checkpoint import CheckpointRecorder
from mainstay.errors import (
    CheckpointError,
    CorruptCheckpointError,
    RunCompleteError,
)
from mainstay.stores._optional import PricedStore
from mainstay.stores.base import Change, Exit, Record, RunId

_MANY_SAVES = 10
_LARGER = "a larger `every`, or a timedelta,"


@attrs.define(eq=False)
class Run:
    """A run that one attempt has, or has found complete.

    Attributes:
        id: The name and key of the run in the store.
        hold: The right to save.
        schedule: When saves are due.
        thread: The thread of the call.
        resumed: True if an earlier attempt was interrupted.
        work: The items of `cp.map` in progress, by iteration.
    """

    settings: CheckpointSettings
    recorder: CheckpointRecorder
    id: RunId
    hold: Hold
    schedule: Schedule
    progress: Progress
    thread: int
    resumed: bool = attrs.field(default=False, init=False)
    work: list[Work] = attrs.field(factory=list, init=False)
    _saves: int = attrs.field(default=0, init=False)
    _saving: float = attrs.field(default=0.0, init=False)
    _of_steps: int = attrs.field(default=0, init=False)

    @property
    def component(self) -> str:
        """What the run is called in messages, beside its key."""
        return self.progress.run.name

    @property
    def record(self) -> Record:
        """What the store knew of the run when this attempt began."""
        return self.hold.record

    @property
    def complete(self) -> bool:
        """True if the run had ended before this attempt."""
        return self.hold.lease is None

    def result(self, codec: Codec) -> Any:
        """Return the result of a run that had ended already."""
        saved = self.progress.document.result
        return None if saved is MISSING else restored(codec, saved, "result", self.progress.run)

    def check_usable(self, what: str = "") -> None:
        """Raise in another thread, after the end, and inside a step if it is not to use *what*."""
        step = self.progress.steps.around() if what else None
        if step is not None:
            raise CheckpointError(
                f"{self.component}: `{what}` was used inside step {step.label!r} of run "
                f"{self.id.key!r}; a step is saved as a whole or runs again as a whole, so use it "
                f"before or after the step"
            )
        if is_inside_fn_of(self):
            raise CheckpointError(
                f"{self.component}: `{what or 'cp'}` was used inside `fn` of `cp.map` of run "
                f"{self.id.key!r}; give `fn` what it needs with its item, return what is to be "
                f"saved, and use `cp` in the loop over the results"
            )
        if threading.get_ident() != self.thread:
            raise CheckpointError(
                f"{self.component}: `cp` of run {self.id.key!r} belongs to the thread that the run "
                f"is in; hand results back to that thread and save them there"
            )
        if self.hold.over:
            raise self.hold.ended()

    # Iterations.

    def begin_iteration(
        self, key: Callable[[Any], Any] | None, name: str | None, *, trusted: bool
    ) -> Iteration | None:
        """Begin an iteration where it was when it was saved; None if it was left by `break`."""
        self.check_usable("cp.iterate")
        return self.progress.begin_iteration(key, name, trusted=trusted)

    def iterating(self, iteration: Iteration) -> None:
        """Record that an iteration begins, after the items that were done before."""
        if iteration.began:
            self.recorder.items("skipped", iteration.began)
        self.recorder.iterates(self, self.progress.items_left())
        _tell_price(self)

    def items_to_boundary(self) -> int:
        """Return after how many items an iteration is to come to a boundary."""
        return self.schedule.items_to_boundary(self.progress.unsaved)

    def item_left(self, iteration: Iteration) -> None:
        """Record that an item is done in which something was saved or begun.

        Raises:
            CheckpointError: If a step in it is still going on around the caller.
        """
        self.check_usable("cp.iterate")
        self.progress.item_left(iteration)

    def boundary(self, iteration: Iteration, *, ended: bool = False) -> Change | None:
        """Record that the item in progress is done, or the iteration; return what to write, if any.

        Raises:
            LeaseLostError: If somebody else has taken the run over.
        """
        progress = self.progress
        progress.boundary(iteration)
        self.hold.renew_alone()
        self.hold.check_not_lost()
        due = self.schedule.is_due(progress.unsaved)
        if ended:
            progress.ended(iteration)
            self.recorder.goes_on(self, progress.items_left())
        save = save_at(
            "iteration" if ended else "item",
            unsaved=progress.unsaved,
            due=due,
            in_item=bool(progress.stack),
            waits=iteration.waits,
        )
        if save == "later":
            self.schedule.due = True
        return self._everything() if save == "everything" else None

    # Steps.

    def begin_step(self, name: str) -> Step:
        """Begin a step, whose result may be there already.

        Raises:
            CodeChangedError: If another step was saved at its place.
            CorruptCheckpointError: If the result is damaged.
        """
        try:
            lenient = self.settings.on_code_change == "ignore"
            return self.progress.begin_step(name, lenient=lenient)
        except CorruptCheckpointError:
            self.recorder.damaged()
            raise

    def step_saved(self, step: Step) -> Change | None:
        """Return what saves the result of a step, if that is still to be saved."""
        progress = self.progress
        if not progress.steps.is_pending(step):
            return None  # another task has saved the result, or its item is done
        save = save_at("step", unsaved=progress.unsaved, in_item=bool(progress.stack))
        return progress.steps.save_alone() if save == "result" else self._everything()

    # Saves that are asked for, and the last one.

    def save(self) -> Change | None:
        """Return what to write where a save was asked for; None if it waits for an item's end."""
        self.check_usable("cp.save")
        if self.complete:
            raise RunCompleteError(self.component, self.id.key)
        progress = self.progress
        progress.settle()
        save = save_at("asked", unsaved=progress.unsaved, in_item=bool(progress.stack))
        if save == "later":
            self.schedule.save_soon()
            return None
        return self._everything()

    def finish(self, value: object, codec: Codec) -> Change:
        """Return the last save, which holds the result."""
        self.progress.settle()
        self.progress.stack.clear()
        return self._everything(codec.encode(value, "result"))

    def _everything(self, result: Json = MISSING) -> Change:
        clock, hold = self.hold.clock, self.hold
        began = clock.now()
        change = self.progress.capture(began - hold.acquired, result)
        self._saving += clock.now() - began
        return change

    def write(self, change: Change) -> None:
        """Write a change, and count what it made last.

        Raises:
            LeaseLostError: If somebody else has taken the run over.
            StoreUnavailableError: If the store cannot be written to, as long as the lease lasts.
        """
        self._written(change, self.hold.commit(change))

    async def awrite(self, change: Change) -> None:
        """Write a change, and count what it made last, as `write`."""
        self._written(change, await self.hold.acommit(change))

    def _written(self, change: Change, seconds: float) -> None:
        self._saves, self._saving = self._saves + 1, self._saving + seconds
        self._of_steps += change.document is None
        self.schedule.saved(seconds)
        self.recorder.saved(seconds, None if change.document is None else len(change.document))
        items = self.progress.saved(change)
        if change.document is not None:
            self.recorder.items("done", items)
            self.schedule.begin()
            self.recorder.goes_on(self, self.progress.items_left())
        self.hold.over = change.finished

    # The end.

    def stop_soon(self) -> None:
        """Save at all boundaries from now on, the next one first."""
        self.schedule.save_soon(always=True)

    def release(self, how: Exit, error: BaseException | None = None) -> None:
        """Release the run before its end; what was saved stays.

        A saved exception that ended the run is forgotten, so that its step runs again.
        """
        if self.hold.release(how, error, self.progress.steps.numbers_of(error)):
            self._released(error)

    async def arelease(self, how: Exit, error: BaseException | None = None) -> None:
        """Release the run before its end, as `release`."""
        if await self.hold.arelease(how, error, self.progress.steps.numbers_of(error)):
            self._released(error)

    def _released(self, error: BaseException | None) -> None:
        if not self.hold.lost:
            logger_of("checkpoint").info(
                "%s: attempt %d ended with %s; %s saved, and another attempt goes on from there",
                self.component,
                self.record.attempt,
                "SIGTERM" if error is None else class_name(error),
                counted(self.progress.items_saved, "item is", "items are"),
            )
        self.tell_cost()

    def tell_cost(self) -> None:
        """Log if most of the time of this attempt went into saving."""
        elapsed = self.hold.clock.now() - self.hold.acquired
        if self._saves >= _MANY_SAVES and elapsed >= 1.0 and self._saving > elapsed / 2:
            cure = "steps that do more" if self._of_steps * 2 > self._saves else _LARGER
            logger_of("checkpoint").info(
                "%s: %.1f of the %.1f s of attempt %d went into %d saves; %s would repeat more "
                "after a crash and save less often",
                self.component,
                self._saving,
                elapsed,
                self.record.attempt,
                self._saves,
                cure,
            )

    @property
    def at_boundary(self) -> bool:
        """True if all is saved that was begun, but for items around others.

        Steps side by side wait for the last of them.
        """
        progress, stack = self.progress, self.progress.stack
        all_saved = not progress.unsaved and not any(each.keys for each in stack)
        between = not stack or stack[-1].item is NOTHING
        return all_saved and between and not progress.steps.unsaved

    # What other systems know of the run.

    def idempotency_key(self, item: object) -> str:
        """Return what an item, or the run itself, is known by to the rest of the world."""
        self.check_usable()
        known_by = self.progress.known_by(item)
        parts = (self.id.name, self.id.key, self.record.life, *known_by)
        return digest(*(part.encode() for part in parts))


def _tell_price(run: Run) -> None:
    """Log once if each item is saved where each save is slow and has a price."""
    store, every = run.settings.store, run.settings.every
    if every == 1 and isinstance(store, PricedStore) and is_first("every", run.component):
        logger_of("checkpoint").warning(
            "%s: every=1 saves after each item, and each save in %s is %s; give `every` a "
            "timedelta, such as timedelta(minutes=1), or young_daly(...)",
            run.component,
            run.settings.store.url,
            store._price_of_saves(),
        )

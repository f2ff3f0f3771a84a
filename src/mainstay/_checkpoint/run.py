"""One attempt at a run: whose it is, when it saves, what is recorded.

`Run` stands between the loops, which call the user's code and wait, and the store. It belongs to
one call. What is to be written is put together in the thread of the call, by `Progress`; only
`acquire`, `write`, `renew` and `release` touch the store, and they may run in another thread.
"""

import os
import threading
from collections.abc import Callable
from typing import Any

import attrs

from mainstay._checkpoint import decision
from mainstay._checkpoint.codec import Codec, Json
from mainstay._checkpoint.decision import Code
from mainstay._checkpoint.document import MISSING, newest, restored
from mainstay._checkpoint.iteration import NOTHING, Loop
from mainstay._checkpoint.progress import Progress
from mainstay._checkpoint.rules import Rules
from mainstay._checkpoint.schedule import Schedule
from mainstay._checkpoint.steps import Step
from mainstay._core.context import CallContext
from mainstay._core.events import publish
from mainstay._core.failures import in_words
from mainstay._metrics.checkpoint import CheckpointRecorder
from mainstay.errors import (
    CheckpointError,
    CodeChangedError,
    CorruptCheckpointError,
    LeaseLostError,
    PoisonedRunError,
    RunBusyError,
    RunCompleteError,
    StoreUnavailableError,
)
from mainstay.events import (
    CheckpointDamaged,
    CheckpointEvent,
    CodeChanged,
    LeaseLost,
    RunPoisoned,
    RunResumed,
)
from mainstay.stores.base import Acquired, Change, Exit, Held, Lease, Record, Request, RunId
from mainstay.stores.owner import this_process


@attrs.define(eq=False)
class Run:
    """The state of one attempt.

    Attributes:
        rules: The parameters of the policy.
        recorder: Where it is recorded.
        context: Its clock and its deadline.
        id: Which run it is.
        code: What is known of the function.
        arguments: What it was called with, if it can be recovered.
        began: When the call began, in seconds of the clock.
        thread: Which thread it is in.
        pid: Which process it is in.
        lease: The right to save; None if the run had ended already.
        life: Differs each time the run is begun anew.
        attempt: The number of the attempt.
        resumed: Whether something was there before.
        lost: Whether somebody else has taken the run over.
        over: Whether nothing more can be saved.
        progress: How far it is.
        schedule: When it saves.
    """

    rules: Rules
    recorder: CheckpointRecorder
    context: CallContext
    id: RunId
    code: Code
    arguments: bytes | None = None
    began: float = attrs.field(init=False)
    thread: int = attrs.field(factory=threading.get_ident, init=False)
    pid: int = attrs.field(factory=os.getpid, init=False)
    lease: Lease | None = attrs.field(default=None, init=False)
    life: str = attrs.field(default="", init=False)
    attempt: int = attrs.field(default=0, init=False)
    resumed: bool = attrs.field(default=False, init=False)
    lost: bool = attrs.field(default=False, init=False)
    over: bool = attrs.field(default=False, init=False)
    progress: Progress = attrs.field(init=False)
    schedule: Schedule = attrs.field(init=False)
    _acquired: float = attrs.field(default=0.0, init=False)
    _renewed: float = attrs.field(default=0.0, init=False)
    _polls: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.began = self.context.clock.now()
        self.schedule = Schedule(self.rules.every, self.context.clock, self.recorder)

    # Beginning: what the loops ask until the run is theirs.

    def acquire(self) -> float | None:
        """Ask the store for the run: seconds to wait before asking again, or None if it is here.

        Raises:
            RunBusyError: If somebody else works on it.
            RunCompleteError: If it has ended.
            PoisonedRunError: If it died too often.
            CodeChangedError: If other code began it.
            CorruptCheckpointError: If nothing of it can be read.
        """
        rules = self.rules
        waited = self._polls > 0
        request = Request(
            owner=this_process(),
            life=os.urandom(16).hex(),
            lease=rules.lease,
            max_crashes=rules.max_crashes,
            rerun=decision.reruns(rules.on_busy, rules.on_complete, waited=waited),
            arguments=self.arguments,
        )
        answer = rules.store.acquire(self.id, request)
        verdict = decision.verdict_of(answer, rules.on_busy, rules.on_complete, waited=waited)
        record = answer.record
        self.attempt, self.life = record.attempt, record.life
        if verdict == "poisoned":
            self._tell(RunPoisoned, record.crashes)
            raise PoisonedRunError(self.id.name, self.id.key, record.crashes)
        if verdict == "complete":
            raise RunCompleteError(self.id.name, self.id.key)
        if isinstance(answer, Held):
            left = self.context.left()
            if verdict == "busy" or left <= 0:
                raise RunBusyError(self.id.name, self.id.key, str(record.owner), answer.left)
            self._polls += 1
            return min(decision.poll_wait(self._polls, answer.left), left)
        if isinstance(answer, Acquired):
            self.lease = Lease(self.id, record.token, rules.lease)
        self._open(record, answer.idle if isinstance(answer, Acquired) else 0.0)
        return None

    def _open(self, record: Record, idle: float) -> None:
        """Read what is kept for the run."""
        contents = self.rules.store.load(self.id)
        try:
            document, problems = newest(contents, self.id)
            self.progress = Progress.after(
                document, contents.results, self.id, self.code, allow_pickle=self.rules.allow_pickle
            )
        except CorruptCheckpointError:
            self.recorder.damaged()
            raise
        for problem in problems:
            self.recorder.damaged()
            self._tell(CheckpointDamaged, problem)
        self._acquired = self._renewed = self.context.clock.now()
        self.schedule.begin()
        if self.lease is None:
            return
        self._check_steps()
        if document is not None:
            self._check_code(document.code)
        self.resumed = record.attempt > 1
        if self.resumed:
            reason: Exit = record.exit or "error"
            saved = self.progress.document
            self.recorder.resumed(reason, saved.seconds, idle)
            self._tell(RunResumed, reason, saved.items)

    def _check_steps(self) -> None:
        step = self.progress.steps.interrupted_inside(self.progress.document.cursors)
        if step is not None:
            raise CheckpointError(
                f"{self.id.name}: run {self.id.key!r} cannot go on, since it was interrupted in "
                f"step {step!r} with steps or iterations inside it, by a version of mainstay that "
                f"allowed that; end it with that version, or forget it and begin it again"
            )

    def _check_code(self, saved: Code) -> None:
        problem = self.code.change_since(saved)
        choice = self.rules.on_code_change
        if problem is None or choice == "ignore":
            return
        if choice == "raise":
            raise CodeChangedError(self.id.name, self.id.key, problem)
        if callable(choice):
            self.progress.migrate = choice
        self._tell(CodeChanged, problem)

    @property
    def complete(self) -> bool:
        """Whether the run had ended before this attempt."""
        return self.lease is None

    def result(self, codec: Codec) -> Any:
        """Give the result of a run that had ended already."""
        saved = self.progress.document.result
        return None if saved is MISSING else restored(codec, saved, "result", self.id)

    def begin_step(self, name: str) -> Step:
        """Begin a step, whose result may be there already.

        Raises:
            CodeChangedError: If another step was saved at its place.
            CorruptCheckpointError: If the result is damaged.
        """
        try:
            lenient = self.rules.on_code_change == "ignore"
            return self.progress.begin_step(name, lenient=lenient)
        except CorruptCheckpointError:
            self.recorder.damaged()
            raise

    # Boundaries: what the loops ask when an item is done.

    def item_left(self, loop: Loop) -> None:
        """Take in that an item is done in which something was saved or begun.

        Raises:
            CheckpointError: If a step in it is still going on around the caller.
        """
        self.check_usable("cp.iterate")
        self.progress.item_left(loop)

    def boundary(self, loop: Loop) -> Change | None:
        """Take in that the item in progress is done, and all before; what to write, if it is due.

        Raises:
            LeaseLostError: If somebody else has taken the run over.
        """
        progress = self.progress
        progress.boundary(loop)
        if self.lost and self.lease is not None:
            raise LeaseLostError(self.id.name, self.id.key, self.lease.token)
        due = self.schedule.has_come(progress.unsaved)
        self.schedule.limit(loop, progress.unsaved)
        if due and loop.deferred:
            self.schedule.due = True
            return None
        return self._capture() if due else None

    def ended(self, loop: Loop) -> Change | None:
        """Take in that an iteration has ended; what to write, if anything is new."""
        change = self.boundary(loop)
        self.progress.ended(loop)
        if self.progress.stack:
            return change
        return self._capture() if self.progress.unsaved else None

    def iterating(self, loop: Loop) -> None:
        """Take in that an iteration goes on after what was done before."""
        if loop.count:
            self.recorder.items("skipped", loop.count)
        self.schedule.limit(loop, self.progress.unsaved)

    # Saving: what is put together, and how it is written.

    def save(self) -> Change | None:
        """Put together a save that was asked for; inside an item it waits for the item's end."""
        self.check_usable("cp.save")
        if self.complete:
            raise RunCompleteError(self.id.name, self.id.key)
        self.progress.settle()
        if self.progress.stack:
            self.schedule.hurry()
            return None
        return self._capture()

    def step_saved(self, step: Step) -> Change | None:
        """Put together what saves the result of a step; outside items, with all that is new."""
        progress = self.progress
        if step.number is None or step.number not in progress.pending:
            return None  # the save of another task had it, or its item is done
        if progress.goes_alone():
            return Change(put={step.number: progress.pending[step.number]})
        return self._capture()

    def finish(self, value: object, codec: Codec) -> Change:
        """Put together the last save, which holds the result."""
        self.progress.settle()
        self.progress.stack.clear()
        return self._capture(codec.encode(value, "result"))

    def write(self, change: Change) -> None:
        """Write a change, and count what it made last.

        Raises:
            LeaseLostError: If somebody else has taken the run over.
            StoreUnavailableError: If the store cannot be written to.
        """
        lease = self.lease
        if lease is None or os.getpid() != self.pid:
            raise CheckpointError(
                f"{self.id.name}: run {self.id.key!r} belongs to process {self.pid}; a forked "
                f"child cannot save it"
            )
        clock = self.context.clock
        before = clock.now()
        try:
            self.rules.store.commit(lease, change)
        except LeaseLostError:
            self.recorder.fenced()
            self.mark_lost()
            raise
        except Exception:
            self.recorder.save_failed()
            raise
        self._renewed = clock.now()
        seconds = self._renewed - before
        self.schedule.saved(seconds)
        self.recorder.saved(seconds, None if change.document is None else len(change.document))
        items = self.progress.saved(change)
        if change.document is not None:
            self.recorder.items("done", items)
            self.schedule.begin()
        self.over = change.finished

    def _capture(self, result: Json = MISSING) -> Change:
        return self.progress.capture(self.context.clock.now() - self._acquired, result)

    # The lease, from the run's own thread and from the one that renews it.

    def renew(self) -> None:
        """Renew the lease between saves; what cannot be renewed in its time is lost."""
        if self.lease is None or self.over:
            return
        try:
            self.rules.store.commit(self.lease, Change())
            self._renewed = self.context.clock.now()
        except LeaseLostError:
            if not self.over:
                self.mark_lost()
        except StoreUnavailableError:
            if self.context.clock.now() - self._renewed >= self.rules.lease:
                self.mark_lost()

    def mark_lost(self) -> None:
        """Take in that somebody else has taken the run over."""
        if not self.lost:
            self.lost = True
            self.schedule.hurry(for_good=True)
            self.recorder.lease_lost()
            self._tell(LeaseLost)

    def release(self, how: Exit, error: BaseException | None = None) -> None:
        """Give the run back before its end; what was saved stays.

        A saved exception that ended the run is forgotten, so that its step runs again.
        """
        if self.lease is None or self.over or os.getpid() != self.pid:
            return
        self.over = True
        text = "" if error is None else in_words(error)
        dropped = self.progress.results.numbers_of(error) if self.opened else ()
        self.rules.store.release(self.lease, how, text, dropped)

    @property
    def opened(self) -> bool:
        """Whether what is kept for the run has been read."""
        return hasattr(self, "progress")

    @property
    def at_boundary(self) -> bool:
        """Whether all that is done is saved, and only items around others are in progress."""
        stack = self.progress.stack
        all_saved = not self.progress.unsaved and not any(loop.keys for loop in stack)
        return all_saved and (not stack or stack[-1].item is NOTHING)

    def elapsed(self) -> float:
        """Seconds since the call began."""
        return self.context.clock.now() - self.began

    def check_usable(self, what: str = "") -> None:
        """Refuse another thread, use after the end, and *what* is not to be used inside a step."""
        step = self.progress.steps.around() if what else None
        if step is not None:
            raise CheckpointError(
                f"{self.id.name}: `{what}` was used inside step {step.label!r} of run "
                f"{self.id.key!r}; a step is saved as a whole or runs again as a whole, so use it "
                f"before or after the step"
            )
        if threading.get_ident() != self.thread:
            raise CheckpointError(
                f"{self.id.name}: `cp` of run {self.id.key!r} belongs to the thread that the run "
                f"is in; hand results back to that thread and save them there"
            )
        if self.over:
            raise RunCompleteError(self.id.name, self.id.key)

    def _tell(self, kind: Callable[..., CheckpointEvent], *figures: object) -> None:
        event = kind(self.recorder.component, self.id.key, self.attempt, *figures)
        publish(event, self.recorder.listener_failed)

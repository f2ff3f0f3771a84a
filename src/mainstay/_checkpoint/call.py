"""`CheckpointCall`: a call of a checkpointed function or block, sync and async side by side.

A call waits for its run, makes one attempt at it, saves the result, and releases the run if the
attempt fails. The loops over items, and the steps, are in `loops`.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, ClassVar

import attrs

from mainstay._checkpoint import interruption, signals
from mainstay._checkpoint.code import Code
from mainstay._checkpoint.codec import Codec
from mainstay._checkpoint.decision import action_on, poll_wait, reruns
from mainstay._checkpoint.document import Document, newest
from mainstay._checkpoint.former import EXACT, former_of
from mainstay._checkpoint.hold import Hold
from mainstay._checkpoint.iteration import NOTHING
from mainstay._checkpoint.keys import RunKey
from mainstay._checkpoint.progress import Progress
from mainstay._checkpoint.retention import forget_old
from mainstay._checkpoint.run import Run
from mainstay._checkpoint.schedule import Schedule
from mainstay._checkpoint.sending import Sender
from mainstay._checkpoint.settings import CheckpointSettings
from mainstay._checkpoint.state import State
from mainstay._checkpoint.steps import Steps
from mainstay._checkpoint.types import allowed_by, allowed_by_result
from mainstay._checkpoint.watcher import unwatch, watch
from mainstay._core.call import Call, recorder_in
from mainstay._core.context import current_context
from mainstay._core.events import logger_of, publish
from mainstay._core.exceptions import is_a
from mainstay._core.functions import is_awaitable, refused_awaitable, require_asyncio
from mainstay._core.owner import this_process
from mainstay._core.threads import run_in_thread
from mainstay._core.words import in_words
from mainstay._metrics.checkpoint import CheckpointRecorder
from mainstay.errors import (
    CheckpointError,
    CodeChangedError,
    CorruptCheckpointError,
    PoisonedRunError,
    RunBusyError,
    RunCompleteError,
    RunInterruptedError,
)
from mainstay.events import CheckpointDamaged, CheckpointEvent, CodeChanged, RunPoisoned, RunResumed
from mainstay.stores.base import (
    Acquired,
    Acquisition,
    Contents,
    Finished,
    Held,
    Record,
    Request,
    RunId,
    RunLease,
)

POLICY = "checkpoint"
_REJECTED = (RunBusyError, PoisonedRunError, RunCompleteError)


@attrs.frozen(eq=False)
class BoundCheckpoint:
    """A policy bound to the code that it wraps.

    Attributes:
        component: What it is called.
        name: What its runs are stored under.
        fn: The function; None for a block.
        begins: False if a run that is not there counts as one that has ended.
    """

    settings: CheckpointSettings
    component: str
    recorder: CheckpointRecorder
    name: str
    code: Code
    fn: Callable[..., Any] | None = None
    begins: bool = True

    def begin(self, key: RunKey, arguments: bytes | None = None) -> "CheckpointCall":
        """Begin a call in its context.

        Args:
            key: Which run it means.
            arguments: What the function is called with, if the run can be recovered.

        Raises:
            DeadlineExpiredError: If the surrounding deadline leaves no time.
        """
        context = current_context()
        recorder = recorder_in(context, self.recorder, self.component)
        call = CheckpointCall(
            self.component,
            recorder,
            context,
            context.clock.now(),
            self,
            key,
            arguments,
        )
        call.check_time_left()
        return call

    def was_gone(self, answer: Acquired) -> bool:
        """True if the run that was to be continued was gone, so that asking for it began a new one.

        The new one has no arguments, and a run that can be continued has.
        """
        return not self.begins and answer.record.arguments is None

    def codec(self) -> Codec:
        """Return the codec of the result, by the annotations as they are now: none of a block."""
        allowed = allowed_by() if self.fn is None else allowed_by_result(self.fn)
        return self.settings.codec(allowed, self.component)


@attrs.define(eq=False)
class CheckpointCall(Call[CheckpointRecorder]):
    """One call of a checkpointed function or block."""

    policy: ClassVar[str] = POLICY
    bound: BoundCheckpoint
    key: RunKey
    arguments: bytes | None
    id: RunId = attrs.field(init=False)
    _run: Run | None = attrs.field(default=None, init=False)
    _thread: int = attrs.field(factory=threading.get_ident, init=False)
    _polls: int = attrs.field(default=0, init=False)
    sender: Sender = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        settings = self.bound.settings
        self.id = RunId(self.bound.name, self.key.text)
        self.sender = Sender(
            settings.store, self.component, settings.lease, self.recorder, signals.is_requested
        )

    @property
    def run(self) -> Run:
        """The run, once it is ours or was found to have ended."""
        assert self._run is not None  # noqa: S101 - it is asked for after `enter` only
        return self._run

    # The beginning.

    def enter(self) -> Run:
        """Make the run ours, waiting for it if need be."""
        try:
            while (wait := self._acquire()) is not None:
                self.sender.wait(self.id, wait, self.context.clock)
                self.recorder.waited(wait)
            return self._watched()
        except BaseException as error:
            self._failed(error)
            raise

    async def aenter(self) -> Run:
        """Make the run ours, waiting for it if need be.

        Raises:
            UnsupportedLoopError: Outside asyncio.
        """
        require_asyncio(self.component)
        try:
            while (wait := await self._aacquire()) is not None:
                await self.sender.await_(self.id, wait, self.context.clock)
                self.recorder.waited(wait)
            return self._watched()
        except BaseException as error:
            await self._afailed(error)
            raise

    def _acquire(self) -> float | None:
        """Ask the store for the run; return seconds until the next time, None if it is here.

        Raises:
            CheckpointError: If it is busy, complete, poisoned, or cannot go on.
        """
        self._look_for_former()
        request, answer = self._request(), None
        try:
            answer = self.sender.acquire(self.id, request, self.left())
            return self._answered(answer)
        except BaseException as error:
            with self._noting(error):
                if answer is None and not is_a(error, CheckpointError):
                    # A signal handler's, when the store may have given the run: it knows the grant.
                    again = attrs.evolve(request, rerun=False)
                    answer = self.sender.store.acquire(self.id, again)
                if isinstance(answer, Acquired):
                    self.sender.release(self._lease_of(answer.record), "error", in_words(error))
                    self._forget_if_gone(answer)
            raise

    async def _aacquire(self) -> float | None:
        """Ask the store for the run, as `_acquire`."""
        if self.key.former is not None:
            await run_in_thread(self._look_for_former)
        answers: list[Acquisition] = []
        try:
            await self.sender.aacquire(self.id, self._request(), self.left(), answers.append)
            return self._answered(answers[0])
        except BaseException as error:
            for answer in answers:
                if isinstance(answer, Acquired):
                    with self._noting(error):
                        lease = self._lease_of(answer.record)
                        await self.sender.arelease(lease, "error", in_words(error))
                        await run_in_thread(functools.partial(self._forget_if_gone, answer))
            raise

    def _forget_if_gone(self, answer: Acquired) -> None:
        """Forget the run again if it was gone, and is there only because this call asked for it."""
        if self.bound.was_gone(answer):
            self.bound.settings.store.forget(self.id)

    def _request(self) -> Request:
        settings = self.bound.settings
        return Request(
            owner=this_process(),
            life=(EXACT if self.key.is_exact else "") + os.urandom(16).hex(),
            lease=settings.lease,
            max_crashes=settings.max_crashes,
            rerun=reruns(settings.on_busy, settings.on_complete, waited=self._polls > 0),
            arguments=self.arguments,
        )

    def _lease_of(self, record: Record) -> RunLease:
        return RunLease(self.id, record.token, record.grant, self.bound.settings.lease)

    def _answered(self, answer: Acquisition) -> float | None:
        """Do what the store's answer means; return seconds until the next time, or None.

        Raises:
            CheckpointError: If the run is busy, complete, poisoned, or cannot go on.
        """
        settings, waited = self.bound.settings, self._polls > 0
        action = action_on(answer, settings.on_busy, settings.on_complete, waited=waited)
        record = answer.record
        if action == "poisoned":
            self._publish(RunPoisoned, record, record.crashes)
            raise PoisonedRunError(self.component, self.id.key, record.crashes)
        if action == "complete":
            raise RunCompleteError(self.component, self.id.key)
        if isinstance(answer, Held):
            left = self.left()
            if action == "busy" or left <= 0:
                raise RunBusyError(self.component, self.id.key, str(record.owner), answer.left)
            if interruption.would_wait_for_itself(settings.store, self.id):
                raise CheckpointError(
                    f"{self.component}: run {self.id.key!r} is worked on by code around this call, "
                    f"which would wait for itself; give the inner run another key"
                )
            self._polls += 1
            return min(poll_wait(self._polls, answer.left), left)
        if isinstance(answer, Acquired):
            if self.bound.was_gone(answer):
                raise RunCompleteError(self.component, self.id.key)
            self._run = self._opened(record, self._lease_of(record), answer.contents, answer.idle)
        if isinstance(answer, Finished):
            self._run = self._opened(record, None, answer.contents)
        return None

    def _look_for_former(self) -> None:
        """Go on with the run that an earlier version began under another key, if there is one."""
        settings, key = self.bound.settings, self.key.former
        if key is not None and not self._polls:
            reruns = settings.on_complete == "rerun"
            self.id = former_of(
                settings.store, self.id, key, reruns=reruns, component=self.component
            )

    def _opened(
        self, record: Record, lease: RunLease | None, contents: Contents, idle: float = 0.0
    ) -> Run:
        """Read what is kept for the run, and publish what is found."""
        settings = self.bound.settings
        label = RunId(self.component, self.id.key)
        try:
            document, problems = newest(contents, label)
            steps = Steps(contents.results, label, settings.codec(allowed_by(), self.component))
        except CorruptCheckpointError:
            self.recorder.damaged()
            raise
        for problem in problems:
            self.recorder.damaged()
            self._publish(CheckpointDamaged, record, problem)
        code = self.bound.code
        saved = document or Document(code=code)
        progress = Progress(label, code, saved, steps, self._state(label, saved))
        clock = self.context.clock
        schedule = Schedule(settings.every, clock, self.recorder)
        schedule.begin()
        hold = Hold(self.component, self.sender, self.recorder, clock, schedule, record, lease)
        run = Run(settings, self.recorder, self.id, hold, schedule, progress, self._thread)
        if lease is None:
            return run
        self.recorder.begins()
        steps.check_resumable(saved.cursors)
        self._check_code(saved, record)
        run.resumed = record.attempt > 1
        if run.resumed:
            reason = record.exit or "error"
            self.recorder.resumed(reason, saved.seconds, idle)
            self._publish(RunResumed, record, reason, saved.items)
        return run

    def _state(self, label: RunId, saved: Document) -> State:
        """Return the state of the run as it was saved."""
        settings = self.bound.settings
        choice = settings.on_code_change
        return State(
            label,
            saved.state,
            settings.codec(allowed_by(), self.component),
            migrate=choice if callable(choice) else None,
            is_old=self.bound.code.change_since(saved.code) is not None,
            items=saved.items,
        )

    def _check_code(self, saved: Document, record: Record) -> None:
        """Do what `on_code_change` says if other code began the run."""
        problem = self.bound.code.change_since(saved.code)
        choice = self.bound.settings.on_code_change
        if problem is None or choice == "ignore":
            return
        if choice == "raise":
            raise CodeChangedError(self.component, self.id.key, problem)
        self._publish(CodeChanged, record, problem)

    def _watched(self) -> Run:
        """Return the run, watched over from now on."""
        run = self.run
        if not run.complete:
            if not self._watch():
                logger_of(POLICY).warning(
                    "%s: no thread can be started to watch over attempt %d; the attempt itself "
                    "renews its lease and looks if a save is due, at each item",
                    self.component,
                    run.record.attempt,
                )
                run.hold.unwatched(self._watch)
            interruption.began(run.hold)
            signals.watch(run)
        return run

    def _watch(self) -> bool:
        """Have a thread watch over the run; False if none can be started now."""
        try:
            watch(self.bound.settings.store, self.run.hold)
        except RuntimeError:
            return False
        return True

    # The end.

    def leave(self, error: BaseException | None, value: object = None) -> None:
        """End the call: with *value* saved, or with what was raised in it."""
        for work in self.run.work:
            work.cancel()
        if error is not None:
            self._failed(error)
            return
        try:
            run = self.run
            if not run.complete:
                run.write(run.finish(value, self.bound.codec()))
            self._succeeded(run)
        except BaseException as unfinished:
            self._failed(unfinished)
            raise
        forget_old(self.bound.settings, self.id)

    async def aleave(self, error: BaseException | None, value: object = None) -> None:
        """End the call: with *value* saved, or with what was raised in it."""
        try:
            await self._drop_work()
        except BaseException as interrupted:
            await self._afailed(interrupted if error is None else error)
            raise
        if error is not None:
            await self._afailed(error)
            return
        try:
            run = self.run
            if not run.complete:
                await run.awrite(run.finish(value, self.bound.codec()))
            self._succeeded(run)
        except BaseException as unfinished:
            await self._afailed(unfinished)
            raise
        await run_in_thread(lambda: forget_old(self.bound.settings, self.id))

    async def _drop_work(self) -> None:
        """Cancel the items that are under way, and wait for tasks."""
        for work in self.run.work:
            work.cancel()
        for work in [*self.run.work]:
            await work.settled()

    def _succeeded(self, run: Run) -> None:
        """Record that the run has its result."""
        run.hold.over = True
        self._end_watch(run)
        interruption.ended(run.hold)
        self.recorder.over(run)
        run.tell_cost()
        self.end("recovered" if run.resumed else "success")
        signals.unwatch(run)

    def _failed(self, error: BaseException) -> None:
        """Release the run, and record how the call ended."""
        run = self._run
        try:
            if run is not None:
                with self._noting(error):
                    run.release("error", error)
                    self._end_watch(run)
        finally:  # a cancellation, or what a signal handler raises, may come while it is released
            self._record_failure(error)

    async def _afailed(self, error: BaseException) -> None:
        """Release the run, and record how the call ended."""
        run = self._run
        try:
            if run is not None:
                with self._noting(error):
                    await run.arelease("error", error)
                    self._end_watch(run)
        finally:  # a cancellation, or what a signal handler raises, may come while it is released
            self._record_failure(error)

    def _end_watch(self, run: Run) -> None:
        """Have nobody watch over a run that is finished or released, which nobody else would do."""
        if not run.complete:
            unwatch(self.bound.settings.store, run.hold)

    @contextlib.contextmanager
    def _noting(self, error: BaseException) -> Iterator[None]:
        """Note on the user's exception what goes wrong while the run is released after it."""
        try:
            yield
        except Exception as unreleased:  # noqa: BLE001 - the one that propagates is the user's
            self.note(
                error,
                f"the run was not released, so that others may have to wait for the end of its "
                f"lease: {unreleased}",
            )

    def _record_failure(self, error: BaseException) -> None:
        run = self._run
        if run is not None:
            interruption.ended(run.hold)
            self.recorder.over(run)
            if any(each.item is not NOTHING for each in run.progress.stack):
                self.recorder.items("failed", 1)
        if not is_a(error, Exception) or is_a(error, RunInterruptedError):
            self.end_interrupted(error)
        elif issubclass(type(error), _REJECTED) and (run is None or run.complete):
            self.end("rejected")
        else:
            self.recorder.error(error)
            self.end("error")
        if run is not None:
            signals.unwatch(run)

    def _publish(
        self, kind: Callable[..., CheckpointEvent], record: Record, *figures: object
    ) -> None:
        event = kind(self.component, self.id.key, record.attempt, *figures)
        publish(event, self.recorder.listener_failed)


def run_to_end(call: CheckpointCall, body: Callable[[Run], Any]) -> Any:
    """Run *body*, and return its result, or the result that was saved before.

    Raises:
        TypeError: If *body* returns an awaitable, which would never be awaited.
    """
    run = call.enter()
    try:
        value = run.result(call.bound.codec()) if run.complete else body(run)
        if is_awaitable(value):
            raise refused_awaitable(call.component, value)
    except BaseException as error:
        call.leave(error)
        raise
    call.leave(None, value)
    return value


async def arun_to_end(call: CheckpointCall, body: Callable[[Run], Coroutine[Any, Any, Any]]) -> Any:
    """Run *body*, and return its result, or the result that was saved before."""
    run = await call.aenter()
    try:
        value = run.result(call.bound.codec()) if run.complete else await body(run)
    except BaseException as error:
        await call.aleave(error)
        raise
    await call.aleave(None, value)
    return value

"""How far a run is, and how that is captured: state, iterations and steps.

It knows no store, no clock and no context.

State is captured at item boundaries only. That is what makes a save right: everything before the
boundary is in it, nothing after it is. An iteration inside an item of another one may save its
own boundaries only if the state was not changed in that item before it began, since what did that
runs again on a resume; otherwise its saves wait for the end of the item.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from mainstay._checkpoint.codec import Codec, Json, plain
from mainstay._checkpoint.decision import Code
from mainstay._checkpoint.document import MISSING, Document, restored
from mainstay._checkpoint.fingerprint import digest, fingerprint
from mainstay._checkpoint.iteration import NOTHING, Loop, key_function
from mainstay._checkpoint.names import Names
from mainstay._checkpoint.results import Results
from mainstay._checkpoint.steps import Place, Step, Steps
from mainstay._checkpoint.types import allowed_by
from mainstay.errors import CheckpointError, CodeChangedError
from mainstay.stores.base import Change, Result, RunId

_UNCHANGEABLE = (str, bytes, int, float, complex, bool, tuple, frozenset, type(None))


@attrs.define(eq=False)
class Progress:
    """What one attempt at a run has done, on top of what was saved before.

    Attributes:
        id: Which run it is.
        code: What is known of the function.
        allow_pickle: Whether values without an exact form in JSON are pickled.
        document: What was saved before this attempt.
        steps: The steps, saved and new.
        results: What they come to.
        pending: The results that are not saved yet, by number.
        migrate: Turns the state of older code into that of the present one, or None.
        stack: The iterations that are going on, the outermost first.
        unsaved: Items done since the last save.
    """

    id: RunId
    code: Code
    allow_pickle: bool
    document: Document
    steps: Steps
    migrate: Callable[[Any], Any] | None = None
    results: Results = attrs.field(init=False)
    pending: dict[int, Result] = attrs.field(factory=dict, init=False)
    stack: list[Loop] = attrs.field(factory=list, init=False)
    unsaved: int = attrs.field(default=0, init=False)
    _done: int = attrs.field(default=0, init=False)
    _captured: int = attrs.field(default=0, init=False)
    _cursors: dict[str, Json] = attrs.field(init=False)
    _names: Names = attrs.field(factory=Names, init=False)
    _state: Any = attrs.field(default=NOTHING, init=False)
    _state_codec: Codec = attrs.field(init=False)
    _boundary_state: Json = attrs.field(default=None, init=False)
    _captured_state: Json = attrs.field(default=NOTHING, init=False)
    _drop: list[int] = attrs.field(factory=list, init=False)

    @classmethod
    def after(
        cls,
        document: Document | None,
        results: Mapping[int, Result],
        run: RunId,
        code: Code,
        *,
        allow_pickle: bool,
    ) -> "Progress":
        """Begin where *document* and *results* say that the run was."""
        steps = Steps(results, f"run {run.key!r} of {run.name}")
        return cls(run, code, allow_pickle, document or Document(code=code), steps)

    def __attrs_post_init__(self) -> None:
        self._cursors = dict(self.document.cursors)
        self._state_codec = Codec({})
        self.results = Results(self.id, allow_pickle=self.allow_pickle)

    # The state.

    def state(self, default: Any) -> Any:
        """Give the state: what was saved, or *default*."""
        if self._state is not NOTHING:
            return self._state
        if isinstance(default, _UNCHANGEABLE):
            raise TypeError(
                f"`default` must be something that is changed in place, such as an attrs instance, "
                f"a dataclass instance, a dict or a list, not {default!r}"
            )
        self._state_codec = Codec(allowed_by(default), self.allow_pickle)
        saved = self.document.state
        if saved is MISSING:
            self._state_codec.encode(default, "state")
            self._state = default
        elif self.migrate is not None:
            self._state = self.migrate(plain(saved, allow_pickle=self.allow_pickle))
        else:
            self._state = restored(self._state_codec, saved, "state", self.id)
        return self._state

    def _encoded_state(self) -> Json:
        if self._state is NOTHING:
            return self.document.state
        return self._state_codec.encode(self._state, "state")

    # Iterations.

    def loop(
        self, key: Callable[[Any], Any] | None, name: str | None, *, trusted: bool
    ) -> Loop | None:
        """Begin an iteration, where it was when it was saved; None if it was left by `break`."""
        self.settle()
        outer = self.stack[-1] if self.stack else None
        if name is not None and any(each.name == name for each in self.stack):
            raise CheckpointError(
                f"{self.id.name}: iteration {name!r} of run {self.id.key!r} is still going on; "
                f"give the second one another `name`"
            )
        scope = self._scope()
        numbered = self._names.numbered(scope, name or "items")
        if outer is not None:
            outer.check_item()
        saved = self._cursors_here().get(numbered)
        if saved and saved["closed"]:
            return None
        done = saved["count"] if saved and trusted else 0
        key_of = key_function(key, numbered, done)
        loop = Loop(self.id, numbered, key_of, trusted, scope, by_position=key is None)
        if saved:
            loop.restore(saved)
        state = self._encoded_state()
        if outer is None:
            self._boundary_state = state
        else:
            outer.dirty = outer.dirty or state != self._state_before(outer)
            outer.used = outer.nests = True
            loop.deferred = outer.deferred or outer.dirty
            if not loop.deferred:
                self._boundary_state = state
        self.stack.append(loop)
        return loop

    def _state_before(self, outer: Loop) -> Json:
        """Give the state before the item in progress, as far as it was taken down there."""
        if outer.nests or outer.is_at_first_item:
            return self._boundary_state
        return NOTHING if outer.keys or self.unsaved else self._captured_state

    def flush(self, loop: Loop) -> None:
        """Count the items done of an iteration."""
        done = len(loop.keys)
        if done:
            loop.flush()
            self.unsaved += done
            self._done += done

    def item_left(self, loop: Loop) -> None:
        """Take in that an item is done in which something was saved or begun."""
        self._leave_item(loop)
        if loop.nests and not loop.deferred:
            self._boundary_state = self._encoded_state()

    def _leave_item(self, loop: Loop) -> None:
        self.leave_inner(loop)
        outer = self._place(self.stack[:-1])
        numbers = self.steps.leave_item(outer, loop.item_label(), loop.position)
        for number in numbers:
            self.pending.pop(number, None)
        self._drop += numbers
        self._names.leave(loop.item_scope())
        loop.leave_item()

    def boundary(self, loop: Loop) -> None:
        """Take in that the item in progress is done, and all before it."""
        self.leave_inner(loop)
        loop.item = NOTHING
        self.flush(loop)

    def ended(self, loop: Loop) -> None:
        """Take in that an iteration has ended, at a boundary."""
        self.stack.pop()
        self._keep_cursor(loop)
        if self.stack and not loop.deferred:
            self._boundary_state = self._encoded_state()

    def interrupted(self, loop: Loop) -> None:
        """Take in that the source of an iteration failed, between two items."""
        if any(each is loop for each in self.stack):
            self.boundary(loop)
            self.stack.pop()
            self._keep_cursor(loop)

    def abandoned(self, loop: Loop) -> None:
        """Take in that an iteration could not begin; its cursor stays as it was saved."""
        self.stack.remove(loop)

    def settle(self) -> None:
        """Take in that iterations were left by `break`: their items in progress are done."""
        while self.stack and self.stack[-1].closed:
            self._leave(self.stack[-1])

    def _leave(self, loop: Loop) -> None:
        """Take in that an iteration was left in an item, the state having changed since perhaps."""
        if loop.used:
            self._leave_item(loop)
        loop.item_done()
        self.flush(loop)
        self.stack.pop()
        self._keep_cursor(loop)
        if self.stack and self._state is not NOTHING:
            self.stack[-1].dirty = True  # nobody knows what the state was when it was left

    def leave_inner(self, loop: Loop) -> None:
        """Take in that *loop* goes on, so that all that began inside its item is over.

        Raises:
            CheckpointError: If *loop* is over itself.
        """
        if self.stack and self.stack[-1] is loop:
            return
        if not any(each is loop for each in self.stack):
            raise CheckpointError(
                f"{self.id.name}: iteration {loop.name!r} of run {self.id.key!r} goes on after the "
                f"one around it; iterations must follow or be inside each other"
            )
        while self.stack[-1] is not loop:
            self.stack.pop()

    def _keep_cursor(self, loop: Loop) -> None:
        self._cursors_here()[loop.name] = loop.cursor()

    def _cursors_here(self) -> dict[str, Json]:
        return self.stack[-1].inner if self.stack else self._cursors

    # Steps.

    def begin_step(self, name: str, *, lenient: bool) -> Step:
        """Begin a step; its result may be there already.

        Raises:
            CodeChangedError: If another step was saved at its place, unless *lenient*.
        """
        self.settle()
        if self.stack:
            self.stack[-1].used = True
        step = self.steps.begin(self._place(self.stack), name)
        if step.instead is not None and not lenient:
            raise CodeChangedError(
                self.id.name, self.id.key, f"step {step.instead!r} is now {step.label!r}"
            )
        return step

    def step_done(self, step: Step, value: object, fn: Callable[..., Any]) -> None:
        """Take in the result of a step of *fn*."""
        saved = self.results.encoded(step, value, fn)
        self._keep(step, saved)

    def step_failed(self, step: Step, error: Exception) -> bool:
        """Take in the exception of a step; say whether that is its result."""
        saved = self.results.encoded_error(error)
        if saved is None:
            return False
        self._keep(step, saved)
        self.results.raised(step.number, error)
        return True

    def _keep(self, step: Step, saved: Json) -> None:
        number, result = self.steps.keep(step, saved)
        self.pending[number] = result

    def _place(self, loops: list[Loop]) -> Place:
        """Find where steps are that begin in the items in progress of *loops*."""
        place = self.steps.outside
        for loop in loops:
            if loop.item is not NOTHING:
                place = self.steps.enter_item(place, loop.item_label(), loop.position)
        return place

    def _scope(self) -> str:
        """Say what names begin with here: the innermost item in progress."""
        innermost = next(self._going_on(), None)
        return "" if innermost is None else innermost.item_scope()

    def _going_on(self) -> Iterator[Loop]:
        """Give the iterations that have an item in progress, the innermost first."""
        return (loop for loop in reversed(self.stack) if loop.item is not NOTHING)

    def idempotency_key(self, item: object, life: str) -> str:
        """Give what an item, or the run itself, is known by to the rest of the world.

        Raises:
            CheckpointError: If only the item's place in the source could tell it from others.
        """
        self.settle()
        innermost = next(self._going_on(), None)
        if innermost is None:
            parts = ["", "" if item is None else fingerprint(item, "item")]
        else:
            loop = next((each for each in self._going_on() if each.item is item), innermost)
            parts = [f"{loop.scope}{loop.name}", loop.mark_of(item)]
        return digest(*(part.encode() for part in (self.id.name, self.id.key, life, *parts)))

    # What a save writes.

    def goes_alone(self) -> bool:
        """Say whether a step's result is saved without the state: inside items, or if that is."""
        return bool(self.stack) or not self.unsaved

    def capture(self, seconds: float, result: Json = MISSING) -> Change:
        """Put together the save of this moment, the last one if there is a *result*."""
        inner: dict[str, Json] = {}
        for loop in reversed(self.stack):
            self.flush(loop)
            inner = {loop.name: loop.cursor(inner)}
        finished = result is not MISSING
        migrated = self.migrate is None or self._state is not NOTHING
        document = Document(
            code=self.code if migrated else self.document.code,
            state=self._encoded_state(),
            cursors={**self._cursors, **inner},
            seconds=self.document.seconds + seconds,
            items=self.document.items + self._done,
            result=result,
        )
        self._captured, self._captured_state = self.unsaved, document.state
        gone = {*self._drop, *(self.steps.inside() if finished else ())}
        pending = [*self.pending.items()]  # first: whoever writes takes out what is saved
        return Change(
            document=document.sealed(),
            put={number: result for number, result in pending if number not in gone},
            drop=tuple(gone),
            finished=finished,
        )

    def saved(self, change: Change) -> int:
        """Take in that a change is saved; give the number of items that it made last."""
        for number in change.put:
            self.pending.pop(number, None)
        if change.document is None:
            return 0
        self.steps.saved()
        items, self._captured = self._captured, 0
        self.unsaved -= items
        dropped = {*change.drop}
        self._drop = [number for number in self._drop if number not in dropped]
        return items

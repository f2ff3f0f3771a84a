"""`Progress`: how far a run is (state, iterations and steps), and what of that a save captures.

It knows no store, no clock and no context.

State is captured at item boundaries only. This makes a save exact: everything before the boundary
is in the save, and nothing after it. An iteration inside an item of another iteration may save at
its own boundaries only if the outer item had not changed the state before, since the code that
changed it runs again on a resume; otherwise these saves wait for the end of the outer item.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import attrs

from mainstay._checkpoint.archive import Archive
from mainstay._checkpoint.code import Code
from mainstay._checkpoint.codec import Json
from mainstay._checkpoint.document import MISSING, Document
from mainstay._checkpoint.iteration import NOTHING, Iteration, key_function, numbered
from mainstay._checkpoint.state import State
from mainstay._checkpoint.steps import Place, Step, Steps
from mainstay._checkpoint.value_digest import ARGUMENTS, value_digest
from mainstay.errors import CheckpointError, CodeChangedError
from mainstay.stores.base import Change, RunId

I = TypeVar("I", bound=Iteration)  # noqa: E741 - for an iteration


@attrs.define(eq=False)
class Progress:
    """What one attempt at a run has done, on top of what was saved before.

    Attributes:
        run: The run as messages name it: by its component and key.
        code: The version and digest of the function.
        document: The document that was saved before this attempt.
        steps: The steps, saved and new.
        state: The state.
        stack: The iterations that are going on, the outermost first.
        unsaved: The number of items done since the last save.
        out_of_order: True if there were iterations whose items may be done in any order.
    """

    run: RunId
    code: Code
    document: Document
    steps: Steps
    state: State
    stack: list[Iteration] = attrs.field(factory=list, init=False)
    unsaved: int = attrs.field(default=0, init=False)
    out_of_order: bool = attrs.field(init=False)
    _done: int = attrs.field(default=0, init=False)
    _captured: int = attrs.field(default=0, init=False)
    _archive: Archive = attrs.field(init=False)
    _cursors: dict[str, Json] = attrs.field(init=False)
    _names: dict[str, int] = attrs.field(factory=dict, init=False)
    _boundary_state: Json = attrs.field(default=None, init=False)
    _captured_state: Json = attrs.field(default=NOTHING, init=False)

    def __attrs_post_init__(self) -> None:
        self._cursors = dict(self.document.cursors)
        self.out_of_order = self.document.out_of_order
        self._archive = Archive(self.steps)

    # Iterations.

    def begin_iteration(
        self,
        key: Callable[[Any], Any] | None,
        name: str | None,
        *,
        trusted: bool,
        kind: type[I] = Iteration,  # type: ignore[assignment]  # the one that most are
    ) -> I | None:
        """Begin an iteration where it was when it was saved; None if it was left by `break`."""
        self.settle()
        outer = self.stack[-1] if self.stack else None
        if name is not None and any(each.name == name for each in self.stack):
            raise CheckpointError(
                f"{self.run.name}: iteration {name!r} of run {self.run.key!r} is still going on; "
                f"give the second one another `name`"
            )
        around = self._innermost()
        names, scope = (around.names, around.item_scope()) if around else (self._names, "")
        unique = numbered(names, name or "items")
        if outer is not None:
            outer.check_item()
        saved = self._cursors_here().get(unique) or self._place(self.stack).cursors.get(unique)
        if saved and saved["closed"]:
            return None
        done = saved["count"] if saved and trusted else 0
        key_of = key_function(key, unique, done)
        iteration = kind(self.run, unique, key_of, trusted, scope, by_position=key is None)
        if saved:
            iteration.restore(saved)
        state = self.state.encoded()
        if outer is not None:
            outer.dirty = outer.dirty or state != self._state_before(outer)
            outer.used = outer.nests = True
            iteration.waits = outer.waits or outer.dirty
        if not iteration.waits:
            self._boundary_state = state
        self.stack.append(iteration)
        return iteration

    def _state_before(self, outer: Iteration) -> Json:
        """Return the state before the item in progress, where it is known; else NOTHING."""
        if outer.nests or outer.is_at_first_item:
            return self._boundary_state
        return NOTHING if outer.keys or self.unsaved else self._captured_state

    def item_left(self, iteration: Iteration) -> None:
        """Record that an item is done in which something was saved or begun."""
        self._leave_item(iteration)
        if iteration.nests and not iteration.waits:
            self._boundary_state = self.state.encoded()

    def _leave_item(self, iteration: Iteration) -> None:
        self._end_inner(iteration)
        place = self._place(self.stack[:-1])
        self.steps.leave_item(place, iteration.item_label(), iteration.position)
        iteration.leave_item()

    def items_left(self) -> int | None:
        """Return how many items are still to be saved; None where nobody can know.

        Nobody knows how many items there are inside the items to come.
        """
        for outermost in self.stack:
            if not outermost.closed:
                break
        else:
            return self.unsaved
        if outermost.length is None or outermost.nests:
            return None
        done = outermost.done - len(outermost.keys)  # as `unsaved`, at the last boundary
        return self.unsaved + max(0, outermost.length - done)

    def boundary(self, iteration: Iteration) -> None:
        """Record that the item in progress is done, and all before it."""
        self._end_inner(iteration)
        iteration.item = NOTHING
        self._flush(iteration)

    def ended(self, iteration: Iteration) -> None:
        """Record that an iteration has ended, at a boundary."""
        self._pop(iteration)
        if self.stack and not iteration.waits:
            self._boundary_state = self.state.encoded()

    def interrupted(self, iteration: Iteration) -> None:
        """Record that the source of an iteration failed, between two items."""
        if any(each is iteration for each in self.stack):
            self.boundary(iteration)
            self._pop(iteration)

    def abandoned(self, iteration: Iteration) -> None:
        """Record that an iteration could not begin; its cursor stays as it was saved."""
        self.stack.remove(iteration)

    def settle(self) -> None:
        """Record that iterations were left by `break`: their items in progress are done."""
        while self.stack and self.stack[-1].closed:
            iteration = self.stack[-1]
            if iteration.used:
                self._leave_item(iteration)
            iteration.item_done()
            self._flush(iteration)
            self._pop(iteration)
            if self.stack and self.state.is_known:
                self.stack[-1].dirty = True  # the state at the `break` is unknown

    def _end_inner(self, iteration: Iteration) -> None:
        """Record that *iteration* goes on: all iterations inside its item are over.

        Raises:
            CheckpointError: If *iteration* is over itself.
        """
        if self.stack and self.stack[-1] is iteration:
            return
        if not any(each is iteration for each in self.stack):
            raise CheckpointError(
                f"{self.run.name}: iteration {iteration.name!r} of run {self.run.key!r} goes on "
                f"after the one around it; iterations must follow or be inside each other"
            )
        while self.stack[-1] is not iteration:
            self.stack.pop()

    def _flush(self, iteration: Iteration) -> None:
        done = iteration.flush()
        self.unsaved += done
        self._done += done

    def _pop(self, iteration: Iteration) -> None:
        """Take the innermost iteration off the stack, and keep its cursor."""
        self.stack.pop()
        cursor, here = iteration.cursor(), self._cursors_here()
        if self._place(self.stack).cursors.get(iteration.name) == cursor:
            here.pop(iteration.name, None)
        else:
            here[iteration.name] = cursor

    def _cursors_here(self) -> dict[str, Json]:
        return self.stack[-1].inner if self.stack else self._cursors

    def _in_items(self) -> Iterator[Iteration]:
        """Return the iterations that have an item in progress, the innermost first."""
        return (each for each in reversed(self.stack) if each.item is not NOTHING)

    def _innermost(self) -> Iteration | None:
        return next(self._in_items(), None)

    def known_by(self, item: object) -> tuple[str, str]:
        """Return what tells an item in progress from all others of the run.

        Args:
            item: One in progress, or None for the innermost. Outside of items any value.

        Raises:
            CheckpointError: If only the item's place in the source could tell it from others.
        """
        self.settle()
        innermost = self._innermost()
        if innermost is None:
            return "", "" if item is None else value_digest(item, "item", ARGUMENTS)
        around = next((each for each in self._in_items() if each.item is item), innermost)
        return f"{around.scope}{around.name}", around.digest_of_item(item)

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
                self.run.name,
                self.run.key,
                f"step {step.instead!r} is now {step.label!r}",
                "use on_code_change='ignore', which leaves the result of the former alone, or "
                "forget the run",
            )
        return step

    def _place(self, stack: list[Iteration]) -> Place:
        """Return where steps are that begin in the items in progress of *stack*."""
        place = self.steps.outside
        for each in stack:
            if each.item is not NOTHING:
                place = self.steps.enter_item(place, each.item_label(), each.position)
        return place

    @property
    def items_saved(self) -> int:
        """How many items are done and saved, by all attempts."""
        return self.document.items + self._done - self.unsaved

    def _places(self) -> list[tuple[Place, dict[str, Json]]]:
        """Return where iterations are, with the cursors of those that are over there."""
        places = [(self.steps.outside, self._cursors)]
        for depth, each in enumerate(self.stack):
            if each.inner and each.item is not NOTHING:
                places.append((self._place(self.stack[: depth + 1]), each.inner))
        return places

    # What a save writes.

    def capture(self, seconds: float, result: Json = MISSING) -> Change:
        """Return the save of everything at this moment, the last one if there is a *result*.

        Args:
            seconds: How long this attempt has worked.
            result: What the function returned, as JSON.
        """
        self._archive.capture(self._places())
        inner: dict[str, Json] = {}
        for iteration in reversed(self.stack):
            if iteration.keys:
                self._flush(iteration)
            inner = {iteration.name: iteration.cursor(inner)}
        migrated = self.state.migrate is None or self.state.is_known
        document = Document(
            code=self.code if migrated else self.document.code,
            state=self.state.encoded(),
            cursors={**self._cursors, **inner},
            seconds=self.document.seconds + seconds,
            items=self.document.items + self._done,
            result=result,
            out_of_order=self.out_of_order,
        )
        self._captured, self._captured_state = self.unsaved, document.state
        finished = result is not MISSING
        put, drop = self.steps.to_save(finished=finished)
        sealed = document.sealed(with_archive=self.steps.has_cursors)
        return Change(document=sealed, put=put, drop=drop, finished=finished)

    def saved(self, change: Change) -> int:
        """Record that a change is saved; return the number of items that it made last."""
        self.steps.saved(change)
        if change.document is None:
            return 0
        self._archive.saved()
        items, self._captured = self._captured, 0
        self.unsaved -= items
        return items

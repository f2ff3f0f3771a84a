"""What steps come to, as JSON and back: values, and exceptions whose class was registered."""

import weakref
from collections.abc import Callable
from typing import Any

from mainstay._checkpoint.codec import Codec, Json, as_raised, is_raised
from mainstay._checkpoint.document import restored
from mainstay._checkpoint.steps import Step
from mainstay._checkpoint.types import allowed_by, allowed_by_result
from mainstay._core.functions import name_of
from mainstay._core.threads import values_now
from mainstay.errors import UnsaveableValueError
from mainstay.stores.base import RunId


class Results:
    """The results of one attempt's steps.

    Args:
        run: Which run it is.
        allow_pickle: Whether values without an exact form in JSON are pickled.
    """

    __slots__ = ("_allow_pickle", "_raised", "_run")

    def __init__(self, run: RunId, *, allow_pickle: bool) -> None:
        self._run = run
        self._allow_pickle = allow_pickle
        self._raised: dict[int, tuple[int, Callable[[], object]]] = {}

    def encoded(self, step: Step, value: object, fn: Callable[..., Any]) -> Json:
        """Turn the value of a step of *fn* into JSON.

        Raises:
            UnsaveableValueError: If that is not possible.
        """
        codec = Codec(allowed_by_result(fn), self._allow_pickle)
        return codec.encode(value, f"the result of step {step.label!r}")

    def encoded_error(self, error: Exception) -> Json:
        """Turn the exception of a step into JSON; None if it is not to be saved.

        That is where its class was not registered, or its own `args` do not build it.
        """
        allowed = allowed_by()
        if allowed.get(name_of(type(error))) is not type(error):
            return None
        try:
            saved = Codec(allowed).encode(error, "exception")
            Codec(allowed).decode(saved, "exception")
        except UnsaveableValueError:
            return None  # the exception itself matters more
        return as_raised(saved)

    def replay(self, step: Step, fn: Callable[..., Any]) -> Any:
        """Give the saved value of a step of *fn*, or raise the saved exception."""
        codec = Codec(allowed_by_result(fn), self._allow_pickle)
        place = f"the result of step {step.label!r}"
        if not is_raised(step.saved):
            return restored(codec, step.saved, place, self._run)
        error = restored(codec, step.saved["v"], place, self._run)
        self.raised(step.number, error)
        raise error

    def raised(self, number: int | None, error: Exception) -> None:
        """Take in that a result is on its way as an exception; it is not kept alive for that."""
        if number is None:
            return
        get: Callable[[], object]
        try:
            get = weakref.ref(error, lambda _: self._raised.pop(number, None))
        except TypeError:  # one of Python's own classes
            get = lambda: error  # noqa: E731 - in place of a reference
        self._raised[number] = number, get

    def numbers_of(self, error: BaseException | None) -> tuple[int, ...]:
        """Find the saved exceptions that *error* is, so that their steps run again."""
        return tuple(number for number, raised in values_now(self._raised) if raised() is error)

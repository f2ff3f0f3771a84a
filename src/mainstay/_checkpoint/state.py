"""`State`: the object of `cp.state`: the saved value or the default, and how it is restored."""

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from enum import Enum
from typing import Any

import attrs

from mainstay._checkpoint.codec import Codec, Json, plain
from mainstay._checkpoint.document import MISSING, restored
from mainstay._checkpoint.instances import is_frozen
from mainstay._checkpoint.scalars import SCALAR_ENCODERS
from mainstay._checkpoint.types import allowed_by
from mainstay._core.events import is_first, logger_of
from mainstay._core.functions import name_of
from mainstay.errors import CodeChangedError
from mainstay.stores.base import RunId

_UNCHANGEABLE = (*SCALAR_ENCODERS, complex, tuple, frozenset, Enum)
_CONTAINERS = frozenset({dict, list, set, Counter, OrderedDict, defaultdict, deque})


@attrs.define(eq=False)
class State:
    """The state of one attempt at a run.

    Attributes:
        run: The run as messages name it: by its component and key.
        saved: The state that was saved before this attempt, as JSON.
        codec: The codec of the state, without the types that the default will add.
        migrate: The function of `on_code_change`, which migrates saved data; or None.
        is_old: True if other code saved the state, so that `migrate` is called in any case.
        items: The number of items that were done when the state was saved.
    """

    run: RunId
    saved: Json
    codec: Codec
    migrate: Callable[[Any], Any] | None = None
    is_old: bool = False
    items: int = 0
    _value: Any = attrs.field(default=MISSING, init=False)

    @property
    def is_known(self) -> bool:
        """True if somebody has asked for it."""
        return self._value is not MISSING

    def encoded(self) -> Json:
        """Return the present state as JSON; the saved state if `cp.state` was not called.

        Raises:
            UnsaveableValueError: If the state cannot be saved.
        """
        return self.codec.encode(self._value, "state") if self.is_known else self.saved

    def value(self, default: Any) -> Any:
        """Return it: what was saved, or *default*.

        Raises:
            TypeError: If it cannot be changed in place, or `migrate` returned something else.
            UnsaveableValueError: If *default* cannot be saved.
            UnknownTypeError: If a type was saved that may not be built.
            CodeChangedError: If what was saved does not fit.
        """
        if self.is_known:
            return self._value
        if isinstance(default, _UNCHANGEABLE) or is_frozen(default):
            raise TypeError(
                f"`default` must be something that is changed in place, such as an attrs instance "
                f"or a dataclass instance that is not frozen, a dict or a list, not {default!r}"
            )
        codec = self.codec.allowing(allowed_by(default))
        if self.saved is MISSING:
            codec.encode(default, "state")
            value = default
        else:
            value = self._restored(codec, default)
            self._warn_if_rebound(codec, default)
        self.codec, self._value = codec, value
        return value

    def _restored(self, codec: Codec, default: Any) -> Any:
        if self.is_old and self.migrate is not None:
            return self._migrated(self.migrate, default)
        try:
            value = restored(codec, self.saved, "state", self.run, migrates=True)
            if type(value) is not type(default):
                problem = f"a {_kind(value)} was saved, and the default is a {_kind(default)}"
                raise CodeChangedError(self.run.name, self.run.key, f"state: {problem}", _MIGRATE)
        except CodeChangedError:
            if self.migrate is None:
                raise
            return self._migrated(self.migrate, default)
        return value

    def _migrated(self, migrate: Callable[[Any], Any], default: Any) -> Any:
        value = migrate(plain(self.saved, allow_pickle=self.codec.allow_pickle))
        if not isinstance(value, type(default)):
            raise TypeError(
                f"{self.run.name}: the function in `on_code_change` returned a {_kind(value)} for "
                f"a state whose default is a {_kind(default)}"
            )
        return value

    def _warn_if_rebound(self, codec: Codec, default: Any) -> None:
        """Warn once where items are done and a container is still what it began as."""
        if not (self.items and type(default) in _CONTAINERS):
            return
        if codec.encode(default, "state") == self.saved and is_first("rebound", self.run.name):
            logger_of("checkpoint").warning(
                "%s: items are done, and the state has not changed since the beginning; change "
                "the object that cp.state() returned in place: if you bind the name to another "
                "object, that object is not saved", self.run.name
            )  # fmt: skip


_MIGRATE = "give `on_code_change` a function that migrates the state, or forget the run"


def _kind(value: object) -> str:
    return name_of(type(value)).removeprefix("builtins.")

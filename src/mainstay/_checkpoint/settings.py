"""`CheckpointSettings`: the checked parameters of a checkpointed function."""

import functools
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeAlias, get_args

import attrs

from mainstay._checkpoint.codec import Codec
from mainstay._checkpoint.decision import OnBusy, OnCodeChange, OnComplete
from mainstay._checkpoint.schedule import Every, YoungDaly
from mainstay._checkpoint.types import Allowed
from mainstay._core.arguments import (
    LONGEST,
    Duration,
    check_choice,
    to_count,
    to_flag,
    to_seconds,
)
from mainstay._core.events import is_first, logger_of
from mainstay.stores.base import Store

Keep: TypeAlias = int | timedelta | tuple[int, timedelta] | None
Key: TypeAlias = str | Callable[..., str] | None


def _check_every(_settings: object, _field: object, every: Any) -> None:
    if isinstance(every, timedelta):
        to_seconds(every, "every", zero=False)
    elif isinstance(every, int) and not isinstance(every, bool):
        to_count(every, "every")
    elif not isinstance(every, YoungDaly):
        raise TypeError(
            f"`every` must be a number of items (int), a timedelta or young_daly(...), not "
            f"{every!r}"
        )


def _check_text(_settings: object, field: "attrs.Attribute[str]", value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"`{field.name}` must be a str, not {value!r}")


def _check_choice(_settings: object, field: "attrs.Attribute[Any]", value: object) -> None:
    check_choice(value, field.name, get_args(field.type))


def _check_code_change(settings: object, field: "attrs.Attribute[Any]", value: object) -> None:
    if not callable(value):
        words, _ = get_args(field.type)
        _check_choice(settings, field.evolve(type=words), value)


def _check_count(_settings: object, field: "attrs.Attribute[Any]", value: object) -> None:
    if value is not None:
        to_count(value, field.name)


def _check_flag(_settings: object, field: "attrs.Attribute[bool]", value: object) -> None:
    to_flag(value, field.name)


def _lease_seconds(lease: Duration) -> float:
    return min(to_seconds(lease, "lease", zero=False), LONGEST)


def keep_limits(keep: object) -> tuple[int | None, float | None]:
    """Return how many finished runs to keep, and for how many seconds; None for all.

    Raises:
        TypeError: If *keep* is nothing that users may give.
        ValueError: If it is out of its range.
    """
    if keep is None:
        return None, None
    if isinstance(keep, timedelta):
        return None, to_seconds(keep, "keep", zero=False)
    if isinstance(keep, int):
        return to_count(keep, "keep"), None
    match keep:
        case (count, timedelta() as age):
            return to_count(count, "keep"), to_seconds(age, "keep", zero=False)
    raise TypeError(
        f"`keep` must be a number of finished runs (int), their age (timedelta), both as a tuple, "
        f"or None for all, not {keep!r}"
    )


def _check_keep(_settings: object, _field: object, keep: Keep) -> None:
    keep_limits(keep)


@attrs.frozen(eq=False, kw_only=True)
class CheckpointSettings:
    """The parameters of a checkpointed function or block, checked as they are given.

    Attributes:
        lease: In seconds.
        max_crashes: None for no limit.
    """

    store: Store
    every: Every = attrs.field(validator=_check_every)
    version: str = attrs.field(validator=_check_text)
    on_busy: OnBusy = attrs.field(validator=_check_choice)
    on_complete: OnComplete = attrs.field(validator=_check_choice)
    on_code_change: OnCodeChange = attrs.field(validator=_check_code_change)
    lease: float = attrs.field(converter=_lease_seconds)
    max_crashes: int | None = attrs.field(validator=_check_count)
    keep: Keep = attrs.field(validator=_check_keep)
    allow_pickle: bool = attrs.field(validator=_check_flag)

    def codec(self, allowed: Allowed, component: str) -> Codec:
        """Return how values of *component* are saved, of the types that are *allowed*."""
        on_gone = functools.partial(_warn_of_gone, component)
        return Codec(
            allowed,
            self.allow_pickle,
            on_gone=on_gone if self.on_code_change == "ignore" else None,
        )


def _warn_of_gone(component: str, field: str) -> None:
    """Warn, once, that a field was saved that its class has no more."""
    if is_first("gone", component, field):
        logger_of("checkpoint").warning(
            "%s: the saved field %s no longer exists; its value is dropped", component, field
        )

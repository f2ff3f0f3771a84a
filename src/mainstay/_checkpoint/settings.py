"""The parameters of a checkpointed function, checked."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeAlias, get_args

import attrs

from mainstay._checkpoint.decision import OnBusy, OnCodeChange, OnComplete
from mainstay._checkpoint.schedule import Every, YoungDaly
from mainstay._core.arguments import Duration, to_count, to_flag, to_seconds
from mainstay.stores.base import Store

Keep: TypeAlias = int | timedelta | tuple[int, timedelta] | None
Key: TypeAlias = str | Callable[..., str] | None


@attrs.frozen(eq=False, kw_only=True)
class CheckpointSettings:
    """The parameters of a checkpointed function or block, as runs need them.

    Attributes:
        lease: In seconds.
        max_crashes: None for no limit.
        keep_count: How many finished runs of the name to keep; None for all.
        keep_seconds: For how long to keep them; None for ever.
    """

    store: Store
    every: Every
    version: str
    on_busy: OnBusy
    on_complete: OnComplete
    on_code_change: OnCodeChange
    lease: float
    max_crashes: int | None
    keep_count: int | None
    keep_seconds: float | None
    allow_pickle: bool


def checked_settings(
    *,
    store: Store,
    every: object,
    version: object,
    on_busy: object,
    on_complete: object,
    on_code_change: object,
    lease: Duration,
    max_crashes: object,
    keep: object,
    allow_pickle: object,
) -> CheckpointSettings:
    """Check what users give, and refuse it by name.

    Raises:
        TypeError: If a parameter is of the wrong type.
        ValueError: If one is out of its range.
    """
    if not isinstance(version, str):
        raise TypeError(f"`version` must be a str, not {version!r}")
    count, seconds = _checked_keep(keep)
    return CheckpointSettings(
        store=store,
        every=_checked_every(every),
        version=version,
        on_busy=_one_of("on_busy", on_busy, get_args(OnBusy)),
        on_complete=_one_of("on_complete", on_complete, get_args(OnComplete)),
        on_code_change=(
            on_code_change
            if callable(on_code_change)
            else _one_of("on_code_change", on_code_change, ("warn", "raise", "ignore"))
        ),
        lease=to_seconds(lease, "lease", zero=False),
        max_crashes=None if max_crashes is None else to_count(max_crashes, "max_crashes"),
        keep_count=count,
        keep_seconds=seconds,
        allow_pickle=to_flag(allow_pickle, "allow_pickle"),
    )


def _checked_every(every: object) -> Every:
    if isinstance(every, YoungDaly):
        return every
    if isinstance(every, timedelta):
        to_seconds(every, "every", zero=False)
        return every
    if isinstance(every, int) and not isinstance(every, bool):
        return to_count(every, "every")
    raise TypeError(
        f"`every` must be a number of items (int), a timedelta or young_daly(...), not {every!r}"
    )


def _checked_keep(keep: object) -> tuple[int | None, float | None]:
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


def _one_of(parameter: str, value: object, accepted: tuple[str, ...]) -> Any:
    if value not in accepted:
        names = " or ".join(map(repr, accepted))
        raise ValueError(f"`{parameter}` must be {names}, not {value!r}")
    return value

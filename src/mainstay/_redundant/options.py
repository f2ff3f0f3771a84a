"""Checks what users give as parameters of a redundant call."""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, cast

from mainstay._core.budget import RetryBudget, budget_of
from mainstay._core.failures import Classes, judge_of
from mainstay._core.functions import Kind, is_async_hook, kind_of
from mainstay._core.members import Lender
from mainstay.vote import Rule

On: TypeAlias = Classes | Callable[[Exception], object]
"""What users give as `on=`."""


def checked_alternatives(alternatives: object) -> tuple[Callable[..., Any], ...]:
    """Refuse what is not several functions."""
    if callable(alternatives) or not isinstance(alternatives, Iterable):
        raise TypeError(f"`alternatives` must be a list of functions, not {alternatives!r}")
    functions = tuple(alternatives)
    for each in functions:
        if not callable(each):
            raise TypeError(f"`alternatives` must be functions, and {each!r} cannot be called")
    return functions


def checked_copies(copies: object, alternatives: int, lender: Lender | None) -> int:
    """Give the number of copies; refuse what there can never be."""
    most = _checked_number(copies, alternatives)
    if lender is not None:
        check_members(lender, most)
    return most


def check_members(lender: Lender, copies: int) -> None:
    """Refuse more copies than a pool has members at the moment, whatever their health."""
    members = len(lender.members())
    if copies > members:
        raise ValueError(
            f"`copies` must be at most {members}, the number of members of pool "
            f"{lender.name!r}, since each copy gets another one, not {copies}"
        )


def check_blocking(lender: Lender | None, dispose: object, what: str) -> None:
    """Refuse an async pool or `dispose` where nothing can be awaited."""
    if is_async_hook(dispose):
        raise TypeError(
            f"`dispose` is async and {what} is not, so it could never be awaited; make it a "
            f"plain function"
        )
    if lender is not None and lender.is_async:
        raise TypeError(
            f"pool {lender.name!r} is async, since something that it was given is, and {what} "
            f"is not"
        )


def _checked_number(copies: object, alternatives: int) -> int:
    if copies is None:
        return 1 + alternatives if alternatives else 2
    if not isinstance(copies, int) or isinstance(copies, bool):
        raise TypeError(f"`copies` must be a whole number or None, not {copies!r}")
    if copies < 2:  # noqa: PLR2004 - the primary and one more
        raise ValueError(f"`copies` must be at least 2, the primary and one more, not {copies}")
    if alternatives and copies > 1 + alternatives:
        raise ValueError(
            f"`copies` must be at most {1 + alternatives}, the function and its "
            f"`alternatives`, not {copies}"
        )
    return copies


def checked_rule(decide: object, copies: int | None = None) -> Rule:
    """Refuse what is not a rule, or does not fit the number of copies if that is known."""
    tally = getattr(decide, "tally", None)
    if not callable(tally) or isinstance(decide, type):
        raise TypeError(f"`decide` must be a rule such as `vote.majority()`, not {decide!r}")
    try:
        if copies is not None:
            tally(copies)
    except ValueError as error:
        raise ValueError(f"`decide` does not fit `copies`: {error}") from error
    return cast("Rule", decide)


def checked_on(on: On) -> Callable[[Exception], Any]:
    """Check `on=`, which cannot be awaited here."""
    if is_async_hook(on):
        raise TypeError(f"`on` must be a plain function: it is asked between copies, not {on!r}")
    return judge_of(on)


def checked_budget(budget: RetryBudget | float | None, *, together: bool) -> RetryBudget | None:
    """Make a budget of what users give."""
    checked = budget_of(budget)
    # Nothing is charged where all start together: there only a shared budget has to see the calls.
    return None if together and not isinstance(budget, RetryBudget) else checked


def checked_dispose(dispose: object) -> Callable[[Any], Any] | None:
    """Refuse what cannot take a result and be done with it."""
    if dispose is None:
        return None
    if not callable(dispose):
        raise TypeError(f"`dispose` must take a result, not {dispose!r}")
    if kind_of(dispose) in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
        raise TypeError(f"`dispose` must do its work when called, and {dispose!r} is a generator")
    return dispose

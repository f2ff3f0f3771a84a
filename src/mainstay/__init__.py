"""Keeps programs working when what they depend on fails, and proves it in Prometheus.

The names below are all there is; everything else is in `mainstay.errors` and `mainstay.testing`.
They are loaded at first use (PEP 562), so that a program pays for what it uses.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mainstay import hedge, vote
    from mainstay._core.budget import RetryBudget
    from mainstay._core.deadline import deadline, remaining
    from mainstay._core.events import on_event
    from mainstay._metrics.collector import Metrics, default_metrics, set_default_metrics
    from mainstay._redundant.policy import Redundant, cancelled, redundant
    from mainstay._retry.policy import Retry, retry
    from mainstay.errors import (
        AllCopiesFailedError,
        DeadlineExpiredError,
        MainstayError,
        NoDecisionError,
        ResultRefusedError,
        UnsupportedLoopError,
    )

__all__ = [
    "AllCopiesFailedError",
    "DeadlineExpiredError",
    "MainstayError",
    "Metrics",
    "NoDecisionError",
    "Redundant",
    "ResultRefusedError",
    "Retry",
    "RetryBudget",
    "UnsupportedLoopError",
    "cancelled",
    "deadline",
    "default_metrics",
    "hedge",
    "on_event",
    "redundant",
    "remaining",
    "retry",
    "set_default_metrics",
    "vote",
]

_MODULES = {
    "mainstay._core.budget": ("RetryBudget",),
    "mainstay._core.deadline": ("deadline", "remaining"),
    "mainstay._core.events": ("on_event",),
    "mainstay._metrics.collector": ("Metrics", "default_metrics", "set_default_metrics"),
    "mainstay._redundant.policy": ("Redundant", "cancelled", "redundant"),
    "mainstay._retry.policy": ("Retry", "retry"),
    "mainstay.errors": (
        "AllCopiesFailedError",
        "DeadlineExpiredError",
        "MainstayError",
        "NoDecisionError",
        "ResultRefusedError",
        "UnsupportedLoopError",
    ),
}


_SUBMODULES = ("errors", "hedge", "testing", "vote")


def __getattr__(name: str) -> object:
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    for module, names in _MODULES.items():
        if name in names:
            globals()[name] = value = getattr(import_module(module), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_SUBMODULES})

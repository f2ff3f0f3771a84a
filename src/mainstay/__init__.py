"""Keeps programs working when what they depend on fails, and proves it in Prometheus.

The names below are all there is; everything else is in `mainstay.errors` and `mainstay.testing`.
They are loaded at first use (PEP 562), so that a program pays for what it uses.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mainstay._checkpoint.cp import AsyncCheckpoint, Checkpoint
    from mainstay._checkpoint.decision import young_daly
    from mainstay._checkpoint.policy import checkpoint_run, checkpointed
    from mainstay._checkpoint.recovery import Recovered, recover, recover_async
    from mainstay._checkpoint.types import register_type
    from mainstay._core.budget import RetryBudget
    from mainstay._core.deadline import deadline, remaining
    from mainstay._core.events import on_event
    from mainstay._metrics.collector import Metrics, default_metrics, set_default_metrics
    from mainstay._retry.policy import Retry, retry
    from mainstay.errors import (
        CheckpointError,
        CodeChangedError,
        CorruptCheckpointError,
        DeadlineExpiredError,
        LeaseLostError,
        MainstayError,
        PoisonedRunError,
        ResultRefusedError,
        RunBusyError,
        RunCompleteError,
        SourceChangedError,
        StoreSchemaError,
        StoreUnavailableError,
        UnknownTypeError,
        UnsaveableValueError,
        UnsupportedLoopError,
    )
    from mainstay.stores.collector import StoreCollector

__all__ = [
    "AsyncCheckpoint",
    "Checkpoint",
    "CheckpointError",
    "CodeChangedError",
    "CorruptCheckpointError",
    "DeadlineExpiredError",
    "LeaseLostError",
    "MainstayError",
    "Metrics",
    "PoisonedRunError",
    "Recovered",
    "ResultRefusedError",
    "Retry",
    "RetryBudget",
    "RunBusyError",
    "RunCompleteError",
    "SourceChangedError",
    "StoreCollector",
    "StoreSchemaError",
    "StoreUnavailableError",
    "UnknownTypeError",
    "UnsaveableValueError",
    "UnsupportedLoopError",
    "checkpoint_run",
    "checkpointed",
    "deadline",
    "default_metrics",
    "on_event",
    "recover",
    "recover_async",
    "register_type",
    "remaining",
    "retry",
    "set_default_metrics",
    "young_daly",
]

_MODULES = {
    "mainstay._checkpoint.cp": ("AsyncCheckpoint", "Checkpoint"),
    "mainstay._checkpoint.decision": ("young_daly",),
    "mainstay._checkpoint.policy": ("checkpoint_run", "checkpointed"),
    "mainstay._checkpoint.recovery": ("Recovered", "recover", "recover_async"),
    "mainstay._checkpoint.types": ("register_type",),
    "mainstay._core.budget": ("RetryBudget",),
    "mainstay._core.deadline": ("deadline", "remaining"),
    "mainstay._core.events": ("on_event",),
    "mainstay._metrics.collector": ("Metrics", "default_metrics", "set_default_metrics"),
    "mainstay._retry.policy": ("Retry", "retry"),
    "mainstay.errors": (
        "CheckpointError",
        "CodeChangedError",
        "CorruptCheckpointError",
        "DeadlineExpiredError",
        "LeaseLostError",
        "MainstayError",
        "PoisonedRunError",
        "ResultRefusedError",
        "RunBusyError",
        "RunCompleteError",
        "SourceChangedError",
        "StoreSchemaError",
        "StoreUnavailableError",
        "UnknownTypeError",
        "UnsaveableValueError",
        "UnsupportedLoopError",
    ),
    "mainstay.stores.collector": ("StoreCollector",),
}


_SUBMODULES = ("errors", "stores", "testing")


def __getattr__(name: str) -> object:
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    for module, names in _MODULES.items():
        if name in names:
            globals()[name] = value = getattr(import_module(module), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_SUBMODULES]

"""Keeps programs working when what they depend on fails, and proves it in Prometheus.

The names below are for daily use. Events are in `mainstay.events`, all errors in `mainstay.errors`,
what is only named in annotations in `mainstay.types`, and what belongs to one task in a module of
its own, such as `mainstay.stores`, `mainstay.integrations` and `mainstay.testing`.
They are loaded at first use (PEP 562), so that a program pays for what it uses.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mainstay import hedge, ops, vote
    from mainstay._breaker.policy import CircuitBreaker
    from mainstay._checkpoint.block import checkpoint_run
    from mainstay._checkpoint.cp import AsyncCheckpoint, Checkpoint
    from mainstay._checkpoint.interruption import interrupt_all
    from mainstay._checkpoint.policy import checkpointed
    from mainstay._checkpoint.recovery import Recovered, recover, recover_async
    from mainstay._checkpoint.schedule import young_daly
    from mainstay._checkpoint.types import register_type
    from mainstay._core.budget import RetryBudget
    from mainstay._core.deadline import deadline, remaining
    from mainstay._core.detector import Detect
    from mainstay._core.events import on_event
    from mainstay._core.failures import Verdict
    from mainstay._failover.options import Failback, Member, Probe
    from mainstay._failover.pool import FailoverPool, current_lease, failover
    from mainstay._failover.selection import Selector
    from mainstay._health import drain, health
    from mainstay._limits.adaptive import Adaptive
    from mainstay._limits.bulkhead import Bulkhead
    from mainstay._limits.fallback import fallback
    from mainstay._limits.priority import priority
    from mainstay._limits.rate_limit import RateLimit
    from mainstay._limits.timeout import timeout
    from mainstay._metrics.collector import Metrics, default_metrics, set_default_metrics
    from mainstay._pipeline.explain import explain
    from mainstay._pipeline.policy import pipeline
    from mainstay._redundant.policy import Redundant, cancelled, redundant
    from mainstay._retry.policy import Retry, retry
    from mainstay._transient.policy import transient
    from mainstay._wire import deadline_from, deadline_headers
    from mainstay.availability import Availability
    from mainstay.errors import (
        AllCopiesFailedError,
        AllMembersFailedError,
        BulkheadFullError,
        CheckpointError,
        CircuitOpenError,
        CodeChangedError,
        CorruptCheckpointError,
        DeadlineExpiredError,
        LeaseLostError,
        MainstayError,
        NoDecisionError,
        NoMemberError,
        PoisonedRunError,
        RateLimitedError,
        RejectedError,
        ResultRefusedError,
        RunBusyError,
        RunCompleteError,
        RunInterruptedError,
        SourceChangedError,
        StoreSchemaError,
        StoreUnavailableError,
        TimedOutError,
        UnknownTypeError,
        UnsaveableValueError,
        UnsupportedLoopError,
    )
    from mainstay.host import HostCollector
    from mainstay.stores.collector import StoreCollector

    __version__: str

__all__ = [
    "Adaptive",
    "AllCopiesFailedError",
    "AllMembersFailedError",
    "AsyncCheckpoint",
    "Availability",
    "Bulkhead",
    "BulkheadFullError",
    "Checkpoint",
    "CheckpointError",
    "CircuitBreaker",
    "CircuitOpenError",
    "CodeChangedError",
    "CorruptCheckpointError",
    "DeadlineExpiredError",
    "Detect",
    "Failback",
    "FailoverPool",
    "HostCollector",
    "LeaseLostError",
    "MainstayError",
    "Member",
    "Metrics",
    "NoDecisionError",
    "NoMemberError",
    "PoisonedRunError",
    "Probe",
    "RateLimit",
    "RateLimitedError",
    "Recovered",
    "Redundant",
    "RejectedError",
    "ResultRefusedError",
    "Retry",
    "RetryBudget",
    "RunBusyError",
    "RunCompleteError",
    "RunInterruptedError",
    "Selector",
    "SourceChangedError",
    "StoreCollector",
    "StoreSchemaError",
    "StoreUnavailableError",
    "TimedOutError",
    "UnknownTypeError",
    "UnsaveableValueError",
    "UnsupportedLoopError",
    "Verdict",
    "cancelled",
    "checkpoint_run",
    "checkpointed",
    "current_lease",
    "deadline",
    "deadline_from",
    "deadline_headers",
    "default_metrics",
    "drain",
    "explain",
    "failover",
    "fallback",
    "health",
    "hedge",
    "interrupt_all",
    "on_event",
    "ops",
    "pipeline",
    "priority",
    "recover",
    "recover_async",
    "redundant",
    "register_type",
    "remaining",
    "retry",
    "set_default_metrics",
    "timeout",
    "transient",
    "vote",
    "young_daly",
]

_MODULES = {
    "mainstay._checkpoint.block": ("checkpoint_run",),
    "mainstay._checkpoint.cp": ("AsyncCheckpoint", "Checkpoint"),
    "mainstay._checkpoint.schedule": ("young_daly",),
    "mainstay._checkpoint.interruption": ("interrupt_all",),
    "mainstay._checkpoint.policy": ("checkpointed",),
    "mainstay._checkpoint.recovery": ("Recovered", "recover", "recover_async"),
    "mainstay._checkpoint.types": ("register_type",),
    "mainstay._core.budget": ("RetryBudget",),
    "mainstay._core.deadline": ("deadline", "remaining"),
    "mainstay._core.events": ("on_event",),
    "mainstay._breaker.policy": ("CircuitBreaker",),
    "mainstay._core.detector": ("Detect",),
    "mainstay._core.failures": ("Verdict",),
    "mainstay._failover.options": ("Failback", "Member", "Probe"),
    "mainstay._failover.pool": ("FailoverPool", "current_lease", "failover"),
    "mainstay._failover.selection": ("Selector",),
    "mainstay._health": ("drain", "health"),
    "mainstay._limits.fallback": ("fallback",),
    "mainstay._limits.timeout": ("timeout",),
    "mainstay._limits.adaptive": ("Adaptive",),
    "mainstay._limits.bulkhead": ("Bulkhead",),
    "mainstay._limits.priority": ("priority",),
    "mainstay._metrics.collector": ("Metrics", "default_metrics", "set_default_metrics"),
    "mainstay._limits.rate_limit": ("RateLimit",),
    "mainstay._pipeline.explain": ("explain",),
    "mainstay._pipeline.policy": ("pipeline",),
    "mainstay._redundant.policy": ("Redundant", "cancelled", "redundant"),
    "mainstay._retry.policy": ("Retry", "retry"),
    "mainstay._transient.policy": ("transient",),
    "mainstay._wire": ("deadline_from", "deadline_headers"),
    "mainstay.availability": ("Availability",),
    "mainstay.host": ("HostCollector",),
    "mainstay.errors": (
        "AllCopiesFailedError",
        "AllMembersFailedError",
        "BulkheadFullError",
        "CheckpointError",
        "CircuitOpenError",
        "CodeChangedError",
        "CorruptCheckpointError",
        "DeadlineExpiredError",
        "LeaseLostError",
        "MainstayError",
        "NoDecisionError",
        "NoMemberError",
        "PoisonedRunError",
        "RateLimitedError",
        "RejectedError",
        "ResultRefusedError",
        "RunBusyError",
        "RunCompleteError",
        "RunInterruptedError",
        "SourceChangedError",
        "StoreSchemaError",
        "StoreUnavailableError",
        "TimedOutError",
        "UnknownTypeError",
        "UnsaveableValueError",
        "UnsupportedLoopError",
    ),
    "mainstay.stores.collector": ("StoreCollector",),
}


_SUBMODULES = ("errors", "events", "hedge", "ops", "stores", "testing", "types", "vote")


def __getattr__(name: str) -> object:
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    if name == "__version__":
        from mainstay._core.version import VERSION  # noqa: PLC0415 - loaded at first use, as all

        return VERSION
    for module, names in _MODULES.items():
        if name in names:
            globals()[name] = value = getattr(import_module(module), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_SUBMODULES})

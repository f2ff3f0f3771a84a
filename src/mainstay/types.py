"""The public classes that users get, or name in annotations, and never make themselves."""

from mainstay._checkpoint.policy import CheckpointedFunction
from mainstay._checkpoint.recovery import Recovered
from mainstay._checkpoint.schedule import YoungDaly
from mainstay._core.dependability import DependabilityFigures
from mainstay._failover.blocks import PoolAttempt
from mainstay._failover.members import Lease
from mainstay._failover.monitor import MemberStatus, PoolStatus
from mainstay._health import ComponentHealth
from mainstay._limits.fallback import Fallback
from mainstay._limits.timeout import Timeout
from mainstay._pipeline.advice import LayerWarning
from mainstay._pipeline.explain import Explanation
from mainstay._pipeline.policy import Pipeline
from mainstay._redundant.race import AsyncRace, Race
from mainstay._retry.blocks import Attempt
from mainstay._transient.policy import Transient

__all__ = [
    "AsyncRace",
    "Attempt",
    "CheckpointedFunction",
    "ComponentHealth",
    "DependabilityFigures",
    "Explanation",
    "Fallback",
    "LayerWarning",
    "Lease",
    "MemberStatus",
    "Pipeline",
    "PoolAttempt",
    "PoolStatus",
    "Race",
    "Recovered",
    "Timeout",
    "Transient",
    "YoungDaly",
]

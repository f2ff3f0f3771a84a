"""What decorators and blocks have in common: a policy bound to the name of what it wraps."""

from collections.abc import Callable
from typing import Any

import attrs

from mainstay._checkpoint import sessions
from mainstay._checkpoint.codec import Codec
from mainstay._checkpoint.decision import Code
from mainstay._checkpoint.rules import Rules
from mainstay._checkpoint.run import Run
from mainstay._checkpoint.types import allowed_by, allowed_by_result
from mainstay._core.context import current_context
from mainstay._metrics.collector import Metrics, recorders_of
from mainstay.stores.base import RunId


@attrs.frozen(eq=False)
class Bound:
    """A policy bound to the name and code of what it wraps."""

    rules: Rules
    metrics: Metrics
    name: str
    code: Code
    fn: Callable[..., Any] | None = None

    def begin(self, key: str, arguments: bytes | None = None) -> Run:
        """Begin a call in its context.

        Raises:
            DeadlineExpiredError: If the surrounding deadline leaves no time.
        """
        context = current_context()
        metrics: Metrics = context.metrics if context.metrics is not None else self.metrics
        recorder = recorders_of(metrics).checkpoint(self.name)
        run = Run(self.rules, recorder, context, RunId(self.name, key), self.code, arguments)
        if context.left() <= 0:
            raise sessions.expired(run)
        return run

    def codec(self) -> Codec:
        """Give the codec of the result, by the annotations as they are now: none of a block."""
        allowed = allowed_by() if self.fn is None else allowed_by_result(self.fn)
        return Codec(allowed, self.rules.allow_pickle)

"""`RateEngine`: what the calls of a rate limit share: its turns, its store and its recorder."""

from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

from mainstay._core.events import is_first, logger_of
from mainstay._core.sharing import reset_with_all
from mainstay._core.words import class_name, in_words
from mainstay._limits.gcra import Gcra
from mainstay._limits.turns import Turns
from mainstay._metrics.collector import Metrics, recorders_of
from mainstay._metrics.recorder import Recorder
from mainstay.errors import RateLimitedError

if TYPE_CHECKING:
    from mainstay._limits.shared_turns import SharedTurns

POLICY = "rate_limit"

StoreErrorAction: TypeAlias = Literal["local", "allow", "deny"]

_ACTIONS: dict[StoreErrorAction, str] = {
    "local": "each process keeps to the limit by itself",
    "allow": "calls go through unlimited",
    "deny": "calls are refused",
}


@attrs.define(eq=False)
class RateEngine:
    """What all calls of one rate limit share.

    Attributes:
        name: The name of the rate limit.
        rate: The number of turns that come in `per`.
        per: Seconds.
        burst: The largest number of unused turns that are saved up.
        max_wait: The longest wait of a call for its turn, in seconds.
        shared: The turns that many processes share, or None.
        on_store_error: What happens to a call whose turn the store cannot give.
        metrics: Where the rate limit records.
        recorder: Records its calls.
        turns: The turns of this process.
    """

    name: str
    rate: float
    per: float
    burst: float
    max_wait: float
    shared: "SharedTurns | None"
    on_store_error: StoreErrorAction
    metrics: Metrics
    recorder: Recorder = attrs.field(init=False)
    turns: Turns = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.recorder = recorders_of(self.metrics).calls(self.name, POLICY)
        if self.shared is not None:
            recorders_of(self.metrics).rate_store(self.name)  # so that it starts at 0
        self.reset()
        reset_with_all(self, RateEngine.reset)

    def reset(self) -> None:
        """Begin again with no turn taken; calls that wait for old turns go on waiting."""
        self.turns = Turns(self.name, Gcra(self.rate, self.per, self.burst))

    def store_failed(self, metrics: Metrics | None, error: Exception) -> bool:
        """Record that the store could not be asked; return True if this process decides.

        Raises:
            RateLimitedError: If nothing is let through then.
        """
        action = self.on_store_error
        recorders_of(metrics or self.metrics).rate_store(self.name).failed(action)
        if is_first(POLICY, self.name, "store", class_name(error)):
            text = "%s: the store of the shared rate limit failed with %s; %s"
            logger_of(POLICY).warning(text, self.name, in_words(error), _ACTIONS[action])
        if action == "deny":
            raise RateLimitedError(self.name, None) from error
        return action == "local"

"""`Detector`: decides when a member of a pool, or the service behind a breaker, fails too much.

It decides and never acts; the engines of pools and breakers act on its answers.

    phase      what happens                            then
    WELL       success                                 its score falls by 1, its run ends
    WELL       failure, or an answer later than slow   the score rises by `gain`, the run by 1
    WELL       ... `consecutive` in a run,
               or a score of `threshold`              THRESHOLD_CROSSED: `eject`, or `keep_failing`
    FAILING    `consecutive` successes in a run        WELL_AGAIN, with a head start
    FAILING    failure                                 THRESHOLD_CROSSED, again
    EJECTED    `begin_trial`, once its time is over    TRIAL, a new generation
    TRIAL      success, of `trials` the last           READMITTED: WELL, with a head start
    TRIAL      success                                 TRIAL_PASSED: EJECTED, the next is due now
    TRIAL      failure                                 TRIAL_FAILED: EJECTED, for longer
    WELL       cancelled after too long a silence      the run of too-late answers rises by 1
    TRIAL      cancelled after too long a silence      TRIAL_FAILED: EJECTED, for longer
    TRIAL      `release`: cancelled, or unknown        EJECTED, the next trial is due at once
    TRIAL      no answer within the lease              EJECTED, for longer; its answer still counts
                                                       until the next trial begins
    any        a result of an earlier generation       nothing

1. Each ejection and each trial begins a generation, and each result belongs to one. So an outage
   is one strike, however many calls were on their way when it began.
2. The score is a CUSUM on whole numbers: `gain` follows from the error rates that are `normal` and
   `bad` (see `gain_for`). Answers that are too late have a score of their own.
3. A head start is a score of `threshold` - 1: the next failure ejects again, and only that many
   successes without one make up for the past.
4. The ejection of level n lasts between half and the whole of `eject_for` x 2^n seconds, at most
   `max_eject`. The level rises with each ejection and failed trial, and falls by one for every
   `DECAY` seconds in rotation, never because of a success. A trial before its time that fails
   leaves it as it is.
5. A trial is one call under a lease as long as the ejection before it was. `trials` of them have
   to succeed, one after the other; after one that fails, or has no answer in time, the count
   begins again.
6. A cancelled attempt says something only if the member has been silent for too long (`silence`);
   then it adds to the run of too-late answers, and not to their score. An answer in time ends run
   and silence, one that is too late and an error end the silence. The silence goes on through
   ejections and trials.

Source:
    E. S. Page, "Continuous Inspection Schemes", Biometrika 41, 1954 (CUSUM); J. M. Lucas and
    R. B. Crosier, "Fast Initial Response for CUSUM Quality-Control Schemes", Technometrics 24,
    1982 (head start); "Equal Jitter" in Marc Brooker, "Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015.
"""

import enum
import math
from typing import Literal

import attrs

from mainstay._core.arguments import Duration, to_count, to_number, to_seconds
from mainstay._core.events import Cause
from mainstay._core.misuse import shows_use
from mainstay._core.silence import Silence

DECAY = 30.0
_FAILURES_TO_THRESHOLD = 6
_MOST_DOUBLINGS = 60  # more than any `max_eject` needs; only to stay within a float


class Phase(enum.Enum):
    """Where a member stands."""

    WELL = "well"
    FAILING = "failing"
    EJECTED = "ejected"
    TRIAL = "trial"


class HealthChange(enum.Enum):
    """What a result has changed."""

    THRESHOLD_CROSSED = "it has failed too much: eject it, or keep it in rotation"
    READMITTED = "a trial succeeded"
    TRIAL_PASSED = "a trial succeeded, and more have to"
    TRIAL_FAILED = "a trial failed"
    WELL_AGAIN = "it was failing, and is well"


def gain_for(normal: float, bad: float) -> int:
    """Return how many successes make up for one failure: log-likelihood steps, rounded.

    Args:
        normal: The share of calls that fail when all is well.
        bad: The share that is to be detected.
    """
    failure = math.log(bad / normal)
    success = math.log((1 - normal) / (1 - bad))
    return max(1, round(failure / success))


@attrs.frozen(init=False)
class Detect:
    """When a member or service has failed too much, and for how long it then gets no calls.

    A member is ejected after *consecutive* failures in a row, or when the share of its failures is
    too large: each failure adds points to a score, each success takes one point off, and at
    *threshold* points the member is ejected. *normal* and *bad* decide how many points a failure
    adds. With the defaults a failure adds 14 points, and the threshold is 84: a member that fails
    15 % of its calls is ejected after 66 calls on average; a member that fails 1 % is ejected by
    mistake less than once in ten days, at 50 calls a second. The score is made to detect shares of
    10 % and more.

    For a breaker, "ejected" means that the breaker opens.

    Args:
        consecutive: The number of failures in a row that ejects a member, at least 1.
        normal: The share of calls that may fail while all is well, above 0 and below *bad*.
        bad: The share of failures to detect, above *normal* and below 1.
        threshold: The score that ejects a member, at least 1; None for the score of six failures.
        slow: The time after which an answer is too late: seconds or a `timedelta`, above 0. Late
            answers are measured by the same rules as failures, with a score of their own. A call
            that its caller cancels after that time counts as a late answer, too. None for no limit
            on answers; then a cancelled call counts if it lasted longer than each of the last 100
            answers, and longer than 0.1 s. Set *slow* if callers cancel sooner than good answers
            take. Infinity to count neither late answers nor cancelled calls.
        eject_for: The length of the first ejection: seconds or a `timedelta`, above 0. The actual
            length is random, between half of this and this; each further ejection in a row is
            twice as long.
        max_eject: The longest ejection: seconds or a `timedelta`, at least *eject_for*.
        trials: The number of trials that must succeed in a row before the member is well again,
            at least 1. In a pool with a probe, the probe readmits members, and trials do not.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If it is out of its range.

    Source:
        E. S. Page, "Continuous Inspection Schemes", Biometrika 41, 1954.

    Example:
        >>> from mainstay import Detect
        >>> Detect(normal=0.02, bad=0.15).threshold
        84
    """

    consecutive: int
    normal: float
    bad: float
    threshold: int
    slow: float | None
    eject_for: float
    max_eject: float
    trials: int

    @shows_use(
        "Detect(consecutive=5), with further parameters by name",
        elsewhere={
            "failures": "`consecutive=`",
            "failure_threshold": "`consecutive=`",
            "consecutive_failures": "`consecutive=`",
            "success_threshold": "`trials=`",
            "reset_timeout": "`eject_for=`",
            "recovery_timeout": "`eject_for=`",
            "base_ejection_time": "`eject_for=`",
            "max_ejection_time": "`max_eject=`",
            "slow_call_duration_threshold": "`slow=`",
        },
    )
    def __init__(
        self,
        *,
        consecutive: int = 4,
        normal: float = 0.02,
        bad: float = 0.15,
        threshold: int | None = None,
        slow: Duration | None = None,
        eject_for: Duration = 5.0,
        max_eject: Duration = 300.0,
        trials: int = 1,
    ) -> None:
        normal = to_number(normal, "normal", zero=False)
        bad = to_number(bad, "bad", zero=False)
        if not normal < bad < 1:
            raise ValueError(
                f"`normal` and `bad` must be shares with 0 < normal < bad < 1, "
                f"not {normal!r} and {bad!r}"
            )
        if threshold is None:
            threshold = gain_for(normal, bad) * _FAILURES_TO_THRESHOLD
        shortest = to_seconds(eject_for, "eject_for", zero=False)
        longest = to_seconds(max_eject, "max_eject", zero=False)
        if longest < shortest:
            raise ValueError(f"`max_eject` must be at least `eject_for`, not {max_eject!r}")
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue]  # by attrs
            to_count(consecutive, "consecutive"),
            normal,
            bad,
            to_count(threshold, "threshold"),
            _checked_slow(slow),
            shortest,
            longest,
            to_count(trials, "trials"),
        )


def _checked_slow(slow: Duration | None) -> float | None:
    if slow is None or (isinstance(slow, float) and slow == math.inf):
        return slow
    return to_seconds(slow, "slow", zero=False)


@attrs.define
class _Evidence:
    """One kind of bad answers: how many in a row, and the score."""

    run: int = 0
    score: int = 0

    def add_bad(self, gain: int, detect: Detect) -> Literal["consecutive", "rate"] | None:
        """Add a bad answer; return the rule that is now broken, or None."""
        self.run += 1
        self.score = min(self.score + gain, detect.threshold)
        if self.run >= detect.consecutive:
            return "consecutive"
        return "rate" if self.score >= detect.threshold else None

    def add_late(self, detect: Detect) -> Literal["consecutive"] | None:
        """Add one to the run only; return the rule that is now broken, or None."""
        self.run += 1
        return "consecutive" if self.run >= detect.consecutive else None

    def add_good(self) -> None:
        """Add a good answer."""
        self.run = 0
        self.score = max(0, self.score - 1)


@attrs.define(eq=False)
class Detector:
    """The health of one member. Times are seconds of any one clock, given by the caller.

    Attributes:
        detect: The settings.
        phase: The present phase.
        generation: The present generation; results of others do not count.
        cause: Why the member is ejected or failing; if it is well, the cause of the last time.
        until: The end of the ejection, or of the lease of the trial.
        level: The level of the next ejection; each level doubles its length.
        since: Since when the member is in rotation; after a readmission possibly in the future.
        failing_since: When the first of the failures that led to the present phase happened; None
            without failures.
        ejected_at: When the member was ejected; None while it is not ejected.
        outage: The seconds from the last ejection to its readmission.
        passed: The number of trials that have succeeded in a row.
        gain: The points that a failure adds to the score.
        too_slow: Seconds beyond which an answer is too late; infinity for no such limit.

    Threads read the clock before they get the lock under which a detector changes, so a reading may
    be older than the last one. Within an outage, from the first failure to the readmission, such a
    reading counts as the newest one, so that no ejection or lease ends too early.
    """

    detect: Detect
    phase: Phase = Phase.WELL
    generation: int = 0
    cause: Cause = "consecutive"
    until: float = -math.inf
    level: int = 0
    since: float = 0.0
    failing_since: float | None = None
    ejected_at: float | None = None
    outage: float = 0.0
    passed: int = 0
    gain: int = 0
    too_slow: float = math.inf
    _newest: float = -math.inf
    _span: float = 0.0
    _good: int = 0
    _failures: _Evidence = attrs.field(factory=_Evidence)
    _delays: _Evidence = attrs.field(factory=_Evidence)
    _silence: Silence = attrs.field(factory=Silence)

    def __attrs_post_init__(self) -> None:
        self.gain = gain_for(self.detect.normal, self.detect.bad)
        self.too_slow = math.inf if self.detect.slow is None else self.detect.slow

    @property
    def pristine(self) -> bool:
        """True if another success would change nothing."""
        return (
            self.phase is Phase.WELL
            and not self._silence
            and self._failures.score == self._failures.run == 0
            and self._delays.score == self._delays.run == 0
        )

    @property
    def failures(self) -> int:
        """How many failures there were in a row."""
        return self._failures.run

    @property
    def score(self) -> int:
        """The score of failures, from 0 to `detect.threshold`."""
        return self._failures.score

    @property
    def silence(self) -> float:
        """The seconds for which it has been called without an answer, as far as is known."""
        return self._silence.seconds

    def _at(self, now: float) -> float:
        """Return *now*, or the newest reading of this outage."""
        calm = self.phase is Phase.WELL and self.failing_since is None
        self._newest = now if calm else max(self._newest, now)
        return self._newest

    def may_be_tried(self, now: float) -> bool:
        """True if a call may be the trial of the member now.

        A failing member that continues to serve is left alone for the time of a first ejection.
        """
        if self.phase is Phase.FAILING:
            return now >= self._newest + self.detect.eject_for
        return now >= self.until

    # Results of calls.

    def heard(self) -> None:
        """Record that the member has answered, whether the answer was right or not."""
        self._silence.end()

    def succeeded(
        self, generation: int, now: float, chance: float = 1.0, *, slow: bool = False
    ) -> HealthChange | None:
        """Record an answer; *slow* says that it came too late."""
        self._silence.end()
        if generation != self.generation:
            return None
        now = self._at(now)
        if self.phase in (Phase.TRIAL, Phase.EJECTED):
            if slow:
                return self.failed(generation, now, chance)
            return self._pass_trial(now)
        self._failures.add_good()
        if slow:
            return self._add_bad(self._delays, "slow", now)
        self._delays.add_good()
        if self._failures.score == self._delays.score == 0:
            self.failing_since = None
        if self.phase is Phase.FAILING:
            self._good += 1
            if self._good >= self.detect.consecutive:
                self.readmit(now)
                return HealthChange.WELL_AGAIN
        return None

    def failed(self, generation: int, now: float, chance: float) -> HealthChange | None:
        """Record a failure; *chance* is a random number from 0 to 1."""
        self._silence.end()
        if generation != self.generation:
            return None
        now = self._at(now)
        if self.phase is Phase.EJECTED:
            return None
        if self.phase is Phase.TRIAL:
            self.lengthen(now, chance)
            return HealthChange.TRIAL_FAILED
        return self._add_bad(self._failures, None, now)

    def dissented(self, generation: int, now: float, chance: float) -> HealthChange | None:
        """Record an answer that was outvoted: a failure with a cause of its own."""
        change = self.failed(generation, now, chance)
        if change is HealthChange.THRESHOLD_CROSSED:
            self.cause = "dissent"
        return change

    def cancelled(
        self, generation: int, began: float, now: float, chance: float, *, longest: float
    ) -> HealthChange | None:
        """Record that an attempt was cancelled; *longest* is the silence that is still normal."""
        too_long = self._silence.add(began, now) > longest
        if generation != self.generation or self.phase is Phase.EJECTED or not too_long:
            return None
        if self.phase is Phase.TRIAL:
            self.lengthen(now, chance)
            return HealthChange.TRIAL_FAILED
        if not self._silence.counts(began, now, longest):
            return None
        return self._crossed(self._delays.add_late(self.detect), "slow", self._at(now))

    def _pass_trial(self, now: float) -> HealthChange:
        self.passed += 1
        if self.passed < self.detect.trials:
            self.phase = Phase.EJECTED
            self.until = now
            return HealthChange.TRIAL_PASSED
        self.readmit(now)
        return HealthChange.READMITTED

    def _add_bad(self, evidence: _Evidence, name: Cause | None, now: float) -> HealthChange | None:
        return self._crossed(evidence.add_bad(self.gain, self.detect), name, now)

    def _crossed(
        self, rule: Literal["consecutive", "rate"] | None, name: Cause | None, now: float
    ) -> HealthChange | None:
        """Return the change that a bad answer makes which has broken *rule*, if any."""
        if self.failing_since is None:
            self.failing_since = now
        self._good = 0
        if rule is None and self.phase is Phase.WELL:
            return None
        self.cause = name or rule or self.cause
        return HealthChange.THRESHOLD_CROSSED

    # What follows from them.

    def eject(self, cause: Cause, now: float, chance: float) -> float:
        """Eject the member from rotation; return the seconds since its failures began."""
        now = self._at(now)
        in_rotation = max(0.0, now - self.since)
        self.level = max(0, self.level - int(in_rotation / DECAY))
        began = now if self.failing_since is None else self.failing_since
        self.cause = cause
        self.failing_since = None
        self.ejected_at = now
        self.generation += 1
        self.lengthen(now, chance)
        return max(0.0, now - began)  # another thread may have read the clock later, and come first

    def keep_failing(self, cause: Cause) -> None:
        """Keep the member in rotation although it fails, since there is no other."""
        self.cause = cause
        self.phase = Phase.FAILING
        self._good = 0

    def trial_due(self, now: float) -> bool:
        """True if a trial may begin."""
        return self.phase is Phase.EJECTED and now >= self.until

    def begin_trial(self, now: float) -> None:
        """Begin a trial; one before its time, for want of a better member, raises no level."""
        now = self._at(now)
        if now < self.until:
            self.level -= 1
        self.generation += 1
        self.phase = Phase.TRIAL
        self.until = now + self._span

    def release(self, generation: int, now: float) -> bool:
        """End a trial without a result; return True if there was one."""
        if generation != self.generation or self.phase is not Phase.TRIAL:
            return False
        self.phase = Phase.EJECTED
        self.until = self._at(now)
        return True

    def expire(self, now: float, chance: float) -> bool:
        """End a trial whose lease is over; return True if there was one."""
        if self.phase is not Phase.TRIAL or now < self.until:
            return False
        self.lengthen(self.until, chance)
        return True

    def readmit(self, now: float) -> None:
        """Put the member back into rotation, with a head start towards the next ejection."""
        now = self._at(now)
        head_start = self.detect.threshold - 1
        self._failures = _Evidence(score=head_start)
        self._delays = _Evidence(score=head_start if self.cause == "slow" else 0)
        self.outage = 0.0 if self.ejected_at is None else max(0.0, now - self.ejected_at)
        self.phase = Phase.WELL
        self.since = now
        self.failing_since = None
        self.ejected_at = None
        self._newest = -math.inf
        self.passed = 0

    def lengthen(self, now: float, chance: float) -> None:
        """Begin an ejection of the next level: at an ejection, and at a failed trial."""
        now = self._at(now)
        doublings = min(self.level, _MOST_DOUBLINGS)
        self._span = min(self.detect.max_eject, self.detect.eject_for * 2.0**doublings)
        self.level += 1
        self.passed = 0
        self.phase = Phase.EJECTED
        self.until = now + self._span * (1 + chance) / 2

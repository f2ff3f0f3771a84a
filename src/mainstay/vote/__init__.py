"""Which answer to accept: the `decide=` of a redundant call.

A `Rule` knows no call. For each call it makes a `Tally`, which is told of every copy that ended
and tells whether the vote is settled:

    undecided     it depends on copies that have not ended
    decided       no copy that has not ended can change it any more
    impossible    no copy that has not ended can bring it about any more

The first of the last two ends the call. Nothing here acts, waits or knows the time: answers are
compared where the caller waits, and no timeout interrupts an ``==`` or a `key` that hangs.

A rule of one's own is any object with `tally(copies)`, whose tallies have what `Tally` has.

Example:
    >>> from mainstay import redundant, vote
    >>> policy = redundant(copies=3, decide=vote.majority())
    >>> policy.call(str.upper, "ok")
    'OK'
"""

from mainstay._core.arguments import to_count
from mainstay._core.functions import Kind, kind_of, name_of
from mainstay.vote._agreement import First, Majority, Plurality, Quorum, Unanimous
from mainstay.vote._median import Median
from mainstay.vote._tally import Key, Rule, Tally
from mainstay.vote._tally import State as State  # what the methods of a user's tally return

__all__ = [
    "Rule",
    "Tally",
    "first",
    "majority",
    "median",
    "plurality",
    "quorum",
    "unanimous",
]


def first() -> Rule:
    """Accept the first answer, as a hedged call does.

    Example:
        >>> from mainstay import redundant, vote
        >>> redundant(decide=vote.first()).call(str.upper, "ok")
        'OK'
    """
    return First()


def quorum(k: int, *, key: Key | None = None) -> Rule:
    """Accept an answer that *k* copies agree on.

    Args:
        k: The number of copies that must agree: at least 1, and at most the number of copies, which
            is checked at decoration. If two answers could both reach *k*, the first to do so wins.
        key: A function from an answer to the value that is compared with ``==``, hashable or not.
            None to compare the answers themselves.

    Raises:
        TypeError: If *k* is not a whole number, or *key* cannot be called.
        ValueError: If *k* is below 1.

    Example:
        >>> from mainstay import redundant, vote
        >>> redundant(copies=3, decide=vote.quorum(2)).call(round, 2.4)
        2
    """
    return Quorum(to_count(k, "k"), _checked_key(key))


def majority(*, key: Key | None = None) -> Rule:
    """Accept an answer that more than half of all copies agree on; failed copies count against it.

    Args:
        key: As for `quorum`.

    Raises:
        TypeError: If *key* cannot be called.

    Source:
        The majority voter of N-modular redundancy: R. E. Lyons and W. Vanderkulk, "The Use of
        Triple-Modular Redundancy to Improve Computer Reliability", IBM Journal, 1962.

    Example:
        >>> from mainstay import redundant, vote
        >>> redundant(copies=3, decide=vote.majority()).call(max, [3, 1, 2])
        3
    """
    return Majority(_checked_key(key))


def plurality(*, key: Key | None = None) -> Rule:
    """Accept the answer that more copies gave than any other; a tie is no decision.

    Failed copies do not count, so that a single answer wins if all others failed.

    Args:
        key: As for `quorum`.

    Raises:
        TypeError: If *key* cannot be called.

    Example:
        >>> from mainstay import redundant, vote
        >>> others = [lambda: "lamp", lambda: "chair"]
        >>> redundant(alternatives=others, decide=vote.plurality()).call(lambda: "lamp")
        'lamp'
    """
    return Plurality(_checked_key(key))


def median(within: float | None = None) -> Rule:
    """Accept the median of the answers, which must be numbers.

    More than half of all copies must return. As long as fewer than half of the answers are wrong,
    the median lies between two right answers, or is one of them. The median of an even number of
    answers is the lower of the two middle answers, so it is always the answer of a copy.

    Args:
        within: A distance, at least 0: more than half of all copies must return within this
            distance of the median. The call then ends as soon as that many answers lie within this
            distance of each other, so the accepted answer may differ from the median of all copies
            by this distance. None for no such condition.

    Raises:
        TypeError: If *within* is not a number; from a call, if an answer is not a number.
        ValueError: If *within* is negative or NaN.

    Example:
        >>> from mainstay import redundant, vote
        >>> others = [lambda x: x / 3, lambda x: 99.0]
        >>> policy = redundant(alternatives=others, decide=vote.median(within=1e-6))
        >>> round(policy.call(lambda x: x * 0.3333333, 6), 3)
        2.0
    """
    return Median(_checked_within(within))


def unanimous(*, key: Key | None = None) -> Rule:
    """Accept an answer only if all copies agree on it; one failure or dissent means no decision.

    Args:
        key: As for `quorum`.

    Raises:
        TypeError: If *key* cannot be called.

    Example:
        >>> from mainstay import redundant, vote
        >>> redundant(copies=3, decide=vote.unanimous()).call(round, 2.4)
        2
    """
    return Unanimous(_checked_key(key))


def _checked_within(within: object) -> float | None:
    if within is None:
        return None
    if not isinstance(within, int | float) or isinstance(within, bool):
        raise TypeError(f"`within` must be a number or None, not {within!r}")
    if not within >= 0:
        raise ValueError(f"`within` must be at least 0, not {within!r}")
    return within


def _checked_key(key: object) -> Key | None:
    if key is None:
        return None
    if not callable(key):
        raise TypeError(f"`key` must take an answer and return what it is compared by, not {key!r}")
    if not isinstance(key, type) and kind_of(key) is not Kind.SYNC:
        raise TypeError(f"`key` must be a plain function, not {name_of(key)}")
    return key

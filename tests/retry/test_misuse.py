"""What users write at first, and what they copy."""

import copy
import pickle

import pytest
import tenacity

from mainstay import (
    CircuitBreaker,
    FailoverPool,
    Member,
    Metrics,
    RetryBudget,
    checkpointed,
    failover,
    redundant,
    retry,
)
from mainstay.stores import MemoryStore, SQLiteStore
from mainstay.testing import FakeClock, Faults


class Lost(ConnectionError):
    """The failure of these tests."""


@pytest.mark.parametrize(
    ("given", "instead"),
    [
        ("tries", "`attempts=`"),
        ("max_attempts", "`attempts=`"),
        ("retry", "`on=`"),
        ("wait_initial", "`wait=`"),
        ("before_sleep", "`mainstay.on_event`"),
        ("reraise", "always so"),
    ],
)
def test_a_parameter_of_another_library_is_named_with_ours(given, instead):
    with pytest.raises(TypeError) as caught:
        retry(on=Lost, **{given: 3})
    assert f"no parameter `{given}`; here it is {instead}" in str(caught.value)


def test_an_unknown_parameter_is_answered_with_those_there_are():
    with pytest.raises(TypeError, match="no parameter `colour`; it takes on, attempts, timeout,"):
        retry(on=Lost, colour="red")


def test_async_with_around_an_attempt_says_what_to_write():
    attempt = next(iter(retry(on=Lost)))
    with pytest.raises(TypeError, match="write `with attempt:`, without `async`"):
        attempt.__aenter__()
    with attempt:
        pass


def test_a_policy_copies_as_itself():
    policy = retry(on=Lost)
    assert copy.copy(policy) is policy
    assert copy.deepcopy({"policy": policy})["policy"] is policy


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": 3, "wait": 2.0, "name": "fetch"},
        {"attempts": None, "timeout": None},
        {"stop": tenacity.stop_after_attempt(2)},
        {},
    ],
)
def test_a_policy_pickles_by_its_parameters(clock, options):
    policy = retry(on=Lost, **options)
    again = pickle.loads(pickle.dumps(policy))  # noqa: S301 - pickled right here

    def shown(policy):
        settings = policy._settings
        return (settings.judge, settings.attempts, settings.timeout, settings.wait, policy._name)

    assert shown(again) == shown(policy)
    assert again.call(Faults(["page"])) == "page"


@pytest.mark.parametrize(
    "make",
    [
        lambda: CircuitBreaker("mail", on=Lost),
        lambda: FailoverPool("db", [Member("a", "x")], on=Lost),
        lambda: failover(FailoverPool("db", [Member("a", "x")], on=Lost)),
        lambda: redundant(budget=None),
        lambda: Metrics(None),
        RetryBudget,
        FakeClock,
        lambda: Faults(["page"]),
        MemoryStore,
        lambda: SQLiteStore("runs.db"),
    ],
    ids=[
        "breaker",
        "pool",
        "failover",
        "redundant",
        "metrics",
        "budget",
        "clock",
        "faults",
        "memory",
        "file",
    ],
)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_what_is_shared_refuses_to_be_copied(make, copied):
    with pytest.raises(TypeError, match="cannot be copied or pickled: its state is shared"):
        copied(make())


def test_a_checkpointed_function_copies_as_itself():
    policy = checkpointed(store="memory://")
    assert copy.copy(policy) is policy
    assert copy.deepcopy({"policy": policy})["policy"] is policy

"""What a redundant call does: starts copies, believes one answer, sees to the others."""

import asyncio
import contextlib
import functools
import gc
import logging
import pickle
import time
import weakref
from datetime import timedelta

import pytest

from mainstay import (
    AllCopiesFailedError,
    CircuitOpenError,
    DeadlineExpiredError,
    MainstayError,
    NoDecisionError,
    ResultRefusedError,
    RetryBudget,
    deadline,
    hedge,
    on_event,
    redundant,
    vote,
)
from mainstay.testing import Faults
from support.redundancy import RUNNERS, after

HEDGED = {"start": hedge.after(0.1), "budget": None}
PATIENCE = 10.0  # real seconds


class Lost(ConnectionError):
    """The failure of these tests."""


@pytest.fixture(params=RUNNERS.values(), ids=RUNNERS)
def runner(request, clock, metrics):
    """One way of calling, on a clock, with metrics of its own."""
    return request.param


@pytest.fixture
def call(runner):
    """Call scripted copies under a policy: `call(script, **parameters)`."""

    def call(script, *args, **parameters):
        fns = [runner.fn(script if isinstance(script, Faults) else Faults(script))]
        if isinstance(script, list) and "decide" in parameters and "start" not in parameters:
            # Copies that start together take the steps of one script in any order.
            fns = [runner.fn(Faults([step])) for step in script]
            parameters = {**parameters, "copies": None, "alternatives": fns[1:]}
        policy = redundant(name="it", **runner.options, **parameters)
        return runner.run(policy, fns[0], *args)

    return call


def seconds(clock):
    return pytest.approx(clock.now())


# Hedging.


def test_a_fast_primary_is_the_whole_call(call, clock, metrics):
    faults = Faults([after(0.05, "page")])
    assert call(faults, "arg", **HEDGED) == "page"
    assert faults.calls == [(("arg",), {})]
    assert seconds(clock) == 0.05
    assert metrics.outcomes() == {"success": 1}
    assert metrics("copy_wins_total", copy="0") == 1
    assert metrics("hedges_total") == 0


def test_a_slow_primary_is_joined_by_a_copy_whose_answer_counts(call, clock, metrics):
    assert call([after(9, "slow"), after(0.05, "fast")], **HEDGED) == "fast"
    assert seconds(clock) == 0.15
    assert metrics.outcomes() == {"recovered": 1}
    assert metrics("hedges_total", reason="slow") == 1
    assert metrics("copy_wins_total", copy="1") == 1
    assert metrics("call_attempts_sum") == 2


def test_a_primary_that_answers_before_its_copy_wins(call, clock, metrics):
    assert call([after(0.15, "slow"), after(9, "slower")], **HEDGED) == "slow"
    assert seconds(clock) == 0.15
    assert metrics.outcomes() == {"success": 1}
    assert metrics("hedges_total", reason="slow") == 1


def test_each_further_delay_starts_one_more_copy(call, clock, metrics):
    script = [after(9, 0), after(9, 1), after(0.05, 2), after(9, 3)]
    assert call(script, copies=4, **HEDGED) == 2
    assert seconds(clock) == 0.25
    assert metrics("hedges_total", reason="slow") == 2


def test_the_faster_one_of_copies_that_start_together_is_no_recovery(runner, clock, metrics):
    fns = [runner.fn(Faults([after(9, "slow")])), runner.fn(Faults([after(0.1, "fast")]))]
    policy = redundant(alternatives=fns[1:], start=hedge.together(), **runner.options)
    assert runner.run(policy, fns[0]) == "fast"
    assert metrics("copy_wins_total", copy="1") == 1
    assert metrics.outcomes() == {"success": 1}


def test_no_more_than_all_copies_start(call, clock):
    faults = Faults(then=after(5, "page"))
    assert call(faults, copies=3, **HEDGED) == "page"
    assert len(faults.calls) == 3
    assert seconds(clock) == 5


def test_a_failure_starts_the_next_copy_at_once(call, clock, metrics):
    assert call([after(0.02, Lost), after(0.03, "page")], **HEDGED) == "page"
    assert seconds(clock) == 0.05
    assert metrics("hedges_total", reason="failed") == 1
    assert metrics.errors() == {"Lost": 1}
    assert metrics.outcomes() == {"recovered": 1}


def test_a_copy_that_fails_fast_does_not_harm_a_slow_primary(call, clock):
    """Known fault: hedge-python takes the first copy that ends, even if it failed."""
    assert call([after(0.5, "page"), after(0.01, Lost)], **HEDGED) == "page"
    assert seconds(clock) == 0.5


def test_without_a_budget_left_the_primary_goes_on_alone(call, clock, metrics):
    """Known fault 15: failsafe-go cancelled the primary when the budget was exceeded."""
    faults = Faults(then=after(0.5, "page"))
    assert call(faults, start=hedge.after(0.1), budget=0.05) == "page"
    assert len(faults.calls) == 1
    assert seconds(clock) == 0.5
    assert metrics.outcomes() == {"success": 1}
    assert metrics("hedges_denied_total", reason="budget") == 1


def test_a_failure_that_the_budget_does_not_replace_is_raised_itself(call, metrics):
    with pytest.raises(Lost) as caught:
        call([Lost("gone")], start=hedge.after(0.1), budget=0.0)
    assert len(caught.value.__notes__) == 1
    assert metrics.reasons() == {"budget": 1}


@pytest.mark.parametrize("budget", [0.05, RetryBudget(ratio=0.05, floor=0, window=60)])
def test_a_failed_copy_is_replaced_while_too_few_calls_are_known_to_make_a_token(
    runner, metrics, budget
):
    """Charged all the same: what is slow then has to wait for its share."""
    policy = redundant(start=hedge.after(0.1), budget=budget, name="it", **runner.options)
    for _ in range(19):
        assert runner.run(policy, runner.fn(Faults([Lost, "page"]))) == "page"
    with pytest.raises(Lost):
        runner.run(policy, runner.fn(Faults([Lost, "page"])))
    assert metrics("hedges_total", reason="failed") == 19
    assert runner.run(policy, runner.fn(Faults(then=after(0.2, "page")))) == "page"
    assert metrics("hedges_denied_total", reason="budget") == 2


def test_one_token_pays_for_one_hedge(runner, metrics):
    budget = RetryBudget(ratio=0.05, floor=0, window=1000)
    policy = redundant(start=hedge.after(0.1), budget=budget, name="it", **runner.options)
    for _ in range(40):
        runner.run(policy, runner.fn(Faults(then=after(0.2, "page"))))
    assert metrics("hedges_total") == 2
    assert metrics("hedges_denied_total", reason="budget") == 38


def test_copies_that_start_together_are_not_charged(call, metrics):
    script = [after(0.2, "slow"), after(0.1, "fast")]
    assert call(script, start=hedge.together(), budget=0.0) == "fast"
    assert metrics("hedges_total") == 0
    assert metrics("hedges_denied_total") == 0


def test_no_hedge_starts_before_enough_is_known(runner, metrics):
    policy = redundant(start=hedge.quantile(0.5), name="it", **runner.options)
    faults = Faults([*[after(0.01, "fast")] * 20, after(9, "slow"), after(0.01, "hedge")])
    answers = [runner.run(policy, runner.fn(faults)) for _ in range(20)]
    assert answers == ["fast"] * 20
    assert metrics("hedges_denied_total", reason="warmup") == 20
    assert metrics("hedge_delay_seconds") == pytest.approx(0.01, rel=0.05)
    assert runner.run(policy, runner.fn(faults)) == "hedge"
    assert metrics("hedges_total", reason="slow") == 1


def test_what_a_hedge_won_is_recorded_as_time_since_the_primary(runner, clock, metrics):
    policy = redundant(
        start=hedge.quantile(0.9, at_most=0.05), budget=None, name="it", **runner.options
    )
    for _ in range(50):
        runner.run(policy, runner.fn(Faults([after(0.01, "warm")])))
    # Each takes 0.05 s until the hedge starts, and 0.03 s more.
    for _ in range(80):
        runner.run(policy, runner.fn(Faults([after(9, "slow"), after(0.03, "hedge")])))
    (latency,) = policy._latencies.values()
    assert latency._sketch.value() > 0.05


@pytest.mark.parametrize(
    ("step", "delay"),
    [
        (after(0.9, asyncio.CancelledError), 0.9),
        (after(0.001, asyncio.CancelledError), 0.01),
        (after(9), 2),
    ],
)
def test_a_call_that_was_ended_counts_if_it_had_taken_long(runner, metrics, step, delay):
    """To leave it out would make calls with timeouts look fast; a short one tells nothing."""
    start = hedge.quantile(0.5)
    policy = redundant(start=start, budget=0.0, timeout=2, name="it", **runner.options)
    fn = runner.fn(Faults([after(0.01)] * 30, then=step))
    for _ in range(30):
        runner.run(policy, fn)
    for _ in range(40):
        with pytest.raises((asyncio.CancelledError, TimeoutError)):
            runner.run(policy, fn)
    assert metrics("hedge_delay_seconds") == pytest.approx(delay, rel=0.05)


def test_a_timeout_holds_before_enough_is_known_for_a_quantile(call, clock, metrics):
    with pytest.raises(TimeoutError):
        call([after(9, "slow")], timeout=0.5)
    assert seconds(clock) == 0.5


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_calls_that_are_not_counted_yet_pay_for_a_hedge_too(runner, metrics):
    """On the system's clock, where durations wait to be counted together."""
    budget = RetryBudget(ratio=0.125, floor=0, window=1000)
    policy = redundant(start=hedge.after(100), budget=budget, **runner.options)
    fn = runner.fn(Faults([*range(7), Lost, "page"]))
    assert [runner.run(policy, fn) for _ in range(8)] == [*range(7), "page"]


def test_a_quantile_needs_no_calls_to_decide_about_failures(call, metrics):
    assert call([Lost, "page"], budget=None) == "page"
    assert metrics("hedges_total", reason="failed") == 1


# Errors.


def test_an_error_outside_on_ends_the_call_at_once(call, clock, metrics):
    error = ValueError("no")
    with pytest.raises(ValueError, match="no") as caught:
        call([after(0.2, "slow"), after(0.01, error)], on=Lost, **HEDGED)
    assert caught.value is error
    assert seconds(clock) == 0.11
    assert metrics.outcomes() == {"error": 1}
    assert metrics.reasons() == {"not_retryable": 1}


def test_the_primarys_own_error_outside_on_passes_untouched(call):
    """Known fault 9: a second attempt after an ambiguous error has the effect twice."""
    error = ValueError("no")
    faults = Faults([error, "twice"])
    with pytest.raises(ValueError, match="no") as caught:
        call(faults, on=Lost, **HEDGED)
    assert caught.value is error
    assert not hasattr(error, "__notes__")
    assert len(faults.calls) == 1


def test_where_no_copy_answers_the_exception_that_came_last_is_raised(call, metrics):
    last = Lost("b")
    with pytest.raises(Lost) as caught:
        call([after(0.02, Lost("a")), after(0.03, last)], **HEDGED)
    assert caught.value is last
    (note,) = last.__notes__
    assert note.splitlines() == [
        "mainstay.redundant it: gave up after 2 copies in 0.050 s; the attempts before:",
        "  copy 0: Lost: a (0.020 s)",
    ]
    assert metrics.reasons() == {"attempts": 1}
    assert metrics.outcomes() == {"error": 1}


def test_the_exception_that_came_last_may_be_that_of_the_primary(call):
    primary = Lost("primary")
    with pytest.raises(Lost) as caught:
        call([after(0.5, primary), after(0.1, Lost("copy"))], **HEDGED)
    assert caught.value is primary
    (note,) = primary.__notes__
    assert note.splitlines() == [
        "mainstay.redundant it: gave up after 2 copies in 0.500 s; the attempts before:",
        "  copy 1: Lost: copy (0.100 s)",
    ]


def test_of_two_exceptions_at_the_same_time_the_primarys_is_raised(call):
    with pytest.raises(Lost, match="primary"):
        call([after(0.2, Lost("primary")), after(0.1, Lost("copy"))], **HEDGED)


def test_a_note_has_the_first_and_the_last_five_attempts_before(call):
    script = [after(0.01, Lost(str(number))) for number in range(9)]
    with pytest.raises(Lost, match="8") as caught:
        call(script, copies=9, **HEDGED)
    (note,) = caught.value.__notes__
    listed = ["copy 0", "... and 2 more attempts", *(f"copy {n}" for n in range(3, 8))]
    assert [line.strip().split(":")[0] for line in note.splitlines()[1:]] == listed


GROUPED = {**HEDGED, "raises": "group"}


def test_a_group_has_the_exceptions_of_all_copies_with_notes(call, metrics):
    """Known fault 14: asynchedging raises ValueError for an empty group."""
    with pytest.raises(AllCopiesFailedError) as caught:
        call([after(0.02, Lost("a")), after(0.03, Lost("b"))], **GROUPED)
    group = caught.value
    assert [str(each) for each in group.exceptions] == ["a", "b"]
    notes = [each.__notes__ for each in group.exceptions]
    assert notes == [
        ["mainstay.redundant it: copy 0, started at 0.000 s, failed after 0.020 s"],
        ["mainstay.redundant it: copy 1, started at 0.020 s, failed after 0.030 s"],
    ]
    assert (group.component, group.elapsed, group.answers) == ("it", pytest.approx(0.05), {})
    assert metrics.reasons() == {"attempts": 1}
    assert metrics.outcomes() == {"error": 1}


def test_the_only_copy_raises_its_own_exception(call):
    alone = Lost("alone")
    with pytest.raises(Lost) as caught:
        call([after(0.01, alone)], start=hedge.after(0.1), budget=0.0)
    assert caught.value is alone
    assert alone.__notes__ == ["mainstay.redundant it: gave up after 1 copy in 0.010 s"]


def test_the_only_copy_is_a_group_of_one_where_groups_are_wanted(call):
    alone = Lost("alone")
    with pytest.raises(AllCopiesFailedError) as caught:
        call([after(0.01, alone)], start=hedge.after(0.1), budget=0.0, raises="group")
    assert caught.value.exceptions == (alone,)
    assert str(caught.value).startswith("it: the only copy failed in 0.010 s; ")
    assert alone.__notes__ == [
        "mainstay.redundant it: copy 0, started at 0.000 s, failed after 0.010 s"
    ]


def test_an_exception_that_copies_share_says_what_became_of_each(call):
    lost = Lost("gone")
    with pytest.raises(AllCopiesFailedError) as caught:
        call([after(0.01, lost), after(0.02, lost)], **GROUPED)
    assert caught.value.exceptions == (lost, lost)
    (note,) = lost.__notes__
    assert note == (
        "mainstay.redundant it: copy 0, started at 0.000 s, failed after 0.010 s; "
        "copy 1, started at 0.010 s, failed after 0.020 s"
    )
    with pytest.raises(Lost):
        call([after(0.01, lost), after(0.02, lost)], **HEDGED)
    (note,) = lost.__notes__
    assert note.startswith("mainstay.redundant it: gave up after 2 copies in 0.030 s")


def test_the_group_is_caught_by_except_star_and_by_a_retry_of_its_leaves(call):
    with pytest.raises(AllCopiesFailedError) as caught:
        call([Lost, Lost], **GROUPED)
    lost, rest = caught.value.split(Lost)
    assert isinstance(lost, AllCopiesFailedError)
    assert rest is None
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
    assert [type(each) for each in again.exceptions] == [Lost, Lost]
    assert again.exceptions[0].__notes__ == caught.value.exceptions[0].__notes__
    assert str(again) == str(caught.value)


def test_a_refusal_is_a_failure_of_its_copy(call, metrics):
    assert call([CircuitOpenError("inner", None), "page"], **HEDGED) == "page"
    assert metrics("hedges_total", reason="failed") == 1


def test_a_refusal_is_the_last_exception_only_if_there_is_no_other(call):
    refusal = CircuitOpenError("inner", None)
    with pytest.raises(Lost) as caught:
        call([Lost("own"), refusal], **HEDGED)
    (note,) = caught.value.__notes__
    assert note.splitlines()[1].startswith("  copy 1: CircuitOpenError: ")
    with pytest.raises(CircuitOpenError):
        call([refusal, refusal], **HEDGED)


class Thing:
    """What a call is given."""


def test_a_call_that_fails_keeps_nothing_until_a_collection(runner, metrics):
    """Exceptions lead to the frames of the call, which must not lead back to them."""
    policy = redundant(start=hedge.together(), name="it", **runner.options)

    def fail(_thing):
        raise Lost

    async def afail(_thing):
        raise Lost

    async def main():
        thing = Thing()
        with contextlib.suppress(Lost):
            await policy.call(afail, thing)
        return weakref.ref(thing)

    gc.disable()
    try:
        if runner is RUNNERS["threads"]:
            thing = Thing()
            with contextlib.suppress(Lost):
                policy.call(fail, thing)
            gone = weakref.ref(thing)
            del thing
            end = time.monotonic() + PATIENCE
            while gone() is not None and time.monotonic() < end:
                time.sleep(0.001)  # the last worker is about to become idle
        else:
            gone = runner.run_main(main())
        assert gone() is None
    finally:
        gc.enable()


def test_a_predicate_says_what_counts(call):
    policy = {"on": lambda error: "busy" in str(error), **HEDGED}
    assert call([Lost("busy"), "page"], **policy) == "page"
    with pytest.raises(Lost, match="gone"):
        call([Lost("gone")], **policy)


NOT_MATCHED = "so the exception counts as not matched"


@pytest.mark.parametrize("delay", [2.5, 0, timedelta(seconds=1)])
def test_a_delay_from_a_predicate_counts_as_true(call, metrics, delay):
    assert call([Lost("gone"), "ok"], on=lambda _error: delay, **HEDGED) == "ok"
    assert metrics.outcomes() == {"recovered": 1}


@pytest.mark.parametrize("verdict", [[], None, "yes"])
def test_a_predicate_that_gives_no_verdict_is_noted_on_the_error(call, metrics, verdict):
    with pytest.raises(Lost) as caught:
        call([Lost("gone")], on=lambda _error: verdict, **HEDGED)
    (note,) = caught.value.__notes__
    what = f"`on` must return True or False, not {verdict!r}, {NOT_MATCHED}"
    assert note == f"mainstay.redundant it: {what}"
    assert metrics.reasons() == {"predicate_error": 1}


def test_a_predicate_that_raises_hides_nothing(call, metrics):
    def broken(_error):
        raise KeyError("x")

    with pytest.raises(Lost) as caught:
        call([Lost("gone")], on=broken, **HEDGED)
    (note,) = caught.value.__notes__
    assert note == f"mainstay.redundant it: `on` raised KeyError('x'), {NOT_MATCHED}"
    assert metrics.reasons() == {"predicate_error": 1}


# Results that are failures.


def test_a_result_that_is_refused_is_a_failed_copy(call, metrics):
    refuse = {"on_result": lambda status: status == 503, "on": KeyError}
    assert call([503, 200], **refuse, **HEDGED) == 200
    assert metrics.outcomes() == {"recovered": 1}
    assert metrics.errors() == {"ResultRefusedError": 1}
    assert metrics("hedges_total", reason="failed") == 1


def test_the_last_result_that_is_refused_is_raised_and_the_others_are_disposed_of(call, metrics):
    disposed, script = [], [["a"], after(0.1, ["b"])]
    with pytest.raises(ResultRefusedError) as caught:
        call(script, on_result=bool, dispose=disposed.append, **HEDGED)
    assert (caught.value.result, caught.value.attempts) == (["b"], 2)
    assert disposed == [["a"]]
    assert metrics.reasons() == {"attempts": 1}


def test_a_group_has_every_result_that_is_refused(call):
    disposed = []
    with pytest.raises(AllCopiesFailedError) as caught:
        call([["a"], ["b"]], on_result=bool, dispose=disposed.append, **GROUPED)
    assert [each.result for each in caught.value.exceptions] == [["a"], ["b"]]
    assert disposed == []


def test_a_result_that_is_refused_does_not_vote(call):
    script = [after(0.1, 0), after(0.1, 0), after(0.2, 7)]
    rule = {"copies": 3, "decide": vote.quorum(1)}
    assert call(script, on_result=lambda answer: answer == 0, **rule) == 7


def test_a_result_that_is_refused_goes_to_dispose_when_another_one_is_returned(call):
    disposed = []
    refuse = {"on_result": lambda page: page == "bad", "dispose": disposed.append}
    assert call(["bad", "page"], **refuse, **HEDGED) == "page"
    assert disposed == ["bad"]


def test_results_of_a_race_are_refused_too(runner):
    policy = redundant(on_result=lambda page: page == "bad")
    assert runner.race(policy, Faults(["bad"]), Faults([after(0.1, "page")])) == "page"


def test_what_on_result_raises_ends_the_call(call, metrics, caplog):
    def broken(_answer):
        raise KeyError("x")

    disposed = []
    with pytest.raises(KeyError) as caught:
        call([["a"]], on_result=broken, dispose=disposed.append, **HEDGED)
    (note,) = caught.value.__notes__
    assert note.endswith("raised while `on_result` was asked about the answer of copy 0")
    assert metrics.reasons() == {"predicate_error": 1}
    assert disposed == [["a"]]


# Time.


@pytest.fixture(params=["timeout", "deadline"])
def limited(request, call):
    """Call scripted copies with half a second for all: `limited(script, **parameters)`."""

    def limited(script, **parameters):
        if request.param == "timeout":
            return call(script, timeout=0.5, **parameters)
        with deadline(0.5):
            return call(script, **parameters)

    return limited


def test_a_timeout_ends_the_only_copy_with_a_timeout_error(limited, clock, metrics):
    with pytest.raises(TimeoutError, match=r"copy 0 was still running after 0\.500 s"):
        limited([after(9, "slow")], start=hedge.after(1))
    assert seconds(clock) == 0.5
    assert metrics.outcomes() == {"timeout": 1}
    assert metrics.reasons() == {"timeout": 1}


def test_a_timeout_ends_all_copies(limited, clock, metrics):
    with pytest.raises(TimeoutError, match=r"copy 0 was still running after 0\.500 s") as caught:
        limited([after(9, "slow"), after(9, "slow")], **HEDGED)
    assert seconds(clock) == 0.5
    (note,) = caught.value.__notes__
    assert "copy 1: TimeoutError: it: copy 1 was still running after 0.500 s" in note
    assert metrics.outcomes() == {"timeout": 1}


def test_a_timeout_raises_what_a_copy_raised_before_it(limited, metrics):
    with pytest.raises(Lost) as caught:
        limited([after(9, "slow"), after(0.1, Lost("gone"))], **HEDGED)
    assert caught.value.__notes__ == [
        "mainstay.redundant it: gave up after 2 copies in 0.500 s; copy 0 was still running"
    ]
    assert metrics.outcomes() == {"timeout": 1}
    assert metrics.errors() == {"Lost": 1, "TimeoutError": 1}


def test_a_timeout_puts_an_exception_for_each_copy_into_the_group(limited, clock):
    with pytest.raises(AllCopiesFailedError) as caught:
        limited([after(9, "slow"), after(0.1, Lost)], **GROUPED)
    assert [type(each) for each in caught.value.exceptions] == [TimeoutError, Lost]
    assert seconds(clock) == 0.5


def test_a_call_without_time_left_is_told_like_any_other_that_gives_up(call, caplog):
    told = []
    stop = on_event(told.append)
    with (
        caplog.at_level(logging.INFO, "mainstay.redundant"),
        deadline(0),
        pytest.raises(DeadlineExpiredError) as caught,
    ):
        call([1], **HEDGED)
    stop()
    assert [(each.copies, each.reason, each.error) for each in told] == [
        (0, "timeout", caught.value)
    ]
    assert [record.getMessage() for record in caplog.records] == [
        "it: gave up (timeout) after 0 copies in 0.000 s with DeadlineExpiredError"
    ]


def test_no_call_begins_without_time_left(call, metrics):
    faults = Faults()
    with deadline(0), pytest.raises(DeadlineExpiredError):
        call(faults, **HEDGED)
    assert faults.calls == []
    assert metrics.outcomes() == {"timeout": 1}


def test_no_hedge_starts_after_the_deadline(call, metrics):
    faults = Faults(then=after(0.5, "page"))
    with deadline(0.1), pytest.raises(TimeoutError):
        call(faults, start=hedge.after(0.2), budget=None)
    assert len(faults.calls) == 1
    assert metrics("hedges_total") == 0


@pytest.mark.parametrize("own", [0.2, 0.7])
def test_the_shorter_one_of_timeout_and_deadline_counts(call, clock, own):
    with deadline(0.9 - own), pytest.raises(TimeoutError):
        call([after(9, "slow")], timeout=own, start=hedge.after(1))
    assert seconds(clock) == 0.2


def test_a_limit_ends_a_hedge_that_started_just_before_it(limited, clock):
    with pytest.raises(TimeoutError):
        limited([after(9, "slow")] * 2, start=hedge.after(0.4), budget=None)
    assert seconds(clock) == 0.5


def test_a_deadline_ends_a_race(runner, clock, metrics):
    with deadline(0.5), pytest.raises(TimeoutError):
        runner.race(redundant(name="it"), *[Faults([after(9, n)]) for n in range(2)])
    assert seconds(clock) == 0.5
    assert metrics.outcomes() == {"timeout": 1}


def test_a_deadline_whose_block_was_left_meanwhile_ends_no_copy(runner, clock):
    """Everybody who inherited it ignores it from then on."""
    limit = deadline(0.5)

    def is_left(_error):
        limit.__exit__(None, None, None)
        return True

    start = hedge.after(0.1)
    policy = redundant(on=is_left, start=start, budget=None, **runner.options)
    with limit:
        faults = Faults([after(0.8, "page"), after(0.1, Lost)])
        assert runner.run(policy, runner.fn(faults)) == "page"
    assert seconds(clock) == 0.8


# Voting.


def test_a_majority_of_two_ends_a_vote_of_three(call, clock, metrics):
    script = [after(0.1, 7), after(9, 7), after(0.2, 7)]
    assert call(script, copies=3, decide=vote.majority()) == 7
    assert seconds(clock) == 0.2
    assert metrics("votes_total", verdict="unanimous") == 1
    assert metrics.outcomes() == {"success": 1}


def test_an_answer_that_the_primary_agrees_with_too_late_is_no_recovery(call, metrics):
    script = [after(9, 7), after(0.1, 7), after(0.2, 7)]
    assert call(script, copies=3, decide=vote.majority()) == 7
    assert metrics("votes_total", verdict="unanimous") == 1
    assert metrics.outcomes() == {"success": 1}


def test_a_vote_without_a_primary_that_failed_is_a_recovery(call, metrics):
    script = [after(0.1, Lost), after(0.2, 7), after(0.3, 7)]
    assert call(script, copies=3, decide=vote.majority()) == 7
    assert metrics.outcomes() == {"recovered": 1}


def test_an_outvoted_copy_that_is_not_the_primary_is_no_recovery(call, metrics):
    script = [after(9, 7), after(0.1, 666), after(0.2, 7), after(0.3, 7), after(0.4, 7)]
    assert call(script, copies=5, decide=vote.majority()) == 7
    assert metrics("votes_total", verdict="decided") == 1
    assert metrics.outcomes() == {"success": 1}


def test_an_outvoted_copy_is_counted(call, metrics):
    script = [after(0.1, 666), after(0.2, 7), after(0.3, 7)]
    assert call(script, copies=3, decide=vote.majority()) == 7
    assert metrics("dissents_total", copy="0") == 1
    assert metrics("copy_wins_total", copy="1") == 1
    assert metrics("votes_total", verdict="decided") == 1
    assert metrics.outcomes() == {"recovered": 1}


def test_a_vote_that_cannot_be_won_any_more_ends_at_once(call, clock, metrics):
    """Known fault 13: a voter that returns some answer hides that there was no majority."""
    script = [after(0.1, 1), after(0.2, 2), after(9, 1)]
    with pytest.raises(NoDecisionError) as caught:
        call(script, copies=3, decide=vote.unanimous())
    group = caught.value
    assert seconds(clock) == 0.2
    assert group.answers == {"0": 1, "1": 2}
    assert [type(each) for each in group.exceptions] == [MainstayError] * 3
    assert [each.__notes__ for each in group.exceptions] == [
        ["mainstay.redundant it: copy 0, started at 0.000 s, answered after 0.100 s"],
        ["mainstay.redundant it: copy 1, started at 0.000 s, answered after 0.200 s"],
        ["mainstay.redundant it: copy 2, started at 0.000 s, was given up after 0.200 s"],
    ]
    assert metrics("votes_total", verdict="no_decision") == 1
    assert metrics.reasons() == {"no_decision": 1}


def test_failed_copies_do_not_vote(call, metrics):
    script = [after(0.1, Lost), after(0.2, 7), after(0.3, 7)]
    assert call(script, copies=3, decide=vote.majority()) == 7
    assert metrics.errors() == {"Lost": 1}
    assert metrics("votes_total", verdict="decided") == 1


@pytest.mark.parametrize(("raises", "error"), [("last", Lost), ("group", AllCopiesFailedError)])
def test_a_vote_of_failures_only_raises_them(call, raises, error):
    with pytest.raises(error):
        call([Lost, Lost, Lost], copies=3, decide=vote.plurality(), raises=raises)


def test_a_vote_that_a_failure_has_decided_against_raises_that_failure(call, clock, metrics):
    """No copy has answered, so that there is one exception which is true."""
    with pytest.raises(Lost, match="gone"):
        call([after(0.1, Lost("gone")), after(9, 7)], decide=vote.unanimous())
    assert seconds(clock) == 0.1
    assert metrics("votes_total", verdict="no_decision") == 1


def test_a_vote_with_a_late_start_begins_with_what_it_needs(call, clock, metrics):
    faults = Faults([after(0.02, 7), after(0.03, 7), after(9, 7)])
    assert call(faults, copies=3, decide=vote.majority(), **HEDGED) == 7
    assert len(faults.calls) == 2
    assert metrics("hedges_total") == 0


def test_a_vote_starts_what_a_dissent_makes_necessary_free_of_charge(call, clock, metrics):
    faults = Faults([after(0.02, 7), after(0.03, 8), after(0.04, 7)])
    rule = vote.majority()
    assert call(faults, copies=3, decide=rule, start=hedge.after(1), budget=0.0) == 7
    assert seconds(clock) == 0.07
    assert metrics("hedges_total") == 0


@pytest.mark.parametrize("first", [0.02, 0.04])
def test_a_vote_starts_what_a_failure_makes_necessary_free_of_charge(call, clock, metrics, first):
    faults = Faults([after(first, Lost), after(0.03, 7), after(0.04, 7)])
    rule = vote.majority()
    assert call(faults, copies=3, decide=rule, start=hedge.after(1), budget=0.0) == 7
    assert seconds(clock) == first + 0.04
    assert metrics("hedges_total") == metrics("hedges_denied_total") == 0


def test_alternatives_run_the_same_arguments(runner, metrics):
    fns = [runner.fn(Faults([after(0.1 * n, n)])) for n in (1, 2, 3)]
    policy = redundant(alternatives=fns[1:], decide=vote.median(), **runner.options)
    assert runner.run(policy, fns[0], "x", key=1) == 2


def test_an_answer_that_is_no_number_is_named_by_its_copy(call):
    with pytest.raises(TypeError, match="copy 1 answered a str") as caught:
        call([after(0.2, 1), after(0.1, "one"), after(0.3, 1)], copies=3, decide=vote.median())
    assert "the answer of copy 1 was counted" in caught.value.__notes__[0]


class Compared:
    """An answer whose comparison with another one does something."""

    __hash__ = None

    def __init__(self, do):
        self.do = do

    def __eq__(self, other):
        return self.do()


def test_a_comparison_that_raises_ends_the_call_with_its_own_error(call, metrics):
    """Field faults, D15."""
    disposed = []

    def refuse():
        raise ArithmeticError("cannot compare")

    answers = [Compared(refuse) for _ in range(3)]
    with pytest.raises(ArithmeticError, match="cannot compare") as caught:
        call(answers, copies=3, decide=vote.majority(), dispose=disposed.append)
    assert "raised while the answer of copy" in caught.value.__notes__[0]
    assert metrics.outcomes() == {"error": 1}
    assert {id(each) for each in disposed} <= {id(each) for each in answers}


def test_a_comparison_that_takes_too_long_is_not_interrupted(call, clock, metrics):
    """Field faults, D15: it runs where the caller waits, as the docs say; its vote counts."""

    def take_long():
        clock.advance(60.0)
        return True

    answers = [Compared(take_long), Compared(take_long), after(600.0, 7)]
    answer = call(answers, copies=3, decide=vote.majority(), timeout=1.0)
    assert answer is answers[0]
    assert metrics.outcomes() == {"success": 1}


def test_a_key_that_raises_ends_the_call_with_its_own_error(call, metrics, caplog):
    rule = vote.majority(key=lambda answer: answer["etag"])
    with pytest.raises(KeyError, match="etag") as caught:
        call([{}, {}, {}], copies=3, decide=rule)
    assert "raised while the answer of copy" in caught.value.__notes__[0]
    assert metrics.outcomes() == {"error": 1}
    assert metrics.reasons() == {"predicate_error": 1}
    assert metrics("votes_total") == 0
    assert metrics("hook_errors_total", hook="predicate") == 1
    with pytest.raises(KeyError, match="etag"):
        call([{}, {}, {}], copies=3, decide=rule)
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert said.count("it: `decide` raised KeyError") == 1


def test_a_rule_of_ones_own_decides(call):
    class Largest:
        def tally(self, copies):
            return LargestTally(copies)

    class LargestTally:
        def __init__(self, left):
            self.left, self.winner, self.best = left, 0, None

        def answered(self, copy, answer):
            if self.best is None or answer > self.best:
                self.winner, self.best = copy, answer
            return self.failed(copy)

        def failed(self, _copy):
            self.left -= 1
            return "undecided" if self.left else "decided"

        def needed(self):
            return self.left

        def dissenters(self):
            return ()

    assert call([after(0.1, 3), after(0.2, 9), after(0.3, 5)], copies=3, decide=Largest()) == 9


class Anarchy:
    """A rule of the first answer, with methods that are broken, and its tally."""

    def __init__(self, **broken):
        self.broken = broken

    def tally(self, _copies):
        tally = Anarchy()
        tally.winner = self.broken.get("winner", 0)
        tally.__dict__ |= {name: each for name, each in self.broken.items() if callable(each)}
        return tally

    def answered(self, _copy, _answer):
        return "decided"

    def failed(self, _copy):
        return "undecided"

    def needed(self):
        return 2

    def dissenters(self):
        return ()


def refuse(*_args):
    raise KeyError("rule")


def none(*_args):
    return None


@pytest.mark.parametrize(
    ("broken", "error", "what"),
    [
        ({"answered": refuse}, KeyError, "rule"),
        ({"failed": refuse}, KeyError, "rule"),
        ({"dissenters": refuse}, KeyError, "rule"),
        ({"answered": none}, TypeError, '"undecided", "decided" or "impossible", not None'),
        ({"failed": none}, TypeError, '"undecided", "decided" or "impossible", not None'),
        ({"winner": 7}, ValueError, "decided for 7, which is no answer"),
        ({"winner": 1}, ValueError, "decided for 1, which is no answer"),
        ({"needed": refuse}, KeyError, "rule"),
    ],
)
def test_a_broken_rule_ends_the_call_and_is_told(call, metrics, broken, error, what):
    disposed = []
    script = [after(0.2, [7]), after(0.1, Lost)]
    with pytest.raises(error, match=what) as caught:
        call(script, decide=Anarchy(**broken), dispose=disposed.append)
    assert "raised while the" in caught.value.__notes__[0]
    assert ("failed" in broken) <= (type(caught.value.__context__) is Lost)
    assert metrics.outcomes() == {"error": 1}
    assert disposed == ([] if broken.keys() & {"failed", "needed"} else [[7]])


# What is not returned.


def test_every_answer_that_is_not_returned_is_disposed_of(call):
    disposed = []
    script = [after(0.1, ["a"]), after(0.2, ["b"]), after(0.3, ["b"])]
    rule = vote.majority()
    assert call(script, copies=3, decide=rule, dispose=disposed.append) == ["b"]
    assert disposed == [["a"], ["b"]]


def test_answers_of_a_vote_without_decision_are_disposed_of(call):
    disposed = []
    with pytest.raises(NoDecisionError):
        call([["a"], ["b"]], decide=vote.unanimous(), dispose=disposed.append)
    assert sorted(disposed) == [["a"], ["b"]]


def test_an_answer_that_is_returned_is_not_disposed_of_for_another_copy(call):
    disposed, shared = [], object()
    script = [after(0.1, shared), after(0.2, shared)]
    assert call(script, decide=vote.unanimous(), dispose=disposed.append) is shared
    assert disposed == []


def test_a_dispose_that_raises_is_logged_and_does_not_end_the_call(call, caplog, metrics):
    def broken(_answer):
        raise KeyError("x")

    script = [after(0.1, [1]), after(0.2, [2]), after(0.3, [2])]
    with caplog.at_level(logging.ERROR, "mainstay.redundant"):
        assert call(script, copies=3, decide=vote.majority(), dispose=broken) == [2]
    assert len(caplog.records) == 2
    assert caplog.records[0].exc_info[0] is KeyError
    assert metrics.errors() == {"KeyError": 2}


# Blocks, methods, events.


def test_a_race_returns_the_first_answer(runner, clock, metrics):
    policy = redundant(primary=runner.options.get("primary", "inline"))
    answer = runner.race(policy, Faults([after(0.3, "slow")]), Faults([after(0.2, "fast")]))
    assert answer == "fast"
    assert seconds(clock) == 0.2
    assert metrics.outcomes() == {"success": 1}


def test_a_race_may_be_a_vote(runner):
    scripts = [Faults([after(0.1, n)]) for n in (1, 2, 2)]
    assert runner.race(redundant(decide=vote.majority()), *scripts) == 2


@pytest.mark.parametrize(("raises", "error"), [("last", Lost), ("group", AllCopiesFailedError)])
def test_a_race_of_failures_raises_them(runner, metrics, raises, error):
    with pytest.raises(error):
        runner.race(redundant(raises=raises), Faults([Lost]), Faults([Lost]))
    assert metrics.reasons() == {"attempts": 1}


def test_a_race_ends_with_its_time(runner, clock):
    with pytest.raises(TimeoutError, match=r"copy 0 was still running after 0\.500 s"):
        runner.race(redundant(timeout=0.5), *[Faults([after(9, n)]) for n in range(2)])
    assert seconds(clock) == 0.5


def test_a_hedge_is_told_to_listeners_and_a_defeat_to_the_log(call, caplog):
    told = []
    stop = on_event(told.append)
    with caplog.at_level(logging.INFO, "mainstay.redundant"), pytest.raises(Lost):
        call([after(0.2, Lost("secret")), after(0.2, Lost)], "secret", **HEDGED)
    stop()
    assert [event.kind for event in told] == ["hedge_started", "redundant_gave_up"]
    assert [record.getMessage() for record in caplog.records] == [
        "it: copy 1 starts (slow) at 0.100 s",
        "it: gave up (attempts) after 2 copies in 0.300 s with Lost",
    ]


def test_a_call_of_a_policy_knows_how_long_its_function_takes(runner, metrics):
    policy = redundant(start=hedge.quantile(0.5), **runner.options)
    fn = runner.fn(Faults(then=after(0.01)))
    for _ in range(20):
        runner.run(policy, fn)
    assert metrics("hedge_delay_seconds") > 0


@pytest.mark.usefixtures("clock", "metrics")
def test_methods_partials_and_callable_objects_are_wrapped():
    policy = redundant(**HEDGED)

    class Client:
        @policy
        def get(self, key):
            return self, key

        @policy
        @classmethod
        def make(cls, key):
            return cls, key

        @policy
        @staticmethod
        def plain(key):
            return key

        def __call__(self, key):
            return key

    client = Client()
    assert client.get("a") == (client, "a")
    assert Client.make("b") == (Client, "b")
    assert Client.plain("c") == "c"
    assert policy(client)("d") == "d"
    assert policy(functools.partial(pow, 2))(3) == 8


# Known faults of other libraries, by their numbers in the survey.


def test_a_brownout_is_hedged_no_more_than_the_budget_allows(runner, metrics):
    """Known fault: Polly, gRPC and hedgedhttp double the load when everything is slow."""
    policy = redundant(**{**HEDGED, **runner.options, "budget": 0.1})
    fn = runner.fn(Faults(then=after(0.2, "page")))
    for _ in range(60):
        runner.run(policy, fn)
    assert 0 < metrics("hedges_total") <= 6

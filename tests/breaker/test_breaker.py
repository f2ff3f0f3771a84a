"""What a circuit breaker does, sync and async, in all forms, on a clock of the test's own."""

import asyncio
import contextvars
import math
import pickle
import threading
from datetime import timedelta

import pytest

from mainstay import (
    CircuitBreaker,
    CircuitOpenError,
    DeadlineExpiredError,
    Detect,
    UnsupportedLoopError,
    deadline,
    on_event,
    retry,
)
from mainstay.testing import FakeClock, Faults
from support.callers import ASYNC, SYNC
from support.pools import Elsewhere, Lost, use


def make(**options):
    return CircuitBreaker("mail", **{"on": Lost, **options})


def break_down(breaker, times=4):
    for _ in range(times):
        with pytest.raises(Lost):
            SYNC.called(breaker, Faults(then=Lost))


def test_a_closed_breaker_lets_answers_through(breaker_caller, metrics, context):
    breaker = make()
    assert [breaker_caller(breaker, Faults([i])) for i in range(3)] == [0, 1, 2]
    assert breaker.state == "closed"
    assert metrics("calls_total", policy="breaker", outcome="success") == 3
    assert metrics("breaker_state", state="closed") == 1


def test_a_failure_has_one_note_with_the_state(breaker_caller, metrics, clock):
    breaker, error = make(detect=Detect(consecutive=2)), Lost("no")
    for state in ("closed", "open"):
        with pytest.raises(Lost):
            breaker_caller(breaker, Faults(then=error))
        note = (
            f"mainstay.breaker mail: 1 attempt, which failed after 0.000 s; the breaker is {state}"
        )
        assert error.__notes__ == [note]


def test_what_is_no_failure_passes_untouched(breaker_caller, metrics, context):
    with pytest.raises(KeyError) as caught:
        breaker_caller(make(), Faults([KeyError("x")]))
    assert not hasattr(caught.value, "__notes__")


def test_failures_in_a_row_open_it_and_then_nothing_is_called(breaker_caller, metrics, context):
    breaker, fn = make(), Faults(then=Lost)
    for _ in range(4):
        with pytest.raises(Lost):
            breaker_caller(breaker, fn)
    with pytest.raises(CircuitOpenError) as caught:
        breaker_caller(breaker, fn)
    assert len(fn.calls) == 4
    assert 0 < caught.value.retry_after <= 5.0
    assert caught.value.component == "mail"
    assert metrics("calls_total", outcome="error") == 4
    assert metrics("calls_total", outcome="rejected") == 1
    assert metrics("call_duration_seconds_count") == 4
    assert metrics("give_ups_total", policy="breaker", reason="open") == 1
    assert metrics("breaker_transitions_total", from_state="closed", to_state="open") == 1
    assert metrics("breaker_state", state="open") == 1


def test_a_trial_closes_it_and_one_failure_soon_after_opens_it_again(
    breaker_caller, metrics, clock
):
    breaker = make()
    break_down(breaker)
    clock.advance(5.0)
    assert breaker.state == "half_open"
    assert breaker_caller(breaker, Faults(["ok"])) == "ok"
    assert breaker.state == "closed"
    with pytest.raises(Lost):
        breaker_caller(breaker, Faults(then=Lost))
    assert breaker.state == "open"


def test_as_many_trials_as_asked_for_close_it(breaker_caller, metrics, clock):
    breaker = make(detect=Detect(trials=3))
    break_down(breaker)
    clock.advance(5.0)
    for _ in range(2):
        assert breaker_caller(breaker, Faults(["ok"])) == "ok"
        assert breaker.state == "half_open"
    assert breaker_caller(breaker, Faults(["ok"])) == "ok"
    assert breaker.state == "closed"
    changes = {("closed", "open"): 1, ("open", "half_open"): 1, ("half_open", "closed"): 1}
    for (old, new), times in changes.items():
        labels = {"from_state": old, "to_state": new}
        assert metrics("breaker_transitions_total", **labels) == times


def test_a_failed_trial_begins_the_count_of_trials_anew(breaker_caller, clock):
    breaker = make(detect=Detect(trials=2))
    break_down(breaker)
    clock.advance(5.0)
    breaker_caller(breaker, Faults(["ok"]))
    with pytest.raises(Lost):
        breaker_caller(breaker, Faults(then=Lost))
    assert breaker.state == "open"
    clock.advance(10.0)
    breaker_caller(breaker, Faults(["ok"]))
    assert breaker.state == "half_open"
    breaker_caller(breaker, Faults(["ok"]))
    assert breaker.state == "closed"


def test_a_failed_trial_opens_it_for_longer(breaker_caller, clock):
    breaker = make()
    break_down(breaker)
    clock.advance(5.0)
    with pytest.raises(Lost):
        breaker_caller(breaker, Faults(then=Lost))
    with pytest.raises(CircuitOpenError) as caught:
        breaker_caller(breaker, Faults())
    assert 5.0 <= caught.value.retry_after <= 10.0


def test_a_rate_of_failures_opens_it(metrics, clock):
    breaker = make()
    fn = Faults([Lost if i % 4 == 3 else "ok" for i in range(100)])
    calls = 0
    while breaker.state == "closed":
        calls += 1
        try:
            SYNC.called(breaker, fn)
        except Lost:
            assert calls % 4 == 0
    assert calls == 32


def test_slow_answers_open_it_although_they_are_returned(breaker_caller, clock):
    breaker = make(detect=Detect(slow=1.0, consecutive=3))

    def slow():
        clock.advance(2.0)
        return "late"

    assert [breaker_caller(breaker, slow) for _ in range(3)] == ["late"] * 3
    assert breaker.state == "open"


def test_an_exception_outside_on_passes_and_changes_nothing(breaker_caller, metrics, context):
    breaker = make(detect=Detect(consecutive=1))
    with pytest.raises(KeyError):
        breaker_caller(breaker, Faults(then=KeyError))
    assert breaker.state == "closed"
    assert metrics("give_ups_total", reason="not_retryable") == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, KeyError])
def test_an_unknown_outcome_of_a_trial_neither_closes_nor_opens_it(metrics, clock, error):
    """Known faults P1, P2, P3: other breakers close, or wedge, or count it as a failure."""
    for form in (SYNC.decorated, SYNC.guarded):
        breaker = make()
        break_down(breaker)
        clock.advance(5.0)
        with pytest.raises(error):
            form(breaker, Faults(then=error))
        assert breaker.state == "half_open"
        assert form(breaker, Faults(["ok"])) == "ok"
        assert breaker.state == "closed"


def test_a_cancelled_trial_frees_its_place(metrics, clock):
    breaker = make()
    break_down(breaker)
    clock.advance(5.0)

    @breaker
    async def hang():
        await asyncio.Event().wait()

    async def main():
        task = asyncio.create_task(hang())
        await asyncio.sleep(0)
        assert breaker.state == "half_open"
        with pytest.raises(CircuitOpenError):
            await hang()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert breaker.state == "half_open"
    assert SYNC.called(breaker, Faults(["ok"])) == "ok"
    assert metrics("calls_total", outcome="cancelled") == 1


def test_only_one_of_twenty_is_let_through_when_it_is_half_open(clock):
    """Known fault P4: other breakers let all twenty through."""
    breaker = make()
    break_down(breaker)
    clock.advance(5.0)
    through = []
    for _ in range(20):
        try:
            through.append(Elsewhere(breaker))
        except CircuitOpenError:
            continue
    assert len(through) == 1
    through[0].end()
    assert breaker.state == "closed"


def test_a_hung_trial_does_not_wedge_it(clock):
    """Known fault P5: a trial that never ends must not keep a breaker half open for ever."""
    breaker = make()
    break_down(breaker)
    clock.advance(5.0)
    hung = Elsewhere(breaker)
    clock.advance(5.0)
    with pytest.raises(CircuitOpenError):
        SYNC.called(breaker, Faults())
    clock.advance(10.0)
    assert SYNC.called(breaker, Faults(["ok"])) == "ok"
    hung.end(Lost())
    assert breaker.state == "closed"


def test_results_from_before_it_opened_change_nothing(clock):
    """Known fault P6: a late success must not close an open breaker."""
    breaker = make()
    early, late = Elsewhere(breaker), Elsewhere(breaker)
    break_down(breaker)
    early.end()
    late.end(Lost())
    assert breaker.state == "open"
    with pytest.raises(CircuitOpenError) as caught:
        SYNC.called(breaker, Faults())
    assert caught.value.retry_after <= 5.0


def test_calls_go_side_by_side(metrics):
    """Known fault P7: a lock held around the call makes eight threads take turns."""
    breaker = make()
    together = threading.Barrier(8, timeout=30)
    contexts = [contextvars.copy_context() for _ in range(8)]
    wait = breaker(together.wait)
    threads = [threading.Thread(target=each.run, args=(wait,), daemon=True) for each in contexts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not together.broken
    assert metrics("calls_total", outcome="success") == 8


def test_a_retry_around_an_open_breaker_waits_for_its_time_and_burns_no_attempts(clock):
    """P26."""
    breaker = make()
    break_down(breaker)
    fn = Faults(then="ok")
    policy = retry(on=(Lost, CircuitOpenError), attempts=2, wait=0.0)
    assert policy(breaker(fn))() == "ok"
    assert len(fn.calls) == 1
    assert 2.5 <= clock.now() <= 5.5


def test_a_retry_whose_on_does_not_match_raises_the_open_breakers_error_at_once(clock):
    breaker = make()
    break_down(breaker)
    with pytest.raises(CircuitOpenError):
        retry(on=Lost)(breaker(Faults()))()
    assert clock.now() == 0.0


@pytest.mark.parametrize(
    "refusal",
    [
        CircuitOpenError("inner", 1.0),
        ExceptionGroup("tasks", [CircuitOpenError("inner", 1.0), CircuitOpenError("other", 1.0)]),
        ExceptionGroup("tasks", [ExceptionGroup("more", [CircuitOpenError("inner", 1.0)])]),
    ],
    ids=["alone", "in a group", "in a group in a group"],
)
def test_refusals_of_policies_inside_never_open_it(breaker_caller, metrics, refusal):
    breaker = make(on=Exception)
    for _ in range(20):
        with pytest.raises(type(refusal)):
            breaker_caller(breaker, Faults([refusal]))
    assert (breaker.state, breaker.failures) == ("closed", 0)
    with pytest.raises(ExceptionGroup):
        breaker_caller(breaker, Faults([ExceptionGroup("tasks", [refusal, Lost("a")])]))
    assert breaker.failures == 1


def test_opened_by_hand_it_stays_open_until_it_is_closed_by_hand(breaker_caller, metrics, clock):
    breaker = make()
    breaker.open()
    clock.advance(100_000.0)
    with pytest.raises(CircuitOpenError) as caught:
        breaker_caller(breaker, Faults())
    assert caught.value.retry_after is None
    assert breaker.state == "open"
    breaker.close()
    assert breaker_caller(breaker, Faults(["ok"])) == "ok"
    assert breaker.state == "closed"


def test_closed_by_hand_it_has_forgotten_the_past(clock):
    breaker = make()
    break_down(breaker)
    breaker.close()
    break_down(breaker, 3)
    assert breaker.state == "closed"


def test_a_call_from_before_it_was_closed_by_hand_changes_nothing(clock):
    breaker = make(detect=Detect(consecutive=1))
    early = Elsewhere(breaker)
    breaker.close()
    early.end(Lost())
    assert breaker.state == "closed"


def test_no_time_left_calls_nothing(breaker_caller, metrics, caplog):
    with deadline(0), pytest.raises(DeadlineExpiredError):
        breaker_caller(make(), Faults())
    assert metrics("calls_total", outcome="timeout") == 1
    (line,) = [each for each in caplog.records if each.name == "mainstay.breaker"]
    assert line.levelname == "WARNING"
    assert line.getMessage() == "mail: gave up (timeout) with DeadlineExpiredError"


def test_a_little_time_left_is_time_left(breaker_caller, metrics, clock):
    with deadline(0.001):
        assert breaker_caller(make(), Faults(["page"])) == "page"


def test_blocks_nest_and_what_is_not_open_is_not_left(clock):
    outer, inner = make(), CircuitBreaker("other", on=Lost)
    with outer, inner, outer:
        pass
    assert (outer.state, inner.state) == ("closed", "closed")
    outer.__enter__()
    with pytest.raises(RuntimeError, match="had not been entered"):
        inner.__exit__(None, None, None)
    outer.__exit__(None, None, None)


def test_the_open_error_says_when_and_pickles():
    error = CircuitOpenError("mail", 1.25)
    assert "next trial in 1.2 s (`.retry_after`)" in str(error)
    assert "opened by hand" in str(CircuitOpenError("mail", None))
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - pickled right here
    assert (copy.component, copy.retry_after, str(copy)) == ("mail", 1.25, str(error))


def test_each_rejection_is_an_exception_of_its_own(clock):
    """P21: a stored exception grows its traceback with every raise."""
    breaker = make()
    break_down(breaker)
    seen = []
    for _ in range(3):
        with pytest.raises(CircuitOpenError) as caught:
            SYNC.called(breaker, Faults())
        seen.append(caught.value)
    assert len({id(error) for error in seen}) == 3


def test_what_cannot_be_wrapped_is_refused():
    breaker = make()
    with pytest.raises(TypeError, match="wraps callables"):
        breaker(1)

    def items():
        yield 1

    with pytest.raises(TypeError, match="does not wrap generators"):
        breaker(items)

    async def inner():
        """Never awaited."""

    with pytest.raises(TypeError, match="decorate the async function"):
        breaker(lambda: inner())()  # noqa: PLW0108 - the lambda is what is tested
    with FakeClock(), pytest.raises(TypeError, match="decorate the async function"):
        breaker(lambda: inner())()  # noqa: PLW0108 - the lambda is what is tested

    with pytest.raises(UnsupportedLoopError):
        breaker(inner)().send(None)


def test_methods_are_wrapped():
    breaker = make()

    class Mail:
        @breaker
        def send(self, to):
            return self, to

        @breaker
        @classmethod
        def made(cls):
            return cls

        @breaker
        @staticmethod
        def plain(x):
            return x

    mail = Mail()
    assert mail.send("ann") == (mail, "ann")
    assert Mail.made() is Mail
    assert Mail.plain(1) == 1


def test_a_predicate_that_raises_hides_no_exception(metrics):
    with pytest.raises(Lost) as caught:
        SYNC.called(make(on=lambda _error: 1 / 0), Faults(then=Lost))
    assert "ZeroDivisionError" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"on": 1}, TypeError, "`on`"),
        ({"on": BaseException}, TypeError, "Exception"),
        ({"on": Lost, "detect": 4}, TypeError, "`detect`"),
        ({"on": Lost, "metrics": 4}, TypeError, "`metrics`"),
    ],
)
def test_wrong_options_are_refused_when_it_is_made(options, error, match):
    with pytest.raises(error, match=match):
        CircuitBreaker("mail", **options)


def test_a_name_is_needed():
    with pytest.raises(ValueError, match="`name`"):
        CircuitBreaker("", on=Lost)
    with pytest.raises(TypeError, match="`name`"):
        CircuitBreaker(None, on=Lost)

    async def on(_error):
        return True

    with pytest.raises(TypeError, match="async"):
        CircuitBreaker("mail", on=on)


def test_many_threads_count_exactly(metrics):
    breaker = CircuitBreaker("mail", on=Lost, detect=Detect(consecutive=10**6, threshold=10**6))
    context = contextvars.copy_context()
    fn = Faults(Lost if i % 3 == 0 else "ok" for i in range(3000))

    def work():
        for _ in range(750):
            try:
                SYNC.called(breaker, fn)
            except Lost:
                continue

    threads = [threading.Thread(target=context.copy().run, args=(work,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert metrics("calls_total", outcome="error") == 1000
    assert metrics("calls_total", outcome="success") == 2000


# Known faults of other libraries, by their numbers in the survey.


def test_no_deadline_of_the_caller_is_blamed_on_what_it_protects(breaker_caller, clock):
    """Known fault 6: Elasticsearch's client marks the node dead."""
    breaker = CircuitBreaker("mail", on=TimeoutError, detect=Detect(consecutive=1))
    nested = retry(on=Lost)

    def late():
        clock.advance(1.0)
        return nested.call(str)

    with deadline(0.5), pytest.raises(DeadlineExpiredError):
        breaker_caller(breaker, late)
    assert breaker.state == "closed"
    with pytest.raises(CircuitOpenError):
        breaker.open() or breaker_caller(breaker, late)


# What is told of it.


@pytest.fixture
def changes():
    """What was told of a breaker, each as from, to and cause."""
    found = []
    stop = on_event(lambda event: found.append((event.from_state, event.to_state, event.cause)))
    yield found
    stop()


def test_every_change_is_told_counted_and_seen(metrics, clock, changes):
    breaker = make()
    engine = breaker._bound.engine

    def seen():
        states = metrics._labelled("breaker_state", "state")
        return breaker.state, [*states], metrics("component_up")

    closed = ("closed", ["closed"], 1), False, -math.inf
    assert (seen(), engine.is_open, engine.open_until) == closed
    break_down(breaker)
    assert (seen(), engine.open_until) == (("open", ["open"], 0), engine.detector.until)
    assert changes == [("closed", "open", "consecutive")]
    clock.advance(5.0)
    break_down(breaker, 1)
    assert changes[1:] == [("open", "half_open", None), ("half_open", "open", "consecutive")]
    clock.advance(10.0)
    SYNC.called(breaker, Faults(["ok"]))
    assert changes[3:] == [("open", "half_open", None), ("half_open", "closed", None)]
    assert (seen(), engine.is_open, engine.open_until) == closed
    breaker.open()
    assert (seen(), engine.open_until) == (("open", ["open"], 0), math.inf)
    breaker.close()
    assert (seen(), engine.is_open, engine.open_until) == closed
    assert changes[5:] == [("closed", "open", None), ("open", "closed", None)]
    assert metrics("breaker_transitions_total") == len(changes) == 7


@pytest.mark.parametrize("late", [False, True])
def test_a_cancelled_trial_is_told_as_well(metrics, clock, changes, late):
    async def main():
        breaker = make()
        break_down(breaker)
        clock.advance(5.0)
        trial = asyncio.create_task(breaker.call(hang))
        await asyncio.sleep(0)
        clock.advance(1.0 if late else 0.01)
        trial.cancel()
        await asyncio.wait([trial])
        return breaker

    breaker = asyncio.run(main())
    assert [change[:2] for change in changes[1:]] == [("open", "half_open"), ("half_open", "open")]
    assert (breaker.retry_after == 0.0) is not late


def test_an_unknown_end_of_a_trial_is_told_as_well(clock, changes):
    breaker = make()
    break_down(breaker)
    clock.advance(5.0)
    with pytest.raises(KeyboardInterrupt):
        SYNC.called(breaker, Faults(then=KeyboardInterrupt))
    assert changes[1:] == [("open", "half_open", None), ("half_open", "open", "consecutive")]


async def hang():
    await asyncio.get_running_loop().create_future()


def test_slow_answers_are_seen_also_after_good_ones(clock):
    breaker = make(detect=Detect(slow=0.5, consecutive=2))
    for seconds in (0.25, 0.5, 0.5, 0.75, 0.75):  # half a second is not yet too late
        assert breaker.state == "closed"
        SYNC.called(breaker, lambda seconds=seconds: clock.advance(seconds))
    assert breaker.state == "open"


def test_closed_by_hand_it_opens_and_closes_again_by_itself(clock):
    breaker = make()
    breaker.open()
    breaker.close()
    break_down(breaker)
    assert breaker.retry_after is not None
    clock.advance(5.0)
    SYNC.called(breaker, Faults(["ok"]))
    assert breaker.state == "closed"


def test_a_call_from_before_it_opened_changes_nothing_after_it_was_closed_by_hand(clock):
    breaker = make(detect=Detect(consecutive=1))
    early = Elsewhere(breaker)
    break_down(breaker, 1)
    breaker.close()
    early.end(Lost())
    assert (breaker.state, breaker.failures) == ("closed", 0)


# What is seen of it without a call.


def test_its_figures_are_there_without_a_call(clock):
    breaker = make(detect=Detect(consecutive=2))
    assert (breaker.failures, breaker.retry_after, breaker.last_error) == (0, None, None)
    error = Lost("first")
    with pytest.raises(Lost):
        SYNC.called(breaker, Faults(then=error))
    assert (breaker.failures, breaker.retry_after, breaker.last_error) == (1, None, error)
    break_down(breaker, 1)
    assert breaker.failures == 2
    assert 2.5 <= breaker.retry_after <= 5.0
    clock.advance(6.0)
    assert breaker.retry_after == 0.0
    breaker.open()
    assert breaker.retry_after is None
    breaker.close()
    assert (breaker.failures, breaker.retry_after, breaker.last_error) == (0, None, None)


def test_reset_makes_it_as_if_just_made(clock):
    breaker = make()
    break_down(breaker)
    breaker.reset()
    assert (breaker.state, breaker.failures, breaker.last_error) == ("closed", 0, None)
    break_down(breaker, 3)
    assert breaker.state == "closed"


# Results that count as failures.


@pytest.mark.parametrize("kind", [SYNC, ASYNC], ids=["sync", "async"])
def test_a_refused_result_counts_as_a_failure_and_is_returned(kind, metrics, clock):
    breaker = make(detect=Detect(consecutive=2), on_result=lambda status: status >= 500)
    statuses = (503, 200, 503, 503)
    assert tuple(kind.called(breaker, Faults([each])) for each in statuses) == statuses
    assert breaker.state == "open"
    assert metrics("calls_total", outcome="error") == 3
    assert metrics("errors_total", error_type="ResultRefusedError") == 3
    assert breaker.last_error.result == 503


def test_what_on_result_raises_is_raised_and_said_once(metrics, clock, caplog):
    def broken(value):
        raise KeyError(value)

    breaker = make(on_result=broken)
    for _ in range(2):
        with pytest.raises(KeyError, match="page"):
            SYNC.called(breaker, Faults(["page"]))
        (line,) = caplog.records
        assert line.levelname == "WARNING"
        assert line.getMessage() == "mail: `on_result` raised KeyError"
    assert metrics("hook_errors_total", hook="predicate") == 2


@pytest.mark.parametrize("on_result", [1, "no", (lambda: (yield))])
def test_on_result_is_checked_when_it_is_made(on_result):
    with pytest.raises(TypeError, match="`on_result` must"):
        make(on_result=on_result)


def test_an_async_on_result_is_refused():
    async def refuses(value):
        return False

    with pytest.raises(TypeError, match="`on_result` must be a plain function"):
        make(on_result=refuses)


# Calls that their callers leave.


def cancelled_after(breaker, seconds, clock):
    """Call something that hangs, and leave after so many seconds."""

    async def hang():
        await asyncio.get_running_loop().create_future()

    async def main():
        task = asyncio.create_task(breaker.call(hang))
        await asyncio.sleep(0)
        clock.advance(seconds)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())


def test_calls_that_hang_open_it_though_their_callers_leave(metrics, clock):
    breaker = make()
    for _ in range(4):
        assert breaker.state == "closed"
        cancelled_after(breaker, 0.15, clock)
    assert breaker.state == "open"
    assert metrics("calls_total", outcome="cancelled") == 4


def test_calls_that_are_left_early_do_not_open_it(metrics, clock):
    breaker = make()
    for _ in range(50):
        cancelled_after(breaker, 0.09, clock)
        ASYNC.called(breaker, Faults(["ok"]))
    assert breaker.state == "closed"


def test_a_limit_of_the_callers_is_charged_by_the_same_rule(metrics, clock):
    breaker = make()

    async def hang():
        clock.advance(0.15)
        await asyncio.get_running_loop().create_future()

    async def main():
        with pytest.raises(DeadlineExpiredError):
            async with deadline(0.15):
                await breaker.call(hang)

    for _ in range(4):
        asyncio.run(main())
    assert breaker.state == "open"
    assert metrics("calls_total", outcome="timeout") == 4


def test_infinity_is_for_callers_who_may_leave_whenever_they_like(metrics, clock):
    breaker = make(detect=Detect(slow=float("inf")))
    for _ in range(50):
        cancelled_after(breaker, 100.0, clock)
    assert breaker.state == "closed"


# Predicates that fail, and exceptions that `on` does not name.


def test_a_predicate_that_raises_is_warned_of_and_counts_as_an_error(metrics, clock, caplog):
    breaker = make(on=lambda error: error.response.status_code == 503)
    for _ in range(10):
        with pytest.raises(Lost):
            SYNC.called(breaker, Faults(then=Lost))
    assert breaker.state == "closed"
    assert metrics("give_ups_total", reason="predicate_error") == 10
    assert caplog.text.count("for Lost `on` raised AttributeError") == 1


@pytest.mark.parametrize("delay", [2.5, 0, timedelta(seconds=1)])
def test_a_delay_from_a_predicate_counts_as_true(metrics, clock, delay):
    breaker = make(on=lambda _error: delay, detect=Detect(consecutive=1))
    with pytest.raises(Lost):
        SYNC.called(breaker, Faults(then=Lost))
    assert breaker.state == "open"


@pytest.mark.parametrize("answer", [None, "yes", []])
def test_an_answer_that_is_no_verdict_is_a_predicate_error(metrics, clock, answer):
    with pytest.raises(Lost) as caught:
        SYNC.called(make(on=lambda error: answer), Faults(then=Lost))
    assert "`on` must return True, False or a Verdict" in caught.value.__notes__[0]
    assert metrics("give_ups_total", reason="predicate_error") == 1


def test_the_first_exception_of_a_class_that_on_does_not_name_is_logged(metrics, clock, caplog):
    breaker = make()
    with caplog.at_level("INFO"):
        for _ in range(3):
            with pytest.raises(KeyError):
                SYNC.called(breaker, Faults(then=KeyError))
    assert caplog.text.count("mail: `on` does not match KeyError (Lost)") == 1


def test_a_breaker_opened_by_hand_ignores_a_trial_on_its_way(clock):
    breaker = CircuitBreaker("mail", on=Lost, detect=Detect(consecutive=1))
    with pytest.raises(Lost):
        breaker.call(use, "bad")
    clock.advance(5.0)

    def during_trial():
        breaker.open()
        return "ok"

    assert breaker.call(during_trial) == "ok"
    with pytest.raises(CircuitOpenError):
        breaker.call(use, "good")
    breaker.close()
    assert breaker.state == "closed"

"""What a retry tells: to the log and to `on_event`."""

import asyncio
import logging
import threading

import attrs
import pytest

from mainstay import DeadlineExpiredError, deadline, on_event, retry
from mainstay._core.events import _listeners
from mainstay.testing import FakeClock, Faults
from support.interruptions import at_each_interruption


class Lost(ConnectionError):
    """The failure that the policies of these tests retry."""


@pytest.fixture
def events():
    found = []
    stop = on_event(found.append)
    yield found
    stop()


def test_a_success_tells_nothing(caller, events, caplog):
    with caplog.at_level(logging.DEBUG):
        caller(retry(on=Lost), Faults(["ok"]))
    assert events == []
    assert [record for record in caplog.records if record.name.startswith("mainstay")] == []


def test_a_recovery_tells_of_its_retries_and_not_of_its_success(caller, events):
    with FakeClock():
        caller(retry(on=Lost, wait=3, name="fetch"), Faults([Lost("a"), Lost("b"), "ok"]))
    assert [(each.kind, each.attempt, each.wait, str(each.error)) for each in events] == [
        ("retry_scheduled", 1, 3.0, "a"),
        ("retry_scheduled", 2, 3.0, "b"),
    ]
    assert {(each.policy, each.component) for each in events} == {("retry", "fetch")}


def test_giving_up_is_told_with_its_figures(caller, events):
    error = Lost("the last one")
    with FakeClock(), pytest.raises(Lost):
        caller(retry(on=Lost, attempts=2, wait=3, name="fetch"), Faults([Lost, error]))
    last = events[-1]
    assert attrs.asdict(last) == {
        "component": "fetch",
        "attempts": 2,
        "elapsed": 3.0,
        "reason": "attempts",
        "error": error,
    }
    assert (last.policy, last.kind) == ("retry", "retry_gave_up")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"attempts": 1}, "attempts"),
        ({"stop": lambda state: True}, "attempts"),
        ({"timeout": 1, "wait": 2}, "timeout"),
        ({"budget": 0.0}, "budget"),
        ({"on": KeyError}, "not_retryable"),
    ],
)
def test_every_reason_is_told_by_its_name_in_the_metrics(caller, metrics, events, options, reason):
    with pytest.raises(Lost):
        caller(retry(**{"on": Lost, **options}), Faults([Lost]))
    assert [each.reason for each in events] == [reason]
    assert metrics.reasons() == {reason: 1}


def test_events_are_frozen(caller, events):
    with pytest.raises(Lost):
        caller(retry(on=Lost, attempts=2, wait=0), Faults(then=Lost))
    for each in events:
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            each.component = "another"


# The log


def test_a_scheduled_retry_is_an_info_and_giving_up_a_warning(caller, caplog):
    with caplog.at_level(logging.DEBUG), pytest.raises(Lost):
        caller(retry(on=Lost, attempts=2, wait=0), Faults(then=Lost))
    assert [
        (each.name, each.levelname) for each in caplog.records if "asyncio" not in each.name
    ] == [
        ("mainstay.retry", "INFO"),
        ("mainstay.retry", "WARNING"),
    ]


def test_the_log_line_is_the_event_in_words(caller, events, caplog):
    with caplog.at_level(logging.INFO), FakeClock(), pytest.raises(Lost):
        caller(retry(on=Lost, attempts=2, wait=3, name="fetch"), Faults(then=Lost))
    assert [each.getMessage() for each in caplog.records] == [str(each) for each in events]
    first, last = caplog.messages
    assert first == "fetch: attempt 1 failed with Lost; the next attempt starts in 3.000 s"
    assert last == "fetch: gave up (attempts) after 2 attempts in 3.000 s with Lost"


def lines_of(caplog):
    """Return what mainstay has logged."""
    return [each for each in caplog.records if each.name.startswith("mainstay")]


def test_the_first_exception_of_a_class_that_on_does_not_name_is_logged(caller, events, caplog):
    """Around httpx, `on=ConnectionError` matches nothing, and nobody was told."""
    policy = retry(on=(Lost, TimeoutError), name="fetch")
    with caplog.at_level(logging.DEBUG):
        for error in (KeyError, KeyError, IndexError):
            with pytest.raises(error):
                caller(policy, Faults([error("arguments, never logged")]))
    passes = "(Lost, TimeoutError), so the exception passes through"
    assert [(each.levelname, each.getMessage()) for each in lines_of(caplog)] == [
        ("INFO", f"fetch: `on` does not match KeyError {passes}"),
        ("DEBUG", f"fetch: `on` does not match KeyError {passes}"),
        ("INFO", f"fetch: `on` does not match IndexError {passes}"),
    ]
    assert [each.reason for each in events] == ["not_retryable"] * 3


def test_a_predicate_that_raises_is_warned_of_once_for_each_class(caller, metrics, caplog):
    policy = retry(on=lambda error: error.response.status_code == 503, name="fetch")
    for _ in range(3):
        with pytest.raises(Lost) as caught:
            caller(policy, Faults([Lost]))
    (line,) = [each for each in lines_of(caplog) if "gave up" not in each.getMessage()]
    assert line.levelname == "WARNING"
    said = line.getMessage().removeprefix("fetch: for Lost ")
    assert said.startswith("`on` raised AttributeError(")
    assert said.endswith("), so the exception counts as not matched")
    assert caught.value.__notes__[0].endswith(said)
    assert metrics("hook_errors_total", hook="predicate") == 3
    assert metrics("give_ups_total", reason="predicate_error") == 3


def test_neither_arguments_nor_messages_are_logged(caller, caplog):
    with caplog.at_level(logging.DEBUG), pytest.raises(Lost):
        caller(
            retry(on=Lost, attempts=2, wait=0),
            Faults(then=Lost("password=hunter2")),
            "hunter2",
            token="hunter2",  # noqa: S106 - what must not be seen
        )
    assert [line for line in caplog.messages if "hunter2" in line] == []


def test_a_log_filter_that_raises_breaks_no_call(caller):
    def broken(record):
        raise ZeroDivisionError

    logger = logging.getLogger("mainstay.retry")
    logger.addFilter(broken)
    try:
        assert caller(retry(on=Lost, wait=0), Faults([Lost, "ok"])) == "ok"
        with pytest.raises(Lost):
            caller(retry(on=Lost, attempts=1), Faults([Lost]))
    finally:
        logger.removeFilter(broken)


def test_a_log_handler_that_raises_breaks_no_call(caller):
    class Broken(logging.Handler):
        def emit(self, record):
            raise ZeroDivisionError

    logger = logging.getLogger("mainstay")
    handler = Broken()
    logger.addHandler(handler)
    try:
        assert caller(retry(on=Lost, wait=0), Faults([Lost, "ok"])) == "ok"
    finally:
        logger.removeHandler(handler)


# Listeners


def broken_listener(event):
    raise ZeroDivisionError("in the listener")


def test_what_a_listener_raises_is_swallowed_and_counted(caller, metrics, events):
    """Known fault 10: a raising hook escapes to the caller in tenacity and stamina."""
    stop = on_event(broken_listener)
    try:
        error = Lost("mine")
        with pytest.raises(Lost) as caught:
            caller(retry(on=Lost, attempts=2, wait=0), Faults(then=error))
    finally:
        stop()
    assert caught.value is error
    assert error.__context__ is None
    assert len(error.__notes__) == 1
    assert len(events) == 2
    assert metrics.outcomes() == {"error": 1}
    counted = metrics(
        "errors_total",
        component=f"{__name__}.broken_listener",
        policy="event",
        error_type="ZeroDivisionError",
    )
    assert counted == 2


def test_listeners_after_a_broken_one_are_told_all_the_same(metrics):
    found = []
    stops = [on_event(broken_listener), on_event(found.append), on_event(broken_listener)]
    try:
        retry(on=Lost, wait=0).call(Faults([Lost, "ok"]))
    finally:
        for stop in stops:
            stop()
    assert len(found) == 1


def test_an_interruption_in_a_listener_ends_the_call_and_is_counted_once(caller, metrics):
    def interrupt(event):
        raise KeyboardInterrupt

    stop = on_event(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            caller(retry(on=Lost, wait=0), Faults([Lost, "ok"]))
    finally:
        stop()
    assert metrics.outcomes() == {"cancelled": 1}


def test_a_listener_can_be_ended_also_twice(metrics):
    found = []
    stop = on_event(found.append)
    retry(on=Lost, wait=0).call(Faults([Lost, "ok"]))
    stop()
    stop()
    retry(on=Lost, wait=0).call(Faults([Lost, "ok"]))
    assert len(found) == 1


def test_a_function_that_listens_twice_is_told_twice(metrics):
    found = []
    first, second = on_event(found.append), on_event(found.append)
    retry(on=Lost, wait=0).call(Faults([Lost, "ok"]))
    first()
    retry(on=Lost, wait=0).call(Faults([Lost, "ok"]))
    second()
    retry(on=Lost, wait=0).call(Faults([Lost, "ok"]))
    assert len(found) == 3


def test_a_listener_may_end_itself(metrics):
    found = []

    def once(event):
        found.append(event)
        stop()

    stop = on_event(once)
    retry(on=Lost, wait=0).call(Faults([Lost, Lost, "ok"]))
    assert len(found) == 1


def test_a_listener_may_use_policies_itself(metrics, events):
    def listener(event):
        if event.component == "outer":
            retry(on=Lost, wait=0, name="inner").call(Faults([Lost, "ok"]))

    stop = on_event(listener)
    try:
        retry(on=Lost, wait=0, name="outer").call(Faults([Lost, "ok"]))
    finally:
        stop()
    assert sorted(each.component for each in events) == ["inner", "outer"]


def test_a_listener_runs_in_the_thread_of_the_call(metrics):
    threads = []
    stop = on_event(lambda event: threads.append(threading.current_thread()))
    try:
        worker = threading.Thread(target=retry(on=Lost, wait=0)(Faults([Lost, "ok"])))
        worker.start()
        worker.join()
    finally:
        stop()
    assert threads == [worker]


def test_an_async_listener_is_refused():
    async def listener(event):
        raise AssertionError("it was never awaited")

    stops = []
    try:
        with pytest.raises(TypeError, match="`fn`"):
            stops.append(on_event(listener))
    finally:
        for stop in stops:
            stop()


@pytest.mark.parametrize("value", [None, 1, "print"])
def test_a_listener_is_callable(value):
    with pytest.raises(TypeError, match="`fn`") as caught:
        on_event(value)
    assert repr(value) in str(caught.value)


def test_events_are_told_before_the_wait(metrics):
    with FakeClock() as clock:
        times = []
        stop = on_event(lambda event: times.append(clock.now()))
        try:
            asyncio.run(retry(on=Lost, wait=5)(Faults([Lost, Lost, "ok"]).acall)())
        finally:
            stop()
    assert times == [0.0, 5.0]


def test_an_event_that_a_listener_causes_is_not_handed_to_it(caller, metrics, clock):
    """A listener that posts to a chat which is down as well went on for ever."""
    told, others = [], []

    def post_to_a_chat(event):
        told.append(event.kind)
        with pytest.raises(Lost):
            retry(on=Lost, attempts=3, wait=0, name="chat").call(Faults(then=Lost))

    stops = [on_event(post_to_a_chat), on_event(lambda event: others.append(event.component))]
    try:
        with pytest.raises(Lost):
            caller(retry(on=Lost, attempts=2, wait=0, name="work"), Faults(then=Lost))
    finally:
        for stop in stops:
            stop()
    assert told == ["retry_scheduled", "retry_gave_up"]
    assert others.count("work") == 2
    assert others.count("chat") == 6
    assert metrics("errors_total", policy="event", error_type="RecursionError") == 6


def test_a_log_handler_that_uses_a_failing_policy_ends(caller, metrics, clock):
    class Posting(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())
            with pytest.raises(Lost):
                retry(on=Lost, attempts=2, wait=0, name="chat").call(Faults(then=Lost))

    lines, handler = [], Posting()
    logger = logging.getLogger("mainstay.retry")
    logger.addHandler(handler)
    try:
        with pytest.raises(Lost):
            caller(retry(on=Lost, attempts=1, name="work"), Faults(then=Lost))
    finally:
        logger.removeHandler(handler)
    assert [line.partition(":")[0] for line in lines] == ["work"]


def test_an_exception_that_on_does_not_match_is_no_warning_and_one_attempt(caller, caplog, metrics):
    with caplog.at_level(logging.INFO), pytest.raises(KeyError):
        caller(retry(on=Lost, wait=0, name="fetch"), Faults([Lost, KeyError]))
    assert [each.levelname for each in lines_of(caplog)] == ["INFO", "INFO"]
    assert metrics("call_attempts_sum") == 2


def test_a_call_without_time_left_is_told_as_no_attempt(caller, events, context):
    with deadline(0), pytest.raises(DeadlineExpiredError):
        caller(retry(on=Lost, name="fetch"), Faults(["page"]))
    (event,) = events
    assert (event.attempts, event.reason) == (0, "timeout")


def test_a_signal_handler_may_listen_while_its_thread_begins_to_or_ends():
    """Known fault: it waited for ever for a lock of its own thread."""
    attempts = []

    def attempt():
        heard = []
        stops = [on_event(heard.append)]
        attempts.append(stops)

        def handler():
            stops.append(on_event(heard.append))
            stops.pop(0)()

        def action():
            stops.append(on_event(heard.append))
            stops.pop()()

        def check():
            for stop in stops:
                stop()
            assert _listeners == {}

        return action, handler, check

    assert at_each_interruption(attempt) > 10
    for stop in attempts[-1]:  # which nothing interrupted
        stop()
    assert _listeners == {}

"""Which alerts fire: from what is said of them twice, late and out of order."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay._failover.alert_log import MOST_ALERTS, AlertLog
from mainstay._metrics.alertmanager import Notice

BEGIN = datetime(2026, 11, 30, tzinfo=UTC)


def at(minutes):
    return BEGIN + timedelta(minutes=minutes)


def firing(starts, *, fingerprint="f", name="Errors"):
    return Notice(fingerprint, "firing", at(starts), None, {"alertname": name})


def resolved(starts, ends, *, fingerprint="f", name="Errors"):
    return Notice(fingerprint, "resolved", at(starts), at(ends), {"alertname": name})


def log_of(*notices, most=10):
    log = AlertLog(most)
    return log, [log.take(each, "a") for each in notices]


@pytest.mark.parametrize(
    ("notices", "taken", "fires"),
    [
        ([firing(1)], ["news"], True),
        ([firing(1), firing(1)], ["news", "known"], True),
        ([firing(1), resolved(1, 2)], ["news", "news"], False),
        ([resolved(1, 2)], ["known"], False),
        ([resolved(1, 2), firing(1)], ["known", "older"], False),
        ([firing(1), resolved(1, 2), firing(1)], ["news", "news", "older"], False),
        ([firing(1), resolved(1, 2), firing(3)], ["news", "news", "news"], True),
        ([firing(1), firing(3)], ["news", "news"], True),
        ([firing(3), firing(1)], ["news", "known"], True),
        ([firing(3), resolved(1, 2)], ["news", "older"], True),
        ([firing(1), resolved(3, 4)], ["news", "news"], False),
        ([firing(1), resolved(1, 2), firing(3), resolved(1, 9)], ["news"] * 3 + ["older"], True),
        # Two servers of Prometheus have seen it begin, and Alertmanager takes the earlier time.
        ([firing(2), resolved(1, 3)], ["news", "news"], False),
        ([firing(2), firing(1), resolved(1, 3)], ["news", "known", "news"], False),
        ([firing(2), resolved(1, 3), firing(2)], ["news", "news", "older"], False),
        ([firing(2), resolved(1, 2)], ["news", "news"], False),
        ([firing(1), resolved(1, 2), firing(3), resolved(0, 9)], ["news"] * 3 + ["older"], True),
        (
            [firing(1), resolved(1, 2), resolved(0, 1), firing(1)],
            ["news", "news", "known", "older"],
            False,
        ),
    ],
)
def test_what_is_said_is_about_one_time_that_an_alert_fires(notices, taken, fires):
    log, said = log_of(*notices)
    assert said == taken
    assert log.is_about("a") == fires


def test_one_that_is_over_without_an_end_was_not_the_one_that_began_later():
    log, said = log_of(firing(2), Notice("f", "resolved", at(1), None, {}))
    assert said == ["news", "older"]
    assert log.is_about("a")


times = st.lists(st.integers(1, 100), min_size=2, max_size=8, unique=True).map(sorted)


@given(times=times, data=st.data())
def test_the_newest_word_holds_in_whatever_order_all_come(times, data):
    history = []
    for number, starts in enumerate(times[::2]):
        history.append(firing(starts))
        if 2 * number + 1 < len(times):
            history.append(resolved(starts, times[2 * number + 1]))
    log, newest = AlertLog(10), -1
    for heard in data.draw(st.lists(st.integers(0, len(history) - 1), min_size=1, max_size=20)):
        log.take(history[heard], "a")
        newest = max(newest, heard)
        assert log.is_about("a") == (history[newest].status == "firing")


@given(kinds=st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.integers(1, 5))))
def test_what_is_kept_is_bounded(kinds):
    log = AlertLog(most=5)
    for number, is_firing, starts in kinds:
        name = f"f{number}"
        notice = firing(starts, fingerprint=name) if is_firing else resolved(
            starts, starts, fingerprint=name
        )  # fmt: skip
        taken = log.take(notice, "a")
        assert taken != "full" or len(log._firing) == 5
        assert len(log._firing) <= 5
        assert len(log._over) <= 5
        assert not log._firing.keys() & log._over.keys()


def test_of_too_many_alerts_the_later_ones_are_refused():
    log, taken = log_of(*(firing(1, fingerprint=each) for each in "abc"), most=2)
    assert taken == ["news", "news", "full"]
    log.take(resolved(1, 2, fingerprint="a"), "a")
    assert log.take(firing(1, fingerprint="c"), "a") == "news"


def test_of_too_many_alerts_that_are_over_the_first_are_forgotten():
    log, _ = log_of(*(resolved(1, 2, fingerprint=each) for each in "abac"), most=2)
    assert [log.take(firing(1, fingerprint=each), "a") for each in "acb"] == [
        "older",
        "older",
        "news",
    ]


def test_one_that_fires_again_is_no_longer_one_that_is_over():
    log, _ = log_of(resolved(1, 2), firing(3))
    assert (len(log._firing), len(log._over)) == (1, 0)


def test_all_that_was_over_before_is_a_replay():
    history = [firing(1), resolved(1, 2), firing(5), resolved(3, 9), firing(10)]
    log, taken = log_of(*history, resolved(2, 20))
    assert taken == ["news"] * 5 + ["older"]
    assert log.is_about("a")


def test_one_that_is_over_without_an_end_is_the_one_that_began_then():
    _, taken = log_of(firing(2), Notice("f", "resolved", at(2), None, {}))
    assert taken == ["news", "news"]


def test_as_many_as_a_day_of_alerts_are_kept():
    assert AlertLog()._most == MOST_ALERTS == 10_000


def test_alerts_for_which_nobody_was_drained_are_told_until_they_are_met_or_over():
    log, _ = log_of(firing(1), firing(1, fingerprint="g", name="Slow"))
    assert [each.name for each in log.unmet()["a"]] == ["Errors", "Slow"]
    log.unmet()["a"][0].is_met = True
    assert [each.name for each in log.unmet()["a"]] == ["Slow"]
    log.take(firing(2), "a")
    assert [each.name for each in log.unmet()["a"]] == ["Errors", "Slow"]
    log.take(resolved(2, 3), "a")
    log.take(resolved(1, 3, fingerprint="g"), "a")
    assert log.unmet() == {}

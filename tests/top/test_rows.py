"""What figures say of a component, and how bad that is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay._metrics import schema, verdict
from mainstay._top import rows
from mainstay._top.figures import Figures
from mainstay._top.run_seen import RunFigures
from mainstay._top.view import Level, Since

WELL, DEGRADED, FAILING = Level.WELL, Level.DEGRADED, Level.FAILING


def figures(now=None, grown=None, rates=None, *, has_rates=True):
    grown = grown or {}
    return Figures(
        grown=grown,
        rates=grown if rates is None else rates,
        now=grown if now is None else now,
        processes=1,
        has_rates=has_rates,
    )


def calls(policy="retry", component="shop", reasons=None, **outcomes):
    samples = {"calls_total": {(component, policy, name): n for name, n in outcomes.items()}}
    if reasons:
        samples["give_ups_total"] = {
            (component, policy, reason): count for reason, count in reasons.items()
        }
    return samples


def row_of(samples):
    (row,) = rows.calls_rows(figures(grown=samples), {})
    return row


def never(*_):
    return None


@pytest.mark.parametrize(
    ("samples", "level", "why"),
    [
        (calls(success=100), WELL, ""),
        (calls(success=96, error=4), WELL, ""),
        (calls(success=95, error=5), FAILING, "5.0 % fail"),
        (calls(success=95, timeout=2, rejected=3), FAILING, "5.0 % fail"),
        (calls(success=95, cancelled=5), WELL, ""),
        (calls(success=8, error=2), WELL, ""),  # two are too few to say anything
        (calls(error=1), FAILING, "100 % fail"),  # unless there were no others
        (calls(success=50, error=50, reasons={"not_retryable": 50}), WELL, ""),
        (calls(success=50, error=50, reasons={"attempts": 50}), FAILING, "50 % fail"),
        (calls(success=95, recovered=5), DEGRADED, "5.0 % recovered"),
        (calls(success=98, recovered=2), WELL, ""),
        (calls("redundant", success=50, recovered=50), WELL, ""),
        (calls("failover", success=50, recovered=50), DEGRADED, "50 % recovered"),
        (calls(success=40, recovered=40, error=20), FAILING, "20 % fail"),
    ],
)
def test_callers_feel_what_fails_and_mainstay_covers_what_is_recovered(samples, level, why):
    row = row_of(samples)
    assert (row.level, row.why) == (level, why)


OUTCOMES = st.fixed_dictionaries({name: st.integers(0, 1_000) for name in schema.OUTCOMES})


@given(OUTCOMES, st.integers(0, 2_000))
def test_shares_are_shares_whatever_was_counted(outcomes, answers):
    ended = rows.shares_of(outcomes, answers)
    assert 0 <= ended.failed_share <= 1
    assert 0 <= ended.recovered_share <= 1
    assert ended.failed_share + ended.recovered_share <= 1
    assert ended.calls == sum(outcomes.values()) - outcomes["cancelled"]


@given(OUTCOMES)
def test_more_errors_are_never_better(outcomes):
    worse = {**outcomes, "error": outcomes["error"] + outcomes["success"], "success": 0}
    level = rows.shares_of(outcomes).level("retry")
    assert level is not FAILING or rows.shares_of(worse).level("retry") is FAILING


def test_components_that_were_never_called_are_not_listed():
    assert rows.calls_rows(figures(calls(success=0.0, error=0.0)), {}) == []


def test_one_that_is_not_called_now_is_well_and_has_no_figures():
    (row,) = rows.calls_rows(figures(calls(success=5), grown={"calls_total": {}}), {})
    assert (row.level, row.rate, row.quantiles, row.attempts) == (WELL, 0.0, None, None)


def test_before_the_second_scrape_no_rate_is_known():
    (row,) = rows.calls_rows(figures(calls(success=5), {}, {}, has_rates=False), {})
    assert row.rate is None


def test_layers_of_a_pipeline_are_not_listed_beside_the_pipeline():
    samples = {"calls_total": {}}
    for policy in ("pipeline", "bulkhead"):
        samples["calls_total"] |= calls(policy, success=1)["calls_total"]
    samples["calls_total"] |= calls("bulkhead", "other", success=1)["calls_total"]
    found = rows.calls_rows(figures(grown=samples), {})
    assert [(row.component, row.policy) for row in found] == [
        ("other", "bulkhead"),
        ("shop", "pipeline"),
    ]


def durations(**counts):
    return {
        "call_duration_seconds_bucket": {
            ("shop", "retry", bound): count for bound, count in counts.items()
        }
    }


def test_quantiles_are_those_of_the_window():
    samples = calls(success=100) | durations(**{"0.1": 50, "0.2": 100, "+Inf": 100})
    assert row_of(samples).quantiles == pytest.approx((0.1, 0.19, 0.198))


def test_quantiles_are_not_told_while_most_calls_are_refused():
    samples = calls("retry", rejected=60, success=40) | durations(**{"0.1": 40, "+Inf": 40})
    assert row_of(samples).quantiles is None


def test_attempts_per_call_count_those_of_calls_that_took_more_than_one():
    key = ("shop", "retry")
    samples = calls(success=8, error=2, rejected=5) | {
        "call_attempts_sum": {key: 8.0},
        "call_attempts_count": {key: 2.0},
    }
    assert row_of(samples).attempts == 1.6


def test_errors_and_reasons_are_told_most_frequent_first():
    samples = calls(success=1, error=4, reasons={"attempts": 3, "timeout": 1})
    samples["errors_total"] = {
        ("shop", "retry", "OSError"): 1.0,
        ("shop", "retry", "TimeoutError"): 11.0,
    }
    row = row_of(samples)
    assert row.errors == (("TimeoutError", 11.0), ("OSError", 1.0))
    assert row.reasons == (("attempts", 3), ("timeout", 1))


COUNTS = st.lists(st.integers(0, 50), min_size=1, max_size=8)


@given(COUNTS, st.floats(0.01, 0.99))
def test_a_quantile_lies_in_the_bucket_that_holds_it(counts, share):
    bounds = [str(0.1 * 2**place) for place in range(len(counts))] + ["+Inf"]
    totals = [sum(counts[: place + 1]) for place in range(len(counts))]
    buckets = dict(zip(bounds, [*totals, totals[-1]], strict=True))
    found = rows.quantile(buckets, share)
    if not totals[-1]:
        assert found is None
        return
    place = next(at for at, total in enumerate(totals) if total >= share * totals[-1])
    lower = float(bounds[place - 1]) if place else 0.0
    assert lower <= found <= float(bounds[place]) * (1 + 1e-9)


def test_a_quantile_beyond_the_last_bound_is_that_bound():
    assert rows.quantile({"1.0": 1.0, "+Inf": 10.0}, 0.95) == 1.0
    assert rows.quantile({"+Inf": 1.0}, 0.5) == 0.0


def members(**states):
    return {name: {state: 1.0} for name, state in states.items()}


@pytest.mark.parametrize(
    ("states", "level", "why"),
    [
        (members(a="active", b="standby_cold"), WELL, ""),
        (members(a="standby_cold"), WELL, ""),  # not opened yet
        (members(a="ejected", b="active"), DEGRADED, "a out, 1 of 2 serve"),
        (members(a="ejected", b="draining", c="active"), DEGRADED, "a, b out, 1 of 3 serve"),
        (members(a="ejected", b="standby_hot"), FAILING, "no healthy member"),
        (members(a="ejected", b="ejected"), FAILING, "no healthy member"),
        (members(a="failing", b="active"), DEGRADED, "a failing"),
        (members(a="trial"), DEGRADED, "a trial"),
        (members(a="ejected", b="failing"), FAILING, "no healthy member"),
        (members(a="failing"), FAILING, "no healthy member"),
        ({"a": {"ejected": 1.0, "active": 3.0}}, DEGRADED, "a out in some processes"),
    ],
)
def test_an_ejected_member_is_covered_unless_no_healthy_one_is_left(states, level, why):
    assert rows.pool_level(states) == (level, why)


@given(st.dictionaries(st.text(min_size=1), st.sampled_from(schema.MEMBER_STATES), min_size=1))
def test_a_pool_fails_only_if_it_has_no_healthy_member(states):
    level, _ = rows.pool_level({name: {state: 1.0} for name, state in states.items()})
    serving = {"active", "trial"} & {*states.values()}
    assert not (level is FAILING and serving)
    assert (level is WELL) == ({*states.values()} <= {"active", "standby_hot", "standby_cold"})


def test_every_state_of_the_schema_has_a_place_among_the_worst():
    assert {*verdict.WORST_STATES} == {*schema.MEMBER_STATES}
    assert {*verdict.WORST_BREAKERS} == {*schema.BREAKER_STATES}
    assert {*schema.OUTCOMES} > rows._FAILED


def member_states(**states):
    return {
        ("db", name, each): float(each == state)
        for name, state in states.items()
        for each in schema.MEMBER_STATES
    }


def test_the_colour_of_a_member_is_that_of_what_its_pool_comes_to():
    for states, level in (({"b": "active"}, DEGRADED), ({"b": "ejected"}, FAILING)):
        now = {"member_state": member_states(a="ejected", **states)}
        (pool,) = rows.pool_rows(figures(now), never)
        assert pool.members[0].level == pool.level == level


def test_time_in_state_is_told_of_changes_and_of_what_is_bad():
    now = {"member_state": member_states(a="active", b="active", c="ejected")}

    def since(_, member, __):
        return Since(seconds=5.0, is_exact=True, has_changed=member == "b")

    (pool,) = rows.pool_rows(figures(now), since)
    assert [member.since is not None for member in pool.members] == [False, True, True]


def test_a_member_says_in_how_many_processes_it_is_so():
    now = {"member_state": {("db", "a", "active"): 3.0, ("db", "a", "ejected"): 1.0}}
    (pool,) = rows.pool_rows(figures(now), never)
    assert (pool.members[0].state, pool.members[0].processes) == ("ejected", (1, 4))


def test_a_member_has_its_rate_and_the_share_that_fails():
    now = {"member_state": member_states(a="active")}
    rates = {"member_attempts_total": {("db", "a", "success"): 3.0, ("db", "a", "error"): 1.0}}
    (pool,) = rows.pool_rows(figures(now, {}, rates), never)
    assert (pool.members[0].rate, pool.members[0].failed) == (4.0, 0.25)


@pytest.mark.parametrize(
    ("state", "level", "why"),
    [
        ("closed", WELL, ""),
        ("half_open", DEGRADED, "breaker half open"),
        ("open", FAILING, "breaker open"),
    ],
)
def test_callers_feel_an_open_breaker(state, level, why):
    now = {
        "breaker_state": {("pay", each): float(each == state) for each in schema.BREAKER_STATES},
        "component_failures_total": {("pay",): 2.0},
    }
    refused = calls("breaker", "pay", rejected=22.0)
    (row,) = rows.breaker_rows(figures(now, rates=refused), never)
    assert (row.level, row.why, row.state, row.refused, row.outages) == (level, why, state, 22, 2)


@pytest.mark.parametrize(
    ("running", "waiting", "level"), [(2, 0, WELL), (8, 0, WELL), (8, 3, DEGRADED), (7, 3, WELL)]
)
def test_a_bulkhead_is_full_where_calls_wait(running, waiting, level):
    now = {
        "concurrency_limit": {("photos",): 8.0},
        "in_flight": {("photos",): float(running)},
        "waiting": {("photos",): float(waiting)},
    }
    (row,) = rows.limit_rows(figures(now))
    assert (row.level, row.limit, row.running, row.waiting) == (level, 8, running, waiting)


def copies(samples):
    (row,) = rows.copies_rows(figures(grown=samples))
    return row


def test_a_hedge_says_how_often_how_late_and_to_what_end():
    samples = calls("redundant", success=100) | {
        "hedges_total": {("shop", "slow"): 3.0, ("shop", "failed"): 1.0},
        "hedge_delay_seconds": {("shop",): 0.045},
        "copy_wins_total": {("shop", "0"): 97.0, ("shop", "1"): 3.0},
    }
    row = copies(samples)
    assert (row.hedged, row.delay, row.wins, row.votes) == (0.04, 0.045, 0.75, None)


def test_the_layer_of_a_pipeline_hedges_a_share_of_the_calls_of_the_pipeline():
    samples = calls("pipeline", success=100) | {"hedges_total": {("shop", "slow"): 4.0}}
    assert copies(samples).hedged == 0.04


def test_wins_are_not_told_of_members_since_nobody_knows_who_was_first():
    samples = {"hedges_total": {("shop", "slow"): 3.0}, "copy_wins_total": {("shop", "a"): 3.0}}
    assert copies(samples).wins is None


def test_a_copy_that_is_outvoted_is_covered_and_named():
    votes = {("shop", "decided"): 8.0, ("shop", "unanimous"): 2.0}
    samples = {"votes_total": votes, "dissents_total": {("shop", "a"): 8.0, ("shop", "b"): 0.1}}
    row = copies(samples)
    assert (row.votes, row.level, row.why) == (10.0, DEGRADED, "a outvoted")
    assert row.outvoted == (("a", 8.0), ("b", 0.1))


def test_a_redundant_call_without_hedges_and_votes_is_not_listed():
    assert rows.copies_rows(figures(grown={"hedges_total": {("shop", "slow"): 0.0}})) == []


NO_RUNS = rows.shares_of({})


@pytest.mark.parametrize(
    ("given_", "level", "why"),
    [
        ({}, WELL, ""),
        ({"age": 2.9, "every": 1.0}, WELL, ""),
        ({"age": 3.1, "every": 1.0}, DEGRADED, "save is late"),
        ({"age": 2.9, "every": 0.01}, WELL, ""),
        ({"age": 900.0, "every": None}, WELL, ""),
        ({"errors": 1.0}, FAILING, "saves fail"),
        ({"errors": 1.0, "age": 99.0, "every": 1.0}, FAILING, "saves fail"),
        ({"runs": rows.shares_of({"error": 1})}, FAILING, "100 % of runs fail"),
        ({"runs": rows.shares_of({"recovered": 1})}, DEGRADED, "1 run resumed"),
    ],
)
def test_callers_feel_saves_that_fail_and_late_ones_are_amber(given_, level, why):
    asked = {"runs": NO_RUNS, "errors": 0.0, "age": None, "every": None, **given_}
    assert rows.run_level(**asked) == (level, why)


def test_a_run_says_what_is_done_and_how_old_the_save_is():
    now = {
        "checkpoint_saves_total": {("job", "ok"): 5.0},
        "checkpoint_items_total": {("job", "done"): 18_349.0},
        "checkpoint_last_save_timestamp_seconds": {("job",): 1_000.0},
        "checkpoint_interval_seconds": {("job",): 2.0},
    }
    seen = {"job": RunFigures(running=True, rate=62.0, share=0.5, left=300.0)}
    (row,) = rows.run_rows(figures(now, {}), wall=1_004.0, seen=seen)
    assert (row.items, row.rate, row.saved, row.every) == (18_349, 62.0, 4.0, 2.0)
    assert (row.share, row.left) == (0.5, 300.0)
    assert row.level is WELL


def test_a_run_that_has_not_saved_yet_is_listed():
    now = {"checkpoint_last_save_timestamp_seconds": {("job",): 1_000.0}}
    (row,) = rows.run_rows(figures(now, {}), wall=1_030.0, seen={})
    assert (row.component, row.items, row.saved) == ("job", 0, 30.0)


def test_a_function_whose_runs_all_fail_before_a_save_is_listed():
    samples = calls("checkpoint", "job", error=2)
    (row,) = rows.run_rows(figures(grown=samples), wall=0.0, seen={})
    assert (row.component, row.level, row.saved) == ("job", FAILING, None)

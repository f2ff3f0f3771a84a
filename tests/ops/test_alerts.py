"""Every alert, over series made for it: what must fire it, and what must not.

`promtool test rules` evaluates the rules as they are shipped. The values are those of its own
notation: "0+2x30" starts at 0 and grows by 2 at each of 30 steps, "0x30" stays at 0.
"""

import json
import re
import subprocess
from pathlib import Path

import attrs
import pytest
import yaml

from mainstay import ops
from support.monitoring import alertmanager, fetch, post, promtool_test, until
from support.processes import require_tool
from support.queries import all_rules, panels

pytestmark = pytest.mark.process

RUNBOOK = Path(__file__).parents[2] / "docs" / "operations" / "alerts.md"
HOUR, DAY = 60, 24 * 60  # minutes
CALL = {"component": "api", "policy": "retry"}
POOL = {"component": "db"}


def series(name, values, **labels):
    """Give one series of a target that Prometheus scrapes."""
    labels = {"job": "shop", "instance": "a:1", **labels}
    written = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return {"series": f"mainstay_{name}{{{written}}}", "values": values}


def calls(good, bad, steps, **labels):
    """Give calls that grow by so many good and bad ones at each step."""
    return [
        series("calls_total", f"0+{good}x{steps}", **CALL | labels, outcome="success"),
        series("calls_total", f"0+{bad}x{steps}", **CALL | labels, outcome="error"),
    ]


def gave_up(reason, values):
    return series("give_ups_total", values, **CALL, reason=reason)


def ended(minutes=10, **outcomes):
    """Give calls that ended in these ways before the first scrape, all of them."""
    return [
        series("calls_total", f"_ {count}x{minutes}", **CALL, outcome=outcome)
        for outcome, count in outcomes.items()
    ]


ONE_OF_31 = [
    series("calls_total", "0+1x30", **CALL, outcome="success"),
    series("calls_total", "0x29 1", **CALL, outcome="error"),
]


def up(steps):
    return {"series": 'up{job="shop",instance="a:1"}', "values": f"1x{steps}"}


@attrs.frozen
class Case:
    """Series, and whether an alert fires over them after so many minutes."""

    alert: str
    fires: bool
    why: str
    minutes: int
    series: list
    step: int = 1
    every: int = 1  # minutes from one evaluation of the rules to the next
    few: bool = False  # calls: so few that one of them is a large share


def states(name, states, now, steps, **labels):
    """Give a one-hot gauge that stands at *now*."""
    return [series(name, f"{int(state == now)}x{steps}", **labels, state=state) for state in states]


MEMBER_STATES = ("active", "standby_hot", "standby_cold", "failing", "ejected", "trial", "draining")
BREAKER_STATES = ("closed", "open", "half_open")


def member(state, steps=HOUR):
    return states("member_state", MEMBER_STATES, state, steps, **POOL, member="a")


def breaker(state, steps=HOUR):
    return states("breaker_state", BREAKER_STATES, state, steps, component="mail")


def retried(attempts, values=None):
    """Give calls of which each takes that many attempts."""
    return [
        series("calls_total", values or f"0+10x{HOUR}", **CALL, outcome="success"),
        series("call_attempts_sum", times(attempts, values or f"0+10x{HOUR}"), **CALL),
        series("call_attempts_count", values or f"0+10x{HOUR}", **CALL),
    ]


def times(factor, values):
    """Give a series of values that are so many times as large."""
    return re.sub(r"(^|[ +])(\d+)", lambda found: f"{found[1]}{factor * int(found[2])}", values)


def recovered(before, now):
    """Give calls whose recovered share changed an hour ago, after a day."""
    return [
        series("calls_total", f"0+1000x{DAY // 4 + 15}", **CALL, outcome="success"),
        series(
            "calls_total",
            f"0+{before}x{DAY // 4} {before * DAY // 4 + now}+{now}x15",
            **CALL,
            outcome="recovered",
        ),
    ]


def slowly(minutes, count, step=1):
    """Give a counter that counts one event in so many minutes, so many times."""
    return " ".join(f"{number}x{minutes // step - 1}" for number in range(count + 1))


def wasted(seconds, hedges="0+50x120", policy="redundant"):
    call = {"component": "look", "policy": policy}
    return [
        series("hedges_total", hedges, component="look", reason="slow"),
        series("wasted_seconds_total", f"0+{seconds}x120", component="look"),
        series("call_duration_seconds_sum", "0+10x120", **call),
    ]


def votes(dissents):
    return [
        series("votes_total", "0+100x60", component="read", verdict="decided"),
        series("dissents_total", f"0+{dissents}x60", component="read", copy="2"),
    ]


def all_refused(policy, reason, values):
    call = {"component": "orders", "policy": policy}
    return [
        series("calls_total", values, **call, outcome="rejected"),
        series("give_ups_total", values, **call, reason=reason),
    ]


def limited(refused):
    limit = {"component": "mail", "policy": "rate_limit"}
    return [
        series("calls_total", f"0+{100 - refused}x40", **limit, outcome="success"),
        series("calls_total", f"0+{refused}x40", **limit, outcome="rejected"),
        series("give_ups_total", f"0+{refused}x40", **limit, reason="rate"),
    ]


def bulkhead(refused=0, inside=1):
    calls = {"component": "orders", "policy": "bulkhead"}
    return [
        series("calls_total", f"0+{100 - refused}x40", **calls, outcome="success"),
        series("calls_total", f"0+{refused}x40", **calls, outcome="rejected"),
        series("give_ups_total", f"0+{refused}x40", **calls, reason="wait"),
        series("in_flight_seconds_total", f"0+{60 * inside}x40", component="orders"),
        series("concurrency_limit", "10x40", component="orders"),
    ]


def served(answers, policy="fallback"):
    calls = {"component": "prices", "policy": policy}
    return [
        series("calls_total", f"0+{100 - answers}x90", **calls, outcome="success"),
        series("calls_total", f"0+{answers}x90", **calls, outcome="recovered"),
        series("fallbacks_total", f"0+{answers}x90", component="prices", source="value"),
    ]


def served_slowly(values):
    return [
        series("calls_total", values, component="prices", policy="fallback", outcome="recovered"),
        series("fallbacks_total", values, component="prices", source="value"),
    ]


def layered(policy, failing):
    """Give the calls of a pipeline, and those of a layer that has its name."""
    of_layer, of_pipeline = {"policy": policy}, {"policy": "pipeline"}
    return [
        *calls(*((50, 50) if failing == policy else (100, 0)), HOUR, **of_layer),
        *calls(*((50, 50) if failing == "pipeline" else (100, 0)), HOUR, **of_pipeline),
    ]


def checkpoint(saves, running=1):
    return [
        series("checkpoint_last_save_timestamp_seconds", saves, component="import"),
        series("checkpoint_interval_seconds", "60x120", component="import"),
        series("checkpoint_runs", f"{running}x120", component="import", state="running"),
    ]


def began_after_a_day():
    """Give a run that the store knows a minute before the process that saves is scraped."""
    labels = {"component": "import"}
    return [
        series("checkpoint_runs", f"0x{DAY} 1x60", **labels, state="running"),
        series("checkpoint_last_save_timestamp_seconds", f"0x{DAY + 2} {DAY * 60}x60", **labels),
        series("checkpoint_interval_seconds", f"60x{DAY + 60}", **labels),
    ]


CASES = [
    Case("ErrorBudgetBurnsFast", True, "2 % fail, for an hour", 61, calls(98, 2, 61)),
    Case("ErrorBudgetBurnsFast", True, "0.8 % fail, for six hours", 360,
         calls(248, 2, 181), step=2, every=30),
    Case("ErrorBudgetBurnsFast", False, "0.5 % fail", 120, calls(995, 5, 120), every=10),
    Case("ErrorBudgetBurnsFast", False, "it is over", 60, [
        series("calls_total", "0+98x60", **CALL, outcome="success"),
        series("calls_total", "0+2x20 40x40", **CALL, outcome="error"),
    ]),
    Case("ErrorBudgetBurnsFast", False, "what fails is none of the policy's business", 60, [
        *calls(50, 50, 60), gave_up("not_retryable", "0+50x60"),
    ]),
    Case("ErrorBudgetBurnsFast", False, "a pipeline answers, and its breaker sees failures", 60,
         layered("breaker", failing="breaker")),
    Case("ErrorBudgetBurnsFast", True, "a pipeline fails, and its bulkhead does not", 60,
         layered("bulkhead", failing="pipeline")),
    Case("ErrorBudgetBurnsFast", True, "`on` itself fails", 60, [
        *calls(50, 50, 60), gave_up("predicate_error", "0+50x60"),
    ]),
    Case("ErrorBudgetBurnsFast", False, "1 of 31 calls fails", 60, ONE_OF_31, step=2, few=True),
    Case("ErrorBudgetBurnsFast", True, "10 of 31 calls fail", 60, [
        series("calls_total", "0+1x21 21x8", **CALL, outcome="success"),
        series("calls_total", "0x19 0+1x10", **CALL, outcome="error"),
    ], step=2, few=True),
    Case("ErrorBudgetBurnsSlowly", True, "0.4 % fail, for a day", DAY,
         calls(996, 4, 721), step=2, every=60),
    Case("ErrorBudgetBurnsSlowly", True, "0.15 % fail, for three days", 3 * DAY,
         calls(9985, 15, 3 * DAY // 4), step=4, every=120),
    Case("ErrorBudgetBurnsSlowly", False, "0.08 % fail", 6 * HOUR,
         calls(9992, 8, 361), every=30),
    Case("ErrorBudgetBurnsSlowly", False, "1 of 31 calls fails", 60, ONE_OF_31, step=2, few=True),
    Case("ErrorBudgetBurnsSlowly", True, "all of 11 calls in as many hours", 11 * HOUR + 30,
         [series("calls_total", slowly(HOUR, 11, step=2), **CALL, outcome="error")],
         step=2, every=30, few=True),
    Case("MostlyNotRetryable", True, "all calls since the start", 10,
         [*ended(error=10), gave_up("not_retryable", "_ 10x10")]),
    Case("MostlyNotRetryable", True, "all calls for some minutes", 66, [
        series("calls_total", "0+100x60 6000x6", **CALL, outcome="success"),
        series("calls_total", "0x60 0+100x6", **CALL, outcome="error"),
        gave_up("not_retryable", "0x60 0+100x6"),
    ]),
    Case("MostlyNotRetryable", True, "all of 12 calls in an hour", 60,
         [*calls(0, 1, 12), gave_up("not_retryable", "0+1x12")], step=5, few=True),
    Case("MostlyNotRetryable", False, "it is an answer in a third of the calls", 60,
         [*calls(20, 10, 60), gave_up("not_retryable", "0+10x60")]),
    Case("MostlyNotRetryable", False, "all of 9 calls", 10,
         [*ended(error=9), gave_up("not_retryable", "_ 9x10")], few=True),
    Case("MostlyNotRetryable", False, "the attempts do not help", 60,
         [*calls(0, 10, 60), gave_up("attempts", "0+10x60"), gave_up("not_retryable", "0x60")]),
    Case("MostlyCancelled", True, "30 of 50 calls", 10, ended(success=20, cancelled=30), few=True),
    Case("MostlyCancelled", True, "all calls for some minutes", 66, [
        series("calls_total", "0+10x60 600x6", **CALL, outcome="success"),
        series("calls_total", "0x60 0+10x6", **CALL, outcome="cancelled"),
    ]),
    Case("MostlyCancelled", False, "30 of 60 calls", 10, ended(success=30, cancelled=30)),
    Case("MostlyCancelled", False, "all of 19 calls", 10, ended(cancelled=19), few=True),
    Case("MostlyCancelled", False, "it was an hour ago", 70, [
        series("calls_total", "0x10 20x60", **CALL, outcome="cancelled"),
    ]),
    Case("NoHealthyMember", True, "all are down", 10,
         [series("component_up", "1x5 0x10", **POOL), *member("failing")]),
    Case("NoHealthyMember", False, "one is well", 10,
         [series("component_up", "1x10", **POOL), *member("ejected")]),
    Case("NoHealthyMember", False, "it is no pool", 10,
         [series("component_up", "0x10", component="by-hand")]),
    Case("PoolDegraded", True, "a member stays ejected", 15, member("ejected")),
    Case("PoolDegraded", False, "it is out for five minutes", 30, [
        series("member_state", "0x5 1x5 0x30", **POOL, member="a", state="ejected"),
    ]),
    Case("PoolDegraded", False, "it is a standby", 15, member("standby_cold")),
    Case("BreakerOpen", True, "it stays open", 10, breaker("open")),
    Case("BreakerOpen", True, "its trials fail", 10, [
        series("breaker_state", "1 0 1 0 1 0 1 0 1 0 1 0", component="mail", state="open"),
        series("breaker_state", "0 1 0 1 0 1 0 1 0 1 0 1", component="mail", state="half_open"),
    ]),
    Case("BreakerOpen", False, "it is closed", 10, breaker("closed")),
    Case("RetryAmplification", True, "3 attempts per call", 30, retried(3)),
    Case("RetryAmplification", False, "1 attempt per call", 30, retried(1)),
    Case("RetryAmplification", True, "a call a minute takes 3 attempts", 30,
         retried(3, slowly(1, 40)), few=True),
    Case("RetryAmplification", False, "a call in two minutes takes 3 attempts", 30,
         retried(3, slowly(2, 20)), few=True),
    Case("RecoveredShareRises", True, "from 0.1 % to 5 %", DAY + HOUR, recovered(1, 53),
         step=4, every=20),
    Case("RecoveredShareRises", False, "from 5 % to 6 %", DAY + HOUR, recovered(53, 64),
         step=4, every=20),
    Case("RecoveredShareRises", False, "5 of the 20 calls of an hour, after none", DAY + HOUR, [
        series("calls_total", "0+1x375", **CALL, outcome="success"),
        series("calls_total", "0x359 0 5x14", **CALL, outcome="recovered"),
    ], step=4, every=20, few=True),
    Case("RecoveredShareRises", True, "half of the 30 calls of an hour, after none", DAY + HOUR, [
        series("calls_total", "0+1x375", **CALL, outcome="success"),
        series("calls_total", "0x359 0+1x15", **CALL, outcome="recovered"),
    ], step=4, every=20, few=True),
    Case("RecoveredShareRises", False, "from 0.01 % to 0.5 %", DAY + HOUR,
         [each | {"values": each["values"].replace("+1000x", "+10000x")}
          for each in recovered(1, 50)], step=4, every=20),
    Case("NestedRetries", True, "a retry is in another one that fails for long", 40,
         [series("nested_retries_total", "0+1x40", component="orders")]),
    Case("NestedRetries", True, "the first of them was before the first scrape", 20,
         [series("nested_retries_total", "1x5 2x20", component="orders")]),
    Case("NestedRetries", False, "it happened, and is over", 60,
         [series("nested_retries_total", "0x5 3x60", component="orders")]),
    Case("NestedRetries", False, "none is", 40,
         [series("nested_retries_total", "0x40", component="orders")]),
    Case("BudgetExhausted", True, "calls are refused", 20,
         [series("give_ups_total", "0+1x20", **CALL, reason="budget")]),
    Case("BudgetExhausted", False, "none is", 20,
         [series("give_ups_total", "7x20", **CALL, reason="budget")]),
    Case("BudgetExhausted", False, "they give up for another reason", 20,
         [series("give_ups_total", "0+1x20", **CALL, reason="attempts")]),
    Case("HedgeWasteHigh", True, "80 % in vain", 90, wasted(8)),
    Case("HedgeWasteHigh", False, "5 % in vain", 90, wasted(0.5)),
    Case("HedgeWasteHigh", True, "80 %, with one hedge a minute", 90,
         wasted(8, slowly(1, 120)), few=True),
    Case("HedgeWasteHigh", False, "80 %, with one hedge in five minutes", 90,
         wasted(8, slowly(5, 24)), few=True),
    Case("HedgeWasteHigh", True, "80 % in vain, in a pipeline", 90,
         wasted(8, policy="pipeline")),
    Case("HedgeWasteHigh", False, "the last copy of each vote comes too late", 90,
         wasted(8, "0x120")),
    Case("VotersDisagree", True, "3 of 100 are outvoted", 40, votes(3)),
    Case("VotersDisagree", False, "nobody is", 40, votes(0)),
    Case("VotersDisagree", True, "one vote in an hour, and each has a loser", 11 * HOUR + 30, [
        series("votes_total", slowly(HOUR, 11, step=2), component="read", verdict="decided"),
        series("dissents_total", slowly(HOUR, 11, step=2), component="read", copy="2"),
    ], step=2, every=30, few=True),
    Case("VotersDisagree", False, "one of 3 votes has a loser", 40, [
        series("votes_total", "0x20 3x40", component="read", verdict="decided"),
        series("dissents_total", "0x20 1x40", component="read", copy="2"),
    ], few=True),
    Case("BulkheadFull", True, "9.5 of 10 places are taken", 30, bulkhead(inside=9.5)),
    Case("BulkheadFull", False, "half of them are", 30, bulkhead(inside=5)),
    Case("BulkheadSheds", True, "a tenth is refused", 30, bulkhead(refused=10)),
    Case("BulkheadSheds", False, "one in a hundred is", 30, bulkhead(refused=1)),
    Case("BulkheadSheds", False, "all is quiet", 30, bulkhead()),
    Case("BulkheadSheds", True, "all of one call a minute", 30,
         all_refused("bulkhead", "full", slowly(1, 40)), few=True),
    Case("BulkheadSheds", False, "all of one call in two minutes", 30,
         all_refused("bulkhead", "full", slowly(2, 20)), few=True),
    Case("AbandonedThreads", True, "20 hang", 15,
         [series("abandoned_threads", "20x15", component="look")]),
    Case("AbandonedThreads", False, "3 hang", 15,
         [series("abandoned_threads", "3x15", component="look")]),
    Case("RateLimitReached", True, "a tenth is refused", 30, limited(10)),
    Case("RateLimitReached", False, "one in a hundred is", 30, limited(1)),
    Case("RateLimitReached", False, "all is quiet", 30, limited(0)),
    Case("RateLimitReached", True, "all of one call a minute", 30,
         all_refused("rate_limit", "rate", slowly(1, 40)), few=True),
    Case("RateLimitReached", False, "all of one call in two minutes", 30,
         all_refused("rate_limit", "rate", slowly(2, 20)), few=True),
    Case("RateStoreFails", True, "each process counts for itself", 20,
         [series("rate_store_errors_total", "0+5x20", component="mail", action="local")]),
    Case("RateStoreFails", True, "it had failed before the first scrape", 7,
         [series("rate_store_errors_total", "1x10", component="mail", action="deny")]),
    Case("RateStoreFails", False, "it answers", 20,
         [series("rate_store_errors_total", "0x20", component="mail", action="local")]),
    Case("FallbackServed", True, "a tenth is answered by it", 60, served(10)),
    Case("FallbackServed", True, "a tenth is answered by that of a pipeline", 60,
         served(10, policy="pipeline")),
    Case("FallbackServed", False, "one in a hundred is", 60, served(1)),
    Case("FallbackServed", False, "a tenth is, for a quarter of an hour", 15, served(10)),
    Case("FallbackServed", True, "all of 12 calls in an hour", 100,
         served_slowly(slowly(5, 24)), few=True),
    Case("FallbackServed", False, "all of 6 calls in an hour", 100,
         served_slowly(slowly(10, 12)), few=True),
    Case("CheckpointStale", True, "no save for half an hour", 30, checkpoint("0x60")),
    Case("CheckpointStale", False, "it saves", 60, checkpoint("0+60x60")),
    Case("CheckpointStale", False, "no run is running", 60, checkpoint("0x60", running=0)),
    Case("CheckpointStale", False, "its interval is an hour", 60,
         [*checkpoint("0x60"),
          series("checkpoint_interval_seconds", "3600x60", component="import", instance="b:1")]),
    Case("CheckpointStale", True, "it hangs before its first save", 30, checkpoint("_x5 300x60")),
    Case("CheckpointStale", False, "it has begun, and its process was not scraped since", DAY + 2,
         began_after_a_day()),
    Case("CheckpointStale", False, "it has begun, a day after the one before", DAY + 10,
         began_after_a_day()),
    Case("CheckpointCorrupt", True, "one could not be read", 10,
         [series("checkpoint_corrupt_total", "0x5 1x5", component="import")]),
    Case("CheckpointCorrupt", True, "one could not be read before the first scrape", 10,
         [series("checkpoint_corrupt_total", "1x10", component="import")]),
    Case("CheckpointCorrupt", False, "it was long ago", 130,
         [series("checkpoint_corrupt_total", "0x5 1x130", component="import")]),
    Case("LeaseLost", True, "a run was taken over", 10,
         [series("checkpoint_lease_lost_total", "0x5 1x5", component="import")]),
    Case("LeaseLost", False, "none was", 10,
         [series("checkpoint_lease_lost_total", "0x10", component="import")]),
    Case("StoreFailing", True, "it has failed again and again", 30,
         [series("checkpoint_store_retries_total", "0+2x30", component="import")]),
    Case("StoreFailing", False, "it failed for a minute", 30,
         [series("checkpoint_store_retries_total", "0x5 4x30", component="import")]),
    Case("RunsPoisoned", True, "one is", 5,
         [series("checkpoint_runs", "1x5", component="import", state="poisoned")]),
    Case("RunsPoisoned", False, "all are done", 5,
         [series("checkpoint_runs", "0x5", component="import", state="poisoned"),
          series("checkpoint_runs", "9x5", component="import", state="done")]),
    Case("RunsInterrupted", True, "nobody goes on", 20,
         [series("checkpoint_runs", "1x20", component="import", state="interrupted")]),
    Case("RunsInterrupted", False, "it went on after ten minutes", 30,
         [series("checkpoint_runs", "1x10 0x30", component="import", state="interrupted")]),
    Case("SeriesDropped", True, "a value is too many", 30,
         [series("series_dropped_total", "_x20 1x20", metric="mainstay_calls_total")]),
    Case("SeriesDropped", False, "it was long ago", 150,
         [series("series_dropped_total", "_x20 1x150", metric="mainstay_calls_total")]),
]  # fmt: skip


@pytest.fixture(scope="module")
def rule_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("rules") / "rules.yml"
    path.write_text(ops.rules())
    return path


def promtool_case(case):
    firing = f'ALERTS{{alertname="Mainstay{case.alert}",alertstate="firing"}}'
    return {
        "name": f"{case.alert}: {case.why}",
        "interval": f"{case.step}m",
        "input_series": [*case.series, up(case.minutes)],
        "promql_expr_test": [
            {
                "expr": f"count({firing})",
                "eval_time": f"{case.minutes}m",
                "exp_samples": [{"labels": "{}", "value": 1}] if case.fires else [],
            }
        ],
    }


@pytest.mark.parametrize("alert", [*dict.fromkeys(case.alert for case in CASES)])
def test_an_alert_fires_when_it_should(rule_file, alert):
    """Promtool is started once for cases that are evaluated alike, and names those that differ."""
    alike = {}
    for case in CASES:
        if case.alert == alert:
            alike.setdefault(case.every, []).append(promtool_case(case))
    for every, cases in alike.items():
        promtool_test(rule_file, cases, evaluation_interval=f"{every}m")


def test_every_alert_has_a_case_that_fires_and_one_that_must_not():
    groups = yaml.safe_load(ops.rules())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    assert {f"Mainstay{case.alert}" for case in CASES if case.fires} == alerts
    assert {f"Mainstay{case.alert}" for case in CASES if not case.fires} == alerts


def test_every_alert_on_a_share_of_calls_has_cases_with_few_calls():
    """One that fires, since an outage is one also where little is asked, and one that must not."""
    of_calls = {"calls_total", "votes_total", "hedges_total"}
    of_calls |= {"call_errors", "attempts_per_call", "calls_recovered"}
    on_a_share = {
        rule["alert"]
        for rule in all_rules()
        if "alert" in rule and any(name in rule["expr"] for name in of_calls)
    }
    with_few = {
        fires: {f"Mainstay{case.alert}" for case in CASES if case.few and case.fires is fires}
        for fires in (True, False)
    }
    assert with_few == {True: on_a_share, False: on_a_share}
    print(f"alerts with few calls, firing and silent: {len(on_a_share)} of {len(on_a_share)}")


def test_every_alert_has_a_paragraph_in_the_runbook():
    headings = [
        line.removeprefix("## ")
        for line in RUNBOOK.read_text().splitlines()
        if line.startswith("## Mainstay")
    ]
    alerts = [rule for rule in all_rules() if "alert" in rule]
    assert headings == [rule["alert"] for rule in alerts]
    assert [rule["annotations"]["runbook"] for rule in alerts] == [
        f"operations/alerts.html#{heading.lower()}" for heading in headings
    ]


def test_the_runbook_says_whom_each_alert_wakes_and_what_to_do_first():
    page = RUNBOOK.read_text()
    rows = re.findall(r"^\| \[(Mainstay\w+)\]\(#(\w+)\) \| (\w+) \| .+ \|$", page, re.MULTILINE)
    paragraphs = dict(
        re.findall(r"^## (Mainstay\w+)\n\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    )
    severities = [
        (rule["alert"], rule["labels"]["severity"]) for rule in all_rules() if "alert" in rule
    ]
    assert rows == [(name, name.lower(), severity) for name, severity in severities]
    for name, severity in severities:
        meaning, action = paragraphs[name].split("\n\n**First action:** ")
        assert meaning.startswith(f"**{severity.capitalize()}.** ")
        assert action.strip()


def test_the_runbook_names_panels_that_there_are():
    titles = {panel["title"] for panel in panels()}
    named = re.findall(r"(?<!\*)\*([A-Z][^*\n]+)\*(?!\*)", RUNBOOK.read_text())
    assert len(named) > 9
    assert {*named} - titles == set()


def test_the_address_of_a_runbook_is_that_of_each_alert_s_paragraph():
    page = "https://docs.example/mainstay/operations/alerts.html"
    for rule in all_rules(runbook_base=page):
        if "alert" in rule:
            about = rule["annotations"]
            assert about["runbook_url"] == f"{page}#{rule['alert'].lower()}"
            assert "runbook" not in about


def test_an_alert_says_what_is_the_matter(rule_file):
    promtool_test(
        rule_file,
        [
            {
                "interval": "1m",
                "input_series": [series("component_up", "0x10", **POOL), *member("failing")],
                "alert_rule_test": [
                    {
                        "eval_time": "5m",
                        "alertname": "MainstayNoHealthyMember",
                        "exp_alerts": [
                            {
                                "exp_labels": {
                                    "severity": "page",
                                    "component": "db",
                                    "job": "shop",
                                    "instance": "a:1",
                                },
                                "exp_annotations": {
                                    "summary": "The pool db has no healthy member",
                                    "description": "Every member has failed. The last one is still "
                                    "tried, unless the pool was told to raise or to wait.",
                                    "runbook": "operations/alerts.html#mainstaynohealthymember",
                                },
                            }
                        ],
                    }
                ],
            }
        ],
    )


# The hints for Alertmanager in the runbook.


@pytest.fixture(scope="module")
def hints():
    (written,) = re.findall(r"^```yaml\n(.*?)^```", RUNBOOK.read_text(), re.DOTALL | re.MULTILINE)
    return yaml.safe_load(written)


def test_alertmanager_takes_the_inhibition_hints(tmp_path, hints):
    amtool = require_tool("amtool", package="prometheus-alertmanager")
    config = tmp_path / "alertmanager.yml"
    config.write_text(
        yaml.safe_dump({"receivers": [{"name": "tickets"}, {"name": "on-call"}], **hints})
    )
    done = subprocess.run(
        [amtool, "check-config", config], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(hints['inhibit_rules'])} inhibit rules" in done.stdout


def test_the_inhibition_hints_name_alerts_that_there_are(hints):
    alerts = {rule["alert"] for rule in all_rules() if "alert" in rule}
    for rule in hints["inhibit_rules"]:
        for matchers in (rule["source_matchers"], rule["target_matchers"]):
            (pattern,) = re.findall(r'"(.*)"', *matchers)
            for each in pattern.split("|"):
                assert [alert for alert in alerts if re.fullmatch(each, alert)], each


@pytest.mark.parametrize(
    ("said", "others", "left"),
    [
        pytest.param(
            {"alertname": "ErrorBudgetBurnsFast", "policy": "retry"},
            ["ErrorBudgetBurnsSlowly", "RetryAmplification", "BudgetExhausted"],
            [],
            id="an outage",
        ),
        pytest.param(
            {"alertname": "NoHealthyMember", "instance": "a:1"},
            ["ErrorBudgetBurnsFast", "ErrorBudgetBurnsSlowly", "PoolDegraded"],
            ["CheckpointStale"],
            id="a pool that is down",
        ),
        pytest.param(
            {"alertname": "BreakerOpen", "instance": "a:1"},
            ["ErrorBudgetBurnsFast"],
            ["BulkheadFull"],
            id="a breaker that is open",
        ),
    ],
)
def test_one_fault_is_one_notification(tmp_path, hints, said, others, left):
    """Each of them is about one component; what is silenced is so by what says most."""
    common = {"job": "shop", "component": "db"}
    labels = [said, *({"alertname": name, "policy": "retry"} for name in (*others, *left))]
    alerts = [
        {"labels": common | each | {"alertname": f"Mainstay{each['alertname']}"}} for each in labels
    ]
    inhibit_rules = hints["inhibit_rules"]
    with alertmanager(tmp_path, "http://127.0.0.1:9/", inhibit_rules=inhibit_rules) as url:
        post(f"{url}/api/v2/alerts", alerts)

        def states(wanted):
            found = json.loads(fetch(f"{url}/api/v2/alerts")[0])
            return {
                alert["labels"]["alertname"].removeprefix("Mainstay")
                for alert in found
                if alert["status"]["state"] == wanted
            }

        until(lambda: states("suppressed") == {*others}, f"{others} to be silenced")
        assert states("active") == {said["alertname"], *left}

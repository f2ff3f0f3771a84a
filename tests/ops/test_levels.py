"""What the first screen calls failing and degraded, over series made for it, in promtool's words.

As in `test_alerts`: "0+2x30" starts at 0 and grows by 2 at each of 30 steps of a minute.
"""

import attrs
import pytest
import yaml

from mainstay.ops._dashboard import contents, levels, states
from mainstay.ops._dashboard.levels import DEGRADED, FAILING, WELL
from mainstay.ops._promql import series_of
from support.monitoring import RULE_GROUPS, promtool_test
from support.queries import as_sent

pytestmark = pytest.mark.process

SERIES = series_of("mainstay", "")
MEMBER_STATES = [*states.MEMBERS]
OF_A = 'group by (member) (mainstay_member_state{member="a"})'


def series(name, values, **labels):
    labels = {"job": "shop", "instance": "a:1", "component": "db", **labels}
    written = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return {"series": f"mainstay_{name}{{{written}}}", "values": values}


def calls(policy="retry", **outcomes):
    """Give calls that grow by so many at each step, by how they ended."""
    return [
        series("calls_total", f"0+{each}x30", policy=policy, outcome=outcome)
        for outcome, each in outcomes.items()
    ]


def once(policy="retry", **outcomes):
    """Give calls that ended in the last minutes, after none."""
    return [
        series("calls_total", f"0x27 {each}x3", policy=policy, outcome=outcome)
        for outcome, each in outcomes.items()
    ]


def member(name, state, **labels):
    return [
        series("member_state", f"{int(each == state)}x30", member=name, state=each, **labels)
        for each in MEMBER_STATES
    ]


def breaker(state):
    return [
        series("breaker_state", f"{int(each == state)}x30", state=each) for each in states.BREAKERS
    ]


def bulkhead(waiting):
    figures = {"concurrency_limit": 2, "in_flight": 2, "waiting": waiting}
    return [series(name, f"{value}x30") for name, value in figures.items()]


def votes(outvoted):
    return [
        series("votes_total", "0+100x30", verdict="decided"),
        series("dissents_total", f"0+{outvoted}x30", copy="2"),
    ]


def run(saved, running):
    return [
        series("checkpoint_last_save_timestamp_seconds", saved),
        series("checkpoint_interval_seconds", "60x30"),
        series("checkpoint_runs", f"{running}x30", state="running"),
    ]


@attrs.frozen
class Case:
    why: str
    level: int
    given: list


CALLED = calls(success=100)
CASES = [
    Case("all is well", WELL, CALLED),
    Case("5 % of the calls fail", FAILING, calls(success=95, error=3, timeout=1, rejected=1)),
    Case("4 % of the calls fail", WELL, calls(success=96, error=4)),
    Case("2 of 20 calls fail", WELL, once(success=18, error=2)),
    Case("3 of 20 calls fail", FAILING, once(success=17, error=3)),
    Case("both of 2 calls fail", FAILING, once(error=2)),
    Case("what fails is an answer", WELL,
         [*calls(success=50, error=50), series("give_ups_total", "0+50x30", policy="retry",
                                               reason="not_retryable")]),
    Case("half of the calls are cancelled", WELL, calls(success=50, cancelled=50)),
    Case("calls failed ten minutes ago", WELL,
         [*calls(success=100), series("calls_total", "0+50x20 1000x10", policy="retry",
                                      outcome="error")]),
    Case("a layer fails, and its pipeline does not", WELL,
         [*calls("bulkhead", rejected=50, success=50), *calls("pipeline", success=100)]),
    Case("the breaker is open", FAILING, [*CALLED, *breaker("open")]),
    Case("the breaker is on trial", DEGRADED, [*CALLED, *breaker("half_open")]),
    Case("the breaker is closed", WELL, [*CALLED, *breaker("closed")]),
    Case("a member is ejected and another serves", DEGRADED,
         [*member("a", "ejected"), *member("b", "active")]),
    Case("a member is drained and another serves", DEGRADED,
         [*member("a", "draining"), *member("b", "active")]),
    Case("a member fails", DEGRADED, [*member("a", "failing"), *member("b", "active")]),
    Case("a member is on trial", DEGRADED, [*member("a", "trial"), *member("b", "active")]),
    Case("standbys wait", WELL,
         [*CALLED, *member("a", "active"), *member("b", "standby_hot"),
          *member("c", "standby_cold")]),
    Case("all members are ejected", FAILING, [*member("a", "ejected"), *member("b", "ejected")]),
    Case("the last member fails", FAILING, [*member("a", "ejected"), *member("b", "failing")]),
    Case("a standby is there and nobody serves", FAILING,
         [*member("a", "ejected"), *member("b", "standby_cold")]),
    Case("nobody serves in one process of two", FAILING,
         [*member("a", "active"), *member("a", "ejected", instance="b:1")]),
    Case("a save fails", FAILING,
         [*CALLED, series("checkpoint_saves_total", "0x28 1x2", outcome="error")]),
    Case("5 % of the calls are recovered by a retry", DEGRADED, calls(success=95, recovered=5)),
    Case("4 % of the calls are recovered", WELL, calls(success=96, recovered=4)),
    Case("2 of 20 calls are recovered", WELL, once(success=18, recovered=2)),
    Case("half of the calls were faster by a copy", WELL,
         calls("redundant", success=50, recovered=50)),
    Case("calls wait for a place", DEGRADED, [*CALLED, *bulkhead(waiting=3)]),
    Case("all places are taken and nobody waits", WELL, [*CALLED, *bulkhead(waiting=0)]),
    Case("a copy is outvoted in 6 % of the votes", DEGRADED, [*CALLED, *votes(6)]),
    Case("a copy is outvoted in 1 % of the votes", WELL, [*CALLED, *votes(1)]),
    Case("a save is late", DEGRADED, [*CALLED, *run("0x30", running=1)]),
    Case("a save is not late yet", WELL, [*CALLED, *run("0+60x30", running=1)]),
    Case("nothing is saved since nothing runs", WELL, [*CALLED, *run("0x30", running=0)]),
]  # fmt: skip


@pytest.fixture(scope="module")
def rule_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("levels") / "rules.yml"
    groups = [{"name": f"mainstay-{name}", "rules": []} for name in RULE_GROUPS]
    path.write_text(yaml.safe_dump({"groups": groups}))  # the dashboard needs none
    return path


def asked(given, *expressions):
    """Give what promtool is to check: what expressions answer after half an hour."""
    checks = [
        {"expr": as_sent(each, interval="5m"), "eval_time": "30m", "exp_samples": expected}
        for each, expected in expressions
    ]
    return {"interval": "1m", "input_series": given, "promql_expr_test": checks}


def answers(rule_file, given, *expressions):
    promtool_test(rule_file, [asked(given, *expressions)])


def test_a_component_is_as_bad_as_it_is(rule_file):
    """Promtool is started once for all cases, and names those that differ."""
    promtool_test(rule_file, [promtool_case(case) for case in CASES])


def promtool_case(case):
    labels = '{job="shop",component="db"}'
    said = {
        FAILING: levels.failing(SERIES, "5m"),
        DEGRADED: levels.degraded(SERIES, "5m"),
    }
    tiles = [
        (
            " or ".join(f"sgn(max by (job, component) ({query.expression}))" for query in queries),
            [{"labels": labels, "value": 1}] if case.level == level else None,
        )
        for level, queries in said.items()
    ]
    level = {"labels": f'{{bad="{FAILING - case.level}",{labels[1:]}', "value": case.level}
    return {
        "name": case.why,
        **asked(
            case.given,
            (levels.level(SERIES, "5m").expression, [level]),
            *((tile, expected or []) for tile, expected in tiles),
        ),
    }


def test_what_is_failing_is_said_once(rule_file):
    given = [*calls("breaker", rejected=100), *breaker("open")]
    shares, opened, *others = levels.failing(SERIES, "5m")
    answers(
        rule_file,
        given,
        (shares.expression, []),
        (opened.expression, [{"labels": '{job="shop",component="db"}', "value": 1}]),
        *((query.expression, []) for query in others),
    )


def test_the_first_call_of_a_process_is_seen_by_what_asks_for_now(rule_file):
    given = [series("calls_total", "_x28 1x2", policy="retry", outcome="error")]
    shares, *_ = levels.failing(SERIES, "5m")
    found = [{"labels": '{job="shop",component="db"}', "value": 1}]
    answers(rule_file, given, (shares.expression, found))


def test_a_process_that_answers_no_more_is_missing(rule_file):
    given = [
        {"series": 'up{job="shop",instance="a:1"}', "values": "1x20 0x10"},
        {"series": 'up{job="shop",instance="b:1"}', "values": "1x30"},
        {"series": 'up{job="nodes",instance="c:1"}', "values": "1x20 0x10"},
        {"series": 'mainstay_build_info{job="shop",instance="a:1"}', "values": "1x20 stale"},
        {"series": 'mainstay_build_info{job="shop",instance="b:1"}', "values": "1x30"},
    ]
    missing = as_sent(levels.missing_targets(SERIES).expression, during="1h")
    found = [{"labels": '{job="shop",instance="a:1"}', "value": 1}]
    answers(rule_file, given, (missing, found))


@pytest.mark.parametrize(
    ("given", "number"),
    [
        pytest.param(member("a", "ejected"), 17, id="nobody serves"),
        pytest.param([*member("a", "ejected"), *member("b", "active")], 7, id="another serves"),
        pytest.param(
            [*member("a", "active"), *member("a", "trial", instance="b:1")], 4, id="worst of two"
        ),
    ],
)
def test_a_member_is_in_the_worst_state_that_a_process_sees(rule_file, given, number):
    of_a = f"({states.member_states(SERIES).expression}) and on (member) {OF_A}"
    expected = [{"labels": '{bad="0",job="shop",component="db",member="a"}', "value": number}]
    answers(rule_file, given, (of_a, expected))


def test_what_did_not_happen_is_not_listed(rule_file):
    """A tile for each zero would hide those that are none."""
    given = [
        *calls(success=100, recovered=0),
        series("component_failures_total", "0x30"),
        series("component_downtime_seconds_total", "0x30"),
        series("checkpoint_resumes_total", "0x30", reason="crash"),
        series("failovers_total", "3x30", from_member="a", to_member="b", reason="forced"),
        series("breaker_transitions_total", "3x30", from_state="closed", to_state="open"),
    ]
    titles = (
        *("Calls saved", "Failures", "Downtime"),
        *("Resumed runs", "Failovers", "Changes of state"),
    )
    asked = [
        as_sent(query.expression, during="20m")
        for panel in contents.panels()
        for query in panel.queries
        if panel.title in titles
    ]
    assert len(asked) == len(titles)
    answers(rule_file, given, *((expression, []) for expression in asked))

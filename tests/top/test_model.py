"""What was seen over time: sparklines, since when, items of runs, targets that are down."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay._top.model import Model, findings_of, period
from mainstay._top.target import Target
from mainstay._top.view import Level


def calls(component="shop", **outcomes):
    return {(component, "retry", outcome): float(count) for outcome, count in outcomes.items()}


def states(state, component="db"):
    return {(component, "a", state): 1.0, (component, "b", "active"): 1.0}


class Scene:
    """Targets that answer every two seconds."""

    def __init__(self, *names):
        self.targets = [Target(name) for name in names]
        self.model = Model(self.targets, every=2.0)
        self.now = 0.0

    def scrape(self, *answers, took=0.1):
        """Record an answer, or the reason for none, of each target."""
        self.now += 2.0
        for target, answer in zip(self.targets, answers, strict=True):
            if isinstance(answer, str):
                target.failed(answer, at=self.now)
            else:
                target.answered(answer, at=self.now, took=took)
        self.model.tick(self.now)
        return self.model.view(self.now, wall=1_000.0 + self.now)


def test_before_any_answer_there_is_nothing():
    view = Model([Target("a")], every=2.0).view(0.0, 0.0)
    assert (view.findings, view.calls, view.rate, view.targets_up) == ((), (), None, 0)


def test_a_sparkline_has_a_cell_for_each_interval_and_its_worst():
    scene = Scene("a")
    well, errors = 0, 0
    for more_well, more_errors in ((0, 0), (10, 0), (10, 4), (0, 0)):
        well, errors = well + more_well, errors + more_errors
        view = scene.scrape({"calls_total": calls(success=well, error=errors)})
    (row,) = view.calls
    assert [(cell.rate, cell.level) for cell in row.cells] == [
        (5.0, Level.WELL),
        (7.0, Level.FAILING),
        (0.0, Level.WELL),
    ]


def test_what_is_called_later_has_had_no_calls_before():
    scene = Scene("a")
    first = {"calls_total": calls(success=0) | calls("late", success=0)}
    scene.scrape(first)
    scene.scrape({"calls_total": calls(success=2) | calls("late", success=0)})
    view = scene.scrape({"calls_total": calls(success=4) | calls("late", success=8)})
    cells = {row.component: [cell.rate for cell in row.cells] for row in view.calls}
    assert cells == {"shop": [1.0, 1.0], "late": [0.0, 4.0]}


def test_what_was_so_from_the_start_has_been_so_for_longer_than_is_known():
    scene = Scene("a")
    scene.scrape({"member_state": states("ejected")})
    (pool,) = scene.scrape({"member_state": states("ejected")}).pools
    since = pool.members[0].since
    assert (since.seconds, since.is_exact) == (2.0, False)


def test_what_has_changed_has_been_so_since_then():
    scene = Scene("a")
    scene.scrape({"member_state": states("active")})
    scene.scrape({"member_state": states("ejected")})
    (pool,) = scene.scrape({"member_state": states("ejected")}).pools
    since = pool.members[0].since
    assert (since.seconds, since.is_exact) == (2.0, True)


def test_a_program_says_itself_since_when_it_is_so():
    scene = Scene("a")
    began = {("db", "a"): 900.0, ("db", "b"): 900.0}
    samples = {"member_state": states("ejected"), "member_since_timestamp_seconds": began}
    samples |= {
        "breaker_state": {("pay", "open"): 1.0},
        "breaker_since_timestamp_seconds": {("pay",): 990.0},
    }
    view = scene.scrape(samples)
    first, second = view.pools[0].members
    assert (first.since.seconds, first.since.is_exact) == (102.0, True)
    assert second.since is None  # it never changed
    assert view.breakers[0].since.seconds == 12.0


def test_a_target_that_is_down_is_red_and_its_rows_are_old():
    scene = Scene("a", "b")
    first, second = {"calls_total": calls(success=2)}, {"calls_total": calls("db", success=2)}
    scene.scrape(first, second)
    scene.scrape({"calls_total": calls(success=4)}, {"calls_total": calls("db", success=4)})
    scene.scrape({"calls_total": calls(success=6)}, "no answer")
    view = scene.scrape({"calls_total": calls(success=8)}, "no answer")
    assert [(each.name, each.text) for each in view.findings] == [("b", "no answer 2s")]
    assert {row.component: row.age for row in view.calls} == {"shop": None, "db": 4.0}
    assert view.rate == 1.0
    assert [(row.component, row.level) for row in view.targets] == [("b", Level.FAILING)]


def test_a_target_that_is_silent_is_down_though_no_scrape_of_it_has_ended():
    scene = Scene("a", "b")
    scene.scrape({"calls_total": calls(success=2)}, {"calls_total": calls("db", success=2)})
    for _ in range(10):
        scene.now += 2.0
        scene.targets[0].answered({"calls_total": calls(success=2)}, at=scene.now, took=0.1)
        scene.model.tick(scene.now)
    view = scene.model.view(scene.now, 0.0)
    assert [(each.name, each.text) for each in view.findings] == [("b", "no answer 19s")]


def test_one_that_was_never_heard_of_is_down_too():
    model = Model([Target("a")], every=2.0)
    for now in (0.0, 10.0):
        model.tick(now)
        assert model.view(now, 0.0).targets == ()
    model.tick(18.0)
    assert [row.why for row in model.view(18.0, 0.0).targets] == ["no answer 18s"]


def test_what_is_old_is_no_finding():
    scene = Scene("a")
    scene.scrape({"member_state": states("ejected")})
    view = scene.scrape("no answer")
    assert [each.name for each in view.findings] == ["a"]
    assert [(row.level, row.age) for row in view.pools] == [(Level.WELL, 2.0)]


def test_a_component_with_old_and_present_figures_has_the_present_ones():
    scene = Scene("a", "b")
    both = {"calls_total": calls(success=1)}
    scene.scrape(both, both)
    view = scene.scrape(both, "no answer")
    assert [(row.component, row.age) for row in view.calls] == [("shop", None)]


def test_a_restart_is_told_for_a_minute():
    scene = Scene("a")
    scene.scrape({"calls_total": calls(success=10)})
    view = scene.scrape({"calls_total": calls(success=1)})
    assert [(row.why, row.level) for row in view.targets] == [("began again 0s ago", Level.WELL)]
    assert view.findings == ()
    assert scene.model.view(scene.now + 60, 0.0).targets == ()


def test_a_component_has_one_finding_which_is_the_first_of_the_worst():
    scene = Scene("a")
    open_now = {("pay", "open"): 1.0}
    first = {"calls_total": calls("pay", error=0), "breaker_state": open_now}
    scene.scrape(first)
    view = scene.scrape({"calls_total": calls("pay", error=9), "breaker_state": open_now})
    assert [each.text for each in view.findings] == ["breaker open"]
    assert findings_of(view, ()) == view.findings


def test_findings_are_worst_first_then_by_name():
    scene = Scene("a")
    samples = {
        "calls_total": calls("z", error=0) | calls("b", recovered=0) | calls("a", recovered=0)
    }
    scene.scrape(samples)
    after = {"calls_total": calls("z", error=5) | calls("b", recovered=5) | calls("a", recovered=5)}
    view = scene.scrape(after)
    assert [each.name for each in view.findings] == ["z", "a", "b"]


def run(saved, *, items=0, skipped=0, ended=0, expected=None):
    return {
        "checkpoint_saves_total": {("job", "ok"): 1.0},
        "checkpoint_last_save_timestamp_seconds": {("job",): 1_000.0 + saved},
        "checkpoint_interval_seconds": {("job",): 2.0},
        "checkpoint_items_total": {
            ("job", "done"): float(items),
            ("job", "skipped"): float(skipped),
            ("job", "failed"): 7.0,
        },
        "checkpoint_items_expected": {} if expected is None else {("job",): float(expected)},
        "calls_total": {("job", "checkpoint", "success"): float(ended)},
    }


def test_a_save_is_late_where_a_run_goes_on():
    scene = Scene("a")
    scene.scrape(run(1.0))
    whys = [scene.scrape(run(4.0)).runs[0].why for _ in range(5)]
    assert whys == ["", "", "", "", "save is late"]


def test_a_save_is_not_late_where_the_run_has_ended():
    scene = Scene("a")
    scene.scrape(run(1.0))
    scene.scrape(run(3.0))
    whys = [scene.scrape(run(5.0, ended=1)).runs[0].why for _ in range(5)]
    assert whys == [""] * 5


def test_a_save_that_was_old_from_the_start_may_be_of_a_run_that_is_over():
    scene = Scene("a")
    assert [scene.scrape(run(-900.0)).runs[0].why for _ in range(3)] == [""] * 3


def test_items_per_second_are_over_several_saves():
    scene = Scene("a")
    for items in (0, 0, 0, 60, 60, 60, 120, 120):
        view = scene.scrape(run(0.0, items=items))
    assert view.runs[0].rate == pytest.approx(120 / 10)


def test_items_of_a_process_that_began_again_are_counted_from_there():
    scene = Scene("a")
    for items in (500, 520, 4, 8):
        view = scene.scrape(run(0.0, items=items))
    assert view.runs[0].rate == 2.0


def progress(scene, *samples):
    (row,) = scene.scrape(*samples).runs
    return row.share, row.left


def test_a_run_is_so_far_and_takes_so_long_still():
    scene = Scene("a")
    seen = [progress(scene, run(0.0, items=items, expected=100)) for items in (0, 20, 40, 100)]
    assert seen == [(0.0, None), (0.2, 8.0), (0.4, 6.0), (None, None)]


def test_what_was_skipped_is_done():
    scene = Scene("a")
    scene.scrape(run(0.0, items=0, skipped=50, expected=100))
    assert progress(scene, run(0.0, items=10, skipped=50, expected=100)) == (0.6, 8.0)


def test_a_run_without_a_length_has_no_progress():
    scene = Scene("a")
    seen = [progress(scene, run(0.0, items=items)) for items in (0, 20)]
    assert seen == [(None, None)] * 2


def test_how_far_a_run_is_that_began_after_others_is_known_from_its_beginning_on():
    scene = Scene("a")
    scene.scrape(run(0.0, items=40, ended=1, expected=100))
    assert progress(scene, run(0.0, items=60, ended=1, expected=100)) == (None, 4.0)
    scene.scrape(run(0.0, items=100, ended=2, expected=100))
    assert progress(scene, run(0.0, items=120, ended=2, expected=180)) == (0.25, 4.5)


def test_a_process_that_began_again_is_as_far_as_it_is_now():
    scene = Scene("a")
    scene.scrape(run(0.0, items=100, ended=3, expected=100))
    assert progress(scene, run(0.0, items=10, skipped=30, expected=100)) == (0.4, None)


def test_progress_is_that_of_the_processes_that_tell_of_it():
    scene = Scene("a", "b", "c")
    silent = run(0.0, items=1_000)
    scene.scrape(run(0.0, items=0, expected=100), run(0.0, items=0, expected=60), silent)
    found = progress(
        scene, run(0.0, items=40, expected=100), run(0.0, items=40, expected=60), silent
    )
    assert found == (0.5, 2.0)


def test_a_slow_scrape_lowers_the_rate_and_says_so():
    scene = Scene("a")
    answer = {"calls_total": calls(success=1)}
    view = scene.scrape(answer)
    assert (view.every, view.took) == (2.0, None)
    view = scene.scrape(answer, took=1.9)
    assert (view.every, view.took) == (3.8, 1.9)


@given(st.floats(0.5, 3_600), st.floats(0, 60))
def test_scrapes_never_take_more_than_half_of_the_time(every, took):
    assert period(every, took) >= every
    assert took <= period(every, took) / 2

"""Who may work on a run, and what the answer means, for all records and requests."""

from typing import get_args

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay._checkpoint.decision import OnBusy, OnComplete, action_on, poll_wait, reruns
from mainstay._core.owner import Owner
from mainstay.stores.base import (
    Acquired,
    Exit,
    Finished,
    Held,
    Poisoned,
    Record,
    Request,
    RunId,
    Status,
    acquisition,
)

RUN = RunId("job", "key")
SECONDS = st.floats(0, 1e9)
COUNTS = st.integers(0, 20)
OWNERS = st.builds(Owner, st.just("boot"), st.just("pid"), st.integers(1, 9), st.just(0))
ARGUMENTS = st.none() | st.binary(max_size=3)
RECORDS = st.builds(
    Record,
    run=st.just(RUN),
    life=st.just("before"),
    token=st.integers(1, 1000),
    status=st.sampled_from(get_args(Status)),
    owner=OWNERS,
    expires=SECONDS,
    seen=SECONDS,
    saved=SECONDS,
    attempt=st.integers(1, 1000),
    crashes=COUNTS,
    exit=st.sampled_from(get_args(Exit)),
    arguments=ARGUMENTS,
    created=SECONDS,
    updated=SECONDS,
)
REQUESTS = st.builds(
    Request,
    owner=OWNERS,
    life=st.just("after"),
    lease=st.floats(0.001, 1e6),
    max_crashes=st.none() | st.integers(1, 20),
    rerun=st.booleans(),
    arguments=ARGUMENTS,
)
GONE = st.sampled_from(["", "crash", "takeover"])
ON_BUSY = st.sampled_from(get_args(OnBusy))
ON_COMPLETE = st.sampled_from(get_args(OnComplete))


@st.composite
def asked(draw):
    """A store is asked for a run: what it knew, what was asked, whether the owner is gone."""
    before, request, gone = draw(st.none() | RECORDS), draw(REQUESTS), draw(GONE)
    now, forgotten = draw(SECONDS), draw(COUNTS)
    answer = acquisition(
        before, RUN, request, now=now, wall=draw(SECONDS), gone=gone, forgotten=forgotten
    )
    return before, request, gone, now, forgotten, answer


@given(asked())
def test_whoever_gets_a_run_holds_the_newest_token_and_a_whole_lease(case):
    before, request, _, now, forgotten, answer = case
    if isinstance(answer, Acquired):
        record = answer.record
        assert record.token > (before.token if before else forgotten)
        assert (record.run, record.status, record.owner) == (RUN, "running", request.owner)
        assert (record.expires, record.seen) == (now + request.lease, now)
        assert answer.idle >= 0.0


@given(asked())
def test_a_run_is_taken_only_from_an_owner_that_is_gone_or_gave_it_back(case):
    before, _, gone, now, _, answer = case
    held = before is not None and before.status == "running" and not gone
    assert isinstance(answer, Held) == held
    if held:
        assert answer.record == before
        assert answer.left == max(0.0, before.expires - now)


@given(asked())
def test_only_what_is_new_or_begun_anew_has_another_life_and_the_first_attempt(case):
    before, request, _, _, _, answer = case
    if isinstance(answer, Acquired):
        anew = before is None or before.status == "done"
        assert answer.began == anew
        assert answer.record.life == (request.life if anew else before.life)
        assert answer.record.attempt == (1 if anew else before.attempt + 1)


@given(asked())
def test_a_finished_run_stays_finished_unless_it_is_to_begin_anew(case):
    before, request, _, _, _, answer = case
    done = before is not None and before.status == "done"
    assert isinstance(answer, Finished) == (done and not request.rerun)
    if isinstance(answer, Finished):
        assert answer.record == before


@given(asked())
def test_deaths_in_a_row_are_counted_until_there_are_too_many(case):
    before, request, gone, _, _, answer = case
    died = before is not None and before.status == "running" and bool(gone)
    crashes = before.crashes + 1 if died else 0
    too_many = died and request.max_crashes is not None and crashes >= request.max_crashes
    poisoned = before is not None and before.status == "poisoned"
    assert isinstance(answer, Poisoned) == (too_many or poisoned)
    if isinstance(answer, Acquired):
        assert answer.record.crashes == crashes
    if too_many:
        assert answer.record == attrs.evolve(
            before, status="poisoned", crashes=crashes, updated=answer.record.updated
        )


@given(asked())
def test_arguments_are_kept_until_there_are_others(case):
    before, request, _, _, _, answer = case
    if isinstance(answer, Acquired) and not answer.began:
        kept = before.arguments if request.arguments is None else request.arguments
        assert answer.record.arguments == kept


ANSWERS = st.builds(Held, RECORDS, SECONDS) | st.one_of(
    st.builds(Acquired, RECORDS, st.booleans()),
    st.builds(Finished, RECORDS),
    st.builds(Poisoned, RECORDS),
)


@given(ANSWERS, ON_BUSY, ON_COMPLETE, st.booleans())
def test_a_run_is_run_by_whoever_got_it_and_by_nobody_else(answer, on_busy, on_complete, waited):
    action = action_on(answer, on_busy, on_complete, waited=waited)
    assert (action == "run") == isinstance(answer, Acquired)
    assert (action in ("busy", "wait")) == isinstance(answer, Held)
    assert (action in ("return", "complete")) == isinstance(answer, Finished)
    assert (action == "poisoned") == isinstance(answer, Poisoned)


@given(RECORDS, ON_BUSY, ON_COMPLETE, st.booleans())
def test_a_busy_run_is_waited_for_unless_it_is_to_raise(record, on_busy, on_complete, waited):
    action = action_on(Held(record, 1.0), on_busy, on_complete, waited=waited)
    assert action == ("busy" if on_busy == "raise" else "wait")


@given(RECORDS, ON_COMPLETE)
def test_who_waited_for_the_result_of_another_gets_it_whatever_else_was_said(record, on_complete):
    assert action_on(Finished(record), "return", on_complete, waited=True) == "return"
    assert not reruns("return", on_complete, waited=True)


@given(RECORDS, REQUESTS, ON_BUSY, st.booleans())
def test_a_finished_run_begins_anew_for_everybody_else_who_says_so(
    record, request, on_busy, waited
):
    rerun = reruns(on_busy, "rerun", waited=waited)
    answer = acquisition(
        attrs.evolve(record, status="done"), RUN, attrs.evolve(request, rerun=rerun),
        now=0.0, wall=0.0, gone="", forgotten=0,
    )  # fmt: skip
    attached = waited and on_busy == "return"
    action = action_on(answer, on_busy, "rerun", waited=waited)
    assert action == ("return" if attached else "run")


@given(RECORDS, ON_BUSY)
def test_a_finished_run_is_refused_to_everybody_else_who_says_so(record, on_busy):
    assert action_on(Finished(record), on_busy, "raise", waited=False) == "complete"


@given(st.integers(0, 10**6), st.floats(0, 3600))
def test_polls_are_never_closer_than_20_ms_nor_further_apart_than_1_s(polls, left):
    assert 0.02 <= poll_wait(polls, left) <= 1.0


def test_polls_are_twice_as_far_apart_each_time_and_end_with_the_lease():
    waits = [poll_wait(polls, 3600.0) for polls in range(1, 9)]
    assert waits == pytest.approx([0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0, 1.0])
    assert poll_wait(8, 0.3) == 0.3

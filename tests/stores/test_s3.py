"""`S3Store` on a bucket in memory: what it asks for, and what becomes of a run when that fails."""

import itertools
import os
import re
from datetime import timedelta

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mainstay import checkpoint_run, checkpointed
from mainstay._core.events import forget_firsts
from mainstay.errors import (
    CorruptCheckpointError,
    LeaseLostError,
    RunBusyError,
    StoreUnavailableError,
)
from mainstay.stores import MemoryStore
from mainstay.stores._s3 import bucket as bucket_module
from mainstay.stores._s3 import decisions, operations
from mainstay.stores._s3.decisions import LARGEST_TAIL
from mainstay.stores._s3.names import Names, new_part
from mainstay.stores._s3.requests import Get, ListPage, Put
from mainstay.stores.base import Acquired, Change, Contents, Held, Result, RunId
from mainstay.stores.selection import count_runs, surplus_runs
from mainstay.testing import FakeClock
from support.fake_bucket import CONFLICT, CUT, DENIED, LATE, FakeBucket, store_on
from support.server_stores import (
    ClockedConformance,
    InTasksConformance,
    ServerStoreConformance,
    calling,
    work,
)
from support.store_conformance import (
    ELSEWHERE,
    ONE,
    OTHER,
    RUN,
    TWO,
    acquired,
    lease_of,
    request,
    save,
    states,
)

NAMES = Names("jobs/")
OBJECT = NAMES.run(RUN)
LONG = Result("slot", b"x" * (LARGEST_TAIL // 2 + 1))


@pytest.fixture
def bucket():
    return FakeBucket()


@pytest.fixture
def clocked(bucket):
    return store_on(bucket)


class TestS3Store(ClockedConformance):
    """With the store above."""


class TestS3StoreInTasks(InTasksConformance):
    """With the store above."""


@pytest.fixture
def store(bucket):
    store = store_on(bucket)
    store.probe()
    bucket.kinds()
    return store


@pytest.fixture
def other(bucket):
    """The store in another process."""
    store = store_on(bucket)
    store.probe()
    bucket.kinds()
    return store


class TestOnTheServer(ServerStoreConformance):
    """With the store above."""


# What it costs.


def test_a_save_is_one_request_and_an_acquisition_with_what_is_kept_two(store, bucket):
    lease = acquired(store)
    assert bucket.kinds() == {"get": 1, "put": 1}
    save(store, lease, b"one", sequence=1)
    store.commit(lease, Change(put={0: ONE}, sequence=2))
    save(store, lease, b"two", put={1: TWO}, drop=(0,), sequence=3)
    assert store.renew([lease]) == []
    assert bucket.kinds() == {"put": 4}
    store.release(lease, "error")
    assert bucket.kinds() == {"put": 1}
    answer = store.acquire(RUN, request())
    assert answer.contents == Contents(b"two", b"one", {1: TWO})
    assert bucket.kinds() == {"get": 1, "put": 1}
    save(store, lease_of(answer), b"end", finished=True, sequence=1)
    assert bucket.kinds() == {"put": 1}
    store.acquire(RUN, request())
    assert bucket.kinds() == {"get": 1}


def test_each_lease_is_renewed_by_one_request(store, bucket):
    leases = [acquired(store, RunId("many", str(number))) for number in range(100)]
    bucket.kinds()
    assert store.renew(leases) == []
    assert bucket.kinds() == {"put": 100}


def test_a_process_that_did_not_write_last_reads_before_it_saves(store, other, bucket):
    lease = acquired(store)
    bucket.kinds()
    save(other, lease, b"one")
    assert bucket.kinds() == {"get": 1, "put": 1}
    save(store, lease, b"two")  # it was refused, and found out that it may
    assert bucket.kinds() == {"put": 2, "get": 1}
    assert store.load(RUN) == Contents(b"two", b"one")


def test_results_beyond_64_kb_move_into_parts_before_the_save_that_names_them(store, bucket):
    lease = acquired(store)
    bucket.kinds()
    store.commit(lease, Change(put={0: LONG}, sequence=1))
    assert bucket.kinds() == {"put": 1}
    store.commit(lease, Change(put={1: LONG}, sequence=2))
    assert [each.condition is None for each in bucket.requests] == [True, False]
    assert len(bucket.objects[OBJECT][0]) < 2000
    bucket.kinds()
    store.commit(lease, Change(put={2: ONE}, sequence=3))
    assert bucket.kinds() == {"put": 1}
    store.release(lease, "error")
    bucket.kinds()
    assert store.acquire(RUN, request()).contents.results == {0: LONG, 1: LONG, 2: ONE}
    assert bucket.kinds() == {"get": 2, "put": 1}


def test_a_part_goes_when_the_last_of_its_results_does(store, bucket):
    lease = acquired(store)
    store.commit(lease, Change(put={0: LONG, 1: LONG, 2: ONE}, sequence=1))
    store.commit(lease, Change(drop=(0, 2), sequence=2))
    assert len(bucket.names("jobs/parts/")) == 1
    assert store.load(RUN).results == {1: LONG}
    store.commit(lease, Change(put={0: TWO}, sequence=3))
    assert store.load(RUN).results == {0: TWO, 1: LONG}
    store.commit(lease, Change(drop=(1,), sequence=4))
    assert bucket.names("jobs/parts/") == []
    assert store.load(RUN).results == {0: TWO}


def test_a_large_document_is_sent_once_and_not_with_each_step(store, bucket):
    document = os.urandom(1 << 20)
    lease = acquired(store)
    bucket.kinds()
    save(store, lease, document, sequence=1)
    assert bucket.kinds() == {"put": 2}
    store.commit(lease, Change(put={0: ONE}, sequence=2))
    assert len(bucket.requests[-1].data) < 2000
    save(store, lease, document + b"2", sequence=3)
    assert store.load(RUN) == Contents(document + b"2", document, {0: ONE})
    save(store, lease, document + b"3", sequence=4)
    assert len(bucket.names("jobs/parts/")) == 2
    save(store, lease, document + b"4", finished=True, sequence=5)
    assert store.load(RUN) == Contents(document + b"4", document + b"4", {0: ONE})


def test_a_hundred_thousand_results_of_steps_take_few_objects(store, bucket, monkeypatch):
    lease = acquired(store)
    for number in range(2_000):
        store.commit(lease, Change(put={number: Result("slot", b"x" * 100)}, sequence=number + 1))
    parts = bucket.names("jobs/parts/")
    assert len(parts) == 2_000 * 116 // LARGEST_TAIL
    assert len(store.load(RUN).results) == 2_000
    header, _, _ = bucket.objects[OBJECT][0].partition(b"\n")
    assert len(header) < 1000 + 60 * len(parts)
    bucket.kinds()
    many = {number: Result("slot", b"%d" % number) for number in range(2_000, 100_000)}
    store.commit(lease, Change(put=many, sequence=3_000))
    assert bucket.kinds() == {"put": 2}
    assert [*store.load(RUN).results] == [*range(100_000)]
    store.commit(lease, Change(drop=tuple(range(100_000)), sequence=3_001))
    assert bucket.names("jobs/parts/") == []


def test_a_list_reads_what_has_changed_and_nothing_else(store, other, bucket):
    for number in range(5):
        save(store, acquired(store, RunId("a", str(number))), b"end", finished=True)
    lease = acquired(store)
    bucket.kinds()
    assert len(other.list()) == 6
    assert bucket.kinds() == {"list": 1, "get": 6 + 1, "put": 1}  # and the time, once
    assert len(other.list()) == 6
    assert bucket.kinds() == {"list": 1}
    store.renew([lease])
    bucket.kinds()
    assert count_runs(other) == {("a", "done"): 5, ("import", "running"): 1}
    assert bucket.kinds() == {"list": 1, "get": 1}
    assert surplus_runs(other, RunId("a", "0"), 2, None, 0.0) != []
    assert bucket.kinds() == {"list": 1}


def test_a_list_goes_on_behind_its_page_and_passes_over_what_was_forgotten(
    store, bucket, monkeypatch
):
    monkeypatch.setattr(operations, "PAGE", 3)
    bucket.page = 3
    runs = [RunId(name, str(number)) for name in ("a", "a!", "b") for number in range(7)]
    for run in runs:
        save(store, acquired(store, run), b"end", finished=True)
    for run in runs[::2]:
        assert store.forget(run)
    bucket.objects["jobs/runs/notes.txt"] = b"x" * 200, 0.0
    bucket.objects["jobs/runs/a!/notes.txt"] = b"x" * 200, 0.0
    left = sorted(runs[1::2])
    bucket.kinds()
    assert [record.run for record, _ in store.list()] == left
    assert bucket.kinds() == {"list": 8, "get": len(left)}
    assert [record.run for record, _ in store.list(limit=4)] == left[:4]
    assert [record.run for record, _ in store.list("b", status="done")] == left[-4:][1:]
    paged, after = [], None
    while page := store.list(after=after, limit=2):
        after = page[-1][0].run
        paged += [record.run for record, _ in page]
    assert paged == left


def test_a_run_that_is_forgotten_while_it_is_listed_is_not_listed(store, other, bucket):
    for number in range(2):
        save(store, acquired(store, RunId("a", str(number))), b"end", finished=True)

    def forget(request):
        if isinstance(request, ListPage):
            bucket.after = lambda _request: None
            assert store.forget(RunId("a", "0"))

    bucket.after = forget
    assert states(other) == [(RunId("a", "1"), "done")]


def test_what_is_remembered_of_objects_has_an_end(store, monkeypatch):
    monkeypatch.setattr(operations, "_MOST_KNOWN", 3)
    for number in range(9):
        acquired(store, RunId("a", str(number)), owner=ELSEWHERE)
    assert len(store.list()) == 9
    assert len(store._operations._seen) == len(store._operations._observed) == 3


# Whose run it is.


def test_a_lease_ends_by_the_clock_of_the_server_for_who_looks_for_the_first_time(store, bucket):
    """Known fault: who only watches for changes never takes a run over from a short process."""
    with FakeClock() as clock:
        store.acquire(RUN, request(owner=ELSEWHERE))
        clock.advance(10)
        answer = store_on(bucket).acquire(RUN, request())
        assert isinstance(answer, Held)
        assert 20 <= answer.left <= 22
        clock.advance(22)
        assert states(store_on(bucket)) == [(RUN, "interrupted")]
        answer = store_on(bucket).acquire(RUN, request())
        assert isinstance(answer, Acquired)
        assert (answer.record.exit, answer.record.crashes, answer.record.token) == (
            "takeover",
            1,
            2,
        )


def test_an_owner_that_changes_nothing_for_a_lease_is_gone_whatever_the_server_s_clock_says(
    store, other, bucket
):
    with FakeClock() as clock:
        store.acquire(RUN, request(owner=ELSEWHERE))
        data, modified = bucket.objects[OBJECT]
        bucket.objects[OBJECT] = data, modified + 1e6  # it was set back since
        assert isinstance(other.acquire(RUN, request()), Held)
        clock.advance(29)
        assert isinstance(other.acquire(RUN, request()), Held)
        clock.advance(2)
        assert isinstance(other.acquire(RUN, request()), Acquired)


def test_an_owner_that_renews_keeps_the_run(store, other, bucket):
    with FakeClock() as clock:
        lease = lease_of(store.acquire(RUN, request(owner=ELSEWHERE)))
        for _ in range(5):
            clock.advance(20)
            assert store.renew([lease]) == []
            answer = other.acquire(RUN, request())
            assert isinstance(answer, Held)
            assert 29 <= answer.left <= 32
            with pytest.raises(RunBusyError) as busy:
                other.forget(RUN)
            assert 29 <= busy.value.retry_after <= 32


def test_the_time_is_asked_of_the_server_once_a_minute(store, other, bucket):
    with FakeClock() as clock:
        for each in (RUN, OTHER):
            store.acquire(each, request(owner=ELSEWHERE, lease=1000.0))
        bucket.kinds()
        other.acquire(RUN, request())
        assert bucket.kinds() == {"get": 2, "put": 1}
        other.acquire(RUN, request())
        other.acquire(OTHER, request())
        assert bucket.kinds() == {"get": 2}
        clock.advance(61)
        lease = lease_of(store.acquire(RunId("a", "b"), request(owner=ELSEWHERE)), RunId("a", "b"))
        bucket.kinds()
        other.acquire(lease.run, request())
        assert bucket.kinds() == {"get": 2, "put": 1}


def test_who_may_only_read_can_list(store, other, bucket):
    store.acquire(RUN, request(owner=ELSEWHERE))

    def deny(request):
        if isinstance(request, Put):
            raise DENIED

    bucket.before = deny
    with FakeClock() as clock:
        assert states(other) == [(RUN, "running")]
        clock.advance(31)
        assert states(other) == [(RUN, "interrupted")]
        with pytest.raises(StoreUnavailableError, match="grant the access key s3:GetObject"):
            other.acquire(RUN, request())


def test_the_clock_of_the_owner_does_not_matter(store, other):
    with FakeClock() as clock:
        clock.advance(1e9)
        store.acquire(RUN, request(owner=ELSEWHERE))
        clock.advance(5)
        store.commit(lease_of(store.acquire(OTHER, request(owner=ELSEWHERE)), OTHER), Change())
    with FakeClock() as clock:
        answer = other.acquire(RUN, request())
        assert isinstance(answer, Held)
        assert answer.left == 30.0
        clock.advance(40)
        answer = other.acquire(RUN, request())
    assert isinstance(answer, Acquired)
    assert answer.record.seen == 40.0
    assert answer.idle == 0.0


def test_a_zombie_in_the_same_process_takes_nothing_from_the_new_owner(store):
    with FakeClock() as clock:
        zombie = lease_of(store.acquire(RUN, request(owner=ELSEWHERE)))
        clock.advance(31)
        owner = acquired(store)
        for change in (Change(), Change(document=b"z"), Change(put={0: ONE}, sequence=1)):
            with pytest.raises(LeaseLostError):
                store.commit(zombie, change)
        assert store.renew([zombie, owner]) == [zombie]
        store.release(zombie, "error")
        save(store, owner, b"mine")
    assert store.load(RUN) == Contents(b"mine", None)


def test_a_zombie_that_writes_a_part_late_loses_and_removes_it(store, other, bucket):
    """The part is written before the swap, and the swap comes too late."""
    with FakeClock() as clock:
        zombie = lease_of(store.acquire(RUN, request(owner=ELSEWHERE)))
        clock.advance(31)

        def take_over(request):
            if isinstance(request, Put) and "/parts/" in request.name:
                bucket.after = lambda _request: None
                owner = acquired(other)
                save(other, owner, b"mine", put={0: LONG, 1: LONG}, sequence=1)

        bucket.after = take_over
        with pytest.raises(LeaseLostError):
            store.commit(zombie, Change(put={0: LONG, 1: LONG, 2: ONE}, sequence=1))
    assert other.load(RUN) == Contents(b"mine", None, {0: LONG, 1: LONG})
    assert len(bucket.names("jobs/parts/")) == 1


def test_who_takes_over_removes_what_the_dead_owner_left_and_nothing_of_others(
    store, other, bucket
):
    with FakeClock() as clock:
        lease = lease_of(store.acquire(RUN, request(owner=ELSEWHERE)))
        store.commit(lease, Change(put={0: LONG, 1: LONG}, sequence=1))
        [named] = bucket.names("jobs/parts/")
        litter, later = (NAMES.part(RUN, new_part(token, "f" * 16, 0)) for token in (1, 3))
        foreign = NAMES.part(RUN, "notes.txt")
        for name in (litter, later, foreign):
            bucket.objects[name] = b"x", 0.0
        clock.advance(31)
        bucket.kinds()
        acquired(other)
        kinds = bucket.kinds()
    assert kinds.pop("list") == kinds.pop("delete") == 1
    assert {*bucket.names("jobs/parts/")} == {named, later, foreign}


def test_a_run_that_begins_anew_or_is_forgotten_leaves_no_parts(store, bucket):
    for end in ("rerun", "forget"):
        lease = acquired(store)
        save(store, lease, b"x" * LARGEST_TAIL * 2, put={0: LONG, 1: LONG}, sequence=1)
        save(store, lease, b"end", finished=True, sequence=2)
        assert bucket.names("jobs/parts/") != []
        if end == "rerun":
            store.release(acquired(store, rerun=True), "error")
            assert store.forget(RUN)
        else:
            assert store.forget(RUN)
        assert bucket.names("jobs/parts/") == []
    assert [name for name in bucket.objects if "clock" not in name] == [OBJECT]
    assert len(bucket.objects[OBJECT][0]) < 100


def test_parts_that_cannot_be_removed_are_left_for_the_next_time(store, bucket):
    lease = acquired(store)
    store.commit(lease, Change(put={0: LONG, 1: LONG}, sequence=1))

    def deny(request):
        if type(request).__name__ in ("Delete", "ListPage"):
            raise DENIED

    bucket.before = deny
    store.commit(lease, Change(drop=(0, 1), sequence=2))
    store.release(lease, "error")
    assert len(bucket.names("jobs/parts/")) == 1
    assert store.forget(RUN)
    bucket.before = lambda _request: None
    lease = acquired(store)
    store.release(lease, "error")
    assert store.forget(RUN)
    assert bucket.names("jobs/parts/") == []


# What fails.


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    ("moment", "failure"),
    [("before", CUT), ("after", CUT), ("before", LATE), ("after", LATE), ("before", CONFLICT)],
    ids=["cut before", "cut after", "late before", "late after", "conflict"],
)
def test_a_failure_at_any_request_loses_and_doubles_nothing(kind, moment, failure):
    """Known fault: a client that sends a conditional write again takes its own for another's."""
    for number in itertools.count():
        bucket = FakeBucket()
        counted = itertools.count()
        hits = []

        def fail(_request, number=number, counted=counted, hits=hits):
            if next(counted) == number:
                hits.append(number)
                raise failure

        setattr(bucket, moment, fail)
        store = store_on(bucket)
        with calling(store, kind) as caller:
            work(caller)
        text = bucket.objects[OBJECT][0].decode()
        assert '"token":2,' in text
        assert '"attempt":2,' in text
        if not hits:
            break
    assert number > 15


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_failure_at_any_request_of_forget_leaves_the_run_or_its_token(moment):
    for number in itertools.count():
        bucket = FakeBucket()
        store = store_on(bucket)
        lease = acquired(store)
        store.commit(lease, Change(put={0: LONG, 1: LONG}, finished=False, sequence=1))
        save(store, lease, b"end", finished=True, sequence=2)
        counted = itertools.count()

        def fail(_request, number=number, counted=counted):
            if next(counted) == number:
                raise LATE

        setattr(bucket, moment, fail)
        try:
            store.forget(RUN)
        except StoreUnavailableError:
            store.forget(RUN)
        setattr(bucket, moment, lambda _request: None)
        assert states(store) == []
        assert acquired(store).token == 2
        if next(counted) <= number:
            break
    assert number > 3


def test_what_was_written_and_not_answered_is_known_by_its_nonce(store, bucket):
    lease = acquired(store)

    def lose(request):
        bucket.after = lambda _request: None
        if isinstance(request, Put):
            raise CUT

    bucket.after = lose
    save(store, lease, b"one")  # without a number, by which it could be known as well
    assert store.load(RUN) == Contents(b"one", None)
    bucket.after = lose
    assert store.renew([lease]) == []
    save(store, lease, b"end", finished=True)
    swaps = [OBJECT]

    def lose_the_swap(request):
        if isinstance(request, Put) and swaps:
            swaps.pop()
            raise CUT

    bucket.after = lose_the_swap
    assert store.forget(RUN)


def test_a_save_that_was_answered_late_is_not_done_a_second_time(store, bucket):
    lease = acquired(store)
    held_back = []

    def lose(request):
        if isinstance(request, Put):
            held_back.append(request)
            raise LATE

    bucket.before = lose
    with pytest.raises(StoreUnavailableError) as late:
        save(store, lease, b"one", sequence=1)
    assert late.value.retryable
    bucket.before = lambda _request: None
    save(store, lease, b"one", sequence=1)
    save(store, lease, b"two", sequence=2)
    assert bucket.done(held_back[0]) is None  # it comes now, and the server refuses it
    assert store.load(RUN) == Contents(b"two", b"one")


def test_a_renewal_between_the_decision_of_a_save_and_its_write_costs_two_requests(
    store, other, bucket
):
    lease = acquired(store)

    def renew(request):
        if isinstance(request, Put):
            bucket.before = lambda _request: None
            assert other.renew([lease]) == []

    bucket.kinds()
    bucket.before = renew
    save(store, lease, b"one", put={0: LONG, 1: LONG}, sequence=1)
    assert store.load(RUN) == Contents(b"one", None, {0: LONG, 1: LONG})
    assert len(bucket.names("jobs/parts/")) == 1


def test_a_part_that_is_missing_is_told_and_one_that_has_gone_meanwhile_is_not(
    store, other, bucket
):
    lease = acquired(store)
    store.commit(lease, Change(put={0: LONG, 1: LONG}, sequence=1))

    def drop(request):
        if isinstance(request, Get) and request.name == OBJECT:
            bucket.after = lambda _request: None
            store.commit(lease, Change(drop=(0, 1), put={2: ONE}, sequence=2))

    bucket.after = drop
    assert other.load(RUN).results == {2: ONE}
    store.commit(lease, Change(put={3: LONG, 4: LONG}, sequence=3))
    [part] = bucket.names("jobs/parts/")
    del bucket.objects[part]
    with pytest.raises(CorruptCheckpointError, match="is missing"):
        other.load(RUN)
    bucket.objects[part] = b"", 0.0
    with pytest.raises(CorruptCheckpointError, match="lacks results"):
        other.load(RUN)


@pytest.mark.parametrize("content", [b"x" * 200, b""], ids=["other", "empty"])
def test_a_damaged_run_is_told_and_the_others_are_listed(store, other, bucket, content):
    for run in (RUN, OTHER):
        acquired(store, run)
    bucket.objects[OBJECT] = content, 0.0
    for use in (acquired, lambda each: each.load(RUN)):
        with pytest.raises(CorruptCheckpointError, match="none that mainstay wrote"):
            use(other)
    [(record, state), (_, running)] = other.list()
    assert (record.run, state, running) == (RUN, "interrupted", "running")
    assert record.error.startswith("damaged: the object of")
    assert other.forget(RUN)
    assert [record.run for record, _ in other.list()] == [OTHER]
    assert acquired(store).token == 1


def test_a_result_that_is_there_is_not_replaced(store):
    lease = acquired(store)
    store.commit(lease, Change(put={0: ONE}))
    with pytest.raises(StoreUnavailableError, match="kept already"):
        store.commit(lease, Change(document=b"x", put={1: ONE, 0: TWO}))
    assert store.load(RUN) == Contents(None, None, {0: ONE})


def test_an_operation_ends_in_its_time(store, bucket, monkeypatch):
    lease = attrs.evolve(acquired(store), seconds=9.0)
    given = []
    monkeypatch.setattr(bucket, "send", lambda _request, seconds: given.append(seconds) or "etag")
    store.commit(lease, Change(document=b"x"))
    assert given == [3.0]
    time = itertools.count(0.0, 2.0)
    monkeypatch.setattr("mainstay.stores._s3.runner.monotonic", lambda: next(time))
    store.release(lease, "error")
    assert given == [3.0, 0.75]
    time = itertools.count(0.0, 3.0)
    with pytest.raises(StoreUnavailableError, match="did not answer in time"):
        acquired(store, OTHER, lease=9.0)


@pytest.mark.parametrize(
    ("left", "seconds"),
    [
        (8.0, 8.0),
        (7.5, 8.0),
        (7.0, 4.0),
        (3.7, 4.0),
        (3.0, 2.0),
        (1.0, 1.0),
        (0.5, None),
        (-1, None),
    ],
)
def test_a_request_has_one_of_few_limits_and_at_most_a_tenth_more_than_is_left(left, seconds):
    assert bucket_module.step_of(8.0, left) == seconds


# Of a run.


def test_finished_runs_beyond_keep_are_forgotten(store):
    job = checkpointed(store=store, key=str, name="job", keep=2)
    for number in range(4):
        job.call(lambda _cp, number: number, number)
    assert len(store.list()) == 2


@pytest.mark.parametrize(
    ("every", "said"), [(1, 1), (2, 0), (timedelta(seconds=5), 0)], ids=["1", "2", "time"]
)
def test_who_saves_after_each_item_is_told_once_what_that_costs(store, caplog, every, said):
    forget_firsts()
    for key in ("a", "b"):
        with checkpoint_run(key, store=store, every=every, name="priced") as cp:
            [*cp.iterate(range(3))]
    warnings = [each.getMessage() for each in caplog.records if "every=1" in each.getMessage()]
    assert len(warnings) == said
    for each in warnings:
        assert re.search(r"priced: .*s3://key@bucket/jobs.* give `every` a timedelta", each)
        assert "secret" not in each


def test_a_store_in_memory_says_nothing_of_costs(caplog):
    forget_firsts()
    with checkpoint_run("a", store=MemoryStore(), name="free") as cp:
        [*cp.iterate(range(3))]
    assert caplog.records == []


# Any run, against the store that is one dictionary.


class AgainstMemory(RuleBasedStateMachine):
    """The same operations on a bucket and in memory, with requests that fail and objects that
    another process reads and writes between them.
    """

    def __init__(self):
        super().__init__()
        self.clock = FakeClock(everywhere=True)  # requests side by side are sent by threads
        self.clock.__enter__()
        self.bucket = FakeBucket()
        self.memory = MemoryStore()
        self.stores = [store_on(self.bucket) for _ in range(2)]
        for each in self.stores:
            each.probe()
        self.leases = []
        self.sequence = itertools.count(1)
        self.numbers = itertools.count()
        self.kept = set()

    def teardown(self):
        self.clock.__exit__(None, None, None)

    def sent(self, which, call):
        """Give what a call comes to, sent again as a run would."""
        while True:
            try:
                return call(self.stores[which])
            except StoreUnavailableError as error:
                if not error.retryable:
                    raise
            except LeaseLostError:
                return "lost"

    def both(self, which, call):
        try:
            expected = call(self.memory)
        except LeaseLostError:
            expected = "lost"
        return expected, self.sent(which, call)

    @rule(at=st.integers(1, 6), moment=st.sampled_from(["before", "after"]))
    def fail_soon(self, at, moment):
        counted = itertools.count(1)

        def fail(_request):
            if next(counted) == at:
                raise LATE

        setattr(self.bucket, moment, fail)

    @rule(which=st.integers(0, 1), again=st.booleans())
    def acquire(self, which, again):
        asked = request(rerun=again, grant=f"{next(self.sequence):032x}")
        expected, found = self.both(which, lambda store: store.acquire(RUN, asked))
        assert type(found) is type(expected)
        if isinstance(found, Acquired):
            ours, theirs = found.record, expected.record
            assert (ours.token, ours.attempt, ours.exit) == (
                theirs.token,
                theirs.attempt,
                theirs.exit,
            )
            assert found.contents == expected.contents
            if expected.began:
                self.kept = set()
            self.leases.append(lease_of(found))

    @rule(seconds=st.sampled_from([4.0, 64.0]))  # no lease ends within a second of a look
    def wait(self, seconds):
        self.clock.advance(seconds)
        self.look(0)
        self.look(1)

    @rule(which=st.integers(0, 1))
    def look(self, which):
        states = self.sent(which, lambda store: store.list())
        expected = self.memory.list()
        assert [record.token for record, _ in states] == [record.token for record, _ in expected]

    @precondition(lambda self: self.leases)
    @rule(
        data=st.data(), which=st.integers(0, 1), document=st.none() | st.sampled_from([5, 300]),
        puts=st.lists(st.sampled_from([3, 80]), max_size=3), finished=st.booleans(),
    )  # fmt: skip
    def commit(self, data, which, document, puts, finished):
        lease = data.draw(st.sampled_from(self.leases))
        drop = data.draw(st.sets(st.sampled_from(sorted(self.kept)))) if self.kept else ()
        put = {next(self.numbers): Result("s", b"r" * size) for size in puts}
        number = next(self.sequence)
        text = None if document is None else b"%d" % number * document
        finished = finished and text is not None
        change = Change(document=text, put=put, drop=(*drop,), finished=finished, sequence=number)
        expected, found = self.both(which, lambda store: store.commit(lease, change))
        assert found == expected
        if found is None:
            self.kept = self.kept - {*drop} | {*put}

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), which=st.integers(0, 1))
    def release(self, data, which):
        lease = data.draw(st.sampled_from(self.leases))
        self.both(which, lambda store: store.release(lease, "error"))

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 1))
    def renew(self, which):
        expected, found = self.both(which, lambda store: [*store.renew(self.leases)])
        assert found == expected

    @invariant()
    def holds_the_same(self):
        contents = self.sent(0, lambda store: store.load(RUN))
        assert contents == self.memory.load(RUN)

    @invariant()
    def leaves_little(self):
        assert len(self.bucket.objects.get(OBJECT, (b"", 0))[0]) < 2500


class TestAgainstMemory(AgainstMemory.TestCase):
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch):
        monkeypatch.setattr(decisions, "LARGEST_TAIL", 100)


TestAgainstMemory.settings = settings(stateful_step_count=30, deadline=None)

"""What every store must do, as tests: subclass `StoreConformance` and give it a `store` fixture.

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def store(self):
            return MyStore(...)

The store must be empty for each test, and run its leases on the clock of its context: these
tests move a `FakeClock`. A store on a server runs the tests that need no clock.
"""

import threading

import attrs
import pytest

from mainstay._core.context import current_context
from mainstay._core.owner import this_process
from mainstay.errors import LeaseLostError, RunBusyError
from mainstay.stores.base import (
    MOST_RESULTS,
    Acquired,
    Change,
    Contents,
    Finished,
    Held,
    Poisoned,
    Request,
    Result,
    RunId,
    RunLease,
    Store,
)
from mainstay.testing import FakeClock

RUN = RunId("import", "acme")
ONE = Result("slot", b"one")
TWO = Result("slot", b"two")
OTHER = RunId("import", "other")
ELSEWHERE = attrs.evolve(this_process(), boot="another machine")
DEAD = attrs.evolve(this_process(), started=this_process().started + 1)


def now():
    """Give the time of the context's clock, which a store on a server is to take for its own."""
    return current_context().clock.now()


def request(**changes):
    return attrs.evolve(Request(owner=this_process(), life="life", lease=30.0), **changes)


def acquired(store, run=RUN, **changes):
    answer = store.acquire(run, request(**changes))
    assert isinstance(answer, Acquired)
    return lease_of(answer, run)


def lease_of(answer, run=RUN):
    return RunLease(run, answer.record.token, answer.record.grant, 30.0)


def save(store, lease, document, **changes):
    store.commit(lease, Change(document=document, **changes))


def states(store, name=None):
    return [(record.run, state) for record, state in store.list(name)]


class StoreConformance:
    def test_it_is_a_store(self, store):
        assert isinstance(store, Store)

    def test_a_run_that_was_never_there_has_no_contents(self, store):
        assert store.load(RUN) == Contents(None, None, {})

    def test_the_first_acquisition_begins_the_run(self, store):
        answer = store.acquire(RUN, request(life="first", arguments=b"args"))
        assert isinstance(answer, Acquired)
        assert answer.began
        record = answer.record
        assert (record.token, record.attempt, record.crashes) == (1, 1, 0)
        assert (record.life, record.arguments, record.status) == ("first", b"args", "running")

    def test_a_run_of_a_living_owner_is_held(self, store):
        """Known fault: a second DBOS process re-enqueues the run of the first."""
        acquired(store)
        answer = store.acquire(RUN, request())
        assert isinstance(answer, Held)
        assert 0 < answer.left <= 30

    def test_a_commit_keeps_the_last_two_documents(self, store):
        lease = acquired(store)
        for document in (b"one", b"two", b"three"):
            save(store, lease, document)
        assert store.load(RUN) == Contents(b"three", b"two", {})

    def test_a_commit_without_a_document_leaves_it(self, store):
        lease = acquired(store)
        save(store, lease, b"one")
        store.commit(lease, Change(put={0: ONE}))
        store.commit(lease, Change())
        assert store.load(RUN) == Contents(b"one", None, {0: ONE})

    def test_results_can_be_dropped_with_a_document_whether_they_are_there_or_not(self, store):
        lease = acquired(store)
        store.commit(lease, Change(put={0: ONE, 1: TWO}))
        save(store, lease, b"doc", put={2: TWO}, drop=(0, 7))
        assert store.load(RUN) == Contents(b"doc", None, {1: TWO, 2: TWO})

    def test_results_of_one_slot_are_apart(self, store):
        lease = acquired(store)
        store.commit(lease, Change(put={0: ONE}))
        store.commit(lease, Change(put={1: TWO}))
        assert store.load(RUN).results == {0: ONE, 1: TWO}

    def test_the_number_of_a_dropped_result_can_be_used_again(self, store):
        lease = acquired(store)
        store.commit(lease, Change(put={0: ONE}))
        store.commit(lease, Change(drop=(0,)))
        store.commit(lease, Change(put={0: TWO}))
        assert store.load(RUN).results == {0: TWO}

    def test_a_result_may_have_the_highest_number_beside_the_lowest_of_another_run(self, store):
        leases = [acquired(store, RunId("import", str(number))) for number in range(3)]
        for lease in leases:
            store.commit(lease, Change(put={0: ONE, MOST_RESULTS - 1: TWO}))
        store.release(leases[1], "error")
        assert store.forget(leases[1].run)
        for lease in leases[::2]:
            assert store.load(lease.run).results == {0: ONE, MOST_RESULTS - 1: TWO}

    def test_the_last_document_is_kept_twice(self, store):
        lease = acquired(store)
        save(store, lease, b"one")
        save(store, lease, b"end", finished=True)
        assert store.load(RUN) == Contents(b"end", b"end", {})

    def test_a_finished_run_is_not_given_out_again(self, store):
        save(store, acquired(store), b"end", finished=True)
        answer = store.acquire(RUN, request())
        assert isinstance(answer, Finished)
        assert answer.record.status == "done"

    def test_a_finished_run_cannot_be_written_to(self, store):
        lease = acquired(store)
        save(store, lease, b"end", finished=True)
        with pytest.raises(LeaseLostError):
            save(store, lease, b"more")
        assert store.load(RUN).latest == b"end"

    def test_a_finished_run_begins_anew_on_demand_with_nothing_left_of_it(self, store):
        lease = acquired(store)
        store.commit(lease, Change(put={0: ONE}))
        save(store, lease, b"end", finished=True)
        answer = store.acquire(RUN, request(rerun=True, life="second"))
        assert isinstance(answer, Acquired)
        assert answer.began
        assert (answer.record.token, answer.record.attempt) == (2, 1)
        assert answer.record.life == "second"
        assert store.load(RUN) == Contents(None, None, {})

    def test_a_released_run_is_given_out_at_once_with_the_next_token(self, store):
        lease = acquired(store)
        store.release(lease, "error", "ValueError: no")
        answer = store.acquire(RUN, request())
        assert isinstance(answer, Acquired)
        record = answer.record
        assert not answer.began
        assert (record.token, record.attempt, record.crashes) == (2, 2, 0)
        assert (record.exit, record.error, record.life) == ("error", "ValueError: no", "life")

    def test_a_release_can_drop_results(self, store):
        lease = acquired(store)
        store.commit(lease, Change(put={0: ONE, 1: TWO}))
        store.release(lease, "error", drop=(0,))
        assert store.load(RUN).results == {1: TWO}

    def test_a_released_run_cannot_be_written_to(self, store):
        lease = acquired(store)
        store.release(lease, "error")
        with pytest.raises(LeaseLostError):
            save(store, lease, b"late")
        assert store.load(RUN).latest is None

    def test_a_dead_owner_loses_the_run_at_once_and_that_is_a_crash(self, store):
        """Known fault: a diskcache lock whose holder was killed is never free again."""
        acquired(store, owner=DEAD)
        answer = store.acquire(RUN, request())
        assert isinstance(answer, Acquired)
        assert (answer.record.exit, answer.record.crashes) == ("crash", 1)

    def test_a_silent_owner_loses_the_run_when_its_lease_ends(self, store):
        with FakeClock() as clock:
            acquired(store)
            clock.advance(29.9)
            assert isinstance(store.acquire(RUN, request()), Held)
            clock.advance(0.2)
            answer = store.acquire(RUN, request())
        assert isinstance(answer, Acquired)
        assert (answer.record.exit, answer.record.crashes) == ("takeover", 1)

    @pytest.mark.parametrize("change", [Change(), Change(document=b"x"), Change(put={0: ONE})])
    def test_every_commit_renews_the_lease(self, store, change):
        with FakeClock() as clock:
            lease = acquired(store)
            clock.advance(20)
            store.commit(lease, change)
            clock.advance(20)
            assert isinstance(store.acquire(RUN, request()), Held)

    @pytest.mark.parametrize("seconds", [1e9, 1e13, 1e300])
    def test_a_lease_may_be_as_long_as_its_owner_likes(self, store, seconds):
        """Known fault: a run with a lease of thousands of years was taken for damaged."""
        lease = attrs.evolve(acquired(store, lease=seconds), seconds=seconds)
        save(store, lease, b"one", put={0: ONE})
        assert len(store.list()) == 1
        assert isinstance(store.acquire(RUN, request()), Held)

    def test_a_zombie_changes_nothing(self, store):
        """Known fault 5: without a token for each acquisition it writes, and renews its
        successor's lease.
        """
        with FakeClock() as clock:
            zombie = acquired(store)
            save(store, zombie, b"one")
            clock.advance(31)
            owner = acquired(store)
            for change in (
                Change(),
                Change(document=b"zombie"),
                Change(put={0: ONE}),
                Change(document=b"zombie", finished=True),
            ):
                with pytest.raises(LeaseLostError) as lost:
                    store.commit(zombie, change)
                assert lost.value.token == zombie.token
            store.release(zombie, "error", "zombie")
            save(store, owner, b"two")
        assert store.load(RUN) == Contents(b"two", b"one", {})
        assert states(store)[0][0] == RUN

    def test_deaths_in_a_row_without_progress_poison_the_run(self, store):
        answers = [store.acquire(RUN, request(owner=DEAD, max_crashes=3)) for _ in range(5)]
        assert [type(answer) for answer in answers] == [Acquired] * 3 + [Poisoned] * 2
        assert answers[-1].record.crashes == 3
        assert states(store) == [(RUN, "poisoned")]

    @pytest.mark.parametrize("change", [{"document": b"x"}, {"put": {0: ONE}}])
    def test_progress_ends_a_row_of_deaths(self, store, change):
        for _ in range(4):
            lease = acquired(store, owner=DEAD, max_crashes=2)
            store.commit(lease, Change(**change))
            store.commit(lease, Change(drop=(0,)))

    def test_a_renewal_is_no_progress(self, store):
        for _ in range(2):
            store.commit(acquired(store, owner=DEAD, max_crashes=2), Change())
        assert isinstance(store.acquire(RUN, request(max_crashes=2)), Poisoned)

    def test_the_list_is_sorted_and_tells_running_from_interrupted(self, store):
        acquired(store, RunId("b", "2"))
        acquired(store, RunId("a", "1"), owner=DEAD)
        save(store, acquired(store, RunId("a", "0")), b"end", finished=True)
        assert states(store) == [
            (RunId("a", "0"), "done"),
            (RunId("a", "1"), "interrupted"),
            (RunId("b", "2"), "running"),
        ]
        assert states(store, "b") == [(RunId("b", "2"), "running")]

    def test_the_list_can_be_asked_for_a_state_and_page_by_page(self, store):
        for number in range(6):
            owner = DEAD if number % 2 else this_process()
            acquired(store, RunId("a", str(number)), owner=owner)
        save(store, acquired(store, RunId("b", "0")), b"end", finished=True)

        def keys(*args, **options):
            return [record.run.key for record, _ in store.list(*args, **options)]

        assert keys("a", status="running") == ["0", "2", "4"]
        assert keys(status="interrupted", limit=2) == ["1", "3"]
        assert keys(status="interrupted", after=RunId("a", "3"), limit=2) == ["5"]
        assert keys(status="done") == ["0"]
        assert keys(limit=3) == ["0", "1", "2"]
        assert keys(limit=3, after=RunId("a", "2")) == ["3", "4", "5"]
        assert keys("a", after=RunId("a", "4")) == ["5"]
        assert keys(limit=0) == keys(status="poisoned") == keys("c") == []

    def test_names_may_hold_what_patterns_and_formats_read(self, store):
        odd = RunId("100% [a-z] _ \\ '\"", "{key}; -- ?$1 :x")
        lease = acquired(store, odd)
        save(store, lease, b"\0\xff%", put={0: ONE})
        assert store.load(odd) == Contents(b"\0\xff%", None, {0: ONE})
        assert states(store) == [(odd, "running")]

    def test_an_acquisition_holds_what_is_kept(self, store):
        assert store.acquire(RUN, request(owner=DEAD)).contents == Contents()
        answer = store.acquire(RUN, request(owner=DEAD))
        save(store, lease_of(answer), b"one", put={3: ONE})
        answer = store.acquire(RUN, request())
        assert answer.contents == Contents(b"one", None, {3: ONE})
        save(store, lease_of(answer), b"end", finished=True)
        assert store.acquire(RUN, request()).contents == Contents(b"end", b"end", {3: ONE})

    def test_an_acquisition_that_is_sent_again_is_the_same(self, store):
        first = request()
        answer = store.acquire(RUN, first)
        again = store.acquire(RUN, first)
        assert isinstance(again, Acquired)
        assert again.record == answer.record
        save(store, lease_of(again), b"one")

    def test_a_token_with_another_grant_changes_nothing(self, store):
        """Known fault: after a failover that lost an acquisition, its token is given again."""
        lease = acquired(store)
        stranger = attrs.evolve(lease, grant="0" * 32)
        for change in (
            Change(),
            Change(document=b"x", sequence=1),
            Change(put={0: ONE}, sequence=1),
            Change(document=b"x", put={0: ONE}, finished=True, sequence=1),
        ):
            with pytest.raises(LeaseLostError):
                store.commit(stranger, change)
        assert store.renew([stranger]) == [stranger]
        store.release(stranger, "error")
        save(store, lease, b"mine")
        assert store.load(RUN) == Contents(b"mine", None, {})

    @pytest.mark.parametrize(
        "change",
        [
            {"document": b"two"},
            {"put": {1: TWO}},
            {"document": b"two", "put": {1: TWO}, "drop": (0,)},
            {"drop": (0,)},
        ],
        ids=["document", "result", "both", "drop"],
    )
    def test_a_change_that_is_sent_again_is_applied_once(self, store, change):
        """Known fault: a save whose answer is lost ends the run, although it was made."""
        lease = acquired(store)
        save(store, lease, b"one", put={0: ONE}, sequence=1)
        store.commit(lease, Change(**change, sequence=2))
        once = store.load(RUN)
        store.commit(lease, Change(**change, sequence=2))
        assert store.load(RUN) == once

    def test_a_change_of_before_is_not_applied_any_more(self, store):
        lease = acquired(store)
        save(store, lease, b"one", sequence=1)
        save(store, lease, b"two", sequence=2)
        save(store, lease, b"one", sequence=1)
        assert store.load(RUN) == Contents(b"two", b"one")

    def test_the_last_change_that_is_sent_again_is_a_success(self, store):
        lease = acquired(store)
        for _ in range(2):
            save(store, lease, b"end", finished=True, sequence=1)
        with pytest.raises(LeaseLostError):
            save(store, lease, b"more", sequence=2)
        assert store.load(RUN) == Contents(b"end", b"end")

    def test_numbers_of_changes_begin_again_with_each_acquisition(self, store):
        save(store, acquired(store, owner=DEAD), b"one", sequence=7)
        save(store, acquired(store), b"two", sequence=1)
        assert store.load(RUN) == Contents(b"two", b"one")

    def test_a_result_is_known_again_after_others_were_saved(self, store):
        lease = acquired(store)
        store.commit(lease, Change(put={0: ONE}, sequence=1))
        store.commit(lease, Change(put={0: ONE}, sequence=1))
        store.commit(lease, Change(put={1: TWO}, sequence=2))
        assert store.load(RUN).results == {0: ONE, 1: TWO}

    @pytest.mark.parametrize(
        "lost",
        [
            {"after": 3},
            {"after": 1, "after_result": 1},
            {"after": 3, "after_result": 0},
        ],
        ids=["document", "result", "document before a result"],
    )
    @pytest.mark.parametrize(
        "change",
        [
            {"document": b"two"},
            {"put": {3: TWO}},
            {"put": {3: TWO, 4: TWO}},
            {"document": b"two", "put": {3: TWO}, "drop": (0,)},
            {"document": b"two", "finished": True},
        ],
        ids=["document", "result", "results", "both", "end"],
    )
    def test_a_save_that_builds_on_what_a_failover_lost_is_refused(self, store, change, lost):
        """Known fault: its owner goes on, and what was lost before it is missing for good."""
        lease = acquired(store)
        save(store, lease, b"one", sequence=1)
        store.commit(lease, Change(put={0: ONE}, sequence=2, after=1))
        there = store.load(RUN)
        with pytest.raises(LeaseLostError):
            store.commit(lease, Change(**change, sequence=4, **lost))
        assert store.load(RUN) == there
        store.commit(lease, Change(**change, sequence=4, after=1, after_result=0))
        assert store.load(RUN) != there
        store.commit(lease, Change(**change, sequence=4, after=1, after_result=0))

    def test_many_leases_are_renewed_at_once_and_the_lost_ones_named(self, store):
        assert store.renew([]) == []
        with FakeClock() as clock:
            leases = [acquired(store, RunId("import", str(number))) for number in range(5)]
            store.release(leases[1], "error")
            save(store, leases[3], b"end", finished=True)
            clock.advance(20)
            assert [*store.renew(leases)] == [leases[1], leases[3]]
            clock.advance(20)
            assert isinstance(store.acquire(leases[0].run, request()), Held)

    def test_a_renewal_of_many_is_no_progress(self, store):
        for _ in range(2):
            store.renew([acquired(store, owner=DEAD, max_crashes=2)])
        assert isinstance(store.acquire(RUN, request(max_crashes=2)), Poisoned)

    def test_it_says_what_it_promises(self, store):
        promises = store.probe()
        assert promises.fenced
        assert store.probe() == promises

    def test_documents_may_be_large(self, store):
        document = bytes(range(256)) * 4096
        lease = acquired(store)
        save(store, lease, document, put={0: Result("slot", document)})
        assert store.load(RUN) == Contents(document, None, {0: Result("slot", document)})

    def test_runs_do_not_see_each_other(self, store):
        mine, other = acquired(store), acquired(store, OTHER)
        save(store, mine, b"mine", put={0: ONE})
        save(store, other, b"other", put={0: TWO})
        store.release(mine, "error")
        assert store.load(OTHER) == Contents(b"other", None, {0: TWO})

    def test_forgetting_leaves_nothing(self, store):
        lease = acquired(store)
        save(store, lease, b"one", put={0: ONE})
        store.release(lease, "error")
        assert store.forget(RUN)
        assert not store.forget(RUN)
        assert states(store) == []
        acquired(store)
        assert store.load(RUN) == Contents(None, None, {})

    def test_a_zombie_of_a_forgotten_run_changes_nothing(self, store):
        with FakeClock() as clock:
            acquired(store)
            clock.advance(31)
            zombie = acquired(store)
            clock.advance(31)
            assert store.forget(RUN)
            owner = acquired(store)
            assert owner.token > zombie.token
            with pytest.raises(LeaseLostError):
                save(store, zombie, b"zombie")
            save(store, owner, b"one")
        assert store.load(RUN).latest == b"one"

    def test_a_run_that_somebody_works_on_is_not_forgotten(self, store):
        acquired(store)
        with pytest.raises(RunBusyError):
            store.forget(RUN)
        assert states(store) == [(RUN, "running")]

    def test_a_run_whose_owner_is_dead_can_be_forgotten(self, store):
        acquired(store, owner=DEAD)
        assert store.forget(RUN)

    def test_it_goes_on_after_a_close(self, store):
        lease = acquired(store)
        store.close()
        save(store, lease, b"one")
        store.close()
        assert store.load(RUN).latest == b"one"

    def test_of_many_threads_one_gets_the_run(self, store):
        barrier = threading.Barrier(8)
        answers = []

        def contend():
            barrier.wait()
            answers.append(type(store.acquire(RUN, request())))

        threads = [threading.Thread(target=contend) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers, key=str) == [Acquired] + [Held] * 7

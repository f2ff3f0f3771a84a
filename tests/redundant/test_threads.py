"""The threads of sync copies: few, reused, counted when left behind, and never waited for."""

import contextvars
import os
import threading
import time

import pytest

from mainstay import cancelled, deadline, hedge, redundant, remaining, vote
from mainstay._core import workers
from mainstay._core.clock import SYSTEM
from mainstay.testing import Faults
from support.redundancy import after

PATIENCE = 10.0  # real seconds

pytestmark = pytest.mark.usefixtures("metrics")


def ours():
    return [t for t in threading.enumerate() if t.name == "mainstay-worker"]


def wait_until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def impatient_threads(monkeypatch):
    """Let idle threads end at once, and check that they do."""
    before = {*ours()}
    monkeypatch.setattr(workers, "IDLE_SECONDS", 0.01)
    yield
    wait_until(lambda: {*ours()} <= before)


class Hang:
    """A copy that hangs until it is released."""

    def __init__(self):
        self.release = threading.Event()
        self.started = threading.Semaphore(0)

    def __call__(self):
        self.started.release()
        assert self.release.wait(PATIENCE)
        return "late"


def hedged(*fns, **parameters):
    parameters = {"start": hedge.after(0.001), "budget": None, **parameters}
    first, *others = fns
    return redundant(alternatives=others, name="it", **parameters)(first)


def test_a_loser_that_hangs_is_counted_until_it_returns(metrics):
    """Known fault 8: threads of losers leak and nobody knows."""
    hang, disposed = Hang(), []
    assert hedged(hang, lambda: "answer", dispose=disposed.append)() == "answer"
    assert metrics("abandoned_threads", component="it") == 1
    assert disposed == []
    hang.release.set()
    wait_until(lambda: metrics("abandoned_threads") == 0)
    assert disposed == ["late"]
    assert metrics("wasted_seconds_total") > 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dispose_that_wants_to_end_its_thread_does_not(metrics):
    def leave(_answer):
        if threading.current_thread().name == "mainstay-worker":
            raise SystemExit

    hang = Hang()
    call = hedged(hang, lambda: "answer", dispose=leave, threads=2)
    assert call() == "answer"
    hang.release.set()
    wait_until(lambda: metrics("abandoned_threads") == 0)
    call()
    wait_until(lambda: metrics("abandoned_threads") == 0)


def test_a_loser_can_ask_whether_anybody_waits():
    asked, began, over = [], threading.Event(), threading.Event()

    def ask():
        asked.append(cancelled())
        began.set()
        wait_until(cancelled)
        over.set()

    assert hedged(ask, lambda: began.wait(PATIENCE) and "answer")() == "answer"
    assert over.wait(PATIENCE)
    assert asked == [False]
    assert not cancelled()


def test_a_copy_inside_an_abandoned_copy_learns_of_it():
    over = threading.Event()

    def outer():
        def inner():
            wait_until(cancelled)
            over.set()

        redundant(start=hedge.after(PATIENCE))(inner)()

    assert hedged(outer, lambda: "answer")() == "answer"
    assert over.wait(PATIENCE)


def test_at_the_cap_the_primary_runs_in_the_callers_thread_and_nothing_is_hedged(metrics):
    """Known fault 8: at the cap, refuse to hedge and do not block."""
    hang = Hang()
    slow = redundant(threads=1, start=hedge.after(0.001), name="it", budget=None)
    caller = threading.Thread(target=slow(hang))
    caller.start()
    assert hang.started.acquire(timeout=PATIENCE)
    wait_until(lambda: metrics("hedges_denied_total", reason="threads") == 1)
    assert slow(threading.get_ident)() == threading.get_ident()
    hang.release.set()
    caller.join()


def test_a_vote_at_the_cap_still_decides():
    policy = redundant(copies=3, threads=1, decide=vote.majority())
    assert policy(lambda: 7)() == 7


def test_at_the_cap_the_copy_after_a_failed_one_runs_in_the_callers_thread_too(metrics):
    hang = Hang()
    policy = redundant(threads=1, start=hedge.after(PATIENCE), budget=None)
    other = threading.Thread(target=policy(hang))
    other.start()
    assert hang.started.acquire(timeout=PATIENCE)
    assert policy.call(Faults([ConnectionError, "answer"])) == "answer"
    hang.release.set()
    other.join()


def test_a_copy_that_found_no_thread_takes_that_of_one_that_has_answered(metrics):
    hang = Hang()

    def answer():
        return 7 if hang.started.acquire(timeout=PATIENCE) else 0

    def last():
        places.append(threading.get_ident())
        return 7

    places = []
    others = {"alternatives": [hang, last], "threads": 2}
    assert redundant(decide=vote.majority(), name="it", **others)(answer)() == 7
    assert places != [threading.get_ident()]
    assert metrics("abandoned_threads") == 1
    hang.release.set()


def test_threads_that_become_free_during_a_copy_do_not_multiply_the_others(metrics):
    """While the first copy runs in the caller's thread, other calls give theirs back."""
    policy = redundant(copies=3, threads=3, decide=vote.majority(), name="it")
    hang, started = Hang(), []
    other = threading.Thread(target=policy(hang))
    other.start()
    for _ in range(3):
        assert hang.started.acquire(timeout=PATIENCE)

    def copy():
        started.append(threading.get_ident())
        if started[0] == threading.get_ident():
            hang.release.set()
            other.join()
            wait_until(lambda: metrics("abandoned_threads") == 0)
        return 7

    assert policy(copy)() == 7
    wait_until(lambda: metrics("abandoned_threads") == 0)
    assert started[0] == threading.get_ident()
    assert len(started) <= 3


def test_hung_losers_do_not_starve_other_policies():
    """Known fault 8: on a shared ThreadPoolExecutor hedges wait for the losers."""
    hang = Hang()
    for _ in range(3):
        assert hedged(hang, lambda: "answer")() == "answer"
    other = hedged(lambda: "other", lambda: "too late", start=hedge.after(PATIENCE / 2))
    assert other() == "other"  # a primary that waited for a thread would be overtaken
    hang.release.set()


def test_until_enough_is_known_the_primary_runs_in_the_callers_thread():
    policy = redundant(start=hedge.quantile(0.5))
    idents = [policy.call(threading.get_ident) for _ in range(21)]
    assert {*idents[:20]} == {threading.get_ident()}
    assert idents[20] != threading.get_ident()


def test_threads_are_reused():
    policy = redundant(start=hedge.after(PATIENCE))
    assert len({policy.call(threading.get_ident) for _ in range(50)}) == 1


VARIABLE = contextvars.ContextVar("variable", default="unset")


def test_a_thread_that_has_ended_makes_room_for_another():
    before = {*ours()}
    policy = redundant(start=hedge.after(PATIENCE), threads=1)
    for _ in range(2):
        assert policy.call(threading.get_ident) != threading.get_ident()
        wait_until(lambda: {*ours()} <= before)


def test_a_thread_that_the_system_refuses_is_asked_for_again(monkeypatch):
    def refused(_thread):
        raise RuntimeError("can't start new thread")

    policy = redundant(start=hedge.after(PATIENCE), threads=1)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refused)
        assert policy.call(threading.get_ident) == threading.get_ident()
    assert policy.call(threading.get_ident) != threading.get_ident()


def test_a_copy_that_fails_after_the_timeout_is_followed_by_none(clock, metrics):
    """In the caller's thread, where a timeout cannot end it, as at the cap."""
    policy = redundant(start=hedge.after(9), timeout=1, budget=None)
    policy._settings.workers._most = 0
    with pytest.raises(ConnectionError):
        policy.call(Faults([after(2, ConnectionError), "late"]))
    assert metrics("hedges_denied_total", reason="deadline") == 1
    assert metrics.outcomes() == {"timeout": 1}


def test_copies_see_the_callers_context_and_keep_their_changes_to_themselves():
    """Known fault 12: `run_in_executor` loses it; two copies need two contexts."""
    seen = []

    def copy():
        seen.append(VARIABLE.get())
        VARIABLE.set("changed")
        return 1

    VARIABLE.set("of the caller")
    assert redundant(copies=3, decide=vote.unanimous())(copy)() == 1
    assert seen == ["of the caller"] * 3
    assert VARIABLE.get() == "of the caller"


def test_a_deadline_holds_inside_copies():
    with deadline(5):
        left = redundant(start=hedge.after(PATIENCE))(remaining)()
    assert 0 < left <= 5


def test_an_interrupt_in_the_callers_thread_gives_the_call_up(metrics):
    def interrupt():
        raise KeyboardInterrupt

    hang = Hang()
    with pytest.raises(KeyboardInterrupt):
        hedged(hang, interrupt)()
    assert metrics.outcomes() == {"cancelled": 1}
    assert metrics("abandoned_threads") == 1
    hang.release.set()
    wait_until(lambda: metrics("abandoned_threads") == 0)


def test_what_interrupts_a_copy_in_the_callers_thread_leaves_nothing_behind(metrics):
    """Until enough is known for a quantile that is where every primary runs."""

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        redundant(name="it")(interrupt)()
    assert metrics.outcomes() == {"cancelled": 1}
    assert metrics("abandoned_threads") == 0


def test_a_race_that_is_left_without_a_result_is_cancelled(metrics):
    disposed, hang = [], Hang()
    with redundant(name="it", dispose=disposed.append).race() as race:
        race.start(hang)
    assert metrics.outcomes() == {"cancelled": 1}
    assert metrics("abandoned_threads") == 1
    hang.release.set()
    wait_until(lambda: metrics("abandoned_threads") == 0)
    wait_until(lambda: len(disposed) == 1)


def test_an_interrupt_in_a_race_at_the_cap_leaves_only_what_runs_behind(metrics):
    def interrupt():
        raise KeyboardInterrupt

    hang = Hang()
    with redundant(name="it", threads=1).race() as race:
        race.start(hang)
        with pytest.raises(KeyboardInterrupt):
            race.start(interrupt)
    assert metrics.outcomes() == {"cancelled": 1}
    assert metrics("abandoned_threads") == 1
    hang.release.set()
    wait_until(lambda: metrics("abandoned_threads") == 0)


def test_an_interrupt_at_the_moment_of_the_answer_disposes_of_it(metrics, monkeypatch):
    bell = type(SYSTEM.bell())
    wait = bell.wait

    def wait_and_interrupt(self, seconds):
        wait(self, seconds)
        raise KeyboardInterrupt

    monkeypatch.setattr(bell, "wait", wait_and_interrupt)
    disposed = []
    policy = redundant(start=hedge.after(PATIENCE), dispose=disposed.append, name="it")
    with pytest.raises(KeyboardInterrupt):
        policy.call(lambda: "answer")
    assert disposed == ["answer"]
    assert metrics.outcomes() == {"cancelled": 1}
    assert metrics("abandoned_threads") == 0


def test_many_calls_from_many_threads_all_get_their_own_answer(metrics):
    before = {*ours()}
    policy = redundant(start=hedge.after(0.0005), threads=8, budget=None, name="it")
    echo = policy(lambda number: number)
    answers = {}

    def work(start):
        for number in range(start, start + 200):
            answers[number] = echo(number)

    workers = [threading.Thread(target=work, args=(start * 200,)) for start in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert answers == {number: number for number in range(1200)}
    assert metrics("calls_total") == 1200
    assert len({*ours()} - before) <= 8
    wait_until(lambda: metrics("abandoned_threads") == 0)


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_makes_threads_of_its_own():
    """Known fault 23: what a process has is not there in its children."""
    echo = redundant(start=hedge.after(PATIENCE), threads=1)(lambda: "answer")
    assert echo() == "answer"
    child = os.fork()
    if not child:
        os._exit(0 if echo() == "answer" else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_vote_of_scripted_threads_leaves_no_thread_behind(clock):
    script = Faults([after(0.1, 1), after(0.2, 1), after(9, 1)])
    assert redundant(copies=3, decide=vote.majority()).call(script) == 1
    assert clock.now() == pytest.approx(0.2)

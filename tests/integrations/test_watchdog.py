"""The watchdog that ends reads of sync clients."""

import gc
import os
import socket
import threading
import time

import pytest

from mainstay import DeadlineExpiredError
from mainstay.integrations._watchdog import Watch, watchdog

LONG = 60.0


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def watch(pair):
    made = Watch(pair[0].fileno())
    yield made
    made.close()


def test_a_read_that_takes_too_long_is_ended(pair, watch):
    began = time.monotonic()
    with pytest.raises(DeadlineExpiredError), watch.reading(0.05, "a"):
        assert pair[0].recv(1) == b""
    assert 0.04 <= time.monotonic() - began < 5
    assert watch.fired


def test_one_that_is_in_time_is_not(pair, watch):
    pair[1].send(b"x")
    with watch.reading(LONG, "a"):
        assert pair[0].recv(1) == b"x"
    assert (watch.fired, watch.until) == (False, None)


def test_an_exception_of_the_read_is_kept_where_it_was_in_time(watch):
    with pytest.raises(ZeroDivisionError), watch.reading(LONG, "a"):
        raise ZeroDivisionError


def test_a_later_read_that_ends_sooner_is_ended_first(pair, watch):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sooner = Watch(ours.fileno())
        watchdog.begin(watch, LONG)
        with pytest.raises(DeadlineExpiredError), sooner.reading(0.05, "a"):
            ours.recv(1)
        watchdog.end(watch)
        sooner.close()
    assert not watch.fired


def test_what_has_ended_does_not_pile_up(watch):
    for _ in range(1_000):
        with watch.reading(LONG, "a"):
            pass
    assert len(watchdog._heap) < 200


def test_a_number_that_is_given_to_another_connection_is_not_ended(pair, watch):
    """The client may close its socket while the watch goes on."""
    ours, theirs = pair
    number = ours.fileno()
    ours.close()
    others = [*socket.socketpair(), *socket.socketpair()]
    assert number in {each.fileno() for each in others}
    watch.fire()
    others[0].send(b"x")
    assert others[1].recv(1) == b"x"
    for each in others:
        each.close()
    assert theirs.recv(1) == b""


@pytest.mark.process
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forks with threads, on purpose
def test_a_forked_child_has_a_watchdog_of_its_own(watch):
    with watch.reading(LONG, "a"):
        assert any(each.name == "mainstay-watchdog" for each in threading.enumerate())
        child = os.fork()
        if child == 0:
            ours, _theirs = socket.socketpair()
            try:
                with Watch(ours.fileno()).reading(0.05, "a"):
                    ours.recv(1)
            except DeadlineExpiredError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    gc.collect()

"""Threads that run what their callers may leave behind, where a signal handler comes in."""

import threading

import pytest

from mainstay._core.workers import WorkerPool


def test_a_job_ends_though_a_handler_waits_for_it_where_its_thread_has_the_lock():
    pool, done = WorkerPool(1), threading.Event()

    def job(worker):
        pool.release(worker)
        done.set()

    with pool._lock:  # of the call that the signal handler came into
        worker = pool.take()
        worker.run(job)
        assert done.wait(10)
    assert pool.take() is worker


@pytest.mark.parametrize("started", [False, True])
def test_an_interrupt_while_a_thread_is_made_takes_no_place_along(monkeypatch, started):
    pool, start, threads = WorkerPool(1), threading.Thread.start, []

    def interrupted(thread):
        threads.append(thread)
        if started:
            start(thread)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.take()
    if started:
        threads[0].join(10)
    assert not threads[0].is_alive()
    assert pool.take() is not None


def test_without_a_thread_of_the_system_there_is_no_worker(monkeypatch):
    pool = WorkerPool(1)

    def refused(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        assert pool.take() is None
    assert pool.take() is not None

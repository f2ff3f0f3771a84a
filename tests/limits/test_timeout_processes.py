"""Limits of time around forks, under signal handlers, and at the end of the process."""

import time

import pytest

from support.processes import program

pytestmark = pytest.mark.process


def printed_by(function):
    return program("timeout_processes.py", function).split()


def test_a_child_has_all_threads_and_none_of_those_left_behind():
    child, parent = ["0", "4", "4"], ["4", "free"]
    assert printed_by("fork_with_abandoned_threads") == child + parent


def test_children_forked_in_the_middle_of_calls_make_theirs():
    assert printed_by("fork_while_calls_run") == ["30", "True"]


def test_a_function_in_a_thread_may_fork():
    assert printed_by("fork_inside") == ["child", "True", "parent"]


def test_calls_from_a_signal_handler_go_in_between():
    told, thread, task = (
        ["told", "True", "True"],
        ["thread", "True", "True"],
        ["task", "True", "True"],
    )
    assert printed_by("calls_in_signal_handlers") == told + thread + task


def test_a_signal_handler_that_raises_ends_the_wait_and_the_call_is_left_behind():
    assert printed_by("interrupts_of_a_wait") == ["interrupted", "1", "1"]


def test_t9_calls_left_behind_do_not_hold_the_end_of_the_process():
    """Known fault T9: pool threads that are no daemons do."""
    answered, at_the_end = printed_by("end_with_abandoned_threads")
    assert answered in {"answered", "full"}
    assert time.time() - float(at_the_end) < 5.0

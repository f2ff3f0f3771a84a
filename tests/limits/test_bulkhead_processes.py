"""Bulkheads under everything that cuts calls short, and in forked children."""

import pytest

from support.processes import program

pytestmark = pytest.mark.process


def test_nothing_is_left_over_after_random_cancels_timeouts_forks_and_loop_ends():
    enough, within_limit, in_flight, waiting, children = program(
        "bulkhead_chaos.py", "3000", "7"
    ).split()
    assert (enough, within_limit) == ("True", "True")
    assert (in_flight, waiting) == ("0", "0")
    assert children == "3"


def test_t13_nothing_is_lost_to_a_signal_handler_that_raises():
    """Known fault T13: a place that is given back where something may be waited for, or raise."""
    found = [line.split() for line in program("raising_handlers.py", "500").splitlines()]
    forms = ("decorated", "async", "inside", "piped", "waited", "turns")
    assert found == [[form, "0", "0"] for form in forms]

"""Who gets the next call: the strategies."""

import collections
import itertools
import math
import random
import sys
import threading
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay import Detect, FailoverPool, Member
from mainstay._failover.members import PeakLatency
from mainstay._failover.selection import STRATEGIES, ramped, weighted_turn
from mainstay.testing import FakeClock
from support.pools import Lost, Servers


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6))
def test_a_weighted_turn_has_each_place_in_proportion(weights):
    turn = weighted_turn([float(weight) for weight in weights])
    counts = collections.Counter(turn)
    for place, weight in enumerate(weights):
        assert counts[place] * sum(weights) == weight * len(turn)


def test_a_weighted_turn_is_spread_out():
    turn = weighted_turn([5.0, 1.0, 1.0])
    runs = "".join(map(str, turn))
    assert len(turn) == 7
    assert "0000" not in runs


@pytest.mark.parametrize("weights", [[1e-9, 1.0], [1.0, 3.14159, 2.71828], [1e9, 1.0]])
def test_odd_weights_make_a_turn_of_bounded_length_that_leaves_nobody_out(weights):
    turn = weighted_turn(weights)
    assert set(turn) == set(range(len(weights)))
    assert len(turn) <= 10_010


@pytest.mark.parametrize(
    ("weights", "turn"),
    [
        ([2.0, 4.0], [1, 0, 1]),
        ([0.5, 0.25], [0, 1, 0]),
        ([1.5, 0.5, 1.0], [0, 2, 0, 1, 2, 0]),
        ([1e-9, 1e-9], [0, 1] * 5_000),
    ],
)
def test_a_weighted_turn_is_as_short_as_can_be(weights, turn):
    assert weighted_turn(weights) == turn


def test_a_weight_however_small_has_a_pick():
    assert collections.Counter(weighted_turn([1e9, 1.0])) == {0: 10_000, 1: 1}
    handles = [
        types.SimpleNamespace(slot=types.SimpleNamespace(member=Member(name, name, weight=5e-324)))
        for name in "ab"
    ]
    assert STRATEGIES["weighted"].among(handles, lambda: 0.0, lambda: 0.99) is handles[1]


@pytest.mark.parametrize("weights", [[1.0, 10_000.0], [10_007.0, 20_011.0, 30_011.0]])
def test_weights_of_more_than_10_000_picks_are_rounded_to_that_many(weights):
    counts = collections.Counter(weighted_turn(weights))
    assert counts.total() == 10_000
    for place, weight in enumerate(weights):
        assert counts[place] == round(10_000 * weight / sum(weights))


def test_the_best_answered_of_two_drawn_members_is_picked():
    """Any two of three, each pair as likely as another; the first one drawn if both are as good."""
    drawn, chances = [], []

    class Latency:
        def __init__(self, name):
            self.name, self.seconds = name, 1.0

        def read(self, moment):
            assert moment == 7.0
            drawn.append(self.name)
            return 1.0

    handles = [
        types.SimpleNamespace(slot=types.SimpleNamespace(latency=Latency(name)), flights=[])
        for name in "abc"
    ]
    pick = STRATEGIES["least_latency"].order(handles, lambda: 7.0, lambda: chances.pop(0))
    pairs = []
    for chances[:] in itertools.product(
        [0.0, 0.33, 0.34, 0.66, 0.67, 0.99], [0.0, 0.49, 0.5, 0.99]
    ):
        drawn.clear()
        assert pick().slot.latency.name == drawn[0]
        pairs.append("".join(drawn))
    assert collections.Counter(pairs) == dict.fromkeys(["ab", "ac", "ba", "bc", "ca", "cb"], 4)


@pytest.mark.parametrize(
    ("one", "other", "better"),
    [
        ((1.0, 0), (1.1, 0), 0),
        ((1.0, 1), (1.9, 0), 1),  # as many seconds for each that is on its way
        ((1.0, 1), (2.1, 0), 0),
        ((1.0, 2), (2.9, 0), 1),
        ((1.0, 2), (3.1, 0), 0),
        ((None, 0), (1e-6, 0), 0),  # it was never called
        ((None, 1), (1e6, 5), 1),  # its first answer is still out
    ],
)
def test_least_latency_counts_the_calls_that_are_on_their_way(one, other, better):
    handles = []
    for seconds, flying in (one, other):
        latency = PeakLatency()
        if seconds is not None:
            latency.add(seconds, 0.0)
        slot = types.SimpleNamespace(latency=latency)
        handles.append(types.SimpleNamespace(slot=slot, flights=[None] * flying))
    for chances in (itertools.repeat(0.0), itertools.repeat(0.99)):  # either one first
        picked = STRATEGIES["least_latency"].among(handles, lambda: 0.0, chances.__next__)
        assert picked is handles[better]


@pytest.mark.parametrize(
    ("share", "chance", "picked"),
    [(0.0, 0.0, "b"), (0.25, 0.24, "a"), (0.25, 0.25, "b"), (0.25, 0.99, "b")],
)
def test_a_member_that_has_come_back_has_its_share_of_what_would_be_its_own(share, chance, picked):
    class Slot:
        def __init__(self, part):
            self.part = part

        def share(self, _now):
            return self.part

    parts = {"a": share, "b": 1.0}
    handles = [types.SimpleNamespace(name=name, slot=Slot(part)) for name, part in parts.items()]
    pick = ramped(handles, lambda some: lambda: some[0], lambda: 0.0, lambda: chance)
    assert pick().name == picked


def pool_of(count, select, weights=None):
    members = [Member(f"m{i}", i, weight=(weights or [1.0] * count)[i]) for i in range(count)]
    return FailoverPool("db", members, on=OSError, select=select)


def picks(pool, count):
    return collections.Counter(pool.call(lambda resource: resource) for _ in range(count))


def test_round_robin_shares_equally():
    assert set(picks(pool_of(3, "round_robin"), 300).values()) == {100}


def test_round_robin_goes_on_over_all_threads():
    """Known fault 23: elastic-transport's counter for each thread sends all to one member."""
    pool, seen = pool_of(4, "round_robin"), []
    for _ in range(200):
        thread = threading.Thread(target=lambda: seen.append(pool.call(lambda each: each)))
        thread.start()
        thread.join()
    assert set(collections.Counter(seen).values()) == {50}


def test_weighted_shares_by_weight():
    assert picks(pool_of(3, "weighted", [1.0, 2.0, 3.0]), 600) == {0: 100, 1: 200, 2: 300}


def test_least_latency_prefers_the_quick_one():
    pool = pool_of(3, "least_latency")
    seen = collections.Counter()
    with FakeClock() as clock:

        def use(resource):
            seen[resource] += 1
            clock.advance(0.5 if resource == 0 else 0.001)

        for _ in range(300):
            pool.call(use)
    assert seen[0] < 30
    assert min(seen[1], seen[2]) > 50


def test_a_selector_of_the_users_own_is_asked_with_the_names():
    class Last:
        def __init__(self):
            self.asked = []

        def pick(self, members):
            self.asked.append(list(members))
            return members[-1]

    selector = Last()
    pool = pool_of(3, selector)
    assert pool.call(lambda resource: resource) == 2

    def fails_on_two(resource):
        if resource == 2:
            raise OSError
        return resource

    assert pool.call(fails_on_two) == 1
    assert selector.asked == [["m0", "m1", "m2"], ["m0", "m1", "m2"], ["m0", "m1"]]


@pytest.mark.parametrize("select", ["priority", "round_robin", "weighted", "least_latency"])
def test_a_pick_costs_the_same_number_of_calls_among_three_and_two_hundred(select):
    def calls_of(pool):
        count = 0

        def trace(_frame, event, _arg):
            nonlocal count
            count += event in ("call", "c_call")

        sys.setprofile(trace)
        try:
            pool.call(lambda _resource: None)
        finally:
            sys.setprofile(None)
        return count

    def least_calls_of(members):  # the first call of a member makes its counters, too
        pool = pool_of(members, select)
        return min(calls_of(pool) for _ in range(members + 10))

    assert least_calls_of(200) == least_calls_of(3)


@pytest.mark.parametrize(
    ("select", "chance", "place"),
    [
        ("priority", 0.99, 0),
        ("round_robin", 0.0, 0),
        ("round_robin", 0.99, 2),
        ("weighted", 0.0, 0),
        ("weighted", 0.24, 0),
        ("weighted", 0.25, 1),
        ("weighted", 0.99, 2),
    ],
)
def test_who_is_next_follows_from_the_random_number_alone(select, chance, place):
    sessions = [
        types.SimpleNamespace(slot=types.SimpleNamespace(member=Member(str(i), i, weight=weight)))
        for i, weight in enumerate([1.0, 2.0, 1.0])
    ]
    picked = STRATEGIES[select].among(sessions, lambda: 0.0, lambda: chance)
    assert picked is sessions[place]


# Known faults of other libraries, by their numbers in the survey.


class Asked:
    """A user's selector that remembers what it was offered, and always wants its favourite."""

    def __init__(self, favourite="a"):
        self.favourite = favourite
        self.offered = []

    def pick(self, members):
        self.offered.append(tuple(members))
        return self.favourite if self.favourite in members else members[0]


MEMBERS = ("a", "b", "c")


SELECTS = ["priority", "round_robin", "weighted", "least_latency", "own"]


@pytest.mark.parametrize("select", SELECTS)
def test_exclusion_comes_before_selection_and_never_empties_the_set(servers, clock, select):
    """Known fault 19: LiteLLM excluded after affinity had left one candidate, so that none was
    left.
    """
    random.seed(1)
    detect = Detect(consecutive=10**6, threshold=10**9)
    pool = servers.pool(*MEMBERS, select=Asked() if select == "own" else select, detect=detect)
    for well in MEMBERS * 10:
        servers.broken = dict.fromkeys(set(MEMBERS) - {well}, Lost)
        servers.calls.clear()
        assert pool.call(servers.use) == (well,)
        assert len(set(servers.calls)) == len(servers.calls)


def test_a_selector_is_only_offered_who_may_be_called(servers, clock):
    """Known fault 19: affinity that is asked first picks who is ejected, drained or tried."""
    selector = Asked("b")
    pool = servers.pool("a", "b", "c", "d", select=selector)
    servers.eject(pool, "b")
    pool.drain("c")
    servers.broken = {"a": Lost}
    selector.offered.clear()
    assert pool.call(servers.use) == ("d",)
    assert selector.offered == [("a", "d"), ("d",)]


def test_processes_do_not_all_begin_with_the_same_member():
    """Known fault 23: a thousand fresh workers that begin at member 0 are a herd."""
    firsts = {Servers().pool(*"abcdefgh", select="round_robin").call(str) for _ in range(50)}
    assert len(firsts) > 3


def test_the_latency_of_a_member_rises_at_once_and_falls_to_a_third_in_ten_seconds():
    latency, third = PeakLatency(), math.exp(-1)
    latency.add(0.5, 100.0)
    assert [latency.read(now) for now in (90.0, 100.0, 110.0)] == [0.5, 0.5, 0.5 * third]
    latency.add(0.1, 110.0)  # less than what is known: it has its share
    assert latency.read(110.0) == pytest.approx(0.5 * third * third + 0.1 * (1 - third))
    latency.add(2.0, 110.0)
    assert latency.read(110.0) == 2.0
    latency.add(1.0, 109.0)  # by a reading from before
    assert latency.read(109.0) == 2.0

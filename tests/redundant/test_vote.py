"""Which answer is believed: each rule against an oracle that tries every way the vote can go on."""

import itertools
import statistics
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay import vote

FAILED = object()


def states(rule, copies, events):
    """Tell a fresh tally what happened; give it and the last state."""
    tally = rule.tally(copies)
    state = "undecided"
    for copy, answer in events:
        state = tally.failed(copy) if answer is FAILED else tally.answered(copy, answer)
        if state != "undecided":
            break
    return tally, state


def counts(answers):
    """How many gave each answer, the most frequent first."""
    given_ = [answer for answer in answers if answer is not FAILED]
    return sorted((given_.count(each) for each in {*given_}), reverse=True)


def wins(answers, threshold):
    """Which answer has that many, if one has."""
    return next((a for a in answers if a is not FAILED and answers.count(a) >= threshold), None)


def plurality_of(answers):
    sizes = counts(answers)
    if not sizes or (len(sizes) > 1 and sizes[0] == sizes[1]):
        return None
    return next(a for a in answers if a is not FAILED and answers.count(a) == sizes[0])


ORACLES = {
    "majority": (vote.majority(), lambda answers: wins(answers, len(answers) // 2 + 1)),
    "unanimous": (vote.unanimous(), lambda answers: wins(answers, len(answers))),
    "plurality": (vote.plurality(), plurality_of),
}
ANSWERS = ["a", "b", "c", FAILED]


@pytest.mark.parametrize("name", ORACLES)
@given(data=st.data())
def test_a_vote_is_settled_exactly_when_no_end_can_differ(name, data):
    rule, oracle = ORACLES[name]
    copies = data.draw(st.integers(2, 5))
    order = data.draw(st.permutations(range(copies)))
    answers = data.draw(st.lists(st.sampled_from(ANSWERS), min_size=copies, max_size=copies))
    tally = rule.tally(copies)
    for ended, copy in enumerate(order, 1):
        answer = answers[copy]
        state = tally.failed(copy) if answer is FAILED else tally.answered(copy, answer)
        known = [answers[each] for each in order[:ended]]
        # One more answer that nobody has given stands for all of those.
        ends = {
            oracle([*known, *rest])
            for rest in itertools.product([*ANSWERS, "d"], repeat=copies - ended)
        }
        expected = "undecided" if len(ends) > 1 else "impossible" if ends == {None} else "decided"
        assert state == expected
        if state == "decided":
            assert ends == {answers[tally.winner]}
            agreeing = [c for c in order[:ended] if answers[c] == answers[tally.winner]]
            assert tally.winner == min(agreeing)
            others = {c for c in order[:ended] if answers[c] is not FAILED} - {*agreeing}
            assert {*tally.dissenters()} == others
        if state != "undecided":
            return
        assert tally.needed() == fewest(oracle, known, copies - ended)


def fewest(oracle, known, left):
    """The fewest further answers after which nothing can change any more, at the best."""
    for more in range(1, left + 1):
        for answers in itertools.product("abcd", repeat=more):
            ends = {
                oracle([*known, *answers, *rest])
                for rest in itertools.product([*ANSWERS, "d"], repeat=left - more)
            }
            if len(ends) == 1 and ends != {None}:
                return more
    return pytest.fail("an undecided vote can still be decided")


@given(
    copies=st.integers(1, 6),
    k=st.integers(1, 6),
    answers=st.lists(st.sampled_from(ANSWERS), min_size=6, max_size=6),
)
def test_a_quorum_is_reached_by_the_first_answer_with_k_votes(copies, k, answers):
    if k > copies:
        with pytest.raises(ValueError, match="can never be reached"):
            vote.quorum(k).tally(copies)
        return
    events = [*enumerate(answers[:copies])]
    tally, state = states(vote.quorum(k), copies, events)
    reached = wins(answers[:copies], k)
    assert state == ("impossible" if reached is None else "decided")
    if reached is not None:
        seen = next(n for n in range(1, copies + 1) if wins(answers[:n], k) is not None)
        assert answers[tally.winner] == wins(answers[:seen], k)


def test_the_first_answer_decides_and_failures_do_not():
    tally = vote.first().tally(3)
    assert tally.failed(0) == "undecided"
    assert tally.needed() == 1
    assert tally.answered(2, "late but first") == "decided"
    assert tally.winner == 2
    assert [*tally.dissenters()] == []


def test_no_answer_at_all_is_impossible():
    tally = vote.first().tally(2)
    assert [tally.failed(0), tally.failed(1)] == ["undecided", "impossible"]


def test_the_largest_group_comes_first_however_late_it_began():
    answers = [(0, "a"), (1, "b"), (2, "c"), (3, "c"), (4, "c")]
    tally, state = states(vote.majority(), 5, answers)
    assert (state, tally.winner, [*tally.dissenters()]) == ("decided", 2, [0, 1])


def test_unhashable_answers_are_compared_as_they_are():
    tally, state = states(vote.majority(), 3, [(0, {"a": [1]}), (1, {"a": [2]}), (2, {"a": [1]})])
    assert (state, tally.winner, [*tally.dissenters()]) == ("decided", 0, [1])


def test_a_key_says_what_answers_are_compared_by():
    rule = vote.majority(key=lambda page: page["etag"])
    events = [(0, {"etag": 1, "age": 5}), (1, {"etag": 1, "age": 6})]
    tally, state = states(rule, 3, events)
    assert (state, tally.winner) == ("decided", 0)


def test_an_answer_that_does_not_equal_itself_agrees_with_itself_only():
    nan = float("nan")
    assert states(vote.quorum(2), 2, [(0, nan), (1, nan)])[1] == "decided"
    assert states(vote.quorum(2), 2, [(0, float("nan")), (1, float("nan"))])[1] == "impossible"


NUMBERS = st.one_of(st.integers(-3, 3), st.just(FAILED))


@given(data=st.data())
def test_a_median_is_settled_exactly_when_no_end_can_differ(data):
    copies = data.draw(st.integers(1, 6))
    answers = data.draw(st.lists(NUMBERS, min_size=copies, max_size=copies))
    tally = vote.median().tally(copies)
    for ended in range(1, copies + 1):
        answer = answers[ended - 1]
        state = tally.failed(ended - 1) if answer is FAILED else tally.answered(ended - 1, answer)
        ends = {
            median_of([*answers[:ended], *rest])
            for rest in itertools.product([-9, 9, FAILED], repeat=copies - ended)
        }
        expected = "undecided" if len(ends) > 1 else "impossible" if ends == {None} else "decided"
        assert state == expected
        if state == "decided":
            assert answers[tally.winner] == median_of(answers[:ended])
        if state != "undecided":
            return
        assert tally.needed() >= 1


def median_of(answers):
    numbers = [answer for answer in answers if answer is not FAILED]
    if len(numbers) * 2 <= len(answers):
        return None
    return statistics.median_low(numbers)


@given(data=st.data(), within=st.integers(0, 3))
def test_a_median_within_a_distance_has_most_copies_that_near(data, within):
    copies = data.draw(st.integers(1, 6))
    answers = data.draw(st.lists(NUMBERS, min_size=copies, max_size=copies))
    tally, state = states(vote.median(within), copies, enumerate(answers))
    numbers = [answer for answer in answers if answer is not FAILED]
    middle = statistics.median_low(numbers) if numbers else 0
    near = sum(abs(number - middle) <= within for number in numbers)
    reached = near * 2 > copies
    assert state == ("decided" if reached else "impossible")
    if reached:
        assert abs(answers[tally.winner] - middle) <= within


def test_a_median_in_the_middle_of_answers_far_apart_is_waited_for():
    answers = [(0, -10), (1, 0), (2, 2), (3, 20)]
    rule = vote.median(within=1)
    assert states(rule, 5, answers)[1] == "undecided"
    assert states(rule, 5, [*answers, (4, 1)])[1] == "decided"


def test_dissenters_of_a_median_are_those_further_away_than_allowed():
    tally, state = states(vote.median(within=1), 3, [(0, 99), (1, 10), (2, 10.5)])
    assert (state, [*tally.dissenters()]) == ("decided", [0])


def test_dissent_is_told_by_the_distance_from_the_middle():
    tally, state = states(vote.median(within=1), 3, [(0, 9), (1, 11), (2, 10)])
    assert (state, tally.winner, [*tally.dissenters()]) == ("decided", 2, [])


@pytest.mark.parametrize("answers", [[1, 1, 2], [1, 2, 2], [1, 2, 3]])
def test_a_median_that_two_more_answers_can_move_is_not_decided(answers):
    assert states(vote.median(), 5, enumerate(answers))[1] == "undecided"


def test_a_median_of_all_has_no_dissenters():
    tally, state = states(vote.median(), 3, [(0, 1), (1, 2), (2, 300)])
    assert (state, tally.winner, [*tally.dissenters()]) == ("decided", 1, [])


def test_a_median_needs_most_copies_and_then_one_more_at_least():
    tally = vote.median().tally(5)
    needed = [tally.needed()]
    for copy, number in enumerate([1, 2, 3, 4]):
        assert tally.answered(copy, number) == "undecided"
        needed.append(tally.needed())
    assert needed == [3, 2, 1, 1, 1]


def test_a_median_within_a_distance_is_given_up_when_no_middle_can_be_that_near():
    answers = [(0, 0), (1, 3), (2, 6), (3, 9)]
    assert states(vote.median(within=1), 5, answers[:3])[1] == "undecided"
    assert states(vote.median(within=1), 5, answers)[1] == "impossible"


def test_an_answer_exactly_as_far_away_as_allowed_is_near():
    tally, state = states(vote.median(within=1), 3, [(0, 10), (1, 11)])
    assert (state, tally.winner, [*tally.dissenters()]) == ("decided", 0, [])


@pytest.mark.parametrize("number", [Decimal("1.5"), Fraction(3, 2), 1.5, 7, 10**400])
def test_a_median_takes_every_kind_of_number(number):
    assert states(vote.median(), 1, [(0, number)])[1] == "decided"


@pytest.mark.parametrize("answer", ["1", None, True, 1j, [1]])
def test_a_median_names_the_copy_whose_answer_is_no_number(answer):
    with pytest.raises(TypeError, match=f"copy 4 answered a {type(answer).__name__}"):
        vote.median().tally(5).answered(4, answer)


@pytest.mark.parametrize("answer", [float("nan"), Decimal("NaN"), Decimal("sNaN")])
def test_a_median_refuses_what_cannot_be_ordered(answer):
    with pytest.raises(ValueError, match="copy 0 answered NaN"):
        vote.median().tally(2).answered(0, answer)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: vote.quorum(0), ValueError, "`k` must be at least 1, not 0"),
        (lambda: vote.quorum(True), TypeError, "`k` must be a whole number"),
        (lambda: vote.quorum(1.5), TypeError, "`k` must be a whole number"),
        (lambda: vote.median("1"), TypeError, "`within` must be a number or None"),
        (lambda: vote.median(-1), ValueError, "`within` must be at least 0"),
        (lambda: vote.median(float("nan")), ValueError, "`within` must be at least 0"),
        (lambda: vote.majority(key="etag"), TypeError, "`key` must take an answer"),
    ],
)
def test_rules_refuse_what_they_cannot_work_with(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_a_key_must_not_be_async():
    async def key(answer):
        return answer

    with pytest.raises(TypeError, match="`key` must be a plain function"):
        vote.plurality(key=key)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (vote.first(), "vote.first()"),
        (vote.quorum(2), "vote.quorum(2)"),
        (vote.majority(), "vote.majority()"),
        (vote.plurality(), "vote.plurality()"),
        (vote.unanimous(), "vote.unanimous()"),
        (vote.median(), "vote.median()"),
        (vote.median(0.5), "vote.median(within=0.5)"),
    ],
)
def test_rules_show_how_they_were_made(rule, text):
    assert repr(rule) == text

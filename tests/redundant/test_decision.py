"""Which copy starts when, and which one wins: the decisions alone, without a call."""

import pytest

from mainstay import vote
from mainstay._redundant.decision import Round, forbids_hedge, last_failed, planned


def round_of(copies, rule=None, *, wanted=1):
    """The round of a call whose primary began at 0."""
    tally = None if rule is None else rule.tally(copies)
    return Round(tally, copies, wanted, 1, {0}, {0: 0.0})


def test_where_the_first_answer_wins_it_ends_the_round_whichever_copy_gives_it():
    round_ = round_of(3)
    assert round_.start(1.0) == 1
    round_.answered(1, "fast", 1.5)
    assert (round_.state, round_.winner, round_.is_over()) == ("decided", 1, True)
    assert not round_.may_hedge()


def test_where_the_first_answer_wins_only_the_failure_of_all_copies_ends_the_round():
    round_ = round_of(2)
    round_.failed(0, OSError(), 1.0)
    assert round_.state == "undecided"
    assert round_.may_hedge()
    assert not round_.lacks_copies()  # what takes the place of a failed copy is a hedge
    round_.start(1.0)
    round_.failed(1, OSError(), 2.0)
    assert round_.state == "impossible"
    assert round_.reason() == "attempts"


def test_a_round_in_which_nothing_runs_is_over_even_if_another_copy_could_decide_it():
    round_ = round_of(2)
    round_.failed(0, OSError(), 1.0)
    assert round_.is_over()


@pytest.mark.parametrize(
    ("denial", "reason"),
    [
        ("budget", "budget"),
        ("no_member", "no_member"),
        ("deadline", "timeout"),
        ("threads", "attempts"),
        (None, "attempts"),
    ],
)
def test_a_call_fails_for_what_forbade_the_copy_that_it_lacked(denial, reason):
    round_ = round_of(2)
    round_.failed(0, OSError(), 1.0)
    round_.denial = denial
    assert round_.reason() == reason


def test_a_vote_wants_as_many_copies_as_it_takes_to_be_decided():
    round_ = round_of(5, vote.majority(), wanted=3)
    assert round_.lacks_copies()
    round_.start(0.0), round_.start(0.0)
    assert not round_.lacks_copies()
    round_.answered(0, "a", 1.0)
    round_.answered(1, "b", 2.0)
    assert round_.lacks_copies()
    round_.start(2.0)
    assert not round_.lacks_copies()
    round_.failed(2, OSError(), 3.0, replaceable=False)
    assert not round_.lacks_copies()
    round_.failed(3, OSError(), 4.0)
    assert (round_.state, round_.verdict()) == ("impossible", "no_decision")
    assert round_.reason() == "no_decision"


def test_a_vote_wants_another_copy_for_one_that_failed_unless_there_is_no_member_for_it():
    for options, wanted in (({}, 3), ({"replaceable": False}, 2)):
        round_ = round_of(3, vote.majority(), wanted=2)
        round_.start(0.0)
        round_.failed(0, OSError(), 1.0, **options)
        assert round_.wanted == wanted


def test_a_copy_for_which_there_was_no_room_is_wanted_until_it_has_started():
    round_ = round_of(3, vote.unanimous(), wanted=3)
    round_.start(0.0)
    assert round_.lacks_copies()
    round_.answered(0, "a", 1.0)
    assert round_.lacks_copies()


@pytest.mark.parametrize(
    ("rule", "together", "expected"),
    [
        (vote.first(), False, 1),
        (vote.first(), True, 5),
        (vote.majority(), False, 3),
        (vote.quorum(2), False, 2),
        (vote.unanimous(), False, 5),
    ],
)
def test_a_call_begins_with_what_its_vote_cannot_do_without(rule, together, expected):
    assert planned(rule, 5, together=together) == expected


def test_a_hedge_is_forbidden_before_anything_is_taken_that_would_have_to_be_given_back():
    asked = []

    def yes(what):
        asked.append(what)
        return True

    def ask(left, room, *, member=True, token=True):
        asked.clear()
        return forbids_hedge(
            left,
            room=room,
            member=lambda: yes("member") and member,
            token=lambda: yes("token") and token,
        )

    assert (ask(0.0, room=True), asked) == ("deadline", [])
    assert (ask(1.0, room=False), asked) == ("threads", [])
    assert (ask(1.0, room=True, member=False), asked) == ("no_member", ["member"])
    assert (ask(1.0, room=True, token=False), asked) == ("budget", ["member", "token"])
    assert (ask(1.0, room=True), asked) == (None, ["member", "token"])


def test_the_failure_that_came_last_is_raised_and_of_two_at_once_the_primarys():
    ended = {1: 1.0, 2: 3.0, 0: 3.0, 3: 2.0}
    assert last_failed([1, 2, 3], ended) == 2
    assert last_failed(ended, ended) == 0

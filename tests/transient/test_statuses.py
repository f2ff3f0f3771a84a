"""What statuses of HTTP say, by method and headers."""

import pytest

from mainstay._transient.statuses import IDEMPOTENT, StatusRules

KEY = {"Idempotency-Key": "1"}
ASKS = {"retry-after": "2"}


DEFAULT = StatusRules()


def judged(status, method=None, sent=None, headers=None, rules=DEFAULT):
    answer = rules.judge(status, method, sent, headers, 0.0)
    return answer.again, answer.failing


@pytest.mark.parametrize("status", [500, 502, 503, 504, 529])
@pytest.mark.parametrize("method", sorted(IDEMPOTENT))
def test_a_method_that_may_be_repeated_is(status, method):
    assert judged(status, method) == judged(status, method.lower()) == (True, True)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 529])
@pytest.mark.parametrize("method", ["POST", "PATCH", "CONNECT"])
def test_another_one_needs_a_key(status, method):
    assert judged(status, method) == (False, True)
    assert judged(status, method, {}) == (False, True)
    assert judged(status, method, KEY) == (True, True)
    assert judged(status, method, rules=StatusRules(any_method=True)) == (True, True)


@pytest.mark.parametrize("status", [408, 425, 429])
def test_what_was_not_processed_may_be_sent_again_whatever_it_is(status):
    assert judged(status, "POST") == (True, False)


def test_a_server_that_asks_for_a_wait_has_not_processed_it():
    assert judged(503, "POST", headers=ASKS) == (2.0, True)
    assert judged(500, "POST", headers=ASKS) == (False, True)
    assert judged(429, "POST", headers=ASKS) == (2.0, False)


@pytest.mark.parametrize("status", [200, 400, 404, 409, 501, None, "503"])
def test_others_do_not_pass(status):
    assert judged(status, "GET") == (False, False)

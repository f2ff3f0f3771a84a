"""Arguments that an attempt has used up: the call does not go on at another member with the rest.

Field faults, A10.
"""

import asyncio
import io

import pytest

from mainstay import AllMembersFailedError, FailoverPool, Member, failover
from support.pools import Lost


@pytest.fixture
def pool(metrics):
    return FailoverPool("db", [Member("a", "bad"), Member("b", "b")], on=Lost)


def parts():
    yield b"a"
    yield b"b"


ONE_SHOT = {"generator": parts, "file": lambda: io.BytesIO(b"ab")}


@pytest.fixture(params=ONE_SHOT)
def one_shot(request):
    return ONE_SHOT[request.param]


def upload(site, body):
    sent = b"".join(body)
    if site == "bad":
        raise Lost("reset")
    return sent


def connect(site, _body):
    if site == "bad":
        raise Lost("refused")
    return site


@pytest.mark.parametrize("rerun", [True, False])
def test_the_call_ends_with_the_error_that_the_member_raised(
    sync_and_async, pool, one_shot, rerun, metrics
):
    policy = failover(pool, rerun=rerun)
    with pytest.raises(Lost, match="reset") as caught:
        sync_and_async.decorated(policy, upload, one_shot())
    (note,) = caught.value.__notes__
    assert "gave up after 1 attempt, at member a" in note
    if rerun:
        assert "is used up" in note
    assert metrics.attempts_at("b") == {}
    assert metrics.reasons() == {"attempts": 1}


def test_so_it_is_through_call(sync_and_async, pool, one_shot):
    with pytest.raises(Lost) as caught:
        sync_and_async.called(pool, upload, one_shot())
    assert "is used up" in caught.value.__notes__[0]


def test_it_is_called_by_the_name_that_callers_use(pool):
    for args, kwargs in (((), {"body": parts()}), ((parts(),), {})):
        with pytest.raises(Lost) as caught:
            pool.call(upload, *args, **kwargs)
        assert "argument `body`, a generator, is used up" in caught.value.__notes__[0]


def test_a_group_has_the_note_too(sync_and_async, one_shot):
    pool = FailoverPool("db", [Member("a", "bad"), Member("b", "b")], on=Lost, raises="group")
    with pytest.raises(AllMembersFailedError) as caught:
        sync_and_async.called(pool, upload, one_shot())
    assert "is used up" in caught.value.__notes__[0]


def test_what_was_not_touched_goes_on(sync_and_async, pool, one_shot):
    assert sync_and_async.called(pool, connect, one_shot()) == "b"


def test_with_a_limit_for_attempts_too(pool):
    pool = FailoverPool("db", [Member("a", "bad"), Member("b", "b")], on=Lost, attempt_timeout=9.0)

    async def main():
        async def aupload(site, body):
            return upload(site, body)

        with pytest.raises(Lost) as caught:
            await pool.call(aupload, io.BytesIO(b"ab"))
        return caught.value.__notes__[0]

    assert "argument `body`, a file" in asyncio.run(main())

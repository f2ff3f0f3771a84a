"""What a pool and its parts refuse when they are made, and that they name it.

Values that no parameter of any policy takes are in `tests/package/test_arguments.py`.
"""

import threading

import pytest

from mainstay import Detect, Failback, FailoverPool, Member, Probe, RateLimit, failover


def generator():
    yield 1


async def coroutine(_resource=None):
    return True


def answers_text(_resource) -> str:
    return "yes"


@pytest.mark.parametrize(
    ("args", "options", "error", "match"),
    [
        (("", "x"), {}, ValueError, "`name`"),
        (("a",), {}, ValueError, "needs `resource` or `open`"),
        (("a", "x"), {"open": list}, ValueError, "needs `resource` or `open`"),
        (("a",), {"open": generator}, TypeError, "generator"),
        (("a", "x"), {"standby": "warm"}, ValueError, "`standby`"),
        (("a", "x"), {"standby": "cold"}, ValueError, "cold standby 'a'"),
        (("a", "x"), {"weight": 0}, ValueError, "`weight`"),
        (("a", "x"), {"weight": True}, TypeError, "`weight`"),
        (("a", "x"), {"start_timeout": 0}, ValueError, "`start_timeout`"),
    ],
)
def test_members(args, options, error, match):
    with pytest.raises(error, match=match):
        Member(*args, **options)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"fn": generator}, TypeError, "generator"),
        ({"fn": answers_text}, TypeError, "bool"),
        ({"every": 0}, ValueError, "`every`"),
        ({"rise": 0}, ValueError, "`rise`"),
        ({"fall": 0}, ValueError, "`fall`"),
        ({"rise": 1.5}, TypeError, "`rise`"),
        ({"jitter": 1.5}, ValueError, "`jitter`"),
    ],
)
def test_probes(options, error, match):
    with pytest.raises(error, match=match):
        Probe(**{"fn": coroutine, **options})


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"consecutive": 0}, ValueError, "`consecutive`"),
        ({"normal": 0.0}, ValueError, "`normal`"),
        ({"normal": 0.2, "bad": 0.1}, ValueError, "`bad`"),
        ({"bad": 1.0}, ValueError, "`bad`"),
        ({"threshold": 0}, ValueError, "`threshold`"),
        ({"slow": 0}, ValueError, "`slow`"),
        ({"eject_for": 0}, ValueError, "`eject_for`"),
        ({"eject_for": 10, "max_eject": 5}, ValueError, "`max_eject`"),
    ],
)
def test_detection(options, error, match):
    with pytest.raises(error, match=match):
        Detect(**options)


@pytest.mark.parametrize(
    ("args", "options", "error", "match"),
    [
        (("at_once",), {}, ValueError, "`mode`"),
        ((), {"jitter": 2}, ValueError, "`jitter`"),
    ],
)
def test_failback(args, options, error, match):
    with pytest.raises(error, match=match):
        Failback(*args, **options)


ONE = [Member("a", "x")]


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"name": ""}, ValueError, "`name`"),
        ({"members": []}, ValueError, "`members` must not be empty"),
        ({"members": Member("a", "x")}, TypeError, "`members`"),
        ({"members": ["a"]}, TypeError, "`members`"),
        ({"members": [Member("a", 1), Member("a", 2)]}, ValueError, "'a' occurs twice"),
        (
            {"members": [Member("a", open=list, standby="cold")]},
            ValueError,
            "at least one that is active",
        ),
        ({"on": KeyboardInterrupt}, TypeError, "Exception"),
        ({"on": coroutine}, TypeError, "async"),
        ({"attempts": 0}, ValueError, "`attempts`"),
        ({"timeout": 0}, ValueError, "`timeout`"),
        ({"select": "random"}, ValueError, "`select`"),
        ({"probe": list}, TypeError, "`probe`"),
        ({"failback": "ramp"}, TypeError, "`failback`"),
        ({"when_all_down": "panic"}, ValueError, "`when_all_down`"),
        ({"budget": 2.0}, ValueError, "`budget`"),
    ],
)
def test_pools(options, error, match):
    given = {"name": "db", "members": ONE, "on": OSError, **options}
    with pytest.raises(error, match=match):
        FailoverPool(given.pop("name"), given.pop("members"), **given)


def test_what_is_decorated():
    pool = FailoverPool("db", ONE, on=OSError)
    with pytest.raises(TypeError, match="`pool`"):
        failover("db")
    with pytest.raises(TypeError, match="wraps callables"):
        failover(pool)(1)
    with pytest.raises(TypeError, match="`rerun`"):
        failover(pool, rerun="no")


@pytest.mark.parametrize(("fn", "match"), [(1, "one event"), (coroutine, "never be awaited"),
                                           (generator, "never be awaited")])  # fmt: skip
def test_what_listens(fn, match):
    pool = FailoverPool("db", ONE, on=OSError)
    with pytest.raises(TypeError, match=match):
        pool.on_event(fn)


def test_an_async_member_cannot_be_added_to_a_sync_pool():
    pool = FailoverPool("db", ONE, on=OSError)
    with pytest.raises(TypeError, match="'b' is async"):
        pool.add(Member("b", open=coroutine))


def test_a_selector_that_picks_somebody_else_is_told():
    class Wrong:
        def pick(self, _members):
            return "x"

    pool = FailoverPool("db", ONE, on=OSError, select=Wrong())
    with pytest.raises(ValueError, match="must pick one of"):
        pool.call(str)


def test_no_password_is_shown():
    dsn = "postgres://user:secret@host/db"
    assert "secret" not in repr(Member("a", dsn))
    for members in ([dsn], dsn, 5, [Member("a", dsn), Member("a", dsn)]):
        with pytest.raises((TypeError, ValueError)) as caught:
            FailoverPool("db", members, on=OSError)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "use",
    [
        lambda dsn: Member("a", open=dsn),
        lambda dsn: Member("a", dsn, close=dsn),
        Probe,
        failover,
        lambda dsn: FailoverPool("db", ONE, on=OSError, fence=dsn),
        FailoverPool("db", ONE, on=OSError).__call__,
        FailoverPool("db", ONE, on=OSError).call,
        lambda dsn: RateLimit("mail", 1, shared=dsn),
    ],
    ids=["open", "close", "probe", "failover", "fence", "decorated", "called", "shared"],
)
def test_no_password_is_shown_that_stands_in_the_wrong_place(use):
    with pytest.raises(TypeError) as caught:
        use("redis://user:secret@host")
    assert "secret" not in str(caught.value)


def test_a_start_may_take_longer_than_the_system_can_wait(pools, metrics):
    closed = []

    def close(resource):
        threading.Event().wait(0.05)  # until the pool waits for it
        closed.append(resource)

    member = Member("a", open=pools.hook(lambda: "a1"), close=close, start_timeout=1e10)
    pool = FailoverPool("db", [member], on=OSError)
    assert pools.call(pool, str) == "a1"
    pools.close(pool)
    assert closed == ["a1"]

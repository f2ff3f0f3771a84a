"""Alertmanager's webhook: which members are drained and released, and what is refused."""

import asyncio
import logging
import threading

import pytest

from mainstay import FailoverPool, Member
from mainstay._core.sharing import reset_all
from mainstay._failover.alert_log import AlertLog
from mainstay.integrations.alertmanager import Receiver
from support.alerts import (
    TOKEN,
    ByAsgi,
    ByAsgi2,
    ByWsgi,
    alert,
    logged_in,
    notification,
    post,
)
from support.asgi import Client
from support.pools import Lost, Pools, Site, use


@pytest.fixture
def pool(metrics):
    return FailoverPool("db", [Member(name, name) for name in "abc"], on=Lost)


@pytest.fixture(params=[ByAsgi, ByAsgi2, ByWsgi])
def by(request, pool):
    return request.param(Receiver([pool], token=TOKEN))


def drained(pool):
    return [each.name for each in pool.status().members if each.state == "draining"]


def test_the_member_that_an_alert_names_is_drained_until_the_alert_is_over(
    by, pool, metrics, caplog
):
    caplog.set_level(logging.INFO, "mainstay.failover")
    assert pool.call(use) == "a"
    assert post(by, alert("a")) == 200
    assert drained(pool) == ["a"]
    assert pool.call(use) == "b"
    assert post(by, alert("a", ends=2)) == 200
    assert drained(pool) == []
    assert pool.call(use) == "a"
    said = [each for each in caplog.messages if "switched" not in each]
    assert said == [
        "db: member a drained, since alert Errors fires",
        "db: member a released, since alert Errors is over",
    ]
    assert metrics("failovers_total", from_member="a", to_member="b", reason="drained") == 1


def test_a_member_is_released_once_no_alert_about_it_fires_any_more(by, pool):
    post(by, alert("a"), alert("a", name="Slow"))
    post(by, alert("a", ends=2), alert("a", name="Slow"))
    assert drained(pool) == ["a"]
    post(by, alert("a", name="Slow", ends=3))
    assert drained(pool) == []


def test_what_is_said_twice_late_or_out_of_order_changes_nothing(by, pool, caplog):
    caplog.set_level(logging.DEBUG, "mainstay.failover")
    post(by, alert("a"))
    post(by, alert("a"))
    post(by, alert("a", ends=2))
    post(by, alert("a"))
    assert drained(pool) == []
    post(by, alert("a", starts=3))
    post(by, alert("a", ends=2))
    assert drained(pool) == ["a"]
    post(by, alert("b", ends=2))
    post(by, alert("b"), alert("c"))
    assert drained(pool) == ["a", "c"]
    line = "db: ignored what is said of member b: alert Errors is known to be newer"
    assert caplog.messages.count(line) == 1


def test_an_alert_that_two_servers_saw_begin_is_over_at_its_end(by, pool):
    """Alertmanager takes the earlier beginning once it hears of it."""
    post(by, alert("a", starts=5))
    post(by, alert("a", starts=4, ends=9))
    assert drained(pool) == []


def test_what_was_drained_by_hand_stays_so(by, pool, caplog):
    caplog.set_level(logging.INFO, "mainstay.failover")
    pool.drain("a")
    post(by, alert("a"), alert("b"))
    pool.drain("b")
    post(by, alert("a", ends=2), alert("b", ends=2))
    assert drained(pool) == ["a", "b"]
    assert "db: member a stays drained by hand, though alert Errors is over" in caplog.messages
    pool.release("b")
    assert drained(pool) == ["a"]


def test_what_was_forced_is_left_alone(by, pool, caplog):
    pool.force("a")
    post(by, alert("a"))
    assert drained(pool) == []
    post(by, alert("a", ends=2))
    assert pool.status().forced == "a"
    assert (
        "db: member a is forced, and continues to serve although alert Errors fires"
        in caplog.messages
    )


def test_one_that_is_forced_while_it_is_drained_stays_forced(by, pool):
    post(by, alert("a"))
    pool.force("a")
    post(by, alert("a", ends=2))
    assert pool.status().forced == "a"
    assert drained(pool) == []


def test_what_was_released_by_hand_serves_until_the_alert_fires_anew(by, pool):
    post(by, alert("a"))
    pool.release("a")
    post(by, alert("a"))
    assert drained(pool) == []
    post(by, alert("a", name="Slow"))
    assert drained(pool) == ["a"]
    pool.release()
    post(by, alert("a", starts=5))
    assert drained(pool) == ["a"]


def test_the_last_member_that_serves_is_never_drained(by, pool, caplog):
    pool.call(use)
    assert post(by, *(alert(name) for name in "abc")) == 200
    assert drained(pool) == ["a", "b"]
    assert pool.call(use) == "c"
    line = "db: member c continues to serve although alert Errors fires: no other member is ready"
    assert caplog.messages.count(line) == 1
    post(by, alert("a", ends=2))
    assert drained(pool) == ["b", "c"]
    assert pool.call(use) == "a"


def test_those_that_are_over_are_released_before_others_are_drained(by, pool):
    pool.remove("c")
    post(by, alert("a"))
    post(by, alert("b"), alert("a", ends=2))
    assert drained(pool) == ["b"]


@pytest.mark.parametrize("ready", ["ejected", "failing", "drained", "removed"])
def test_who_is_not_well_takes_over_from_nobody(ready, pool, servers, metrics):
    by = ByAsgi(Receiver([pool], token=TOKEN))
    pool.remove("c")
    if ready == "removed":
        pool.remove("b")
    elif ready == "drained":
        pool.drain("b")
    else:
        pool.force("b")
        for _ in range(4):
            with pytest.raises(Lost):
                pool.call(raising)
        if ready == "ejected":
            pool._engine.slots["b"].detector.eject("consecutive", 0.0, 0.5)
        pool.release()
    post(by, alert("a"))
    assert drained(pool) == (["b"] if ready == "drained" else [])
    assert pool.call(use) == "a"


def raising(_resource):
    raise Lost


def test_a_hot_standby_takes_over_and_a_cold_one_that_has_not_started_does_not(metrics):
    site = Site()
    members = [site.member("a"), site.member("b", standby="hot"), site.member("c", standby="cold")]
    pool = FailoverPool("db", members, on=Lost)
    by = ByAsgi(Receiver([pool], token=TOKEN))
    with pool:
        post(by, alert("a"))
        assert pool.call(site.use) == "b1"
        post(by, alert("b"))
        assert drained(pool) == ["a"]
        assert "c1" not in site.opened


def test_before_a_pool_is_open_a_cold_standby_counts_for_nobody(metrics):
    site = Site()
    members = [site.member("a"), site.member("b", standby="cold")]
    pool = FailoverPool("db", members, on=Lost)
    post(ByWsgi(Receiver([pool], token=TOKEN)), alert("a"))
    assert drained(pool) == []
    with pool:
        assert pool.call(site.use) == "a1"


def test_a_pool_that_is_not_open_yet_is_drained_as_well(pools, metrics):
    site = Site()
    pool = FailoverPool("db", [pools.member(site, name) for name in "ab"], on=Lost)
    by = ByWsgi(Receiver([pool], token=TOKEN))
    post(by, alert("a"), alert("b"))
    assert drained(pool) == ["a"]
    assert pools.call(pool, site.use) == "b1"
    pools.close(pool)


def test_an_alert_about_nobody_here_is_told_once_and_ignored(by, pool, caplog):
    caplog.set_level(logging.DEBUG, "mainstay.failover")
    for _ in range(2):
        assert post(by, alert("x"), alert("a", pool="mail"), alert(None), alert(pool=None)) == 200
    assert drained(pool) == []
    said = [(each.levelname, each.getMessage()) for each in caplog.records]
    expected = [
        "mail: no pool here, or a no member: ignored alert Errors",
        "db: no pool here, or None no member: ignored alert Errors",
        "None: no pool here, or a no member: ignored alert Errors",
        "db: there is no member x: ignored alert Errors",
    ]
    assert said == [("WARNING", each) for each in expected] + [("DEBUG", each) for each in expected]


def test_a_member_that_is_added_again_is_not_drained_for_what_is_over(by, pool):
    post(by, alert("a"))
    pool.remove("a")
    post(by, alert("a", ends=2))
    pool.add(Member("a", "a"))
    post(by, alert("a"), alert("b"), alert("x"))
    assert drained(pool) == ["b"]
    post(by, alert("c", starts=3))
    pool.remove("c")
    post(by, alert("a", starts=3), alert("c", starts=4))
    assert drained(pool) == ["b"]


def test_a_member_that_is_added_later_is_drained_once_its_alert_is_told_again(by, pool):
    post(by, alert("x"))
    pool.add(Member("x", "x"))
    post(by, alert("a"))
    assert drained(pool) == ["a"]
    post(by, alert("x"))
    assert drained(pool) == ["a", "x"]


def test_nor_is_one_that_was_left_as_the_last(by, pool):
    pool.drain("b")
    pool.drain("c")
    post(by, alert("a"))
    pool.remove("a")
    post(by, alert("a", ends=2))
    pool.add(Member("a", "a"))
    pool.release("b")
    post(by, alert("c", ends=2))
    assert drained(pool) == ["c"]


def test_an_alert_too_many_is_told(pool, caplog, monkeypatch):
    monkeypatch.setattr("mainstay._failover.alerted.AlertLog", lambda: AlertLog(1))
    post(ByWsgi(Receiver([pool], token=TOKEN)), alert("a"), alert("b"))
    assert drained(pool) == ["a"]
    line = "db: ignored what is said of member b: alert Errors is one too many"
    assert caplog.messages.count(line) == 1


def test_alerts_about_members_that_are_gone_hold_up_no_other(by, pool):
    post(by, alert("a"), alert("b"))
    post(by, alert("c"))
    pool.remove("c")
    pool.add(Member("d", "d"))
    post(by, alert("x"), alert("a", ends=2), alert("d"))
    assert drained(pool) == ["b", "d"]


def test_labels_are_those_that_the_user_says(pool):
    by = ByAsgi(Receiver([pool], token=TOKEN, label="pool", member_label="server"))
    post(by, alert("x", server="a", component="x", pool="db"))
    assert drained(pool) == []


def test_two_receivers_drain_together(pool):
    one, two = (ByWsgi(Receiver([pool], token=TOKEN)) for _ in range(2))
    post(one, alert("a"))
    post(two, alert("a"))
    post(one, alert("a", ends=2))
    assert drained(pool) == ["a"]
    post(two, alert("a", ends=2))
    assert drained(pool) == []


def test_alerts_that_were_left_out_are_told(by, caplog):
    assert post(by, alert("a"), truncatedAlerts=7) == 200
    line = "<Receiver of alerts about db>: Alertmanager has left out 7 alerts: set max_alerts to 0"
    assert line in caplog.messages
    caplog.clear()
    body = notification(alert("a"))
    for left_out in (b'"truncatedAlerts": null', b'"truncatedAlerts": "7"', b'"other": 7'):
        sent = body.replace(b'"truncatedAlerts": 0', left_out)
        assert by.send(sent, headers=logged_in()).status == 200
    assert caplog.messages == []


def test_after_a_reset_no_alert_is_known(by, pool):
    post(by, alert("a"), alert("b", ends=2))
    reset_all()
    assert drained(pool) == []
    post(by, alert("b"))
    assert drained(pool) == ["b"]


# What is refused.


@pytest.mark.parametrize(
    "headers",
    [
        [],
        logged_in("another"),
        logged_in(TOKEN[:-1]),
        logged_in(f"{TOKEN}x"),
        logged_in(""),
        logged_in("tökén"),
        logged_in(scheme="Basic"),
        [("authorization", TOKEN)],
        [("authorization", "")],
    ],
)
def test_without_the_token_nothing_is_taken_in(by, pool, headers, caplog):
    headers = [(name, value.encode().decode("latin-1")) for name, value in headers]
    for body in (notification(alert("a")), b"x" * 5_000_000):
        answer = by.send(body, headers=headers)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.body == b"401 Unauthorized: the token is missing or wrong\n"
    assert drained(pool) == []
    said = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert said == ["<Receiver of alerts about db>: refused a notification without the token"]


def test_the_scheme_is_known_in_any_case(by, pool):
    assert by.send(notification(alert("a")), headers=logged_in(scheme="bearer")).status == 200
    assert drained(pool) == ["a"]


def test_two_logins_are_none(pool):
    by = ByAsgi(Receiver([pool], token=TOKEN))
    assert by.send(notification(alert("a")), headers=logged_in() * 2).status == 401


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "post"])
def test_other_methods_are_refused(by, pool, method):
    answer = by.send(notification(alert("a")), method=method, headers=logged_in())
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert drained(pool) == []


@pytest.mark.parametrize("length", [None, 5_000_000, 10**17, 10**30])
def test_what_is_too_large_is_refused(by, pool, length):
    body = b" " * 4_200_000 + notification(alert("a"))
    answer = by.send(body, headers=logged_in(), length=length)
    assert answer.status == 413
    assert b"a notification has at most 4194304 bytes" in answer.body
    assert drained(pool) == []


def test_what_is_just_not_too_large_is_taken_in(by, pool):
    body = notification(alert("a"))
    body += b" " * (4 * 2**20 - len(body))
    assert by.send(body, headers=logged_in()).status == 200
    assert drained(pool) == ["a"]


def test_what_says_no_length_is_cut_off(pool):
    async def app(scope, receive, send):
        scope["headers"] = [each for each in scope["headers"] if each[0] != b"content-length"]
        await receiver(scope, receive, send)

    receiver = Receiver([pool], token=TOKEN)
    assert ByAsgi(app).send(b" " * 4_300_000, headers=logged_in()).status == 413
    assert post(ByAsgi(app), alert("a")) == 200

    def wsgi(environ, start_response):
        environ = {**environ, "wsgi.input_terminated": True}
        del environ["CONTENT_LENGTH"]
        return receiver(environ, start_response)

    assert ByWsgi(wsgi).send(b" " * 4_300_000, headers=logged_in()).status == 413
    assert post(ByWsgi(wsgi), alert("b")) == 200
    assert drained(pool) == ["a", "b"]


def broken(**changes):
    """Give a notification of two alerts, the first of which is well, and the other broken."""
    return notification(alert("a"), {**alert("b"), **changes})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"9" * 5_000, "not JSON"),
        (b"null", "not a notification"),
        (b"[]", "not a notification"),
        (b"{}", "not a notification"),
        (notification(alerts={}), "not a notification"),
        (notification(alert(), version="3"), "version"),
        (notification(alert(), version=4), "version"),
        (notification(alerts=[None]), "neither firing nor resolved"),
        (broken(status="pending"), "alert 1 is neither firing nor resolved"),
        (broken(status=[]), "neither"),
        (broken(fingerprint=""), "alert 1 has no fingerprint"),
        (broken(fingerprint=7), "fingerprint"),
        (broken(labels=None), "alert 1 has no labels"),
        (broken(labels={"component": "db", "member": 1}), "labels"),
        (broken(startsAt="soon"), "alert 1 has no startsAt"),
        (broken(startsAt=None), "startsAt"),
        (broken(startsAt="2026-11-30T00:00:00"), "startsAt"),
        (broken(startsAt=7), "startsAt"),
    ],
)
def test_what_is_no_notification_is_refused_as_a_whole(by, pool, body, reason, caplog):
    answer = by.send(body, headers=logged_in())
    assert answer.status == 400
    assert reason in answer.body.decode()
    assert reason in caplog.text
    assert drained(pool) == []


def test_a_notification_of_nothing_is_taken_in(by, pool):
    assert post(by) == 200
    assert drained(pool) == []


@pytest.mark.parametrize("length", ["x", "-1", "\u0661", "1_0"])
def test_a_length_that_is_no_number_is_refused(by, length):
    answer = by.send(b"{}", headers=logged_in(), length=length.encode().decode("latin-1"))
    assert answer.status == 400


def test_times_are_compared_whatever_their_zone(by, pool):
    later = {**alert("a"), "startsAt": "2026-11-30T01:00:00+01:00"}  # a minute before
    post(by, alert("a"))
    post(by, alert("a", ends=2))
    post(by, later)
    assert drained(pool) == []
    post(by, {**alert("a"), "startsAt": "2026-11-29T23:02:00-01:00"})
    assert drained(pool) == ["a"]


# Its kinds of servers.


def test_a_client_that_leaves_gets_no_answer(pool):
    client = Client(Receiver([pool], token=TOKEN), method="POST", headers=logged_in())
    client.incoming = [{"type": "http.request", "body": b"{", "more_body": True}]
    client.left.set()
    asyncio.run(client.run())
    assert client.sent == []


def test_there_is_nothing_to_do_when_a_server_starts_and_ends(pool):
    client = Client(Receiver([pool], token=TOKEN), kind="lifespan")
    client.incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    asyncio.run(client.run())
    assert [each["type"] for each in client.sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


def test_a_websocket_is_refused(pool):
    client = Client(Receiver([pool], token=TOKEN), kind="websocket")
    client.incoming = [{"type": "websocket.connect"}]
    asyncio.run(client.run())
    assert [each["type"] for each in client.sent] == ["websocket.close"]


def test_threads_that_say_the_same_at_once_leave_one_that_serves(pool):
    receiver = Receiver([pool], token=TOKEN)
    pool.call(use)
    together = threading.Barrier(6)

    def run(member):
        together.wait()
        for minute in range(1, 40, 2):
            post(ByWsgi(receiver), alert(member, starts=minute))
            assert pool.status().serving
            post(ByWsgi(receiver), alert(member, starts=minute, ends=minute + 1))

    threads = [threading.Thread(target=run, args=(name,)) for name in "aabbcc"]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert drained(pool) == []


def test_an_async_pool_is_drained_from_another_thread(metrics):
    site, pools = Site(), Pools(asyncio.new_event_loop())
    pool = FailoverPool("db", [pools.member(site, name) for name in "ab"], on=Lost)
    try:
        assert pools.call(pool, site.use) == "a1"
        by = ByWsgi(Receiver([pool], token=TOKEN))
        thread = threading.Thread(target=post, args=(by, alert("a")))
        thread.start()
        thread.join()
        assert pools.call(pool, site.use) == "b1"
        pools.close(pool)
    finally:
        pools.loop.close()


def test_a_listener_may_tell_the_receiver_something(pool):
    receiver = Receiver([pool], token=TOKEN)
    pool.on_event(lambda _event: post(ByWsgi(receiver), alert("b")))
    pool.call(use)
    post(ByWsgi(receiver), alert("a"))
    assert drained(pool) == ["a", "b"]


# What is refused when it is made.


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"pools": "db"}, TypeError, "`pools` must be a list of pools, and an object of type str"),
        ({"pools": None}, TypeError, "`pools` must be a list of pools, not None"),
        ({"pools": [None]}, TypeError, "`pools` must be a list of pools, and None"),
        ({"token": ""}, ValueError, "`token` must be printable ASCII"),
        ({"token": "hunter 2"}, ValueError, "`token` must be printable ASCII"),
        ({"token": "hünter"}, ValueError, "`token` must be printable ASCII"),
        ({"token": "hunter2\n"}, ValueError, "`token` must be printable ASCII"),
        ({"token": b"hunter2"}, TypeError, "`token` must be a str"),
        ({"token": None}, TypeError, "`token` must be a str"),
        ({"label": ""}, ValueError, "`label` must be the name of a label"),
        ({"label": 1}, TypeError, "`label` must be the name of a label"),
        ({"member_label": ""}, ValueError, "`member_label` must be the name of a label"),
        ({"member_label": None}, TypeError, "`member_label` must be the name of a label"),
    ],
)
def test_what_no_receiver_takes(options, error, match):
    with pytest.raises(error, match=match) as refused:
        Receiver(**{"pools": [], "token": TOKEN, **options})
    assert "nter" not in str(refused.value)


def test_one_pool_alone_and_two_of_one_name_are_refused(pool):
    with pytest.raises(TypeError, match="`pools` must be a list of pools, not an object of"):
        Receiver(pool, token=TOKEN)
    with pytest.raises(ValueError, match="`pools` must have different names, and 'db' occurs"):
        Receiver([pool, pool], token=TOKEN)


def test_the_token_is_shown_nowhere(pool):
    assert TOKEN not in repr(Receiver([pool], token=TOKEN))
    assert repr(Receiver([], token=TOKEN)) == "<Receiver of alerts about no pool>"

"""The deadline on the wire: `deadline_headers` and `deadline_from`."""

import asyncio
import math
from datetime import timedelta
from email.message import Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay import DeadlineExpiredError, deadline, deadline_from, deadline_headers, remaining
from mainstay.testing import FakeClock, recorded

MS, GRPC = "X-Request-Timeout-Ms", "grpc-timeout"


def read(headers, **options):
    """What is left inside the block, on a clock that stands."""
    with FakeClock(), deadline_from(headers, **options):
        return remaining()


def counted(metrics):
    kinds = ("timeout_ms", "grpc_timeout", "retry_after")
    counts = {kind: metrics.value("wire_errors_total", header=kind) for kind in kinds}
    return {kind: count for kind, count in counts.items() if count}


def test_nothing_is_sent_without_a_deadline():
    assert deadline_headers() == {}


@pytest.mark.parametrize(
    ("seconds", "sent"),
    [
        (0.25, "250"),
        (0.0019, "1"),
        (0.0009, "0"),
        (0, "0"),
        (2.3, "2300"),
        (timedelta(hours=1), "3600000"),
        (1e9, "99999999"),
    ],
)
def test_both_headers_tell_whole_milliseconds(clock, seconds, sent):
    with deadline(seconds):
        assert deadline_headers() == {MS: sent, GRPC: f"{sent}m"}


def test_what_is_sent_is_what_is_left(clock):
    with deadline(1.0):
        clock.advance(0.75)
        assert deadline_headers()[MS] == "250"
        clock.advance(5)
        assert deadline_headers()[MS] == "0"


@given(st.floats(0, 90_000))
def test_what_was_sent_is_read_and_never_longer(seconds):
    with FakeClock():
        with deadline(seconds):
            sent = deadline_headers()
        for name in (MS, GRPC):
            with deadline_from({name: sent[name]}, at_most=1e6):
                assert seconds - 0.001 - 1e-6 <= remaining() <= seconds + 1e-6


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("1H", 3600.0), ("2M", 120.0), ("3S", 3.0), ("250m", 0.25), ("5u", 5e-6), ("7n", 7e-9)],
)
def test_every_unit_of_grpc_is_read(value, seconds):
    assert read({GRPC: value}, at_most=10_000) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-REQUEST-TIMEOUT-MS": "250"},
        [("x-request-timeout-ms", " 250\t")],
        ((b"host", b"a"), (b"x-request-timeout-ms", b"250")),
        {GRPC: "250m"},
        [("grpc-timeout", b"250m")],
        {MS: "250", GRPC: "9S"},
        {MS: "9000", GRPC: "250m"},
        {MS: "soon", GRPC: "250m"},
    ],
)
def test_headers_are_read_in_whatever_form_they_have(headers):
    assert read(headers) == 0.25


def test_a_time_that_is_over_leaves_none():
    assert read({MS: "0"}) == 0.0


@pytest.mark.parametrize("headers", [{}, [], {"Host": "a.example"}, [(1, 2)]])
def test_headers_without_a_time_are_no_deadline(headers):
    with recorded() as metrics:
        assert read(headers) is None
    assert counted(metrics) == {}


@pytest.mark.parametrize(
    "value",
    ["", "-5", "+5", "1.5", "1e3", "nan", "inf", "٣", "1_0", "123456789", "5m", "250, 300",
     "9" * 5000, "5 5", "\x00", b"\xff", 250, None, ["250"]],
)  # fmt: skip
def test_garbage_is_no_deadline_and_counted(value):
    """Known fault T53: parsers take `nan`, signs, nine digits."""
    with recorded() as metrics:
        assert read({MS: value}) is None
    assert counted(metrics) == {"timeout_ms": 1.0}


@pytest.mark.parametrize(
    "value", ["", "S", "-1S", "5", "5s", "5 S", "1.5S", "123456789m", "5Sm", "٣S", b"\xffS", 5]
)
def test_garbage_of_grpc_is_no_deadline_and_counted(value):
    with recorded() as metrics:
        assert read([(GRPC, value)]) is None
    assert counted(metrics) == {"grpc_timeout": 1.0}


@given(st.dictionaries(st.sampled_from([MS, GRPC]), st.text() | st.binary()))
def test_no_header_is_ever_an_error(headers):
    seconds = read(headers)
    assert seconds is None or 0 <= seconds <= 30.0


def test_a_header_that_is_there_twice_is_no_deadline():
    message = Message()
    message[MS] = "250"
    message[MS] = "250"
    with recorded() as metrics:
        assert read(message) is None
        assert read([(GRPC, "5S"), ("Grpc-Timeout", "4S")]) is None
    assert counted(metrics) == {"timeout_ms": 1.0, "grpc_timeout": 1.0}


def test_it_can_only_shorten():
    """Known fault T53: a header extends the deadline that is in force."""
    with FakeClock(), deadline(0.1), deadline_from({MS: "250"}):
        assert remaining() == 0.1
    assert read({MS: "90000"}) == 30.0
    assert read({MS: "90000"}, at_most=timedelta(seconds=5)) == 5.0


def test_the_header_may_have_another_name():
    assert read({"x-budget": "250", MS: "100"}, header="X-Budget") == 0.25


def test_async_with_interrupts(clock):
    async def main():
        async with deadline_from({MS: "250"}):
            await asyncio.Event().wait()

    with pytest.raises(DeadlineExpiredError):
        asyncio.run(advancing(clock, main()))


async def advancing(clock, awaitable):
    task = asyncio.ensure_future(awaitable)
    await asyncio.sleep(0)
    clock.advance(0.3)
    return await task


def test_async_with_without_a_time_changes_nothing():
    async def main():
        async with deadline_from({}):
            await asyncio.sleep(0)
            return remaining()

    assert asyncio.run(main()) is None


@pytest.mark.parametrize("headers", [None, 5, "text", [1], [("a",)]])
def test_what_are_no_headers_is_refused(headers):
    with pytest.raises(TypeError, match="`headers` must be a mapping, or pairs"):
        deadline_from(headers)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"header": 5}, TypeError),
        ({"header": ""}, ValueError),
        ({"header": "a b"}, ValueError),
        ({"at_most": "5"}, TypeError),
        ({"at_most": 0}, ValueError),
        ({"at_most": math.inf}, ValueError),
    ],
)
def test_wrong_options_are_refused(options, error):
    with pytest.raises(error, match=f"`{next(iter(options))}` must be"):
        deadline_from({}, **options)

"""Arguments that can be read only once, and whether an attempt has used them up."""

import asyncio
import io
import os
import sys
import tempfile

import pytest

from mainstay import FailoverPool, Member, fallback, hedge, pipeline, redundant, retry, timeout
from mainstay._core.one_shot import check_shareable, has_one_shot, positions_of, used_up


def upload(body, *more, **options):
    """Stand for what is called."""


async def read(body, item=1):
    """Read something of it."""
    if hasattr(body, "__anext__"):
        await anext(body)
    elif hasattr(body, "send"):
        body.send(None)
    elif hasattr(body, "read"):
        body.read(item)
    else:
        next(body)


def after(body, *, untouched=False):
    """Say what is found after an attempt that read from it."""
    positions = positions_of((body,), {})
    if not untouched:
        asyncio.run(read(body))
    return used_up(upload, (body,), {}, positions)


def generator():
    yield 1
    yield 2


async def async_generator():
    yield 1
    yield 2


async def coroutine():
    await asyncio.sleep(0)


class Unseekable(io.BytesIO):
    def seekable(self):
        return False


class Hostile(io.RawIOBase):
    def seekable(self):
        raise RuntimeError

    def readable(self):
        raise RuntimeError


FILES = [
    lambda: io.BytesIO(b"abc"),
    lambda: io.StringIO("abc"),
    lambda: Unseekable(b"abc"),
    lambda: io.BufferedReader(io.BytesIO(b"abc")),
    tempfile.SpooledTemporaryFile,
]
GENERATED = [
    generator,
    async_generator,
    lambda: (n for n in (1, 2)),
    lambda: (n async for n in async_generator()),
    coroutine,
]


@pytest.fixture(autouse=True)
def nothing_left_unawaited(recwarn):
    """Coroutines that no attempt has begun are never awaited."""


@pytest.mark.parametrize("make", [*GENERATED, *FILES[:4]])
def test_what_an_attempt_has_read_from_is_used_up(make):
    said = after(make())
    assert said.startswith("argument `body`, a")
    assert said.endswith(" is used up; pass what makes a new one, as a lambda does")


@pytest.mark.parametrize("make", [*GENERATED, *FILES[:2], FILES[3], FILES[4]])
def test_what_it_has_not_touched_is_not(make):
    assert after(make(), untouched=True) is None


def test_a_file_counts_from_where_it_stood(tmp_path):
    path = tmp_path / "body"
    path.write_bytes(b"abcdef")
    with path.open("rb") as body:
        body.read(3)
        assert after(body, untouched=True) is None
        assert after(body) is not None
    with path.open("rb") as body:
        positions = positions_of((body,), {})
        body.read()
        body.seek(0)
        assert used_up(upload, (body,), {}, positions) is None


def test_a_file_that_was_closed_is_used_up():
    body = io.BytesIO(b"abc")
    positions = positions_of((body,), {})
    body.close()
    assert used_up(upload, (body,), {}, positions) is not None


def test_a_text_file_in_the_middle_of_its_lines_is_used_up(tmp_path):
    path = tmp_path / "lines"
    path.write_text("a\nb\n")
    with path.open() as body:
        positions = positions_of((body,), {})
        next(body)
        assert used_up(upload, (body,), {}, positions) is not None


def test_a_pipe_is_used_up_where_it_is_read_and_not_where_it_is_written():
    reader, writer = os.pipe()
    with open(reader, "rb") as body, open(writer, "wb") as target:  # noqa: PTH123 - of a descriptor
        assert used_up(upload, (body,), {}, positions_of((body,), {})) is not None
        assert used_up(upload, (target,), {}, positions_of((target,), {})) is None
        assert has_one_shot((target,), {})
        check_shareable(upload, (target,), {})


def test_a_class_of_the_users_that_raises_counts_as_used_up():
    body = Hostile()
    assert used_up(upload, (body,), {}, positions_of((body,), {})) is not None


@pytest.mark.parametrize(
    "value", [iter([1, 2]), map(str, [1]), [1], {"a": io.BytesIO()}, "abc", sys, object(), zip()]
)
def test_nothing_else_is_guessed(value):
    assert used_up(upload, (value,), {"more": value}, positions_of((value,), {})) is None
    check_shareable(upload, (value,), {"more": value})
    assert not has_one_shot((value,), {"more": value})


@pytest.mark.parametrize("make", [*GENERATED, *FILES])
def test_copies_cannot_share_it_in_any_state(make):
    value = make()
    assert has_one_shot((), {"more": value})
    with pytest.raises(ValueError, match=r"argument `more` is an? .* copies would share it"):
        check_shareable(upload, (1,), {"more": value})


class Client:
    def upload(self, body):
        """Stand for a method."""


class Reader(io.BytesIO):
    """A file whose own methods are called again."""

    def more(self, body=None):
        """Stand for a method."""


def begun():
    made = generator()
    next(made)
    return made


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "before", "name"),
    [
        (upload, (1, begun()), {}, 0, "2"),
        (upload, (1,), {"name": begun()}, 0, "`name`"),
        (lambda db, rows: None, (begun(),), {}, 1, "`rows`"),
        (Client.upload, (begun(),), {}, 1, "`body`"),
        (Client.upload, (Client(), begun()), {}, 0, "`body`"),
        (Client().upload, (begun(),), {}, 0, "`body`"),
        (min, (begun(),), {}, 0, "1"),
    ],
)
def test_it_is_called_by_its_name_or_else_by_its_place(fn, args, kwargs, before, name):
    assert f"argument {name}, a generator" in used_up(fn, args, kwargs, {}, before=before)


def test_the_self_of_a_method_is_no_argument():
    reader = Reader(b"abc")
    positions = positions_of((reader,), {})
    reader.read()
    assert used_up(Reader.more, (reader,), {}, positions) is None
    check_shareable(Reader.more, (reader,), {})


class Lazy:
    """Stands for something that is loaded at first use, as proxies of web frameworks do.

    Whoever asks for its class has it loaded; outside of a request that is an error.
    """

    @property
    def __class__(self):
        raise RuntimeError("outside of a request")


@pytest.mark.parametrize(
    "policy",
    [
        lambda: retry(on=OSError, attempts=2, wait=0),
        lambda: FailoverPool("db", [Member("a", "a"), Member("b", "b")], on=OSError),
        lambda: redundant(on=OSError),
        lambda: redundant(on=OSError, start=hedge.together()),
        lambda: pipeline("it", retry(on=OSError, attempts=2, wait=0), timeout(60.0)),
        lambda: fallback(on=OSError, call=lambda _error, *args, **kwargs: (args, kwargs)),
    ],
    ids=["retry", "pool", "hedge", "together", "pipeline", "fallback"],
)
@pytest.mark.parametrize("fails", [0, 1], ids=["at once", "after a failure"])
def test_an_argument_is_never_asked_for_its_class(function_caller, policy, fails):
    """Known fault: a proxy was loaded, or raised, before the function was called."""
    left = [OSError("down")] * fails

    def take(*args, **kwargs):
        if left:
            raise left.pop()
        return args[-1:], kwargs

    lazy = Lazy()
    given = function_caller(policy(), take, lazy, of=lazy)
    assert [type(each) for each in (*given[0], *given[1].values())] == [Lazy, Lazy]


def test_a_resource_and_the_answer_of_a_fallback_are_never_asked_for_their_class(sync_and_async):
    pool = FailoverPool("db", [Member("a", open=Lazy)], on=OSError)
    assert type(sync_and_async.called(pool, lambda db: [db])[0]) is Lazy

    def fail():
        raise OSError("down")

    answered = fallback(on=OSError, call=lambda _error: Lazy())
    assert type(sync_and_async.called(answered, fail)) is Lazy

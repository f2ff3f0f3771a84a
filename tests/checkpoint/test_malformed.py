"""Documents that are sealed well and are none: whoever writes to the store may seal anything."""

import contextlib
import datetime as dt
import json
import sys
import zlib
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay import checkpoint_run, checkpointed, recover
from mainstay._checkpoint import shape
from mainstay._checkpoint.codec import Codec, plain
from mainstay._checkpoint.commands import _problems
from mainstay._checkpoint.document import MISSING, newest, opened, seal, unseal
from mainstay._checkpoint.scalars import SCALAR_DECODERS
from mainstay._checkpoint.shape import DamagedError
from mainstay._checkpoint.steps import _checksum
from mainstay._checkpoint.types import allowed_by
from mainstay.errors import (
    CheckpointError,
    CodeChangedError,
    CorruptCheckpointError,
    UnsaveableValueError,
)
from mainstay.stores import MemoryStore, SQLiteStore
from mainstay.stores.base import Contents, Result
from support.checkpoint_values import TYPES, VALUES, Totals
from support.checkpoints import RUN, OopsError, Runner, add_up


def deep(levels, inside=b"1"):
    return b"[" * levels + inside + b"]" * levels


def packed(body):
    """Bytes in an envelope, compressed however they are."""
    from mainstay._checkpoint.document import _checksum as checksum  # noqa: PLC0415 - to forge one

    head = b"MSC\x01\x01"
    return head + checksum(head, body) + body


def cursor(**changes):
    whole = {"count": 1, "last": [1], "digest": "d", "closed": False, "at": "", "inner": {}}
    return {name: value for name, value in (whole | changes).items() if value is not MISSING}


def document(**changes):
    whole = {"code": ["1", ""], "cursors": {}, "seconds": 1.0, "items": 1, "state": {"rows": 1}}
    tree = {name: value for name, value in (whole | changes).items() if value is not MISSING}
    return json.dumps(tree).encode()


def nested_cursors(levels):
    tree = {}
    for _ in range(levels):
        tree = {"items": cursor(inner=tree)}
    return tree


FINE = [("path", "?"), ("str", "?"), ("bytes", "?"), ("timedelta", {})]
MALFORMED_VALUES = [
    *({"$": tag} for tag in SCALAR_DECODERS),
    *({"$": tag, "v": body} for tag in SCALAR_DECODERS for body in (None, [[]], {}, "?")
      if (tag, body) not in FINE),
    *({"$": tag, "v": 1} for tag in ("tuple", "set", "frozenset", "deque", "dict", "pickle")),
    {"$": None}, {"$": 1}, {"$": ["tuple"]}, {"$": {}}, {"$": "wat", "v": 1},
    {"$": "raised", "v": 1},
    {"$": "set", "v": [[1]]}, {"$": "set", "v": [{"a": 1}]},
    {"$": "frozenset", "v": [{"$": "tuple", "v": [1, [2]]}]},
    {"$": "set", "v": [{"$": "set", "v": []}]},
    {"$": "dict", "v": [[[1], 2]]}, {"$": "dict", "v": [[1]]}, {"$": "dict", "v": {"a": 1}},
    {"$": "dict", "v": [[{"$": "dict", "v": []}, 1]]}, {"$": "ordereddict", "v": [1]},
    {"$": "counter", "v": []}, {"$": "counter", "v": {"$": "set", "v": []}},
    {"$": "defaultdict", "v": {}}, {"$": "defaultdict", "f": 1, "v": {}},
    {"$": "deque", "v": []}, {"$": "deque", "v": [1, 2], "m": 1},
    {"$": "deque", "v": [], "m": -1},
    {"$": "deque", "v": [], "m": "1"}, {"$": "deque", "v": [], "m": 2**70},
    {"$": "complex", "v": [1]}, {"$": "complex", "v": ["1", "2"]}, {"$": "complex", "v": [[], 1]},
    {"$": "object", "v": {}}, {"$": "object", "t": 1, "v": {}}, {"$": "object", "t": "x", "v": []},
    {"$": "enum", "t": "x", "v": []}, {"$": "enum", "v": "A"}, {"$": "flag", "t": "x"},
    {"$": "error", "t": "x", "v": {}}, {"$": "error", "t": "x", "v": [], "n": "note"},
    {"$": "error", "t": "x", "v": [], "n": [1]},
]  # fmt: skip

MALFORMED = {
    "no document": b"[]",
    "nothing": b"",
    "no JSON": b"{",
    "not UTF-8": b'{"a": "\xff"}',
    "UTF-16": document().decode().encode("utf-16"),
    "3,000 levels": document(state=MISSING)[:-1] + b', "state": ' + deep(3_000) + b"}",
    "3,000 levels of tags": document(state=MISSING)[:-1] + b', "state": ' +
        b'{"$":"tuple","v":[' * 3_000 + b"]}" * 3_000 + b"}",
    "200,000 levels": deep(200_000),
    "5,000 digits": document(state=MISSING)[:-1] + b', "state": ' + b"7" * 5_000 + b"}",
    "no code": document(code=MISSING),
    "a code of one part": document(code=["1"]),
    "a code that is no text": document(code=[1, 2]),
    "no cursors": document(cursors=MISSING),
    "cursors in a list": document(cursors=[]),
    "a cursor that is none": document(cursors={"items": 1}),
    "a cursor without a count": document(cursors={"items": cursor(count=MISSING)}),
    "a count below 0": document(cursors={"items": cursor(count=-1)}),
    "a count that is True": document(cursors={"items": cursor(count=True)}),
    "a count of 400 digits": document(cursors={"items": cursor(count=10**400)}),
    "two last keys": document(cursors={"items": cursor(last=[1, 2])}),
    "a last key that is none": document(cursors={"items": cursor(last=[[1]])}),
    "a last key with a type": document(
        cursors={"items": cursor(last=[{"$": "object", "t": "x", "v": {}}])}
    ),
    "a digest that is a number": document(cursors={"items": cursor(digest=1)}),
    "closed that is a number": document(cursors={"items": cursor(closed=1)}),
    "no place": document(cursors={"items": cursor(at=None)}),
    "inner cursors in a list": document(cursors={"items": cursor(inner=[1])}),
    "3,00 inner cursors": document(cursors=nested_cursors(300)),
    "a position in words": document(cursors={"items": cursor(position="first")}),
    "items above that are none": document(cursors={"items": cursor(above=3)}),
    "items above without a sum": document(cursors={"items": cursor(above=["3"])}),
    "items above in words": document(cursors={"items": cursor(above=["two", "0"])}),
    "items above below 0": document(cursors={"items": cursor(above=["-3", "0"])}),
    "millions of items above": document(cursors={"items": cursor(above=["f" * 10**6, "0"])}),
    "seconds in words": document(seconds="long"),
    "infinite seconds": document(seconds=float("inf")),
    "no seconds": document(seconds=float("nan")),
    "items in words": document(items="many"),
    "half an item": document(items=0.5),
    "no items": document(items=MISSING),
    **{
        f"a value: {json.dumps(value)}": document(state=value) for value in MALFORMED_VALUES
    },
}  # fmt: skip

BAD_SEALS = {
    **{name: seal(body) for name, body in MALFORMED.items()},
    "no zlib": packed(b"nothing compressed"),
    "zlib that is cut off": packed(zlib.compress(document())[:-4]),
    "more behind the zlib": packed(zlib.compress(document()) + b"more"),
}


@pytest.mark.parametrize("sealed", BAD_SEALS.values(), ids=BAD_SEALS)
def test_the_save_before_is_used_in_place_of_one_that_is_none(sealed):
    before = seal(document())
    found, problems = newest(Contents(sealed, before, {}), RUN)
    assert found == opened(before)
    assert len(problems) == 1
    with pytest.raises(CorruptCheckpointError, match="run 'key' of job is damaged"):
        newest(Contents(sealed, sealed, {}), RUN)


def test_a_document_that_says_what_it_should_is_read():
    """Or the tests above show nothing."""
    cursors = {"items": cursor(inner={"inner": cursor(last=[{"$": "tuple", "v": [1, "a"]}])})}
    assert opened(seal(document(cursors=cursors))).cursors == cursors


@pytest.mark.parametrize("both", [False, True])
def test_a_run_goes_on_from_the_save_before_and_it_is_counted(runner, store, metrics, both):
    seen, job = [], runner.job(add_up, store=store)
    with pytest.raises(OopsError):
        job([1, 2, 3], 3)
    kept = store._runs[RUN]
    kept.latest = BAD_SEALS["3,000 levels"]
    if both:
        kept.previous = BAD_SEALS['a value: {"$": "set", "v": [[1]]}']
        with pytest.raises(CorruptCheckpointError):
            job([1, 2, 3])
    else:
        assert job([1, 2, 3], None, seen) == 6
        assert seen == [2, 3]
    assert metrics("checkpoint_corrupt_total") == 1


def test_half_a_gigabyte_out_of_500_kb_is_not_made(monkeypatch):
    monkeypatch.setattr(shape, "MOST_BYTES", 100_000)
    bomb = packed(zlib.compress(document()[:-1] + b" " * 10_000_000 + b"}"))
    assert len(bomb) < 20_000
    with pytest.raises(CorruptCheckpointError, match="longer than 100000 bytes"):
        newest(Contents(bomb, None, {}), RUN)


# Results of steps, and arguments, of which there is only one.


NO_RESULTS = [
    b'{"$":"raised"}', b'{"$":"raised","v":{"$":"raised"}}', deep(3_000), b"7" * 5_000, b"\xff",
    *(json.dumps(value).encode() for value in MALFORMED_VALUES if value != {"$": "raised"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("runner", "body"),
    [
        *((Runner("sync"), body) for body in NO_RESULTS),
        *((Runner("async"), body) for body in NO_RESULTS[:6]),  # read by the same function
    ],
    ids=lambda each: getattr(each, "name", None),
)
def test_a_result_that_is_none_is_told(runner, store, metrics, body):
    async def job(cp):
        await cp.step("charge", int)
        raise OopsError

    work = runner.job(job, store=store)
    with pytest.raises(OopsError):
        work()
    [(number, kept)] = store._runs[RUN].results.items()
    store._runs[RUN].results[number] = attrs.evolve(kept, value=seal(body))
    with pytest.raises(
        CorruptCheckpointError, match="step 'charge' of run 'key' of job is"
    ) as told:
        work()
    assert told.value.__cause__ is None  # none of a class that nobody can import
    assert metrics("checkpoint_corrupt_total") == 1


@pytest.mark.parametrize(
    "of",
    [
        "", "x", "0", "0 1", "0 1 2", "x 1 0 charge", "0 x 0 charge", "0 1 x charge",
        "0 1 -1 charge", "0 1 99 charge", "0 1 4 charge", "0 1 5 9 abccharge", "-9 1 0 charge",
        "0 -1 0 charge", f"{'7' * 5_000} 1 0 charge", "0 1 0 \ud800",
        f"0 1 {len('1 a' * 3_000)} {'1 a' * 3_000}charge",
    ],
)  # fmt: skip
def test_a_place_that_is_none_is_told(store, of):
    with checkpoint_run("key", store=store, name="job") as cp:
        cp.step("charge", int)
    kept = store._runs[RUN]
    slot = f"{_checksum(of)} {of}" if of.isprintable() else of
    kept.results[0] = Result(slot, kept.results[0].value)
    with (
        pytest.raises(CorruptCheckpointError, match="of run 'key' of job is damaged") as told,
        checkpoint_run("key", store=store, name="job"),
    ):
        pass
    assert told.value.__cause__ is None
    assert len([*_problems(store, kept.record)]) == 1


@pytest.mark.parametrize(
    "body",
    [b"1", b"[]", b"[[]]", b"[1, 2]", b"[[], []]", b'[[], {"$": "tuple", "v": []}]',
     b'[[{"$": 1}], {}]', b"[[" + deep(3_000) + b"], {}]"],
)  # fmt: skip
def test_arguments_that_are_none_are_told_and_the_others_are_run(store, body):
    def work(cp, tenant):
        if cp.attempt == 1:
            raise OopsError
        return tenant

    job = checkpointed(store=store, key="{tenant}", name="job", recoverable=True)(work)
    for tenant in ("key", "other"):
        with pytest.raises(OopsError):
            job(tenant)
    kept = store._runs[RUN]
    kept.record = attrs.evolve(kept.record, arguments=seal(body))
    recovered = {each.key: each for each in recover(store)}
    assert type(recovered["key"].error) is CorruptCheckpointError
    assert recovered["other"].result == "other"
    assert len([*_problems(store, kept.record)]) == 1


# `verify` goes on.


def test_verify_goes_on_with_the_other_runs(tmp_path, capsys, monkeypatch):
    from mainstay.__main__ import main  # noqa: PLC0415 - the only command here

    path = tmp_path / "runs.db"
    bad = iter([BAD_SEALS["3,000 levels"], BAD_SEALS["no zlib"], BAD_SEALS["half an item"]])
    store = SQLiteStore(path)
    for key in "abcd":
        with checkpoint_run(key, store=store) as cp:
            assert [*cp.iterate([1])] == [1]
    store.close()
    load = SQLiteStore.load

    def loaded(self, run):
        if run.key == "c":
            raise CorruptCheckpointError("a row", "it is torn")
        contents = load(self, run)
        return contents if run.key == "d" else attrs.evolve(contents, latest=next(bad))

    monkeypatch.setattr(SQLiteStore, "load", loaded)
    assert main(["checkpoints", "verify", "--store", f"sqlite:///{path}"]) == 1
    *problems, last = capsys.readouterr().out.splitlines()
    assert [line.partition(" of run:")[0] for line in problems] == [f"run {key!r}" for key in "abc"]
    assert last == "4 runs, 3 damaged parts"


# What would be none is refused while saving.


def nested(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


def test_what_is_nested_too_deep_is_refused_whatever_the_stack_allows(runner, store):
    async def body(cp, levels):
        cp.state({"rows": nested(levels)})

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(50_000)
    try:
        for levels in (249, 3_000):
            with pytest.raises(UnsaveableValueError, match=r"state cannot be saved: .*too deep"):
                runner.job(body, store=store)(levels)
    finally:
        sys.setrecursionlimit(limit)
    runner.job(body, store=store, on_complete="rerun")(240)


def test_what_is_too_large_is_refused_and_what_was_saved_stays(runner, store, monkeypatch):
    async def body(cp, size):
        state = cp.state(["", Totals()])
        async for _ in cp.iterate([1, 2]):
            state[0] = size * "x"
        return len(state[0])

    monkeypatch.setattr(shape, "MOST_BYTES", 5_000)
    job = runner.job(body, store=store)
    with pytest.raises(UnsaveableValueError, match=r"what is saved cannot be saved: .* 5000 bytes"):
        job(5_000)
    assert job(1_000) == 1_000


def test_a_result_that_is_too_large_is_refused(store, monkeypatch):
    monkeypatch.setattr(shape, "MOST_BYTES", 5_000)
    with (
        pytest.raises(UnsaveableValueError, match=r"^the result of step 'load' cannot be"),
        checkpoint_run("key", store=store) as cp,
    ):
        cp.step("load", lambda: "x" * 5_000)


def test_a_store_that_gives_no_bytes_is_told():
    with pytest.raises(CorruptCheckpointError):
        newest(Contents("text", None, {}), RUN)
    assert MemoryStore().list() == []


# Whatever is saved is well formed; whatever is well formed raises nothing but our own errors.

CODEC = Codec(allowed_by(*TYPES))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=2), inner, max_size=3),
        st.fixed_dictionaries(
            {"$": st.sampled_from(sorted(shape._PARTS)), "v": inner},
            optional={
                "t": st.sampled_from([*CODEC.allowed, "x"]),
                "f": st.sampled_from(["builtins.list", "", "x"]),
                "m": st.none() | st.integers(-1, 3),
                "n": st.lists(st.text(max_size=2), max_size=2),
            },
        ),
    ),
    max_leaves=12,
)


@given(VALUES)
def test_whatever_can_be_saved_is_well_formed(value):
    shape.check_value(json.loads(json.dumps(CODEC.encode(value, "state"))))


@given(JSON)
def test_whatever_is_well_formed_is_read_or_refused_by_an_error_of_ours(tree):
    try:
        shape.check_value(tree)
    except DamagedError:
        return
    with contextlib.suppress(CheckpointError):
        CODEC.decode(tree, "state")
    with contextlib.suppress(CheckpointError):
        plain(tree)


def test_a_last_key_that_this_machine_cannot_read_is_named(runner, store):
    """A time zone that was there where the run was saved."""
    days = [dt.datetime(2024, 5, day, tzinfo=ZoneInfo("Europe/Berlin")) for day in (1, 2)]

    async def body(cp):
        async for day in cp.iterate(days, key=lambda day: day):
            if day == days[-1]:
                raise OopsError

    with pytest.raises(OopsError):
        runner.job(body, store=store)()
    kept = store._runs[RUN]
    elsewhere = unseal(kept.latest).replace(b"Europe/Berlin", b"Europe/Lost")
    kept.latest = kept.previous = seal(elsewhere)
    with pytest.raises(CodeChangedError, match=r"the last key of iteration 'items'.*Europe/Lost"):
        runner.job(body, store=store)()

"""What is in the objects of a run, and what of them is refused."""

import itertools
import json
import string

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay._core.owner import Owner
from mainstay.errors import CorruptCheckpointError, StoreSchemaError
from mainstay.stores._s3 import decisions
from mainstay.stores._s3.decisions import LARGEST_TAIL, in_parts
from mainstay.stores._s3.failures import S3Failure
from mainstay.stores._s3.layout import (
    TOMBSTONE_SIZES,
    Forgotten,
    ResultsPart,
    Stored,
    from_object,
    packed,
    results_of,
    to_object,
    unpacked,
)
from mainstay.stores._s3.numbers import ranges_of, without
from mainstay.stores.base import MOST_RESULTS, Record, Result, RunId

TEXTS = st.text(st.characters(codec=None), max_size=10)
BYTES = st.binary(max_size=20)
TIMES = st.floats(-1e10, 1e10)
NUMBERS = st.integers(0, MOST_RESULTS - 1)
RESULTS = st.dictionaries(NUMBERS, st.builds(Result, TEXTS, BYTES), max_size=5)
OWNERS = st.builds(Owner, TEXTS, TEXTS, st.integers(0, 2**22), st.integers(0, 2**60), TEXTS)
RECORDS = st.builds(
    Record,
    run=st.builds(RunId, TEXTS, TEXTS),
    life=TEXTS,
    token=st.integers(1, 2**60),
    grant=TEXTS,
    sequence=st.integers(0, 2**60),
    status=st.sampled_from(["running", "interrupted", "poisoned", "done"]),
    owner=OWNERS,
    expires=TIMES,
    seen=TIMES,
    saved=TIMES,
    attempt=st.integers(1, 2**31),
    crashes=st.integers(0, 2**31),
    exit=st.sampled_from(["", "crash", "takeover", "error", "sigterm"]),
    error=TEXTS,
    arguments=st.none() | BYTES,
    created=TIMES,
    updated=TIMES,
)
NAMES = st.text(string.ascii_lowercase, min_size=1, max_size=5)
RANGES = st.sets(st.integers(0, 40)).map(ranges_of)
STORED = st.builds(
    Stored,
    RECORDS,
    st.none() | BYTES | NAMES,
    st.none() | BYTES | NAMES,
    st.lists(st.builds(ResultsPart, NAMES, RANGES), max_size=3).map(tuple),
    RESULTS.map(lambda found: {n: packed(n, each) for n, each in found.items()}),
)
A_RECORD = Record(
    run=RunId("import", "acme"), life="", owner=Owner("", "", 0, 0), expires=0.0, seen=0.0,
    saved=0.0, created=0.0, updated=0.0,
)  # fmt: skip


@given(STORED)
def test_a_run_comes_back_from_its_object(stored):
    data = to_object(stored, "nonce")
    assert from_object(data, stored.record.run) == (stored, "nonce")
    assert len(data) > 2 * TOMBSTONE_SIZES.stop


@given(RESULTS)
def test_results_come_back_from_a_part(results):
    assert unpacked(b"".join(packed(number, each) for number, each in results.items())) == results


def test_a_forgotten_run_is_told_by_the_size_of_its_object():
    data = to_object(Forgotten(10**18), "0" * 16)
    assert len(data) in TOMBSTONE_SIZES
    assert from_object(data, RunId("", "")) == (Forgotten(10**18), "0" * 16)


def test_two_versions_are_never_equal():
    """Known fault: an ETag is made of the content, and so a swap succeeds that came too late."""
    stored = Stored(A_RECORD)
    assert to_object(stored, "a") != to_object(stored, "b")


def header(**changes):
    line, _, rest = to_object(Stored(A_RECORD, b"doc"), "nonce").partition(b"\n")
    return json.dumps({**json.loads(line), **changes}).encode() + b"\n" + rest


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b"[]\n", b"\xff\n", b"null\n", b'"format"\n', b"[" * 100_000,
        header()[:-1], header() + b"x", header(run=["other", "run"]), header(nonce=None),
        header(owner=["", "", -1, 0, ""]), header(owner=[]), header(token=1.5), header(token=True),
        header(seen="1"), header(status="lost"), header(exit=None), header(error=1),
        header(parts=[["name"]]), header(parts=[["name", [["a", 1]]]]), header(blobs=[None, 3]),
        header(blobs=["x", 3, None, 0]), header(blobs=[None, 3, None, "x"]),
        header(blobs=[None, 10**9, None, 0]), header(forgotten="x"),
        header(blobs=[None, 0, None, 3]),
    ],
    ids=lambda data: repr(data[:40]),
)  # fmt: skip
def test_what_no_mainstay_wrote_is_told(data):
    with pytest.raises(S3Failure) as failure:
        from_object(data, A_RECORD.run)
    assert isinstance(failure.value.told("s3://bucket"), CorruptCheckpointError)


def test_what_a_newer_mainstay_wrote_is_told():
    with pytest.raises(S3Failure) as failure:
        from_object(header(format=2), A_RECORD.run)
    told = failure.value.told("s3://bucket")
    assert isinstance(told, StoreSchemaError)
    assert "upgrade mainstay" in str(told)


@pytest.mark.parametrize("data", [b"\0" * 11, packed(0, Result("slot", b"value"))[:-1]])
def test_a_part_that_was_cut_is_told(data):
    with pytest.raises(S3Failure, match="cut off"):
        unpacked(data)


def test_the_name_of_a_step_that_is_none_is_told():
    entry = packed(0, Result("slot", b"")).replace(b"slot", b"\xff\xff\xff\xff")
    with pytest.raises(S3Failure, match="cannot be read"):
        unpacked(entry)


# Ranges of numbers.

SETS = st.sets(st.integers(0, 30))


def numbers_in(ranges):
    return {each for first, last in ranges for each in range(first, last + 1)}


@given(SETS)
def test_ranges_hold_the_numbers_and_do_not_touch(numbers):
    ranges = ranges_of(numbers)
    assert numbers_in(ranges) == numbers
    assert all(one[1] + 1 < two[0] for one, two in itertools.pairwise(ranges))


@given(SETS, SETS)
def test_numbers_are_taken_out_of_ranges(numbers, removed):
    assert without(ranges_of(numbers), ranges_of(removed)) == ranges_of(numbers - removed)


# What is too long for the object.

SIZES = st.integers(0, LARGEST_TAIL * 2)


@given(st.none() | SIZES, st.none() | SIZES, st.lists(SIZES, max_size=4))
def test_the_object_never_has_much_more_than_a_tail_and_two_documents(latest, previous, sizes):
    tail = {n: packed(n, Result("slot", b"x" * size)) for n, size in enumerate(sizes)}
    documents = [None if size is None else b"y" * size for size in (latest, previous)]
    names = iter("abc")
    stored, parts = in_parts(Stored(A_RECORD, *documents, tail=tail), lambda: next(names))
    assert stored.names() == {*parts}
    assert len(to_object(stored, "nonce")) < 3 * LARGEST_TAIL + 1000
    kept = [parts[d] if isinstance(d, str) else d for d in (stored.latest, stored.previous)]
    assert kept == documents
    found = results_of(stored.tail)
    for part in stored.parts:
        found |= unpacked(parts[part.name])
        assert numbers_in(part.live) == {*unpacked(parts[part.name])}
    assert found == results_of(tail)
    # What fits stays, so that a save is one request.
    if sum(map(len, tail.values())) <= LARGEST_TAIL:
        assert not stored.parts
    again, more = in_parts(stored, lambda: next(names))
    assert (again, more) == (stored, {})


def test_a_document_is_sent_no_second_time_with_the_next_save():
    stored = Stored(A_RECORD, latest="part", previous=None)
    assert in_parts(attrs.evolve(stored, previous="part", latest=b"new"), str)[1] == {}
    assert decisions.LARGEST_TAIL == 64 * 1024

"""The digest of keys in their order."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay._checkpoint.key_digest import KeyDigest

KEYS = st.one_of(
    st.integers(), st.integers(-(2**65), 2**65), st.text(max_size=5), st.booleans(), st.none(),
    st.floats(allow_nan=False), st.binary(max_size=3), st.tuples(st.integers(), st.text()),
    st.sampled_from([-(2**63), 2**63 - 1, 2**63, "", "\x00", "1", "i", 1, 1.0, True, "\ud800"]),
)  # fmt: skip


def digest_of_keys(keys, cuts=()):
    digest = KeyDigest()
    bounds = [0, *sorted(min(cut, len(keys)) for cut in cuts), len(keys)]
    for start, end in itertools.pairwise(bounds):
        chunk = keys[start:end]
        if chunk:
            digest.add(chunk, {*map(type, chunk)})
    return digest.digest()


@given(st.lists(KEYS), st.lists(st.integers(0, 20)))
def test_the_digest_does_not_depend_on_how_keys_are_cut(keys, cuts):
    assert digest_of_keys(keys, cuts) == digest_of_keys(keys)


@given(st.lists(KEYS, max_size=6), st.lists(KEYS, max_size=6))
def test_keys_that_differ_have_another_digest(one, other):
    same = repr(one) == repr(other)
    assert (digest_of_keys(one) == digest_of_keys(other)) == same


@given(st.lists(KEYS, min_size=2, max_size=6, unique_by=repr), st.randoms())
def test_keys_in_another_order_have_another_digest(keys, random):
    shuffled = random.sample(keys, len(keys))
    assert (digest_of_keys(keys) == digest_of_keys(shuffled)) == (repr(keys) == repr(shuffled))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["ab", "c"], ["a", "bc"]),
        ([1], ["1"]),
        ([1], [1.0]),
        ([1], [True]),
        ([1, 2], [1, 2, 2]),
        ([2**63], [str(2**63)]),
        ([], [""]),
    ],
)
def test_keys_that_look_alike_have_another_digest(one, other):
    assert digest_of_keys(one) != digest_of_keys(other)

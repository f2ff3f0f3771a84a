"""Damaged saves."""

import pytest
from checkpoint_colours import RUN, OopsError, add_up

from mainstay.errors import CorruptCheckpointError


def damaged(sealed):
    return sealed[:-1] + bytes([sealed[-1] ^ 1])


def test_a_damaged_save_is_counted_and_the_one_before_is_used(in_colour, store, metrics):
    seen = []
    job = in_colour.job(add_up, store=store)
    with pytest.raises(OopsError):
        job([1, 2, 3], 3)
    kept = store._runs[RUN]
    kept.latest = damaged(kept.latest)
    assert job([1, 2, 3], None, seen) == 6
    assert seen == [2, 3]
    assert metrics("checkpoint_corrupt_total") == 1


def test_a_damaged_result_is_read_from_its_copy(in_colour, store, metrics):
    job = in_colour.job(add_up, store=store)
    assert job([1, 2]) == 3
    kept = store._runs[RUN]
    kept.latest = damaged(kept.latest)
    assert job([1, 2]) == 3
    assert metrics("checkpoint_corrupt_total") == 1


def test_where_nothing_can_be_read_the_run_is_not_begun_again(in_colour, store):
    job = in_colour.job(add_up, store=store)
    with pytest.raises(OopsError):
        job([1, 2, 3], 3)
    kept = store._runs[RUN]
    kept.latest, kept.previous = damaged(kept.latest), damaged(kept.previous)
    for _ in range(2):
        with pytest.raises(CorruptCheckpointError, match="run 'key' of job is damaged"):
            job([1, 2, 3])


def test_a_damaged_step_is_not_computed_again(in_colour, store):
    async def body(cp):
        await cp.step("charge", lambda: 1)
        raise OopsError

    job = in_colour.job(body, store=store)
    with pytest.raises(OopsError):
        job()
    results = store._runs[RUN].results
    results.update({slot: damaged(sealed) for slot, sealed in results.items()})
    with pytest.raises(CorruptCheckpointError, match="the result of step 'charge'"):
        job()

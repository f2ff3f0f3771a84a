"""Sources that use the run themselves: between two items, nothing belongs to the one before."""

import pytest

from mainstay import checkpointed
from support.checkpoints import OopsError


@pytest.mark.parametrize("every", [1, 2, 4, 5, 100])
def test_a_step_in_a_source_is_computed_once_whenever_saves_are(store, every):
    fetched = []

    def page(number):
        fetched.append(number)
        return [number * 10 + row for row in range(3)]

    @checkpointed(store=store, key=lambda _fail_at: "key", every=every)
    def job(cp, fail_at):
        def rows():
            for number in range(3):
                yield from cp.step("page", page, number)

        log = cp.state([])
        for row in cp.iterate(rows(), key=lambda row: row):
            if row == fail_at:
                raise OopsError
            log.append(row)
        return log

    for fail_at in (11, 22):
        with pytest.raises(OopsError):
            job(fail_at)
    assert job(None) == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    assert fetched == [0, 1, 2]


def test_a_source_of_batches_repeats_the_batch_in_progress(runner, store):
    async def body(cp, fail):
        log = cp.state([])
        async for batch in cp.iterate([[0, 1, 2], [3, 4, 5], [6]]):
            if fail and 3 in batch:
                raise OopsError
            log.extend(batch)
        return log

    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job(True)
    assert job(False) == [*range(7)]

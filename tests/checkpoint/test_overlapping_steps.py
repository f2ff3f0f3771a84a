"""Steps that overlap, in tasks or one inside another, have no order that a resume could check."""

import asyncio

import pytest

from mainstay import checkpointed
from mainstay.errors import CodeChangedError
from mainstay.testing import Faults
from support.checkpoints import OopsError, finished


def test_a_step_inside_a_step_is_passed_over_with_it(runner, store):
    calls = Faults([1, 2, 3])

    async def body(cp, fail):
        async def outer():
            return await cp.step("inner", calls)

        inner = outer if runner.name == "async" else lambda: finished(outer())
        results = [await cp.step("outer", inner), await cp.step("next", calls)]
        if fail:
            raise OopsError
        return [*results, await cp.step("last", calls)]

    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job(True)
    assert job(False) == [1, 2, 3]


@pytest.mark.parametrize("fast", [0, 1])
def test_tasks_may_come_to_their_steps_in_another_order_on_a_resume(store, fast):
    executed = []

    async def compute(name):
        executed.append(name)
        return name

    async def task(cp, number, waits):
        first = await cp.step(f"{number}-first", compute, f"{number}-first")
        for _ in range(waits):
            await asyncio.sleep(0)
        return [first, await cp.step(f"{number}-second", compute, f"{number}-second")]

    @checkpointed(store=store, key=lambda *_: "key")
    async def job(cp, waits, fail):
        results = await asyncio.gather(*(task(cp, n, each) for n, each in enumerate(waits)))
        if fail:
            raise OopsError
        return results

    waits = [50, 50]
    waits[fast] = 0
    for fail in (True, True):
        with pytest.raises(OopsError):
            asyncio.run(job(waits, fail))
        waits.reverse()
    assert asyncio.run(job(waits, False)) == [[f"{n}-first", f"{n}-second"] for n in range(2)]
    assert len(executed) == 4


def test_steps_that_follow_each_other_are_checked_still(store):
    @checkpointed(store=store, key=lambda _name: "key")
    async def job(cp, name):
        await cp.step("a", lambda: 1)
        await cp.step(name, lambda: 1)
        raise OopsError

    with pytest.raises(OopsError):
        asyncio.run(job("publish"))
    with pytest.raises(CodeChangedError, match="step 'publish' is now 'notify'"):
        asyncio.run(job("notify"))

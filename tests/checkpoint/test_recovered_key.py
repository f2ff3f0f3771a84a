"""`recover` goes on with the run that it found, whatever key its arguments would give today."""

import asyncio

import pytest

from mainstay import checkpointed, recover, recover_async
from support.checkpoints import OopsError


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_key_that_depends_on_the_day_is_that_of_the_run(store, kind):
    today = ["monday"]
    seen = []

    def work(cp, rows, fail_at):
        for row in rows:
            seen.append((cp.key, cp.attempt, row))
            if row == fail_at and cp.attempt == 1:
                raise OopsError
        return cp.key

    def body(cp, tenant):
        return work(cp, cp.iterate("ab"), "b")

    async def abody(cp, tenant):
        return work(cp, [row async for row in cp.iterate("ab")], "b")

    job = checkpointed(
        store=store, key=lambda tenant: f"{tenant}-{today[0]}", name="job", recoverable=True
    )(body if kind == "sync" else abody)
    with pytest.raises(OopsError):
        job("acme") if kind == "sync" else asyncio.run(job("acme"))
    today[0] = "tuesday"
    found = recover(store) if kind == "sync" else asyncio.run(recover_async(store))
    assert [(each.key, each.outcome, each.result) for each in found] == [
        ("acme-monday", "done", "acme-monday")
    ]
    assert [(record.run.key, state) for record, state in store.list()] == [("acme-monday", "done")]
    assert {key for key, _, _ in seen} == {"acme-monday"}

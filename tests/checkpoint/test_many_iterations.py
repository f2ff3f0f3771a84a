"""Many iterations one after the other: each save writes as much as the one before."""

import attrs
import pytest

from mainstay._checkpoint.commands import _problems
from mainstay._checkpoint.document import opened
from mainstay.errors import CorruptCheckpointError, SourceChangedError
from support.checkpoints import RUN, CrashError, OopsError, Runner
from support.examples import strides

ROUNDS = 150


async def rounds(cp, seen, fail_at=None, size=2, number=ROUNDS):
    for each in range(number):
        async for item in cp.iterate(range(size), name="batch"):
            if (each, item) == fail_at:
                raise CrashError
            seen.append((each, item))


async def inside(cp, seen, fail_at=None, size=2):
    async for _ in cp.iterate("a", name="outer"):
        await rounds(cp, seen, fail_at, size)


async def deep_inside(cp, seen, fail_at=None, size=2):
    async for _ in cp.iterate("a", name="outermost"):
        await inside(cp, seen, fail_at, size)


BODIES = [
    *(
        pytest.param(Runner("sync"), body, id=f"sync-{body.__name__}")
        for body in (rounds, inside, deep_inside)
    ),
    pytest.param(Runner("async"), inside, id="async-inside"),  # it is not told how deep it is
]
DAMAGED = [(each, 1) for each in (33, 34, 64, 65, 66, 67, 98, 99, 130)]
ALL = [(each, item) for each in range(ROUNDS) for item in range(2)]


def sizes(store, monkeypatch):
    """The sizes of all documents that are written."""
    found, commit = [], type(store).commit

    def measured(self, lease, change):
        if change.document is not None:
            found.append(len(opened_json(change.document)))
        commit(self, lease, change)

    monkeypatch.setattr(type(store), "commit", measured)
    return found


def opened_json(sealed):
    from mainstay._checkpoint.document import unseal  # noqa: PLC0415 - for its length alone

    return unseal(sealed)


@pytest.mark.parametrize(("runner", "body"), BODIES)
def test_a_save_does_not_grow_with_the_iterations_before(runner, store, monkeypatch, body):
    written, seen = sizes(store, monkeypatch), []
    runner.job(body, store=store)(seen)
    assert seen == ALL
    assert max(written) < 2 * max(written[: len(written) // 2])
    assert max(written) < 20_000


@pytest.mark.parametrize("every", [1, 3, 1000][:: strides()])
@pytest.mark.parametrize(("runner", "body"), BODIES)
def test_they_go_on_where_they_were_wherever_the_process_dies(runner, store, crashing, body, every):
    seen = []
    job = runner.job(body, store=store, every=every, max_crashes=None)
    for fail_at in [(10, 1), (70, 0), (70, 1), (71, 0), (149, 1)]:
        with pytest.raises(CrashError):
            job(seen, fail_at)
    job(seen)
    assert [*dict.fromkeys(seen)] == ALL
    if every == 1:
        assert seen == ALL


@pytest.mark.parametrize(("runner", "body"), [BODIES[0], BODIES[-1]])
def test_the_items_of_each_are_checked_on_a_resume(runner, store, crashing, body):
    job = runner.job(body, store=store)
    with pytest.raises(CrashError):
        job([], (140, 0))
    with pytest.raises(SourceChangedError, match="iteration 'batch' of run 'key'"):
        job([], None, 1)
    seen = []
    job(seen)
    assert seen == [each for each in ALL if each >= (140, 0)]


def test_one_that_grew_meanwhile_is_gone_on_with_and_remembered(runner, store, crashing):
    with pytest.raises(CrashError):
        runner.job(rounds, store=store)([], (149, 0))
    seen, job = [], runner.job(rounds, store=store)
    with pytest.raises(CrashError):
        job(seen, (149, 2), 3)
    assert seen == [(each, 2) for each in range(149)] + [(149, 0), (149, 1)]
    seen.clear()
    job(seen, None, 3)
    assert seen == [(149, 2)]


@pytest.mark.parametrize(("runner", "body"), [BODIES[0], BODIES[-1]])
@pytest.mark.parametrize("fail_at", DAMAGED[:: strides()])
def test_a_damaged_save_goes_back_by_one_save_and_no_further(
    runner, store, crashing, body, fail_at
):
    job = runner.job(body, store=store, max_crashes=None)
    with pytest.raises(CrashError):
        job([], fail_at)
    kept = store._runs[RUN]
    kept.latest = kept.latest[:-1] + bytes([kept.latest[-1] ^ 1])
    seen = []
    job(seen)
    at = ALL.index(fail_at)
    assert seen == ALL[at - 1 :]


@pytest.mark.parametrize(("runner", "body"), [BODIES[0], BODIES[-1]])
def test_a_save_that_fails_loses_none_of_them(runner, store, monkeypatch, crashing, body):
    commit, failing = type(store).commit, iter([False] * 75 + [True] * 3)

    def flaky(self, lease, change):
        if change.document is not None and next(failing, False):
            raise OSError("the disk is full")
        commit(self, lease, change)

    monkeypatch.setattr(type(store), "commit", flaky)
    seen = []
    job = runner.job(body, store=store, max_crashes=None)
    for _ in range(3):
        with pytest.raises(OSError, match="the disk is full"):
            job(seen)
    job(seen)
    assert [*dict.fromkeys(seen)] == ALL


def test_a_damaged_row_of_them_is_told_and_the_run_does_not_begin_anew(runner, store, crashing):
    job = runner.job(rounds, store=store)
    with pytest.raises(CrashError):
        job([], (140, 0))
    kept = store._runs[RUN]
    number, row = next(iter(kept.results.items()))
    kept.results[number] = attrs.evolve(row, value=row.value[:-1] + b"?")
    with pytest.raises(CorruptCheckpointError, match="of run 'key' of job is damaged"):
        job([])
    assert len([*_problems(store, kept.record)]) == 1


def test_older_versions_refuse_what_they_would_begin_anew(runner, store):
    """They know nothing of rows of cursors, and took the first byte behind MSC for their own."""
    seen = []
    runner.job(rounds, store=store)(seen, None, 2, 10)
    assert store.load(RUN).latest[:4] == b"MSC\x01"
    runner.job(rounds, store=store, on_complete="rerun")(seen)
    assert store.load(RUN).latest[:4] == b"MSC\x02"
    assert opened(store.load(RUN).latest).items == 2 * ROUNDS


def test_steps_and_iterations_may_be_mixed(runner, store, crashing):
    async def body(cp, seen, fail_at=None):
        for each in range(80):
            async for item in cp.iterate(range(2), name="batch"):
                seen.append((each, item, await cp.step("load", int)))
            await cp.step("report", seen.append, each)
            if each == fail_at:
                raise OopsError

    seen = []
    job = runner.job(body, store=store, every=2)
    for fail_at in (40, 79):
        with pytest.raises(OopsError):
            job(seen, fail_at)
    job(seen)
    assert seen == [entry for n in range(80) for entry in ((n, 0, 0), (n, 1, 0), n)]

"""Changed code: how it is noticed, and what becomes of the run."""

import functools
import gc
import inspect
import logging
import textwrap
import weakref
from fractions import Fraction
from unittest import mock

import attrs
import pytest

from mainstay import checkpointed
from mainstay._checkpoint.code import Code, code_digest, digest_of_code
from mainstay.errors import CodeChangedError
from support.checkpoint_values import Totals
from support.checkpoints import OopsError


async def old_body(cp, fail=1):
    totals = cp.state(Totals())
    async for row in cp.iterate([1, 2]):
        totals.amount += row
    if fail:
        raise OopsError
    return totals.amount


async def new_body(cp):
    """A docstring."""
    totals = cp.state(Totals())  # and a comment
    return totals.amount + 100


def interrupted(runner, store, **options):
    with pytest.raises(OopsError):
        runner.job(old_body, store=store, **options)()


def test_changed_code_is_warned_of_once_and_the_run_goes_on(runner, store, caplog):
    interrupted(runner, store)
    with caplog.at_level(logging.WARNING, "mainstay.checkpoint"):
        assert runner.job(new_body, store=store)() == 103
    assert "goes on with other code: the source of the function differs" in caplog.text


def test_changed_code_is_refused_where_that_was_asked_for(runner, store):
    interrupted(runner, store)
    with pytest.raises(CodeChangedError, match="the source of the function differs"):
        runner.job(new_body, store=store, on_code_change="raise")()
    with pytest.raises(CodeChangedError, match="it was version '1' and is version '2'"):
        runner.job(old_body, store=store, version="2", on_code_change="raise")()
    assert runner.job(old_body, store=store, on_code_change="raise")(False) == 3


def test_another_version_is_warned_of_and_the_run_goes_on(runner, store, caplog):
    """Known fault 8: DBOS leaves the runs of other versions pending, without a word."""
    interrupted(runner, store, version="1")
    assert runner.job(old_body, store=store, version="2")(False) == 3
    assert "it was version '1' and is version '2'" in caplog.text


def test_changed_code_is_ignored_where_that_was_asked_for(runner, store, caplog):
    interrupted(runner, store)
    assert runner.job(new_body, store=store, on_code_change="ignore")() == 103
    assert "other code" not in caplog.text


def test_changed_code_can_migrate_the_state(runner, store):
    async def body(cp):
        return cp.state({"total": 0})

    interrupted(runner, store)
    job = runner.job(
        body, store=store, version="2", on_code_change=lambda old: {"total": old["amount"]}
    )
    assert job() == {"total": 3}


def test_a_migration_is_not_lost_when_nothing_asked_for_the_state(runner, store):
    async def silent(cp):
        async for _ in cp.iterate([1, 2]):
            pass
        await cp.save()
        raise OopsError

    async def body(cp):
        return cp.state({"total": 0})

    interrupted(runner, store)
    options = {"version": "2", "on_code_change": lambda old: {"total": old["amount"]}}
    with pytest.raises(OopsError):
        runner.job(silent, store=store, **options)()
    assert runner.job(body, store=store, **options)() == {"total": 3}


def test_state_that_no_longer_fits_its_type_is_told_so(runner, store):
    @attrs.define
    class Other:
        pass

    Other.__module__, Other.__qualname__ = "support.checkpoint_values", "Totals"

    async def body(cp):
        cp.state(Other())

    interrupted(runner, store)
    with pytest.raises(CodeChangedError, match="no longer accepts its saved data"):
        runner.job(body, store=store)()


@pytest.mark.parametrize(("saved", "now"), [("", "a"), ("a", ""), ("a", "a")])
def test_code_whose_source_is_not_known_is_not_changed(saved, now):
    assert Code("1", now).change_since(Code("1", saved)) is None
    assert Code("1", "a").change_since(Code("1", "b")) is not None


# The digest of a function.


def test_layout_comments_docstrings_annotations_and_decorators_do_not_count():
    def one(x):
        y = x + 1
        return [y]

    def two(x: int) -> list[int]:
        """A docstring."""
        y: int = x + 1  # a comment

        return [
            y,
        ]

    two.__name__ = "one"
    assert code_digest(one) == code_digest(functools.partial(one))
    assert code_digest(one) != ""
    assert renamed(one, "one") == renamed(two, "two")


def renamed(fn, name):
    """The digest of a function with its name taken out of the source."""
    source = textwrap.dedent(inspect.getsource(fn)).replace(f"def {name}", "def fn")
    fresh = functools.partial(fn)
    with mock.patch("inspect.getsource", return_value=source):
        digest_of_code.cache_clear()
        return code_digest(fresh)


def test_names_constants_and_structure_count():

    def one(x):
        return x + 1

    def two(x):
        return x + 1.0

    assert code_digest(one) != code_digest(two)


def test_what_has_no_source_has_no_digest():
    assert code_digest(len) == ""
    assert code_digest(eval("lambda x: x")) == ""  # noqa: S307 - that is what has no source


class Queries:
    def one(self):
        return """
SELECT 1
"""

    def two(self):
        return """
SELECT 2
"""

    def two_again(self):  # and a comment
        return """
SELECT 2
"""

    two_again.__name__ = "two"


def test_a_text_further_to_the_left_than_its_function_counts():
    digests = [code_digest(fn) for fn in (Queries.one, Queries.two, Queries.two_again)]
    assert "" not in digests
    assert len({*digests}) == 3  # by their names, too
    assert renamed(Queries.one, "one") != renamed(Queries.two, "two")
    assert renamed(Queries.two, "two") == renamed(Queries.two_again, "two_again")


@attrs.define
class Job:
    """A callable that is no key of a dict, since it can be changed and compared."""

    number: int

    def __call__(self, cp):
        return self.number


def test_the_code_of_an_object_is_that_of_its_call(store):
    assert code_digest(Job(1)) == code_digest(Job.__call__) != ""
    assert checkpointed(store=store, key=lambda: "key").call(Job(1)) == 1


def test_what_a_function_holds_is_not_kept_beyond_it(store):
    class Large:
        pass

    def job_of(large):
        return lambda cp: id(large)

    large = Large()
    gone = weakref.ref(large)
    checkpointed(store=store, key=lambda: "key").call(job_of(large))
    del large
    gc.collect()
    assert gone() is None


def test_a_state_with_something_pickled_in_it_can_be_migrated(runner, store):
    """`plain` takes `allow_pickle`, and nobody gives it."""

    async def body(cp, share=None):
        state = cp.state({"share": share})
        await cp.save()
        if share:
            raise OopsError
        return str(state["share"])

    with pytest.raises(OopsError):
        runner.job(body, store=store, allow_pickle=True)(Fraction(1, 2))
    job = runner.job(
        body, store=store, allow_pickle=True, version="2", on_code_change=lambda old: old
    )
    assert job() == "1/2"


def test_a_state_is_migrated_once_and_not_before_somebody_asks_for_it(runner, store):
    async def body(cp, ask, fail):
        total = cp.state({"cents": 0}) if ask else None
        async for row in cp.iterate([1, 2, 3, 4]):
            if total is not None:
                total["cents"] += row
            if row == fail:
                raise OopsError
        return total

    def attempt(version, ask, fail):
        migration = {"on_code_change": lambda old: {"cents": 100 * old["cents"]}}
        job = runner.job(body, store=store, version=version, **migration)
        if not fail:
            return job(ask, fail)
        with pytest.raises(OopsError):
            job(ask, fail)
        return None

    attempt("1", True, 2)  # one is saved
    attempt("2", False, 3)  # nobody asks, and a save is made
    attempt("2", True, 4)  # now it is 100, and 3 more are saved
    assert attempt("2", True, None) == {"cents": 100 + 3 + 4}

"""The state: what may be one, what comes back of it, and what is said where it was not changed."""

import collections
import dataclasses
import datetime as dt
import enum
import logging
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import attrs
import pytest

from mainstay import checkpoint_run, register_type
from mainstay.errors import CodeChangedError, UnknownTypeError, UnsaveableValueError
from support.checkpoint_values import Access, Frozen, Paint, Point, Totals
from support.checkpoints import OopsError


@attrs.frozen
class Ice:
    rows: int = 0


@attrs.define
class Thawed(Ice):
    more: int = 0


@attrs.define
class Fixed:
    rows: int = attrs.field(default=0, on_setattr=attrs.setters.frozen)


@attrs.define(on_setattr=attrs.setters.frozen)
class AllFixed:
    rows: int = 0
    cents: int = attrs.field(init=False)


@attrs.define(on_setattr=[attrs.setters.validate, attrs.setters.frozen])
class CheckedAndFixed:
    rows: int = attrs.field(default=0, validator=attrs.validators.instance_of(int))


class Below(AllFixed):
    pass


@attrs.frozen
class Nothing:
    pass


@dataclasses.dataclass
class Own:
    rows: int = 0

    def __setattr__(self, name, value):
        if name in vars(self):
            raise dataclasses.FrozenInstanceError(name)
        super().__setattr__(name, value)


@dataclasses.dataclass(frozen=True)
class Glass:
    rows: int = 0


class Pane(Glass):
    pass


class Pair(NamedTuple):
    rows: int
    cents: int


@pytest.mark.parametrize(
    "value",
    [
        Ice(), Thawed(), Fixed(), AllFixed(), CheckedAndFixed(), Below(), Nothing(), Own(), Glass(),
        Pane(), Frozen(1), Point(1.0), Pair(1, 2), Paint.RED,
        Access.READ, (), frozenset(), "", b"", 0, 0.5, 1j, True, None, Decimal(0),
        dt.date(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC), dt.time(), dt.timedelta(),
        Path(), UUID(int=0),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_cannot_be_changed_in_place_is_no_state(runner, store, value):
    async def body(cp):
        cp.state(value)

    with pytest.raises(TypeError, match="`default` must be something that is changed in place"):
        runner.job(body, store=store)()


@attrs.define
class Mixed:
    rows: int = 0
    name: str = attrs.field(default="", on_setattr=attrs.setters.frozen)


def refuse(_instance, _attribute, value):
    if value == 0:
        raise AttributeError("a hook that wants more rows")
    return value


@attrs.define(on_setattr=refuse)
class Hooked:
    rows: int = 0


@attrs.define(on_setattr=attrs.setters.frozen)
class MostlyFixed:
    name: str = ""
    rows: int = attrs.field(default=0, on_setattr=attrs.setters.NO_OP)


@attrs.define
class Empty:
    pass


@pytest.mark.parametrize("value", [Mixed(), MostlyFixed(), Hooked(), Empty()])
def test_one_field_that_may_not_be_changed_is_no_obstacle(store, value):
    with checkpoint_run("key", store=store) as cp:
        assert cp.state(value) is value


def test_whether_a_state_can_be_changed_is_not_tried_on_it(store):
    seen = []

    @attrs.define(on_setattr=lambda instance, _, value: seen.append(instance) or value)
    class Watched:
        rows: int = 0

    value = Watched()
    with checkpoint_run("key", store=store) as cp:
        cp.state(value)
    assert not any(each is value for each in seen)


# Another type than it was.


def job_with(runner, store, default, **options):
    async def body(cp, fail):
        state = cp.state(default())
        async for row in cp.iterate([1, 2, 3]):
            if row == 2 and fail:
                raise OopsError
        states.append(state)

    def call(fail):
        job(fail)
        return states[-1]

    states, job = [], runner.job(body, store=store, **options)
    return call


def interrupted(runner, store, default):
    with pytest.raises(OopsError):
        job_with(runner, store, default)(True)


@pytest.mark.parametrize(
    ("was", "now", "words"),
    [
        (dict, list, "a dict was saved, and the default is a list"),
        (Totals, dict, "a support.checkpoint_values.Totals was saved"),
        (dict, collections.Counter, "a dict was saved, and the default is a collections.Counter"),
        (list, Totals, "a list was saved, and the default is a support.checkpoint_values.Totals"),
    ],
)
@pytest.mark.usefixtures("nothing_registered")
def test_a_state_of_another_type_is_refused_and_a_function_cures_it(runner, store, was, now, words):
    register_type(Totals)
    interrupted(runner, store, was)
    for choice in ("warn", "ignore"):
        with pytest.raises(CodeChangedError, match=words) as changed:
            job_with(runner, store, now, on_code_change=choice)(False)
        assert "'ignore'" not in str(changed.value)
        assert "`on_code_change` a function" in str(changed.value)
    migrated = job_with(runner, store, now, on_code_change=lambda _old: now())
    assert type(migrated(False)) is now


def test_a_function_that_migrates_to_another_type_is_refused(runner, store):
    interrupted(runner, store, dict)
    job = job_with(runner, store, Totals, version="2", on_code_change=lambda old: old)
    with pytest.raises(TypeError, match=r"in `on_code_change` returned a dict .*Totals"):
        job(False)


# A field that is gone.


def renamed(cls, like=Totals):
    """The class as *like* was called: what became of it in the next version of the program."""
    cls.__module__, cls.__qualname__ = like.__module__, like.__qualname__
    return cls


def without_amount():
    return renamed(attrs.make_class("Totals", {"rows": attrs.field(default=0)}))()


@attrs.define
class Gone:
    x: int = 0


@attrs.define
class Holder:
    gone: Gone = attrs.field(factory=Gone)
    rows: int = 0


def test_a_field_that_is_gone_is_dropped_with_one_warning_where_changes_are_ignored(
    runner, store, caplog
):
    interrupted(runner, store, Totals)
    for choice in ("warn", "raise"):
        with pytest.raises(CodeChangedError, match="'ignore', which drops") as changed:
            job_with(runner, store, without_amount, on_code_change=choice)(False)
        assert "amount" in str(changed.value)
    caplog.clear()
    job = job_with(runner, store, without_amount, on_code_change="ignore")
    with pytest.raises(OopsError):
        job(True)
    assert attrs.asdict(job(False)) == {"rows": 0}
    [record] = [each for each in caplog.records if "amount" in each.message]
    assert record.levelno == logging.WARNING


def test_what_was_in_a_field_that_is_gone_need_not_be_known_any_more(runner, store):
    interrupted(runner, store, Holder)
    rest = renamed(attrs.make_class("Holder", {"rows": attrs.field(default=0)}), Holder)
    with pytest.raises(UnknownTypeError):
        job_with(runner, store, rest)(False)
    job = job_with(runner, store, rest, on_code_change="ignore")
    assert attrs.asdict(job(False)) == {"rows": 0}


def test_a_field_that_is_gone_is_dropped_from_results_of_steps_too(runner, store):
    def publish() -> Totals:
        return Totals(1, 2)

    def publish_now() -> type(without_amount()):
        raise AssertionError("never called")

    async def body(cp, fn):
        result = await cp.step("publish", fn)
        if fn is publish:
            raise OopsError
        return result.rows

    with pytest.raises(OopsError):
        runner.job(body, store=store)(publish)
    with pytest.raises(CodeChangedError, match="'ignore'") as changed:
        runner.job(body, store=store)(publish_now)
    assert "a function" not in str(changed.value)
    assert runner.job(body, store=store, on_code_change="ignore")(publish_now) == 1


def test_a_step_at_another_place_is_cured_by_what_its_error_advises(runner, store):
    async def body(cp, name):
        result = await cp.step(name, lambda: name)
        if name == "old":
            raise OopsError
        return result

    with pytest.raises(OopsError):
        runner.job(body, store=store)("old")
    with pytest.raises(CodeChangedError, match="on_code_change='ignore'") as changed:
        runner.job(body, store=store)("new")
    assert "a function" not in str(changed.value)
    assert runner.job(body, store=store, on_code_change="ignore")("new") == "new"


def test_what_no_choice_can_cure_is_not_advised(runner, store):
    """A field without a default is new: only a function knows what it is to be."""
    interrupted(runner, store, Totals)
    with_rate = renamed(attrs.make_class("Totals", ["rows", "amount", "rate"]))
    default = lambda: with_rate(0, 0, 0.5)  # noqa: E731 - it is a default
    for choice in ("warn", "ignore"):
        with pytest.raises(CodeChangedError) as changed:
            job_with(runner, store, default, on_code_change=choice)(False)
        assert "'ignore'" not in str(changed.value)
    job = job_with(runner, store, default, on_code_change=lambda old: with_rate(**old, rate=0.1))
    assert job(False).rate == 0.1


# A tag on a class of another kind.


class Counted(enum.Enum):
    ONE = 1


class BadRowError(Exception):
    pass


BUILT = []


@attrs.define
class Built:
    x: int = attrs.field(default=0, validator=lambda *_: BUILT.append(1))


@pytest.mark.usefixtures("nothing_registered")
@pytest.mark.parametrize("tag", ["enum", "flag", "error", "object"])
@pytest.mark.parametrize("cls", [Counted, BadRowError, Built])
def test_a_tag_on_a_class_of_another_kind_builds_nothing(store, tag, cls):
    from mainstay._checkpoint.codec import Codec  # noqa: PLC0415 - the only test of the inside here
    from mainstay._checkpoint.types import allowed_by  # noqa: PLC0415 - as above

    register_type(cls)
    right = {"enum": Counted, "flag": Counted, "error": BadRowError, "object": Built}[tag]
    if cls is right:
        return
    body = {"enum": "ONE", "flag": 1, "error": [1], "object": {"x": 1}}[tag]
    BUILT.clear()
    saved = {"$": tag, "t": f"{cls.__module__}.{cls.__qualname__}", "v": body}
    with pytest.raises(UnsaveableValueError, match="no longer accepts its saved data"):
        Codec(allowed_by()).decode([saved], "state")
    assert BUILT == []


# A state that is rebound.


def test_a_container_that_never_changed_is_warned_of_once_when_the_run_resumes(
    runner, store, caplog
):
    async def body(cp, fail_at):
        totals = cp.state({"rows": 0})
        async for row in cp.iterate([1, 2, 3]):
            if row == fail_at:
                raise OopsError
            totals = {**totals, "rows": totals["rows"] + 1}
        return totals

    job = runner.job(body, store=store)
    for fail_at in (2, 3):
        with pytest.raises(OopsError):
            job(fail_at)
    job(None)
    [record] = [each for each in caplog.records if "in place" in each.message]
    assert (record.levelno, record.name) == (logging.WARNING, "mainstay.checkpoint")


@pytest.mark.parametrize(("items", "changed"), [(0, False), (0, True), (2, True)])
def test_nothing_is_said_where_it_changed_or_nothing_was_done(
    runner, store, caplog, items, changed
):
    async def body(cp, fail):
        state = cp.state([])
        if changed:
            state.append(1)
        async for _ in cp.iterate(range(items)):
            pass
        await cp.save()
        if fail:
            raise OopsError

    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job(True)
    job(False)
    assert "in place" not in caplog.text

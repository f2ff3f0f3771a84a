"""Instances of attrs classes and dataclasses come back as they were, whatever made them."""

import dataclasses
from datetime import datetime

import attrs
import pytest

from mainstay import register_type
from mainstay._checkpoint.codec import Codec, from_bytes, to_bytes
from mainstay._checkpoint.types import allowed_by
from mainstay.errors import UnsaveableValueError
from mainstay.testing import Faults
from support.checkpoint_values import Totals
from support.checkpoints import OopsError


@attrs.define
class Converted:
    cents: int = attrs.field(default=1, converter=lambda euros: euros * 100)
    at: datetime = attrs.field(default="2024-01-01", converter=datetime.fromisoformat)
    rows: list[int] = attrs.field(factory=list)


@dataclasses.dataclass
class Reset:
    total: int = 0

    def __post_init__(self):
        self.total = 0


@attrs.define(frozen=True, cache_hash=True, unsafe_hash=True)
class Hashed:
    name: str = "x"


@dataclasses.dataclass
class Grown:
    old: int = 1
    new: list[int] = dataclasses.field(default_factory=lambda: [7])


def there_and_back(value):
    codec = Codec(allowed_by(value))
    return codec.decode(from_bytes(to_bytes(codec.encode(value, "state"))), "state")


@pytest.mark.parametrize("make", [Converted, lambda: attrs.evolve(Hashed(), name="y"), Totals])
def test_an_instance_comes_back_as_often_as_it_is_saved(make):
    value = make()
    assert there_and_back(there_and_back(value)) == value


def test_a_post_init_does_not_undo_what_was_done_since():
    value = Reset()
    value.total = 3
    assert there_and_back(value) == value


def test_a_hash_that_is_kept_is_computed_anew():
    value = {Hashed("a"), Hashed("b")}
    assert there_and_back(value) == value


def test_a_field_that_is_new_takes_its_default_and_the_others_what_was_saved():
    codec = Codec(allowed_by(Grown()))
    saved = codec.encode(Grown(2), "state")
    del saved["v"]["new"]
    assert codec.decode(saved, "state") == Grown(2, [7])


def test_the_state_of_a_run_that_failed_twice_is_what_it_was(runner, store):
    async def body(cp, fail_at):
        value = cp.state(Converted())
        async for row in cp.iterate([1, 2, 3]):
            if row == fail_at:
                raise OopsError
            value.rows.append(row)
        return value.cents, value.at.year, value.rows

    job = runner.job(body, store=store)
    for fail_at in (2, 3):
        with pytest.raises(OopsError):
            job(fail_at)
    assert job(None) == (100, 2024, [1, 2, 3])


@dataclasses.dataclass
class Bag(dict):
    name: str = "bag"


@attrs.define
class Row(list):
    name: str = "row"


@pytest.mark.parametrize("value", [Bag(), Row()])
def test_fields_and_the_items_of_a_built_in_type_at_once_are_refused(runner, store, value):
    async def body(cp):
        cp.state(value)

    with pytest.raises(UnsaveableValueError, match="has no exact form"):
        runner.job(body, store=store)()
    runner.job(body, store=store, allow_pickle=True)()


class Declined(Exception):
    def __init__(self, card, reason):
        super().__init__(f"{card}: {reason}")


@pytest.mark.usefixtures("nothing_registered")
def test_an_exception_that_its_args_do_not_build_is_not_saved_and_its_step_runs_again(
    runner, store
):
    register_type(Declined)
    calls = Faults([Declined("4711", "limit")], then="charged")

    async def body(cp):
        try:
            return await cp.step("charge", calls)
        except Declined:
            raise OopsError from None

    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job()
    assert job() == "charged"

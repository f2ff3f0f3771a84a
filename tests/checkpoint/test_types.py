"""Which types annotations name: what is built again without being registered."""

import enum
import functools
import gc
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NewType, TypedDict, TypeVar

import attrs
import pytest

from mainstay._checkpoint.types import allowed_by, allowed_by_result
from support.checkpoints import OopsError

if TYPE_CHECKING:
    from mainstay import Checkpoint

T = TypeVar("T")

pytestmark = pytest.mark.usefixtures("nothing_registered")


@attrs.frozen
class Part:
    number: int = 0


class Size(enum.Enum):
    SMALL = 1


@attrs.frozen
class Box(Generic[T]):
    content: T


@dataclass
class Crate(Generic[T]):
    content: T


class Row(TypedDict):
    part: Part


PartOfOurs = NewType("PartOfOurs", Part)
AnyPart = TypeVar("AnyPart", bound=Part)
Tree = dict[str, "Tree | Part"]


@dataclass
class Fetch:
    """A callable that is no key of a dict, since it can be changed and compared."""

    number: int

    def __call__(self) -> Part:
        return Part(self.number)


def of_box() -> Box[int]:
    return Box(1)


def of_crate() -> Crate[Part]:
    return Crate(Part(1))


def of_row() -> Row:
    return {"part": Part(1)}


def of_new_type() -> PartOfOurs:
    return PartOfOurs(Part(1))


def of_annotated() -> Annotated[Part | None, "note"]:
    return Part(1)


def of_literal() -> Literal[Size.SMALL]:
    return Size.SMALL


def of_bound(part: AnyPart = Part(1)) -> AnyPart:  # type: ignore[assignment]  # it is one
    return part


def of_partial(number: int) -> Part:
    return Part(number)


def beside_a_name_for_type_checkers(cp: "Checkpoint | None" = None) -> Part:
    return Part(1)


@pytest.mark.parametrize(
    "fn",
    [
        of_box, of_crate, of_row, of_new_type, of_annotated, of_literal, of_bound,
        functools.partial(of_partial, 1), beside_a_name_for_type_checkers, Part, Fetch(1),
        Fetch(1).__call__,
    ],
    ids=lambda fn: getattr(fn, "__qualname__", type(fn).__name__),
)  # fmt: skip
def test_a_step_gives_what_its_annotation_names_however_it_is_said(runner, store, fn):
    async def body(cp, fail):
        result = await cp.step("step", fn)
        if fail:
            raise OopsError
        assert result == fn()

    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job(True)
    job(False)


def test_an_annotation_that_contains_itself_is_gone_through_once():
    def fn() -> Tree: ...

    assert {*allowed_by_result(fn)} == {f"{__name__}.Part"}


def test_the_types_of_a_result_may_be_defined_after_the_function(runner, store):
    async def body(cp) -> "Later":
        return Later(3)

    job = runner.job(body, store=store)

    @attrs.frozen
    class Later:
        number: int

    assert job() == job() == Later(3)


def test_the_types_of_an_argument_may_be_defined_after_a_recoverable_function(
    runner, store, monkeypatch
):
    async def body(cp, later: "Later"):  # type: ignore[name-defined]  # noqa: F821 - not yet
        return later.number

    job = runner.job(body, store=store, recoverable=True)
    monkeypatch.setitem(globals(), "Later", Part)
    assert job(Part(3)) == 3


def test_a_field_that_only_type_checkers_know_hides_no_other():
    @attrs.frozen
    class Kept:
        cp: "Checkpoint | None"
        part: "Part"

    assert {*allowed_by(Kept)} == {f"{Kept.__module__}.{Kept.__qualname__}", f"{__name__}.Part"}


def test_what_a_step_is_called_with_is_not_kept_beyond_it(runner, store):
    class Large:
        pass

    def weigh(large: Any) -> int:
        return id(large)

    async def body(cp):
        large = Large()
        await cp.step("partial", functools.partial(weigh, large))
        await cp.step("closure", lambda: weigh(large))
        gone.append(weakref.ref(large))

    gone: list[weakref.ref[Large]] = []
    runner.job(body, store=store)()
    gc.collect()
    assert [each() for each in gone] == [None]

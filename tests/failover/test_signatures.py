"""What callers write: functions that a pool wraps take all parameters but the resource."""

import asyncio
import functools
import inspect
import typing

import pytest

from mainstay import FailoverPool, Member, failover, redundant
from support.pools import Lost

POOL = FailoverPool("db", [Member("a", "x")], on=Lost)
DECORATORS = {"@pool": POOL, "@failover(pool)": failover(POOL)}


@pytest.fixture(params=DECORATORS)
def decorator(request):
    return DECORATORS[request.param]


class Store:
    """Methods of each kind."""

    @POOL
    def read(self, db: str, key: str) -> str:
        return f"{key} of {db}"

    @POOL
    async def aread(self, db: str, key: str) -> str:
        return f"{key} of {db}"

    @POOL
    @classmethod
    def made(cls, db: str, key: str) -> str:
        return f"{key} of {db}"

    @POOL
    @staticmethod
    def plain(db: str, key: str) -> str:
        return f"{key} of {db}"


class Client:
    """What a pool may have as resources; its methods are taken from here."""

    def get(self, key: str, *, end: str = "") -> tuple[str, str]:
        return type(self).__name__, key + end

    async def aget(self, key: str, *, end: str = "") -> tuple[str, str]:
        return self.get(key, end=end)

    def info(self, section: str = "all") -> str:
        return section

    @POOL
    def decorated(self, db: str, key: str) -> tuple[str, str]:
        return db, key


class Special(Client):
    """A resource whose methods are its base's."""


class Service:
    """A class that is no resource's."""

    def get(self, client: Client, key: str) -> tuple[str, str]:
        return client.get(key)


def total(db: str, customer: int, *, year: int = 2026) -> str:
    return f"{customer} in {year} of {db}"


async def atotal(db: str, customer: int, *, year: int = 2026) -> str:
    return total(db, customer, year=year)


def test_a_pool_is_a_decorator(decorator):
    assert decorator(total)(1, year=2025) == "1 in 2025 of x"
    assert asyncio.run(decorator(atotal)(1)) == "1 in 2026 of x"
    store = Store()
    assert store.read("k") == store.made("k") == store.plain("k") == "k of x"
    assert asyncio.run(store.aread("k")) == "k of x"


@pytest.mark.parametrize("fn", [total, atotal])
def test_the_signature_is_the_one_that_callers_use(decorator, fn):
    """Field faults, A7: FastAPI answered 422, and pytest did not find the fixture."""
    wrapped = decorator(fn)
    assert str(inspect.signature(wrapped)) == "(customer: int, *, year: int = 2026) -> str"
    assert typing.get_type_hints(wrapped) == {"customer": int, "year": int, "return": str}
    assert (wrapped.__name__, wrapped.__wrapped__) == (fn.__name__, fn)
    assert inspect.iscoroutinefunction(wrapped) == inspect.iscoroutinefunction(fn)


@pytest.mark.parametrize("kind", [Client, Special])
@pytest.mark.parametrize("taken", [FailoverPool, failover, redundant])
def test_a_method_of_the_resources_own_class_takes_it_as_its_self(kind, taken):
    """Field faults, D11, as a decorator: the resource went second, to the wrong object."""
    pool = FailoverPool("db", [Member("a", kind()), Member("b", kind())], on=Lost)
    wrap = {FailoverPool: pool, failover: failover(pool), redundant: redundant(pool=pool)}[taken]
    for _ in range(2):
        assert wrap(Client.get)("k", end="!") == (kind.__name__, "k!")
        assert asyncio.run(wrap(Client.aget)("k", end="!")) == (kind.__name__, "k!")
        assert (wrap(Client.info)(), wrap(Client.info)("cpu")) == ("all", "cpu")


def test_so_does_one_of_a_built_in_class():
    pool = FailoverPool("db", [Member("a", {"k": 1})], on=Lost)
    assert [pool(dict.get)("k"), pool(dict.get)("x", 2)] == [1, 2]


def test_a_method_of_another_class_has_its_own_self():
    pool = FailoverPool("db", [Member("a", Client())], on=Lost)
    get = pool(Service.get)
    assert [get(Service(), "k"), get(Service(), "x")] == [("Client", "k"), ("Client", "x")]
    for _ in range(2):
        with pytest.raises(TypeError, match="without its object"):
            get()


def test_a_method_that_was_decorated_in_the_resources_class_has_its_own_self(monkeypatch):
    assert Client().decorated("k") == ("x", "k")
    mirror = FailoverPool("db", [Member("a", Special())], on=Lost)
    monkeypatch.setattr(Client, "copy", mirror(Service.get), raising=False)
    assert Client().copy("k") == ("Special", "k")


def test_so_is_that_of_methods():
    assert str(inspect.signature(Store.read)) == "(self, key: str) -> str"
    for bound in (Store().read, Store().aread, Store.made, Store().plain):
        assert str(inspect.signature(bound)) == "(key: str) -> str"


@pytest.mark.parametrize(
    ("fn", "signature"),
    [
        (lambda *args: args, "(*args)"),
        (lambda db, *args, **kwargs: (db, args, kwargs), "(*args, **kwargs)"),
        (functools.partial(lambda key, db, more: (key, db, more), "k"), "(more)"),
        (POOL(lambda first, second, key: (first, second, key)), "(key)"),
    ],
)
def test_whatever_takes_the_resource_first(decorator, fn, signature):
    assert str(inspect.signature(decorator(fn))) == signature


def test_a_builtin_that_does_not_tell_its_parameters_is_taken_as_it_is(decorator):
    assert decorator(min)("y") == "x"
    with pytest.raises(ValueError, match="signature"):
        inspect.signature(decorator(min))


def nothing():
    """Take nothing."""


def only_by_name(*, db):
    """Take the resource in a way that it is not given."""


class Without:
    def read(self):
        """Take nothing but self."""


@pytest.mark.parametrize(
    "fn", [nothing, only_by_name, Without.read, functools.partial(total, "x", 1), lambda **_: None]
)
def test_a_function_without_a_parameter_for_the_resource_is_refused(decorator, fn):
    with pytest.raises(TypeError, match="no parameter for the resource"):
        decorator(fn)
    with pytest.raises(TypeError, match="no parameter for the resource"):
        POOL.call(fn)


NAMES = ("resource", "self", "fn", "args", "kwargs", "handle", "bound")


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_may_have_any_name(decorator, name):
    """Field faults, A6: a wrapper's own parameters are no names that callers cannot use."""

    def sync(_db, **given):
        return given

    async def asynchronous(_db, **given):
        return given

    class Methods:
        @decorator
        def named(self, _db, resource):
            return resource

    given = {name: 1}
    assert decorator(sync)(**given) == POOL.call(sync, **given) == given
    assert asyncio.run(decorator(asynchronous)(**given)) == given
    assert Methods().named(resource=1) == 1

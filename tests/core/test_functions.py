"""What can be wrapped, what stays of it, and what it is called."""

import asyncio
import functools
import inspect
import runpy
import subprocess
import sys
import textwrap
import types
from unittest.mock import AsyncMock, MagicMock, Mock, create_autospec

import pytest

from mainstay import retry
from mainstay._core.functions import Kind, is_async, kind_of, name_of

pytestmark = pytest.mark.usefixtures("metrics")


class Lost(ConnectionError):
    """The failure that the policies of these tests retry."""


def plain(a, b=2):
    """Add."""
    return a + b


@types.coroutine
def by_hand():
    """Yield to the event loop once, as `asyncio.sleep(0)` does."""
    yield
    return 5


async def coroutine(a, b=2):
    """Add."""
    return a + b


def generator():
    yield 1


async def async_generator():
    yield 1


class Methods:
    """Every kind of method, failing once for each instance or class."""

    failures = 1
    policy = retry(on=Lost, wait=0)

    def fail_once(self):
        if self.failures:
            self.failures -= 1
            raise Lost

    @policy
    def method(self, x):
        self.fail_once()
        return self, x

    @policy
    async def amethod(self, x):
        self.fail_once()
        return self, x

    @policy
    def items(self, x):
        self.fail_once()
        yield self, x

    @classmethod
    @policy
    def inner_class(cls, x):
        return cls, x

    @policy
    @classmethod
    def outer_class(cls, x):
        return cls, x

    @policy
    @classmethod
    async def async_class(cls, x):
        return cls, x

    @staticmethod
    @policy
    def inner_static(x):
        return x

    @policy
    @staticmethod
    def outer_static(x):
        return x

    @policy
    def __call__(self, x):
        self.fail_once()
        return self, x


class CallsSync:
    def __call__(self, a, b=2):
        return a + b


class CallsAsync:
    async def __call__(self, a, b=2):
        return a + b


class CallsGenerator:
    def __call__(self):
        yield 1


class CallsAsyncGenerator:
    async def __call__(self):
        yield 1


def test_a_method_keeps_its_instance():
    each = Methods()
    assert each.method(1) == (each, 1)
    assert Methods.method(Methods(), 2)[1] == 2


def test_an_async_method_keeps_its_instance():
    each = Methods()
    assert asyncio.run(each.amethod(1)) == (each, 1)


def test_a_generator_method_keeps_its_instance():
    each = Methods()
    assert list(each.items(1)) == [(each, 1)]


@pytest.mark.parametrize("name", ["inner_class", "outer_class"])
def test_a_class_method_keeps_its_class(name):
    class Child(Methods):
        """For which `cls` is another one."""

    assert getattr(Methods, name)(1) == (Methods, 1)
    assert getattr(Child(), name)(1) == (Child, 1)


def test_an_async_class_method_keeps_its_class():
    assert asyncio.run(Methods.async_class(1)) == (Methods, 1)


@pytest.mark.parametrize("name", ["inner_static", "outer_static"])
def test_a_static_method_gets_no_instance(name):
    assert getattr(Methods, name)(1) == 1
    assert getattr(Methods(), name)(1) == 1


def test_a_decorated_call_method_works():
    each = Methods()
    assert each(1) == (each, 1)


def test_a_bound_method_can_be_wrapped():
    each = Methods()
    assert retry(on=Lost)(each.inner_static)(3) == 3
    assert retry(on=Lost).call([1, 2].index, 2) == 1


@pytest.mark.parametrize(
    "fn",
    [
        plain,
        functools.partial(plain, 1),
        functools.partial(functools.partial(plain, 1), 1),
        CallsSync(),
        functools.partial(CallsSync(), 1),
        CallsSync().__call__,
        Methods().method,
        len,
        "".join,
        int,
        Methods,
        lambda: 1,
        Mock(),
        MagicMock(),
    ],
)
def test_sync_callables_are_told(fn):
    assert kind_of(fn) is Kind.SYNC
    assert not is_async(fn)


@pytest.mark.parametrize(
    "fn",
    [
        coroutine,
        functools.partial(coroutine, 1),
        functools.partial(functools.partial(coroutine, 1), 1),
        CallsAsync(),
        functools.partial(CallsAsync(), 1),
        CallsAsync().__call__,
        Methods().amethod,
        AsyncMock(),
        retry(on=Lost)(coroutine),
        asyncio.sleep,
        by_hand,
        create_autospec(coroutine),
        create_autospec(Methods).amethod,
        functools.partial(create_autospec(coroutine), 1),
    ],
)
def test_async_callables_are_told(fn):
    assert kind_of(fn) is Kind.ASYNC
    assert is_async(fn)


@pytest.mark.parametrize(
    ("fn", "kind"),
    [
        (generator, Kind.GENERATOR),
        (functools.partial(generator), Kind.GENERATOR),
        (CallsGenerator(), Kind.GENERATOR),
        (Methods().items, Kind.GENERATOR),
        (async_generator, Kind.ASYNC_GENERATOR),
        (functools.partial(async_generator), Kind.ASYNC_GENERATOR),
        (CallsAsyncGenerator(), Kind.ASYNC_GENERATOR),
    ],
)
def test_generators_are_told(fn, kind):
    assert kind_of(fn) is kind
    assert not is_async(fn)


def test_a_class_with_an_async_call_is_itself_sync():
    assert kind_of(CallsAsync) is Kind.SYNC


@pytest.mark.parametrize(
    "fn", [plain, functools.partial(plain), CallsSync(), CallsSync().__call__, lambda a: a + 2]
)
def test_sync_callables_of_every_kind_are_retried(fn):
    failures = [Lost()]

    def judged(error):
        return isinstance(error, Lost)

    @functools.wraps(fn)
    def failing(*args, **kwargs):
        if failures:
            raise failures.pop()
        return fn(*args, **kwargs)

    assert retry(on=judged, wait=0)(functools.partial(failing))(1) == 3


def test_an_object_with_an_async_call_is_retried():
    """Known fault 23: stamina and tenacity (#132, #657) take it for sync, and call it once."""

    class Fetch:
        calls = 0

        async def __call__(self):
            self.calls += 1
            if self.calls < 3:
                raise Lost
            return self.calls

    assert asyncio.run(retry(on=Lost, wait=0)(Fetch())()) == 3
    assert asyncio.run(retry(on=Lost, wait=0)(functools.partial(Fetch()))()) == 3


def test_sync_and_async_mocks_are_retried():
    fetch = Mock(side_effect=[Lost, "ok"])
    assert retry(on=Lost, wait=0).call(fetch) == "ok"
    for afetch in (AsyncMock(), create_autospec(coroutine)):
        afetch.side_effect = [Lost, "ok"]
        assert asyncio.run(retry(on=Lost, wait=0)(afetch)(1)) == "ok"
        assert afetch.await_count == 2


def test_a_coroutine_made_by_hand_is_awaited():
    assert asyncio.run(awaits(retry(on=Lost)(by_hand))) == 5


async def awaits(fn):
    return await fn()


@pytest.mark.parametrize("fn", [plain, coroutine, generator, async_generator, Methods.method])
def test_what_describes_a_function_stays(fn):
    wrapped = retry(on=Lost)(fn)
    assert wrapped.__name__ == fn.__name__
    assert wrapped.__qualname__ == fn.__qualname__
    assert wrapped.__module__ == fn.__module__
    assert wrapped.__doc__ == fn.__doc__
    assert wrapped.__wrapped__ is fn
    assert inspect.signature(wrapped) == inspect.signature(fn)
    assert inspect.iscoroutinefunction(wrapped) is inspect.iscoroutinefunction(fn)


# Names


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (plain, f"{__name__}.plain"),
        (functools.partial(plain, 1), f"{__name__}.plain"),
        (functools.partial(functools.partial(plain, 1)), f"{__name__}.plain"),
        (Methods.method, f"{__name__}.Methods.method"),
        (Methods().method, f"{__name__}.Methods.method"),
        (Methods.inner_class, f"{__name__}.Methods.inner_class"),
        (CallsSync(), f"{__name__}.CallsSync"),
        (functools.partial(CallsSync(), 1), f"{__name__}.CallsSync"),
        (CallsSync, f"{__name__}.CallsSync"),
        (len, "builtins.len"),
        ("".join, "builtins.str.join"),
        ([].append, "builtins.list.append"),
        (asyncio.sleep, "asyncio.tasks.sleep"),
        (Mock(), "unittest.mock.Mock"),
        (lambda: 1, f"{__name__}.<lambda>"),
    ],
)
def test_a_callable_is_named_by_module_and_qualname(fn, name):
    assert name_of(fn) == name


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (functools.partial(plain, 1), f"{__name__}.plain"),
        (CallsSync(), f"{__name__}.CallsSync"),
        (CallsAsync(), f"{__name__}.CallsAsync"),
        (CallsGenerator(), f"{__name__}.CallsGenerator"),
    ],
)
def test_what_has_no_name_of_its_own_gets_one_when_it_is_wrapped(fn, name):
    """So that a second policy around it, and its `repr`, do not show how mainstay is made."""
    assert name_of(retry(on=Lost)(fn)) == name


def components(metrics):
    """The names under which calls were recorded."""
    return {
        sample.labels["component"]
        for family in metrics.metrics.collect()
        for sample in family.samples
        if sample.name == "mainstay_calls_total" and sample.value
    }


def test_the_component_is_the_functions_name(metrics):
    retry(on=Lost)(plain)(1)
    assert components(metrics) == {f"{__name__}.plain"}


def test_the_component_of_call_is_the_name_of_what_is_called(metrics):
    policy = retry(on=Lost)
    policy.call(plain, 1)
    policy.call(functools.partial(len, "abc"))
    assert components(metrics) == {f"{__name__}.plain", "builtins.len"}


def test_a_policys_name_wins(caller, metrics):
    caller(retry(on=Lost, name="orders"), plain, 1)
    assert components(metrics) == {"orders"}


def test_the_component_of_a_block_is_the_code_around_it(metrics):
    def inner():
        for attempt in retry(on=Lost):
            with attempt:
                pass

    inner()
    assert components(metrics) == {
        f"{__name__}.test_the_component_of_a_block_is_the_code_around_it.<locals>.inner"
    }


def test_the_component_of_an_async_block_is_the_code_around_it(metrics):
    async def inner():
        async for attempt in retry(on=Lost):
            with attempt:
                pass

    asyncio.run(inner())
    assert components(metrics) == {
        f"{__name__}.test_the_component_of_an_async_block_is_the_code_around_it.<locals>.inner"
    }


SCRIPT = """
from mainstay import default_metrics, retry

for attempt in retry(on=OSError):
    with attempt:
        pass

@retry(on=OSError)
def fetch():
    return "ok"

fetch()

def load():
    for attempt in retry(on=OSError):
        with attempt:
            pass

load()
"""

REPORT = """
print(*(
    sample.labels["component"]
    for family in default_metrics().collect()
    for sample in family.samples
    if sample.name == "mainstay_calls_total" and sample.value
))
"""

SPAWNING = f"""
import multiprocessing
{SCRIPT}
def report():
    fetch()
{textwrap.indent(REPORT, "    ")}

if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=report)
    child.start()
    child.join()
"""


def components_of(*arguments, cwd):
    """Run Python on *arguments*; give the names under which it recorded."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stdout.split())


def test_a_block_at_module_level_is_named_by_its_module(metrics, tmp_path):
    (tmp_path / "nightly.py").write_text(SCRIPT)
    runpy.run_path(str(tmp_path / "nightly.py"), run_name="jobs.nightly")
    assert components(metrics) == {"jobs.nightly", "jobs.nightly.fetch", "jobs.nightly.load"}


@pytest.mark.process
def test_a_script_is_named_by_its_file(tmp_path):
    (tmp_path / "nightly.py").write_text(SCRIPT + REPORT)
    found = components_of("nightly.py", cwd=tmp_path)
    assert found == {"nightly", "nightly.fetch", "nightly.load"}


@pytest.mark.process
@pytest.mark.parametrize(
    ("file", "module", "name"),
    [("nightly.py", "jobs.nightly", "jobs.nightly"), ("__main__.py", "jobs", "jobs.__main__")],
)
def test_a_module_run_as_main_is_named_as_when_it_is_imported(tmp_path, file, module, name):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "__init__.py").touch()
    (tmp_path / "jobs" / file).write_text(SCRIPT + REPORT)
    found = components_of("-m", module, cwd=tmp_path)
    assert found == {name, f"{name}.fetch", f"{name}.load"}


@pytest.mark.process
def test_code_without_a_file_is_named_main(tmp_path):
    found = components_of("-c", SCRIPT + REPORT, cwd=tmp_path)
    assert found == {"__main__", "__main__.fetch", "__main__.load"}


@pytest.mark.process
def test_a_spawned_process_has_the_names_of_its_parent(tmp_path):
    (tmp_path / "nightly.py").write_text(SPAWNING)
    found = components_of("nightly.py", cwd=tmp_path)
    assert found == {"nightly", "nightly.fetch", "nightly.load"}


# Known faults of other libraries, by their numbers in the survey.


def test_a_lambda_that_returns_a_coroutine_is_refused_aloud():
    """Known fault 23: tenacity (#132) returns the coroutine, whose failure nobody retries."""

    async def fetch():
        raise Lost

    with pytest.raises(TypeError, match="decorate the async function"):
        retry(on=Lost)(lambda: fetch())()  # noqa: PLW0108 - the lambda hides that it is async


def test_a_decorated_coroutine_function_makes_coroutines():
    """Known fault 24: interlock's async functions return what `create_task` refuses."""

    class Client:
        @retry(on=Lost)
        async def fetch(self, x: int) -> int:
            return x

    async def main():
        return await asyncio.create_task(Client().fetch(3))

    assert asyncio.run(main()) == 3
    assert inspect.iscoroutinefunction(Client.fetch)
    assert list(inspect.signature(Client().fetch).parameters) == ["x"]

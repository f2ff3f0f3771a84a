"""What is refused at decoration, at the call and inside the run.

Values that no parameter of any policy takes are in `tests/package/test_arguments.py`.
"""

import math
from datetime import timedelta

import pytest

from mainstay import checkpoint_run, checkpointed, young_daly
from mainstay.errors import UnsupportedLoopError
from mainstay.stores import MemoryStore

BAD = {
    "every": [(0, ValueError), (True, TypeError), (1.5, TypeError), (timedelta(0), ValueError)],
    "on_busy": [("ignore", ValueError), (None, ValueError)],
    "on_complete": [("wait", ValueError)],
    "on_code_change": [("migrate", ValueError)],
    "lease": [(0, ValueError), (math.inf, ValueError), ("30", TypeError)],
    "max_crashes": [(0, ValueError), (1.5, TypeError)],
    "keep": [(0, ValueError), ((1,), TypeError), ("all", TypeError), (timedelta(0), ValueError)],
    "allow_pickle": [("yes", TypeError)],
    "name": [("", ValueError), (1, TypeError), ("half a pair: \ud800", ValueError)],
    "store": [("nowhere", ValueError)],
}


@pytest.mark.parametrize(
    ("parameter", "value", "error"), [(p, v, e) for p, cases in BAD.items() for v, e in cases]
)
def test_a_wrong_parameter_is_refused_by_name(parameter, value, error):
    options = {"store": MemoryStore(), parameter: value}
    with pytest.raises(error, match=f"`{parameter}`"):
        checkpointed(**options)
    with pytest.raises(error, match=f"`{parameter}`"):
        checkpoint_run("key", **options)


@pytest.mark.parametrize("value", [{"mtbf": 0}, {"mtbf": 1, "max_replay": 0}, {"mtbf": -1}])
def test_young_and_daly_need_times_above_0(value):
    with pytest.raises(ValueError, match="above 0"):
        young_daly(**value)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("import-{customer}", "names 'customer', which is not a parameter"),
        ("import-{}", "names '', which is not a parameter"),
        ("import", "names no parameter of"),
        ("", "names no parameter of"),
    ],
)
def test_a_key_template_that_names_no_parameter_is_refused_at_decoration(key, message):
    with pytest.raises(ValueError, match=message):
        checkpointed(store=MemoryStore(), key=key)(lambda cp, tenant: None)


def test_a_key_template_that_names_no_parameter_shows_how():
    with pytest.raises(ValueError, match=r'one run; name one, as in key="import-\{tenant\}"$'):
        checkpointed(store=MemoryStore(), key="import")(lambda cp, tenant: None)


def test_a_key_template_without_fields_is_right_where_there_are_no_parameters():
    assert checkpointed(store=MemoryStore(), key="nightly").call(lambda cp: cp.key) == "nightly"


@pytest.mark.parametrize(
    ("key", "error"),
    [(lambda tenant: 3, TypeError), (lambda tenant: "", ValueError)],
)
def test_a_key_function_must_give_a_str(key, error):
    with pytest.raises(error, match="the `key` of a run must"):
        checkpointed(store=MemoryStore(), key=key).call(lambda cp, tenant: None, "acme")


@pytest.mark.parametrize("key", [3, b"x"])
def test_a_key_that_is_no_key_is_refused(key):
    with pytest.raises(TypeError, match="`key` must"):
        checkpointed(store=MemoryStore(), key=key)(lambda cp: None)
    with pytest.raises(TypeError, match="the `key` of a run must be a str"):
        checkpoint_run(key, store=MemoryStore())


def generator(cp):
    yield cp


async def async_generator(cp):
    yield cp


@pytest.mark.parametrize(
    "fn", [3, generator, async_generator, lambda: None, lambda *, cp: None, lambda self: None]
)
def test_what_cannot_be_checkpointed_is_refused(fn):
    with pytest.raises(TypeError):
        checkpointed(store=MemoryStore())(fn)


def test_arguments_that_do_not_fit_are_refused_before_anything_is_saved():
    store = MemoryStore()
    with pytest.raises(TypeError, match="unexpected keyword"):
        checkpointed(store=store)(lambda cp: None)(x=1)
    assert store.list() == []


def test_a_plain_function_that_returns_a_coroutine_is_refused():
    async def work():
        pass

    store = MemoryStore()
    with pytest.raises(TypeError, match="decorate the async function itself"):
        checkpointed(store=store).call(lambda cp: work())
    assert store.list()[0][1] == "interrupted"


def test_async_functions_need_asyncio():
    async def work(cp):
        pass

    with pytest.raises(UnsupportedLoopError):
        checkpointed(store=MemoryStore()).call(work).send(None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3,), "`source` must be an iterable"),
        ((lambda last: [], None), "`key` is needed with a callable source"),
        (([1], "id"), "`key` must be a function"),
    ],
)
def test_an_iteration_that_cannot_be_is_refused_when_it_is_asked_for(arguments, message):
    with (
        checkpoint_run("key", store=MemoryStore()) as cp,
        pytest.raises(TypeError, match=message),
    ):
        cp.iterate(*arguments)


def test_names_and_functions_of_steps_are_checked():
    async def rows():
        yield 1

    with checkpoint_run("key", store=MemoryStore()) as cp:
        for name, fn in [("", int), (3, int), ("a", 3)]:
            with pytest.raises(TypeError, match="step"):
                cp.step(name, fn)
        with pytest.raises(TypeError, match="`name` must be"):
            cp.iterate([1], name="")
        with pytest.raises(TypeError, match="`source` is async"):
            cp.iterate(rows())


def test_whether_a_function_is_recoverable_is_true_or_false(store):
    with pytest.raises(TypeError, match="`recoverable` must be True or False, not 'no'"):
        checkpointed(store=store, recoverable="no")


def test_whether_progress_is_shown_is_true_or_false(runner, store):
    async def body(cp):
        async for _ in cp.iterate("ab", progress="no"):
            pass

    with pytest.raises(TypeError, match="`progress` must be True or False, not 'no'"):
        runner.job(body, store=store)()

"""The public names: which there are, that they are told, and that their objects behave.

`tests/api.txt` is the list of them, as `module:name` or `module:class.name`. A change of the
public face is a change of that file, on purpose.
"""

import copy
import importlib
import inspect
import os
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mainstay
from mainstay import errors, events, hedge, ops, stores, testing, types, vote
from support.source import modules

API = Path(__file__).parents[1] / "api.txt"
INTEGRATIONS = [
    name
    for name, module in modules().items()
    if name.startswith("mainstay.integrations.") and module.is_public
]


def loaded_integrations() -> Iterator[ModuleType]:
    """Give the integrations whose library is installed; in one environment of CI these are all."""
    for name in INTEGRATIONS:
        try:
            yield importlib.import_module(name)
        except ModuleNotFoundError:
            if os.environ.get("MAINSTAY_REQUIRE_CLIENTS"):
                raise


MODULES: tuple[ModuleType, ...] = (
    mainstay,
    errors,
    events,
    hedge,
    ops,
    stores,
    testing,
    types,
    vote,
    *loaded_integrations(),
)


def public_names() -> Iterator[tuple[str, Any]]:
    """Give every public name with its object: of modules, and of the classes in them."""
    for module in MODULES:
        for name in module.__all__:
            thing = getattr(module, name)
            yield f"{module.__name__}:{name}", thing
            if inspect.isclass(thing):
                for member in public_members(thing):
                    static = inspect.getattr_static(thing, member)
                    yield f"{module.__name__}:{name}.{member}", static


def public_members(cls: type) -> list[str]:
    """List what *cls* and our own classes under it define for users."""
    ours = [each for each in cls.__mro__ if each.__module__.startswith("mainstay")]
    return sorted({name for each in ours for name in vars(each) if not name.startswith("_")})


def test_the_public_names_are_those_of_the_committed_list() -> None:
    there = {module.__name__ for module in MODULES}
    missing = {name for name in INTEGRATIONS if name not in there}
    listed = API.read_text().splitlines()
    expected = [line for line in listed if line.partition(":")[0] not in missing]
    assert sorted(name for name, _ in public_names()) == expected


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_all_is_sorted_and_without_repetition(module: ModuleType) -> None:
    assert list(module.__all__) == sorted(set(module.__all__))


def test_every_error_is_exported_from_the_package() -> None:
    assert set(errors.__all__) <= set(mainstay.__all__)
    assert all(getattr(mainstay, name) is getattr(errors, name) for name in errors.__all__)


@pytest.mark.parametrize("module", [errors, testing], ids=lambda module: module.__name__)
def test_all_leaves_out_nothing_that_the_module_defines(module: ModuleType) -> None:
    defined = {
        name
        for name, thing in vars(module).items()
        if not name.startswith("_") and getattr(thing, "__module__", "").startswith(module.__name__)
    }
    assert defined == set(module.__all__)


def test_the_lazy_names_are_those_of_all() -> None:
    told = [name for names in mainstay._MODULES.values() for name in names]
    assert sorted([*told, "hedge", "ops", "vote"]) == mainstay.__all__


def test_each_name_can_be_imported() -> None:
    for module in MODULES:
        imported = importlib.import_module(module.__name__)
        assert [name for name in module.__all__ if not hasattr(imported, name)] == []


def test_dir_tells_the_public_names_and_modules() -> None:
    modules = {"errors", "events", "stores", "testing", "types"}
    assert dir(mainstay) == sorted({*mainstay.__all__, *modules})


def test_an_unknown_name_is_an_attribute_error_that_says_so() -> None:
    with pytest.raises(AttributeError, match="module 'mainstay' has no attribute 'retries'"):
        mainstay.retries  # noqa: B018  # the look-up is the test
    with pytest.raises(ImportError):
        importlib.import_module("mainstay.retries")


def test_every_public_thing_has_a_docstring_of_its_own() -> None:
    for module in MODULES:
        assert module.__doc__
    without = [
        name
        for name, thing in public_names()
        if (inspect.isclass(thing) or callable(inspect.unwrap(underlying(thing))))
        and not inspect.getdoc(underlying(thing))
    ]
    assert without == []


def underlying(thing: Any) -> Any:
    """Look through what a class wraps its methods in."""
    if isinstance(thing, property):
        return thing.fget
    return getattr(thing, "__func__", thing)


def test_the_first_line_of_a_docstring_is_a_sentence() -> None:
    docs = {name: inspect.getdoc(underlying(t)) for name, t in public_names() if callable(t)}
    first_lines = {name: doc.splitlines()[0] for name, doc in docs.items() if doc}
    assert [name for name, line in first_lines.items() if not line.endswith(".")] == []


def test_every_error_has_one_base() -> None:
    classes = [getattr(errors, name) for name in errors.__all__]
    assert all(issubclass(each, errors.MainstayError) for each in classes)
    assert issubclass(errors.DeadlineExpiredError, TimeoutError)
    assert not issubclass(errors.ResultRefusedError, TimeoutError)


EXAMPLES: list[Exception] = [
    errors.MainstayError("anything"),
    errors.ResultRefusedError("work", ["value"], 3, 1.5),
    errors.DeadlineExpiredError("work"),
    errors.UnsupportedLoopError("work"),
    errors.CheckpointError("anything"),
    errors.RunBusyError("work", "acme", "process 3", 2.5),
    errors.LeaseLostError("work", "acme", 3),
    errors.SourceChangedError("work", "acme", "rows", 3, "it has ended"),
    errors.CodeChangedError("work", "acme", "another version"),
    errors.PoisonedRunError("work", "acme", 5),
    errors.RunCompleteError("work", "acme"),
    errors.RunInterruptedError("work", "acme"),
    errors.CorruptCheckpointError("run 'acme'", "cut off"),
    errors.UnsaveableValueError("state.lock", "it is a lock"),
    errors.UnknownTypeError("state.rows[3]", "shop.Row"),
    errors.StoreUnavailableError("sqlite:///a.db", "full"),
    errors.StoreSchemaError("sqlite:///a.db", "newer"),
    errors.CircuitOpenError("work", 1.5),
    errors.RateLimitedError("work", 1.5),
    errors.TimedOutError("work", 1.5, "attempt 2"),
    errors.BulkheadFullError("work", "wait", 0.5, "; it says why"),
    errors.AllMembersFailedError("work", [OSError("a"), OSError("b")], 2.5),
    errors.RejectedError("work"),
    errors.NoMemberError("work", [errors.MainstayError("ejected")], 2.5, 0, 0.1, ["a"]),
    errors.AllCopiesFailedError("work", [OSError("a"), OSError("b")], 0.5, {}),
    errors.NoDecisionError("work", [errors.MainstayError("a"), OSError("b")], 0.5, {"0": 7}),
]
OF_COMPONENTS = [each for each in EXAMPLES if hasattr(each, "component")]


def test_there_is_an_example_of_every_error() -> None:
    assert {type(each).__name__ for each in EXAMPLES} == set(errors.__all__)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickling_whole(error: Exception, protocol: int) -> None:
    original = copy.copy(error)
    original.add_note("a note")
    back = pickle.loads(pickle.dumps(original, protocol))  # noqa: S301 - pickled right here
    assert type(back) is type(original)
    assert vars(back) == vars(original)
    # Exceptions in a group are equal to nothing but themselves.
    assert (str(back), repr(back.args)) == (str(original), repr(original.args))


@pytest.mark.parametrize("kind", [errors.AllCopiesFailedError, errors.NoDecisionError])
def test_what_copies_came_to_can_be_made_by_name(kind: Any) -> None:
    problem = OSError("a")
    error = kind(component="work", exceptions=[problem], elapsed=0.5, answers={"0": 7})
    assert (error.exceptions, error.answers) == ((problem,), {"0": 7})


@pytest.mark.parametrize("error", OF_COMPONENTS, ids=lambda error: type(error).__name__)
def test_every_message_names_the_component(error: Exception) -> None:
    assert re.search(r"\bwork\b", str(error).partition(" (")[0])

"""The reference has every public object, at the address where users import it.

Each has its place on the page of its policy, and its row in the table of all names.
"""

import functools
import importlib
import importlib.util
import re
from types import ModuleType

import pytest

from mainstay import stores
from support.source import ROOT, modules

REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted(REFERENCE.glob("*.md"))
API = (ROOT / "tests" / "api.txt").read_text().splitlines()
DIRECTIVE = re.compile(r"^\.\. auto(\w+):: ([\w.]+)(?:\(.*\))?\n((?: +:.*\n)*)", re.MULTILINE)
MEMBERS = re.compile(r"^ +:members: ?(.*)", re.MULTILINE)


def paths() -> list[str]:
    """Every address that the pages document."""
    found = []
    for kind, path, options in directives():
        if kind != "module":
            found.append(path)
        elif members := MEMBERS.search(options):
            found += [f"{path}.{name}" for name in members[1].split(", ")]
    return found


def directives() -> list[tuple[str, str, str]]:
    """The kind, the address and the options of all that the pages document."""
    return [each for page in PAGES for each in DIRECTIVE.findall(page.read_text())]


def public_modules() -> list[str]:
    return [name for name, module in modules().items() if module.is_public and module.exports()]


@pytest.mark.parametrize("path", paths())
def test_an_address_of_the_reference_is_public_and_leads_to_something(path: str) -> None:
    assert not any(part.startswith("_") for part in path.split("."))
    assert resolved(path) is not None


def resolved(path: str) -> object:
    """Return what is at an address, or None."""
    module, _, name = path.rpartition(".")
    if importlib.util.find_spec(module) is None:
        return None
    loaded = imported(module)
    return path if loaded is None else getattr(loaded, name, None)


def imported(name: str) -> ModuleType | None:
    """Return a module; None if it is an integration whose library is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        if not name.startswith("mainstay.integrations."):
            raise
        return None


@pytest.mark.parametrize("name", public_modules())
def test_every_public_object_is_in_the_reference(name: str) -> None:
    documented = {id(resolved(path)) for path in paths()}
    module = imported(name)
    if module is None:
        assert {f"{name}.{each}" for each in modules()[name].exports()} <= {*paths()}
        return
    objects = {each: getattr(module, each) for each in module.__all__}
    modules_themselves = {imported(each) for each in public_modules()}
    missing = [
        each
        for each, thing in objects.items()
        if id(thing) not in documented and thing not in modules_themselves
    ]
    assert missing == []


@pytest.mark.parametrize("name", public_modules())
def test_every_public_class_and_function_has_an_example(name: str) -> None:
    """Examples run where Sybil finds them: with `>>>` in the docstring."""
    module = imported(name)
    objects = {} if module is None else {each: getattr(module, each) for each in module.__all__}
    assert [
        each
        for each, thing in objects.items()
        if callable(thing) and ">>>" not in (thing.__doc__ or "")
    ] == []


def test_nothing_is_documented_twice() -> None:
    documented = paths()
    assert sorted(documented) == sorted(set(documented))


def rows() -> dict[str, list[str]]:
    """What the tables of names say, by module and name."""
    found, module = {}, ""
    for line in (REFERENCE / "api.md").read_text().splitlines():
        if line.startswith("## `"):
            module = line.strip("# `")
        elif line.startswith("| `"):
            name, *row = [cell.strip() for cell in line.strip("|").split(" | ")]
            found[f"{module}:{name.strip('`')}"] = row
    return found


@pytest.mark.parametrize("name", [line for line in API if "." not in line.partition(":")[2]])
def test_every_public_name_has_a_row_in_the_tables_of_names(name: str) -> None:
    what, page = rows()[name]
    own = {line.removeprefix(f"{name}.") for line in API if line.startswith(f"{name}.")}
    _, _, members = what.rpartition(" Has ")
    assert what.endswith(".")
    assert own <= set(re.findall(r"`(\w+)`", members))
    assert (REFERENCE / page.partition("](")[2].rstrip(")")).is_file()


def test_the_tables_of_names_have_no_name_that_is_not_public() -> None:
    assert set(rows()) - {*API} == set()


NOT_FOR_READERS = {
    "AsyncClientInterceptor": {"intercept_unary_unary"},
    "AsyncServerInterceptor": {"intercept_service"},
    "ClientInterceptor": {"intercept_unary_unary"},
    "ServerInterceptor": {"intercept_service"},
    "Adapter": {"close", "send"},
    "AsyncTransport": {"aclose", "handle_async_request"},
    "Transport": {"close", "handle_request"},
    "AllCopiesFailedError": {"derive"},
    "AllMembersFailedError": {"derive"},
    "NoDecisionError": {"derive"},
    "NoMemberError": {"derive"},
    "PostgresStore": {"aacquire", "acommit", "arelease"},
    "RedisStore": {"aacquire", "acommit", "arelease"},
    "S3Store": {"aacquire", "acommit", "arelease"},
    "RecordedMetrics": {"collect", "describe"},
    "FakeClock": {"asleep", "bell", "call_later", "sleep", "wait_for", "wall"},
    "CheckpointedFunction": {"key", "metrics", "name", "recoverable", "settings"},
}
"""Methods that another library calls, or mainstay itself."""


@pytest.mark.parametrize("name", [line for line in API if "." in line.partition(":")[2]])
def test_every_attribute_and_method_is_documented_with_its_class(name: str) -> None:
    module, _, path = name.partition(":")
    name, _, member = path.partition(".")
    loaded = imported(module)
    if loaded is None or member in NOT_FOR_READERS.get(name, set()):
        return
    cls = getattr(loaded, name)
    kinds = [stores.Store, *cls.__mro__] if module == "mainstay.stores" else cls.__mro__
    assert any(member in documented_members(each) for each in kinds)


def documented_members(cls: type) -> set[str]:
    """The members that a directive names, and those that the docstring describes."""
    attributes = re.findall(r"^ +(\w+)(?: \(.*\))?: ", cls.__doc__ or "", re.MULTILINE)
    return members_by_object().get(id(cls), set()) | {*attributes}


@functools.cache
def members_by_object() -> dict[int, set[str]]:
    """The members that directives name, by the class that they document."""
    found: dict[int, set[str]] = {}
    for kind, path, options in directives():
        named = MEMBERS.search(options)
        names = named[1].split(", ") if named and named[1] else []
        if kind == "module":  # which documents all of each class
            inside = [getattr(importlib.import_module(path), name) for name in names]
            found |= {id(cls): {*vars(cls)} for cls in inside if isinstance(cls, type)}
        elif named and not names:
            found[id(resolved(path))] = {*vars(resolved(path))}
        else:
            found.setdefault(id(resolved(path)), set()).update(names)
    return found

"""The reference has every public object, at the address where users import it."""

import importlib
import importlib.util
import re
from types import ModuleType

import pytest

from support.source import ROOT, modules

PAGES = [ROOT / "docs" / "reference" / name for name in ("api.md", "errors.md")]
DIRECTIVE = re.compile(r"^\.\. auto(\w+):: ([\w.]+)(?:\(.*\))?\n((?: +:.*\n)*)", re.MULTILINE)
MEMBERS = re.compile(r":members: (.*)")


def paths() -> list[str]:
    """Every address that the pages document."""
    found = []
    for page in PAGES:
        for kind, path, options in DIRECTIVE.findall(page.read_text()):
            if kind != "module":
                found.append(path)
            elif members := MEMBERS.search(options):
                found += [f"{path}.{name}" for name in members[1].split(", ")]
    return found


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

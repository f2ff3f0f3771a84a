"""The rules of the house that no linter checks. They are read from the source alone.

One noun, one file; one class, one file; no circles; one word, one meaning. `test_glossary` has the
words, `test_questions` the questions that have one home each.
"""

import ast
import functools
from collections import defaultdict
from itertools import pairwise

import pytest

from support.source import Function, bases_of, class_of, modules, modules_of, parts

MOST_METHODS = 25  # special ones, such as `__init__`, left out


def test_no_class_name_stands_twice() -> None:
    places = defaultdict(list)
    for module in modules().values():
        for node in module.classes:
            if node.name != "Middleware":  # what users of each of several libraries import
                places[node.name].append(module.name)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


@pytest.mark.parametrize("part", parts())
def test_no_class_has_too_many_methods(part: str) -> None:
    methods = {
        f"{module.name}.{node.name}": {n.name for n in node.body if isinstance(n, Function)}
        for module in modules_of(part)
        for node in module.classes
    }
    counts = {
        name: len([each for each in names if not each.startswith("__")])
        for name, names in methods.items()
    }
    assert {name: count for name, count in counts.items() if count > MOST_METHODS} == {}


@pytest.mark.parametrize("part", parts())
def test_no_class_is_spread_over_files_by_inheritance(part: str) -> None:
    """A base is there for several classes, or is used by itself; otherwise it is half a class.

    So no base has exactly one subclass, which stands in another file, and is used nowhere else: not
    made, not passed on, not asked for by `isinstance`, at most named in annotations. Public classes
    are left out, since they are there for users, too.
    """
    assert {base: other for base, other in halves() if base.split(".")[1] == part} == {}


@functools.cache
def halves() -> list[tuple[str, str]]:
    subclasses, used = defaultdict(set), set()
    for module in modules().values():
        names = module.values | (module.exports() if module.is_public else set())
        used |= {class_of(module.name, name) for name in names}
        for node in module.classes:
            for base in bases_of(module.name, node):
                subclasses[base].add((module.name, node.name))
    return [
        (".".join(base), ".".join(derived.pop()))
        for base, derived in subclasses.items()
        if base not in used and len(derived) == 1 and {where for where, _ in derived} != {base[0]}
    ]


def test_no_imports_run_in_a_circle() -> None:
    """Those inside of functions, and those only for types, included."""
    imports = {module.name: module.imports() - {module.name} for module in modules().values()}
    circles = {frozenset(circle) for name in imports if (circle := shortest_circle(name, imports))}
    assert sorted(sorted(circle) for circle in circles) == []


def shortest_circle(start: str, imports: dict[str, set[str]]) -> list[str]:
    """The modules on the shortest way from *start* back to it; empty if there is none."""
    ways = [[start]]
    seen: set[str] = set()
    for way in ways:
        for name in sorted(imports[way[-1]] - seen):
            if name == start:
                return way
            seen.add(name)
            ways.append([*way, name])
    return []


def test_a_circle_is_found_whatever_hangs_on_it() -> None:
    imports = {"a": {"b", "x"}, "b": {"c"}, "c": {"a", "x"}, "d": {"a"}, "x": set()}
    circle = shortest_circle("a", imports)
    assert (circle, shortest_circle("d", imports)) == (["a", "b", "c"], [])
    assert all(after in imports[before] for before, after in pairwise([*circle, "a"]))


def test_there_is_one_registry_of_fork_hooks() -> None:
    registering = [
        module.name
        for module in modules().values()
        for node in module.nodes
        if isinstance(node, ast.Attribute) and node.attr == "register_at_fork"
    ]
    assert registering == ["mainstay._core.forks"]


def test_no_public_module_has_the_name_of_a_public_object() -> None:
    public = [module for module in modules().values() if module.is_public]
    objects = {
        name: f"{module.name}.{name}"
        for module in public
        for name in module.exports()
        if module.imported.get(name, ("", ""))[1] is not None  # not a module exported as itself
    }
    modules_by_name = {module.name.split(".")[-1]: module.name for module in public}
    clashes = objects.keys() & modules_by_name.keys()
    assert {modules_by_name[name]: objects[name] for name in clashes} == {}

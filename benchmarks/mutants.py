"""What can be wrong in a line of code: each mutant of a module is one change to its syntax tree.

    comparison    < and <=, > and >=, == and !=, is and is not, in and not in: one for the other
    condition     of `if`, `while`, `x if c else y` and comprehensions: its opposite
    and, or       one for the other
    not           left out
    arithmetic    + and -, * and /, // and *, % and *, ** and *, | and &: one for the other
    sign          a minus left out
    min, max      one for the other; also any and all
    number        an int is one more, a float is twice as much, and 0.0 is 1.0; True and False
    text          a letter more
    call, raise   a statement that is a call or raises: left out
    assignment    to an attribute, an item or by an operator: left out
    return        None in place of the value
    loop          break and continue: one for the other

Left alone are docstrings, annotations, imports, decorators, what exceptions are made with, and how
attrs makes a class.
"""

import ast
from collections.abc import Iterator
from typing import NamedTuple

_SWAPPED: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
    ast.Break: ast.Continue, ast.Continue: ast.Break,
}  # fmt: skip
_OF_ATTRS = {"init", "kw_only", "eq", "repr"}  # what makes a class handy changes no decision
_TWINS = {"min": "max", "max": "min", "any": "all", "all": "any"}

Place = tuple[ast.AST, str, int | None]
"""A node, one of its fields, and the place in it if it is a list."""


class Mutant(NamedTuple):
    """One change.

    Attributes:
        line: Where, in the file.
        scope: The function or class that it is in, with its classes; empty for the module.
        in_function: True if it is in the body of a function, and so has no effect at the import.
        before, after: The code.
        place: What is replaced.
        by: What it is replaced by.
    """

    line: int
    scope: str
    in_function: bool
    before: str
    after: str
    place: Place
    by: ast.AST

    def apply(self) -> None:
        """Change the tree."""
        owner, name, index = self.place
        if index is None:
            setattr(owner, name, self.by)
        else:
            getattr(owner, name)[index] = self.by

    def __str__(self) -> str:
        return f"{self.before} -> {self.after}"


def mutants_of(tree: ast.Module) -> list[Mutant]:
    """Return all mutants of a module, in the order of its lines."""
    found = list(_in_node(tree, "", in_function=False))
    return sorted(found, key=lambda each: each.line)


def _in_node(node: ast.AST, scope: str, *, in_function: bool) -> Iterator[Mutant]:
    """Return the mutants of everything below a node."""
    for name, value in ast.iter_fields(node):
        if _is_left_alone(node, name):
            continue
        inside = in_function or (name == "body" and isinstance(node, _FUNCTION))
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or _is_docstring(child):
                continue
            for by in _replacements(child, name):
                ast.fix_missing_locations(ast.copy_location(by, child))
                before, after, line = _text(child), _text(by), getattr(child, "lineno", 0)
                yield Mutant(line, scope, inside, before, after, (node, name, index), by)
            below = f"{scope}.{child.name}".lstrip(".") if isinstance(child, _NAMED) else scope
            yield from _in_node(child, below, in_function=inside)


_NAMED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def _is_left_alone(node: ast.AST, name: str) -> bool:
    if name in {"annotation", "returns", "decorator_list", "bases"}:
        return True
    if isinstance(node, ast.keyword) and node.arg in _OF_ATTRS:
        return True
    if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias":
        return True
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return True
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
        return True
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Error"):
        return True
    return isinstance(node, ast.Import | ast.ImportFrom | ast.Raise)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _text(node: ast.AST) -> str:
    lines = ast.unparse(node).splitlines() or [""]
    return lines[0]


def _copy(node: ast.AST, **changes: object) -> ast.AST:
    """Return the same node with other fields; what is below it is shared."""
    return type(node)(**{**dict(ast.iter_fields(node)), **changes})


def _replacements(node: ast.AST, name: str) -> Iterator[ast.AST]:
    """Return what may stand in place of a node, which is the value of the field *name*."""
    yield from _others_of_its_kind(node, name)
    if name in {"test", "ifs"} and not _has_an_opposite(node):
        yield ast.UnaryOp(ast.Not(), node)
    if _can_be_left_out(node):
        yield ast.Pass()


def _others_of_its_kind(node: ast.AST, name: str) -> Iterator[ast.AST]:
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            ops = [*node.ops]
            ops[place] = _SWAPPED[type(operator)]()
            yield _copy(node, ops=ops)
    elif isinstance(node, ast.BoolOp | ast.BinOp | ast.AugAssign) and type(node.op) in _SWAPPED:
        yield _copy(node, op=_SWAPPED[type(node.op)]())
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Break | ast.Continue):
        yield _SWAPPED[type(node)]()
    elif isinstance(node, ast.Constant):
        yield from _other_constant(node)
    elif isinstance(node, ast.Name) and name == "func" and node.id in _TWINS:
        yield _copy(node, id=_TWINS[node.id])
    elif isinstance(node, ast.Return) and _returns_something(node.value):
        yield _copy(node, value=ast.Constant(None))


def _has_an_opposite(condition: ast.AST) -> bool:
    """True if the opposite of a condition is among its mutants anyway."""
    if isinstance(condition, ast.UnaryOp):
        return True
    return (
        isinstance(condition, ast.Compare)
        and len(condition.ops) == 1
        and isinstance(condition.ops[0], _EQUALITIES)
    )


_EQUALITIES = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)


def _other_constant(node: ast.Constant) -> Iterator[ast.AST]:
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
    elif isinstance(value, float):
        yield ast.Constant(value * 2 or 1.0)
    elif isinstance(value, str):
        yield ast.Constant(f"{value}x")


def _returns_something(value: ast.expr | None) -> bool:
    """False for what does not differ from None in a condition."""
    return value is not None and not (isinstance(value, ast.Constant) and not value.value)


def _can_be_left_out(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call | ast.Await)
    if isinstance(node, ast.Assign):  # without a name of its own it would be an error at once
        return not any(isinstance(each, ast.Name | ast.Tuple) for each in node.targets)
    if isinstance(node, ast.AnnAssign):
        return node.value is not None and isinstance(node.target, ast.Attribute)
    return isinstance(node, ast.Raise | ast.AugAssign | ast.Delete)

"""The digest of a function: the same for the same program, whatever its layout.

Comments, blank lines, docstrings, annotations and decorators do not count; names, constants and
structure do. Fields of the syntax tree that are empty are left out, so that a newer Python that
adds fields does not look like a changed function.
"""

import ast
import functools
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

_LAYOUT = frozenset({"annotation", "decorator_list", "returns", "type_comment", "type_params"})


def digest_of(fn: Callable[..., Any]) -> str:
    """Give the digest of *fn*; of an object with `__call__`, that of it. Empty without source."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    fn = inspect.unwrap(fn)
    code = getattr(fn, "__code__", None) or getattr(type(fn).__call__, "__code__", None)
    return digest_of_code(code) if code else ""


@functools.lru_cache(maxsize=1024)
def digest_of_code(code: CodeType) -> str:
    """Give the digest of the function that has this code, not of what it holds besides."""
    try:
        tree = _parsed(inspect.getsource(code))
    except (OSError, TypeError, SyntaxError, ValueError):
        return ""
    text = "".join(_described(tree))
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _parsed(source: str) -> ast.AST:
    try:
        return ast.parse(textwrap.dedent(source))
    except IndentationError:  # a text over several lines, further to the left than the function
        [block] = ast.parse(f"if True:\n{source}").body
        return ast.Module(block.body, []) if isinstance(block, ast.If) else block


def _described(node: object) -> Iterator[str]:
    if isinstance(node, list):
        yield "["
        for item in node:
            yield from _described(item)
        yield "]"
        return
    if not isinstance(node, ast.AST):
        yield f"{type(node).__name__}:{node!r};"
        return
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        node = ast.Assign([node.target], node.value)
    yield f"{type(node).__name__}("
    for name, value in ast.iter_fields(node):
        if name in _LAYOUT or value is None or value == []:
            continue
        yield f"{name}="
        lines = isinstance(value, list) and name == "body"
        yield from _described([line for line in value if not _is_text(line)] if lines else value)
    yield ")"


def _is_text(line: ast.stmt) -> bool:
    """Whether a line is nothing but a string: a docstring."""
    return (
        isinstance(line, ast.Expr)
        and isinstance(line.value, ast.Constant)
        and isinstance(line.value.value, str)
    )

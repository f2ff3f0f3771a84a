"""`Code`: the version of a function and a digest of its source, to detect changed code.

The digest does not depend on the layout: comments, blank lines, docstrings, annotations and
decorators do not count; names, constants and structure do. Empty fields of the syntax tree are left
out, so that a newer Python with more fields does not look like a changed function.
"""

import ast
import functools
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

import attrs

_LAYOUT = frozenset({"annotation", "decorator_list", "returns", "type_comment", "type_params"})


@attrs.frozen
class Code:
    """What is known of the code of a function.

    Attributes:
        version: What the user calls it.
        digest: The digest of its source; empty where there is none.
    """

    version: str
    digest: str

    def change_since(self, saved: "Code") -> str | None:
        """Return how it differs from what the run was saved by; None if it does not."""
        if saved.version != self.version:
            return f"it was version {saved.version!r} and is version {self.version!r}"
        if saved.digest and self.digest and saved.digest != self.digest:
            return f"the source of the function differs, in the same version {self.version!r}"
        return None


def code_digest(fn: Callable[..., Any]) -> str:
    """Return the digest of *fn*; of an object with `__call__`, that of it. Empty without source."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    fn = inspect.unwrap(fn)
    code = getattr(fn, "__code__", None) or getattr(type(fn).__call__, "__code__", None)
    return digest_of_code(code) if code else ""


@functools.lru_cache(maxsize=1024)
def digest_of_code(code: CodeType) -> str:
    """Return the digest of the function with this code; closures of one source share it."""
    try:
        tree = _parsed(inspect.getsource(code))
    except (OSError, TypeError, SyntaxError, ValueError):
        return ""
    text = "".join(_words(tree))
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _parsed(source: str) -> ast.AST:
    try:
        return ast.parse(textwrap.dedent(source))
    except IndentationError:  # a text over several lines, further to the left than the function
        [block] = ast.parse(f"if True:\n{source}").body
        return ast.Module(block.body, []) if isinstance(block, ast.If) else block


def _words(node: object) -> Iterator[str]:
    """Yield a part of a syntax tree as words that only the same program has."""
    if isinstance(node, list):
        yield "["
        for item in node:
            yield from _words(item)
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
        yield from _words([line for line in value if not _is_text(line)] if lines else value)
    yield ")"


def _is_text(line: ast.stmt) -> bool:
    """True if a line is nothing but a string: a docstring."""
    return (
        isinstance(line, ast.Expr)
        and isinstance(line.value, ast.Constant)
        and isinstance(line.value.value, str)
    )

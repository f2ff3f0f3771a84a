"""Code in a subinterpreter of a kind, which then ends; for Python 3.13 on.

Arguments: the kind, and where to import from. The code comes by the standard input. mod_wsgi runs
applications in subinterpreters.
"""

import sys

import _interpreters

kind, *path = sys.argv[1:]
inner = _interpreters.create(kind)
code = f"import sys; sys.path[:] = {[*sys.path, *path]!r}\n{sys.stdin.read()}"
error = _interpreters.exec(inner, code)
_interpreters.destroy(inner)
sys.exit(error.formatted if error else 0)

"""A checkpoint in a subinterpreter of a kind, as mod_wsgi runs applications; for Python 3.13 on.

Arguments: the kind, a store's URL, and where to import from.
"""

import sys

import _interpreters

CODE = """
import sys
sys.path[:] = {path!r}
from mainstay import checkpoint_run
with checkpoint_run("May", store={url!r}, lease=0.3) as cp:
    total = cp.state([0])
    for item in cp.iterate([0, 1, 2]):
        total[0] += item
print("done", total[0], flush=True)
"""

kind, url, *path = sys.argv[1:]
inner = _interpreters.create(kind)
error = _interpreters.exec(inner, CODE.format(path=[*sys.path, *path], url=url))
sys.exit(error.formatted if error else 0)

"""Runs that an earlier version stored under other keys: how they are found and continued."""

from mainstay._core.events import logger_of
from mainstay.stores.base import RunId, Store

EXACT = "t"
"""What `Record.life` begins with where no other call has the key; no hexadecimal digit."""


def former_of(store: Store, run: RunId, key: str, *, reruns: bool, component: str) -> RunId:
    """Return the run that an earlier version began under *key*, or *run* if there is none.

    A run under *key* whose version already quoted keys belongs to another call, and is not
    returned.

    Args:
        store: The store of the runs.
        run: The run, by the key of this version.
        key: The key of earlier versions.
        reruns: True if a finished run begins again.
        component: The name of the run in messages.

    Raises:
        StoreUnavailableError: If the store cannot be read.
    """
    former = RunId(run.name, key)
    contents = store.load(former)
    if contents.latest is None and not contents.results:
        return run
    for record, state in store.list(former.name):
        if record.run == former and not record.life.startswith(EXACT):
            if state == "done" and reruns:
                return run
            logger_of("checkpoint").warning(
                "%s: continues the run that an earlier version stored under %r, which other "
                "arguments may have, too; new runs are stored under %r",
                component,
                key,
                run.key,
            )
            return former
    return run

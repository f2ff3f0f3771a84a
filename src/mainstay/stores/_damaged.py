"""The record that stands for one that cannot be read, so that a damaged run hides no other one."""

from mainstay._core.owner import Owner
from mainstay.stores.base import Record, RunId


def damaged_record(run: RunId, problem: str, updated: float = 0.0) -> Record:
    """Return what a list shows of a run whose record cannot be read, and what is then removed.

    Nobody works on the run. Its token is not known; its next owner is told from all former ones by
    the grant.
    """
    return Record(
        run=run, life="", token=0, owner=Owner("", "", 0, 0), status="interrupted", expires=0.0,
        seen=0.0, saved=0.0, created=0.0, updated=updated, error=f"damaged: {problem}",
    )  # fmt: skip

"""A record as stores with columns keep it: its fields, with those of its run and of its owner."""

from typing import Any

import attrs

from mainstay._core.owner import Owner
from mainstay.stores.base import Record, RunId

_RUN, _OWNER = (tuple(each.name for each in attrs.fields(kind)) for kind in (RunId, Owner))
_INSIDE = {"run": _RUN, "owner": _OWNER}

FIELDS: tuple[str, ...] = tuple(
    name for each in attrs.fields(Record) for name in _INSIDE.get(each.name, (each.name,))
)
"""The names of all of them, beginning with the name and the key of the run."""


def to_fields(record: Record) -> dict[str, Any]:
    """Return the value of each field."""
    values = attrs.asdict(record, recurse=False)
    return attrs.asdict(values.pop("run")) | attrs.asdict(values.pop("owner")) | values


def from_fields(values: dict[str, Any]) -> Record:
    """Return the record of which these are the values, which are used up."""
    run = RunId(*(values.pop(each) for each in _RUN))
    owner = Owner(*(values.pop(each) for each in _OWNER))
    return Record(run=run, owner=owner, **values)

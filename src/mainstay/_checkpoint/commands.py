"""``python -m mainstay checkpoints``: what is in a store, for people."""

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mainstay._checkpoint.document import Document, opened, unseal
from mainstay._checkpoint.shape import (
    DamagedError,
    check_arguments,
    check_cursors,
    check_document,
    check_result,
    parsed,
)
from mainstay._checkpoint.steps import name_in
from mainstay._core.failures import counted, printable
from mainstay.errors import CheckpointError
from mainstay.stores import store_of
from mainstay.stores.base import Contents, Record, Result, RunId, Status, Store


def add_to(subparsers: Any) -> None:
    """Add the command and its actions."""
    help_text = "look after the runs in a store"
    command = subparsers.add_parser("checkpoints", help=help_text, description=help_text)
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, (run, help_text, takes_run) in _ACTIONS.items():
        action = actions.add_parser(name, help=help_text, description=help_text)
        action.add_argument("--store", help="its URL; without it $MAINSTAY_STORE")
        if takes_run:
            action.add_argument("name", help="the name of the run")
            action.add_argument("key", help="its key")
        action.set_defaults(run=run)


def _list(options: argparse.Namespace) -> int:
    """Print a line for each run."""
    for record, state in _store(options).list():
        _print(
            f"{state:<11} attempt {record.attempt:<3} {_when(record.updated)}  "
            f"{record.run.name}  {record.run.key}"
        )
    return 0


def _show(options: argparse.Namespace) -> int:
    """Print what is known of one run, as JSON."""
    store = _store(options)
    record, state = _found(store, options)
    contents = store.load(record.run)
    tree = {
        "name": record.run.name,
        "key": record.run.key,
        "state": state,
        "attempt": record.attempt,
        "crashes": record.crashes,
        "owner": str(record.owner),
        "last attempt ended by": record.exit,
        "error": record.error,
        "begun": _when(record.created),
        "changed": _when(record.updated),
        "saved": _described(contents),
        "steps": sorted(filter(None, map(_step_of, contents.results.values()))),
    }
    text = printable(json.dumps(tree, indent=2, ensure_ascii=False), in_json=True)
    print(text)  # noqa: T201 - what the command is for
    return 0


def _forget(options: argparse.Namespace) -> int:
    """Remove one run."""
    store = _store(options)
    record, _ = _found(store, options)
    store.forget(record.run)
    _print(f"forgot run {record.run.key!r} of {record.run.name}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    """Check everything that is saved; exit code 1 if anything is damaged."""
    store = _store(options)
    runs = store.list()
    problems = [problem for record, _ in runs for problem in _problems(store, record)]
    for problem in problems:
        _print(problem)
    damaged = counted(len(problems), "damaged part")
    _print(f"{counted(len(runs), 'run')}, {damaged}")
    return 1 if problems else 0


_ACTIONS = {
    "list": (_list, "print a line for each run", False),
    "show": (_show, "print what is known of one run", True),
    "forget": (_forget, "remove one run", True),
    "verify": (_verify, "check all that is saved; exit code 1 if anything is damaged", False),
}


def _store(options: argparse.Namespace) -> Store:
    """Return the store; a file that is not there is not made by looking at it."""
    store = store_of(options.store)
    path = Path(store.url.removeprefix("sqlite:///"))  # no URL any more: nothing in it is quoted
    if store.url.startswith("sqlite:///"):
        try:
            path.stat()
        except FileNotFoundError:
            raise ValueError(f"there is no store at {store.url}") from None
    return store


def _found(store: Store, options: argparse.Namespace) -> tuple[Record, Status]:
    run = RunId(options.name, options.key)
    for record, state in store.list(options.name):
        if record.run == run:
            return record, state
    raise ValueError(f"there is no run {options.key!r} of {options.name} in {store.url}")


def _described(contents: Contents) -> object:
    if contents.latest is None:
        return None
    try:
        document: Document = opened(contents.latest)
    except DamagedError as error:
        return f"damaged: {error}"
    return {
        "items": document.items,
        "seconds of work": document.seconds,
        "version": document.code.version,
        "cursors": document.cursors,
        "bytes": len(contents.latest),
    }


def _problems(store: Store, record: Record) -> Iterator[str]:
    """Yield what is damaged of a run, in words."""
    of = f"run {record.run.key!r} of {record.run.name}"
    try:
        contents = store.load(record.run)
    except CheckpointError as error:  # the other runs are to be looked at all the same
        yield f"{of}: {error}"
        return
    for result in contents.results.values():
        step = _step_of(result)
        check = check_result if step else check_cursors
        try:
            name_in(result.slot)
            check(parsed(unseal(result.value)))
        except DamagedError as error:
            yield f"{of}: {f'step {step!r}' if step else 'cursors of iterations'}: {error}"
    parts = (
        ("the last save", contents.latest, check_document),
        ("the save before", contents.previous, check_document),
        ("the arguments", record.arguments, check_arguments),
    )
    for place, sealed, check in parts:
        if sealed is not None:
            try:
                check(parsed(unseal(sealed)))
            except DamagedError as error:
                yield f"{of}: {place}: {error}"


def _step_of(result: Result) -> str:
    """Return the name of the step that a result is of, as far as that can be read.

    It is empty where the result holds cursors.
    """
    try:
        return name_in(result.slot)
    except DamagedError:
        return result.slot


def _print(line: str) -> None:
    print(printable(line))  # noqa: T201 - what the commands are for


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
